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
    calls = []

    def activation(x):
        calls.append(("activation", x.shape[1:]))
        return x

    def pool(x, window, strides):
        calls.append(("pool", x.shape[1:]))
        return x[:, ::2, ::2]

    model = BatchNormLeNet(activation=activation, pool=pool)
    jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((3, 28, 28, 1)))
    images = [(24, 24, 6), (8, 8, 16)]
    want = [call for shape in images for call in (("activation", shape), ("pool", shape))]
    assert calls == [*want, ("activation", (120,)), ("activation", (84,))]


def test_16_pixels_are_enough_and_15_are_not():
    jax.eval_shape(BatchNormLeNet().init, jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    with pytest.raises(ValueError, match=r"at least 16 x 16 pixels, got \[1, 15, 16, 1\]"):
        jax.eval_shape(BatchNormLeNet().init, jax.random.key(0), jnp.zeros((1, 15, 16, 1)))
