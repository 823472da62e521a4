"""Three kernels to learn from: what a GPU program looks like, line by line (systems course, 23.7).

A kernel is written for one program, and a grid of programs runs it, each at its own place. A program here is a
warpgroup, 128 threads that take each line together. It sees two memories. Global memory (`_gmem`) holds the arrays: it
is large and far. Shared memory (`_smem`) is the program's own: small and near. What moves between them is moved by the
copy engine, which works on while the program goes on. So there are rules:

- A copy in tells a barrier when it has arrived. Read only after `barrier_wait`.
- What the program writes, the copy engine may not see yet. `commit_smem` comes between.
- A copy out takes its time. Write to its source again, or end, only after `wait_smem_to_gmem`.

Who breaks one gets wrong numbers, sometimes. `with jaxdl.kernels.interpret():` finds it (but a forgotten `wgmma_wait`
it does not: the simulated tensor cores are done at once).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.kernels import mosaic

BLOCK = 128  # numbers a program makes: one each thread
TILE = 64  # rows that the tensor cores take at a time


def _where_it_runs(kernel: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Raises RuntimeError where Pallas kernels do not run, with the reason."""

    @functools.wraps(kernel)
    def checked(*args, **kwargs):
        if reason := mosaic.refusal():
            raise RuntimeError(f"{kernel.__name__}: {reason}")
        return kernel(*args, **kwargs)

    return checked


