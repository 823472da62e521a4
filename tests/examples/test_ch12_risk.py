"""Both risks against theory, the minima against a root finder, and what noise and a saddle do to a path."""

import ch12_risk as example
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import root_scalar
from scipy.stats import norm

NUM_SAMPLES = 500


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "new" / "r.png"
    figures = example.main(example.Config(num_samples=NUM_SAMPLES, num_steps=100, plot=path))
    assert path.stat().st_size > 50_000
    return figures


@pytest.mark.parametrize("w", [-0.8, 0.0, 1.3])
def test_the_risk_is_the_mean_loss(w):
    mean, _ = quad(lambda z: float(example.loss(w, z)) * norm.pdf(z), -8, 8, epsabs=1e-5)
    assert float(example.risk(w)) == pytest.approx(mean, abs=1e-4)


def test_minima_are_those_of_a_root_finder(figures):
    """The slope cos(a) - a sin(a), a = pi w, is 0."""
    roots = [root_scalar(lambda a: np.cos(a) - a * np.sin(a), bracket=b).root / np.pi for b in ((0.1, 1.5), (3.2, 4.5))]
    assert pytest.approx([roots[0], -roots[0], roots[1]], abs=1e-6) == [example.BETWEEN, example.POOR, example.BEST]
    assert figures["poor"] == pytest.approx(example.POOR, abs=1e-4)
    assert figures["best"] == pytest.approx(example.BEST, abs=1e-4)
    assert figures["share/poor"] == pytest.approx((roots[0] + 1) / 3, abs=1 / 301)  # all starts left of the maximum


def test_risks_part_by_theory(figures):
    """Of 1,000 examples, where theory is exact to a few hundredths; 4 standard errors of squares, 2 / samples."""
    tolerance = 0.03 + 4 * np.sqrt(2 / NUM_SAMPLES)
    for name in ("lower", "higher"):
        assert figures[f"{name}/1000"] == pytest.approx(example.risk_gap(1000), rel=tolerance)
        assert figures[f"{name}/10"] > 50 * figures[f"{name}/1000"]


def test_noise_leaves_the_poor_minimum(figures):
    assert figures["left/64"] == 0
    assert figures["left/4"] > figures["left/8"] > figures["left/16"]
    assert figures["left/4"] > figures["left/1"]


def test_the_saddle(figures):
    """After t steps x = 0.8^t and y = 0.0001 * 1.2^t."""
    assert (figures["saddle/least"], figures["saddle/greatest"]) == (-2, 2)
    t = np.arange(51)
    slopes = 2 * np.hypot(0.8**t, 1e-4 * 1.2**t)
    assert figures["saddle/step"] == slopes.argmin()
    assert figures["saddle/slope"] == pytest.approx(slopes.min(), rel=1e-4)


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="num_samples: expected at least 2, got 1"):
        example.Config(num_samples=1)
