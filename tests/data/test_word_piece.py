import collections
import contextlib
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxdl.data import DataError, Vocab, WordPiece, longest_match
from jaxdl.data.pair_merges import merge_pair

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HUGS = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
corpora = st.dictionaries(st.text("abcd", min_size=1, max_size=6), st.integers(1, 5), min_size=1, max_size=8)


def test_the_longest_piece_comes_first():
    assert longest_match("unaffable", {"un", "##aff", "##a", "##able"}, "##") == ["un", "##aff", "##able"]
    assert longest_match("abab", {"ab", "a", "b"}) == ["ab", "ab"]
    assert longest_match("abc", {"ab", "a", "b"}) is None
    assert longest_match("", {"a"}) == []
    assert longest_match("aab", {"a", "##aab", "##a"}, "##") is None  # greedy: it does not come back


def log_likelihood(words, frequencies):
    """Of the corpus, its symbols drawn independently by their shares."""
    counts = collections.Counter()
    for symbols, frequency in zip(words, frequencies, strict=True):
        for symbol in symbols:
            counts[symbol] += frequency
    total = sum(counts.values())
    return sum(n * math.log(n / total) for n in counts.values())


@settings(deadline=None, max_examples=60)
@given(frequencies=corpora, num_pieces=st.integers(1, 8))
def test_each_piece_raises_the_likelihood_the_most(frequencies, num_pieces):
    """Against trying every merge and computing the likelihood from nothing; symbols that pair with themselves, whose
    pairs can overlap, are left out."""
    words = [[word[0], *("##" + character for character in word[1:])] for word in frequencies]
    pairs = {pair for symbols in words for pair in itertools.pairwise(symbols)}
    if not pairs or any(left == right for left, right in pairs):
        return
    size = 2 + len({symbol for symbols in words for symbol in symbols})
    pieces = list(WordPiece.train(frequencies, size + num_pieces).vocab.tokens[size:])
    gains = {
        pair: log_likelihood(
            [merge_pair(symbols, pair, pair[0] + pair[1][2:]) for symbols in words], frequencies.values()
        )
        for pair in pairs
    }
    chosen = [pair for pair in pairs if pair[0] + pair[1][2:] == pieces[0]]
    assert max(gains[pair] for pair in chosen) >= max(gains.values()) - 1e-9


def test_a_published_corpus():
    """The words of the Hugging Face course (chapter 6). By likelihood, "hug" soon is one piece."""
    tokenizer = WordPiece.train(HUGS, 2 + 7 + 3)
    assert tokenizer.vocab.tokens[:9] == ("<pad>", "<unk>", "##g", "##n", "##s", "##u", "b", "h", "p")
    assert tokenizer.segment("hug") == ["hug"]
    assert tokenizer.segment("mug") == ["<unk>"]


@settings(deadline=None, max_examples=100)
@given(frequencies=corpora, extra=st.integers(0, 15), words=st.lists(st.text("abcde", min_size=1, max_size=8)))
def test_pieces_are_those_of_the_tokenizers_package(frequencies, extra, words):
    tokenizers = pytest.importorskip("tokenizers")
    ours = WordPiece.train(frequencies, 2 + 8 + extra)
    vocab = {token: i for i, token in enumerate(ours.vocab.tokens)}
    model = tokenizers.models.WordPiece(vocab, unk_token="<unk>", max_input_chars_per_word=100)
    theirs = tokenizers.Tokenizer(model)
    for word in [*frequencies, *words]:
        assert ours.encode(word).tolist() == theirs.encode(word).ids


def test_long_words_are_unknown_as_in_bert():
    vocab = Vocab(("<pad>", "<unk>", "a", "##a"))
    assert len(WordPiece(vocab).segment("a" * 100)) == 100
    assert WordPiece(vocab).segment("a" * 101) == ["<unk>"]
    assert WordPiece(vocab, max_word_length=2).segment("aaa") == ["<unk>"]


