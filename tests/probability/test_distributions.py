"""Distributions against SciPy in float64, and samples against their own distribution."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxdl.probability import (
    Bernoulli,
    Binomial,
    DiscreteUniform,
    Normal,
    Poisson,
    Uniform,
)

# Ours, SciPy's, and where to compare them: in the support, at its ends, beyond and between.
CASES = {
    "Bernoulli": (Bernoulli(0.3), scipy.stats.bernoulli(0.3)),
    "Bernoulli, certain": (Bernoulli(1.0), scipy.stats.bernoulli(1.0)),
    "DiscreteUniform": (DiscreteUniform(1, 5), scipy.stats.randint(1, 6)),
    "DiscreteUniform, two values": (DiscreteUniform(-2, -1), scipy.stats.randint(-2, 0)),
    "Uniform": (Uniform(1.0, 3.0), scipy.stats.uniform(1, 2)),
    "Binomial": (Binomial(10, 0.2), scipy.stats.binom(10, 0.2)),
    "Binomial, one trial": (Binomial(1, 0.2), scipy.stats.binom(1, 0.2)),
    "Binomial, hopeless": (Binomial(3, 0.0), scipy.stats.binom(3, 0.0)),
    "Poisson": (Poisson(5.0), scipy.stats.poisson(5)),
    "Poisson, nothing": (Poisson(0.0), scipy.stats.poisson(0)),
    "Normal": (Normal(1.0, 2.0), scipy.stats.norm(1, 2)),
}
POINTS = np.array([-3, -2, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 5, 6, 9.5, 10, 11, 12])
cases = pytest.mark.parametrize(("ours", "reference"), CASES.values(), ids=CASES)


def everything(distribution, x):
    """In one compilation."""

    def evaluate(x):
        moments = distribution.mean, distribution.variance, distribution.std
        return distribution.prob(x), distribution.log_prob(x), distribution.cdf(x), moments

    return jax.jit(evaluate)(x)


@cases
def test_scipy_agrees(x64, ours, reference):
    mass = reference.pmf(POINTS) if ours.discrete else reference.pdf(POINTS)
    prob, log_prob, cdf, moments = everything(ours, POINTS)
    np.testing.assert_allclose(prob, mass, rtol=1e-12, atol=1e-15)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(log_prob, np.log(mass), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(cdf, reference.cdf(POINTS), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(moments, [reference.mean(), reference.var(), reference.std()], rtol=1e-12)


@cases
def test_samples_follow_the_distribution(ours, reference):
    """Kolmogorov's distance of 2,000 samples: above 1.95 / sqrt(2000) once in a thousand times."""
    samples = np.asarray(ours.sample(jax.random.key(0), (40, 50))).ravel()
    assert samples.dtype == np.float32
    points = np.unique(samples)
    empirical = np.searchsorted(np.sort(samples), points, side="right") / len(samples)
    assert np.abs(empirical - reference.cdf(points)).max() < 1.95 / math.sqrt(2000) + 1e-6
    assert abs(samples.mean() - reference.mean()) <= 4 * reference.std() / math.sqrt(2000)


@cases
def test_float32_and_single_values(ours, reference):
    results = jax.eval_shape(lambda: (everything(ours, 1), ours.sample(jax.random.key(1))))
    assert len(jax.tree.leaves(results)) == 7
    for result in jax.tree.leaves(results):
        assert result.shape == ()
        assert result.dtype == jnp.float32


@cases
def test_infinity_and_nan(ours, reference):
    prob, log_prob, cdf, _ = everything(ours, jnp.array([math.inf, -math.inf, math.nan]))
    np.testing.assert_array_equal(prob, [0, 0, math.nan])
    np.testing.assert_array_equal(log_prob, [-math.inf, -math.inf, math.nan])
    np.testing.assert_array_equal(cdf, [1, 0, math.nan])


def test_total_probability(x64):
    for distribution in (Binomial(10, 0.2), DiscreteUniform(0, 10), Bernoulli(0.2), Poisson(1.0)):
        assert float(distribution.prob(np.arange(60)).sum()) == pytest.approx(1, abs=1e-12)


def test_parameters_may_be_traced():
    """Gradients by hand: `d log p / d rate = k / rate - 1`; many distributions by vmap; compiled."""
    assert float(jax.grad(lambda rate: Poisson(rate).log_prob(3))(5.0)) == pytest.approx(3 / 5 - 1)
    assert float(jax.grad(lambda scale: Normal(0.0, scale).log_prob(2.0))(1.0)) == pytest.approx(3)
    rates = jnp.array([1.0, 2.0])
    many = jax.jit(jax.vmap(lambda rate, k: Poisson(rate).prob(k)))(rates, jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(many, [math.exp(-1), 2 * math.exp(-2)], rtol=1e-6)


def test_a_binomial_becomes_poisson_and_normal(x64):
    """22.8.5 and 22.8.6: for many trials of small, or of any, probability."""
    k = np.arange(20)
    distance = [np.abs(Binomial(n, 5 / n).prob(k) - Poisson(5.0).prob(k)).max() for n in (10, 100, 1000)]
    assert distance[0] > 5 * distance[1] > 25 * distance[2]
    binomial = Binomial(1000, 0.2)
    z = np.linspace(-3, 3, 13)
    shift = 0.5  # in the middle between two integers, where a step has half its height
    cdf = binomial.cdf(np.floor(z * binomial.std + binomial.mean)), Normal().cdf(z)
    np.testing.assert_allclose(*cdf, atol=shift * float(Normal().prob(0)) / float(binomial.std) + 0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bernoulli(1.5), r"p: expected a finite number in \[0, 1\], got 1\.5"),
        (lambda: Bernoulli(math.nan), "got nan"),
        (lambda: Bernoulli([0.5, 0.5]), r"p: expected a scalar, got shape \[2\]"),
        (lambda: DiscreteUniform(3, 2), "high: expected at least low = 3, got 2"),
        (lambda: Uniform(1.0, 1.0), r"high: expected more than low = 1\.0, got 1\.0"),
        (lambda: Uniform(0.0, math.inf), "high: expected a finite number"),
        (lambda: Binomial(0, 0.5), "n: expected at least 1 trial, got 0"),
        (lambda: Binomial(2, -0.5), "p: expected a finite number"),
        (lambda: Poisson(-1.0), r"rate: expected a finite number in \[0, inf\], got -1\.0"),
        (lambda: Normal(0.0, 0.0), r"scale: expected a positive number, got 0\.0"),
        (lambda: Normal(math.inf, 1.0), "loc: expected a finite number"),
    ],
)
def test_wrong_parameters_fail_at_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()
