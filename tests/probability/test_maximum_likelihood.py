"""The chapter's coins (22.7), closed forms against SciPy's fits, and gradient ascent against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from jaxdl.probability import (
    Bernoulli,
    Normal,
    Poisson,
    fit_bernoulli,
    fit_binomial,
    fit_normal,
    fit_poisson,
    fit_uniform,
    maximize_likelihood,
)

HEADS, TAILS = 8_675_309, 256_245


def test_nine_heads_and_four_tails(x64):
    assert float(fit_bernoulli([1] * 9 + [0] * 4).p) == pytest.approx(9 / 13, abs=1e-15)
    assert float(fit_bernoulli([1, 0], [9, 4]).p) == pytest.approx(9 / 13, abs=1e-15)
    theta, history = maximize_likelihood(
        lambda theta: 9 * jnp.log(theta) + 4 * jnp.log(1 - theta), 0.5, optax.sgd(0.01), steps=200
    )
    assert float(theta) == pytest.approx(9 / 13, abs=1e-9)
    assert (np.diff(history) >= -1e-12).all()


def test_a_million_coins_as_the_book_does(x64):
    """Learning rate 1e-9, 100 steps from 0.5: .97131."""

    def log_likelihood(theta):
        return HEADS * Bernoulli(theta).log_prob(1) + TAILS * Bernoulli(theta).log_prob(0)

    theta, history = maximize_likelihood(log_likelihood, 0.5, optax.sgd(1e-9), steps=100)
    assert float(theta) == pytest.approx(0.97131, abs=5e-6)
    assert float(theta) == pytest.approx(float(fit_bernoulli([1, 0], [HEADS, TAILS]).p), abs=1e-8)
    assert history.shape == (100,)
    still, _ = maximize_likelihood(lambda theta: 0 * log_likelihood(theta), 0.5, optax.sgd(1e-9), steps=100)
    assert float(still) == 0.5


def test_scipys_fits_agree(x64):
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, 50)
    normal = fit_normal(x)
    np.testing.assert_allclose([normal.loc, normal.scale], scipy.stats.norm.fit(x), rtol=1e-12)
    uniform = fit_uniform(x)
    np.testing.assert_allclose([uniform.low, uniform.high - uniform.low], scipy.stats.uniform.fit(x), rtol=1e-12)
    for counts, fitted, reference, bounds in (
        (rng.poisson(4, 50), lambda x: fit_poisson(x).rate, scipy.stats.poisson, {"mu": (0, 20)}),
        (rng.binomial(7, 0.3, 50), lambda x: fit_binomial(x, 7).p, scipy.stats.binom, {"n": (7, 7), "p": (0, 1)}),
    ):
        found = scipy.stats.fit(reference, counts, bounds).params
        assert float(fitted(counts)) == pytest.approx(found[-2], abs=1e-3)  # their search stops early; loc is last


def test_gradient_ascent_finds_the_closed_forms(x64):
    """With parameters as a pytree, through the unconstrained logarithm of the scale; any optimiser of Optax."""
    x = jnp.asarray(np.random.default_rng(1).normal(3, 2, 100))

    def log_likelihood(params):
        return Normal(params["loc"], jnp.exp(params["log_scale"])).log_prob(x).sum()

    start = {"loc": 0.0, "log_scale": 0.0}
    found, _ = maximize_likelihood(log_likelihood, start, optax.adam(0.05), steps=1500)
    closed = fit_normal(x)
    np.testing.assert_allclose([found["loc"], jnp.exp(found["log_scale"])], [closed.loc, closed.scale], rtol=1e-6)


def test_no_neighbour_is_more_likely(x64):
    x = np.random.default_rng(2).poisson(4, 30)
    rate = fit_poisson(x).rate
    best = float(Poisson(rate).log_prob(x).sum())
    for factor in (0.99, 1.01):
        assert float(Poisson(rate * factor).log_prob(x).sum()) < best


def test_weights_repeat_samples(x64):
    x, weights = [1.0, 2.0, 4.0], [2, 0, 3]
    repeated, weighted = fit_normal(np.repeat(x, weights)), fit_normal(x, weights)
    np.testing.assert_allclose([weighted.loc, weighted.scale], [repeated.loc, repeated.scale], rtol=1e-12)
    assert float(fit_poisson([1, 4], [3, 1]).rate) == pytest.approx(7 / 4)
    assert float(fit_binomial([1, 4], 4, [3, 1]).p) == pytest.approx(7 / 16)


def test_inside_jit():
    rate = jax.jit(lambda x: fit_poisson(x).rate)(jnp.array([1.0, 4.0]))
    assert float(rate) == 2.5


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: fit_bernoulli([]), "x: expected at least one sample, got none"),
        (lambda: fit_bernoulli([0, 2]), r"x: expected 0 or 1, got 2\.0"),
        (lambda: fit_bernoulli([[0, 1]]), r"x: expected an array of rank 1, got shape \[1, 2\]"),
        (lambda: fit_bernoulli([0, 1], [1]), r"weights: expected the shape of x \[2\], got \[1\]"),
        (lambda: fit_bernoulli([0, 1], [0, 0]), "weights: expected numbers of at least 0, not all 0"),
        (lambda: fit_bernoulli([0, 1], [-1, 2]), "weights: expected numbers of at least 0"),
        (lambda: fit_poisson([1.5]), r"x: expected counts, got 1\.5"),
        (lambda: fit_binomial([3], 2), "x: expected integers from 0 to 2, got 3"),
        (lambda: fit_binomial([0], 0), "n: expected at least 1 trial, got 0"),
        (lambda: fit_normal([2.0, 2.0]), "scale: expected a positive number"),
        (lambda: fit_uniform([2.0]), "high: expected more than low"),
        (lambda: maximize_likelihood(jnp.log, 0.5, optax.sgd(1.0), steps=0), "steps: expected at least 1, got 0"),
    ],
)
def test_errors(function, message):
    with pytest.raises(ValueError, match=message):
        function()
