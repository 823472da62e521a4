"""Pictures of training, images and attention, by matplotlib: imported on first use, global state never changed."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

Path = str | os.PathLike[str]
Scale = Literal["linear", "log"]


def figure(width: float, height: float) -> Any:
    """An empty matplotlib figure of so many inches, outside pyplot's registry; it is freed with the last reference.

    Raises:
      ImportError: without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plotting needs matplotlib: pip install -e '.[examples]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def lines(
    x: ArrayLike,
    series: Mapping[str, ArrayLike],
    path: Path | None = None,
    *,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    xscale: Scale = "linear",
    yscale: Scale = "linear",
    axes: Any = None,
) -> Any:
    """Draws curves over a common x (D2L 2.4), with a legend and a grid.

    Args:
      x: `[points]`.
      series: of each curve its name and `[points]`.
      path: where to save the picture; its suffix chooses the format.
      xlabel: below.
      ylabel: beside.
      title: above.
      xscale: of the x axis.
      yscale: of the y axis.
      axes: matplotlib's, to draw a panel of a larger figure; by default a figure of its own.

    Returns:
      The matplotlib figure.

    Raises:
      ValueError: if there is no series, or one has another length than `x`.
    """
    x, curves = np.asarray(x), {name: np.asarray(y) for name, y in series.items()}
    if not curves:
        raise ValueError("series: expected at least one curve, got none")
    for name, y in curves.items():
        if x.ndim != 1 or y.shape != x.shape:
            raise ValueError(f"series: expected {name!r} and x of one length, got {list(y.shape)} and {list(x.shape)}")
    axes = axes or figure(5, 3.4).subplots()
    for name, y in curves.items():
        axes.plot(x, y, label=name)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title, xscale=xscale, yscale=yscale)
    axes.grid(alpha=0.3)
    if any(curves):
        axes.legend()
    if path is not None:
        axes.figure.savefig(path, dpi=120)
    return axes.figure


def images(
    images: ArrayLike, titles: Sequence[str] = (), path: Path | None = None, *, columns: int = 8, title: str = ""
) -> Any:
    """Draws images in a grid, row by row.

    Args:
      images: `[images, height, width]` or `[images, height, width, 1]` in grey, each from its least to its greatest
        value; `[images, height, width, 3]` in colour, in [0, 1].
      titles: above each image; none or as many as images.
      path: where to save the picture; its suffix chooses the format.
      columns: images in a row.
      title: above the grid.

    Returns:
      The matplotlib figure.

    Raises:
      ValueError: if there is no image, the shape is another, or the titles are not as many as the images.
    """
    pictures = np.asarray(images)
    grey = pictures.ndim == 3 or (pictures.ndim == 4 and pictures.shape[-1] == 1)
    if pictures.size == 0 or not (grey or (pictures.ndim == 4 and pictures.shape[-1] == 3)):
        raise ValueError(f"images: expected [images, height, width, 1 or 3], got {list(pictures.shape)}")
    if titles and len(titles) != len(pictures):
        raise ValueError(f"titles: expected one for each of {len(pictures)} images, got {len(titles)}")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    grid = figure(1.3 * columns, (1.6 if titles else 1.35) * rows + 0.3 * bool(title))
    panels = grid.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.axis("off")
    for i, (axes, picture) in enumerate(zip(panels, pictures, strict=False)):
        axes.imshow(picture.squeeze(-1) if grey and picture.ndim == 3 else picture, cmap="gray" if grey else None)
        if titles:
            axes.set_title(titles[i], fontsize=8, parse_math=False)
    grid.suptitle(title)
    if path is not None:
        grid.savefig(path, dpi=120)
    return grid


