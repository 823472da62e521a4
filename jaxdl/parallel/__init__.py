"""From one device to many: the same pure step, compiled for several devices.

`pmap_step` maps a step with explicit reductions; `shard_step` compiles the step of one device for a mesh and lets XLA
add the communication, with `ShardingRules` for data parallel, fully sharded and tensor parallel. Both return the
`CompiledStep` that `jaxdl.training.fit` takes. `ring_all_reduce` and `communication_bytes` are for learning what goes
over the wires.
"""

from jaxdl.parallel.communication import communication_bytes
from jaxdl.parallel.mesh import make_mesh
from jaxdl.parallel.pmap_step import pmap_step
from jaxdl.parallel.ring import ring_all_reduce
from jaxdl.parallel.shard_step import shard_step
from jaxdl.parallel.sharding_rules import ShardingRules

__all__ = [
    "ShardingRules",
    "communication_bytes",
    "make_mesh",
    "pmap_step",
    "ring_all_reduce",
    "shard_step",
]
