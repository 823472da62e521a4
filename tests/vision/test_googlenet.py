"""GoogLeNet: the book's shapes and parameters (D2L 8.4), the four paths of its block."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from jaxdl.vision.googlenet import GoogLeNet, InceptionBlock


def test_shapes_and_parameters_are_the_books():
    layers = nn.layer_shapes(GoogLeNet(), (1, 96, 96, 1))
    assert [layer.output_shape[1:] for layer in layers[:3]] == [(48, 48, 64), (24, 24, 64), (24, 24, 192)]
    blocks = [layer for layer in layers if layer.kind == "InceptionBlock"]
    assert [block.input_shape[1:] for block in blocks[::7] + blocks[2:3]] == [(12, 12, 192), (3, 3, 832), (6, 6, 480)]
    assert [block.output_shape[-1] for block in blocks] == [256, 480, 512, 512, 512, 528, 832, 832, 1024]
    dense = layers[-2]
    assert (dense.input_shape, dense.output_shape) == ((1, 1024), (1, 10))
    variables = jax.eval_shape(GoogLeNet().init, jax.random.key(0), jnp.zeros((1, 96, 96, 1)))
    assert nn.parameter_count(variables) == 5_977_530


def test_a_block_concatenates_its_four_paths(x64):
    """Against convolutions and pooling over windows in NumPy."""
    block, x = InceptionBlock(2, (3, 4), (2, 5), 1), jax.random.normal(jax.random.key(1), (2, 5, 6, 3))
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(block.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda p: rng.normal(size=p.shape), shapes)

    def windows(x, size, fill=0.0):
        pad = size // 2
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=fill)
        return np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))

    def conv(x, number):
        layer = variables["params"][f"Conv_{number}"]
        y = np.einsum("bhwcij,ijco->bhwo", windows(x, layer["kernel"].shape[0]), layer["kernel"])
        return np.maximum(y + layer["bias"], 0)

    pooled = windows(np.asarray(x), 3, fill=-np.inf).max((-1, -2))
    paths = [conv(x, 0), conv(conv(x, 1), 2), conv(conv(x, 3), 4), conv(pooled, 5)]
    np.testing.assert_allclose(jax.jit(block.apply)(variables, x), np.concatenate(paths, -1), rtol=1e-10, atol=1e-10)


def test_one_pixel_is_enough():
    logits, _ = jax.eval_shape(GoogLeNet().init_with_output, jax.random.key(0), jnp.zeros((1, 1, 1, 3)))
    assert logits.shape == (1, 10)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stem_widths": (64,)}, r"stem_widths: expected two numbers, got \[64\]"),
        ({"stages": ()}, r"stages: expected one or more with at least one block each, got \(\)"),
        ({"stages": ((),)}, "stages: expected one or more with at least one block each"),
        (
            {"stages": (((8, (8, 0), (8, 8), 8),),)},
            r"widths_3x3: expected one or more numbers of at least 1, got \[8, 0\]",
        ),
    ],
)
def test_bad_fields_fail_at_construction(fields, message):
    with pytest.raises(ValueError, match=message):
        GoogLeNet(**fields)
