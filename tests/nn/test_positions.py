"""Positions: formulas term by term, and the properties for which they were chosen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl import nn
from jaxdl.kernels import attention


def test_sinusoidal_positions_term_by_term(x64):
    table = nn.sinusoidal_positions(60, 32)
    assert table.shape == (60, 32)
    for i, j in ((0, 0), (7, 3), (59, 15)):
        angle = i / 10_000 ** (2 * j / 32)
        np.testing.assert_allclose(table[i, 2 * j : 2 * j + 2], [np.sin(angle), np.cos(angle)], atol=1e-12)
    np.testing.assert_array_equal(nn.sinusoidal_positions(jnp.array([[3, 59]]), 32)[0], table[jnp.array([3, 59])])


@settings(max_examples=10, deadline=None)
@given(i=st.integers(0, 50), shift=st.integers(0, 50), pair=st.integers(0, 3))
def test_a_shift_is_a_rotation(i, shift, pair):
    """D2L 11.6: [cos, sin; -sin, cos] of `shift * w` maps the pair of position i to that of i + shift."""
    table = np.asarray(nn.sinusoidal_positions(101, 8), np.float64)[:, 2 * pair : 2 * pair + 2]
    angle = shift / 10_000 ** (2 * pair / 8)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(rotation @ table[i], table[i + shift], atol=2e-5)


def test_rotary_positions_are_complex_rotations(x64):
    x = np.random.default_rng(0).standard_normal((2, 5, 3, 8))
    positions = np.array([[0, 1, 2, 3, 4], [7, 7, 0, 1, 9]])
    frequencies = 10_000 ** (-np.arange(4) / 4)
    turned = (x[..., :4] + 1j * x[..., 4:]) * np.exp(1j * positions[..., None, None] * frequencies)
    expected = np.concatenate([turned.real, turned.imag], -1)
    np.testing.assert_allclose(nn.rotary_positions(jnp.asarray(x), jnp.asarray(positions)), expected, atol=1e-12)
    default = nn.rotary_positions(jnp.asarray(x[:1]))
    np.testing.assert_allclose(default[0], expected[0], atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(shift=st.integers(0, 100))
def test_rotated_products_depend_on_the_distance_alone(shift):
    with jax.enable_x64(True):
        q, k = (jnp.asarray(np.random.default_rng(i).standard_normal((1, 4, 1, 6))) for i in range(2))
        at = jnp.arange(4)
        products = [
            jnp.einsum("bthd,bshd->ts", nn.rotary_positions(q, p), nn.rotary_positions(k, p)) for p in (at, at + shift)
        ]
        np.testing.assert_allclose(*products, atol=1e-10)


def test_relative_position_bias():
    """Press et al.: the slopes of 8 heads are 1/2, 1/4 ... 1/256; the bias falls with the distance."""
    bias = nn.relative_position_bias(2, 4, 8)
    assert bias.shape == (1, 8, 2, 4)
    np.testing.assert_allclose(bias[0, 0], -0.5 * np.array([[2, 1, 0, 1], [3, 2, 1, 0]]))
    np.testing.assert_allclose(bias[0, 7, 1], -np.array([3, 2, 1, 0]) / 256)
    x = jnp.ones((1, 4, 8, 4))
    assert attention(x[:, :2], x, x, bias).shape == (1, 2, 8, 4)


def test_learned_positions():
    layer, x = nn.LearnedPositions(6), jnp.zeros((2, 4, 3))
    variables = layer.init(jax.random.key(0), x)
    table = variables["params"]["embedding"]
    assert table.shape == (6, 3)
    np.testing.assert_array_equal(layer.apply(variables, x)[1], table[:4])
    at = jnp.array([[5, 0, 1, 2], [0, 0, 0, 3]])
    np.testing.assert_array_equal(layer.apply(variables, x, at), table[at])
    outside = layer.apply(variables, x, at.at[0, :2].set(jnp.array([6, -1])))
    np.testing.assert_array_equal(jnp.isnan(outside), jnp.zeros_like(x, bool).at[0, :2].set(True))


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("features: expected an even number", lambda: nn.sinusoidal_positions(3, 5)),
        (r"positions: expected \[2, 3\] or \[3\]", lambda: nn.rotary_positions(jnp.ones((2, 3, 1, 4)), jnp.arange(2))),
        ("x: expected", lambda: nn.rotary_positions(jnp.ones((2, 3, 4)))),
        ("max_length: expected at least 1", lambda: nn.LearnedPositions(0)),
        (
            r"x: expected \[batch, at most 2, features\]",
            lambda: nn.LearnedPositions(2).init(jax.random.key(0), jnp.ones((1, 3, 4))),
        ),
        (
            r"positions: expected integer \[1, 2\], got int32\[2\]",
            lambda: nn.LearnedPositions(2).init(jax.random.key(0), jnp.ones((1, 2, 4)), jnp.arange(2)),
        ),
        ("x: expected floating", lambda: nn.rotary_positions(jnp.ones((2, 3, 1, 4), int))),
        ("num_heads", lambda: nn.relative_position_bias(2, 2, 0)),
    ],
)
def test_errors(message, call):
    with pytest.raises(ValueError, match=message):
        call()
