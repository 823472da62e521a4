"""Every way gives the product; their times are printed and not tested."""

import ch12_vectorization as example
import jax.numpy as jnp
import numpy as np
import pytest


def test_every_way_gives_numpys_product(tmp_path, capsys):
    figures = example.main(example.Config(size=8, plot=tmp_path / "new" / "v.png"))
    ways = ("element by element", "row by row", "column by column", "2 columns at once", "4 columns at once", "whole")
    assert {f"error/{way}" for way in ways} == figures.keys() - {"GFLOP"}
    bound = 8 * np.finfo(np.float32).eps * 8 * 4**2  # sums of 8 products of numbers below 4
    assert max(figures[f"error/{way}"] for way in ways) < bound
    assert figures["GFLOP"] == pytest.approx(1.024e-6)  # 512 multiplications and additions
    printed = capsys.readouterr().out
    assert "512 multiply-adds" in printed
    assert all(way in printed for way in ways)
    assert (tmp_path / "new" / "v.png").stat().st_size > 10_000


def test_a_wrong_block_is_noticed(monkeypatch):
    """Blocks that all begin at row 0 are another product."""
    a = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)), jnp.float32)
    right = example.block
    monkeypatch.setattr(example, "block", lambda a, b, i, j, height, width: right(a, b, 0 * i, j, height, width))
    assert example.measure(a, a, 1, 4).error > 0.1


@pytest.mark.parametrize("size", [0, 1, 6])
def test_what_is_no_power_of_two_is_refused(size):
    with pytest.raises(ValueError, match=f"size: expected a power of 2, at least 2; got {size}"):
        example.Config(size=size)
