"""What a step sends: bytes by collective, counted from the jaxpr of an explicit `shard_map` or `pmap` form."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxdl.parallel.replication import inner_jaxprs

# Bytes that a device sends around a ring of n, per byte of the operand it holds.
_SENT = {
    "all_reduce": lambda n: 2 * (n - 1) / n,
    "reduce_scatter": lambda n: (n - 1) / n,
    "all_gather": lambda n: n - 1,
    "all_to_all": lambda n: (n - 1) / n,
    "ppermute": lambda n: 1,
}
_NAMES = {
    **dict.fromkeys(("psum", "psum2", "psum_invariant", "pmax", "pmin"), "all_reduce"),
    **dict.fromkeys(("reduce_scatter", "psum_scatter"), "reduce_scatter"),
    **dict.fromkeys(("all_gather", "all_gather_invariant"), "all_gather"),
    "all_to_all": "all_to_all",
    "ppermute": "ppermute",
}


def communication_bytes(fn: Callable[..., Any], *args: Any) -> dict[str, float]:
    """Bytes that each device sends in one call, by collective, if rings carry them out.

    A ring all-reduce of b bytes over n devices sends `2 (n - 1) / n b`; a reduce-scatter of b, or an all-gather to b,
    half of that (Patarasuk and Yuan, 2009).

    Args:
      fn: a function whose collectives are written out: it calls `jax.shard_map` or `jax.pmap`. What XLA adds to a
        sharded `jit` is not in the jaxpr.
      args: its arguments, arrays or `jax.ShapeDtypeStruct`.

    Raises:
      ValueError: if a collective stands in a `while` loop, whose length no one knows, or the branches of a `cond` send
        different amounts.
    """
    return dict(_count(jax.make_jaxpr(fn)(*args).jaxpr, {}))


def _count(jaxpr: Any, axis_sizes: Mapping[str, int]) -> Counter[str]:
    sent: Counter[str] = Counter()
    for eqn in jaxpr.eqns:
        if (name := _NAMES.get(eqn.primitive.name)) is not None:
            axes = eqn.params.get("axes", eqn.params.get("axis_name"))
            n = math.prod(axis_sizes[axis] for axis in (axes if isinstance(axes, tuple) else (axes,)))
            if (groups := eqn.params.get("axis_index_groups")) is not None:
                n = len(groups[0])
            sent[name] += _SENT[name](n) * sum(v.aval.size * v.aval.dtype.itemsize for v in eqn.invars)
            continue
        sizes = {**axis_sizes, **getattr(eqn.params.get("mesh"), "shape", {})}
        if "global_axis_size" in eqn.params:
            sizes[eqn.params["axis_name"]] = eqn.params["global_axis_size"]
        inner = [_count(jaxpr, sizes) for jaxpr in inner_jaxprs(eqn)]
        if eqn.primitive.name == "while" and any(inner):
            raise ValueError("fn: a collective in a while loop; write it as a scan, whose length is known")
        if eqn.primitive.name == "cond" and any(branch != inner[0] for branch in inner):
            raise ValueError(f"fn: the branches of a cond send different amounts: {list(map(dict, inner))}")
        if eqn.primitive.name == "cond":
            inner = inner[:1]  # one of them runs
        times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        for part in inner:
            sent.update({name: times * size for name, size in part.items()})
    return sent
