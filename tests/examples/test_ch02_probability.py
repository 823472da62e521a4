"""The chapter's numbers (CHECKLIST 2.6): the script compares the exact ones; chance is here."""

import ch02_probability
import pytest


def test_the_script(tmp_path, capsys):
    config = ch02_probability.Config(tosses=1000, plot=tmp_path / "picture.png")
    figures = ch02_probability.main(config)
    assert figures["bayes/P(D1 = 1)"] == pytest.approx(0.011485, abs=1e-7)
    assert figures["bayes/P(H = 1 | D1 = 1)"] == pytest.approx(0.1306, abs=5e-5)
    assert figures["bayes/P(D1 = 1, D2 = 1)"] == pytest.approx(0.00176955, abs=1e-8)
    assert figures["bayes/P(H = 1 | D1 = 1, D2 = 1)"] == pytest.approx(0.8307, abs=5e-5)
    assert figures["coupled_tests/P(H = 1 | D1 = 1, D2 = 1)"] == pytest.approx(0.0686, abs=5e-5)
    assert figures["investment/expected return"] == pytest.approx(1.8)
    assert figures["investment/variance of the return"] == pytest.approx(8.36)
    assert figures["investment/expected utility, of utilities -1, 2, 4"] == pytest.approx(0.7)
    assert figures["error of the share"] < 0.03  # about 0.5 / sqrt(1000)
    assert figures["inside"] > 0.85  # 95 % at each number of tosses
    assert figures["error of the covariance"] < 0.1
    assert config.plot.stat().st_size > 10_000
    assert "a loss of 30 %" in capsys.readouterr().out


def test_too_few_tosses():
    with pytest.raises(ValueError, match="tosses: expected at least 10, got 9"):
        ch02_probability.Config(tosses=9)
