"""The script's figures are those of the text, and pieces lie between characters and words."""

import ch09_tokenizers as example
import numpy as np
import pytest

from jaxdl.data import clean_text, load


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return example.main(example.Config(vocab_size=300, folder=folder)), folder


def test_pieces_lie_between_characters_and_words(run):
    figures, _ = run
    words, characters = (figures[f"{name}/tokens_per_word"] for name in ("words", "characters"))
    assert words == 1
    for name in ("BPE", "WordPiece", "unigram"):
        assert words < figures[f"{name}/tokens_per_word"] < characters
        assert (figures[f"{name}/vocabulary"], figures[f"{name}/unknown"]) == (300, 0)
    assert 0 < figures["words, all of training/unknown"] < figures["words/unknown"] < 1


def test_characters_are_the_letters_and_the_blank(run):
    figures, _ = run
    text = clean_text("".join(load("pydoc", "test")["text"]))
    assert figures["characters/vocabulary"] == 2 + 27
    assert figures["characters/tokens_per_word"] == pytest.approx((len(text) + 1) / len(text.split()))


def test_words_follow_zipfs_law(run):
    """The exponent of words is near 1, those of pairs and triples are smaller (D2L 9.2)."""
    figures, _ = run
    assert 0.8 < figures["zipf/1"] < 1.4
    assert figures["zipf/3"] < figures["zipf/2"] < figures["zipf/1"]
    assert example.zipf_exponent(1e6 / np.arange(1, 2000) ** 0.7) == pytest.approx(0.7)


def test_two_pictures_are_drawn(run):
    pictures = {path.name: path.stat().st_size for path in run[1].iterdir()}
    assert pictures.keys() == {"zipf.png", "vocabularies.png"}
    assert min(pictures.values()) > 10_000


def test_a_vocabulary_too_small_for_the_letters_is_refused():
    with pytest.raises(ValueError, match="vocab_size: expected at least 64, got 10"):
        example.Config(vocab_size=10)
