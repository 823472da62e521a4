"""Bayes' rule with the numbers of the chapter (2.6)."""

import math

import numpy as np
import pytest

from jaxdl.probability import evidence, posterior

HEALTHY_OR_ILL = [0.9985, 0.0015]


def test_two_tests_for_a_rare_disease(x64):
    """2.6: one test, then a second that errs independently."""
    first, second = [0.01, 1.0], [0.03, 0.98]
    assert float(evidence(HEALTHY_OR_ILL, first)) == pytest.approx(0.011485, abs=1e-12)
    after_one = posterior(HEALTHY_OR_ILL, first)
    assert float(after_one[1]) == pytest.approx(0.1306, abs=5e-5)
    both = np.multiply(first, second)
    np.testing.assert_allclose(both, [0.0003, 0.98])
    assert float(evidence(HEALTHY_OR_ILL, both)) == pytest.approx(0.00176955, abs=1e-12)
    after_two = posterior(HEALTHY_OR_ILL, both)
    assert float(after_two[1]) == pytest.approx(0.8307, abs=5e-5)
    np.testing.assert_allclose(posterior(after_one, second), after_two, rtol=1e-12)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: posterior([0.5, 0.6], [1, 1]), "prior: expected a sum of 1"),
        (lambda: posterior([0.5, 0.5], [1]), r"likelihood: expected the shape of prior \[2\], got \[1\]"),
        (lambda: posterior([0.5, 0.5], [1, -1]), "likelihood: expected numbers of at least 0, got -1"),
        (lambda: posterior([1.0, 0.0], [0, 1]), "likelihood: expected data that some hypothesis allows"),
        (lambda: evidence([0.5, 0.5], [1, math.nan]), "likelihood: expected numbers of at least 0, got nan"),
    ],
)
def test_errors(function, message):
    with pytest.raises(ValueError, match=message):
        function()
