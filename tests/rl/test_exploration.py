"""Exploration: exact probabilities, and counts of draws within five standard errors of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.rl import (
    epsilon_greedy,
    epsilon_greedy_probabilities,
    softmax_exploration,
    softmax_exploration_probabilities,
)

Q = [1.0, -2.0, 3.0, 0.5]
LN2 = float(np.log(2))


@pytest.mark.parametrize(
    ("q_values", "epsilon", "expected"),
    [
        (Q, 0.0, [0, 0, 1, 0]),
        (Q, 1.0, [0.25, 0.25, 0.25, 0.25]),
        (Q, 0.2, [0.05, 0.05, 0.85, 0.05]),
        ([0, 2, 2, 1], 0.2, [0.05, 0.45, 0.45, 0.05]),
        ([0.0, 0.0, 0.0, 0.0], 0.0, [0.25, 0.25, 0.25, 0.25]),
        ([-7.0], 0.3, [1]),
    ],
)
def test_epsilon_greedy_probabilities(q_values, epsilon, expected):
    found = epsilon_greedy_probabilities(q_values, epsilon)
    np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(np.float32).eps)
    assert found.dtype == jnp.float32


@pytest.mark.parametrize(
    ("q_values", "temperature", "expected"),
    [
        ([0.0, LN2, 2 * LN2], 1.0, [1 / 7, 2 / 7, 4 / 7]),
        ([0.0, LN2, 2 * LN2], 2.0, np.array([1, 2**0.5, 2]) / (3 + 2**0.5)),
        ([1e30, 1e30 - 1e28, 1e30], 1e-30, [0.5, 0, 0.5]),  # the quotients overflow, the differences decide
        ([1, 2], 1e30, [0.5, 0.5]),
        ([-7.0], 0.3, [1]),
    ],
)
def test_softmax_probabilities(q_values, temperature, expected):
    found = softmax_exploration_probabilities(q_values, temperature)
    np.testing.assert_allclose(found, expected / np.sum(expected), rtol=32 * np.finfo(np.float32).eps)
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("draw", "probabilities", "parameter"),
    [
        (epsilon_greedy, epsilon_greedy_probabilities, 0.3),
        (epsilon_greedy, epsilon_greedy_probabilities, 0.0),
        (softmax_exploration, softmax_exploration_probabilities, 1.5),
    ],
)
@pytest.mark.parametrize("q_values", [Q, [2.0, 2.0, -1.0, 0.0]])
def test_counts(draw, probabilities, parameter, q_values):
    """A count is binomial: it is off by five standard errors with a chance of 6e-7."""
    num_draws = 20_000
    keys = jax.random.split(jax.random.key(0), num_draws)
    actions = jax.jit(jax.vmap(lambda key: draw(key, jnp.array(q_values), parameter)))(keys)
    assert actions.dtype == jnp.int32
    p = np.asarray(probabilities(q_values, parameter), np.float64)
    share = np.bincount(actions, minlength=len(p)) / num_draws
    assert (np.abs(share - p) <= 5 * np.sqrt(p * (1 - p) / num_draws) + 1e-7).all()  # 1e-7: rounding where p is 0 or 1


def test_lifted_over_states_and_epsilons():
    q_values = jnp.array([Q, Q[::-1]])
    lifted = jax.vmap(epsilon_greedy_probabilities)(q_values, jnp.array([0.0, 0.4]))
    np.testing.assert_allclose(lifted, [[0, 0, 1, 0], [0.1, 0.7, 0.1, 0.1]], rtol=1e-6)
    keys = jax.random.split(jax.random.key(1), 2)
    np.testing.assert_array_equal(jax.vmap(epsilon_greedy, in_axes=(0, 0, None))(keys, q_values, 0.0), [2, 1])


def test_dtypes(x64):
    q_values = np.array(Q)
    assert epsilon_greedy_probabilities(q_values, 0.1).dtype == jnp.float64
    assert softmax_exploration_probabilities(q_values.astype(np.float16), 0.1).dtype == jnp.float32
    np.testing.assert_allclose(epsilon_greedy_probabilities(q_values, 0.1), [0.025, 0.025, 0.925, 0.025], rtol=1e-15)
    assert epsilon_greedy(jax.random.key(0), q_values, 0.1).dtype == jnp.int32


KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: epsilon_greedy(KEY, Q, 1.1), r"epsilon: expected a number of \[0, 1\], got 1.1"),
        (lambda: epsilon_greedy(KEY, Q, -0.1), r"epsilon: expected a number of \[0, 1\], got -0.1"),
        (lambda: epsilon_greedy(KEY, Q, float("nan")), "epsilon: expected finite numbers, got nan"),
        (lambda: epsilon_greedy(KEY, Q, [0.1]), r"epsilon: expected a scalar, got shape \[1\]"),
        (
            lambda: epsilon_greedy(KEY, [Q, Q], 0.1),
            r"q_values: expected \[actions\], none of length 0, got shape \[2, 4",
        ),
        (lambda: epsilon_greedy(KEY, [], 0.1), r"q_values: expected \[actions\], none of length 0, got shape \[0\]"),
        (lambda: epsilon_greedy(KEY, [np.nan, 1], 0.1), "q_values: expected finite numbers, got nan"),
        (lambda: epsilon_greedy(KEY, [1j], 0.1), "q_values: expected real numbers, got complex64"),
        (lambda: epsilon_greedy(0, Q, 0.1), "key: expected one typed key such as jax.random.key"),
        (lambda: epsilon_greedy(jax.random.split(KEY, 2), Q, 0.1), "key: expected one typed key"),
        (lambda: softmax_exploration(jax.random.PRNGKey(0), Q, 0.1), "key: expected one typed key"),
        (lambda: softmax_exploration(KEY, Q, 0.0), "temperature: expected a positive number, got 0.0"),
        (lambda: softmax_exploration(KEY, Q, -1), "temperature: expected a positive number, got -1.0"),
        (lambda: softmax_exploration(KEY, Q, 1e-42), "temperature: expected a positive number"),
        (lambda: softmax_exploration_probabilities(Q, [1.0]), r"temperature: expected a scalar, got shape \[1\]"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
