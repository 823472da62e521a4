"""The last layer, the only one that touches devices: a pure `Step` compiled for where it runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.training.step import Batch, Metrics, Step, TrainState


@dataclass(frozen=True)
class CompiledStep:
    """A step compiled for some devices, from `jit_step` or `jaxdl.parallel`.

    Calling it takes a placed state and a placed batch and returns the new state and metrics stacked
    `[steps_per_call]`. With `steps_per_call` above 1 the batch is a stack of batches, `[steps, batch, ...]`; a shorter
    stack (the end of an epoch) runs as many steps and compiles once more.

    The call takes over the memory of the state it is given: go on with the state it returns. `place_state` copies, so
    what you placed stays yours.
    """

    steps_per_call: int
    place_state: Callable[[TrainState], TrainState]
    place_batch: Callable[[Batch], Batch]
    call: jax.stages.Wrapped  # the jitted function: `call.lower(state, batch).compile()` for what XLA made of it

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Runs `steps_per_call` steps."""
        return self.call(state, batch)


def jit_step(step: Step, *, steps_per_call: int = 1) -> CompiledStep:
    """Compiles a step for one device.

    Args:
      step: from `make_step`.
      steps_per_call: how many steps one compiled call scans over. Small models spend more time in dispatch than in
        arithmetic; a scan pays for it once. (On a CPU the gradients of `lax.conv_general_dilated` are a hundred times
        slower inside a scan; those of `jaxdl.nn.Conv` are not.)

    Raises:
      ValueError: at the first call, if the step changes the structure, a shape or a dtype of the state.
    """
    device = jnp.zeros(()).sharding  # where JAX puts an array by default
    return CompiledStep(
        steps_per_call=steps_per_call,
        place_state=lambda state: place_state(state, device),
        place_batch=lambda batch: jax.device_put(batch if hasattr(batch, "gather") else dict(batch), device),
        call=jax.jit(scan_steps(step, steps_per_call), donate_argnums=0),
    )


def place_state(state: TrainState, placement: Any) -> TrainState:
    """Copies a state, strongly typed, so that the second call finds the types of the first.

    Args:
      state: of arrays or numbers.
      placement: a device or sharding, or one for each leaf.
    """
    # device_put alone may share a buffer with its argument, also where may_alias=False asks it not to.
    return jax.device_put(jax.tree.map(lambda x: jnp.copy(_strongly_typed(x)), state), placement)


def scan_steps(step: Step, steps_per_call: int) -> Step:
    """The function a `CompiledStep` compiles: one step, or a scan over a stack of batches; metrics are stacked.

    Raises:
      ValueError: if `steps_per_call` is below 1; when traced, if the step changes the type of the state.
    """
    if steps_per_call < 1:
        raise ValueError(f"steps_per_call: expected at least 1, got {steps_per_call}")

    def checked_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        new_state, metrics = step(state, batch)
        _check_same_types(state, new_state)
        return jax.tree.map(_strongly_typed, new_state), metrics

    def one_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        state, metrics = checked_step(state, batch)
        return state, jax.tree.map(lambda x: jnp.asarray(x)[None], metrics)

    def many_steps(state: TrainState, batches: Any) -> tuple[TrainState, Metrics]:
        if hasattr(batches, "gather"):  # a stack of row numbers: each batch is gathered when its turn comes
            return jax.lax.scan(lambda state, rows: checked_step(state, batches.gather(rows)), state, batches.rows)
        return jax.lax.scan(checked_step, state, dict(batches))

    return one_step if steps_per_call == 1 else many_steps


def _strongly_typed(x: Any) -> jax.Array:
    return x if isinstance(x, jax.Array) and not x.aval.weak_type else jnp.asarray(x, jnp.result_type(x))


def _check_same_types(state: TrainState, new_state: TrainState) -> None:
    old, new = (dict(jax.tree_util.tree_leaves_with_path(tree)) for tree in (state, new_state))
    for path in old | new:
        before, after = (_describe(leaves.get(path)) for leaves in (old, new))
        if before != after:
            raise ValueError(f"step: state{jax.tree_util.keystr(path)} went in as {before} and came out as {after}")


def _describe(leaf: Any) -> str:
    return "nothing" if leaf is None else f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"
