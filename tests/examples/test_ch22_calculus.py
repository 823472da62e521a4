"""The chapter's numbers (CHECKLIST 22.3 to 22.5): the script compares all of them."""

import ch22_calculus
import pytest


def test_the_script(tmp_path):
    config = ch22_calculus.Config(plot=tmp_path / "picture.png")
    figures = ch22_calculus.main(config)
    slopes = [figures[f"(L(4 + h) - L(4)) / h, h = {h:g}"] for h in (0.1, 0.001, 0.0001, 0.00001)]
    assert slopes == pytest.approx([25.11, 8.002701, 8.000117, 8.000010], abs=1e-6)
    assert figures["linear approximation"] == pytest.approx(1.081946, abs=5e-7)
    assert figures["true value"] == pytest.approx(1.082124, abs=5e-7)
    assert figures["f"] == 1024
    assert figures["sum for x / (1 + x^2) on [0, 2], width 0.05"] == pytest.approx(0.794486, abs=5e-7)
    assert figures["its limit, log(5) / 2"] == pytest.approx(0.804719, abs=1e-6)
    assert config.plot.stat().st_size > 10_000
