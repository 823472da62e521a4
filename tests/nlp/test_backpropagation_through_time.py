"""Full, truncated and randomised gradients, against the closed form of a linear network and against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.nlp.backpropagation_through_time import (
    linear_rnn_gradients,
    randomized_truncation,
    regular_truncation,
    truncated_scan,
)

STEPS, FEATURES, HIDDEN, OUTPUTS = 6, 2, 3, 2


def problem(seed=0, steps=STEPS):
    rng = np.random.default_rng(seed)
    weights = [jnp.asarray(rng.normal(size=s) / 2) for s in ((HIDDEN, FEATURES), (HIDDEN, HIDDEN), (OUTPUTS, HIDDEN))]
    inputs, targets = jnp.asarray(rng.normal(size=(steps, FEATURES))), jnp.asarray(rng.normal(size=(steps, OUTPUTS)))
    return weights, inputs, targets


def outputs_of(weights, inputs, factors):
    W_hx, W_hh, W_qh = weights

    def step(h, x):
        h = W_hx @ x + W_hh @ h
        return h, W_qh @ h

    return truncated_scan(step, jnp.zeros(HIDDEN, W_hx.dtype), inputs, factors)[1]


@jax.jit
def gradients(weights, inputs, targets, factors):
    """By automatic differentiation, of half the mean squared error over time."""
    return jax.grad(lambda w: ((outputs_of(w, inputs, factors) - targets) ** 2).sum() / (2 * len(inputs)))(weights)


@jax.jit
def closed_form(weights, inputs, targets, factors=None):
    outputs = outputs_of(weights, inputs, jnp.ones(len(inputs)))
    return linear_rnn_gradients(*weights, inputs, (outputs - targets) / len(inputs), factors)


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def test_the_closed_form_is_the_books_sum_written_out(x64):
    """D2L (9.7.15) to (9.7.16), term by term in NumPy."""
    weights, inputs, targets = problem()
    W_hx, W_hh, W_qh = map(np.asarray, weights)
    x, hidden = np.asarray(inputs), [np.zeros(HIDDEN)]
    for t in range(STEPS):
        hidden.append(W_hx @ x[t] + W_hh @ hidden[-1])
    g = [(W_qh @ hidden[t + 1] - np.asarray(targets)[t]) / STEPS for t in range(STEPS)]
    d_hx, d_hh, d_qh = np.zeros_like(W_hx), np.zeros_like(W_hh), np.zeros_like(W_qh)
    for t in range(STEPS):
        d_h = sum(np.linalg.matrix_power(W_hh.T, i - t) @ W_qh.T @ g[i] for i in range(t, STEPS))
        d_hx += np.outer(d_h, x[t])
        d_hh += np.outer(d_h, hidden[t])
        d_qh += np.outer(g[t], hidden[t + 1])
    assert_same(closed_form(weights, inputs, targets), (d_hx, d_hh, d_qh))
    assert_same(gradients(weights, inputs, targets, jnp.ones(STEPS)), (d_hx, d_hh, d_qh))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 100), st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=STEPS, max_size=STEPS))
def test_any_truncation_has_the_gradient_of_the_closed_form(seed, factors):
    with jax.enable_x64(True):
        weights, inputs, targets = problem(seed)
        factors = jnp.asarray(factors)
        assert_same(gradients(weights, inputs, targets, factors), closed_form(weights, inputs, targets, factors))


def test_a_factor_changes_no_value(x64):
    weights, inputs, _ = problem()
    full = outputs_of(weights, inputs, jnp.ones(STEPS))
    np.testing.assert_array_equal(outputs_of(weights, inputs, jnp.full(STEPS, 0.3)), full)


def test_regular_truncation_is_a_gradient_of_blocks(x64):
    """Blocks that start from the state of the block before, as a constant."""
    weights, inputs, targets = problem()
    W_hx, W_hh, _ = weights

    def loss_in_blocks(weights):
        total = 0.0
        for start in range(0, STEPS, 2):
            h = jnp.zeros(HIDDEN)
            for t in range(start):
                h = W_hx @ inputs[t] + W_hh @ h  # of the constants, not of the argument
            for t in range(start, start + 2):
                h = weights[0] @ inputs[t] + weights[1] @ h
                total += ((weights[2] @ h - targets[t]) ** 2).sum() / (2 * STEPS)
        return total

    truncated = gradients(weights, inputs, targets, regular_truncation(STEPS, 2))
    assert_same(truncated, jax.jit(jax.grad(loss_in_blocks))(weights))
    full = gradients(weights, inputs, targets, jnp.ones(STEPS))
    assert abs(truncated[1] - full[1]).max() > 0.01 * abs(full[1]).max()  # a different gradient: biased
    assert_same(gradients(weights, inputs, targets, regular_truncation(STEPS, STEPS)), full)


def standard_errors_off(weigh):
    """The mean over 10,000 draws, in standard errors from the full gradient: the largest of all parameters."""
    weights, inputs, targets = problem()
    keys = jax.random.split(jax.random.key(0), 10_000)
    draw = jax.vmap(lambda key: gradients(weights, inputs, targets, weigh(randomized_truncation(key, STEPS, 0.6))))
    full = gradients(weights, inputs, targets, jnp.ones(STEPS))
    off = []
    for draws, exact in zip(jax.jit(draw)(keys), full, strict=True):
        spread = draws.std(axis=0)
        off.append(abs(draws.mean(axis=0) - exact) / jnp.where(spread > 1e-12, spread / 100, 1))
    return float(max(error.max() for error in off)), [float(x.max()) for x in off]


def test_randomised_truncation_is_unbiased_over_10_000_draws(x64):
    """Of 21 parameters, five standard errors: one seed in 80,000 fails it. W_qh has no way back and is exact."""
    worst, (_, _, of_outputs) = standard_errors_off(lambda factors: factors)
    assert worst < 5
    assert of_outputs < 1e-12


def test_without_the_weights_it_is_biased(x64):
    worst, _ = standard_errors_off(lambda factors: jnp.minimum(factors, 1))
    assert worst > 20


def test_factors():
    np.testing.assert_array_equal(regular_truncation(7, 3), [1, 1, 1, 0, 1, 1, 0])
    np.testing.assert_array_equal(regular_truncation(1, 1), [1])
    factors = randomized_truncation(jax.random.key(1), 20_000, 0.25)
    assert {float(x) for x in jnp.unique(factors[1:])} == {0.0, 4.0}
    assert factors[0] == 1
    assert abs(float(factors.mean()) - 1) < 5 * np.sqrt(3 / 20_000)  # the variance is 1/p - 1
    np.testing.assert_array_equal(randomized_truncation(jax.random.key(1), 5, 1.0), np.ones(5))


def test_the_state_may_be_a_tree_with_integers():
    def step(state, x):
        return {"h": state["h"] * x, "t": state["t"] + 1}, state["t"]

    start = {"h": jnp.ones(2), "t": jnp.int32(0)}
    state, outputs = truncated_scan(step, start, jnp.full(3, 2.0), jnp.array([1.0, 0.0, 1.0]))
    np.testing.assert_array_equal(state["h"], [8, 8])
    np.testing.assert_array_equal(outputs, [0, 1, 2])


def test_errors():
    weights, inputs, _ = problem()
    with pytest.raises(ValueError, match=r"factors: expected floating \[time\], got int32\[6\]"):
        outputs_of(weights, inputs, jnp.ones(STEPS, jnp.int32))
    with pytest.raises(ValueError, match=r"inputs: expected 5 steps, as many as factors; got \[6, 2\]"):
        outputs_of(weights, inputs, jnp.ones(5))
    with pytest.raises(ValueError, match="every: expected at least 1, got 0"):
        regular_truncation(4, 0)
    with pytest.raises(ValueError, match="num_steps: expected at least 1, got 0"):
        regular_truncation(0, 4)
    with pytest.raises(ValueError, match="num_steps: expected at least 1, got 0"):
        randomized_truncation(jax.random.key(0), 0, 0.5)
    with pytest.raises(ValueError, match=r"keep_probability: expected a number in \(0, 1\], got 0"):
        randomized_truncation(jax.random.key(0), 4, 0)
    with pytest.raises(ValueError, match=r"output_gradients: expected shape \[6, 2\] to fit the others, got \[5, 2\]"):
        linear_rnn_gradients(*weights, inputs, jnp.zeros((5, 2)))
    with pytest.raises(ValueError, match=r"W_hh: expected shape \[3, 3\] to fit the others, got \[3, 2\]"):
        linear_rnn_gradients(weights[0], weights[0], weights[2], inputs, jnp.zeros((6, 2)))


def test_an_infinite_state_stays():
    def running_maximum(state, x):
        return jnp.maximum(state, x), state

    got = truncated_scan(running_maximum, -jnp.inf, jnp.arange(3.0), jnp.ones(3))
    want = jax.lax.scan(running_maximum, -jnp.inf, jnp.arange(3.0))
    jax.tree.map(np.testing.assert_array_equal, got, want)
