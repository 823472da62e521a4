"""The flags that every training script shares, how they become a compiled step, and a run that leaves a record."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import optax

from jaxdl import cpu, training
from jaxdl.parallel import ShardingRules, make_mesh, pmap_step, shard_step
from jaxdl.training import (
    Callback,
    Checkpointer,
    CompiledStep,
    Data,
    EvalFn,
    GradFn,
    History,
    LossFn,
    Step,
    TensorBoard,
    TrainState,
    accumulate,
    all_reduce,
    fit,
    jit_step,
    loss_scaling,
    scaled_sum_gradients,
    sum_gradients,
    with_loss_scale,
)

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True)
class RunConfig:
    """Flags of a training script; a script extends it with its own fields and defaults."""

    data: str = "digits"
    """Data set; the default is embedded and needs no network."""
    train_split: str = "train"
    """What to train on, in TFDS notation, such as "train[:80%]"."""
    eval_split: str = "test"
    """What to evaluate on."""
    epochs: int = 10
    """Passes over the training data."""
    batch_size: int = 128
    """Examples a step, over all devices and micro-batches."""
    learning_rate: float = 1e-3
    """Of the optimiser."""
    seed: int = 0
    """Of the initial parameters, dropout and the order of the data."""
    strategy: Literal["single", "pmap", "shard", "fsdp", "tensor"] = "single"
    """One device; data parallel over all, by pmap or by sharded jit; with parameters split too; or tensor parallel."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the computation; parameters stay float32."""
    accumulate: int = 1
    """Micro-batches that a batch is split into, to save memory."""
    checkpoint_dir: Path | None = None
    """Where checkpoints go; default: inside the run's folder."""
    resume: bool = False
    """Go on from the newest checkpoint in --checkpoint-dir."""
    plot: Path | None = None
    """Where the learning curve goes; default: inside the run's folder."""
    log_dir: Path | None = None
    """Write TensorBoard scalars here."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate: {self.accumulate} micro-batches do not divide a batch of {self.batch_size}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate: expected a positive number, got {self.learning_rate}")
        if self.resume and self.checkpoint_dir is None:
            raise ValueError("resume: expected checkpoint_dir to say which run to resume")


def parse_flags(config_class: type[ConfigT], arguments: Sequence[str] | None = None) -> ConfigT:
    """Reads a script's flags; `--help` explains every field, an unknown flag is an error.

    Also calls `jaxdl.cpu.tune`, if JAX has not started: reading its flags is the first that a script does.

    Args:
      config_class: a dataclass, usually one that extends `RunConfig`.
      arguments: instead of the command line's.

    Raises:
      SystemExit: on `--help`, or with status 2 and a message when a flag or a value is wrong.
    """
    try:
        import tyro
    except ImportError as error:
        raise ImportError("the example scripts need tyro: pip install -e '.[examples]'") from error
    if not cpu.started():
        cpu.tune()
    try:
        return tyro.cli(config_class, args=arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def compute_dtype(config: RunConfig) -> Any:
    """The dtype of the computation that `--precision` names, for the `dtype` of a Linen module."""
    return jnp.dtype(config.precision)


def init_state(
    init: Callable[[jax.Array], Mapping[str, Any]], optimizer: optax.GradientTransformation, config: RunConfig
) -> TrainState:
    """`jaxdl.training.init_state` with the key of `--seed`, and a loss scale if `--precision` is float16."""
    state = training.init_state(init, optimizer, jax.random.key(config.seed))
    return with_loss_scale(state) if config.precision == "float16" else state


def make_gradients(loss_fn: LossFn, config: RunConfig) -> GradFn:
    """The gradients of a loss as `--precision`, `--accumulate` and `--strategy` ask for them."""
    grad_fn = scaled_sum_gradients(loss_fn) if config.precision == "float16" else sum_gradients(loss_fn)
    grad_fn = accumulate(grad_fn, config.accumulate)
    return all_reduce(grad_fn, "data") if config.strategy == "pmap" else grad_fn


def make_step(loss_fn: LossFn, optimizer: optax.GradientTransformation, config: RunConfig) -> Step:
    """The step of a model with one loss: its gradients, the optimiser, and loss scaling for float16."""
    half = config.precision == "float16"
    step = training.make_step(make_gradients(loss_fn, config), optimizer, skip_nonfinite=half)
    return loss_scaling(step) if half else step


def compile_step(
    step: Step,
    config: RunConfig,
    *,
    tensor_parallel: Mapping[str, tuple[str | None, ...]] | None = None,
    steps_per_call: int = 1,
) -> CompiledStep:
    """Compiles a step for the devices that `--strategy` names.

    | strategy | devices | batch | parameters and optimiser state |
    |---|---|---|---|
    | `single` | the first | whole | whole |
    | `pmap`, `shard` | all | split | whole |
    | `fsdp` | all | split | split over all, as far as they divide |
    | `tensor` | all, in pairs (or one) | split over the pairs | split within a pair, where a rule says so |

    Args:
      step: from `make_step`.
      config: the flags.
      tensor_parallel: which parameters `tensor` splits over the mesh axis "model", as in `ShardingRules`:
        `nn.TENSOR_PARALLEL` for transformers, `nn.STACKED_TENSOR_PARALLEL` for those of `nn.RepeatedBlocks`.
      steps_per_call: as in `training.jit_step`.

    Raises:
      ValueError: if the strategy is `tensor` and there are no rules, or an odd number of devices above one.
    """
    if config.strategy == "pmap":
        return pmap_step(step, axis_name="data", steps_per_call=steps_per_call)
    if config.strategy == "shard":
        return shard_step(step, make_mesh({"data": -1}), steps_per_call=steps_per_call)
    if config.strategy == "fsdp":
        rules = ShardingRules(fully_sharded="data")
        return shard_step(step, make_mesh({"data": -1}), rules, steps_per_call=steps_per_call)
    if config.strategy == "tensor":
        if tensor_parallel is None:
            raise ValueError("strategy: this model has no rules for 'tensor'; expected single, pmap, shard or fsdp")
        devices = jax.device_count()
        if devices > 1 and devices % 2:
            raise ValueError(f"strategy: 'tensor' expected one device or an even number, got {devices}")
        mesh = make_mesh({"data": -1, "model": min(devices, 2)})
        return shard_step(step, mesh, ShardingRules(params=tensor_parallel), steps_per_call=steps_per_call)
    return jit_step(step, steps_per_call=steps_per_call)


def run_folder(name: str) -> Path:
    """Makes and returns the folder `runs/NAME_DATE_TIME`, for what a run of the script `name` leaves behind."""
    folder = Path("runs") / f"{name}_{datetime.now():%Y-%m-%d_%H-%M-%S_%f}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run(
    name: str,
    config: RunConfig,
    compiled_step: CompiledStep,
    state: TrainState,
    data: Data,
    *,
    eval_fn: EvalFn | None = None,
    eval_data: Data | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    folder: Path | None = None,
) -> tuple[TrainState, History]:
    """Trains with `fit` as the flags say and leaves a record: checkpoints, `history.csv` and the learning curve.

    They go to the run's folder, except where `--checkpoint-dir` and `--plot` say otherwise; the last row and the
    places of the files are printed.

    Args:
      name: of the script.
      config: its flags.
      compiled_step: from `compile_step`.
      state: from `init_state`.
      data: to train on.
      eval_fn: as in `fit`.
      eval_data: as in `fit`.
      callbacks: as in `fit`; `--log-dir` adds one.
      progress: as in `fit`.
      folder: the run's, if the script has made it for pictures of its own; default: a new `run_folder(name)`.

    Returns:
      The state after the last step, and the history.
    """
    folder = folder or run_folder(name)
    checkpoints = config.checkpoint_dir or folder / "checkpoints"
    curve = config.plot or folder / "curve.png"
    for needed in (folder, curve.parent):  # before the training, not after it
        needed.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        checkpointer = stack.enter_context(Checkpointer(checkpoints))
        if config.resume and checkpointer.latest_step is None:
            print(f"resume: no checkpoint in {checkpoints}, so this run begins at the beginning")
        if config.log_dir:
            writer = TensorBoard(config.log_dir)
            stack.callback(writer.close)
            callbacks = [*callbacks, writer]
        state, history = fit(
            compiled_step,
            state,
            data,
            epochs=config.epochs,
            eval_fn=eval_fn,
            eval_data=eval_data,
            callbacks=callbacks,
            checkpointer=checkpointer,
            resume=config.resume,
            progress=progress,
        )
    history.plot(curve, title=f"{name}: {config.data}")
    history.to_csv(folder / "history.csv")
    print(History(history.rows[-1:]).table())
    print(f"learning curve: {curve}\nhistory: {folder / 'history.csv'}\ncheckpoints: {checkpoints}")
    return state, history
