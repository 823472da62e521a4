"""The record of a run."""

import csv
import json
import math

import pytest

from jaxdl.training import EarlyStopping, History
from jaxdl.training.history import format_figure

ROWS = [
    {"epoch": 0.5, "step": 5, "train_loss": 2.0},
    {"epoch": 1.0, "step": 10, "train_loss": 1.0, "eval_loss": 1.5, "eval_accuracy": 0.5},
    {"epoch": 2.0, "step": 20, "train_loss": 0.5, "eval_loss": math.nan, "eval_accuracy": 0.75},
]


def test_columns_skip_the_rows_that_lack_them():
    history = History(ROWS)
    assert history["eval_accuracy"] == [0.5, 0.75]
    assert history.columns == ["epoch", "step", "train_loss", "eval_loss", "eval_accuracy"]
    with pytest.raises(KeyError, match="no column 'loss' in the history; it has epoch, step"):
        history["loss"]
    with pytest.raises(KeyError, match="no rows yet"):
        History()["loss"]


def test_best_is_the_first_and_never_nan():
    assert History(ROWS).best("eval_loss", "min")["step"] == 10
    assert History(ROWS).best("eval_accuracy", "max")["step"] == 20
    assert History([*ROWS, ROWS[-1] | {"step": 30}]).best("eval_accuracy", "max")["step"] == 20


def test_files_hold_what_the_history_holds(tmp_path):
    history = History(ROWS)
    history.to_csv(tmp_path / "h.csv")
    history.to_json(tmp_path / "h.json")
    with open(tmp_path / "h.csv", newline="") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    assert str(rows) == str([{k: float(v) for k, v in row.items()} for row in ROWS])
    assert str(json.loads((tmp_path / "h.json").read_text())) == str(ROWS)


def test_the_table_is_aligned():
    lines = History(ROWS).table().splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split() == ["0.5", "5", "2"]
    assert History().table() == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12.0, "12"),
        (0.98611, "0.9861"),
        (3.2e-5, "3.2e-05"),
        (12345.6, "12,346"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_figures_read_well(value, text):
    assert format_figure(value) == text


def test_a_mode_is_min_or_max():
    with pytest.raises(ValueError, match="mode: expected 'min' or 'max', got 'maximum'"):
        History([{"a": 1.0}]).best("a", "maximum")
    with pytest.raises(ValueError, match="mode: expected 'min' or 'max', got 'maximum'"):
        EarlyStopping("eval_accuracy", mode="maximum")
