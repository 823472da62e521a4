"""Parallelism by sharding: the step of one device, compiled by XLA for a mesh from where its arrays lie."""

import math
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdl.parallel.mesh import check_divisible
from jaxdl.parallel.sharding_rules import ShardingRules
from jaxdl.training import Batch, CompiledStep, Step, TrainState
from jaxdl.training.compiled import place_state, scan_steps


def shard_step(step: Step, mesh: Mesh, rules: ShardingRules | None = None, *, steps_per_call: int = 1) -> CompiledStep:
    """Compiles a step for a mesh; it computes what one device would, dropout masks included.

    Args:
      step: from `make_step`, without `all_reduce`: XLA adds the reductions.
      mesh: from `make_mesh`.
      rules: where the arrays lie; default data parallel over the axis `data`.
      steps_per_call: as in `jit_step`.

    Raises:
      ValueError: if the rules name an axis that the mesh has not; from `place_state`, if a rule matches no parameter or
        does not fit one; from `place_batch`, if the devices do not divide the batch.
    """
    rules = rules or ShardingRules()
    rules.check(mesh)
    num_parts = math.prod(mesh.shape[axis] for axis in rules.batch)

    def constrained_step(state: TrainState, batch: Batch) -> tuple[TrainState, Any]:
        new_state, metrics = step(state, batch)
        new_state = jax.lax.with_sharding_constraint(new_state, rules.shardings(new_state, mesh))
        return new_state, jax.lax.with_sharding_constraint(metrics, NamedSharding(mesh, PartitionSpec()))

    def place_batch(batch: Batch) -> Batch:
        leading = () if steps_per_call == 1 else (None,)
        check_divisible(batch, num_parts, axis=len(leading))
        return jax.device_put(dict(batch), NamedSharding(mesh, PartitionSpec(*leading, rules.batch)))

    return CompiledStep(
        steps_per_call=steps_per_call,
        place_state=lambda state: place_state(state, rules.shardings(state, mesh)),
        place_batch=place_batch,
        call=jax.jit(scan_steps(constrained_step, steps_per_call), donate_argnums=0),
    )
