import collections
import contextlib
import itertools
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxdl.data import BytePairEncoder, DataError, longest_match
from jaxdl.data.pair_merges import PairCounts

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# D2L 15.6: words with their mark, ten merges, ties to the pair that comes first.
BOOK_WORDS = {"fast": 4, "faster": 3, "tall": 5, "taller": 4}
BOOK_MERGES = ["t a", "ta l", "tal l", "f a", "fa s", "fas t", "e r", "er _", "tall _", "fast _"]
corpora = st.dictionaries(st.text("abcd", min_size=1, max_size=6), st.integers(1, 5), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def book():
    return BytePairEncoder.train(BOOK_WORDS, 10, end_of_word="_")


def test_the_books_merges_and_pieces(book):
    assert [" ".join(pair) for pair in book.merges] == BOOK_MERGES
    assert [" ".join(book.segment(word)) for word in BOOK_WORDS] == ["fast_", "fast er_", "tall_", "tall er_"]
    assert book.vocab.tokens == (
        *("<pad>", "<unk>", "_", "a", "e", "f", "l", "r", "s", "t"),
        *("ta", "tal", "tall", "fa", "fas", "fast", "er", "er_", "tall_", "fast_"),
    )


def test_the_books_new_words(book):
    """By merges, and by the book's own rule, the longest piece first."""
    pieces = set(book.vocab.tokens[2:])
    for word, expected in (("tallest", "tall e s t _"), ("fatter", "fa t t er_")):
        assert " ".join(book.segment(word)) == expected
        assert longest_match(f"{word}_", pieces) == expected.split()


def naive_merges(frequencies, num_merges, end_of_word):
    """Counts anew after each merge, as the book does: slow, and nothing to keep in order."""
    words, merges = {word: [*word, end_of_word] for word in frequencies}, []
    while len(merges) < num_merges:
        counts = collections.Counter()
        for word, symbols in words.items():
            for pair in itertools.pairwise(symbols):
                counts[pair] += frequencies[word]
        if not counts:
            break
        best = max(counts, key=counts.__getitem__)  # the first of them
        merges.append(best)
        for symbols in words.values():
            i = 0
            while i < len(symbols) - 1:
                if (symbols[i], symbols[i + 1]) == best:
                    symbols[i : i + 2] = ["".join(best)]
                i += 1
    return merges, words


@settings(deadline=None, max_examples=200)
@given(frequencies=corpora, num_merges=st.integers(0, 30))
def test_merges_are_those_of_counting_anew(frequencies, num_merges):
    merges, _ = naive_merges(frequencies, num_merges, "_")
    assert list(BytePairEncoder.train(frequencies, num_merges, end_of_word="_").merges) == merges


@settings(deadline=None, max_examples=100)
@given(frequencies=corpora, data=st.data())
def test_counts_stay_those_of_the_words(frequencies, data):
    counts = PairCounts([list(word) for word in frequencies], frequencies.values())
    for _ in range(4):
        if not counts.pairs:
            break
        pair = data.draw(st.sampled_from(sorted(counts.pairs)))
        counts.merge(pair, "".join(pair))
        fresh = PairCounts(counts.words, counts.frequencies)
        assert counts.pairs == fresh.pairs
        assert +counts.symbols == fresh.symbols
        assert ["".join(symbols) for symbols in counts.words] == list(frequencies)
        for pair in counts.pairs:
            number, place = counts.first_place(pair)
            assert number == min(i for i, s in enumerate(counts.words) if pair in itertools.pairwise(s))
            assert "".join(counts.words[number])[place:].startswith("".join(pair))


@settings(deadline=None, max_examples=100)
@given(frequencies=corpora, num_merges=st.integers(0, 25), words=st.lists(st.text("abcde", min_size=1, max_size=8)))
def test_pieces_are_those_of_the_tokenizers_package(frequencies, num_merges, words):
    """On the same merges, also where pieces overlap, repeat or come about in two ways."""
    tokenizers = pytest.importorskip("tokenizers")
    ours = BytePairEncoder.train(frequencies, num_merges, end_of_word="_")
    vocab = {token: i for i, token in enumerate(ours.vocab.tokens)}
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, list(ours.merges), unk_token="<unk>"))
    for word in [*frequencies, *words]:
        assert ours.encode(word).tolist() == theirs.encode(f"{word}_").ids


def test_training_is_that_of_the_tokenizers_package():
    """Where no two pairs are equally frequent at any merge, their trainer finds the same."""
    tokenizers = pytest.importorskip("tokenizers")
    frequencies = {"caabb": 17, "caa": 40, "aab": 25, "caac": 32, "cbc": 44, "cbcbb": 32, "cca": 1}
    merges, _ = naive_merges(frequencies, 7, "_")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=4 + 7, show_progress=False)
    tokenizer.train_from_iterator([f"{word}_" for word, count in frequencies.items() for _ in range(count)], trainer)
    theirs = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    assert theirs == merges == list(BytePairEncoder.train(frequencies, 7, end_of_word="_").merges)


