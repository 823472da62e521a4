"""The chapter's numbers (CHECKLIST 22.11, C30): the script compares all that are exact."""

import ch22_information_theory
import pytest


def test_the_script(tmp_path):
    config = ch22_information_theory.Config(samples=2000, plot=tmp_path / "picture.png")
    figures = ch22_information_theory.main(config)
    expected = {
        "an event of probability 1/64": 6,
        "a card of 52": 5.70044,
        "a shuffled deck, 1 / 52!": 225.581003,
        "H of 0.1, 0.5, 0.1, 0.3": 1.685475,
        "H(X, Y)": 1.685475,
        "'conditional entropy'": 0.863547,
        "'mutual information' with other margins": 0.71946,
        "mean of two examples": 0.94856,
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=5e-6)
    assert figures["D(N(0, 1) || N(1, 1))"] == figures["D(N(0, 1) || N(-1, 1))"] == 0.5
    assert max(value for name, value in figures.items() if name.endswith("errors off")) < 4
    assert config.plot.stat().st_size > 10_000


def test_too_few_samples():
    with pytest.raises(ValueError, match="samples: expected at least 2, got 1"):
        ch22_information_theory.Config(samples=1)
