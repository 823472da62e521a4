"""The product of matrices on Hopper's tensor cores.

As many blocks as there are multiprocessors walk over the tiles of the output. Of a block's three warpgroups the third
copies pieces of both operands into a ring of shared memory with the copy engine; the other two multiply, each its own
rows of the tile, into float32 sums in registers, and write them out through bias and activation while the pieces of the
next tile arrive. Tiles are walked in stripes, so that those which are worked on at the same time share rows of `a` and
columns of `b` in the L2 cache. Blocks may go in pairs, one tile above the other: each copies half of their piece of `b`
into the shared memory of both.

The file imports Mosaic GPU; `jaxdl.kernels` imports it when a kernel is asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxdl.kernels import mosaic
from jaxdl.kernels.configs import MatmulConfig
from jaxdl.kernels.matmul import ACTIVATIONS

WARPGROUPS = 2  # that multiply; a third copies
ROWS, ROW_BYTES = 64, 128  # of the parts in which sums leave the registers; two places in shared memory are theirs


def multiply(
    a: jax.Array,
    b: jax.Array,
    bias: jax.Array | None,
    *,
    transpose_a: bool,
    transpose_b: bool,
    activation: str | None,
    out_dtype: Any,
    config: MatmulConfig,
    keep_linear: bool = False,
) -> tuple[jax.Array, ...]:
    """`activation(a @ b + bias)` for batches of matrices, none of them empty.

    It lowers for any machine and runs on Hopper and in the interpreter.

    Args:
      a: bfloat16 or float16 `[batch or 1, m, k]`, the last two axes swapped if `transpose_a`.
      b: of the same dtype, `[batch or 1, k, n]`, swapped if `transpose_b`.
      bias: floating `[batch or 1, n]`.
      transpose_a: see `a`.
      transpose_b: see `b`.
      activation: a name in `matmul.ACTIVATIONS`.
      out_dtype: bfloat16, float16 or float32.
      config: sizes of the tiles.
      keep_linear: also return `a @ b + bias`, in the same dtype.

    Returns:
      `[batch, m, n]`, once or twice.
    """
    batch = max(x.shape[0] for x in (a, b, bias) if x is not None)
    m, k = a.shape[:0:-1] if transpose_a else a.shape[1:]
    n = b.shape[1] if transpose_b else b.shape[2]
    rows = config.cluster_size * WARPGROUPS * config.tile_m
    tiles = Tiles(batch, -(-m // rows), -(-n // config.tile_n), config.grid_tile_width)
    plan = _Plan(tiles, -(-k // config.tile_k), transpose_a, transpose_b, ACTIVATIONS[activation], config)
    inputs = {"a": _in_whole_swizzles(a), "b": _in_whole_swizzles(b)}
    if bias is not None:
        inputs["bias"] = _pad(bias.astype(jnp.float32), (1, config.tile_n))
    shape = jax.ShapeDtypeStruct((batch, tiles.rows * rows, tiles.columns * config.tile_n), out_dtype)

    def matmul(*refs: Any, **scratch: Any) -> None:
        given = SimpleNamespace(**dict(zip(inputs, refs, strict=False)), outputs=refs[len(inputs) :])
        block = _Block(plan, given, SimpleNamespace(**scratch))
        pl.when(block.warpgroup < WARPGROUPS)(block.compute)
        pl.when(block.warpgroup == WARPGROUPS)(block.copy)

    outputs = mosaic.kernel(
        matmul,
        out_type=[shape] * (1 + keep_linear),
        grid=(plan.clusters,),
        grid_names=("program",),
        cluster=(config.cluster_size,),
        cluster_names=("cluster",),
        num_threads=WARPGROUPS + 1,
        thread_name="warpgroup",
        scratch_types=_scratch(plan, inputs, out_dtype),
    )(*inputs.values())
    return tuple(x[:, :m, :n] for x in outputs)  # the copy engine writes whole tiles


@dataclass(frozen=True)
class Tiles:
    """How the output is cut, and in which order its tiles are walked: stripe by stripe, every other one upwards.

    Args:
      batch: number of matrices.
      rows: tiles above each other.
      columns: tiles beside each other.
      width: of a stripe, in tiles.
    """

    batch: int
    rows: int
    columns: int
    width: int

    @property
    def count(self) -> int:
        """All tiles."""
        return self.batch * self.rows * self.columns

    def at(self, index: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The matrix, the row and the column of a tile by its place in the order, int32."""
        each = jnp.int32(self.rows * self.columns)
        row, column = plgpu.planar_snake(lax.rem(index, each), (self.rows, self.columns), 1, self.width)
        return lax.div(index, each), row, column


