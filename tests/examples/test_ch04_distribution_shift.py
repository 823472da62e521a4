"""Corrected models win where the distribution shifts, wrong weights do not; where nothing shifts none do harm."""

import ch04_distribution_shift as ch04
import numpy as np
import pytest


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    plot = tmp_path_factory.mktemp("shift") / "new/shift.png"
    figures = ch04.main(ch04.Config(num_runs=5, plot=plot))
    assert plot.is_file()
    return figures


def gain(figures, title):
    return figures[f"{title}, corrected"] - figures[f"{title}, uncorrected"]


def test_weights_correct_covariate_shift(figures):
    assert gain(figures, "covariate shift: squared error") < -0.1
    assert figures["covariate shift: squared error, corrected"] < 0.02


def test_weights_correct_label_shift(figures):
    assert gain(figures, "label shift: accuracy") > 0.03
    assert figures["label shift: distance of the estimated prior"] < 0.4  # it is 1.2 from the source's


def test_without_a_shift_they_do_no_harm(figures):
    assert gain(figures, "no covariate shift: squared error") == pytest.approx(0, abs=0.03)
    assert gain(figures, "no label shift: accuracy") == pytest.approx(0, abs=0.02)


def test_the_same_weights_in_another_order_correct_nothing(monkeypatch):
    for name in ("covariate_shift_weights", "label_shift_weights"):
        original = getattr(ch04.training, name)
        monkeypatch.setattr(
            ch04.training, name, lambda *args, f=original: np.random.default_rng(1).permutation(np.asarray(f(*args)))
        )
    errors = [ch04.covariate_run(seed).errors for seed in range(5)]
    assert np.mean([e["corrected"] - e["uncorrected"] for e in errors]) > -0.05
    digits = ch04.load("digits", "train+test")
    accuracies = [ch04.label_run(digits, seed).accuracies for seed in range(5)]
    assert np.mean([a["corrected"] - a["uncorrected"] for a in accuracies]) < 0


def test_no_runs_are_refused():
    with pytest.raises(ValueError, match="num_runs: expected at least 1, got 0"):
        ch04.Config(num_runs=0)
