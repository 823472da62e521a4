import contextlib
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxdl.data import DataError, UnigramTokenizer, Vocab
from jaxdl.data.unigram_tokenizer import PieceScores

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HUGS = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
corpora = st.dictionaries(st.text("abcd", min_size=1, max_size=6), st.integers(1, 5), min_size=1, max_size=8)


@st.composite
def piece_scores(draw):
    """Log-probabilities of the characters a and b and of some longer pieces."""
    longer = draw(st.sets(st.text("ab", min_size=2, max_size=4), max_size=6))
    pieces = ["a", "b", *sorted(longer)]
    weights = np.array(draw(st.lists(st.integers(1, 50), min_size=len(pieces), max_size=len(pieces))), float)
    return dict(zip(pieces, np.log(weights / weights.sum()).tolist(), strict=True))


def ways(word, scores):
    """All ways to cut a word, each with its log-probability."""
    if not word:
        return [([], 0.0)]
    return [
        ([piece, *rest], scores[piece] + score)
        for piece in scores
        if word.startswith(piece)
        for rest, score in ways(word[len(piece) :], scores)
    ]


@settings(deadline=None)
@given(scores=piece_scores(), word=st.text("ab", min_size=1, max_size=7))
def test_no_other_way_is_more_likely(scores, word):
    pieces = PieceScores(scores).most_likely(word)
    assert "".join(pieces) == word
    best = max(score for _, score in ways(word, scores))
    assert sum(scores[piece] for piece in pieces) == pytest.approx(best, abs=1e-12)


@settings(deadline=None)
@given(
    scores=piece_scores(),
    words=st.dictionaries(st.text("ab", min_size=1, max_size=6), st.integers(1, 3), min_size=1, max_size=3),
)
def test_expected_counts_are_those_over_all_ways(scores, words):
    counts, log_likelihood = PieceScores(scores).expected_counts(words)
    expected, total = dict.fromkeys(scores, 0.0), 0.0
    for word, frequency in words.items():
        cut = ways(word, scores)
        likelihood = math.fsum(math.exp(score) for _, score in cut)
        total += frequency * math.log(likelihood)
        for pieces, score in cut:
            for piece in pieces:
                expected[piece] += frequency * math.exp(score) / likelihood
    assert counts == pytest.approx(expected, abs=1e-9)
    assert log_likelihood == pytest.approx(total, abs=1e-9)


@settings(deadline=None)
@given(
    scores=piece_scores(), words=st.dictionaries(st.text("ab", min_size=1, max_size=6), st.integers(1, 3), min_size=1)
)
def test_expectation_maximisation_never_loses_likelihood(scores, words):
    before = -math.inf
    for _ in range(4):
        counts, log_likelihood = PieceScores(scores).expected_counts(words)
        assert log_likelihood >= before - 1e-9
        before, total = log_likelihood, sum(counts.values())
        scores = {piece: math.log(max(count, 1e-30) / total) for piece, count in counts.items()}


def test_long_words_do_not_underflow():
    counts, log_likelihood = PieceScores({"a": math.log(1e-6)}).expected_counts({"a" * 200: 1})
    assert counts["a"] == pytest.approx(200)
    assert log_likelihood == pytest.approx(200 * math.log(1e-6))


def test_a_loss_is_that_of_cutting_into_others():
    pieces = PieceScores({"a": math.log(0.5), "b": math.log(0.25), "ab": math.log(0.25)})
    assert pieces.loss("ab", 3.0) == pytest.approx(3 * (math.log(0.25) - math.log(0.5 * 0.25)))
    assert pieces.loss("a", 3.0) == math.inf


def test_frequent_stretches_are_kept():
    tokenizer = UnigramTokenizer.train(HUGS, 2 + 8 + 3, start_of_word="_")
    assert set("_bghnpsu") < set(tokenizer.vocab.tokens)  # characters stay
    assert len(tokenizer.vocab) == 13
    assert tokenizer.segment("hug") in (["_hug"], ["_", "hug"], ["_h", "ug"])
    assert sum(map(math.exp, tokenizer.log_probabilities)) == pytest.approx(1)
    assert list(tokenizer.log_probabilities) == sorted(tokenizer.log_probabilities, reverse=True)


@settings(deadline=None, max_examples=60)
@given(frequencies=corpora, extra=st.integers(0, 15), words=st.lists(st.text("abcdef", min_size=1, max_size=8)))
def test_pieces_are_those_of_the_tokenizers_package(frequencies, extra, words):
    """On the same pieces and scores, unknown characters included."""
    tokenizers = pytest.importorskip("tokenizers")
    ours = UnigramTokenizer.train(frequencies, 2 + 5 + extra, start_of_word="_")
    scored = zip(ours.vocab.tokens, (0.0, 0.0, *ours.log_probabilities), strict=True)
    theirs = tokenizers.Tokenizer(tokenizers.models.Unigram(list(scored), unk_id=1))
    for word in [*frequencies, *words]:
        assert ours.encode(word).tolist() == theirs.encode(f"_{word}").ids


