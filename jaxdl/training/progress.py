"""The progress of `fit`: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any

import jax

from jaxdl.training.history import Row, format_figure


class Progress:
    """A context manager that shows how far training is, and prints the history as a table, row by row.

    On a terminal (with `rich` installed) a bar below the table shows the steps, the loss and the examples per second.
    Everything goes to standard error.
    """

    def __init__(self, total_steps: int, done_steps: int, *, enabled: bool) -> None:
        self.enabled = enabled
        self.total = total_steps
        self.done = done_steps
        self._columns: list[str] = []
        self._bar: Any = _rich_bar() if enabled and sys.stderr.isatty() else None

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("", total=self.total, completed=self.done, figures="compiling")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done_steps: int, loss: float, examples_per_second: float) -> None:
        """Moves the bar."""
        if self._bar is not None:
            figures = f"loss {format_figure(loss)}  {format_figure(examples_per_second)} examples/s"
            self._bar.update(self._task, completed=done_steps, figures=figures)

    def row(self, row: Row) -> None:
        """Prints a row of the history, the header before the first one and where a column appears."""
        if not self.enabled:
            return
        if new := [name for name in row if name not in self._columns]:
            self._columns = [*self._columns, *new]
            self._print_cells(self._columns)
        self._print_cells([format_figure(row[name]) if name in row else "" for name in self._columns])

    def _print_cells(self, cells: list[str]) -> None:
        line = "  ".join(cell.rjust(max(len(name), 8)) for name, cell in zip(self._columns, cells, strict=True))
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)


class Throughput:
    """Examples per second of training; evaluation, checkpoints and the first call, which compiles, are left out."""

    def __init__(self) -> None:
        self.calls = 0
        self.restart()

    def restart(self) -> None:
        """Counts from now on."""
        self.examples, self.started = 0, time.perf_counter()

    def start_call(self, state: Any) -> None:
        """To be told before each call; waits, once, for the first to end."""
        if self.calls == 1:
            jax.block_until_ready(state)
            self.restart()
        self.calls += 1

    def rate(self) -> float:
        """Examples per second since the start."""
        return self.examples / max(time.perf_counter() - self.started, 1e-9)


def _rich_bar() -> Any:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress
    except ImportError:
        return None  # plain lines do as well
    columns = (MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[figures]}"))
    return RichProgress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=10)
