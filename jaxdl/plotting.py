"""Pictures of training, drawn with matplotlib, which is imported on first use and never changes global state."""

import os
from collections.abc import Mapping, Sequence
from typing import Any


def training_curves(
    rows: Sequence[Mapping[str, float]], path: str | os.PathLike[str] | None = None, *, title: str = ""
) -> Any:
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
    figure = _figure(width=4.2 * len(names), height=3.2)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for part, style in (("train", "C0--"), ("eval", "C1-")):
            points = [(row["epoch"], row[f"{part}_{name}"]) for row in rows if f"{part}_{name}" in row]
            if points:
                axes.plot(*zip(*points, strict=True), style, marker="." if len(points) < 40 else None, label=part)
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def _figure(width: float, height: float) -> Any:
    """An empty figure of so many inches, outside pyplot's registry."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plotting needs matplotlib: pip install 'jaxdl[examples]'") from error
    return Figure(figsize=(width, height), layout="constrained")
