"""DenseNet: the book's shapes and parameters (D2L 8.7), what its blocks pass on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from jaxdl.vision.densenet import DenseBlock, DenseNet, TransitionBlock


def test_shapes_and_parameters_are_the_books():
    """Of its PyTorch version: transitions to 96, 112 and 120 channels."""
    layers = nn.layer_shapes(DenseNet(), (1, 96, 96, 1))
    blocks = [layer for layer in layers if layer.kind in ("DenseBlock", "TransitionBlock")]
    assert blocks[0].input_shape[1:] == (24, 24, 64)
    want = [(192, 24), (96, 12), (224, 12), (112, 6), (240, 6), (120, 3), (248, 3)]
    assert [block.output_shape[:0:-1][:2] for block in blocks] == want
    assert layers[-1].output_shape == (1, 10)
    variables = jax.eval_shape(DenseNet().init, jax.random.key(0), jnp.zeros((1, 96, 96, 1)))
    assert nn.parameter_count(variables) == 758_226


def test_the_books_blocks():
    out, variables = jax.eval_shape(DenseBlock(2, 10).init_with_output, jax.random.key(0), jnp.zeros((4, 8, 8, 3)))
    assert out.shape == (4, 8, 8, 23)
    assert variables["params"]["Conv_1"]["kernel"].shape == (3, 3, 13, 10)
    out, _ = jax.eval_shape(TransitionBlock(10).init_with_output, jax.random.key(0), jnp.zeros((4, 8, 8, 23)))
    assert out.shape == (4, 4, 4, 10)


def test_a_dense_block_passes_its_input_on_and_each_convolution_sees_all_before():
    block, x = DenseBlock(3, 2), jax.random.normal(jax.random.key(1), (2, 4, 4, 3))
    variables = jax.jit(block.init)(jax.random.key(0), x)
    out = block.apply(variables, x)
    np.testing.assert_array_equal(out[..., :3], x)
    for convolutions in (1, 2):  # a shorter block gives the first channels of a longer one
        np.testing.assert_allclose(
            DenseBlock(convolutions, 2).apply(variables, x), out[..., : 3 + 2 * convolutions], rtol=1e-6
        )


def test_a_transition_averages(x64):
    block, x = TransitionBlock(3), jax.random.normal(jax.random.key(1), (2, 5, 4, 6))
    variables = jax.tree.map(lambda v: v.astype(jnp.float64), jax.jit(block.init)(jax.random.key(0), x))
    pixels = np.maximum(x / np.sqrt(1 + 1e-5), 0) @ variables["params"]["Conv_0"]["kernel"][0, 0]
    want = np.asarray(pixels)[:, :4].reshape(2, 2, 2, 2, 2, 3).mean((2, 4))
    np.testing.assert_allclose(block.apply(variables, x), want, rtol=1e-10)


@pytest.mark.parametrize(("stem", "pixels"), [("imagenet", 29), ("small", 8)])
def test_the_smallest_images(stem, pixels):
    model = DenseNet(block_sizes=(1, 1, 1, 1), growth_rate=2, stem_width=4, stem=stem)
    blocks = [layer for layer in nn.layer_shapes(model, (1, pixels, pixels, 1)) if layer.kind == "DenseBlock"]
    assert blocks[-1].output_shape[1:3] == (1, 1)
    with pytest.raises(ValueError, match=f"at least {pixels} x {pixels} pixels"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, pixels, pixels - 1, 1)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DenseNet(block_sizes=()), r"block_sizes: expected one or more numbers of at least 1, got \[\]"),
        (lambda: DenseNet(growth_rate=0), "growth_rate: expected at least 1, got 0"),
        (lambda: DenseNet(stem="cifar"), "stem: expected 'imagenet' or 'small', got 'cifar'"),
        (lambda: DenseBlock(0, 1), "convolutions: expected at least 1, got 0"),
        (lambda: TransitionBlock(0), "features: expected at least 1, got 0"),
    ],
)
def test_bad_fields_fail_at_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()
