"""Sample sizes and intervals: the book's numbers, scipy, and how often an interval holds the truth."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from jaxdl.training import accuracy_interval, hoeffding_sample_size


def test_the_books_sample_sizes():
    """D2L 4.6: about 15,000 for 0.01 at 95 %; 2,500 for 0.01 at one standard deviation, 10,000 at two."""
    assert hoeffding_sample_size(0.01, 0.95) == 14_979
    for num_examples, deviations in ((2_500, 1), (10_000, 2)):
        low, high = accuracy_interval(0.5, num_examples, math.erf(deviations / math.sqrt(2)))
        assert (0.5 - low, high - 0.5) == pytest.approx((0.01, 0.01), abs=1e-5)


def test_the_sample_size_is_the_smallest():
    for error, confidence in ((0.05, 0.9), (0.2, 0.5), (2.0, 0.01)):
        size = hoeffding_sample_size(error, confidence)
        assert math.exp(-2 * size * error**2) <= 1 - confidence < math.exp(-2 * (size - 1) * error**2)


@pytest.mark.parametrize(("right", "examples"), [(0, 1), (1, 1), (0, 50), (50, 50), (345, 360), (7, 20)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_interval_is_scipys(right, examples, confidence):
    want = binomtest(right, examples).proportion_ci(confidence, method="wilson")
    assert accuracy_interval(right / examples, examples, confidence) == pytest.approx((want.low, want.high), abs=1e-12)


def test_nine_of_ten_intervals_hold_the_true_accuracy():
    drawn = np.random.default_rng(0).binomial(200, 0.9, 2_000) / 200
    intervals = [accuracy_interval(accuracy, 200, 0.9) for accuracy in drawn]
    assert np.mean([low <= 0.9 <= high for low, high in intervals]) == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hoeffding_sample_size(0.0), "error: expected a positive number, got 0.0"),
        (lambda: hoeffding_sample_size(0.1, 1.0), "confidence: expected a number above 0 and below 1, got 1.0"),
        (lambda: accuracy_interval(1.1, 5), r"accuracy: expected a share in \[0, 1\], got 1.1"),
        (lambda: accuracy_interval(math.nan, 5), "accuracy: expected a share"),
        (lambda: accuracy_interval(0.5, 0), "num_examples: expected at least 1, got 0"),
        (lambda: accuracy_interval(0.5, 5, 0.0), "confidence: expected a number above 0 and below 1, got 0.0"),
    ],
)
def test_out_of_range_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
