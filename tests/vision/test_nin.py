"""Network in network: the book's shapes and parameters (D2L 8.3)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from jaxdl.vision.nin import NiN, NiNBlock


def test_shapes_and_parameters_are_the_books():
    layers = nn.layer_shapes(NiN(), (1, 224, 224, 1))
    blocks = [(layer.input_shape[1], *layer.output_shape[2:]) for layer in layers if layer.kind == "NiNBlock"]
    assert blocks == [(224, 54, 96), (26, 26, 256), (12, 12, 384), (5, 5, 10)]
    assert layers[-1].output_shape == (1, 10)
    variables = jax.eval_shape(NiN().init, jax.random.key(0), jnp.zeros((1, 224, 224, 1)))
    assert nn.parameter_count(variables) == 1_992_166


def test_a_block_is_a_dense_network_at_every_pixel(x64):
    block, x = NiNBlock(3, kernel_size=1), jax.random.normal(jax.random.key(1), (2, 4, 4, 5))
    variables = jax.tree.map(lambda p: p.astype(jnp.float64), block.init(jax.random.key(0), x))
    want = x
    for i in range(3):
        layer = variables["params"][f"Conv_{i}"]
        want = np.maximum(want @ layer["kernel"][0, 0], 0)  # biases start at zero
    np.testing.assert_allclose(block.apply(variables, x), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("relu_logits", [True, False])
def test_logits_may_be_kept_from_being_negative(relu_logits):
    model = NiN(widths=(4, 4, 4), stem_strides=1, relu_logits=relu_logits)
    images = jax.random.normal(jax.random.key(1), (4, 25, 25, 1))
    logits, _ = jax.jit(model.init_with_output)(jax.random.key(0), images)
    assert (logits.min() < 0) != relu_logits
    assert logits.max() > 0


@pytest.mark.parametrize(("strides", "pixels"), [(4, 67), (1, 25)])
def test_the_smallest_images(strides, pixels):
    model = NiN(widths=(2, 2, 2), stem_strides=strides)
    blocks = [layer for layer in nn.layer_shapes(model, (1, pixels, pixels, 1)) if layer.kind == "NiNBlock"]
    assert blocks[-1].input_shape == (1, 1, 1, 2)
    with pytest.raises(ValueError, match=f"at least {pixels} x {pixels} pixels"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, pixels - 1, pixels, 1)))


def test_bad_fields_fail_at_construction():
    with pytest.raises(ValueError, match=r"widths: expected three numbers, got \[96\]"):
        NiN(widths=(96,))
    with pytest.raises(ValueError, match="kernel_size: expected at least 1, got 0"):
        NiNBlock(4, 0)
    with pytest.raises(ValueError, match=r"x: expected \[batch, height, width, channels\], got \[4, 4, 1\]"):
        jax.eval_shape(NiNBlock(4, 1).init, jax.random.key(0), jnp.zeros((4, 4, 1)))
