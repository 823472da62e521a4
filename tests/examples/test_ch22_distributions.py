"""The chapter's numbers (CHECKLIST 22.6 to 22.8, 22.10): the script compares the exact ones; chance is here."""

import ch22_distributions
import pytest


def test_the_script(tmp_path):
    figures = ch22_distributions.main(ch22_distributions.Config(experiments=1000, folder=tmp_path / "pictures"))
    assert figures["P(-2 <= X < 3), sum of a mixture's density"] == pytest.approx(0.773617, abs=5e-7)
    assert figures["nine heads, four tails: 9 / 13"] == pytest.approx(9 / 13)
    assert figures["8,675,309 heads, 256,245 tails, by gradient"] == pytest.approx(0.97131, abs=5e-6)
    # four standard deviations of a share of 1,000 experiments
    assert figures["cauchy within 1"] == pytest.approx(0.5, abs=0.064)
    assert figures["interval/t"] == pytest.approx(0.95, abs=0.028)
    assert figures["interval/normal"] == pytest.approx(0.9184, abs=0.035)  # 2 t.cdf(1.96, 9) - 1
    assert figures["rejected/0.0"] == pytest.approx(0.05, abs=0.028)
    assert figures["rejected/0.5"] == pytest.approx(0.8, abs=0.051)
    assert figures["group size"] == 63
    assert figures["n below, maximum likelihood/bias"] == pytest.approx(-0.4, abs=0.24)
    assert figures["n - 1 below/bias"] == pytest.approx(0, abs=0.24)
    assert figures["n below, maximum likelihood/squared error"] < figures["n - 1 below/squared error"]
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"distributions.png", "samples.png"}


def test_too_few_experiments():
    with pytest.raises(ValueError, match="experiments: expected at least 100, got 3"):
        ch22_distributions.Config(experiments=3)
