"""LeNet with batch normalisation: the book's shapes and parameters (D2L 8.5)."""

import jax
import jax.numpy as jnp
import pytest

from jaxdl import nn
from jaxdl.vision.batch_norm_lenet import BatchNormLeNet


def test_shapes_and_parameters_are_the_books():
    layers = nn.layer_shapes(BatchNormLeNet(), (1, 28, 28, 1))
    inputs = [layer.input_shape[1:] for layer in layers if layer.kind in ("Conv", "Dense")]
    assert inputs == [(28, 28, 1), (12, 12, 6), (256,), (120,), (84,)]
    normalised = [layer.output_shape[1:] for layer in layers if layer.kind == "BatchNorm"]
    assert normalised == [(24, 24, 6), (8, 8, 16), (120,), (84,)]
    variables = jax.eval_shape(BatchNormLeNet().init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    assert nn.parameter_count(variables) == 44_878


def test_activation_and_pooling_are_the_callers():
    """A pooling that keeps one pixel of four is called on what the activation made."""
    seen = []
    model = BatchNormLeNet(
        activation=lambda x: x, pool=lambda x, window, strides: seen.append(x.shape) or x[:, ::2, ::2]
    )
    jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((3, 28, 28, 1)))
    assert seen == [(3, 24, 24, 6), (3, 8, 8, 16)]


def test_16_pixels_are_enough_and_15_are_not():
    jax.eval_shape(BatchNormLeNet().init, jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    with pytest.raises(ValueError, match=r"at least 16 x 16 pixels, got \[1, 15, 16, 1\]"):
        jax.eval_shape(BatchNormLeNet().init, jax.random.key(0), jnp.zeros((1, 15, 16, 1)))
