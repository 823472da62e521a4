"""Which arrays differ between the devices of a `jax.shard_map`. JAX keeps account of it, but not through a kernel."""

from typing import Any

import jax


def vary_alike(*arrays: Any) -> tuple[Any, ...]:
    """Counts all arrays as different over each mesh axis over which one of them is.

    To go in front of a kernel with a gradient of its own, so that the gradient of an operand which all devices share is
    summed over them, and behind a kernel, with an operand, for the outputs. Outside of `shard_map`, and under
    `check_vma=False`, nothing changes.

    Args:
      arrays: pytrees of arrays.
    """
    leaves, structure = jax.tree.flatten(arrays)
    varying = [jax.typeof(x).manual_axis_type.varying for x in leaves]
    axes = frozenset[Any]().union(*varying)
    leaves = [
        jax.lax.pcast(x, tuple(axes - own), to="varying") if axes - own else x
        for x, own in zip(leaves, varying, strict=True)
    ]
    return jax.tree.unflatten(structure, leaves)
