"""Checkpoints that survive kills and flipped bits: when to save, what to keep, and which one to go on from."""

import contextlib
import json
import math
import os
import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxdl.training import checkpoint_format
from jaxdl.training.checkpoint_format import CheckpointError


class CheckpointWarning(UserWarning):
    """A checkpoint is damaged: it was set aside and an earlier one is used."""


class Restored(NamedTuple):
    """What `Checkpointer.restore` found: the state, the step it was saved at, and the caller's `extra`."""

    state: Any
    step: int
    extra: dict[str, Any]


class Checkpointer:
    """Saves a training state in the background and restores the newest one that is whole.

    A save appears under its final name only when it is complete, so a process killed at any moment leaves the
    checkpoints before it as they were. One process at a time may write to a directory; others may read.

    Args:
      directory: where the checkpoints go; it is created.
      every: steps between saves; None saves at the end of each epoch.
      keep: how many of the newest checkpoints stay.
      best: name of the metric by which the best checkpoint (of equals, the first) is kept as well, whatever its age.
      best_mode: whether the least or the greatest value of `best` is the best.

    Raises:
      ValueError: if `every`, `keep` or `best_mode` is not one of the values above.
      CheckpointError: if `directory` cannot be written.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        every: int | None = None,
        keep: int = 3,
        best: str | None = None,
        best_mode: Literal["min", "max"] = "min",
    ):
        if every is not None and every < 1:
            raise ValueError(f"every: expected None or at least 1 step, got {every}")
        if keep < 1:
            raise ValueError(f"keep: expected at least 1 checkpoint, got {keep}")
        if best_mode not in ("min", "max"):
            raise ValueError(f"best_mode: expected 'min' or 'max', got {best_mode!r}")
        self.directory = Path(directory).absolute()
        self.every = every
        self.keep = keep
        self.best = best
        self.best_mode: Literal["min", "max"] = best_mode
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.directory) as probe:
                probe.write(b"writable")
        except OSError as error:
            raise CheckpointError(f"directory: cannot write checkpoints to {self.directory}: {error}") from error
        self._last_step: int | None = None  # the newest that this object saved, is saving or restored
        self._pending: Future[None] | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpointer")

    @property
    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint on disk; None if there is none."""
        return max(self._steps(), default=None)

    def due(self, step: int, *, end_of_epoch: bool) -> bool:
        """Whether `every` asks for a save now.

        Args:
          step: steps done so far. It may jump over a multiple of `every`: the first step at or after one is due.
          end_of_epoch: whether this step ends an epoch.
        """
        if self.every is None:
            return end_of_epoch and step != self._last_step
        return step // self.every > (self._last_step or 0) // self.every

    def save(self, state: Any, *, step: int, extra: Mapping[str, Any], metric: float | None = None) -> None:
        """Copies the state to host memory and writes it to disk in the background, after any earlier save.

        Saving the step that this object saved or restored last does nothing. The state may be donated afterwards.

        Args:
          state: any pytree of arrays (JAX arrays on any devices, typed keys, NumPy arrays) and numbers.
          step: steps done; above every checkpoint in the directory.
          extra: what else a resumed run needs, as JSON values (tuples come back as lists).
          metric: the value of the metric named by `best`; None or NaN if there is none at this step.

        Raises:
          ValueError: if a leaf is neither array nor number, `extra` is not JSON, or `metric` is given without `best`.
          CheckpointError: if an earlier save failed, or the directory holds a checkpoint of this step or a later one
            that this object neither wrote nor restored.
        """
        self.wait()
        if step == self._last_step:
            return
        newest = self.latest_step
        if newest is not None and step <= newest:
            raise CheckpointError(
                f"step: expected a step above {newest}, the newest checkpoint in {self.directory}, got {step}; "
                "resume from it, or give each run a directory of its own"
            )
        if metric is not None and self.best is None:
            raise ValueError(f"metric: expected None, because the Checkpointer has no `best`, got {metric}")
        try:
            copied = json.loads(json.dumps(dict(extra)))  # a copy, which the caller cannot change any more
        except (TypeError, ValueError) as error:
            raise ValueError(f"extra: expected JSON values: {error}; got {extra!r}") from error
        description = {
            "step": int(step),
            "extra": copied,
            "metrics": {} if metric is None else {self.best: float(metric)},
            "tree": checkpoint_format.describe(state),
        }
        arrays = checkpoint_format.copy_to_host(state)
        self._last_step = step
        self._pending = self._worker.submit(self._write, arrays, description)

    def check(self) -> None:
        """Raises the error of a background save that has ended, if there is one; cheap enough for every step.

        Raises:
          CheckpointError: if that save failed.
        """
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Waits until the last save is on disk.

        Raises:
          CheckpointError: if that save failed; said once.
        """
        if self._pending is None:
            return
        error = self._pending.exception()
        self._pending = None
        if error is not None:
            step, self._last_step = self._last_step, None
            raise CheckpointError(f"saving step {step} to {self.directory} failed: {error!r}") from error

    def restore(self, template: Any) -> Restored | None:
        """Restores the newest checkpoint that is whole.

        A damaged one is reported by a `CheckpointWarning` and renamed to `<step>.damaged`, once an earlier one has
        proved good.

        Args:
          template: a pytree of the structure saved, of arrays or `jax.ShapeDtypeStruct`.

        Returns:
          The state on the default device, not committed to it, whatever devices it was saved from, with the dtypes and
          bits saved (a NumPy leaf that this JAX has no dtype for, such as float64 without x64, stays a NumPy array);
          None if the directory holds no checkpoint.

        Raises:
          CheckpointError: if every checkpoint is damaged (all stay where they are), or the newest good one holds
            another tree than `template`; the error names the first leaf that differs.
        """
        self.wait()
        restored = self._first_good(reversed(self._steps()), template)
        if restored is not None:
            self._last_step = restored.step
        return restored

    def restore_best(self, template: Any) -> Restored | None:
        """Restores the best checkpoint by the metric `best`; otherwise as `restore`.

        Args:
          template: as in `restore`.

        Returns:
          As `restore`; None if no checkpoint has a value of the metric.

        Raises:
          ValueError: if the Checkpointer has no `best`.
          CheckpointError: as `restore`.
        """
        if self.best is None:
            raise ValueError("best: expected the name of a metric, got None")
        self.wait()
        return self._first_good(self._ranked(), template)

    def close(self) -> None:
        """Waits for the last save and ends the background thread.

        Raises:
          CheckpointError: if that save failed.
        """
        self._worker.shutdown()
        self.wait()

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _write(self, arrays: dict[str, np.ndarray], description: dict[str, Any]) -> None:
        for remains in self.directory.glob("*.tmp"):  # of a save or a deletion that was killed
            shutil.rmtree(remains)
        folder = self._folder(description["step"])
        temporary = folder.with_suffix(".tmp")
        checkpoint_format.write(temporary, arrays, description)
        temporary.rename(folder)
        checkpoint_format.flush(self.directory)
        steps = self._steps()
        for step in {*steps} - {*steps[-self.keep :], *self._ranked()[:1]}:
            # Renamed first: what a kill leaves of it does not look like a checkpoint.
            shutil.rmtree(self._folder(step).rename(self.directory / f"{step}.tmp"))

    def _folder(self, step: int) -> Path:
        return self.directory / str(step)

    def _steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints on disk, in ascending order."""
        names = [path.name for path in self.directory.iterdir() if path.is_dir()]
        return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)

    def _ranked(self) -> list[int]:
        """Returns the steps that have a value of the metric `best`, the best first."""
        values = {}
        for step in self._steps():
            with contextlib.suppress(Exception):  # a damaged description ranks nowhere; `restore` reports it
                value = checkpoint_format.read_description(self._folder(step))["metrics"][self.best]
                if not math.isnan(value):
                    values[step] = value if self.best_mode == "min" else -value
        return sorted(values, key=lambda step: (values[step], step))

    def _first_good(self, steps: Iterable[int], template: Any) -> Restored | None:
        damaged: dict[Path, str] = {}
        for step in steps:
            folder = self._folder(step)
            try:
                arrays, description = checkpoint_format.read(folder)
                if description["step"] != step:
                    raise ValueError(f"expected step {step}, found {description['step']}")
            except Exception as error:  # whatever Orbax, JSON or the file system trips over is damage
                damaged[folder] = f"{type(error).__name__}: {error}"
                continue
            try:
                state = checkpoint_format.rebuild(template, arrays, description)
            except CheckpointError as error:
                raise CheckpointError(f"{folder} does not fit the template: {error}") from None
            for bad, reason in damaged.items():
                aside = _set_aside(bad)
                warnings.warn(
                    f"the checkpoint {bad} is damaged ({reason}); it is set aside as {aside.name} and {folder} is used",
                    CheckpointWarning,
                    stacklevel=3,
                )
            return Restored(state, step, description["extra"])
        if damaged:
            reasons = "".join(f"\n  {folder}: {reason}" for folder, reason in damaged.items())
            raise CheckpointError(
                f"every checkpoint is damaged; to start afresh, name another directory or remove them:{reasons}"
            )
        return None


@contextlib.contextmanager
def sigterm_flag() -> Iterator[Callable[[], bool]]:
    """Inside it SIGTERM only sets a flag; at the end the previous handler is back.

    A signal that came but that nobody asked the flag about is passed on to the previous handler at the end. Outside
    the main thread, where Python runs no signal handlers, the flag stays False.

    Yields:
      A function that tells whether SIGTERM came.
    """
    came = seen = False

    def handler(signum, frame):
        nonlocal came
        came = True

    def flag() -> bool:
        nonlocal seen
        seen = came
        return came

    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    previous = signal.signal(signal.SIGTERM, handler)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)  # None: not set from Python
        if came and not seen:
            signal.raise_signal(signal.SIGTERM)


def _set_aside(folder: Path) -> Path:
    aside, number = folder.with_suffix(".damaged"), 1
    while aside.exists():
        number += 1
        aside = folder.with_suffix(f".damaged-{number}")
    return folder.rename(aside)
