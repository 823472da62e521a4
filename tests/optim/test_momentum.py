"""What momentum is: a longer average, a two-by-two matrix, and Nesterov's point ahead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl import optim

CURVATURE = np.array([0.2, 4.0])


def path(optimizer, num_steps=50):
    return np.asarray(
        optim.trajectory(lambda x: jnp.asarray(CURVATURE) * x, optimizer, jnp.array([-5.0, -2.0]), num_steps)
    )


def test_nesterov_is_the_gradient_ahead(x64):
    """The textbook's two points: the gradient at `y - rate beta v`; ours runs over those points."""
    rate, beta, y, v, ahead = 0.2, 0.7, np.array([-5.0, -2.0]), np.zeros(2), []
    for _ in range(51):
        ahead.append(y - rate * beta * v)
        v = beta * v + CURVATURE * ahead[-1]
        y = y - rate * v
    np.testing.assert_allclose(path(optim.nesterov(rate, beta)), ahead, rtol=1e-10, atol=1e-12)


def test_the_average_is_the_heavy_ball_at_a_smaller_rate(x64):
    averaged = path(optim.averaged_momentum(0.5, 0.8, bias_correction=False))
    np.testing.assert_allclose(averaged, path(optim.momentum(0.1, 0.8)), rtol=1e-10, atol=1e-12)


def test_without_bias_a_constant_gradient_is_itself(x64):
    """And the heavy ball gathers `1 / (1 - beta)` of it."""

    def constant(x):
        return jnp.full_like(x, 3.0)

    start = jnp.zeros(())
    unbiased = optim.trajectory(constant, optim.averaged_momentum(0.1, 0.9), start, 100)
    np.testing.assert_allclose(np.diff(unbiased), -0.3, rtol=1e-12)
    biased = optim.trajectory(constant, optim.averaged_momentum(0.1, 0.9, bias_correction=False), start, 100)
    np.testing.assert_allclose(np.diff(biased), -0.3 * (1 - 0.9 ** np.arange(1, 101)), rtol=1e-12)
    heavy = optim.trajectory(constant, optim.momentum(0.1, 0.9), start, 400)
    assert np.diff(heavy)[-1] == pytest.approx(-0.3 / (1 - 0.9), rel=1e-12)


@settings(max_examples=10, deadline=None)
@given(beta=st.floats(0, 0.95), rate=st.floats(0.01, 2), curvature=st.floats(0.1, 2))
def test_the_matrix_of_a_quadratic(beta, rate, curvature):
    """D2L 12.6.4: (v, x) is multiplied by [[beta, curvature], [-rate beta, 1 - rate curvature]] each step."""
    with jax.enable_x64(True):
        optimizer, x = optim.momentum(rate, beta), jnp.array(1.0)
        state, expected = optimizer.init(x), np.array([0.0, 1.0])
        matrix = np.array([[beta, curvature], [-rate * beta, 1 - rate * curvature]])
        for _ in range(5):
            updates, state = optimizer.update(curvature * x, state)
            x, expected = x + updates, matrix @ expected
            np.testing.assert_allclose([state.velocity, x], expected, rtol=1e-9, atol=1e-12)
    radius = np.abs(np.linalg.eigvals(matrix)).max()
    assert (radius < 1) == (rate * curvature < 2 + 2 * beta) or radius == pytest.approx(1, abs=1e-6)