@_where_it_runs
def vector_add(x: jax.Array, y: jax.Array) -> jax.Array:
    """`x + y`: copy in, compute, copy out.

    Args:
      x: float32 `[n]`, n a multiple of 128.
      y: float32 `[n]`.

    Raises:
      ValueError: if the shapes or dtypes are others.
      RuntimeError: where Pallas kernels do not run.
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import mosaic_gpu as plgpu

    _check_vector("x", x, 0)
    if y.shape != x.shape or y.dtype != x.dtype:
        raise ValueError(f"y: expected {x.dtype}{list(x.shape)} as x, got {y.dtype}{list(y.shape)}")

    def body(x_gmem, y_gmem, out_gmem, x_smem, y_smem, out_smem, arrived):
        program = lax.axis_index("program")  # which one am I?
        mine = pl.ds(program * BLOCK, BLOCK)  # the numbers that are my task
        plgpu.copy_gmem_to_smem(x_gmem.at[mine], x_smem, arrived)  # start to copy, do not wait
        plgpu.copy_gmem_to_smem(y_gmem.at[mine], y_smem, arrived)  # both run at once
        plgpu.barrier_wait(arrived)  # until both are there
        out_smem[...] = x_smem[...] + y_smem[...]  # every thread adds its numbers
        plgpu.commit_smem()  # let the copy engine see them
        plgpu.copy_smem_to_gmem(out_smem, out_gmem.at[mine])
        plgpu.wait_smem_to_gmem(0)  # until no copy is under way

    block = plgpu.SMEM((BLOCK,), jnp.float32)
    return mosaic.kernel(
        body,
        out_type=jax.ShapeDtypeStruct(x.shape, x.dtype),
        grid=(x.size // BLOCK,),
        grid_names=("program",),
        scratch_types=[block, block, block, plgpu.Barrier(num_arrivals=2)],
    )(x, y)


@_where_it_runs
def window_sum(x: jax.Array, radius: int) -> jax.Array:
    """Sums of `2 radius + 1` neighbours: what many threads read is loaded once.

    Every number is in `2 radius + 1` windows. A program loads its 128 places with a halo of `radius` on either side
    into shared memory, and all windows are read there: see `load_costs.window_sum_loads`.

    Args:
      x: float32 `[n + 2 radius]`, n a multiple of 128. Pad it with zeros for sums at its ends.
      radius: even, up to 64: the copy engine moves 16 bytes at a time, and at most 256 numbers at once.

    Returns:
      `[n]`: number i is the sum of `x[i : i + 2 radius + 1]`.

    Raises:
      ValueError: if the shape or dtype is another or the radius is not one of these.
      RuntimeError: where Pallas kernels do not run.
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import mosaic_gpu as plgpu

    if not isinstance(radius, int) or radius < 0 or radius > 64 or radius % 2:
        raise ValueError(f"radius: expected an even number from 0 to 64, got {radius}")
    _check_vector("x", x, 2 * radius)

    def body(x_gmem, out_gmem, x_smem, out_smem, arrived):
        program = lax.axis_index("program")
        with_halo = pl.ds(program * BLOCK, BLOCK + 2 * radius)  # neighbours' halos overlap
        plgpu.copy_gmem_to_smem(x_gmem.at[with_halo], x_smem, arrived)
        plgpu.barrier_wait(arrived)
        total = x_smem[pl.ds(0, BLOCK)]  # thread i holds the sum of window i
        for shift in range(1, 2 * radius + 1):
            total += x_smem[pl.ds(shift, BLOCK)]  # and reads number i + shift
        out_smem[...] = total
        plgpu.commit_smem()
        plgpu.copy_smem_to_gmem(out_smem, out_gmem.at[pl.ds(program * BLOCK, BLOCK)])
        plgpu.wait_smem_to_gmem(0)

    n = x.size - 2 * radius
    return mosaic.kernel(
        body,
        out_type=jax.ShapeDtypeStruct((n,), x.dtype),
        grid=(n // BLOCK,),
        grid_names=("program",),
        scratch_types=[
            plgpu.SMEM((BLOCK + 2 * radius,), jnp.float32),
            plgpu.SMEM((BLOCK,), jnp.float32),
            plgpu.Barrier(),
        ],
    )(x)


@_where_it_runs
def tiled_matmul(a: jax.Array, b: jax.Array, *, tile_n: int = 128, tile_k: int = 64) -> jax.Array:
    """`a @ b`: a program for each tile of the product, which walks along the sum.

    It loads as `load_costs.tiled_matmul_loads` says, and waits for each copy: `jaxdl.kernels.matmul` copies ahead.

    Args:
      a: bfloat16 or float16 `[m, k]`, m a multiple of 64 and k of `tile_k`.
      b: `[k, n]`, of the same dtype, n a multiple of `tile_n`.
      tile_n: columns of a tile: 64, 128 or 256. Its rows are 64.
      tile_k: how much of the sum is loaded at a time: likewise.

    Returns:
      Float32 `[m, n]`.

    Raises:
      ValueError: if the shapes or dtypes are others or a tile is not one of these.
      RuntimeError: where Pallas kernels do not run.
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import mosaic_gpu as plgpu

    _check_matrices(a, b, tile_n, tile_k)
    (m, k), n = a.shape, b.shape[1]

    def body(a_gmem, b_gmem, out_gmem, a_smem, b_smem, out_smem, arrived):
        row, column = lax.axis_index("row") * TILE, lax.axis_index("column") * tile_n

        def multiply(total):  # a reference to registers
            @pl.loop(0, k // tile_k)
            def _(i):
                part = pl.ds(i * tile_k, tile_k)  # of the sum
                plgpu.copy_gmem_to_smem(a_gmem.at[pl.ds(row, TILE), part], a_smem, arrived)
                plgpu.copy_gmem_to_smem(b_gmem.at[part, pl.ds(column, tile_n)], b_smem, arrived)
                plgpu.barrier_wait(arrived)
                plgpu.wgmma(total, a_smem, b_smem)  # total += a_smem @ b_smem on the tensor cores, which also go on
                plgpu.wgmma_wait(0)  # until they have read: the next copies overwrite

            return total[...]

        registers = plgpu.ACC((TILE, tile_n), jnp.float32)  # pyright: ignore[reportPrivateImportUsage]
        out_smem[...] = pl.run_scoped(multiply, registers)
        plgpu.commit_smem()
        plgpu.copy_smem_to_gmem(out_smem, out_gmem.at[pl.ds(row, TILE), pl.ds(column, tile_n)])
        plgpu.wait_smem_to_gmem(0)

    def tile(rows, columns, dtype):
        """Shared memory, laid out in the order in which the tensor cores read it."""
        return plgpu.SMEM((rows, columns), dtype, transforms=mosaic.tile_transforms(dtype, columns))

    return mosaic.kernel(
        body,
        out_type=jax.ShapeDtypeStruct((m, n), jnp.float32),
        grid=(m // TILE, n // tile_n),
        grid_names=("row", "column"),
        scratch_types=[
            tile(TILE, tile_k, a.dtype),
            tile(tile_k, tile_n, a.dtype),
            tile(TILE, tile_n, jnp.float32),
            plgpu.Barrier(num_arrivals=2),
        ],
    )(a, b)


def _check_vector(name: str, x: jax.Array, halo: int) -> None:
    n = x.size - halo
    if x.ndim != 1 or x.dtype != jnp.float32 or n < BLOCK or n % BLOCK:
        size = f"n + {halo}" if halo else "n"
        raise ValueError(f"{name}: expected float32 [{size}], n a multiple of {BLOCK}; got {x.dtype}{list(x.shape)}")


def _check_matrices(a: jax.Array, b: jax.Array, tile_n: int, tile_k: int) -> None:
    for name, size in (("tile_n", tile_n), ("tile_k", tile_k)):
        if not isinstance(size, int) or size not in (64, 128, 256):
            raise ValueError(f"{name}: expected 64, 128 or 256, got {size}")
    for name, x, rows, columns in (("a", a, TILE, tile_k), ("b", b, tile_k, tile_n)):
        if x.ndim != 2 or x.dtype not in (jnp.bfloat16, jnp.float16) or x.shape[0] % rows or x.shape[1] % columns:
            expected = f"bfloat16 or float16, multiples of [{rows}, {columns}]"
            raise ValueError(f"{name}: expected {expected}; got {x.dtype}{list(x.shape)}")
    if a.dtype != b.dtype or a.shape[1] != b.shape[0] or 0 in (*a.shape, *b.shape):
        raise ValueError(
            f"a, b: expected [m, k] and [k, n] of one dtype, got {a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}"
        )
