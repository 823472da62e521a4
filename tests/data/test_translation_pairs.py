"""The contract of `encode_pairs`: what a decoder is fed, what it is to predict, and how long both are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl.data import Vocab, clean_sentence, decode_sentence, encode_pairs, encode_sentences, sentence_vocab

SOURCE = [["go", "."], ["i", "lost", "."], ["he's", "calm", "."]]
TARGET = [["va", "!"], ["j'ai", "perdu", "."], ["il", "est", "calme", "."]]


@pytest.mark.parametrize(
    ("sentence", "cleaned"),
    [
        ("Go.", "go ."),
        ("Cours\u202f!", "cours !"),
        ("Va\xa0!", "va !"),
        ("No, no... Yes!?", "no , no . . . yes ! ?"),
        ("J'ai 3.5 ans", "j'ai 3 .5 ans"),
        (". a", ". a"),
        ("", ""),
    ],
)
def test_a_sentence_is_cleaned(sentence, cleaned):
    assert clean_sentence(sentence) == cleaned
    assert clean_sentence(cleaned) == cleaned


@given(st.text(st.sampled_from("aB ,.!?\t\n\u202f\xa0é"), max_size=20))
def test_cleaning_is_the_books_rule(sentence):
    """Character by character: a blank before a mark that has none and does not begin the text."""
    text = sentence.replace("\u202f", " ").replace("\xa0", " ").lower()
    marked = [
        " " + character if i and character in ",.!?" and text[i - 1] != " " else character
        for i, character in enumerate(text)
    ]
    assert clean_sentence(sentence) == "".join(marked)


def test_the_vocabulary_reserves_the_ends():
    vocab = sentence_vocab(TARGET, min_frequency=2)
    assert vocab.tokens == ("<pad>", "<unk>", "<bos>", "<eos>", ".")
    with pytest.raises(ValueError, match="got the text 'va !' as sentence 1"):
        sentence_vocab([["va"], "va !"])
    with pytest.raises(ValueError, match="corpus: expected at least one token"):
        sentence_vocab([])


def test_pairs_are_arrays_of_the_documented_form():
    source_vocab, target_vocab = sentence_vocab(SOURCE), sentence_vocab(TARGET)
    arrays = encode_pairs(SOURCE, TARGET, source_vocab, target_vocab, num_steps=6)
    assert {name: (array.dtype, array.shape) for name, array in arrays.items()} == {
        "source": (np.int32, (3, 6)),
        "source_length": (np.int32, (3,)),
        "target": (np.int32, (3, 7)),
        "target_length": (np.int32, (3,)),
    }
    assert arrays["source_length"].tolist() == [3, 4, 4]
    assert arrays["target_length"].tolist() == [3, 4, 5]
    assert source_vocab.decode(arrays["source"][1]) == ["i", "lost", ".", "<eos>", "<pad>", "<pad>"]
    inputs, labels = arrays["target"][:, :-1], arrays["target"][:, 1:]
    assert target_vocab.decode(inputs[2]) == ["<bos>", "il", "est", "calme", ".", "<eos>"]
    assert target_vocab.decode(labels[2]) == ["il", "est", "calme", ".", "<eos>", "<pad>"]
    for row, length in zip(labels, arrays["target_length"], strict=True):
        assert target_vocab.decode(row[length - 1 : length]) == ["<eos>"]
        assert (row[length:] == 0).all()
        assert (row[:length] != 0).all()
    for row, sentence in zip(arrays["target"], TARGET, strict=True):
        assert decode_sentence(row, target_vocab) == sentence
    assert encode_pairs(SOURCE, TARGET, source_vocab, target_vocab)["source"].shape == (3, 5)  # the longest target


def test_unseen_words_are_unknown_and_an_empty_sentence_is_its_end():
    vocab = sentence_vocab(TARGET)
    ids, lengths = encode_sentences([[], ["oui"]], vocab)
    assert ids.tolist() == [[3, 0], [1, 3]]
    assert lengths.tolist() == [1, 2]
    assert decode_sentence([2, 3, 4], vocab) == []
    assert decode_sentence([2, 1, 0], vocab) == ["<unk>"]  # a decoder that was stopped before <eos>


def test_long_sentences_are_cut_only_if_asked():
    vocab = sentence_vocab(TARGET)
    with pytest.raises(
        ValueError, match="num_steps: expected at least 5, the length of sentence 2 with '<eos>', got 4"
    ):
        encode_sentences(TARGET, vocab, num_steps=4)
    ids, lengths = encode_sentences(TARGET, vocab, num_steps=4, truncate=True)
    assert vocab.decode(ids[2]) == TARGET[2]  # no <eos>, as in the book
    assert lengths.tolist() == [3, 4, 4]


def test_what_makes_no_pairs_is_refused():
    vocab, plain = sentence_vocab(TARGET), Vocab.from_corpus("ab", reserved=("<eos>",))
    cases = [
        ((SOURCE, TARGET[:2], vocab, vocab), "target: expected 3 sentences, as many as of the source, got 2"),
        ((SOURCE, TARGET, vocab, plain), "target_vocab: expected '<bos>' in it"),
        ((SOURCE, TARGET, Vocab.from_corpus("a"), vocab), "vocab: expected '<eos>' in it"),
        (
            (["go ."], [["va"]], vocab, vocab),
            "sentences: expected sentences of tokens, got the text 'go .' as sentence 0",
        ),
        (([], [], vocab, vocab), "sentences: expected at least one, got none"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            encode_pairs(*arguments)
    with pytest.raises(ValueError, match="num_steps: expected at least 1, got 0"):
        encode_sentences(TARGET, vocab, num_steps=0, truncate=True)
    with pytest.raises(ValueError, match="ids: expected 0 to"):
        decode_sentence([99], vocab)
