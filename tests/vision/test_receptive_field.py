"""Receptive fields: published ones, and those that the gradient of a random network shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.vision.receptive_field import ReceptiveField, Window, receptive_field, smallest_input

ALEXNET = [(11, 4), (3, 2), (5, 1, 2), (3, 2), *[(3, 1, 1)] * 3, (3, 2)]
VGG16 = [window for n in (2, 2, 3, 3, 3) for window in [(3, 1, 1)] * n + [(2, 2)]]
# TF-Slim's: the last block of each of the first three stages has the stride.
RESNET50 = [(7, 2, 3), (3, 2, 1)] + [
    (3, 2 if i == n - 1 and stage < 3 else 1, 1) for stage, n in enumerate((3, 4, 6, 3)) for i in range(n)
]


@pytest.mark.parametrize(("layers", "size"), [(ALEXNET, 195), (VGG16, 212), (RESNET50, 483)])
def test_published_receptive_fields(layers, size):
    """Araujo et al., 2019, "Computing Receptive Fields of Convolutional Neural Networks" (Distill), table 1."""
    assert receptive_field(layers)[:2] == (size, 32)


def test_hand_computed():
    assert receptive_field([]) == ReceptiveField(size=1, stride=1, start=0)
    lenet = [(5, 1, 2), (2, 2), (5,), (2, 2)]
    assert receptive_field(lenet) == (16, 4, -2)  # 2 -> 6 -> 12 -> 16
    assert receptive_field([Window(3, dilation=2), Window(3, dilation=4)]) == (13, 1, 0)


windows = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2))


def convolve(x, layers):
    """Convolutions in one dimension with positive weights, under which no gradient cancels: all outputs."""
    outputs = []
    for i, (size, stride, padding, dilation) in enumerate(layers):
        weights = jnp.asarray(np.random.default_rng(i).uniform(0.1, 1, (size, 1, 1)), x.dtype)
        x = jax.lax.conv_general_dilated(
            x,
            weights,
            (stride,),
            ((padding, padding),),
            rhs_dilation=(dilation,),
            dimension_numbers=("NHC", "HIO", "NHC"),
        )
        outputs.append(x)
    return outputs


@settings(max_examples=15, deadline=None)
@given(st.lists(windows, min_size=1, max_size=3))
def test_it_is_where_the_gradient_is_not_zero(layers):
    """Of a unit far from the borders, where no layer's padding is seen."""
    field, unit = receptive_field(layers), 12
    first = field.start + unit * field.stride
    last = first + field.size - 1
    gradient = jax.grad(lambda x: convolve(x, layers)[-1][0, unit, 0])(jnp.ones((1, last + 60, 1)))
    seen = np.flatnonzero(gradient)
    assert (seen.min(), seen.max()) == (first, last)
    if all(size >= stride and dilation == 1 for size, stride, _, dilation in layers):  # no pixel is skipped
        assert seen.size == field.size


def test_a_random_network_sees_no_more_and_no_less():
    """Two dimensions, ReLU and max pooling; the middle unit's gradient over some images."""
    layers = [(5, 2, 2), (3, 2, 1), (3, 1, 1)]
    kernels = [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(((5, 5, 1, 8), (3, 3, 8, 8)))]

    def unit(images):
        def conv(x, kernel, stride, padding):
            pairs = ((padding, padding),) * 2
            return jax.lax.conv_general_dilated(
                x, kernel, (stride,) * 2, pairs, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )

        x = jax.nn.relu(conv(images, kernels[0], 2, 2))
        x = jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
        )
        return conv(x, kernels[1], 1, 1)[:, 6, 6].sum()

    gradient = jax.jit(jax.grad(unit))(jax.random.normal(jax.random.key(9), (64, 48, 48, 1)))
    size, stride, start = receptive_field(layers)
    inside = np.zeros((48, 48), bool)
    pixels = slice(start + 6 * stride, start + 6 * stride + size)
    inside[pixels, pixels] = True
    np.testing.assert_array_equal((gradient != 0).any((0, 3)), inside)


@settings(max_examples=30, deadline=None)
@given(st.lists(windows, min_size=1, max_size=4))
def test_the_smallest_input_leaves_every_layer_a_unit(layers):
    def units(pixels):
        outputs = jax.eval_shape(lambda x: convolve(x, layers), jnp.zeros((1, pixels, 1)))
        return [x.shape[1] for x in outputs]

    smallest = smallest_input(layers)
    assert min(units(smallest)) >= 1
    if smallest > 1:
        assert min(units(smallest - 1)) == 0


def test_bad_layers_are_named():
    with pytest.raises(ValueError, match="layers: stride of layer 1: expected at least 1, got 0"):
        receptive_field([(3,), (3, 0)])
    with pytest.raises(ValueError, match="layers: padding of layer 0: expected at least 0, got -1"):
        smallest_input([(3, 1, -1)])