def attention_heatmaps(
    weights: ArrayLike,
    path: Path | None = None,
    *,
    keys: Sequence[str] | Sequence[Sequence[str]] = (),
    queries: Sequence[str] | Sequence[Sequence[str]] = (),
    titles: Sequence[str] = (),
    xlabel: str = "keys",
    ylabel: str = "queries",
    title: str = "",
    panel_size: tuple[float, float] = (2.5, 2.5),
) -> Any:
    """Draws attention weights as maps in a grid, all on one scale of colours from 0 up (D2L 11.1).

    Args:
      weights: `[rows, columns, queries, keys]`, 0 or more: a map for each cell of the grid, such as a layer and a head.
      path: where to save the picture; its suffix chooses the format.
      keys: names along the keys of every map; or a list of names for each map, row by row, which may be shorter than
        the padded weights: the map then ends with the names.
      queries: the same along the queries.
      titles: above each map, row by row; none or as many as maps.
      xlabel: below the lowest maps.
      ylabel: beside the leftmost maps.
      title: above the grid.
      panel_size: width and height of a map in inches.

    Returns:
      The matplotlib figure.

    Raises:
      ValueError: if the shape is another, there is no weight, one is negative or not finite, or the titles or names do
        not fit.
    """
    maps = np.asarray(weights, np.float32)
    if maps.ndim != 4 or maps.size == 0:
        raise ValueError(f"weights: expected [rows, columns, queries, keys], got {list(maps.shape)}")
    if not (np.isfinite(maps).all() and maps.min() >= 0):
        raise ValueError(f"weights: expected 0 or more and finite, got {maps.min()} to {maps.max()}")
    rows, columns, num_queries, num_keys = maps.shape
    count = rows * columns
    if titles and len(titles) != count:
        raise ValueError(f"titles: expected one for each of {count} maps, got {len(titles)}")
    of_keys = _names_of_maps("keys", keys, count, num_keys)
    of_queries = _names_of_maps("queries", queries, count, num_queries)
    grid = figure(panel_size[0] * columns + 0.8, (panel_size[1] + 0.25 * bool(titles)) * rows + 0.3 * bool(title))
    panels = grid.subplots(rows, columns, squeeze=False)
    shown = [
        maps[i // columns, i % columns, : len(of_queries[i]) or None, : len(of_keys[i]) or None] for i in range(count)
    ]
    top = max(part.max() for part in shown)
    for i, axes in enumerate(panels.flat):
        axes.imshow(shown[i], vmin=0, vmax=top, cmap="Reds", aspect="auto", interpolation="nearest")
        if of_keys[i]:
            axes.set_xticks(range(len(of_keys[i])), of_keys[i], rotation=90, fontsize=8, parse_math=False)
        if of_queries[i]:
            axes.set_yticks(range(len(of_queries[i])), of_queries[i], fontsize=8, parse_math=False)
        if titles:
            axes.set_title(titles[i], fontsize=10, parse_math=False)
    for axes in panels[-1]:
        axes.set_xlabel(xlabel)
    for axes in panels[:, 0]:
        axes.set_ylabel(ylabel)
    grid.colorbar(panels[0, 0].images[0], ax=panels, shrink=0.7, label="weight")
    grid.suptitle(title)
    if path is not None:
        grid.savefig(path, dpi=120)
    return grid


def _names_of_maps(
    name: str, names: Sequence[str] | Sequence[Sequence[str]], num_maps: int, length: int
) -> list[list[str]]:
    """The names along one side of each map; none are empty lists."""
    shared = [item for item in names if isinstance(item, str)]
    lists = [list(item) for item in names if not isinstance(item, str)]
    if shared and lists:
        raise ValueError(f"{name}: expected names or lists of names, got both")
    if lists:
        lengths = [len(item) for item in lists]
        if len(lists) != num_maps or not all(0 < n <= length for n in lengths):
            raise ValueError(f"{name}: expected 1 to {length} names for each of {num_maps} maps, got {lengths}")
        return lists
    if len(shared) not in (0, length):
        raise ValueError(f"{name}: expected {length} names, got {len(shared)}")
    return [shared] * num_maps


def training_curves(rows: Sequence[Mapping[str, float]], path: Path | None = None, *, title: str = "") -> Any:
    """Draws each metric's training and evaluation curve over the epochs, a panel a metric.

    Args:
      rows: of `jaxdl.training.History`: `epoch` with `train_NAME` and `eval_NAME` columns.
      path: where to save the picture; its suffix chooses the format.
      title: stands above the panels.

    Returns:
      The matplotlib figure.

    Raises:
      ValueError: if no row has a `train_*` or `eval_*` column.
    """
    names = list(
        dict.fromkeys(key.split("_", 1)[1] for row in rows for key in row if key.startswith(("train_", "eval_")))
    )
    if not names:
        raise ValueError("rows: expected train_* or eval_* columns to draw, got none")
    panels = figure(width=4.2 * len(names), height=3.2)
    for axes, name in zip(panels.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for part, style in (("train", "C0--"), ("eval", "C1-")):
            points = [(row["epoch"], row[f"{part}_{name}"]) for row in rows if f"{part}_{name}" in row]
            if points:
                axes.plot(*zip(*points, strict=True), style, marker="." if len(points) < 40 else None, label=part)
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend()
    panels.suptitle(title)
    if path is not None:
        panels.savefig(path, dpi=120)
    return panels
