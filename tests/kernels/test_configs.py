"""Configurations refuse sizes that the kernels do not have, and the tables answer for every case."""

import dataclasses
import functools

import pytest

from jaxdl.kernels import configs
from jaxdl.kernels.configs import (
    TABLES,
    AttentionBackwardConfig,
    AttentionConfig,
    AttentionRow,
    DecodeConfig,
    MatmulConfig,
    MatmulRow,
    Table,
)

BLOCKS = {
    AttentionConfig: ("block_q", "block_kv"),
    AttentionBackwardConfig: ("block_q_dq", "block_kv_dq", "block_q_dkv", "block_kv_dkv"),
    MatmulConfig: ("tile_m", "tile_n", "tile_k"),
    DecodeConfig: ("block_kv",),
}
LOOK_UPS = {
    configs.attention_config: AttentionConfig,
    configs.attention_backward_config: AttentionBackwardConfig,
    configs.decode_config: DecodeConfig,
}


@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: kind.__name__)
def test_sizes_that_the_kernels_lack_are_refused_by_name(kind):
    assert hash(kind()) == hash(kind())  # part of jit's key
    for field in dataclasses.fields(kind):
        if field.name in BLOCKS[kind]:
            assert getattr(kind(**{field.name: 192}), field.name) == 192
            wrong = (0, -64, 32, 100, 320, 64.0, True, None)
        else:
            assert getattr(kind(**{field.name: 1}), field.name) == 1
            wrong = (0, -1, 1.5, True) + (() if field.default is None else (None,))
        for size in wrong:
            with pytest.raises(ValueError, match=f"^{field.name}: expected .*, got {size!r}$"):
                kind(**{field.name: size})


@pytest.mark.parametrize("device_kind", [*TABLES, "NVIDIA A100-SXM4-80GB", None])
def test_every_case_has_a_default(device_kind):
    for look_up, kind in LOOK_UPS.items():
        for depth in (1, 64, 65, 128, 192, 256):
            for lengths in ((1, 1), (1, 8192), (1000, 63), (1 << 20, 1 << 20)):
                for is_causal in (False, True):
                    for is_masked in (False, True):
                        assert isinstance(look_up(depth, *lengths, is_causal, is_masked, device_kind), kind)
        with pytest.raises(ValueError, match=r"^depth: expected at most 256, got 257$"):
            look_up(257, 64, 64, False, device_kind=device_kind)
    for sizes in ((1, 1, 1), (8192, 8192, 8192), (1 << 20, 8, 64)):
        assert isinstance(configs.matmul_config(*sizes, device_kind), MatmulConfig)


def test_an_unknown_device_has_the_h100s_defaults_and_the_h200_shares_them():
    assert configs.table("no such device") is configs.table("NVIDIA H200") is configs.table("NVIDIA H100 80GB HBM3")
    assert configs.table() is configs.H100  # this is a CPU


def test_the_first_row_that_fits_serves(monkeypatch):
    small, causal, plain, rest = (AttentionConfig(64, 64 * i) for i in (1, 2, 3, 4))
    rows = (
        AttentionRow(64, 512, None, None, small),
        AttentionRow(128, None, True, None, causal),
        AttentionRow(128, None, None, False, plain),
        AttentionRow(256, None, None, None, rest),
    )
    narrow, wide = MatmulConfig(tile_n=64), MatmulConfig(tile_n=256)
    table = Table(
        rows, (), (MatmulRow(256, None, narrow), MatmulRow(None, 128, narrow), MatmulRow(None, None, wide)), ()
    )
    monkeypatch.setattr(configs, "TABLES", {"mine": table})
    attention_config = functools.partial(configs.attention_config, device_kind="mine")
    assert attention_config(64, 512, 512, True) is small
    assert attention_config(64, 513, 512, True) is causal  # the longer of the two lengths counts
    assert attention_config(64, 1, 513, False) is plain
    assert attention_config(64, 1, 513, False, is_masked=True) is rest
    assert attention_config(129, 1, 1, True) is rest
    assert configs.matmul_config(256, 999, 1, "mine") is narrow
    assert configs.matmul_config(257, 128, 1, "mine") is narrow
    assert configs.matmul_config(257, 129, 1, "mine") is wide
