"""Callbacks of `fit`: `(state, history) -> bool | None`, called after each new row; True ends the training.

A callback that decides from the history alone needs no state of its own, so a resumed run decides as the first would.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from jaxdl.training.history import History
from jaxdl.training.step import TrainState

Callback = Callable[[TrainState, History], bool | None]


@dataclass(frozen=True)
class EarlyStopping:
    """Ends training when a metric has not improved for `patience` evaluations.

    Args:
      metric: a column of the history, such as `eval_loss`.
      patience: training ends at this many values in a row without an improvement on the best before them.
      min_delta: what counts as an improvement: strictly more than this, in the metric's unit.
      mode: `min` if lower is better, `max` if higher is.

    Raises:
      ValueError: at construction, if patience is below 1, min_delta negative or the mode another.
      KeyError: in training, if the evaluation does not report the metric.
    """

    metric: str = "eval_loss"
    patience: int = 3
    min_delta: float = 0.0
    mode: Literal["min", "max"] = "min"

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"patience: expected at least 1, got {self.patience}")
        if self.mode not in ("min", "max"):
            raise ValueError(f"mode: expected 'min' or 'max', got {self.mode!r}")
        if not self.min_delta >= 0:
            raise ValueError(f"min_delta: expected 0 or more, got {self.min_delta}")

    def __call__(self, state: TrainState, history: History) -> bool:
        """Whether to end."""
        if self.metric.startswith("eval_") and not any(name.startswith("eval_") for name in history.columns):
            return False  # not evaluated yet
        sign = 1 if self.mode == "min" else -1
        best, since_best = float("inf"), 0
        for value in history[self.metric]:
            if sign * value < best - self.min_delta:
                best, since_best = sign * value, 0
            else:
                since_best += 1
        return since_best >= self.patience


class TensorBoard:
    """Writes each row's figures as TensorBoard scalars under `log_dir`.

    Raises:
      ImportError: if tensorboardX is not installed.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError("TensorBoard needs tensorboardX: pip install -e '.[examples]'") from error
        self._writer: Any = SummaryWriter(str(log_dir))

    def __call__(self, state: TrainState, history: History) -> None:
        """Writes the newest row."""
        row = history.rows[-1]
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name.replace("_", "/", 1), value, int(row["step"]))
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()