@dataclass(frozen=True)
class _Plan:
    """What is known when the kernel is built. With clusters, a tile is that of a cluster."""

    tiles: Tiles
    num_pieces: int  # of a sum
    transpose_a: bool
    transpose_b: bool
    activation: Callable[[jax.Array], jax.Array]
    config: MatmulConfig

    @property
    def clusters(self) -> int:
        return min(max(mosaic.num_multiprocessors() // self.config.cluster_size, 1), self.tiles.count)

    @property
    def stages(self) -> int:
        return min(self.config.num_stages, self.num_pieces * -(-self.tiles.count // self.clusters))


def _in_whole_swizzles(x: jax.Array) -> jax.Array:
    """Zeros behind rows and columns, as the copy engine needs them; beyond the array it reads zeros itself."""
    return _pad(x, (1, 8, ROW_BYTES // x.dtype.itemsize))


def _pad(x: jax.Array, multiples: Sequence[int]) -> jax.Array:
    widths = [(0, -size % multiple) for size, multiple in zip(x.shape, multiples, strict=True)]
    return jnp.pad(x, widths) if any(after for _, after in widths) else x


def _scratch(plan: _Plan, inputs: dict[str, jax.Array], out_dtype: Any) -> dict[str, Any]:
    """Shared memory and barriers, by name."""
    config, stages = plan.config, plan.stages

    def tiles(shape: tuple[int, ...], dtype: Any) -> Any:
        return plgpu.SMEM(shape, dtype, transforms=mosaic.tile_transforms(dtype, shape[-1]))

    def turned(rows: int, columns: int, transposed: bool) -> tuple[int, int]:
        return (columns, rows) if transposed else (rows, columns)

    dtype = inputs["a"].dtype
    free: dict[str, Any] = {"num_arrivals": WARPGROUPS, "num_barriers": stages}
    scratch = {
        "a": tiles((stages, WARPGROUPS, *turned(config.tile_m, config.tile_k, plan.transpose_a)), dtype),
        "b": tiles((stages, *turned(config.tile_k, config.tile_n, plan.transpose_b)), dtype),
        "leaving": tiles((WARPGROUPS, 2, ROWS, ROW_BYTES // jnp.dtype(out_dtype).itemsize), out_dtype),
        "ready": plgpu.Barrier(num_arrivals=WARPGROUPS + 1, num_barriers=stages),
        "free": plgpu.ClusterBarrier(collective_axes=("cluster",), **free)
        if config.cluster_size > 1
        else plgpu.Barrier(**free),
    }
    if "bias" in inputs:
        scratch["bias"] = plgpu.SMEM((WARPGROUPS, config.tile_n), jnp.float32)
        scratch["bias_ready"] = plgpu.Barrier(num_barriers=WARPGROUPS)
    return scratch


class _Block:
    """What a block of three warpgroups does.

    `given` are the references to inputs and outputs, `scratch` those to shared memory and barriers.
    """

    def __init__(self, plan: _Plan, given: Any, scratch: Any) -> None:
        self.plan, self.given, self.scratch = plan, given, scratch
        self.program, self.in_cluster, self.warpgroup = (
            lax.axis_index(name) for name in ("program", "cluster", "warpgroup")
        )
        self.num_tiles = lax.div(plan.tiles.count + plan.clusters - 1 - self.program, jnp.int32(plan.clusters))

    def tile(self, i: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The matrix, and the first row and column, of the block's i-th tile."""
        batch, row, column = self.plan.tiles.at(i * self.plan.clusters + self.program)
        config = self.plan.config
        row = (row * config.cluster_size + self.in_cluster) * WARPGROUPS
        return batch, row * config.tile_m, column * config.tile_n

    def slot(self, step: Any) -> jax.Array:
        """Where in the ring the pieces of a step are; steps are counted through all tiles."""
        return lax.rem(step, jnp.int32(self.plan.stages))

    # The third warpgroup

    def copy(self) -> None:
        """Fills the ring with the pieces of all tiles."""
        plan, scratch = self.plan, self.scratch
        plgpu.set_max_registers(40, action="decrease")

        @pl.loop(0, self.num_tiles)
        def _of_tile(i: Any) -> None:
            tile = self.tile(i)

            @pl.loop(0, plan.num_pieces)
            def _of_sum(j: Any) -> None:
                step = i * plan.num_pieces + j
                pl.when(step >= plan.stages)(lambda: plgpu.barrier_wait(scratch.free.at[self.slot(step)]))
                self.copy_pieces(tile, j * plan.config.tile_k, self.slot(step))

        # A block of a pair must not end while the other writes to its memory; the interpreter counts arrivals.
        steps = self.num_tiles * plan.num_pieces

        @pl.loop(lax.max(steps - plan.stages, jnp.int32(0)), steps)
        def _drain(step: Any) -> None:
            plgpu.barrier_wait(scratch.free.at[self.slot(step)])

    def copy_pieces(self, tile: tuple[Any, Any, Any], first: Any, slot: Any) -> None:
        """The pieces of both operands for the part of the sums from `first` on."""
        plan, config, scratch = self.plan, self.plan.config, self.scratch
        batch, row, column = tile
        ready, part = scratch.ready.at[slot], pl.ds(first, config.tile_k)
        for warpgroup in range(WARPGROUPS):
            rows = pl.ds(row + warpgroup * config.tile_m, config.tile_m)
            piece = _matrix(self.given.a, batch).at[(part, rows) if plan.transpose_a else (rows, part)]
            plgpu.copy_gmem_to_smem(piece, scratch.a.at[slot, warpgroup], ready)
        columns = pl.ds(column, config.tile_n)
        piece = _matrix(self.given.b, batch).at[(columns, part) if plan.transpose_b else (part, columns)]
        pair = "cluster" if config.cluster_size > 1 else None
        plgpu.copy_gmem_to_smem(piece, scratch.b.at[slot], ready, collective_axes=pair)

    # The other two

    def compute(self) -> None:
        """The warpgroup's rows of all tiles."""
        plan, scratch, mine = self.plan, self.scratch, self.warpgroup
        plgpu.set_max_registers(232, action="increase")
        has_bias = hasattr(self.given, "bias")
        accumulator = plgpu.WGMMAAccumulatorRef((plan.config.tile_m, plan.config.tile_n), jnp.float32)

        @pl.loop(0, self.num_tiles)
        def _of_tile(i: Any) -> None:
            batch, row, column = self.tile(i)
            if has_bias:
                bias = _matrix(self.given.bias, batch).at[pl.ds(column, plan.config.tile_n)]
                plgpu.copy_gmem_to_smem(bias, scratch.bias.at[mine], scratch.bias_ready.at[mine])
            sums = pl.run_scoped(partial(self.add_products, i * plan.num_pieces), accumulator)
            if has_bias:
                plgpu.barrier_wait(scratch.bias_ready.at[mine])
            self.write(sums, batch, row + mine * plan.config.tile_m, column)

        plgpu.wait_smem_to_gmem(0)

    def add_products(self, first_step: Any, sums: Any) -> jax.Array:
        """The sums of a tile, `[tile_m, tile_n]`. In a ring of several places a product runs on while one is freed."""
        plan, scratch = self.plan, self.scratch
        under_way = min(1, plan.stages - 1)

        @pl.loop(0, plan.num_pieces)
        def _add(j: Any) -> None:
            slot = self.slot(first_step + j)
            plgpu.barrier_wait(scratch.ready.at[slot])
            a, b = scratch.a.at[slot, self.warpgroup], scratch.b.at[slot]
            plgpu.wgmma(sums, a.T if plan.transpose_a else a, b.T if plan.transpose_b else b)
            plgpu.wgmma_wait(under_way)
            done = first_step + j - under_way
            pl.when(j >= under_way)(lambda: plgpu.barrier_arrive(scratch.free.at[self.slot(done)]))

        result = sums[...]  # waits for the last
        if under_way:
            plgpu.barrier_arrive(scratch.free.at[self.slot(first_step + plan.num_pieces - 1)])
        return result

    def write(self, sums: jax.Array, batch: Any, first_row: Any, first_column: Any) -> None:
        """Sums, bias and activation to global memory, in parts that go through two places of shared memory in turn."""
        plan, leaving, turn = self.plan, self.scratch.leaving, 0
        columns = leaving.shape[-1]
        plgpu.wait_smem_to_gmem(0, wait_read_only=True)  # those of the tile before
        for row in range(0, plan.config.tile_m, ROWS):
            for column in range(0, plan.config.tile_n, columns):
                x = self.with_bias(sums[row : row + ROWS, column : column + columns], column)
                target = batch, pl.ds(first_row + row, ROWS), pl.ds(first_column + column, columns)
                for output, result in zip(self.given.outputs, (plan.activation(x), x), strict=False):
                    place = leaving.at[self.warpgroup, turn % 2]
                    plgpu.wait_smem_to_gmem(1, wait_read_only=True)  # it is read
                    place[...] = result.astype(leaving.dtype)
                    plgpu.commit_smem()
                    plgpu.copy_smem_to_gmem(place, output.at[target])
                    turn += 1

    def with_bias(self, x: jax.Array, column: int) -> jax.Array:
        if not hasattr(self.given, "bias"):
            return x
        part = self.scratch.bias.at[self.warpgroup, pl.ds(column, x.shape[1])]
        return x + lax.broadcast_in_dim(mosaic.load(part, plgpu.Layout.WGMMA.reduce(0)), x.shape, [1])


def _matrix(ref: Any, batch: Any) -> Any:
    """A matrix of a batch, or the one that serves all."""
    return ref.at[0 if ref.shape[0] == 1 else batch]
