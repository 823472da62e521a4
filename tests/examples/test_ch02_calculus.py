"""The chapter's numbers (CHECKLIST 2.4): the script compares all of them."""

import ch02_calculus
import pytest


def test_the_script(tmp_path):
    config = ch02_calculus.Config(plot=tmp_path / "picture.png")
    numbers = ch02_calculus.main(config)
    slopes = [numbers[f"(f(1 + h) - f(1)) / h, h = {h:.5f}"] for h in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)]
    assert slopes == pytest.approx([2.3, 2.03, 2.003, 2.0003, 2.00003], abs=1e-9)
    assert numbers["grad(f)(1.0)"] == 2
    assert config.plot.stat().st_size > 10_000
