"""VGG: the book's shapes and parameters (D2L 8.2), torchvision's parameters."""

import jax
import jax.numpy as jnp
import pytest

from jaxdl import nn
from jaxdl.vision.vgg import VGG, vgg11, vgg11_small, vgg16, vgg19


@pytest.mark.parametrize(
    ("model", "channels", "parameters"),
    [
        (vgg11(), 1, 128_806_154),  # the book's
        (vgg11_small(), 1, 43_093_322),  # the one it trains
        (vgg16(1000), 3, 138_357_544),  # torchvision's
        (vgg19(1000), 3, 143_667_240),
    ],
    ids=["vgg11", "vgg11_small", "vgg16", "vgg19"],
)
def test_parameter_counts(model, channels, parameters):
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, channels)))
    assert nn.parameter_count(variables) == parameters


def test_stage_shapes_are_the_books():
    layers = nn.layer_shapes(vgg11(), (1, 224, 224, 1))
    convolutions = [layer.output_shape[1:] for layer in layers if layer.kind == "Conv"]
    sides, widths = (224, 112, 56, 56, 28, 28, 14, 14), (64, 128, 256, 256, 512, 512, 512, 512)
    assert convolutions == [(side, side, width) for side, width in zip(sides, widths, strict=True)]
    assert [layer.input_shape[1] for layer in layers if layer.kind == "Dense"] == [25_088, 4096, 4096]
    assert [layer.input_shape[1] for layer in nn.layer_shapes(vgg11_small(), (1, 224, 224, 1))][8] == 6272


def test_the_smallest_images():
    model = VGG(blocks=((1, 2), (1, 2)), dense_widths=(2,))
    jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
    with pytest.raises(ValueError, match=r"at least 4 x 4 pixels, got \[1, 4, 3, 1\]"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4, 3, 1)))


@pytest.mark.parametrize("blocks", [(), ((1, 64), (0, 64)), ((1, 64, 3),)])
def test_bad_blocks_fail_at_construction(blocks):
    with pytest.raises(ValueError, match=r"blocks: expected one or more \(convolutions, channels\) of at least 1, got"):
        VGG(blocks=blocks)
