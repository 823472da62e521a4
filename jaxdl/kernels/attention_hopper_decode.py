"""The kernel of attention of one query to a long cache, on Hopper.

The queries that share keys are the rows of one tile; what is missing of 64 is padding. A block works on one part of the
keys, which it copies into a ring of shared memory ahead of the products. It is one warpgroup: the copy engine works by
itself, and a place in the ring is filled again by the one that has just read it. Blocks are small, so that up to a
depth of 128 two share a processor, and one computes while the other waits.

The file imports Mosaic GPU; `jaxdl.kernels` imports it when a kernel is asked for.
"""

import math
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxdl.kernels import mosaic
from jaxdl.kernels.attention_case import Form
from jaxdl.kernels.attention_decode import COLUMNS, EIGHT, ROWS
from jaxdl.kernels.configs import DecodeConfig

LOG2_E = math.log2(math.e)


def parts(
    start: jax.Array, stop: jax.Array, queries: jax.Array, key: jax.Array, value: jax.Array, form: Form,
    config: DecodeConfig,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """Attention to each part of the keys.

    Args:
      start: int32 `[batch]`, the first key that is seen.
      stop: int32 `[batch]`, the end of those that are; not above `start` where there are none.
      queries: `[batch, kv_heads, rows, depth]`; the rows are a multiple of 8, and of 64 if there are more.
      key: `[batch, kv_heads, kv_len, depth]`; the length is a multiple of 8.
      value: `[batch, kv_heads, kv_len, v_depth]`.
      form: of the whole attention.
      config: its blocks, and how many parts.

    Returns:
      Float32 `[splits, batch, kv_heads, rows, v_depth]` and `[splits, batch, kv_heads, rows]`.
    """
    (batch, kv_heads, rows, depth), v_depth, dtype = queries.shape, value.shape[-1], queries.dtype
    num_splits, stages = config.num_splits, config.num_stages

    def attention_decode(*refs: Any, **scratch: Any) -> None:
        names = ("start", "stop", "queries", "key", "value", "outputs", "residuals")
        given = dict(zip(names, refs, strict=True))
        _Block(form, config, SimpleNamespace(**given), SimpleNamespace(**scratch)).run()

    def memory(shape: tuple[int, ...], dtype: Any) -> Any:
        return plgpu.SMEM(shape, dtype, transforms=mosaic.tile_transforms(dtype, shape[-1]))

    return mosaic.kernel(
        attention_decode,
        out_type=(
            jax.ShapeDtypeStruct((num_splits, batch, kv_heads, rows, v_depth), jnp.float32),
            jax.ShapeDtypeStruct((num_splits, batch, kv_heads, rows), jnp.float32),
        ),
        grid=(num_splits, batch, kv_heads, -(-rows // ROWS)),
        grid_names=("split", "batch", "head", "tile"),
        scratch_types={
            "queries": memory((ROWS, depth), dtype),
            "keys": memory((stages, config.block_kv, depth), dtype),
            "values": memory((stages, config.block_kv, v_depth), dtype),
            "outputs": memory((ROWS, COLUMNS), jnp.float32),
            "residuals": plgpu.SMEM((ROWS,), jnp.float32),
            "query_ready": plgpu.Barrier(),
            "key_ready": plgpu.Barrier(num_barriers=stages),
            "value_ready": plgpu.Barrier(num_barriers=stages),
        },
    )(start, stop, queries, key, value)


class _Block:
    """What a warpgroup does for its part of the keys of one head.

    `given` are the references to inputs and outputs, `scratch` those to shared memory and barriers.
    """

    def __init__(self, form: Form, config: DecodeConfig, given: Any, scratch: Any) -> None:
        self.form, self.config, self.given, self.scratch = form, config, given, scratch
        self.split, self.batch, self.head, tile = (lax.axis_index(x) for x in ("split", "batch", "head", "tile"))
        self.row = tile * ROWS
        self.start, self.stop = given.start[self.batch], given.stop[self.batch]
        origin = _floor(self.start, EIGHT) * EIGHT  # where the copy engine's tiles begin
        tiles = _ceil(jnp.maximum(self.stop - origin, 0), config.block_kv)  # each with a key that is seen
        share = _ceil(tiles, given.outputs.shape[0])
        first = jnp.minimum(self.split * share, tiles)
        self.origin = origin + first * config.block_kv
        self.tiles = jnp.minimum(share, tiles - first)  # mine

    def run(self) -> None:
        """Attention to the part's keys, from the first copy to the last."""
        form, scratch, given = self.form, self.scratch, self.given
        for index in range(self.config.num_stages):
            self.copy_keys(index)
            if index == 0:
                queries = given.queries.at[self.batch, self.head, pl.ds(self.row, ROWS)]
                plgpu.copy_gmem_to_smem(queries, scratch.queries, scratch.query_ready)
            self.copy_values(index)
        plgpu.barrier_wait(scratch.query_ready)

        per_row, v_depth = plgpu.Layout.WGMMA.reduce(1), given.value.shape[-1]
        state = (
            mosaic.in_layout(jnp.zeros((ROWS, v_depth), jnp.float32), plgpu.Layout.WGMMA),
            mosaic.in_layout(jnp.full((ROWS,), -jnp.inf, jnp.float32), per_row),
            mosaic.in_layout(jnp.zeros((ROWS,), jnp.float32), per_row),
        )
        whole = 0  # tiles whose keys are all seen
        if form.window[0] is None:
            whole = jnp.minimum(_floor(jnp.maximum(self.stop - self.origin, 0), self.config.block_kv), self.tiles)
            state = lax.fori_loop(0, whole, lambda index, state: self.visit(index, state, masked=False), state)
        state = lax.fori_loop(whole, self.tiles, lambda index, state: self.visit(index, state, masked=True), state)
        self.store(*state)

    def slot(self, index: Any) -> Any:
        """Where in the ring a tile of keys is."""
        return lax.rem(jnp.asarray(index, jnp.int32), jnp.int32(self.config.num_stages))

    def copy_keys(self, index: Any) -> None:
        self.copy(index, self.given.key, self.scratch.keys, self.scratch.key_ready)

    def copy_values(self, index: Any) -> None:
        self.copy(index, self.given.value, self.scratch.values, self.scratch.value_ready)

    def copy(self, index: Any, source: Any, ring: Any, ready: Any) -> None:
        """Begins to fill a tile's place in the ring, if there is such a tile; behind the cache's end with zeros."""

        @pl.when(index < self.tiles)
        def _() -> None:
            keys = pl.ds(self.origin + index * self.config.block_kv, self.config.block_kv)
            slot = self.slot(index)
            plgpu.copy_gmem_to_smem(source.at[self.batch, self.head, keys], ring.at[slot], ready.at[slot])

    def visit(self, index: Any, state: Any, masked: bool) -> Any:
        """Adds a tile of keys and values to the sums.

        The state is the sum of the weighted values, the largest score so far in units of log 2, and the sum of weights.
        """
        scratch, slot, later = self.scratch, self.slot(index), index + self.config.num_stages
        output, largest, total = state
        plgpu.barrier_wait(scratch.key_ready.at[slot])
        x, factor = self.scores(index, slot, masked)
        self.copy_keys(later)
        before, largest = largest, jnp.maximum(largest, x.max(axis=1) * factor)  # no tile is without a key that is seen
        shrink = jnp.exp2(before - largest)
        weights = jnp.exp2(x * factor - lax.broadcast_in_dim(largest, x.shape, [0]))
        output = output * lax.broadcast_in_dim(shrink, output.shape, [0])
        total = total * shrink + weights.sum(axis=1)
        plgpu.barrier_wait(scratch.value_ready.at[slot])
        output = mosaic.wgmma_into(output, weights.astype(self.given.value.dtype), scratch.values.at[slot])
        self.copy_values(later)
        return output, largest, total

    def scores(self, index: Any, slot: Any, masked: bool) -> tuple[jax.Array, float]:
        """The tile's scores, -inf where they do not count, and a positive factor that makes them exponents of 2."""
        form, shape = self.form, (ROWS, self.config.block_kv)

        def products(x: Any) -> jax.Array:
            plgpu.wgmma(x, self.scratch.queries, self.scratch.keys.at[slot].transpose((1, 0)))
            return x[...]

        registers = plgpu.ACC(shape, jnp.float32)  # pyright: ignore[reportPrivateImportUsage]
        x, factor = pl.run_scoped(products, registers), form.scale * LOG2_E
        if form.softcap is not None:
            x, factor = jnp.tanh(x * (form.scale / form.softcap)), form.softcap * LOG2_E
        elif factor <= 0:
            x, factor = x * factor, 1.0
        if masked:
            key = mosaic.iota(shape, 1, plgpu.Layout.WGMMA) + (self.origin + index * self.config.block_kv)
            seen = key < self.stop
            if form.window[0] is not None:
                seen = seen & (key >= self.start)
            x = jnp.where(seen, x, -jnp.inf)
        return x, factor

    def store(self, output: jax.Array, largest: jax.Array, total: jax.Array) -> None:
        """Writes the part's output and residual; only the rows that there are."""
        given, scratch, rows = self.given, self.scratch, min(self.given.queries.shape[2], ROWS)
        mine = (self.split, self.batch, self.head, pl.ds(self.row, rows))
        inverse = jnp.where(total == 0, 0.0, 1 / total)
        output = output * lax.broadcast_in_dim(inverse, output.shape, [0])
        scratch.residuals[...] = (largest + jnp.log2(total)) * (1 / LOG2_E)
        plgpu.commit_smem()
        plgpu.copy_smem_to_gmem(scratch.residuals.at[pl.ds(0, rows)], given.residuals.at[mine])
        for column in range(0, output.shape[1], COLUMNS):
            if column:
                plgpu.wait_smem_to_gmem(0, wait_read_only=True)  # the columns before have left
            scratch.outputs[...] = output[:, column : column + COLUMNS]
            plgpu.commit_smem()
            columns = (*mine, pl.ds(column, COLUMNS))
            plgpu.copy_smem_to_gmem(scratch.outputs.at[pl.ds(0, rows)], given.outputs.at[columns])
        plgpu.wait_smem_to_gmem(0)


def _floor(x: jax.Array, multiple: int) -> jax.Array:
    return lax.div(x, jnp.int32(multiple))


def _ceil(x: jax.Array, multiple: int) -> jax.Array:
    return _floor(x + (multiple - 1), multiple)
