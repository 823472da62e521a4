"""The models of loads against counts: by loops here, and of the copies that the teaching kernels issue."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl.kernels.load_costs import (
    blocked_matmul,
    cache_blocked_loads,
    lines_touched,
    tiled_matmul_loads,
    window_sum_loads,
)


def test_the_formulas_are_those_of_the_course():
    n, v1, v2, b1 = 64, 4, 8, 16
    assert tiled_matmul_loads(n, n, n, v1, v2) == n**3 // v1 + n**3 // v2
    assert cache_blocked_loads(n, n, n, b1) == n**2 + n**3 // b1
    assert tiled_matmul_loads(n, n, n, 1, 1) == 2 * n**3  # three loops that keep nothing
    assert cache_blocked_loads(n, n, n, n) == 2 * n**2  # everything once


sizes = st.integers(1, 3)


@given(st.integers(0, 5), *[sizes] * 6)
def test_blocks_of_tiles_load_what_the_models_say(k, tile_m, tile_n, tiles_m, tiles_n, blocks_m, blocks_n):
    block_m, block_n = tile_m * tiles_m, tile_n * tiles_n
    m, n = block_m * blocks_m, block_n * blocks_n
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    counted = blocked_matmul(a, b, block_m=block_m, block_n=block_n, tile_m=tile_m, tile_n=tile_n)
    np.testing.assert_allclose(counted.product, a @ b, atol=1e-13)
    assert counted.from_memory == cache_blocked_loads(m, k, n, block_m)
    assert counted.from_cache == tiled_matmul_loads(m, k, n, tile_m, tile_n)


def test_windows_share_what_a_block_loads():
    n, radius = 256, 4
    alone = sum(len(range(i - radius, i + radius + 1)) for i in range(n))
    assert window_sum_loads(n, radius) == alone == n * 9
    assert window_sum_loads(n, radius, block=128) == 2 * (128 + 8)


def test_lines_of_a_warp():
    assert lines_touched(1) == 1
    assert lines_touched(1, itemsize=8) == 2
    assert lines_touched(3) == 3
    assert lines_touched(1000) == lines_touched(-1000) == 32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tiled_matmul_loads(4, 4, 4, 3, 1), "tile_m: expected a divisor of 4, got 3"),
        (lambda: tiled_matmul_loads(4, 4, 4, 1, 0), "tile_n: expected a divisor of 4, got 0"),
        (lambda: cache_blocked_loads(4, 4, 4, 8), "block_m: expected a divisor of 4, got 8"),
        (lambda: window_sum_loads(10, 1, 4), "block: expected a divisor of 10, got 4"),
        (lambda: multiply(np.ones((2, 3)), np.ones((2, 3))), r"a, b: expected .* got \[2, 3\] and \[2, 3\]"),
        (lambda: multiply(np.ones((4, 3)), np.ones((3, 4)), block_m=3), "block_m: expected a divisor of 4, got 3"),
        (lambda: multiply(np.ones((4, 3)), np.ones((3, 4)), tile_n=3), "tile_n: expected a divisor of 2, got 3"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def multiply(a, b, **changed):
    return blocked_matmul(a, b, **{"block_m": 2, "block_n": 2, "tile_m": 1, "tile_n": 1, **changed})
