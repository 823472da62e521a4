"""The gradients of attention's keys and values on Hopper; `attention_hopper_slope` has the formulas.

A block of three warpgroups serves a tile of keys. The third copies the queries that see it, of all heads that share
the keys, into a ring of shared memory; sums over queries and heads stay in the registers of the other two. Each of
these has both gradients of its own keys. Where two sums are more than its registers hold (a depth of 256), one has the
gradient of the keys and the other that of the values of the same keys, for five products a tile instead of four.

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

WIDEST = 256  # depths of keys and values together whose sums of 64 rows fit in the registers of one warpgroup
NARROW = 128  # those that leave it room for masks and both products of a tile at once


def key_value_gradients(inputs: Inputs, form: Form, config: AttentionBackwardConfig) -> tuple[jax.Array, jax.Array]:
    """The gradients of keys and values in their dtype, 0 from `key_lengths` on. Those of padding mean nothing.

    Args:
      inputs: `q_len` is a multiple of `block_q_dkv`, `kv_len` of `keys_of_a_block`.
      form: of the whole attention, with the lengths before padding.
      config: `block_q_dkv`, `block_kv_dkv` and `num_stages` count.
    """
    batch, kv_len, kv_heads, depth = inputs.key.shape
    columns = keys_of_a_block(depth, inputs.value.shape[-1], config)

    def attention_dkv(inputs: Inputs, d_key: Any, d_value: Any, **scratch: Any) -> None:
        block = _Block(form, config, columns, inputs, SimpleNamespace(**scratch))
        if columns > config.block_kv_dkv:
            pl.when(block.warpgroup < WARPGROUPS)(lambda: block.compute(block.warpgroup, d_key, d_value))
        else:
            pl.when(block.warpgroup == 0)(lambda: block.compute(0, d_key, None))
            pl.when(block.warpgroup == 1)(lambda: block.compute(0, None, d_value))
        pl.when(block.warpgroup == WARPGROUPS)(block.copy)

    return mosaic.kernel(
        attention_dkv,
        out_type=tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (inputs.key, inputs.value)),
        grid=(batch, kv_heads, kv_len // columns),  # the last runs fastest; where queries look back, the longest first
        grid_names=("batch", "head", "tile"),
        num_threads=WARPGROUPS + 1,
        thread_name="warpgroup",
        scratch_types=_scratch(inputs, columns // config.block_kv_dkv, config),
    )(inputs)


def keys_of_a_block(depth: int, v_depth: int, config: AttentionBackwardConfig) -> int:
    """`block_kv_dkv` for each of the two warpgroups, or for both together."""
    return config.block_kv_dkv * (WARPGROUPS if depth + v_depth <= WIDEST else 1)


def _scratch(inputs: Inputs, sets: int, config: AttentionBackwardConfig) -> dict[str, Any]:
    """Shared memory and barriers, by name."""
    block_q, block_kv, places = config.block_q_dkv, config.block_kv_dkv, config.num_stages
    dtype, depth, v_depth = inputs.query.dtype, inputs.query.shape[-1], inputs.value.shape[-1]
    has_segments = inputs.key_segments is not None
    scratch = {
        "keys": blocks(sets, block_kv, depth, dtype),
        "values": blocks(sets, block_kv, v_depth, dtype),
        "queries": blocks(places, block_q, depth, dtype),
        "d_outputs": blocks(places, block_q, v_depth, dtype),
        "residuals": plgpu.SMEM((places, block_q), jnp.float32),
        "row_sums": plgpu.SMEM((places, block_q), jnp.float32),
        "keys_filled": plgpu.Barrier(num_arrivals=2 + has_segments, num_barriers=sets),
        "queries_filled": plgpu.Barrier(num_arrivals=4 + has_segments, num_barriers=places),
        "queries_emptied": plgpu.Barrier(num_arrivals=WARPGROUPS, num_barriers=places),
    }
    if sets < WARPGROUPS:
        scratch["keys_emptied"] = plgpu.Barrier(num_arrivals=WARPGROUPS)
    if has_segments:
        scratch["segments_of_rows"] = plgpu.SMEM((places, block_q), jnp.int32)
        scratch["segments_of_columns"] = plgpu.SMEM((sets, block_kv), jnp.int32)
    return scratch


class _Block:
    """What a block of three warpgroups does for a tile of keys of one head.

    `given` are the references to the inputs, `scratch` those to shared memory and barriers. A tile of scores is
    `[block_kv, block_q]` here: its rows are keys.
    """

    def __init__(self, form: Form, config: AttentionBackwardConfig, columns: int, given: Inputs, scratch: Any) -> None:
        self.form, self.given, self.scratch = form, given, scratch
        self.example, self.head, tile, self.warpgroup = (
            lax.axis_index(name) for name in ("batch", "head", "tile", "warpgroup")
        )
        self.block_q, self.block_kv = config.block_q_dkv, config.block_kv_dkv
        self.column = tile * columns
        self.queries = Ring(scratch.queries.shape[0], scratch.queries_filled, scratch.queries_emptied)
        self.has_segments, self.lengths = given.key_segments is not None, given.lengths(self.example)
        self.visit = tiles.query_blocks(
            form, self.column, columns, self.block_q, segments=self.has_segments, **self.lengths
        )
        # Sums, both products and what masks take are more than the registers hold.
        self.in_turn = form.depth + form.v_depth > NARROW and (
            self.has_segments or form.softcap is not None or form.window[0] is not None
        )
        self.group = form.heads // form.kv_heads
        self.blocks_of_a_head = self.visit.last - self.visit.first

    # The third warpgroup

    def copy(self) -> None:
        """Copies the keys and what belongs to them, then the queries of each head that see them."""
        plgpu.set_max_registers(mosaic.REGISTERS[1], action="decrease")
        for index in range(self.scratch.keys.shape[0]):
            self.copy_keys(index)

        def of_head(head: Any, _: None) -> None:
            before = head * self.blocks_of_a_head - self.visit.first

            def each(block: Any, _: None) -> None:
                self.copy_queries(self.head * self.group + head, block, before + block)

            lax.fori_loop(self.visit.first, self.visit.last, each, None)

        of_head(0, None) if self.group == 1 else lax.fori_loop(0, self.group, of_head, None)
        self.queries.drain(self.group * self.blocks_of_a_head)

    def copy_keys(self, index: int) -> None:
        """The keys and values of a set."""
        given, scratch, columns = self.given, self.scratch, pl.ds(self.column + index * self.block_kv, self.block_kv)
        filled = scratch.keys_filled.at[index]
        plgpu.copy_gmem_to_smem(given.key.at[self.example, columns, self.head], scratch.keys.at[index], filled)
        plgpu.copy_gmem_to_smem(given.value.at[self.example, columns, self.head], scratch.values.at[index], filled)
        if self.has_segments:
            segments = scratch.segments_of_columns.at[index]
            plgpu.copy_gmem_to_smem(given.key_segments.at[self.example, columns], segments, filled)

    def copy_queries(self, head: Any, block: Any, step: Any) -> None:
        """A block of queries of a head, and what belongs to them."""
        given, scratch, rows = self.given, self.scratch, pl.ds(block * self.block_q, self.block_q)
        place = self.queries.await_empty(step)
        filled = self.queries.filled.at[place]
        plgpu.copy_gmem_to_smem(given.query.at[self.example, rows, head], scratch.queries.at[place], filled)
        plgpu.copy_gmem_to_smem(given.d_output.at[self.example, rows, head], scratch.d_outputs.at[place], filled)
        plgpu.copy_gmem_to_smem(given.residual.at[self.example, head, rows], scratch.residuals.at[place], filled)
        plgpu.copy_gmem_to_smem(given.row_sums.at[self.example, head, rows], scratch.row_sums.at[place], filled)
        if self.has_segments:
            segments = scratch.segments_of_rows.at[place]
            plgpu.copy_gmem_to_smem(given.query_segments.at[self.example, rows], segments, filled)

    # The other two

    def compute(self, index: Any, d_key: Any, d_value: Any) -> None:
        """The gradients of the keys and values of a set; not those whose output is None."""
        plgpu.set_max_registers(mosaic.REGISTERS[0], action="increase")
        scratch = self.scratch
        key, value = scratch.keys.at[index], scratch.values.at[index]
        first_column = self.column + index * self.block_kv
        plgpu.barrier_wait(scratch.keys_filled.at[index])

        def of_head(head: Any, totals: Any) -> Any:
            before = head * self.blocks_of_a_head - self.visit.first
            for run in self.visit.runs:

                def each(block: Any, totals: Any, masked: bool = run.masked) -> Any:
                    return self.visit_queries(block, before + block, totals, index, first_column if masked else None)

                totals = lax.fori_loop(run.start, run.stop, each, totals)
            return totals

        totals = tuple(
            None if out is None else zeros(*source.shape) for source, out in ((key, d_key), (value, d_value))
        )
        totals = of_head(0, totals) if self.group == 1 else lax.fori_loop(0, self.group, of_head, totals)
        self.await_neighbour()
        columns = self.example, pl.ds(first_column, self.block_kv), self.head
        if d_key is not None:
            self.store(totals[0] * float(self.form.scale), key, d_key.at[columns], first_column)
        if d_value is not None:
            self.store(totals[1], value, d_value.at[columns], first_column)
        plgpu.wait_smem_to_gmem(0)

    def visit_queries(self, block: Any, step: Any, totals: Any, index: Any, first_column: Any) -> Any:
        """Adds what a block of queries gives; `first_column` is None where all of its scores count."""
        scratch, shape = self.scratch, (self.block_kv, self.block_q)
        place, index = self.queries.await_filled(step), afresh(index)
        query, d_output = scratch.queries.at[place], scratch.d_outputs.at[place]

        def of_queries(ref: Any) -> jax.Array:
            return mosaic.load(ref.at[place], plgpu.Layout.WGMMA.reduce(0))

        def seen() -> jax.Array | None:
            if first_column is None:
                return None
            rows = columns = None
            if self.has_segments:
                rows = of_queries(scratch.segments_of_rows)
                columns = mosaic.load(scratch.segments_of_columns.at[index], plgpu.Layout.WGMMA.reduce(1))
            return tiles.seen(
                self.form, block * self.block_q, first_column, shape, row_axis=1,
                row_segments=rows, column_segments=columns,
            )  # fmt: skip

        tile = Tile(
            residual=lambda: lax.broadcast_in_dim(of_queries(scratch.residuals), shape, [1]),
            row_sums=lambda: lax.broadcast_in_dim(of_queries(scratch.row_sums), shape, [1]),
            seen=seen,
        )
        d_weight_factors = None if totals[0] is None else (scratch.values.at[index], d_output)
        weights, d_scores = tile_gradients(
            self.form, tile, (scratch.keys.at[index], query), d_weight_factors, self.in_turn
        )
        totals = accumulate(totals, ((d_scores, query), (weights, d_output)))
        plgpu.barrier_arrive(self.queries.emptied.at[place])
        return totals

    def await_neighbour(self) -> None:
        """Where both warpgroups read the same keys, neither may write over them before both are done."""
        if self.scratch.keys.shape[0] < WARPGROUPS:
            plgpu.barrier_arrive(self.scratch.keys_emptied)
            plgpu.barrier_wait(self.scratch.keys_emptied)

    def store(self, total: jax.Array, staged: Any, target: Any, first_column: Any) -> None:
        """Writes a gradient, by way of the memory of what it is the gradient of; 0 for keys that do not count."""
        if (length := self.lengths["key_length"]) is not None:
            columns = mosaic.iota(total.shape, 0, plgpu.Layout.WGMMA)
            total = jnp.where(columns < length - first_column, total, 0.0)
        staged[...] = total.astype(self.form.dtype)
        plgpu.commit_smem()
        plgpu.copy_smem_to_gmem(staged, target)
