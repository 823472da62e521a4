"""Rates of convergence, against theory."""

import ch12_convergence as example
import numpy as np
import pytest

CONFIG = example.Config(num_runs=1000, num_steps=200)


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "new" / "c.png"
    figures = example.main(example.Config(CONFIG.num_runs, CONFIG.num_steps, plot=path))
    assert path.stat().st_size > 50_000
    return figures


@pytest.mark.parametrize("condition", example.CONDITIONS)
def test_rates_of_convergence(figures, condition):
    """Gradient descent is exact; the fit leaves 1 % of momentum's logarithm to its terms of lower order."""
    expected = (condition - 1) / (condition + 1)
    assert figures[f"gradient descent/{condition:.0f}"] == pytest.approx(expected, rel=1e-6)
    expected = (np.sqrt(condition) - 1) / (np.sqrt(condition) + 1)
    assert np.log(figures[f"momentum/{condition:.0f}"]) == pytest.approx(np.log(expected), rel=0.01)


def test_stochastic_descent(figures):
    """4 standard errors: a mean of squares of n Gaussian numbers has relative variance 2 / n."""
    tolerance = 4 * np.sqrt(2 / CONFIG.num_runs)
    for name, schedule in example.STEPS.items():
        expected = example.expected_errors(schedule, CONFIG.num_steps)[-1]
        assert figures[f"sgd/{name}"] == pytest.approx(expected, rel=tolerance), name
    assert figures["sgd/1 / (t + 1)"] == pytest.approx(1 / CONFIG.num_steps, rel=tolerance)
    floor = 0.2**2 / (1 - 0.8**2)  # rate / (2 - rate)
    assert figures["sgd/0.2"] == pytest.approx(floor, rel=tolerance)


def test_too_short_runs_are_refused():
    with pytest.raises(ValueError, match="num_steps: expected at least 40, got 39"):
        example.Config(num_steps=39)
