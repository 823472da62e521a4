"""The gradient of attention's queries on Hopper; `attention_hopper_slope` has the formulas.

A block of three warpgroups serves a tile of queries. The third copies the keys and values that they see into rings of
shared memory; the other two keep the gradients of their half of the queries in registers.

The file imports Mosaic GPU; `jaxdl.kernels` imports it when a kernel is asked for.
"""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxdl.kernels import attention_hopper_tiles as tiles
from jaxdl.kernels import mosaic
from jaxdl.kernels.attention_case import Form
from jaxdl.kernels.attention_hopper_slope import (
    WARPGROUPS,
    Inputs,
    Ring,
    Tile,
    accumulate,
    afresh,
    blocks,
    tile_gradients,
    zeros,
)
from jaxdl.kernels.configs import AttentionBackwardConfig

SMALL = 3_072  # bytes of shared memory, at most, for barriers and segment ids


def query_gradient(inputs: Inputs, form: Form, config: AttentionBackwardConfig) -> jax.Array:
    """The gradient of the queries, `[batch, q_len, heads, depth]` in their dtype.

    The ring of values is a place shorter than `num_stages` where shared memory would not hold it (a depth of 256):
    values are needed for a shorter time than keys.

    Args:
      inputs: `q_len` is a multiple of `2 * block_q_dq`, `kv_len` of `block_kv_dq`.
      form: of the whole attention, with the lengths before padding.
      config: `block_q_dq`, `block_kv_dq` and `num_stages` count.
    """
    batch, q_len, heads, _ = inputs.query.shape
    num_tiles = q_len // (WARPGROUPS * config.block_q_dq)

    def attention_dq(inputs: Inputs, d_query: Any, **scratch: Any) -> None:
        block = _Block(form, config, num_tiles, inputs, d_query, SimpleNamespace(**scratch))
        pl.when(block.warpgroup < WARPGROUPS)(block.compute)
        pl.when(block.warpgroup == WARPGROUPS)(block.copy)

    return mosaic.kernel(
        attention_dq,
        out_type=jax.ShapeDtypeStruct(inputs.query.shape, inputs.query.dtype),
        grid=(batch, heads, num_tiles),  # the last runs fastest: neighbours share their keys in the cache
        grid_names=("batch", "head", "tile"),
        num_threads=WARPGROUPS + 1,
        thread_name="warpgroup",
        scratch_types=_scratch(inputs, config),
    )(inputs)


def _scratch(inputs: Inputs, config: AttentionBackwardConfig) -> dict[str, Any]:
    """Shared memory and barriers, by name."""
    block_q, block_kv, places = config.block_q_dq, config.block_kv_dq, config.num_stages
    dtype, depth, v_depth = inputs.query.dtype, inputs.query.shape[-1], inputs.value.shape[-1]
    rows = WARPGROUPS * block_q + places * block_kv  # of queries and of keys; of output gradients and of values
    fits = rows * (depth + v_depth) * jnp.dtype(dtype).itemsize <= mosaic.SHARED_MEMORY_LIMIT - SMALL
    value_places = places if fits else max(1, places - 1)
    has_segments = inputs.key_segments is not None
    scratch = {
        "queries": blocks(WARPGROUPS, block_q, depth, dtype),
        "d_outputs": blocks(WARPGROUPS, block_q, v_depth, dtype),
        "keys": blocks(places, block_kv, depth, dtype),
        "values": blocks(value_places, block_kv, v_depth, dtype),
        "queries_filled": plgpu.Barrier(num_arrivals=2, num_barriers=WARPGROUPS),
        "keys_filled": plgpu.Barrier(num_arrivals=1 + has_segments, num_barriers=places),
        "keys_emptied": plgpu.Barrier(num_arrivals=WARPGROUPS, num_barriers=places),
        "values_filled": plgpu.Barrier(num_barriers=value_places),
        "values_emptied": plgpu.Barrier(num_arrivals=WARPGROUPS, num_barriers=value_places),
    }
    if has_segments:
        scratch["segments_of_columns"] = plgpu.SMEM((places, block_kv), jnp.int32)
    return scratch


