"""Where the paths end, and that both pictures are drawn."""

import ch12_trajectories as example
import numpy as np
import pytest


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "new" / "paths.png"
    figures = example.main(example.Config(plot=path))
    assert path.stat().st_size > 50_000
    assert path.with_name("paths_one_variable.png").stat().st_size > 20_000
    return figures


def test_the_values_of_the_checklist(figures):
    """In float32: f at the ends of D2L 12.6 to 12.8, and the ends of 12.3."""
    for name, (x, y) in {
        "gradient descent, rate 0.4": (-0.943467, -0.000073),
        "gradient descent, rate 0.6": (-0.387814, -1673.365109),
        "momentum 0.6, beta 0.5": (0.007188, 0.002553),
        "momentum 0.6, beta 0.25": (-0.126340, -0.186632),
        "AdaGrad 0.4": (-2.382563, -0.158591),
        "RMSProp 0.4": (-0.010599, 0.0),
    }.items():
        assert figures[name] == pytest.approx(0.1 * x**2 + 2 * y**2, rel=2e-4), name
    assert figures["Newton, rate 1"] < 1e-10
    assert figures["cosh(0.5 x), Newton"] == pytest.approx(0, abs=1e-6)
    assert figures["x cos(0.15 pi x), Newton, rate 1"] == pytest.approx(26.834133, rel=1e-6)
    assert figures["x cos(0.15 pi x), Newton, rate 0.5"] == pytest.approx(7.269860, rel=1e-6)
    assert figures["x^2, rate 0.2"] == pytest.approx(0.060466, abs=1e-6)
    assert figures["x^2, rate 0.05"] == pytest.approx(3.486784, abs=1e-5)
    assert figures["x^2, rate 1.1"] == pytest.approx(61.917364, rel=1e-5)
    assert figures["x cos(0.15 pi x), rate 2"] == pytest.approx(-1.528166, abs=1e-5)


def test_what_stops_gradient_descent(figures):
    """D2L 12.1: a slope of 0.0013, and a point of no slope and no curvature."""
    assert figures["tanh'(4)"] == pytest.approx(1 / np.cosh(4) ** 2, rel=1e-3)
    assert round(figures["tanh'(4)"], 4) == 0.0013
    assert 3.98 < figures["tanh, rate 1"] < 4
    assert 0 < figures["x^3, rate 0.1"] < 0.5


def test_line_search_goes_at_the_rate_of_steepest_descent(figures):
    """`g g / (g H g)`, in float64."""
    x, hessian = np.array(example.START), np.diag([0.2, 4.0])
    for _ in range(example.Config().num_steps):
        g = hessian @ x
        x = x - g @ g / (g @ hessian @ g) * g
    assert figures["gradient descent, line search"] == pytest.approx(x @ hessian @ x / 2, rel=1e-3)


def test_every_method_goes_downhill(figures):
    start = example.ravine(np.array(example.START))
    for name in example.METHODS:
        assert (figures[name] < start) == (name != "gradient descent, rate 0.6"), name


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="num_steps: expected at least 1, got 0"):
        example.Config(num_steps=0)
