"""AlexNet: the book's shapes and parameters (D2L 8.1)."""

import jax
import jax.numpy as jnp
import pytest

from jaxdl import nn
from jaxdl.vision.alexnet import AlexNet


def test_shapes_and_parameters_are_the_books():
    layers = nn.layer_shapes(AlexNet(), (1, 224, 224, 1))
    convolutions = [(layer.input_shape[1], *layer.output_shape[2:]) for layer in layers if layer.kind == "Conv"]
    assert convolutions == [(224, 54, 96), (26, 26, 256), (12, 12, 384), (12, 12, 384), (12, 12, 256)]
    dense = [(layer.input_shape[1], layer.output_shape[1]) for layer in layers if layer.kind == "Dense"]
    assert dense == [(6400, 4096), (4096, 4096), (4096, 10)]
    variables = jax.eval_shape(AlexNet().init, jax.random.key(0), jnp.zeros((1, 224, 224, 1)))
    assert nn.parameter_count(variables) == 46_764_746
    kernels = sum(variables["params"][name]["kernel"].size for name in ("Dense_0", "Dense_1"))
    assert kernels == 6400 * 4096 + 4096 * 4096  # 164 MB of float32, as the book says
    assert round(4 * kernels / 2**20) == 164


@pytest.mark.parametrize(("strides", "pixels"), [(4, 65), (1, 23)])
def test_the_smallest_images(strides, pixels):
    model = AlexNet(widths=(2,) * 5, dense_widths=(2,), stem_strides=strides)
    dense = [layer for layer in nn.layer_shapes(model, (1, pixels, pixels, 1)) if layer.kind == "Dense"]
    assert dense[0].input_shape == (1, 2)  # one pixel
    with pytest.raises(ValueError, match=f"at least {pixels} x {pixels} pixels"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, pixels, pixels - 1, 1)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": (96, 256)}, r"widths: expected five numbers, got \[96, 256\]"),
        ({"widths": (96, 256, 384, 0, 1)}, "widths: expected one or more numbers of at least 1"),
        ({"dense_widths": (0,)}, r"dense_widths: expected one or more numbers of at least 1, got \[0\]"),
        ({"stem_strides": 0}, "stem_strides: expected at least 1, got 0"),
        ({"dropout": -0.5}, r"dropout: expected a number in \[0, 1\], got -0.5"),
    ],
)
def test_bad_fields_fail_at_construction(fields, message):
    with pytest.raises(ValueError, match=message):
        AlexNet(**fields)
