import contextlib
import json
import os

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxdl.data import DataError, Vocab, tokenize

FUZZ = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CORPUS = ["the", "time", "machine", "by", "the", "time", "traveller", "the"]


def test_frequent_tokens_come_first_and_equals_in_order():
    vocab = Vocab.from_corpus(CORPUS, reserved=("<bos>", "<eos>"))
    expected = ("<pad>", "<unk>", "<bos>", "<eos>", "the", "time", "by", "machine", "traveller")
    assert vocab.tokens == expected
    assert len(vocab) == 9
    assert [vocab[token] for token in expected] == list(range(9))
    assert "time" in vocab
    assert "space" not in vocab
    assert Vocab.from_corpus(reversed(CORPUS), reserved=("<bos>", "<eos>")) == vocab
    assert Vocab.from_corpus({"the": 3, "time": 2, "by": 1}).tokens[2:] == ("the", "time", "by")


def test_rare_tokens_are_unknown_and_reserved_ones_stay():
    vocab = Vocab.from_corpus([*CORPUS, "<unk>", "<unk>"], min_frequency=2, reserved=("<eos>",))
    assert vocab.tokens == ("<pad>", "<unk>", "<eos>", "the", "time")
    ids = vocab.encode(["time", "by", "<eos>", "<unk>"])
    assert ids.tolist() == [4, 1, 2, 1]
    assert ids.dtype == np.int32
    assert vocab.decode(ids) == ["time", "<unk>", "<eos>", "<unk>"]
    assert Vocab.from_corpus(CORPUS, min_frequency=4).tokens == ("<pad>", "<unk>")


@given(text=st.text(min_size=1, max_size=30))
def test_what_is_encoded_is_decoded(text):
    vocab = Vocab.from_corpus(text)
    assert vocab.decode(vocab.encode(text)) == list(text)
    assert set(vocab.tokens[2:]) == set(text)


@pytest.mark.parametrize("make", [list, np.array, jnp.array, lambda ids: np.array(ids, np.uint8)])
def test_numbers_may_be_a_list_or_an_array(make):
    assert Vocab.from_corpus("ab").decode(make([2, 0, 3])) == ["a", "<pad>", "b"]


def test_nothing_is_nothing():
    vocab = Vocab.from_corpus("a")
    assert vocab.encode([]).shape == (0,)
    assert vocab.decode([]) == []


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([2, 3, 9], "ids: expected 0 to 2, of 3 tokens, got 3 at position 1"),
        ([-1], "ids: expected 0 to 2, of 3 tokens, got -1 at position 0"),
        ([1.0], r"ids: expected integers \[tokens\], got float64\[1\]"),
        ([True], r"ids: expected integers \[tokens\], got bool\[1\]"),
        ([[1]], r"ids: expected integers \[tokens\], got int64\[1, 1\]"),
        (1, r"ids: expected integers \[tokens\], got int64\[\]"),
    ],
)
def test_numbers_outside_the_vocabulary_are_errors(ids, message):
    with pytest.raises(ValueError, match=message):
        Vocab.from_corpus("a").decode(ids)


def test_what_makes_no_vocabulary_is_refused():
    for corpus in ([], "", {}):
        with pytest.raises(ValueError, match="corpus: expected at least one token, got none"):
            Vocab.from_corpus(corpus)
    with pytest.raises(ValueError, match="min_frequency: expected at least 1, got 0"):
        Vocab.from_corpus("a", min_frequency=0)
    with pytest.raises(ValueError, match="tokens: expected distinct texts, got '<eos>' 2 times"):
        Vocab.from_corpus("a", reserved=("<eos>", "<eos>"))
    with pytest.raises(ValueError, match="tokens: expected distinct texts, got ''"):
        Vocab.from_corpus(["a", ""])
    with pytest.raises(ValueError, match="tokens: expected '<pad>' and '<unk>' first, got"):
        Vocab(("<unk>", "<pad>"))
    with pytest.raises(ValueError, match="tokens: expected texts, got 3"):
        Vocab.from_corpus("a").encode([3])
    with pytest.raises(KeyError, match="'<bos>' is not one of the vocabulary's 3 tokens"):
        _ = Vocab.from_corpus("a")["<bos>"]


@FUZZ
@given(tokens=st.lists(st.text(st.characters(codec=None), min_size=1, max_size=3), min_size=1, max_size=6))
def test_it_is_saved_and_loaded(tmp_path, tokens):
    vocab = Vocab.from_corpus(tokens, reserved=("<bos>",))
    vocab.save(tmp_path / "vocab.json")
    loaded = Vocab.load(tmp_path / "vocab.json")
    assert loaded == vocab
    assert loaded.encode(tokens).tolist() == vocab.encode(tokens).tolist()
    assert os.listdir(tmp_path) == ["vocab.json"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "content: expected a vocabulary in JSON, found Expecting value"),
        (b'{"tokens": ["<pad>"', "content: expected a vocabulary in JSON, found Expecting"),
        (b'{"tokens": ["\xff"]}', "content: expected a vocabulary in JSON, found 'utf-8' codec"),
        (b"[" * 100_000, "content: expected a vocabulary in JSON, found"),
        (b"9" * 5_000, "content: expected a vocabulary in JSON, found Exceeds the limit"),
        (b"[1]", "content: expected a vocabulary, a JSON object, found list"),
        (b'{"words": []}', "content: expected a vocabulary with a field 'tokens', found"),
        (b'{"tokens": "abc"}', "content: expected a vocabulary, found expected a list of texts, got 'abc'"),
        (b'{"tokens": ["<pad>", "<unk>", 3]}', "content: expected a vocabulary, found expected a list of texts"),
        (b'{"tokens": ["a", "b"]}', "content: expected a vocabulary, found tokens: expected '<pad>' and '<unk>'"),
        (b'{"tokens": ["<pad>", "<unk>", "a", "a"]}', "content: expected a vocabulary, found tokens: expected dist"),
    ],
)
def test_malformed_files(tmp_path, content, match):
    (tmp_path / "vocab.json").write_bytes(content)
    with pytest.raises(DataError, match=match):
        Vocab.load(tmp_path / "vocab.json")


@FUZZ
@given(data=st.data())
def test_mutated_files(tmp_path, data):
    content = bytearray(json.dumps({"tokens": ["<pad>", "<unk>", "a", "é"]}).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        position, byte = data.draw(st.integers(0, len(content) - 1)), data.draw(st.sampled_from(b'"{}[],:\\\xff0e\0a'))
        content[position] = byte
    (tmp_path / "vocab.json").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(DataError):
        assert Vocab.load(tmp_path / "vocab.json").tokens[:2] == ("<pad>", "<unk>")


def test_an_interrupted_save_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    Vocab.from_corpus("a").save(tmp_path / "vocab.json")

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(json, "dump", fail)
    with pytest.raises(OSError, match="disk full"):
        Vocab.from_corpus("b").save(tmp_path / "vocab.json")
    assert os.listdir(tmp_path) == ["vocab.json"]
    assert Vocab.load(tmp_path / "vocab.json").tokens[2:] == ("a",)


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Vocab.load(tmp_path / "vocab.json")


def test_words_and_characters_of_a_text():
    assert len(Vocab.from_corpus(tokenize("to be or not to be", "word"))) == 2 + 4
    assert len(Vocab.from_corpus(tokenize("to be or not to be"))) == 2 + 7
