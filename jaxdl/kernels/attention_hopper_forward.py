"""Attention on Hopper's tensor cores, forward.

The schedule is FlashAttention-3's (Shah et al., 2024, section 3.1). A block of three warpgroups serves a tile of
queries. The third copies keys and values into a ring of shared memory with the copy engine; the other two each multiply
their half of the queries by them and keep the running softmax of FlashAttention-2 (Dao, 2023, algorithm 1) in
registers. The two take turns: while one computes exponentials, the other has the tensor cores.

The file imports Mosaic GPU; `jaxdl.kernels` imports it when a kernel is asked for.
"""

import dataclasses
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxdl.kernels import attention_hopper_tiles as tiles
from jaxdl.kernels import mosaic
from jaxdl.kernels.attention_case import Extras, Form
from jaxdl.kernels.configs import AttentionConfig

WARPGROUPS = 2  # that compute; a third copies
SPARE = 6_144  # bytes of shared memory for barriers, and for what is a number a row or a key
LOG2_E = math.log2(math.e)
LEAST = float(jnp.finfo(jnp.float32).min)  # a running maximum before anything is seen: finite, so that no NaN arises


def forward(
    query: jax.Array, key: jax.Array, value: jax.Array, extras: Extras, form: Form, config: AttentionConfig
) -> tuple[jax.Array, jax.Array]:
    """The output of attention, and the logarithms of the sums of the exponentials of its scores.

    It lowers for any machine and runs on Hopper and in the interpreter.

    Args:
      query: bfloat16 or float16 `[batch, q_len, heads, depth]`; the depth is 64, 128 or 256.
      key: `[batch, kv_len, kv_heads, depth]`.
      value: `[batch, kv_len, kv_heads, v_depth]`; the depth is one of these too.
      extras: without mask and dropout.
      form: of these shapes; no length is 0.
      config: its blocks.

    Returns:
      `[batch, q_len, heads, v_depth]` in the dtype of value, and float32 `[batch, heads, q_len]`. Rows that see nothing
      are zeros and -inf.
    """
    inputs = _inputs(query, key, value, extras, form, config)
    batch, q_len, heads, _ = inputs["query"].shape
    num_tiles = q_len // (WARPGROUPS * config.block_q)

    def attention_forward(*refs: Any, **scratch: Any) -> None:
        given = dict(zip((*inputs, "output", "residual"), refs, strict=True))
        block = _Block(form, config, num_tiles, SimpleNamespace(**given), SimpleNamespace(**scratch))
        pl.when(block.warpgroup < WARPGROUPS)(block.compute)
        pl.when(block.warpgroup == WARPGROUPS)(block.copy)

    output, residual = mosaic.kernel(
        attention_forward,
        out_type=(
            jax.ShapeDtypeStruct((batch, q_len, heads, form.v_depth), form.dtype),
            jax.ShapeDtypeStruct((batch, heads, q_len), jnp.float32),
        ),
        grid=(batch, heads, num_tiles),  # the last runs fastest: neighbours share their keys in the cache
        grid_names=("batch", "head", "tile"),
        num_threads=WARPGROUPS + 1,
        thread_name="warpgroup",
        scratch_types=_scratch(inputs, form, config),
    )(*inputs.values())
    return output[:, : form.q_len], residual[..., : form.q_len]


def fitting(config: AttentionConfig, extras: Extras, form: Form) -> AttentionConfig:
    """A configuration with smaller blocks of keys, or fewer of them at a time, where shared memory cannot hold a bias.

    Args:
      config: a default.
      extras: the bias counts.
      form: with the depths that the kernel knows.
    """
    while shared_memory(config, extras, form) > mosaic.SHARED_MEMORY_LIMIT:
        if config.block_kv > 64:
            config = dataclasses.replace(config, block_kv=config.block_kv - 64)
        elif config.num_stages > 1:
            config = dataclasses.replace(config, num_stages=config.num_stages - 1)
        else:
            break
    return config