def test_text_is_encoded_and_decoded():
    tokenizer = UnigramTokenizer.train(HUGS, 30)
    ids = tokenizer.encode(" hugs\npun  mug ")
    assert ids.dtype == np.int32
    assert tokenizer.decode([*ids, 0, 0]) == "hugs pun <unk>ug"
    assert tokenizer.segment("xyzug")[1:] == ["xyz", "ug"]
    assert tokenizer.encode("xyz").tolist()[1:] == [1]  # neighbours are one
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.decode([]) == ""
    with pytest.raises(ValueError, match="ids: expected 0 to"):
        tokenizer.decode([99])


@settings(deadline=None, max_examples=60)
@given(frequencies=corpora, extra=st.integers(0, 15), data=st.data())
def test_known_characters_come_back(frequencies, extra, data):
    tokenizer = UnigramTokenizer.train(frequencies, 2 + 5 + extra)
    text = data.draw(st.text([*sorted(set("".join(frequencies))), " ", "\n"], max_size=20))
    assert tokenizer.decode(tokenizer.encode(text)) == " ".join(text.split())


def test_no_text_becomes_a_special_token():
    tokenizer = UnigramTokenizer.train({"<unk>": 9, "<pad>": 9}, 100)
    assert not {0, 1} & set(tokenizer.encode("<unk> <pad>").tolist())


@FUZZ
@given(words=st.dictionaries(st.text("ab<é\ud800", min_size=1, max_size=4), st.integers(1, 3), min_size=1, max_size=4))
def test_it_is_saved_and_loaded(tmp_path, words):
    tokenizer = UnigramTokenizer.train(words, 20)
    tokenizer.save(tmp_path / "pieces.json")
    loaded = UnigramTokenizer.load(tmp_path / "pieces.json")
    assert loaded == tokenizer
    assert loaded.encode("aab b").tolist() == tokenizer.encode("aab b").tolist()


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"type": "WordPiece"}, "found type 'WordPiece'"),
        ({"tokens": ["a"]}, "found tokens: expected '<pad>' and '<unk>' first"),
        ({"log_probabilities": [-1.0]}, r"found log_probabilities: expected 2 \(one or more\) finite numbers"),
        ({"log_probabilities": [-1.0, 0.5]}, "found log_probabilities: expected 2"),
        ({"log_probabilities": [-1.0, math.nan]}, "found log_probabilities: expected 2"),
        ({"log_probabilities": [-1.0, -math.inf]}, "found log_probabilities: expected 2"),
        ({"log_probabilities": [-1.0, "much"]}, "found could not convert"),
        ({"log_probabilities": 3}, "found"),
        ({"start_of_word": ""}, "found start_of_word: expected a text without whitespace"),
    ],
)
def test_malformed_files(tmp_path, fields, found):
    content = {"type": "UnigramTokenizer", "start_of_word": "_", "tokens": ["<pad>", "<unk>", "_", "a"]}
    content |= {"log_probabilities": [-1.0, -0.5], **fields}
    (tmp_path / "pieces.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"content: expected a unigram tokenizer, {found}"):
        UnigramTokenizer.load(tmp_path / "pieces.json")


@FUZZ
@given(data=st.data())
def test_mutated_files(tmp_path, data):
    UnigramTokenizer.train(HUGS, 12, start_of_word="_").save(tmp_path / "pieces.json")
    content = bytearray((tmp_path / "pieces.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        position, byte = data.draw(st.integers(0, len(content) - 1)), data.draw(st.sampled_from(b'"{}[],:\\\xff0e\0a'))
        content[position] = byte
    (tmp_path / "pieces.json").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(DataError):
        tokenizer = UnigramTokenizer.load(tmp_path / "pieces.json")
        with contextlib.suppress(ValueError):  # the mark may have become a letter of the word
            tokenizer.segment("hug")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, 10), "frequencies: expected at least one word, got an empty corpus"),
        (({"a b": 1}, 10), "frequencies: expected words without whitespace, got 'a b'"),
        (({"ab": 1}, 4), "vocab_size: expected at least 5, for the characters alone, got 4"),
        (({"a\u2581b": 1}, 10), "word: expected none with the mark '\u2581' in it"),
    ],
)
def test_training_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        UnigramTokenizer.train(*arguments)
    with pytest.raises(ValueError, match="frequencies: expected words without whitespace, got ''"):
        UnigramTokenizer.train({"ab": 1}, 10).segment("")
    with pytest.raises(ValueError, match="log_probabilities: expected 0"):
        UnigramTokenizer(Vocab(("<pad>", "<unk>")), ())
