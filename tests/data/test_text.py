from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl.data import clean_text, ngram_counts, tokenize


def test_cleaning_keeps_letters_and_single_blanks():
    assert clean_text("The Time Machine, by H. G. Wells [1898]\n\n\nI") == "the time machine by h g wells i"
    assert clean_text("  É9 ") == " "
    assert clean_text("") == ""


@given(st.text(max_size=40))
def test_cleaning_twice_is_cleaning_once(text):
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    assert set(cleaned) <= set("abcdefghijklmnopqrstuvwxyz ")
    assert "  " not in cleaned


def test_tokens_are_characters_or_words():
    assert tokenize("it is") == ["i", "t", " ", "i", "s"]
    assert tokenize(" it  is\n", "word") == ["it", "is"]
    assert tokenize("") == tokenize("", "word") == []
    with pytest.raises(ValueError, match="unit: expected 'character' or 'word', got 'char'"):
        tokenize("it", "char")


def test_ngrams_of_a_sentence():
    words = ["to", "be", "or", "not", "to", "be"]
    assert ngram_counts(words, 1) == {("to",): 2, ("be",): 2, ("or",): 1, ("not",): 1}
    assert ngram_counts(words, 2)["to", "be"] == 2
    assert list(ngram_counts(words, 3)) == [
        ("to", "be", "or"),
        ("be", "or", "not"),
        ("or", "not", "to"),
        ("not", "to", "be"),
    ]
    assert ngram_counts([3, 3, 3], 2) == {(3, 3): 2}


@given(tokens=st.lists(st.integers(0, 2), min_size=1, max_size=12), data=st.data())
def test_ngrams_are_all_slices(tokens, data):
    n = data.draw(st.integers(1, len(tokens)))
    assert ngram_counts(iter(tokens), n) == Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def test_too_few_tokens_are_an_error():
    with pytest.raises(ValueError, match="n: expected at least 1, got 0"):
        ngram_counts("ab", 0)
    with pytest.raises(ValueError, match="tokens: expected at least n=3, got 2"):
        ngram_counts("ab", 3)
    with pytest.raises(ValueError, match="tokens: expected at least n=1, got 0"):
        ngram_counts([], 1)