def shared_memory(config: AttentionConfig, extras: Extras, form: Form) -> int:
    """Bytes of shared memory that a block takes."""
    per_row = form.depth + (form.v_depth if form.v_depth != form.depth else 0)
    per_key = form.depth + form.v_depth
    rows, keys = WARPGROUPS * config.block_q, config.num_stages * config.block_kv
    bias = 0 if extras.bias is None else keys * extras.bias.dtype.itemsize * (rows if extras.bias.shape[2] > 1 else 1)
    return (rows * per_row + keys * per_key) * jnp.dtype(form.dtype).itemsize + bias + SPARE


def _inputs(query: Any, key: Any, value: Any, extras: Extras, form: Form, config: AttentionConfig) -> dict[str, Any]:
    """The kernel's inputs, those that are given, by name; lengths are padded to whole tiles."""
    rows, columns = WARPGROUPS * config.block_q, config.block_kv
    inputs = {
        "query": tiles.pad(query, 1, rows),
        "key": tiles.pad(key, 1, columns),
        "value": tiles.pad(value, 1, columns),
    }
    if extras.query_segments is not None:
        inputs["query_segments"] = tiles.pad(extras.query_segments.astype(jnp.int32), 1, rows)
        inputs["key_segments"] = tiles.pad(extras.key_segments.astype(jnp.int32), 1, columns)
    if extras.query_lengths is not None:
        inputs["query_lengths"] = extras.query_lengths.astype(jnp.int32)
    if extras.key_lengths is not None:
        inputs["key_lengths"] = extras.key_lengths.astype(jnp.int32)
    bias = extras.bias
    if bias is not None:
        bias = jnp.broadcast_to(bias, (*bias.shape[:3], form.kv_len))
        if bias.shape[2] == 1:  # one for all queries: `[batch or 1, heads or 1, kv_len]`
            inputs["bias"] = tiles.pad(bias[:, :, 0].astype(jnp.float32), 2, columns)
        else:
            inputs["bias"] = tiles.pad(tiles.pad(bias, 2, rows), 3, columns)
    return inputs


def _scratch(inputs: dict[str, Any], form: Form, config: AttentionConfig) -> dict[str, Any]:
    """Shared memory and barriers, by name."""

    def tile(count: int, rows: int, columns: int, dtype: Any = form.dtype) -> Any:
        return plgpu.SMEM((count, rows, columns), dtype, transforms=mosaic.tile_transforms(dtype, columns))

    block_q, block_kv, stages = config.block_q, config.block_kv, config.num_stages
    with_key = 1 + ("key_segments" in inputs) + ("bias" in inputs)  # copies that arrive together
    scratch = {
        "queries": tile(WARPGROUPS, block_q, form.depth),
        "keys": tile(stages, block_kv, form.depth),
        "values": tile(stages, block_kv, form.v_depth),
        "residuals": plgpu.SMEM((WARPGROUPS, block_q), jnp.float32),
        "query_ready": plgpu.Barrier(num_arrivals=1 + ("query_segments" in inputs), num_barriers=WARPGROUPS),
        "key_ready": plgpu.Barrier(num_arrivals=with_key, num_barriers=stages),
        "value_ready": plgpu.Barrier(num_barriers=stages),
        "key_free": plgpu.Barrier(num_arrivals=WARPGROUPS, num_barriers=stages),
        "value_free": plgpu.Barrier(num_arrivals=WARPGROUPS, num_barriers=stages),
        "turn": plgpu.Barrier(num_arrivals=WARPGROUPS),
    }
    if form.v_depth != form.depth:
        scratch["outputs"] = tile(WARPGROUPS, block_q, form.v_depth)
    if "query_segments" in inputs:
        scratch["segments_of_rows"] = plgpu.SMEM((WARPGROUPS, block_q), jnp.int32)
        scratch["segments_of_columns"] = plgpu.SMEM((stages, block_kv), jnp.int32)
    if "bias" in inputs:
        bias = inputs["bias"]
        per_key = plgpu.SMEM((stages, block_kv), bias.dtype)
        scratch["biases"] = per_key if bias.ndim == 3 else tile(stages, WARPGROUPS * block_q, block_kv, bias.dtype)
    return scratch


