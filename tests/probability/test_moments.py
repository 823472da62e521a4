"""Moments of tables: the numbers of 2.6 and 22.6, and NumPy's of weighted samples."""

import math

import numpy as np
import pytest

from jaxdl.probability import chebyshev_bound, correlation, covariance, expectation, variance


def test_an_investment(x64):
    """2.6: returns, and what they are worth to someone who must not lose all."""
    p = [0.5, 0.4, 0.1]
    assert float(expectation([0, 2, 10], p)) == pytest.approx(1.8, abs=1e-12)
    assert float(variance([0, 2, 10], p)) == pytest.approx(8.36, abs=1e-12)
    assert float(expectation([-1, 2, 4], p)) == pytest.approx(0.7, abs=1e-12)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_four_points(x64, p):
    """22.6: X in {-1, 1}, Y in {-2, 2}, equal signs with probability p."""
    joint = [[p / 2, (1 - p) / 2], [(1 - p) / 2, p / 2]]
    assert float(covariance([-1, 1], [-2, 2], joint)) == pytest.approx(4 * p - 2, abs=1e-12)
    assert float(correlation([-1, 1], [-2, 2], joint)) == pytest.approx(2 * p - 1, abs=1e-12)


def test_numpys_moments_of_weighted_samples_agree(x64):
    rng = np.random.default_rng(0)
    x, y, counts = rng.normal(size=3), rng.normal(size=4), rng.integers(1, 5, (3, 4))
    samples = np.cov(
        *np.repeat(np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2), counts.ravel(), 0).T, ddof=0
    )
    joint = counts / counts.sum()
    assert float(covariance(x, y, joint)) == pytest.approx(samples[0, 1], abs=1e-12)
    assert float(variance(x, joint.sum(1))) == pytest.approx(samples[0, 0], abs=1e-12)
    expected = samples[0, 1] / math.sqrt(samples[0, 0] * samples[1, 1])
    assert float(correlation(x, y, joint)) == pytest.approx(expected, abs=1e-12)


def test_chebyshev_is_kept_and_met():
    """22.6: {a - 2, a, a + 2} with probabilities p, 1 - 2 p, p; at p = 1/8 two deviations are met exactly."""
    assert chebyshev_bound(4) == 1 / 16
    assert chebyshev_bound(0.5) == 1
    for p in (1 / 8, 0.3):
        deviation = math.sqrt(float(variance([-2, 0, 2], [p, 1 - 2 * p, p])))
        assert deviation == pytest.approx(math.sqrt(8 * p))
        assert 2 * p <= chebyshev_bound(2 / deviation) + 1e-12
    assert chebyshev_bound(2 / math.sqrt(8 / 8)) == 2 / 8


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: expectation([1, 2], [1.0]), r"values: expected the shape of p \[1\], got \[2\]"),
        (lambda: variance([1, 2], [0.5, 0.4]), "p: expected a sum of 1"),
        (lambda: covariance([1], [1, 2], [[0.5], [0.5]]), r"joint: expected shape \[1, 2\], got \[2, 1\]"),
        (lambda: chebyshev_bound(0), "num_deviations: expected a positive number, got 0"),
    ],
)
def test_errors(function, message):
    with pytest.raises(ValueError, match=message):
        function()