class _Block:
    """What a block of three warpgroups does for a tile of queries of one head.

    `given` and `d_query` are the references to inputs and output, `scratch` those to shared memory and barriers.
    """

    def __init__(
        self, form: Form, config: AttentionBackwardConfig, num_tiles: int, given: Inputs, d_query: Any, scratch: Any
    ) -> None:
        self.form, self.given, self.d_query, self.scratch = form, given, d_query, scratch
        self.example, self.head, tile, self.warpgroup = (
            lax.axis_index(name) for name in ("batch", "head", "tile", "warpgroup")
        )
        if form.window[1] is not None:
            tile = num_tiles - 1 - tile  # the longest first, so that the device ends evenly
        self.block_q, self.block_kv = config.block_q_dq, config.block_kv_dq
        self.row = tile * (WARPGROUPS * self.block_q)
        self.keys = Ring(scratch.keys.shape[0], scratch.keys_filled, scratch.keys_emptied)
        self.values = Ring(scratch.values.shape[0], scratch.values_filled, scratch.values_emptied)
        self.has_segments, self.lengths = given.key_segments is not None, given.lengths(self.example)
        self.visit = tiles.key_blocks(
            form, self.row, WARPGROUPS * self.block_q, self.block_kv, segments=self.has_segments, **self.lengths
        )

    # The third warpgroup

    def copy(self) -> None:
        """Copies the queries and their output's gradients, then the keys and values that they see."""
        plgpu.set_max_registers(mosaic.REGISTERS[1], action="decrease")
        for index in range(WARPGROUPS):
            self.copy_queries(index)
        steps = self.visit.last - self.visit.first
        lax.fori_loop(0, steps, lambda step, _: self.copy_keys(step), None)
        self.keys.drain(steps)
        self.values.drain(steps)

    def copy_queries(self, index: int) -> None:
        """Those of one warpgroup."""
        given, scratch, rows = self.given, self.scratch, pl.ds(self.row + index * self.block_q, self.block_q)
        filled = scratch.queries_filled.at[index]
        plgpu.copy_gmem_to_smem(given.query.at[self.example, rows, self.head], scratch.queries.at[index], filled)
        plgpu.copy_gmem_to_smem(given.d_output.at[self.example, rows, self.head], scratch.d_outputs.at[index], filled)

    def copy_keys(self, step: Any) -> None:
        """The keys and values of a step."""
        given, scratch = self.given, self.scratch
        columns = pl.ds((self.visit.first + step) * self.block_kv, self.block_kv)
        head = lax.div(self.head, jnp.int32(self.form.heads // self.form.kv_heads))
        place = self.keys.await_empty(step)
        filled = self.keys.filled.at[place]
        plgpu.copy_gmem_to_smem(given.key.at[self.example, columns, head], scratch.keys.at[place], filled)
        if self.has_segments:
            segments = scratch.segments_of_columns.at[place]
            plgpu.copy_gmem_to_smem(given.key_segments.at[self.example, columns], segments, filled)
        place = self.values.await_empty(step)
        filled = self.values.filled.at[place]
        plgpu.copy_gmem_to_smem(given.value.at[self.example, columns, head], scratch.values.at[place], filled)

    # The other two

    def compute(self) -> None:
        """The gradients of the warpgroup's queries."""
        plgpu.set_max_registers(mosaic.REGISTERS[0], action="increase")
        given, scratch, mine, per_row = self.given, self.scratch, self.warpgroup, plgpu.Layout.WGMMA.reduce(1)
        first_row = self.row + mine * self.block_q
        rows = pl.ds(first_row, self.block_q)
        residual = mosaic.load(given.residual.at[self.example, self.head, rows], per_row)
        row_sums = mosaic.load(given.row_sums.at[self.example, self.head, rows], per_row)
        segments = mosaic.load(given.query_segments.at[self.example, rows], per_row) if self.has_segments else None
        total = zeros(self.block_q, scratch.queries.shape[-1])
        plgpu.barrier_wait(scratch.queries_filled.at[mine])
        for run in self.visit.runs:

            def each(block: Any, total: jax.Array, masked: bool = run.masked) -> jax.Array:
                seen = (first_row, segments) if masked else None
                return self.visit_keys(block, total, residual, row_sums, seen)

            total = lax.fori_loop(run.start, run.stop, each, total)
        staged = scratch.queries.at[mine]
        staged[...] = (total * float(self.form.scale)).astype(self.form.dtype)
        plgpu.commit_smem()
        plgpu.copy_smem_to_gmem(staged, self.d_query.at[self.example, rows, self.head])
        plgpu.wait_smem_to_gmem(0)

    def visit_keys(
        self, block: Any, total: jax.Array, residual: jax.Array, row_sums: jax.Array, masked: Any
    ) -> jax.Array:
        """Adds what a block of keys gives; `masked` is None, or the first row and the segments of the rows."""
        scratch, step, shape = self.scratch, block - self.visit.first, (self.block_q, self.block_kv)
        key_place, value_place = self.keys.await_filled(step), self.values.await_filled(step)
        mine, key = afresh(self.warpgroup), scratch.keys.at[key_place]

        def seen() -> jax.Array | None:
            if masked is None:
                return None
            per_column = plgpu.Layout.WGMMA.reduce(0)
            segments = mosaic.load(scratch.segments_of_columns.at[key_place], per_column) if self.has_segments else None
            return tiles.seen(
                self.form, masked[0], block * self.block_kv, shape, key_length=self.lengths["key_length"],
                row_segments=masked[1], column_segments=segments,
            )  # fmt: skip

        tile = Tile(
            residual=lambda: lax.broadcast_in_dim(residual, shape, [0]),
            row_sums=lambda: lax.broadcast_in_dim(row_sums, shape, [0]),
            seen=seen,
        )
        x_factors = scratch.queries.at[mine], key
        _, d_scores = tile_gradients(
            self.form, tile, x_factors, (scratch.d_outputs.at[mine], scratch.values.at[value_place])
        )
        plgpu.barrier_arrive(self.values.emptied.at[value_place])
        (total,) = accumulate((total,), ((d_scores, key),))
        plgpu.barrier_arrive(self.keys.emptied.at[key_place])
        return total
