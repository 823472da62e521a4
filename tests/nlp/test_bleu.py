"""BLEU: the book's example, Papineni's clipping, sums against counting in Python."""

import math
from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.nlp import NgramCounts, bleu
from jaxdl.training import merge_metrics
from jaxdl.training.metrics import HostSums

REFERENCE = list("ABCDEF")
COUNT = jax.jit(NgramCounts.of, static_argnames="exponents")


@pytest.mark.parametrize(
    ("prediction", "exponents", "expected"),
    [
        ("ABBCD", (0.5,), 0.732295),  # the book's precisions 4/5, 3/4, 1/3, 0 under exp(1 - 6/5)
        ("ABBCD", (0.5, 0.25), 0.681477),
        ("ABBCD", (0.5, 0.25, 0.125), 0.681477 * 3**-0.125),
        ("ABBCD", (0.5, 0.25, 0.125, 0.0625), 0),
        ("AB", (0.5, 0.25), 0.135335),  # exp(1 - 6/2)
        ("ABCDEF", (0.25,) * 4, 1),
        ("A", (0.5, 0.25), math.exp(-5)),  # no pair of tokens: that order is left out
        ("", (0.5, 0.25), 0),
        ("XYZ", (0.5, 0.25), 0),
        ("ABCDEFG", (1.0,), 6 / 7),  # no reward for length
    ],
)
def test_one_pair(prediction, exponents, expected):
    assert bleu(list(prediction), REFERENCE, exponents=exponents) == pytest.approx(expected, abs=1e-6)


def test_a_word_counts_as_often_as_the_reference_has_it():
    """The example of Papineni et al., section 2.1: 2 of 7."""
    reference = ["the", "cat", "is", "on", "the", "mat"]
    assert bleu(["the"] * 7, reference, exponents=(1,)) == pytest.approx(2 / 7)


def counted(pairs, exponents):
    """BLEU of a corpus by dictionaries."""
    score = 1.0
    for n, exponent in enumerate(exponents, 1):
        match = possible = 0
        for prediction, reference in pairs:
            ours, theirs = (
                Counter(tuple(x[i : i + n]) for i in range(len(x) - n + 1)) for x in (prediction, reference)
            )
            match += sum(min(count, theirs[gram]) for gram, count in ours.items())
            possible += sum(ours.values())
        score *= (match / possible) ** exponent if possible else 1
    lengths = [sum(map(len, side)) for side in zip(*pairs, strict=True)]
    return score * math.exp(min(0, 1 - lengths[1] / lengths[0])) if lengths[0] else 0.0


def padded(rows, width, filler):
    return jnp.array([[*row, *[filler] * (width - len(row))] for row in rows], jnp.int32)


def ngram_counts(pairs, mask=None, filler=0, **options):
    predictions, references = zip(*pairs, strict=True)
    arguments = []
    for rows, width in ((predictions, 6), (references, 7)):
        arguments += [padded(rows, width, filler), jnp.array([len(row) for row in rows])]
    return COUNT(*arguments, jnp.ones(len(pairs)) if mask is None else mask, **options)


sequences = st.lists(st.integers(0, 2), max_size=6)
corpora = st.lists(st.tuples(sequences, sequences), min_size=3, max_size=3)


@settings(max_examples=60, deadline=None)
@given(corpora, st.sampled_from([(0.5, 0.25), (0.25,) * 4]), st.integers(0, 2))
def test_sums_of_a_padded_batch_are_the_counts_of_the_corpus(pairs, exponents, filler):
    expected = counted(pairs, exponents)
    assert ngram_counts(pairs, filler=filler, exponents=exponents).compute() == pytest.approx(expected, abs=1e-5)
    parts = [ngram_counts(pairs, mask=jnp.eye(3)[i], exponents=exponents) for i in range(3)]
    merged = merge_metrics(merge_metrics(parts[0], parts[1]), parts[2])
    assert merged.compute() == pytest.approx(expected, abs=1e-5)
    masked = ngram_counts(pairs, mask=jnp.array([1.0, 0.0, 1.0]), exponents=exponents)
    assert masked.compute() == pytest.approx(counted(pairs[::2], exponents), abs=1e-5)
    assert bleu(*pairs[0], exponents=exponents) == pytest.approx(counted(pairs[:1], exponents), abs=1e-12)


def test_a_compiled_step_and_the_host_add_them():
    pairs = [([1, 2, 2], [1, 2, 3]), ([2, 1], [2, 1, 1]), ([0], [0, 0])]
    compiled = jax.jit(lambda mask: ngram_counts(pairs, mask))
    sums = HostSums(stacked=False)
    for mask in ([1, 1, 0], [0, 0, 1]):
        sums.push({"bleu": compiled(jnp.array(mask))})
    sums.fetch()
    assert sums.compute()["bleu"] == pytest.approx(counted(pairs, (0.5, 0.25)), rel=1e-12)


def test_bad_input():
    tokens, lengths = jnp.zeros((2, 3), int), jnp.ones(2, int)
    with pytest.raises(ValueError, match="exponents: expected one for each order"):
        NgramCounts.of(tokens, lengths, tokens, lengths, exponents=())
    with pytest.raises(ValueError, match="exponents: expected one for each order"):
        bleu([], [], exponents=())
    with pytest.raises(ValueError, match=r"predictions: expected integers \[batch, time\], got float32"):
        NgramCounts.of(jnp.zeros((2, 3)), lengths, tokens, lengths)
    with pytest.raises(ValueError, match=r"references: expected 2 rows and as many lengths, got 3"):
        NgramCounts.of(tokens, lengths, jnp.zeros((3, 3), int), lengths)
    with pytest.raises(ValueError, match=r"mask: expected \[2\], got \[2, 3\]"):
        NgramCounts.of(tokens, lengths, tokens, lengths, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="prediction: expected a sequence of tokens, got the string 'va !'"):
        bleu("va !", ["va", "!"])


def test_nothing_predicted_is_zero_for_sums_too():
    empty = ngram_counts([([], [1, 2])])
    assert empty.compute() == 0
