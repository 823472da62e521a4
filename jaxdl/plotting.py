"""Pictures of training, drawn with matplotlib, which is imported on first use and never changes global state."""

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
        raise ImportError("plotting needs matplotlib: pip install 'jaxdl[examples]'") from error
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
            axes.set_title(titles[i], fontsize=8)
    grid.suptitle(title)
    if path is not None:
        grid.savefig(path, dpi=120)
    return grid


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
