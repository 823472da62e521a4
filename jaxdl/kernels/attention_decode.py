"""Attention of one query to a long cache ("Flash-Decoding", Dao et al., 2023): how the kernel's work is laid out.

A token reads the whole cache for two products of a few rows, so it takes as long as the memory needs. The cache is
split over enough blocks to keep the memory busy, and their outputs are merged by their residuals.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdl.kernels import mosaic
from jaxdl.kernels.attention_case import Extras, Form
from jaxdl.kernels.attention_merge import merge_attention
from jaxdl.kernels.configs import DecodeConfig
from jaxdl.kernels.manual_axes import vary_alike

ROWS = 64  # of a tile of queries: what the tensor cores take
COLUMNS = 64  # of the output that leave at a time
EIGHT = 8  # rows of the copy engine's tiles
MEMORY_OF_PROCESSOR = 233_472  # bytes of shared memory
SPARE = 4_096  # bytes of it for barriers and alignment, and what the system takes for each block


def refusal(extras: Extras, form: Form) -> str | None:
    """Why `decode` cannot do what the forward kernel can; None where it can."""
    if form.q_len != 1:
        return f"the decode kernel takes one query, got {form.q_len}"
    if extras.bias is not None or extras.query_segments is not None:
        return "the decode kernel takes no bias and no segment ids"
    return None


def decode(
    query: jax.Array, key: jax.Array, value: jax.Array, extras: Extras, form: Form, config: DecodeConfig
) -> tuple[jax.Array, jax.Array]:
    """Attention of one query to the keys that lengths and window let it see.

    The kernel reads caches that have their heads first, as those of `nn.MultiHeadAttention` do: XLA cancels what swaps
    their axes for this function with what swaps them back. Another order, or a length that is no multiple of 8, is
    copied first, which takes longer than the attention. It lowers for any machine and runs on Hopper and in the
    interpreter.

    Args:
      query: bfloat16 or float16 `[batch, 1, heads, depth]`; the depth is 64, 128 or 256.
      key: `[batch, kv_len, kv_heads, depth]`.
      value: `[batch, kv_len, kv_heads, v_depth]`; the depth is one of these too.
      extras: lengths, and nothing else.
      form: of these shapes.
      config: its blocks.

    Returns:
      `[batch, 1, heads, v_depth]` in the dtype of value, and float32 `[batch, heads, 1]`. Rows that see nothing are
      zeros and -inf.
    """
    from jaxdl.kernels import attention_hopper_decode

    (batch, _, heads, depth), v_depth = query.shape, value.shape[-1]
    group = heads // form.kv_heads
    queries = query.reshape(batch, form.kv_heads, group, depth)
    queries = _pad(queries, 2, EIGHT if group <= ROWS else ROWS)  # the copy engine fills the rest of a tile with zeros
    config = dataclasses.replace(config, num_splits=_num_splits(queries, v_depth, form, config))
    keys, values = (_pad(x.swapaxes(1, 2), 2, EIGHT) for x in (key, value))
    parts = attention_hopper_decode.parts(*_seen(form, extras), queries, keys, values, form, config)
    _, (outputs, residuals) = vary_alike(queries, parts)
    output, residual = merge_attention(outputs, residuals)
    output = output[:, :, :group].reshape(batch, 1, heads, v_depth).astype(value.dtype)
    return output, residual[:, :, :group].reshape(batch, heads, 1)


def shared_memory(depth: int, v_depth: int, config: DecodeConfig) -> int:
    """Bytes of shared memory that a block takes."""
    ring = config.num_stages * config.block_kv * (depth + v_depth) * 2
    return ROWS * depth * 2 + ring + ROWS * COLUMNS * 4 + ROWS * 4 + SPARE


def splits(work: int, tiles: int, places: int) -> int:
    """Into how many parts to split the cache.

    Blocks run in rounds, as many at a time as the device has places for. A block takes as long as its tiles of keys,
    and one more to begin and end. Fewer parts write less: of those within a twentieth of the shortest time, the fewest.

    Args:
      work: blocks without a split.
      tiles: of keys in the cache, at least 1.
      places: blocks that the device runs at the same time.
    """
    times = [-(-work * parts // places) * (-(-tiles // parts) + 1) for parts in range(1, tiles + 1)]
    return 1 + next(i for i, time in enumerate(times) if time <= 1.05 * min(times))


def _num_splits(queries: jax.Array, v_depth: int, form: Form, config: DecodeConfig) -> int:
    (batch, kv_heads, rows, depth), (left, _) = queries.shape, form.window
    visible = form.kv_len if left is None else min(form.kv_len, left + EIGHT)
    tiles = max(-(-visible // config.block_kv), 1)
    if config.num_splits is not None:
        return min(config.num_splits, tiles)
    together = max(MEMORY_OF_PROCESSOR // shared_memory(depth, v_depth, config), 1)
    return splits(batch * kv_heads * -(-rows // ROWS), tiles, mosaic.num_multiprocessors() * together)


def _seen(form: Form, extras: Extras) -> tuple[jax.Array, jax.Array]:
    """Of each example the first key that is seen, and the end of those: 0 if there are none. Both int32 `[batch]`."""
    left, _ = form.window  # nothing is to the right of the last key
    start = jnp.full((form.batch,), 0 if left is None else max(form.kv_len - 1 - left, 0), jnp.int32)
    stop = jnp.full((form.batch,), form.kv_len, jnp.int32)
    if extras.key_lengths is not None:
        stop = jnp.minimum(stop, extras.key_lengths.astype(jnp.int32))
    if extras.query_lengths is not None:
        stop = jnp.where(extras.query_lengths > 0, stop, 0)
    return start, jnp.where(stop > start, stop, 0)


def _pad(x: jax.Array, axis: int, multiple: int) -> jax.Array:
    """Zeros at the end of an axis, up to a multiple."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, -x.shape[axis] % multiple)
    return jnp.pad(x, widths)