def test_text_is_encoded_and_decoded():
    encoder = BytePairEncoder.train({"low": 5, "lower": 2, "newer": 6, "wider": 3}, 8)
    ids = encoder.encode(" newer\nlow  slow ")
    assert ids.dtype == np.int32
    assert encoder.decode(ids) == "newer low <unk>low"
    assert encoder.decode(np.append(ids, [0, 0])) == "newer low <unk>low"
    assert encoder.decode(encoder.encode("lower")[:-1]) in ("lo", "low", "lowe")  # a word cut short
    assert encoder.encode("").shape == (0,)
    assert encoder.decode([]) == ""
    with pytest.raises(ValueError, match="ids: expected 0 to"):
        encoder.decode([999])


@settings(deadline=None)
@given(frequencies=corpora, num_merges=st.integers(0, 20), data=st.data())
def test_known_characters_come_back(frequencies, num_merges, data):
    encoder = BytePairEncoder.train(frequencies, num_merges)
    text = data.draw(st.text([*encoder.alphabet, " ", "\n"], max_size=20))
    assert encoder.decode(encoder.encode(text)) == " ".join(text.split())


def test_the_first_merges_are_a_smaller_encoder(book):
    smaller = BytePairEncoder(book.alphabet, book.merges[:4], "_")
    assert smaller == BytePairEncoder.train(BOOK_WORDS, 4, end_of_word="_")
    assert len(smaller.vocab) == len(book.vocab) - 6
    assert smaller.segment("taller") == ["tall", "e", "r", "_"]


def test_training_ends_when_nothing_is_left():
    assert len(BytePairEncoder.train({"ab": 1}, 100).merges) == 2
    assert BytePairEncoder.train({"ab": 2, "cd": 1}, 100, min_frequency=2).merges == (("a", "b"), ("ab", "</w>"))
    assert BytePairEncoder.train({"a": 1}, 0).segment("a") == ["a", "</w>"]


def test_no_text_becomes_a_special_token():
    encoder = BytePairEncoder.train({"<unk>": 9, "<pad>": 9}, 100)
    assert not {0, 1} & set(encoder.encode("<unk> <pad> <pad><unk>").tolist())
    assert encoder.decode(encoder.encode("<unk> <pad>")) == "<unk> <pad>"


@FUZZ
@given(words=st.dictionaries(st.text("ab<é\ud800", min_size=1, max_size=4), st.integers(1, 3), min_size=1, max_size=4))
def test_it_is_saved_and_loaded(tmp_path, words):
    encoder = BytePairEncoder.train(words, 5, end_of_word="_")
    encoder.save(tmp_path / "bpe.json")
    loaded = BytePairEncoder.load(tmp_path / "bpe.json")
    assert loaded == encoder
    assert loaded.encode("aab b").tolist() == encoder.encode("aab b").tolist()


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"type": "WordPiece"}, "found type 'WordPiece'"),
        ({"alphabet": "ab"}, "found expected a list of texts, got 'ab'"),
        ({"alphabet": ["ab"]}, "found alphabet: expected single characters, got 'ab'"),
        ({"alphabet": ["a", "a"]}, "found alphabet: expected distinct characters"),
        ({"merges": [["a", "c"]]}, "found merges: expected a new pair of known pieces as merge 0"),
        ({"merges": [["a", "b"], ["a", "b"]]}, "found merges: expected a new pair of known pieces as merge 1"),
        ({"merges": [["a"]]}, "found not enough values to unpack"),
        ({"merges": ["ab"]}, "found expected a list of texts"),
        ({"merges": 3}, "found"),
        ({"end_of_word": ""}, "found end_of_word: expected a text without whitespace, got ''"),
        ({"end_of_word": None}, "found expected a list of texts"),
    ],
)
def test_malformed_files(tmp_path, fields, found):
    content = {"type": "BytePairEncoder", "end_of_word": "_", "alphabet": ["a", "b"], "merges": [["a", "b"]], **fields}
    (tmp_path / "bpe.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"content: expected a byte pair encoder, {found}"):
        BytePairEncoder.load(tmp_path / "bpe.json")


@FUZZ
@given(data=st.data())
def test_mutated_files(tmp_path, book, data):
    book.save(tmp_path / "bpe.json")
    content = bytearray((tmp_path / "bpe.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        position, byte = data.draw(st.integers(0, len(content) - 1)), data.draw(st.sampled_from(b'"{}[],:\\\xff0e\0a'))
        content[position] = byte
    (tmp_path / "bpe.json").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(DataError):
        BytePairEncoder.load(tmp_path / "bpe.json").segment("ab")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, 1), "frequencies: expected at least one word, got an empty corpus"),
        (({"a b": 1}, 1), "frequencies: expected words without whitespace, got 'a b'"),
        (({"": 1}, 1), "frequencies: expected words without whitespace, got ''"),
        (({"a": 0}, 1), "frequencies: expected a positive integer, got 0 for 'a'"),
        (({"a": 1.5}, 1), "frequencies: expected a positive integer, got 1.5 for 'a'"),
        (({"a": 1}, -1), "num_merges, min_frequency: expected at least 0 and 1, got -1 and 1"),
        (({"a</w>b": 1}, 1), "word: expected none with the mark '</w>' in it, got 'a</w>b'"),
    ],
)
def test_training_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        BytePairEncoder.train(*arguments)


def test_words_that_cannot_be(book):
    for word in ("", "a b"):
        with pytest.raises(ValueError, match="expected words without whitespace"):
            book.segment(word)
    with pytest.raises(ValueError, match="expected none with the mark '_' in it, got 'a_b'"):
        book.encode("tall a_b")
