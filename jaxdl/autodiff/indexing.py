"""Rules of gathers and scatters, of slices at computed places, and of sorting."""

from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.autodiff.rules import LinearMap, register_rule

Array = jax.Array


@register_rule("dynamic_slice")
def _dynamic_slice(x: Array, *starts: Array, output: Array, slice_sizes: Any) -> list[LinearMap | None]:
    by_x = LinearMap(
        lambda t: lax.dynamic_slice(t, starts, slice_sizes),
        lambda g: lax.dynamic_update_slice(jnp.zeros_like(x), g, starts),
    )
    return [by_x, *(None for _ in starts)]


@register_rule("dynamic_update_slice")
def _dynamic_update_slice(x: Array, update: Array, *starts: Array, output: Array) -> list[LinearMap | None]:
    def cover(change: Array) -> Array:  # its own transposed
        return lax.dynamic_update_slice(change, jnp.zeros_like(update), starts)

    by_update = LinearMap(
        lambda t: lax.dynamic_update_slice(jnp.zeros_like(x), t, starts),
        lambda g: lax.dynamic_slice(g, starts, update.shape),
    )
    return [LinearMap(cover, cover), by_update, *(None for _ in starts)]


@register_rule("gather")
def _gather(
    x: Array,
    indices: Array,
    *,
    output: Array,
    dimension_numbers: lax.GatherDimensionNumbers,
    slice_sizes: Any,
    unique_indices: bool,
    indices_are_sorted: bool,
    mode: Any,
    fill_value: Any,
) -> list[LinearMap | None]:
    """Each adjoint goes back to where its number was taken from; the transposed of a gather is a scattered addition."""
    about = {"unique_indices": unique_indices, "indices_are_sorted": indices_are_sorted, "mode": mode}
    back = lax.ScatterDimensionNumbers(
        update_window_dims=tuple(dimension_numbers.offset_dims),
        inserted_window_dims=dimension_numbers.collapsed_slice_dims,
        scatter_dims_to_operand_dims=dimension_numbers.start_index_map,
        operand_batching_dims=dimension_numbers.operand_batching_dims,
        scatter_indices_batching_dims=dimension_numbers.start_indices_batching_dims,
    )
    by_x = LinearMap(
        lambda t: lax.gather(t, indices, dimension_numbers, slice_sizes, fill_value=0, **about),
        lambda g: lax.scatter_add(jnp.zeros_like(x), indices, g, back, **about),
    )
    return [by_x, None]


def _gather_updates(
    x: Array, indices: Array, updates: Array, numbers: lax.ScatterDimensionNumbers, **about: Any
) -> Array:
    """From an array of the shape of x, what lies at the places to which `updates` would go."""
    lone = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    sizes = iter(updates.shape[axis] for axis in numbers.update_window_dims)
    back = lax.GatherDimensionNumbers(
        offset_dims=tuple(numbers.update_window_dims),
        collapsed_slice_dims=tuple(numbers.inserted_window_dims),
        start_index_map=tuple(numbers.scatter_dims_to_operand_dims),
        operand_batching_dims=tuple(numbers.operand_batching_dims),
        start_indices_batching_dims=tuple(numbers.scatter_indices_batching_dims),
    )
    slice_sizes = [1 if axis in lone else next(sizes) for axis in range(x.ndim)]
    return lax.gather(x, indices, back, slice_sizes, fill_value=0, **about)


def _about(params: dict[str, Any]) -> dict[str, Any]:
    return {name: params[name] for name in ("unique_indices", "indices_are_sorted", "mode")}


@register_rule("scatter-add")
def _scatter_add(
    x: Array, indices: Array, updates: Array, *, output: Array, dimension_numbers: Any, **params: Any
) -> list[LinearMap | None]:
    about = _about(params)
    by_updates = LinearMap(
        lambda t: lax.scatter_add(jnp.zeros_like(x), indices, t, dimension_numbers, **about),
        lambda g: _gather_updates(g, indices, updates, dimension_numbers, **about),
    )
    return [LinearMap(lambda t: t, lambda g: g), None, by_updates]


@register_rule("scatter")
def _scatter(
    x: Array, indices: Array, updates: Array, *, output: Array, dimension_numbers: Any, **params: Any
) -> list[LinearMap | None]:
    """Where several updates go to one place, only the one that is found there afterwards has a derivative."""
    about = _about(params)
    numbers = jnp.arange(1, prod(updates.shape) + 1, dtype=jnp.int32).reshape(updates.shape)
    winners = lax.scatter(jnp.zeros(x.shape, jnp.int32), indices, numbers, dimension_numbers, **about)
    kept = winners == 0
    wins = _gather_updates(winners, indices, updates, dimension_numbers, **about) == numbers

    def cover(change: Array) -> Array:  # its own transposed
        return jnp.where(kept, change, 0)

    def push_updates(t: Array) -> Array:
        return lax.scatter_add(jnp.zeros_like(x), indices, jnp.where(wins, t, 0), dimension_numbers, **about)

    def pull_updates(g: Array) -> Array:
        return jnp.where(wins, _gather_updates(g, indices, updates, dimension_numbers, **about), 0)

    return [LinearMap(cover, cover), None, LinearMap(push_updates, pull_updates)]


@register_rule("sort")
def _sort(
    *inputs: Array, output: list[Array], dimension: int, num_keys: int, is_stable: bool
) -> list[LinearMap | None]:
    """Tangents are put in the order of the values, adjoints back in the order of before."""
    positions = lax.broadcasted_iota(jnp.int32, inputs[0].shape, dimension)
    order = lax.sort([*inputs, positions], dimension=dimension, num_keys=num_keys, is_stable=is_stable)[-1]

    def place(i: int) -> LinearMap:
        def push(t: Array) -> list[Array | None]:
            ordered = jnp.take_along_axis(t, order, dimension)
            return [ordered if j == i else None for j in range(len(inputs))]

        return LinearMap(
            push, lambda adjoints: jnp.take_along_axis(adjoints[i], jnp.argsort(order, dimension), dimension)
        )

    return [place(i) for i in range(len(inputs))]


@register_rule("top_k")
def _largest(x: Array, *, output: list[Array], k: int, axis: int, is_stable: Any = None) -> LinearMap:
    return LinearMap(lambda t: [jnp.take_along_axis(t, output[1], axis), None])
