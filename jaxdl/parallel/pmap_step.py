"""Data parallelism by `pmap`: every device runs the step on its part of the batch, with explicit reductions.

`jax.pmap` is in maintenance mode; `shard_step` is the modern form. Both give the same parameters.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jaxdl.parallel.mesh import check_divisible, make_mesh
from jaxdl.parallel.replication import varying_outputs
from jaxdl.training import Batch, CompiledStep, Step, TrainState
from jaxdl.training.compiled import place_state, scan_steps


def pmap_step(
    step: Step, *, axis_name: str = "data", steps_per_call: int = 1, devices: Sequence[Any] | None = None
) -> CompiledStep:
    """Compiles a step for several devices, the state replicated and the batch split.

    The state has no leading device axis: it goes in and comes out as under one device, so `fit`, evaluation and
    checkpoints are the same. `all_reduce` folds the device's index into the step's key, so dropout masks are not those
    of one device (under `shard_step` they are).

    Args:
      step: made from `all_reduce(grad_fn, axis_name)`.
      axis_name: of the reduction.
      steps_per_call: as in `jit_step`; the scan is inside the map.
      devices: default all.

    Raises:
      ValueError: at the first call, before compilation, if the new state or a metric differs between devices (the step
        lacks a reduction over `axis_name`), or the model has per-example state (`carry`); from `place_batch`, if the
        devices do not divide the batch.
    """
    mesh = make_mesh({axis_name: -1}, devices)

    def checked_step(state: TrainState, batch: Batch) -> Any:
        if "carry" in state.model_state:
            raise ValueError("step: pmap_step cannot split the per-example state 'carry'; use shard_step")
        if varying := varying_outputs(step, (state, batch), (False, True), axis_name):
            raise ValueError(
                f"step: output {varying[0]} differs between devices, as do {len(varying) - 1} more; "
                f"make the step from all_reduce(grad_fn, {axis_name!r})"
            )
        return step(state, batch)

    def split(x: Any) -> Any:  # [batch, ...] -> [devices, batch / devices, ...]; a stack keeps its steps inside
        if steps_per_call == 1:
            return x.reshape(mesh.size, x.shape[0] // mesh.size, *x.shape[1:])
        return x.reshape(x.shape[0], mesh.size, x.shape[1] // mesh.size, *x.shape[2:]).swapaxes(0, 1)

    def place_batch(batch: Batch) -> Batch:
        check_divisible(batch, mesh.size, axis=0 if steps_per_call == 1 else 1)
        return jax.device_put(jax.tree.map(split, dict(batch)), NamedSharding(mesh, PartitionSpec(axis_name)))

    return CompiledStep(
        steps_per_call=steps_per_call,
        place_state=lambda state: place_state(state, NamedSharding(mesh, PartitionSpec())),
        place_batch=place_batch,
        call=jax.pmap(
            scan_steps(checked_step, steps_per_call),
            axis_name,
            in_axes=(None, 0),
            out_axes=None,  # pyright: ignore[reportArgumentType] (one copy of what all devices agree on)
            devices=list(mesh.devices.flat),
            donate_argnums=0,
        ),
    )
