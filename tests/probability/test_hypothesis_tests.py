"""Tests of means: SciPy's, and what significance and power promise in simulated experiments."""

import math

import jax
import numpy as np
import pytest
import scipy.stats

from jaxdl.probability import t_test, two_sample_t_test, z_test_power, z_test_sample_size


def test_scipys_t_tests_agree(x64):
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.5, 1, 12), rng.normal(0, 3, 30)
    ours, reference = t_test(x, 0.2), scipy.stats.ttest_1samp(x, 0.2)
    np.testing.assert_allclose(ours, [reference.statistic, reference.pvalue, 11], rtol=1e-10)
    ours, reference = two_sample_t_test(x, y), scipy.stats.ttest_ind(x, y, equal_var=False)
    np.testing.assert_allclose(ours, [reference.statistic, reference.pvalue, reference.df], rtol=1e-10)
    np.testing.assert_allclose(two_sample_t_test(y, x).p_value, ours.p_value, rtol=1e-12)


def test_tests_find_nothing_where_there_is_nothing_and_80_percent_of_what_is_there():
    """Significance 5 %, power 80 %, in 10,000 experiments of the size that was planned."""
    n, effect = z_test_sample_size(0.2), 0.2
    assert n == 197
    noise = jax.random.normal(jax.random.key(0), (10_000, n))
    for shift, rate in ((0.0, 0.05), (effect, z_test_power(effect, n))):
        rejected = float((jax.jit(jax.vmap(t_test))(noise + shift).p_value < 0.05).mean())
        assert rejected == pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / 10_000) + 0.002)


@pytest.mark.parametrize(("effect", "power", "significance"), [(0.5, 0.8, 0.05), (0.2, 0.9, 0.01), (4.0, 0.8, 0.05)])
def test_the_sample_size_is_the_smallest(effect, power, significance):
    n = z_test_sample_size(effect, power=power, significance=significance)
    formula = ((scipy.stats.norm.ppf(1 - significance / 2) + scipy.stats.norm.ppf(power)) / effect) ** 2
    assert n == math.ceil(formula)
    assert z_test_power(effect, n, significance=significance) >= power
    assert n == 1 or z_test_power(effect, n - 1, significance=significance) < power


def test_power_at_no_effect_is_the_significance():
    assert z_test_power(0.0, 7, significance=0.01) == pytest.approx(0.01)
    assert z_test_power(-0.5, 20) == pytest.approx(z_test_power(0.5, 20))
    assert z_test_sample_size(1e-3, power=0.01) == 1  # less than the significance needs no effect
    assert z_test_sample_size(1e-4) == pytest.approx(7.849e8, rel=1e-4)  # (1.959964 + 0.841621)^2 / 1e-8


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: t_test([1.0]), "x: expected at least two samples, got 1"),
        (lambda: t_test([1.0, 2.0], [0.0]), "mean: expected an array of rank 0"),
        (lambda: two_sample_t_test([1.0, 2.0], [1.0]), "y: expected at least two samples, got 1"),
        (lambda: z_test_power(0.5, 0), "num_samples: expected at least 1, got 0"),
        (lambda: z_test_power(0.5, 5, significance=1.0), "significance: expected a number above 0 and below 1"),
        (lambda: z_test_sample_size(0.0), r"effect: expected a positive number, got 0\.0"),
        (lambda: z_test_sample_size(0.5, power=1.0), "power: expected a number above 0 and below 1"),
    ],
)
def test_errors(function, message):
    with pytest.raises(ValueError, match=message):
        function()
