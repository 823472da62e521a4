"""How much an algorithm loads from a slow memory: formulas, and algorithms in NumPy that count (systems course, 23.7).

Arithmetic is cheap and memory is far, so the time of most programs is that of their loads. A number that is loaded once
and used many times is loaded less; tiles are how a program keeps it near.
"""

from typing import NamedTuple

import numpy as np


def tiled_matmul_loads(m: int, k: int, n: int, tile_m: int, tile_n: int) -> int:
    """Numbers loaded for `[m, k] @ [k, n]` if each tile `[tile_m, tile_n]` of the product loads what it needs.

    A row of the left matrix serves `tile_n` columns at once and a column of the right one `tile_m` rows: for square
    matrices `n^3 / tile_n + n^3 / tile_m`. The tile may be held in registers or be that of a program on a GPU; tiles
    of 1 are the plain three loops.

    Raises:
      ValueError: if the tiles do not divide the product.
    """
    _check_divides("tile_m", tile_m, m)
    _check_divides("tile_n", tile_n, n)
    return m * k * (n // tile_n) + k * n * (m // tile_m)


def cache_blocked_loads(m: int, k: int, n: int, block_m: int) -> int:
    """Numbers loaded from memory for `[m, k] @ [k, n]` if a block of rows stays in the cache while columns pass by.

    The left matrix comes once, the right one as often as there are blocks: for square matrices `n^2 + n^3 / block_m`.

    Raises:
      ValueError: if the block does not divide the rows.
    """
    _check_divides("block_m", block_m, m)
    return m * k + k * n * (m // block_m)


def window_sum_loads(n: int, radius: int, block: int = 1) -> int:
    """Numbers loaded for sums of `2 radius + 1` neighbours at `n` places, of which `block` share what they load.

    A block loads its own places and a halo of `radius` on either side. A block of 1 loads every window anew.

    Raises:
      ValueError: if the block does not divide the places.
    """
    _check_divides("block", block, n)
    return n // block * (block + 2 * radius)


def lines_touched(stride: int, itemsize: int = 4, threads: int = 32, line: int = 128) -> int:
    """Lines of memory that move when thread i of a warp loads element `i * stride` (the first begins a line).

    Memory comes in whole lines. Neighbours that load neighbours share them, which is why the order in which an array is
    walked matters: with a stride of a row every thread pays for a line of its own.

    Args:
      stride: distance of two threads' elements; 0 is a broadcast.
      itemsize: bytes of an element; it divides the line.
      threads: of a warp.
      line: bytes of a line.

    >>> [lines_touched(stride) for stride in (0, 1, 2, 32, 1000)]
    [1, 1, 2, 32, 32]
    """
    return len({thread * stride * itemsize // line for thread in range(threads)})


class Counted(NamedTuple):
    """A product, and what was loaded for it."""

    product: np.ndarray
    from_memory: int
    from_cache: int


def blocked_matmul(a: np.ndarray, b: np.ndarray, *, block_m: int, block_n: int, tile_m: int, tile_n: int) -> Counted:
    """Multiplies in blocks that a cache holds, and these in tiles that registers hold; counts the numbers loaded.

    Args:
      a: `[m, k]`.
      b: `[k, n]`.
      block_m: rows of `a` that stay in the cache; it divides m.
      block_n: columns of `b` that join them; it divides n.
      tile_m: rows of a tile; it divides block_m.
      tile_n: columns of a tile; it divides block_n.

    Raises:
      ValueError: if the shapes do not fit or a size does not divide.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"a, b: expected [m, k] and [k, n], got {list(a.shape)} and {list(b.shape)}")
    (m, _), n = a.shape, b.shape[1]
    for name, size, of in (
        ("block_m", block_m, m), ("block_n", block_n, n), ("tile_m", tile_m, block_m), ("tile_n", tile_n, block_n),
    ):  # fmt: skip
        _check_divides(name, size, of)
    product = np.zeros((m, n), np.result_type(a, b))
    from_memory = from_cache = 0
    for i in range(0, m, block_m):
        rows = a[i : i + block_m]  # to the cache, once
        from_memory += rows.size
        for j in range(0, n, block_n):
            columns = b[:, j : j + block_n]  # to the cache, again for every block of rows
            from_memory += columns.size
            for p in range(0, block_m, tile_m):
                for q in range(0, block_n, tile_n):
                    left, right = rows[p : p + tile_m], columns[:, q : q + tile_n]  # to registers
                    from_cache += left.size + right.size
                    product[i + p : i + p + tile_m, j + q : j + q + tile_n] = left @ right
    return Counted(product, from_memory, from_cache)


def _check_divides(name: str, size: int, of: int) -> None:
    if size < 1 or of % size:
        raise ValueError(f"{name}: expected a divisor of {of}, got {size}")
