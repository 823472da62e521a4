"""Which blocks of keys a block of queries visits, which way round too, and which scores of a tile count.

For the kernels of attention on Hopper. Positions are those of `attention_case.Form`: query i stands at key
`i + kv_len - q_len` and sees from `left` keys before it to `right` keys behind it. Numbers are Python's where they are
known when the kernel is traced, else int32. A block that nobody sees is not visited, and one that all queries see whole
is marked, so that its scores need no mask.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdl.kernels import mosaic
from jaxdl.kernels.attention_case import Form


class Run(NamedTuple):
    """Blocks from `start` up to `stop`; `masked` says whether some of their scores may not count."""

    start: Any
    stop: Any
    masked: bool


class Visit(NamedTuple):
    """The blocks from `first` up to `last`, in runs one after the other; none where they are equal."""

    first: Any
    last: Any
    runs: tuple[Run, ...]


def key_blocks(
    form: Form, row: Any, rows: int, block: int, *, query_length: Any = None, key_length: Any = None,
    segments: bool = False,
) -> Visit:  # fmt: skip
    """The blocks of keys that the queries of a tile visit.

    Args:
      form: of the whole attention; its lengths are those before padding to tiles.
      row: the tile's first query.
      rows: how many; those from `q_len` on are padding and do not count.
      block: keys a block.
      query_length: of this example, where there are lengths; queries from there on see nothing.
      key_length: of this example, where there are lengths.
      segments: whether there are segment ids; then no block is known to be seen whole.
    """
    (left, right), shift = form.window, form.kv_len - form.q_len
    end = _least(row + rows, form.q_len, query_length)  # after the last query that counts
    keys = _least(form.kv_len, key_length)
    first = 0 if left is None else _floor(row + shift - left, block)
    last = _ceil(keys, block) if right is None else _ceil(_least(keys, end + shift + right), block)
    if query_length is not None:
        last = _if(row < query_length, last, first)
    whole_from = 0 if left is None else _ceil(end - 1 + shift - left, block)
    whole_to = _floor(keys if right is None else _least(keys, row + shift + right + 1), block)
    masked_end = right is not None or key_length is not None or form.kv_len % block > 0
    return _visit(first, whole_from, whole_to, last, left is not None, masked_end, segments)


def query_blocks(
    form: Form, column: Any, columns: int, block: int, *, query_length: Any = None, key_length: Any = None,
    segments: bool = False,
) -> Visit:  # fmt: skip
    """The blocks of queries that visit the keys of a tile; for the gradients of keys and values.

    Queries that are padding, or that see nothing, are not told apart here: their residual does that. Nor are keys that
    are padding: their gradients are to be dropped, or set to zero.

    Args:
      form: of the whole attention; its lengths are those before padding to tiles.
      column: the tile's first key.
      columns: how many.
      block: queries a block.
      query_length: of this example, where there are lengths.
      key_length: of this example, where there are lengths.
      segments: whether there are segment ids; then no block is known to see the tile whole.
    """
    (left, right), shift = form.window, form.kv_len - form.q_len
    end = _least(column + columns, form.kv_len, key_length)  # after the last key that counts
    queries = _least(form.q_len, query_length)
    first = 0 if right is None else _floor(column - shift - right, block)
    last = _ceil(queries, block) if left is None else _ceil(_least(queries, end - shift + left), block)
    if key_length is not None:
        last = _if(column < key_length, last, first)
    whole_from = 0 if right is None else _ceil(end - 1 - shift - right, block)
    whole_to = last if left is None else _floor(column - shift + left + 1, block)
    return _visit(first, whole_from, whole_to, last, right is not None, left is not None, segments)


def seen(
    form: Form, row: Any, column: Any, shape: tuple[int, int], *, row_axis: int = 0, key_length: Any = None,
    row_segments: Any = None, column_segments: Any = None,
) -> jax.Array | None:  # fmt: skip
    """Which scores of a tile count, in the register layout of wgmma's result.

    Args:
      form: of the whole attention; its lengths are those before padding to tiles.
      row: the tile's first query.
      column: the tile's first key.
      shape: of the tile.
      row_axis: 0 for `[rows, columns]`; 1 for `[columns, rows]`.
      key_length: of this example, where there are lengths.
      row_segments: int32 `[rows]`, in the layout of wgmma reduced along the columns, where there are segment ids.
      column_segments: int32 `[columns]`, likewise along the rows.

    Returns:
      Boolean of that shape; None if all count, by what is known here.
    """
    from jax.experimental.pallas import mosaic_gpu as plgpu

    (left, right), column_axis = form.window, 1 - row_axis
    position = row + (form.kv_len - form.q_len) - column  # of the first query, counted from the first key

    def along(axis: int, index: jax.Array) -> jax.Array:
        return jax.lax.broadcast_in_dim(index, shape, [axis])

    bounds = []
    if right is not None or left is not None:
        # A thread has two indices of axis 0 and many of axis 1. The former are shifted: what does not change from tile
        # to tile is kept in registers, and differences of indices that are not shifted would be one a score.
        rows, columns = (
            mosaic.iota((shape[axis],), 0, plgpu.Layout.WGMMA.reduce(1 - axis)) for axis in (row_axis, column_axis)
        )
        far = position + (0 if right is None else right)
        if row_axis == 0:
            distance = along(0, rows + far) - along(1, columns)
        else:
            distance = along(1, rows) - along(0, columns - far)
        if right is not None:
            bounds.append(distance >= 0)
        if left is not None:
            bounds.append(distance <= left + (0 if right is None else right))
    if key_length is not None or form.kv_len % shape[column_axis]:
        index = mosaic.iota((shape[column_axis],), 0, plgpu.Layout.WGMMA.reduce(row_axis))
        bounds.append(along(column_axis, index) < _least(form.kv_len, key_length) - column)
    if row_segments is not None:
        bounds.append(along(row_axis, row_segments) == along(column_axis, column_segments))
    if not bounds:
        return None
    result = bounds[0]
    for bound in bounds[1:]:
        result = result & bound
    return result


def pad(x: jax.Array, axis: int, multiple: int) -> jax.Array:
    """Zeros at the end of an axis, up to a multiple of its size."""
    missing = -x.shape[axis] % multiple
    if not missing:
        return x
    return jnp.pad(x, [(0, missing if each == axis else 0) for each in range(x.ndim)])


def _visit(
    first: Any, whole_from: Any, whole_to: Any, last: Any, masked_start: bool, masked_end: bool, segments: bool
) -> Visit:
    last = _most(first, last)
    if segments:
        return Visit(first, last, (Run(first, last, True),))
    whole_from = _least(_most(first, whole_from), last) if masked_start else first
    whole_to = _least(_most(whole_from, whole_to), last) if masked_end else last
    runs = [Run(first, whole_from, True)] if masked_start else []
    runs.append(Run(whole_from, whole_to, False))
    if masked_end:
        runs.append(Run(whole_to, last, True))
    return Visit(first, last, tuple(runs))


def _least(*numbers: Any) -> Any:
    """The least of those that are given; Python's where all are."""
    known = [x for x in numbers if isinstance(x, int)]
    result = min(known) if known else None
    for x in numbers:
        if x is not None and not isinstance(x, int):
            result = x if result is None else jnp.minimum(x, result)
    return result


def _most(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    return jnp.maximum(a, b)


def _if(condition: jax.Array, a: Any, b: Any) -> jax.Array:
    """In int32, in a program of 64 bits too."""
    return jnp.where(condition, jnp.asarray(a, jnp.int32), jnp.asarray(b, jnp.int32))


def _floor(x: Any, block: int) -> Any:
    """`x // block`, 0 for negative ones: the device's division rounds towards zero."""
    x = _most(x, 0)
    return x // block if isinstance(x, int) else jax.lax.div(x, jnp.int32(block))


def _ceil(x: Any, block: int) -> Any:
    return _floor(_most(x, 0) + block - 1, block)
