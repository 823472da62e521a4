"""Pictures show the numbers that they were given, and say what they are."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.plotting import attention_heatmaps, figure, images, lines, training_curves
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
    with pytest.raises(ImportError, match=r"pip install -e '\.\[examples\]'"):
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


def maps_of(grid):
    """The panels of a grid, without its colour bar."""
    return [axes for axes in grid.axes if axes.get_label() != "<colorbar>"]


def test_attention_heatmaps_are_the_weights(tmp_path):
    weights = np.random.default_rng(0).dirichlet(np.ones(4), (2, 3, 5))  # [rows, columns, queries, keys]
    titles = [f"head {i}" for i in range(6)]
    grid = attention_heatmaps(weights, tmp_path / "p.png", titles=titles, title="layers", xlabel="k", keys=list("abcd"))
    panels = maps_of(grid)
    assert [axes.get_title() for axes in panels] == titles
    for axes, expected in zip(panels, weights.reshape(6, 5, 4), strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), expected, rtol=1e-6)
        assert axes.images[0].get_clim() == (0, np.float32(weights.max()))  # one scale for all
        assert [text.get_text() for text in axes.get_xticklabels()] == list("abcd")
    assert [axes.get_xlabel() for axes in panels] == ["", "", "", "k", "k", "k"]
    assert [axes.get_ylabel() for axes in panels] == ["queries", "", "", "queries", "", ""]
    assert grid.get_suptitle() == "layers"
    assert len(grid.axes) == 7
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_attention_heatmaps_end_with_their_names(tmp_path):
    """Sentences of different lengths: what is padding has no name. Dollars are no formula."""
    weights = jnp.arange(12, dtype=jnp.bfloat16).reshape(1, 2, 2, 3)
    left, right = maps_of(
        attention_heatmaps(
            weights, tmp_path / "p.png", keys=[["a", "$$"], ["c", "d", "e"]], queries=[["x", "y"], ["z"]]
        )
    )
    np.testing.assert_array_equal(left.images[0].get_array(), [[0, 1], [3, 4]])
    np.testing.assert_array_equal(right.images[0].get_array(), [[6, 7, 8]])
    assert left.images[0].get_clim() == right.images[0].get_clim() == (0, 8)  # the greatest that is shown
    assert [text.get_text() for text in right.get_yticklabels()] == ["z"]
    assert maps_of(attention_heatmaps(np.zeros((1, 1, 1, 1))))[0].images[0].get_array().tolist() == [[0]]


@pytest.mark.parametrize(
    ("weights", "names", "message"),
    [
        (np.ones((2, 2, 2)), {}, r"weights: expected \[rows, columns, queries, keys\], got \[2, 2, 2\]"),
        (np.ones((1, 0, 2, 2)), {}, "weights: expected"),
        (-np.ones((1, 1, 2, 2)), {}, "weights: expected 0 or more and finite, got -1.0 to -1.0"),
        (np.full((1, 1, 2, 2), np.nan), {}, "weights: expected 0 or more and finite"),
        (np.ones((1, 2, 2, 2)), {"titles": ["one"]}, "titles: expected one for each of 2 maps, got 1"),
        (np.ones((1, 2, 2, 2)), {"keys": ["a"]}, "keys: expected 2 names, got 1"),
        (np.ones((1, 2, 2, 2)), {"queries": [["a"]]}, r"queries: expected 1 to 2 names for each of 2 maps, got \[1\]"),
        (np.ones((1, 2, 2, 2)), {"keys": [["a"], ["b", "c", "d"]]}, r"keys: expected .*, got \[1, 3\]"),
        (np.ones((1, 2, 2, 2)), {"keys": [["a"], []]}, r"keys: expected .*, got \[1, 0\]"),
        (np.ones((1, 2, 2, 2)), {"keys": ["ab", ["a"]]}, "keys: expected names or lists of names, got both"),
    ],
)
def test_attention_heatmaps_refuse(weights, names, message):
    with pytest.raises(ValueError, match=message):
        attention_heatmaps(weights, **names)
