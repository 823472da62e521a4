"""The learning curve says what the rows say."""

import sys

import pytest

from jaxdl.plotting import training_curves
from jaxdl.training import History

ROWS = [
    {"epoch": 1.0, "train_loss": 1.0},
    {"epoch": 2.0, "train_loss": 0.5, "eval_loss": 0.7, "eval_accuracy": 0.9},
    {"epoch": 3.0, "train_loss": 0.25, "eval_loss": 0.6, "eval_accuracy": 0.95},
]


def test_a_panel_a_metric_with_its_curves(tmp_path):
    figure = History(ROWS).plot(tmp_path / "curve.png", title="digits")
    loss, accuracy = figure.axes
    curves = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in loss.lines}
    assert curves == {"train": ([1, 2, 3], [1.0, 0.5, 0.25]), "eval": ([2, 3], [0.7, 0.6])}
    assert [line.get_label() for line in accuracy.lines] == ["eval"]
    assert (loss.get_ylabel(), loss.get_xlabel(), figure.get_suptitle()) == ("loss", "epoch", "digits")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw_is_said():
    with pytest.raises(ValueError, match=r"expected train_\* or eval_\* columns"):
        training_curves([{"epoch": 1.0}])


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxdl\[examples\]'"):
        training_curves(ROWS)
