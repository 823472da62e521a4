"""Which outputs of a mapped function differ between devices: a walk over its jaxpr.

A value varies along a mapped axis if it comes from a varying input or from `axis_index`, unless a reduction over the
axis (`psum`, `pmax`, `all_gather` ...) stands between. `pmap` with `out_axes=None` takes device 0's value of whatever
it is given, so a step that forgot its reduction would train on one device's shard, without a word.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

_REDUCTIONS = {"psum", "psum2", "psum_invariant", "pmax", "pmin", "all_gather", "all_gather_invariant"}


def varying_outputs(fn: Callable[..., Any], args: Sequence[Any], varies: Sequence[bool], axis_name: str) -> list[str]:
    """The outputs of `fn` that may differ between the devices of a mapped axis.

    Args:
      fn: to be called where the axis is bound, inside `pmap` or `shard_map`.
      args: its arguments, arrays or tracers.
      varies: for each argument, whether its leaves differ between devices.
      axis_name: the mapped axis.

    Returns:
      The paths of those outputs, such as `[0].params['w']`.
    """
    closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
    inputs = [v for arg, v in zip(args, varies, strict=True) for _ in jax.tree.leaves(arg)]
    outputs = _varying(closed.jaxpr, inputs, axis_name)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(shapes)]
    return [path for path, v in zip(paths, outputs, strict=True) if v]


def _varying(jaxpr: Any, inputs: Sequence[bool], axis_name: str) -> list[bool]:
    varying = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> bool:
        return not hasattr(atom, "val") and varying.get(atom, False)  # literals and constants are the same everywhere

    for eqn in jaxpr.eqns:
        varying.update(zip(eqn.outvars, _equation(eqn, [read(atom) for atom in eqn.invars], axis_name), strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(eqn: Any, inputs: list[bool], axis_name: str) -> list[bool]:
    num_outputs = len(eqn.outvars)
    inner = list(inner_jaxprs(eqn))
    if _over_axis(eqn, axis_name):
        reduces = eqn.primitive.name in _REDUCTIONS and eqn.params.get("axis_index_groups") is None
        return [not reduces] * num_outputs
    if not any(_mentions(jaxpr, axis_name) for jaxpr in inner):
        return [any(inputs)] * num_outputs
    if eqn.primitive.name == "scan":
        return _scan(eqn, inner[0], inputs, axis_name)
    if eqn.primitive.name == "cond":
        branches = [_varying(jaxpr, inputs[1:], axis_name) for jaxpr in inner]
        return [inputs[0] or any(outputs) for outputs in zip(*branches, strict=True)]
    if eqn.primitive.name == "while":
        return _while(eqn, inputs, axis_name)
    if len(inner) == 1 and len(inner[0].invars) == len(inputs):  # jit, remat, custom_jvp, custom_vjp
        return _varying(inner[0], inputs, axis_name)
    return [True] * num_outputs  # not known: it may hold an axis_index


def _scan(eqn: Any, body: Any, inputs: list[bool], axis_name: str) -> list[bool]:
    """A scan's carry varies if it does after any number of steps."""
    scanned = [outer.aval.ndim > inner.aval.ndim for outer, inner in zip(eqn.invars, body.invars, strict=True)]
    num_carry = sum(o.aval.ndim == i.aval.ndim for o, i in zip(eqn.outvars, body.outvars, strict=True))
    first = len(inputs) - sum(scanned) - num_carry  # the constants come first, then the carry
    while True:
        outputs = _varying(body, inputs, axis_name)
        carry = [before or after for before, after in zip(inputs[first:], outputs[:num_carry], strict=False)]
        if carry == inputs[first : first + num_carry]:
            return carry + outputs[num_carry:]
        inputs = [*inputs[:first], *carry, *inputs[first + num_carry :]]


def _while(eqn: Any, inputs: list[bool], axis_name: str) -> list[bool]:
    """A loop's carry varies if it does after any number of turns, or if their number does."""
    num_cond, num_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    of_cond, of_body, carry = inputs[:num_cond], inputs[num_cond:][:num_body], inputs[num_cond + num_body :]
    while True:
        (stop,) = _varying(eqn.params["cond_jaxpr"].jaxpr, [*of_cond, *carry], axis_name)
        outputs = _varying(eqn.params["body_jaxpr"].jaxpr, [*of_body, *carry], axis_name)
        after = [stop or was or now for was, now in zip(carry, outputs, strict=True)]
        if after == carry:
            return carry
        carry = after


def inner_jaxprs(eqn: Any) -> Iterator[Any]:
    """The jaxprs that an equation carries, such as a scan's body or a cond's branches."""
    for value in eqn.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            jaxpr = getattr(item, "jaxpr", item)
            if hasattr(jaxpr, "eqns"):
                yield jaxpr


def _over_axis(eqn: Any, axis_name: str) -> bool:
    axes = eqn.params.get("axes", eqn.params.get("axis_name", ()))
    return axis_name in (axes if isinstance(axes, tuple | list) else (axes,))


def _mentions(jaxpr: Any, axis_name: str) -> bool:
    return any(
        _over_axis(eqn, axis_name) or any(_mentions(inner, axis_name) for inner in inner_jaxprs(eqn))
        for eqn in jaxpr.eqns
    )
