"""What a run reported, row by row: a table to print, a curve to draw, a file to keep."""

import csv
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

Row = dict[str, float]


class History:
    """The rows that `fit` reported, oldest first.

    A row has `epoch` (a fraction inside an epoch), `step`, `train_*` (means over the steps since the row before),
    `eval_*` where the model was evaluated, `examples_per_second` (of training) and `seconds` (since the start of the
    run).
    """

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        self.rows: list[Row] = [dict(row) for row in rows]

    def append(self, row: Row) -> None:
        """Adds the newest row."""
        self.rows.append(row)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> list[float]:
        """The values of one column, over the rows that have it.

        Raises:
          KeyError: if no row has it; the message lists the columns.
        """
        if name not in self.columns:
            raise KeyError(f"no column {name!r} in the history; it has {', '.join(self.columns) or 'no rows yet'}")
        return [row[name] for row in self.rows if name in row]

    @property
    def columns(self) -> list[str]:
        """The names of all columns, in order of appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def best(self, name: str, mode: Literal["min", "max"]) -> Row:
        """The first row with the lowest (`min`) or highest (`max`) value of a column; NaN never wins.

        Raises:
          KeyError: if no row has the column.
          ValueError: if the mode is another.
        """
        if mode not in ("min", "max"):
            raise ValueError(f"mode: expected 'min' or 'max', got {mode!r}")
        self[name]
        sign = 1 if mode == "min" else -1
        rows = [row for row in self.rows if name in row]
        return min(rows, key=lambda row: math.inf if math.isnan(row[name]) else sign * row[name])

    def table(self) -> str:
        """The rows as aligned text."""
        names = self.columns
        cells = [[format_figure(row[name]) if name in row else "" for name in names] for row in self.rows]
        widths = [max(len(cell) for cell in column) for column in zip(names, *cells, strict=True)]
        return "\n".join("  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in [names, *cells])

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes one line a row; a cell is empty where the row lacks the column."""
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes a list of rows; read it back with `History(json.load(file))`."""
        Path(path).write_text(json.dumps(self.rows, indent=1))

    def plot(self, path: str | os.PathLike[str] | None = None, *, title: str = "") -> Any:
        """Draws train against evaluation curves, a panel a metric, over the epochs.

        Args:
          path: where to save the picture; its suffix chooses the format.
          title: stands above the panels.

        Returns:
          The matplotlib figure.
        """
        from jaxdl.plotting import training_curves

        return training_curves(self.rows, path, title=title)


def format_figure(value: float) -> str:
    """A figure as people read it: `12`, `0.9861`, `3.2e-05`, `12,345`."""
    if math.isfinite(value) and value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1e4 and math.isfinite(value) else f"{value:.4g}"
