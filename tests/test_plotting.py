"""Pictures show the numbers that they were given, and say what they are."""

import sys

import numpy as np
import pytest

from jaxdl.plotting import figure, images, lines, training_curves
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


def test_lines_are_the_series(tmp_path):
    picture = lines([1, 2, 4], {"a": [1, 2, 3], "b": [3.0, 2.0, 1.0]}, tmp_path / "p.png", xlabel="x", yscale="log")
    (axes,) = picture.axes
    assert {line.get_label(): list(line.get_ydata()) for line in axes.lines} == {"a": [1, 2, 3], "b": [3, 2, 1]}
    assert (axes.get_xlabel(), axes.get_xscale(), axes.get_yscale()) == ("x", "linear", "log")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_lines_in_a_panel_of_a_larger_figure():
    left, right = figure(6, 3).subplots(1, 2)
    assert lines([0, 1], {"": [1, 2]}, axes=right) is right.figure
    assert not left.lines
    assert right.get_legend() is None  # one curve without a name needs none


@pytest.mark.parametrize(
    ("x", "series", "message"),
    [
        ([1, 2], {}, "series: expected at least one curve, got none"),
        ([1, 2], {"a": [1, 2, 3]}, r"series: expected 'a' and x of one length, got \[3\] and \[2\]"),
        ([[1, 2]], {"a": [[1, 2]]}, "series: expected 'a' and x of one length"),
    ],
)
def test_lines_refuse(x, series, message):
    with pytest.raises(ValueError, match=message):
        lines(x, series)


def test_images_in_rows(tmp_path):
    pictures = np.random.default_rng(0).random((5, 4, 6, 1))
    grid = images(pictures, [f"no. {i}" for i in range(5)], tmp_path / "p.png", columns=3, title="five")
    shown = [axes for axes in grid.axes if axes.images]
    assert len(grid.axes) == 6  # two rows of three, the last one empty
    assert [axes.get_title() for axes in shown] == [f"no. {i}" for i in range(5)]
    np.testing.assert_array_equal(shown[4].images[0].get_array(), pictures[4, :, :, 0])
    assert grid.get_suptitle() == "five"
    assert images(np.zeros((2, 4, 6, 3))).axes[0].images[0].get_array().shape == (4, 6, 3)
    assert len(images(np.zeros((1, 4, 6))).axes) == 1


@pytest.mark.parametrize(
    ("shape", "titles", "message"),
    [
        ((0, 4, 4), [], r"images: expected \[images, height, width, 1 or 3\], got \[0, 4, 4\]"),
        ((2, 4, 4, 2), [], "images: expected"),
        ((4, 4), [], "images: expected"),
        ((2, 4, 4), ["one"], "titles: expected one for each of 2 images, got 1"),
    ],
)
def test_images_refuse(shape, titles, message):
    with pytest.raises(ValueError, match=message):
        images(np.zeros(shape), titles)
