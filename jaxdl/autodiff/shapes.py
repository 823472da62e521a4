"""Rules of primitives that move numbers and change none: broadcasts, slices, transposes, conversions."""

from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.autodiff.rules import LinearMap, register_linear, register_rule

Array = jax.Array


def _pull_broadcast(adjoint: Array, x: Array, *, shape: Any, broadcast_dimensions: Any, sharding: Any) -> Array:
    """Sums over the axes that were added or stretched."""
    kept = [axis for i, axis in enumerate(broadcast_dimensions) if x.shape[i] == shape[axis]]
    summed = (
        adjoint.sum([axis for axis in range(len(shape)) if axis not in kept]) if len(kept) < len(shape) else adjoint
    )
    return summed.reshape(x.shape)  # the stretched axes had length 1


def _pull_slice(adjoint: Array, x: Array, *, start_indices: Any, limit_indices: Any, strides: Any) -> Array:
    """Puts each element back in its place, among zeros."""
    strides = strides or (1,) * x.ndim
    spans = [(n - 1) * stride + 1 if n else 0 for n, stride in zip(adjoint.shape, strides, strict=True)]
    return lax.pad(
        adjoint,
        jnp.zeros((), x.dtype),
        [
            (start, size - start - span, stride - 1)
            for start, size, span, stride in zip(start_indices, x.shape, spans, strides, strict=True)
        ],
    )


def _take(array: Array, padding_config: Any) -> Array:
    """The elements of a padded array that are not padding: the transposed of `pad` by its operand."""
    cropped = lax.pad(array, jnp.zeros((), array.dtype), [(-low, -high, 0) for low, high, _ in padding_config])
    return lax.slice(cropped, (0,) * array.ndim, cropped.shape, [inner + 1 for _, _, inner in padding_config])


def _inverse(permutation: Any) -> list[int]:
    return sorted(range(len(permutation)), key=lambda i: permutation[i])


def _pull_reshape(adjoint: Array, x: Array, *, new_sizes: Any, dimensions: Any, sharding: Any) -> Array:
    if dimensions is None:
        return adjoint.reshape(x.shape)
    transposed = adjoint.reshape([x.shape[axis] for axis in dimensions])  # the axes were put in this order first
    return lax.transpose(transposed, _inverse(dimensions))


register_linear("broadcast_in_dim", _pull_broadcast)
register_linear("slice", _pull_slice)
register_linear("reshape", _pull_reshape)
register_linear("squeeze", lambda adjoint, x, *, dimensions: adjoint.reshape(x.shape))
register_linear("transpose", lambda adjoint, x, *, permutation: lax.transpose(adjoint, _inverse(permutation)))
register_linear("rev", lambda adjoint, x, *, dimensions: lax.rev(adjoint, dimensions))
register_linear("split", lambda adjoints, x, *, sizes, axis: lax.concatenate(adjoints, axis))
register_linear("unstack", lambda adjoints, x, *, axis: jnp.stack(adjoints, axis))
register_linear("convert_element_type", lambda adjoint, x, *, new_dtype, weak_type, sharding: adjoint.astype(x.dtype))
register_linear("reduce_precision", lambda adjoint, x, **bits: lax.reduce_precision(adjoint, **bits))
register_linear("copy", lambda adjoint, x: adjoint)
register_linear("copy_p", lambda adjoint, x: adjoint)
register_linear("name", lambda adjoint, x, *, name: adjoint)  # of jax.ad_checkpoint.checkpoint_name


@register_rule("optimization_barrier")
def _barrier(*inputs: Array, output: list[Array]) -> list[LinearMap]:
    def place(i: int) -> LinearMap:
        return LinearMap(lambda t: [t if j == i else None for j in range(len(inputs))], lambda adjoints: adjoints[i])

    return [place(i) for i in range(len(inputs))]


@register_rule("concatenate")
def _concatenate(*inputs: Array, output: Array, dimension: int) -> list[LinearMap]:
    def part(start: int, x: Array) -> LinearMap:
        around = [(0, 0, 0)] * x.ndim
        around[dimension] = (start, output.shape[dimension] - start - x.shape[dimension], 0)
        return LinearMap(
            push=lambda t: lax.pad(t, jnp.zeros((), t.dtype), around),
            pull=lambda g: lax.slice_in_dim(g, start, start + x.shape[dimension], axis=dimension),
        )

    starts = accumulate((x.shape[dimension] for x in inputs), initial=0)
    return [part(start, x) for start, x in zip(starts, inputs, strict=False)]


@register_rule("stack")
def _stack(*inputs: Array, output: Array, axis: int) -> list[LinearMap]:
    def part(i: int) -> LinearMap:
        return LinearMap(pull=lambda g: lax.index_in_dim(g, i, axis, keepdims=False))

    return [part(i) for i in range(len(inputs))]


@register_rule("tile")
def _tile(x: Array, *, output: Array, reps: Any) -> LinearMap:
    """The copies of an axis lie one after the other."""
    split = [size for pair in zip(reps, x.shape, strict=True) for size in pair]  # [reps, size, reps, size, ...]
    return LinearMap(lambda t: jnp.tile(t, reps), lambda g: g.reshape(split).sum(range(0, 2 * x.ndim, 2)))


@register_rule("pad")
def _pad(x: Array, value: Array, *, output: Array, padding_config: Any) -> list[LinearMap]:
    zero = jnp.zeros((), x.dtype)
    return [
        LinearMap(lambda t: lax.pad(t, zero, padding_config), lambda g: _take(g, padding_config)),
        LinearMap(
            lambda t: lax.pad(jnp.zeros_like(x), t, padding_config),
            lambda g: g.sum() - _take(g, padding_config).sum(),  # what is no padding does not depend on the value
        ),
    ]
