"""Errors of estimators and confidence intervals: SciPy's, the book's, and how often they are right."""

import math

import jax
import numpy as np
import pytest
import scipy.stats

from jaxdl.probability import confidence_interval, estimator_error


def test_error_is_bias_and_variance(x64):
    estimates = np.random.default_rng(0).normal(3, 2, 50)
    error = estimator_error(estimates, 1.0)
    assert float(error.mean_squared_error) == pytest.approx(float(error.bias) ** 2 + float(error.variance), rel=1e-12)
    np.testing.assert_allclose(error, [((estimates - 1) ** 2).mean(), estimates.mean() - 1, estimates.var()])


@pytest.mark.parametrize("confidence", [0.5, 0.95])
@pytest.mark.parametrize("n", [2, 30])
def test_scipys_confidence_intervals_agree(x64, confidence, n):
    x = np.random.default_rng(n).normal(3, 2, n)
    error = scipy.stats.sem(x)
    expected = scipy.stats.t.interval(confidence, n - 1, x.mean(), error)
    np.testing.assert_allclose(confidence_interval(x, confidence), expected, rtol=1e-12)
    expected = scipy.stats.norm.interval(confidence, x.mean(), error)
    np.testing.assert_allclose(confidence_interval(x, confidence, quantile="normal"), expected, rtol=1e-12)


def test_the_books_interval(x64):
    x = np.random.default_rng(1).normal(size=100)
    low, high = confidence_interval(x, quantile="normal")
    radius = 1.96 * x.std(ddof=1) / 10
    np.testing.assert_allclose([low, high], [x.mean() - radius, x.mean() + radius], rtol=1e-4)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Ten thousand data sets of five: Student's at 95 %, the normal quantile at what SciPy computes (88 %)."""
    x = jax.random.normal(jax.random.key(0), (10_000, 5))
    share = {}
    for quantile in ("t", "normal"):
        low, high = jax.jit(jax.vmap(lambda x, q=quantile: confidence_interval(x, quantile=q)))(x)
        share[quantile] = float(((low <= 0) & (high >= 0)).mean())
    expected = {"t": 0.95, "normal": 2 * scipy.stats.t.cdf(1.96, 4) - 1}
    for quantile, value in expected.items():
        assert share[quantile] == pytest.approx(value, abs=4 * math.sqrt(value * (1 - value) / 10_000))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: estimator_error([], 0.0), "estimates: expected at least one, got none"),
        (lambda: estimator_error([1.0], [0.0]), "truth: expected an array of rank 0"),
        (lambda: confidence_interval([1.0]), "x: expected at least two samples, got 1"),
        (lambda: confidence_interval([1.0, 2.0], 95), "confidence: expected a number above 0 and below 1, got 95"),
        (lambda: confidence_interval([1.0, 2.0], quantile="z"), "quantile: expected 't' or 'normal', got 'z'"),
    ],
)
def test_errors(function, message):
    with pytest.raises(ValueError, match=message):
        function()