def test_text_is_encoded_and_decoded():
    tokenizer = WordPiece(Vocab(("<pad>", "<unk>", "play", "##ing", "##s", "a")))
    ids = tokenizer.encode(" playing\na  run plays ")
    assert ids.tolist() == [2, 3, 5, 1, 2, 4]
    assert ids.dtype == np.int32
    assert tokenizer.decode([*ids, 0, 0]) == "playing a <unk> plays"
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.decode([]) == ""
    with pytest.raises(ValueError, match="ids: expected 0 to 5"):
        tokenizer.decode([6])


@settings(deadline=None)
@given(frequencies=corpora, extra=st.integers(0, 15))
def test_the_words_of_training_come_back(frequencies, extra):
    tokenizer = WordPiece.train(frequencies, 2 + 8 + extra)
    text = " ".join(frequencies)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert not {0, 1} & set(tokenizer.encode(text).tolist())


def test_training_ends_when_nothing_is_left():
    assert WordPiece.train({"ab": 1}, 100).vocab.tokens == ("<pad>", "<unk>", "##b", "a", "ab")
    assert WordPiece.train({"aaaa": 1}, 100).segment("aaaa") == ["aaaa"]


def test_no_text_becomes_a_special_token():
    tokenizer = WordPiece.train({"<unk>": 9, "<pad>": 9}, 100)
    assert 0 not in tokenizer.encode("<unk> <pad>")
    assert WordPiece(Vocab(("<pad>", "<unk>"))).encode("<pad>").tolist() == [1]


@FUZZ
@given(words=st.dictionaries(st.text("ab#é", min_size=1, max_size=4), st.integers(1, 3), min_size=1, max_size=4))
def test_it_is_saved_and_loaded(tmp_path, words):
    tokenizer = WordPiece.train(words, 20)
    tokenizer.save(tmp_path / "pieces.json")
    loaded = WordPiece.load(tmp_path / "pieces.json")
    assert loaded == tokenizer
    assert loaded.encode("aab b").tolist() == tokenizer.encode("aab b").tolist()


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"type": "BytePairEncoder"}, "found type 'BytePairEncoder'"),
        ({"tokens": ["a"]}, "found tokens: expected '<pad>' and '<unk>' first"),
        ({"tokens": {}}, "found expected a list of texts"),
        ({"prefix": ""}, "found prefix: expected a text, got ''"),
        ({"prefix": 3}, "found expected a list of texts"),
        ({"max_word_length": 0}, "found max_word_length: expected at least 1, got 0"),
        ({"max_word_length": "9"}, "found max_word_length '9'"),
    ],
)
def test_malformed_files(tmp_path, fields, found):
    content = {"type": "WordPiece", "prefix": "##", "max_word_length": 9, "tokens": ["<pad>", "<unk>", "a"], **fields}
    (tmp_path / "pieces.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"content: expected a WordPiece tokenizer, {found}"):
        WordPiece.load(tmp_path / "pieces.json")


@FUZZ
@given(data=st.data())
def test_mutated_files(tmp_path, data):
    WordPiece.train(HUGS, 12).save(tmp_path / "pieces.json")
    content = bytearray((tmp_path / "pieces.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        position, byte = data.draw(st.integers(0, len(content) - 1)), data.draw(st.sampled_from(b'"{}[],:\\\xff0e\0a'))
        content[position] = byte
    (tmp_path / "pieces.json").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(DataError):
        WordPiece.load(tmp_path / "pieces.json").segment("hug")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, 10), "frequencies: expected at least one word, got an empty corpus"),
        (({"a b": 1}, 10), "frequencies: expected words without whitespace, got 'a b'"),
        (({"ab": 1}, 3), "vocab_size: expected at least 4, for the characters alone, got 3"),
    ],
)
def test_training_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        WordPiece.train(*arguments)
    with pytest.raises(ValueError, match="frequencies: expected words without whitespace, got ''"):
        WordPiece.train({"ab": 1}, 10).segment("")
