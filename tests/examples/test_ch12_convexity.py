"""What convexity promises, against algebra."""

import ch12_convexity as example
import jax
import numpy as np
import pytest
from scipy.optimize import minimize

CONFIG = example.Config(num_points=5000)


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "new" / "c.png"
    figures = example.main(example.Config(CONFIG.num_points, plot=path))
    assert path.stat().st_size > 50_000
    return figures


def test_jensen_and_the_second_order_test(figures):
    assert figures["jensen/x^2"] == pytest.approx(1, abs=1e-9)
    assert figures["jensen/exp x"] == pytest.approx(np.exp(0.5) - 1, rel=1e-9)
    assert figures["jensen/cos x"] == pytest.approx(np.exp(-0.5) - 1, rel=1e-9)
    assert figures["curvature/x^2 + y^2 / 2"] == pytest.approx(1)
    assert figures["curvature/log(e^x + e^y)"] == pytest.approx(0, abs=1e-6)
    assert figures["curvature/x^2 - y^2"] == pytest.approx(-2)
    assert figures["curvature/cos(pi x) + y^2"] == pytest.approx(-(np.pi**2), rel=1e-5)


def test_the_constrained_problem_is_scipys(figures):
    """And its multiplier is half of the unconstrained violation, 1.2 + 0.9 - 1."""
    target = np.asarray(example.TARGET)
    solution = minimize(
        lambda x: np.sum((x - target) ** 2) / 2,
        np.zeros(2),
        constraints={"type": "ineq", "fun": lambda x: 1 - x.sum()},
        tol=1e-12,
    ).x
    np.testing.assert_allclose(solution, [0.65, 0.35], atol=1e-6)
    assert figures["projection/x"] == pytest.approx(0.65, abs=1e-6)
    assert figures["projection/y"] == pytest.approx(0.35, abs=1e-6)
    assert figures["lagrangian/x"] == pytest.approx(0.65, abs=1e-6)
    assert figures["lagrangian/multiplier"] == pytest.approx(0.55, abs=1e-6)


def test_penalties_by_hand(figures):
    """x + y - 1 = 1.1 / (1 + 2 weight), so that weight times it tends to the multiplier 0.55."""
    with jax.enable_x64(True):
        for weight in (1.0, 100.0):
            assert float(example.by_penalty(weight).sum()) - 1 == pytest.approx(1.1 / (1 + 2 * weight), rel=1e-6)
    assert figures["penalty/multiplier"] == pytest.approx(0.55, rel=1e-3)
    assert figures["penalty/slope"] == pytest.approx(-1, abs=0.01)


def test_segments_leave_what_is_not_convex(figures):
    """Segments between two discs that touch, and above a graph that bends down somewhere."""
    for name in ("a disc", "a disc and a half-plane", "above x^2"):
        assert figures[f"left/{name}"] == 0, name
    for name in ("two discs", "above cos(pi x)"):
        assert figures[f"left/{name}"] > 0.01, name


def test_clipping_is_a_projection(figures):
    """To the rounding of one division and one product."""
    assert 0 < figures["clipped"] < 1
    assert figures["clipping - projection"] < 4 * np.finfo(np.float32).eps


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="num_points: expected at least 1000, got 999"):
        example.Config(num_points=999)
