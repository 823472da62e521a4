"""The one training loop. It feeds batches to a compiled step; it never looks inside a model or a step."""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from jaxdl.training.callbacks import Callback, EarlyStopping
from jaxdl.training.checkpoint import Checkpointer, sigterm_flag
from jaxdl.training.compiled import CompiledStep
from jaxdl.training.evaluate import evaluate
from jaxdl.training.history import History, Row
from jaxdl.training.metrics import HostSums
from jaxdl.training.progress import Progress, Throughput
from jaxdl.training.step import Batch, EvalFn, TrainState

FETCH_SECONDS = 0.1  # between two looks at the device, so at most 10 a second


class Data(Protocol):
    """Where batches come from.

    Its position is `(epoch, batch)`, so resuming needs no pickled iterator. Each new shape of a batch compiles the step
    again; once yielded, a batch is not written to. A `Data` may also offer `chunks(epoch, start, size)`, stacks
    `[n, batch, ...]` of up to `size` batches of one shape, where it can make them faster than `fit` stacks batches. A
    stack may be a mapping with `rows` `[n, batch]` and `gather(rows) -> batch`, to be gathered in the compiled scan.
    """

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on; the same every time they are asked for."""
        ...

    def __len__(self) -> int:
        """How many batches an epoch has."""
        ...


class NonFiniteLoss(ArithmeticError):
    """The loss of a step was NaN or infinite."""

    def __init__(self, step: int, value: float) -> None:
        super().__init__(
            f"the loss of step {step} is {value}: lower the learning rate, clip gradients, or look at the data"
        )
        self.step = step
        self.value = value


def fit(
    compiled_step: CompiledStep,
    state: TrainState,
    data: Data,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    eval_fn: EvalFn | None = None,
    eval_data: Data | None = None,
    eval_every: int | None = None,
    log_every: int | None = None,
    callbacks: Sequence[Callback] = (),
    checkpointer: Checkpointer | None = None,
    resume: bool = False,
    progress: bool = True,
) -> tuple[TrainState, History]:
    """Trains.

    Everything that happens "every so often" happens between two calls of the compiled step, at or after the step it is
    due; a row of the history is due at the end of each epoch, or every `log_every` steps, and at each evaluation.

    Args:
      compiled_step: from `jit_step` or `jaxdl.parallel`.
      state: from `init_state`; it is copied, so it stays yours.
      data: batches to train on.
      epochs: how many passes over the data, a resumed run's earlier passes included. Give this or `steps`.
      steps: how many steps instead.
      eval_fn: `(params, model_state, batch) -> metrics`; evaluates on `eval_data`.
      eval_data: batches with a "mask".
      eval_every: steps between evaluations; default: at the end of each epoch. The end of training is always evaluated.
      log_every: steps between rows; default: at the end of each epoch.
      callbacks: called with `(state, history)` after each row; one that returns True ends the training.
      checkpointer: saves state, position and history; what it saved last is on disk when `fit` returns or raises.
      resume: go on from the newest checkpoint, if there is one, to the same bits as an uninterrupted run.
      progress: show a progress bar on a terminal, plain lines elsewhere.

    Returns:
      The state after the last step, and the history.

    Raises:
      ValueError: if the arguments contradict each other, the data is empty or gives another number of batches than its
        length, `best` or an `EarlyStopping` waits for an evaluation that there is not, the
        directory of a new run already holds checkpoints, or a resumed run's data has another number of batches.
      KeyError: if evaluation does not report the checkpointer's `best`.
      NonFiniteLoss: when the loss is NaN or infinite; no such state is checkpointed.
      SystemExit: 143, after a checkpoint, when the process receives SIGTERM.
    """
    per_epoch = len(data)
    if (epochs is None) == (steps is None):
        raise ValueError(f"give either epochs or steps, got epochs={epochs} and steps={steps}")
    for name, number in (("epochs", epochs), ("steps", steps)):
        if number is not None and number < 0:
            raise ValueError(f"{name}: expected 0 or more, got {number}")
    for name, number in (("log_every", log_every), ("eval_every", eval_every)):
        if number is not None and number < 1:
            raise ValueError(f"{name}: expected at least 1, got {number}")
    if (eval_fn is None) != (eval_data is None):
        raise ValueError("eval_fn and eval_data go together, got only one of them")
    if eval_fn is None and checkpointer is not None and checkpointer.best is not None:
        raise ValueError(f"checkpointer: it keeps the best by {checkpointer.best!r}, which takes an eval_fn; got none")
    for callback in callbacks:
        if eval_fn is None and isinstance(callback, EarlyStopping) and callback.metric.startswith("eval_"):
            raise ValueError(f"callbacks: {callback} takes an eval_fn, got none")
    if per_epoch == 0:
        raise ValueError("data: expected at least one batch an epoch, got none")
    if resume and checkpointer is None:
        raise ValueError("resume: expected a checkpointer to resume from, got none")
    total = steps if steps is not None else (epochs or 0) * per_epoch
    run = _Run(compiled_step, state, per_epoch)
    if checkpointer is not None:
        run.open(checkpointer, resume)

    with sigterm_flag() as terminated, Progress(total, run.done, enabled=progress) as bar:
        try:
            while run.done < total and not run.stopped:
                (epoch, start), done = divmod(run.done, per_epoch), run.done
                for batch in _batches_per_call(data, epoch, start, compiled_step.steps_per_call):
                    run.train(batch, total - run.done, bar)
                    if run.done > (epoch + 1) * per_epoch:
                        raise ValueError(f"data: expected {per_epoch} batches in epoch {epoch}, got more")
                    finished = run.done >= total
                    evaluated = eval_fn is not None and (finished or run.due(eval_every))
                    if evaluated or finished or run.due(log_every):
                        bar.row(run.report(eval_fn if evaluated else None, eval_data))
                        verdicts = [callback(run.state, run.history) for callback in callbacks]
                        run.stopped = True in verdicts
                    sigterm = terminated()  # read once, so that what is saved and what is left agree
                    if checkpointer is not None:
                        run.checkpoint(checkpointer, last=finished or run.stopped or sigterm)
                    if sigterm:
                        raise SystemExit(143)
                    if finished or run.stopped:
                        break
                if run.done == done:
                    raise ValueError(f"data: expected {per_epoch} batches in epoch {epoch}, got {start}")
        finally:
            if checkpointer is not None:
                checkpointer.wait()
    return run.state, run.history


class _Run:
    """Where a run stands: the placed state, how many steps are done, the sums since the last row, the history."""

    def __init__(self, compiled_step: CompiledStep, state: TrainState, per_epoch: int) -> None:
        self.compiled_step = compiled_step
        self.state = compiled_step.place_state(state)
        self.per_epoch = per_epoch
        self.first_step = int(state.step)
        self.done = self.before = 0  # steps of this run, now and before the last call
        self.stopped = False
        self.history = History()
        self.sums = HostSums(stacked=True)
        self.throughput = Throughput()
        self.began = self.looked = time.perf_counter()

    @property
    def step(self) -> int:
        """Steps done as the state counts them: those before this run included."""
        return self.first_step + self.done

    def open(self, checkpointer: Checkpointer, resume: bool) -> None:
        """Goes on from the newest checkpoint, or makes sure that there is none."""
        if not resume:
            if (step := checkpointer.latest_step) is not None:
                raise ValueError(
                    f"checkpointer: {checkpointer.directory} already holds a run, up to step {step}; "
                    "resume it, or choose an empty directory"
                )
            return
        if (restored := checkpointer.restore(self.state)) is None:
            return
        run = restored.extra
        if run["batches_per_epoch"] != self.per_epoch:
            raise ValueError(
                f"data: {self.per_epoch} batches an epoch, but the checkpoint of step {restored.step} was made with "
                f"{run['batches_per_epoch']}; resume with the same data and batch size"
            )
        self.state = self.compiled_step.place_state(restored.state)
        self.done = self.before = run["epoch"] * self.per_epoch + run["batch"]
        self.first_step = restored.step - self.done
        self.stopped = run["stopped"]
        self.history = History(run["history"])
        self.sums.carry_over(run["sums"])
        self.began -= run["seconds"]

    def due(self, every: int | None) -> bool:
        """Whether the last call reached a multiple of `every` steps (None: of an epoch)."""
        every = every or self.per_epoch
        return self.done // every > self.before // every

    def train(self, batch: Batch, at_most: int, bar: Progress) -> None:
        """One call of the compiled step, of no more than `at_most` steps."""
        first: Any = getattr(batch, "rows", None)  # reading an array of a stack of rows would gather it
        first = next(iter(batch.values())) if first is None else first
        steps, examples = first.shape[:2] if self.compiled_step.steps_per_call > 1 else (1, first.shape[0])
        if steps > at_most:
            steps, batch = at_most, {name: x[:at_most] for name, x in batch.items()}
        self.throughput.start_call(self.state)
        self.state, metrics = self.compiled_step(self.state, self.compiled_step.place_batch(batch))
        self.throughput.examples += steps * examples
        self.before, self.done = self.done, self.done + steps
        self.sums.push(metrics)
        if time.perf_counter() - self.looked >= FETCH_SECONDS:
            bar.update(self.done, self.fetch(), self.throughput.rate())

    def fetch(self) -> float:
        """Waits for the steps done, adds their metrics on the host, checks each loss, and returns the newest."""
        losses: list[Any] = [metrics["loss"] for metrics in self.sums.fetch()]
        step, value = self.step - sum(len(loss.total) for loss in losses), math.nan
        for loss in losses:
            for total, count in zip(loss.total, loss.count, strict=True):
                step, value = step + 1, float(total) / float(count) if count else math.nan
                if not math.isfinite(total):
                    raise NonFiniteLoss(step, float(total))
        self.looked = time.perf_counter()
        return value

    def report(self, eval_fn: EvalFn | None, eval_data: Any) -> Row:
        """Adds a row: the means since the row before and, with an `eval_fn`, an evaluation."""
        self.fetch()
        row: Row = {"epoch": self.done / self.per_epoch, "step": self.step}
        row |= _named("train", self.sums.compute())
        rate = self.throughput.rate()
        if eval_fn is not None:
            row |= _named("eval", evaluate(eval_fn, self.state, eval_data))
        row |= {"examples_per_second": rate, "seconds": time.perf_counter() - self.began}
        self.sums.clear()
        self.throughput.restart()
        self.history.append(row)
        return row

    def checkpoint(self, checkpointer: Checkpointer, *, last: bool) -> None:
        """Saves if it is due, the row just made is the best so far, or nothing comes after."""
        checkpointer.check()
        metric, improved = None, False
        row = self.history.rows[-1] if self.history.rows else {}
        evaluated = row.get("step") == self.step and any(name.startswith("eval_") for name in row)
        if evaluated and checkpointer.best is not None:
            improved = self.history.best(checkpointer.best, checkpointer.best_mode)["step"] == self.step
            metric = row[checkpointer.best]
        if not (last or improved or checkpointer.due(self.step, end_of_epoch=self.due(None))):
            return
        self.fetch()  # a loss that is not finite is found before it is saved
        epoch, batch = divmod(self.done, self.per_epoch)
        extra = {
            "epoch": epoch,
            "batch": batch,
            "batches_per_epoch": self.per_epoch,
            "stopped": self.stopped,
            "history": self.history.rows,
            "sums": self.sums.leaves(),
            "seconds": time.perf_counter() - self.began,
        }
        checkpointer.save(self.state, step=self.step, extra=extra, metric=metric)
        self.throughput.restart()


def _named(part: str, figures: dict[str, float]) -> Row:
    """The columns of a part, the loss first (a compiled step returns its metrics in alphabetical order)."""
    return {f"{part}_{name}": figures[name] for name in sorted(figures, key=lambda name: (name != "loss", name))}


def _batches_per_call(data: Any, epoch: int, start: int, steps_per_call: int) -> Iterator[Batch]:
    """What each call of the step takes of an epoch: a batch, or a stack of up to `steps_per_call` batches."""
    if steps_per_call == 1:
        yield from data.batches(epoch, start)
    elif hasattr(data, "chunks"):
        yield from data.chunks(epoch, start, steps_per_call)
    else:
        batches = data.batches(epoch, start)
        while stack := list(itertools.islice(batches, steps_per_call)):
            yield {name: np.stack([batch[name] for batch in stack]) for name in stack[0]}
