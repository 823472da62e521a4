"""The sizes of the Pallas kernels' blocks, and the table of defaults.

A configuration changes a kernel's speed, never its result beyond rounding; blocks that need more shared memory than an
H100 has are refused. `matmul` takes one as an argument, those of attention come from the table.
`benchmarks/autotune.py` finds which ones compile for an H100 without spilling registers, and times them on a GPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

MAX_BLOCK = 256  # columns that one wgmma instruction takes, and the copy engine's longest side


@dataclass(frozen=True)
class AttentionConfig:
    """Blocks of the forward kernel.

    Two warpgroups compute, each for its own queries; a third copies keys and values into a ring of shared memory.

    Args:
      block_q: queries of each of the two warpgroups; a multiple of 64.
      block_kv: keys and values that are copied and multiplied at a time; a multiple of 64.
      num_stages: places in the ring, at least 1. With 2 or more, copies run while the tensor cores work.

    Raises:
      ValueError: if a size is not one of these.
    """

    block_q: int = 64
    block_kv: int = 128
    num_stages: int = 2

    def __post_init__(self) -> None:
        _check_blocks(self, 64, "block_q", "block_kv")
        _check_at_least_one(self, "num_stages")


@dataclass(frozen=True)
class AttentionBackwardConfig:
    """Blocks of the two backward kernels: one for the gradient of the queries, one for that of keys and values.

    Args:
      block_q_dq: queries of each of the two warpgroups of the first kernel; a multiple of 64.
      block_kv_dq: keys and values at a time there; a multiple of 64.
      block_q_dkv: queries at a time in the second kernel; a multiple of 64.
      block_kv_dkv: keys and values of each of its two warpgroups, at a depth of 256 of both together; a multiple of 64.
      num_stages: places in the ring of either, at least 1.

    Raises:
      ValueError: if a size is not one of these.
    """

    block_q_dq: int = 64
    block_kv_dq: int = 64
    block_q_dkv: int = 64
    block_kv_dkv: int = 64
    num_stages: int = 2

    def __post_init__(self) -> None:
        _check_blocks(self, 64, "block_q_dq", "block_kv_dq", "block_q_dkv", "block_kv_dkv")
        _check_at_least_one(self, "num_stages")


@dataclass(frozen=True)
class MatmulConfig:
    """Blocks of the product `[m, k] @ [k, n]`.

    Args:
      tile_m: rows of the output of each of the two warpgroups that compute; a multiple of 64.
      tile_n: columns of the output; a multiple of 64.
      tile_k: how much of the sum is copied and multiplied at a time; a multiple of 64.
      num_stages: places in the ring of shared memory, at least 1.
      grid_tile_width: how many tiles of columns the blocks walk down side by side, at least 1, so that those which run
        at the same time find each other's rows and columns in the L2 cache.
      cluster_size: 1, or 2: blocks go in pairs, one tile above the other, and copy their columns once for both.

    Raises:
      ValueError: if a size is not one of these.
    """

    tile_m: int = 64
    tile_n: int = 128
    tile_k: int = 64
    num_stages: int = 4
    grid_tile_width: int = 8
    cluster_size: int = 1

    def __post_init__(self) -> None:
        _check_blocks(self, 64, "tile_m", "tile_n", "tile_k")
        _check_at_least_one(self, "num_stages", "grid_tile_width", "cluster_size")
        if self.cluster_size > 2:
            raise ValueError(f"cluster_size: expected 1 or 2, got {self.cluster_size!r}")


@dataclass(frozen=True)
class DecodeConfig:
    """Blocks of attention from a few queries to a long cache.

    Args:
      block_kv: keys and values that are copied and multiplied at a time; a multiple of 64.
      num_splits: parts of the cache that are worked on side by side and merged; None takes enough to fill the device.
      num_stages: places in the ring of shared memory, at least 1.

    Raises:
      ValueError: if a size is not one of these.
    """

    block_kv: int = 128
    num_splits: int | None = None
    num_stages: int = 2

    def __post_init__(self) -> None:
        _check_blocks(self, 64, "block_kv")
        _check_at_least_one(self, "num_stages")
        if self.num_splits is not None:
            _check_at_least_one(self, "num_splits")


Config = AttentionConfig | AttentionBackwardConfig | MatmulConfig | DecodeConfig


def _check_blocks(config: Config, multiple: int, *names: str) -> None:
    for name in names:
        size = getattr(config, name)
        if not _is_int(size) or size % multiple or not 0 < size <= MAX_BLOCK:
            raise ValueError(f"{name}: expected a multiple of {multiple} up to {MAX_BLOCK}, got {size!r}")


def _check_at_least_one(config: Config, *names: str) -> None:
    for name in names:
        size = getattr(config, name)
        if not _is_int(size) or size < 1:
            raise ValueError(f"{name}: expected a whole number of at least 1, got {size!r}")


def _is_int(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool)


class AttentionRow(NamedTuple):
    """A row of a table for attention: it serves the cases within its bounds; None bounds nothing."""

    depth: int  # the largest
    length: int | None  # the largest, of queries and of keys
    is_causal: bool | None
    is_masked: bool | None
    config: Any


class MatmulRow(NamedTuple):
    """A row of the table for products."""

    m: int | None  # the largest
    n: int | None  # the largest
    config: MatmulConfig


class Table(NamedTuple):
    """The defaults of a device; in each column the first row that fits serves."""

    attention: tuple[AttentionRow, ...]
    attention_backward: tuple[AttentionRow, ...]
    matmul: tuple[MatmulRow, ...]
    decode: tuple[AttentionRow, ...]


H100 = Table(
    # The largest blocks that the registers hold, with and without masks; none has been timed yet.
    attention=(
        AttentionRow(64, None, False, False, AttentionConfig(64, 256, 2)),
        AttentionRow(64, None, None, None, AttentionConfig(64, 128, 3)),
        AttentionRow(128, None, None, False, AttentionConfig(64, 128, 2)),
        AttentionRow(128, None, None, None, AttentionConfig(64, 64, 3)),
        AttentionRow(256, None, None, None, AttentionConfig(64, 64, 2)),
    ),
    attention_backward=(
        AttentionRow(64, None, None, False, AttentionBackwardConfig(64, 128, 64, 64, 3)),
        AttentionRow(64, None, None, None, AttentionBackwardConfig(64, 64, 64, 64, 3)),
        AttentionRow(128, None, None, False, AttentionBackwardConfig(64, 128, 64, 64, 2)),
        AttentionRow(256, None, None, None, AttentionBackwardConfig(64, 64, 64, 64, 2)),
    ),
    matmul=(
        MatmulRow(None, 128, MatmulConfig(64, 128, 64, 6)),
        MatmulRow(1024, 1024, MatmulConfig(64, 128, 64, 6)),  # twice the tiles, for want of tiles
        MatmulRow(None, None, MatmulConfig(64, 256, 64, 4)),
    ),
    decode=(  # small enough for two programs on a multiprocessor, but at a depth of 256
        AttentionRow(64, None, None, None, DecodeConfig(128)),
        AttentionRow(256, None, None, None, DecodeConfig(64)),
    ),
)

TABLES: Mapping[str, Table] = {  # by `device_kind`
    "NVIDIA H100 80GB HBM3": H100,
    "NVIDIA H200": H100,  # the same processor with faster memory
}


def table(device_kind: str | None = None) -> Table:
    """The defaults of a device; those of an H100 for one that the library does not know.

    Args:
      device_kind: as `jax.Device.device_kind` has it; None is the default device.
    """
    return TABLES.get(jax.devices()[0].device_kind if device_kind is None else device_kind, H100)


def attention_config(
    depth: int, q_len: int, kv_len: int, is_causal: bool, is_masked: bool = False, device_kind: str | None = None
) -> AttentionConfig:
    """The forward kernel's default.

    Args:
      depth: the larger of the depths of keys and values, up to 256.
      q_len: number of queries.
      kv_len: number of keys.
      is_causal: whether queries see no keys behind their own position, or none behind a window.
      is_masked: whether lengths, segment ids, a mask or a window hide more, a bias is added, or a softcap has to be
        undone: it takes registers.
      device_kind: as for `table`.

    Raises:
      ValueError: if the depth is above 256.
    """
    return _first(table(device_kind).attention, depth, max(q_len, kv_len), is_causal, is_masked)


def attention_backward_config(
    depth: int, q_len: int, kv_len: int, is_causal: bool, is_masked: bool = False, device_kind: str | None = None
) -> AttentionBackwardConfig:
    """The backward kernels' default; arguments and errors as for `attention_config`."""
    return _first(table(device_kind).attention_backward, depth, max(q_len, kv_len), is_causal, is_masked)


def decode_config(
    depth: int, q_len: int, kv_len: int, is_causal: bool, is_masked: bool = False, device_kind: str | None = None
) -> DecodeConfig:
    """The default for a few queries; arguments and errors as for `attention_config`."""
    return _first(table(device_kind).decode, depth, max(q_len, kv_len), is_causal, is_masked)


def matmul_config(m: int, n: int, k: int, device_kind: str | None = None) -> MatmulConfig:
    """The default of `[m, k] @ [k, n]`.

    Args:
      m: rows of the output.
      n: columns of the output.
      k: length of the sums.
      device_kind: as for `table`.
    """
    rows = table(device_kind).matmul
    return next(row.config for row in rows if _within(m, row.m) and _within(n, row.n))


def _first(rows: tuple[AttentionRow, ...], depth: int, length: int, is_causal: bool, is_masked: bool) -> Any:
    for row in rows:
        fits = depth <= row.depth and _within(length, row.length)
        if fits and row.is_causal in (None, bool(is_causal)) and row.is_masked in (None, bool(is_masked)):
            return row.config
    raise ValueError(f"depth: expected at most {rows[-1].depth}, got {depth}")


def _within(size: int, largest: int | None) -> bool:
    return largest is None or size <= largest