class _Block:
    """What a block of three warpgroups does for a tile of queries of one head.

    `given` are the references to inputs and outputs, `scratch` those to shared memory and barriers.
    """

    def __init__(self, form: Form, config: AttentionConfig, num_tiles: int, given: Any, scratch: Any) -> None:
        self.form, self.config, self.given, self.scratch = form, config, given, scratch
        self.batch, self.head, tile, self.warpgroup = (
            lax.axis_index(name) for name in ("batch", "head", "tile", "warpgroup")
        )
        if form.window[1] is not None:
            tile = num_tiles - 1 - tile  # the longest first, so that the device ends evenly
        rows = WARPGROUPS * config.block_q
        self.row = tile * rows
        self.shape = config.block_q, config.block_kv  # of a warpgroup's scores
        self.query_length = given.query_lengths[self.batch] if hasattr(given, "query_lengths") else None
        self.key_length = given.key_lengths[self.batch] if hasattr(given, "key_lengths") else None
        self.has_segments, self.has_bias = hasattr(given, "key_segments"), hasattr(given, "bias")
        self.visit = tiles.key_blocks(
            form, self.row, rows, config.block_kv, query_length=self.query_length, key_length=self.key_length,
            segments=self.has_segments or self.has_bias,  # with a bias one loop does, and needs fewer registers
        )  # fmt: skip

        masked, whole = (sum(run.stop - run.start for run in self.visit.runs if run.masked is x) for x in (True, False))
        self.masked, self.steps = masked, masked + whole

    def slot(self, step: Any) -> Any:
        """Where in the ring the block of keys of a step is."""
        stages = self.config.num_stages
        return step % stages if isinstance(step, int) else lax.rem(step, jnp.int32(stages))

    def index(self, step: Any) -> Any:
        """Which block of keys comes at a step: first those at both ends, which are masked, then those between."""
        runs = self.visit.runs
        if len(runs) == 1:
            return runs[0].start + step
        whole = next(run for run in runs if not run.masked)
        before = whole.start - self.visit.first
        index = jnp.where(step < before, self.visit.first + step, whole.stop + step - before)
        return jnp.where(step < self.masked, index, whole.start + step - self.masked)

    # The third warpgroup

    def copy(self) -> None:
        """Fills the ring with the keys and values that the tile visits."""
        scratch, stages = self.scratch, self.config.num_stages
        plgpu.set_max_registers(mosaic.REGISTERS[1], action="decrease")

        def each(step: Any) -> None:
            slot, index, refilled = self.slot(step), self.index(step), step >= stages
            pl.when(refilled)(lambda: plgpu.barrier_wait(scratch.key_free.at[slot]))
            self.copy_key(index, slot)
            pl.when(refilled)(lambda: plgpu.barrier_wait(scratch.value_free.at[slot]))
            head = lax.div(self.head, jnp.int32(self.form.heads // self.form.kv_heads))
            part = (self.batch, pl.ds(index * self.config.block_kv, self.config.block_kv), head)
            plgpu.copy_gmem_to_smem(self.given.value.at[part], scratch.values.at[slot], scratch.value_ready.at[slot])

        _loop(0, self.steps, each)
        if mosaic.interpreting():  # it wants every arrival to be waited for

            def drain(step: Any) -> None:
                plgpu.barrier_wait(scratch.key_free.at[self.slot(step)])
                plgpu.barrier_wait(scratch.value_free.at[self.slot(step)])

            _loop(jnp.maximum(self.steps - stages, 0), self.steps, drain)

    def copy_key(self, index: Any, slot: Any) -> None:
        """Keys, and what belongs to them."""
        given, scratch, columns = self.given, self.scratch, pl.ds(index * self.config.block_kv, self.config.block_kv)
        head = lax.div(self.head, jnp.int32(self.form.heads // self.form.kv_heads))
        ready = scratch.key_ready.at[slot]
        plgpu.copy_gmem_to_smem(given.key.at[self.batch, columns, head], scratch.keys.at[slot], ready)
        if self.has_segments:
            segments = given.key_segments.at[self.batch, columns]
            plgpu.copy_gmem_to_smem(segments, scratch.segments_of_columns.at[slot], ready)
        if self.has_bias:
            batch = self.batch if given.bias.shape[0] > 1 else 0
            head = self.head if given.bias.shape[1] > 1 else 0
            rows = () if len(given.bias.shape) == 3 else (pl.ds(self.row, WARPGROUPS * self.config.block_q),)
            plgpu.copy_gmem_to_smem(given.bias.at[(batch, head, *rows, columns)], scratch.biases.at[slot], ready)

    # The other two

    def compute(self) -> None:
        """Attention of the warpgroup's queries."""
        plgpu.set_max_registers(mosaic.REGISTERS[0], action="increase")
        per_row, rows = plgpu.Layout.WGMMA.reduce(1), self.config.block_q
        first_row = self.row + self.warpgroup * rows
        segments = self.load_queries(first_row)
        state = (
            mosaic.in_layout(jnp.zeros((rows, self.form.v_depth), jnp.float32), plgpu.Layout.WGMMA),
            mosaic.in_layout(jnp.full((rows,), LEAST, jnp.float32), per_row),
            mosaic.in_layout(jnp.zeros((rows,), jnp.float32), per_row),
        )
        self.await_key(0)
        pl.when(self.warpgroup == 1)(self.take_turns)
        for start, stop, masked in ((0, self.masked, True), (self.masked, self.steps, False)):

            def each(step: Any, state: Any, masked: bool = masked) -> Any:
                return self.visit_keys(step, state, first_row, segments, masked)

            state = _fold(start, stop, each, state)
        pl.when(self.warpgroup == 0)(self.take_turns)
        self.store(first_row, *state)

    def load_queries(self, first_row: Any) -> jax.Array | None:
        """Copies the warpgroup's queries to shared memory; returns their segments, where there are any."""
        given, scratch, mine = self.given, self.scratch, self.warpgroup
        rows, ready = pl.ds(first_row, self.config.block_q), scratch.query_ready.at[mine]
        plgpu.copy_gmem_to_smem(given.query.at[self.batch, rows, self.head], scratch.queries.at[mine], ready)
        if self.has_segments:
            plgpu.copy_gmem_to_smem(given.query_segments.at[self.batch, rows], scratch.segments_of_rows.at[mine], ready)
        plgpu.barrier_wait(ready)
        if not self.has_segments:
            return None
        return mosaic.load(scratch.segments_of_rows.at[mine], plgpu.Layout.WGMMA.reduce(1))

    def await_key(self, step: Any) -> None:
        pl.when(step < self.steps)(lambda: plgpu.barrier_wait(self.scratch.key_ready.at[self.slot(step)]))

    def take_turns(self) -> None:
        """Lets the other warpgroup go on, and waits for it. It is for speed only, and not simulated."""
        self.end_turn()
        self.await_turn()

    def end_turn(self) -> None:
        if not mosaic.interpreting():
            plgpu.barrier_arrive(self.scratch.turn)

    def await_turn(self) -> None:
        if not mosaic.interpreting():
            plgpu.barrier_wait(self.scratch.turn)

    def visit_keys(self, step: Any, state: Any, first_row: Any, segments: Any, masked: bool) -> Any:
        """Adds a block of keys and values to the sums.

        The state is the sum of the weighted values, the largest score so far in units of log 2, and the sum of weights.
        """
        scratch, slot = self.scratch, self.slot(step)
        output, largest, total = state
        x, factor = self.scores(step, slot, first_row, segments, masked)
        before, largest = largest, jnp.maximum(largest, x.max(axis=1) * factor)
        shrink = jnp.exp2(before - largest)
        weights = jnp.exp2(x * factor - lax.broadcast_in_dim(largest, x.shape, [0]))
        output = output * lax.broadcast_in_dim(shrink, output.shape, [0])
        total = total * shrink + weights.sum(axis=1)
        weights = weights.astype(self.form.dtype)
        output, largest, total, weights = lax.optimization_barrier((output, largest, total, weights))
        self.end_turn()
        plgpu.barrier_wait(scratch.value_ready.at[slot])
        self.await_turn()
        output = mosaic.wgmma_into(output, weights, scratch.values.at[slot], during=lambda: self.await_key(step + 1))
        plgpu.barrier_arrive(scratch.value_free.at[slot])
        return output, largest, total

    def scores(self, step: Any, slot: Any, first_row: Any, segments: Any, masked: bool) -> tuple[jax.Array, float]:
        """The scores, -inf where they do not count, and a positive factor that makes them exponents of 2."""
        form, scratch = self.form, self.scratch
        x = self.products(slot)
        per_column = plgpu.Layout.WGMMA.reduce(0)
        key_segments = mosaic.load(scratch.segments_of_columns.at[slot], per_column) if self.has_segments else None
        bias = self.load_bias(slot) if self.has_bias else None
        plgpu.barrier_arrive(scratch.key_free.at[slot])

        factor = form.scale * LOG2_E
        if form.softcap is not None:
            x = jnp.tanh(x * (form.scale / form.softcap))
            factor = form.softcap * LOG2_E
        if bias is not None:
            x = x * factor + bias
        elif factor <= 0:
            x = x * factor
        factor = 1.0 if bias is not None or factor <= 0 else factor
        if masked:
            seen = tiles.seen(
                form, first_row, self.index(step) * self.config.block_kv, self.shape, key_length=self.key_length,
                row_segments=segments, column_segments=key_segments,
            )  # fmt: skip
            x = x if seen is None else jnp.where(seen, x, -jnp.inf)
        return x, factor

    def products(self, slot: Any) -> jax.Array:
        """Queries times keys, `[block_q, block_kv]`."""

        def multiply(accumulator: Any) -> jax.Array:
            keys = self.scratch.keys.at[slot]
            plgpu.wgmma(accumulator, self.scratch.queries.at[self.warpgroup], keys.transpose((1, 0)))
            self.take_turns()
            return accumulator[...]

        return pl.run_scoped(multiply, plgpu.ACC(self.shape, jnp.float32))  # pyright: ignore[reportPrivateImportUsage]

    def load_bias(self, slot: Any) -> jax.Array:
        """The bias as an exponent of 2; the least numbers, which some models hide keys with, do not become -inf."""
        biases = self.scratch.biases.at[slot]
        if len(self.given.bias.shape) == 3:
            bias = lax.broadcast_in_dim(mosaic.load(biases, plgpu.Layout.WGMMA.reduce(0)), self.shape, [1])
        else:
            rows = pl.ds(self.warpgroup * self.config.block_q, self.config.block_q)
            bias = mosaic.load(biases.at[rows], plgpu.Layout.WGMMA).astype(jnp.float32)
        return jnp.where(bias == -jnp.inf, bias, jnp.maximum(bias * LOG2_E, LEAST / 2))

    def store(self, first_row: Any, output: jax.Array, largest: jax.Array, total: jax.Array) -> None:
        """Divides by the sums of the weights, and writes output and residual."""
        given, scratch, mine = self.given, self.scratch, self.warpgroup
        empty = total == 0
        if self.query_length is not None:
            rows = mosaic.iota(total.shape, 0, plgpu.Layout.WGMMA.reduce(1))
            empty = empty | (rows + first_row >= self.query_length)
        total = jnp.where(empty, 1.0, total)
        inverse = jnp.where(empty, 0.0, 1 / total)
        staged = (scratch.outputs if self.form.v_depth != self.form.depth else scratch.queries).at[mine]
        staged[...] = (output * lax.broadcast_in_dim(inverse, output.shape, [0])).astype(self.form.dtype)
        scratch.residuals[mine] = jnp.where(empty, -jnp.inf, largest * (1 / LOG2_E) + jnp.log(total))
        plgpu.commit_smem()
        rows = pl.ds(first_row, self.config.block_q)
        plgpu.copy_smem_to_gmem(staged, given.output.at[self.batch, rows, self.head])
        plgpu.copy_smem_to_gmem(scratch.residuals.at[mine], given.residual.at[self.batch, self.head, rows])
        plgpu.wait_smem_to_gmem(0)


def _fold(start: Any, stop: Any, body: Callable[[Any, Any], Any], state: Any) -> Any:
    """`lax.fori_loop` whose index is int32, also in a program of 64 bits."""
    if isinstance(start, int) and isinstance(stop, int) and start == stop:
        return state
    return lax.fori_loop(start, stop, lambda step, state: body(jnp.asarray(step, jnp.int32), state), state)


def _loop(start: Any, stop: Any, body: Callable[[Any], None]) -> None:
    _fold(start, stop, lambda step, _: body(step), None)
