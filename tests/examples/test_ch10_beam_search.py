"""The book's probabilities, and that wider beams find better words."""

import ch10_beam_search
import numpy as np
import pytest


def test_the_books_numbers_and_wider_beams_find_more(tmp_path, capsys):
    config = ch10_beam_search.Config(beginnings=40, max_length=6, plot=tmp_path / "pictures" / "beam.png")
    found = ch10_beam_search.main(config)
    assert found["greedy"] == pytest.approx(0.048)
    assert found["beam"] == found["exhaustive"] == pytest.approx(0.054)
    shares = [found[f"found_by_{size}"] for size in ch10_beam_search.BEAM_SIZES]
    assert shares[0] < 0.9 < 0.97 < shares[-1] <= 1
    assert config.plot.stat().st_size > 10_000
    assert "A C B <eos>" in capsys.readouterr().out


def test_dynamic_programming_finds_what_a_beam_of_everything_finds():
    """With 3 letters of the alphabet and up to 3 symbols, 3^2 * 27 places hold every completion."""
    table = np.full((27**3, 27), -1e9)
    table[:, :4] = np.log(np.random.default_rng(0).dirichlet(np.ones(4), size=27**3))
    beginnings = np.array([[0, 1, 2], [0, 3, 3], [0, 2, 1]])
    contexts = beginnings @ np.array([729, 27, 1]) % 27**3
    best = ch10_beam_search.best_scores(table, contexts, 3, 0.75)
    search = ch10_beam_search.make_search(table, beam_size=60, max_length=3, alpha=0.75)
    _, scores, _ = ch10_beam_search.complete(search, beginnings, 27**3)
    np.testing.assert_allclose(scores, best, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"beginnings": 0}, "beginnings: expected at least 1, got 0"),
        ({"max_length": 0}, "max_length: expected at least 1, got 0"),
        ({"alpha": -1}, "alpha: expected 0 or more, got -1"),
    ],
)
def test_bad_flags(fields, message):
    with pytest.raises(ValueError, match=message):
        ch10_beam_search.Config(**fields)
