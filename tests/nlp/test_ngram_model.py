"""n-gram models: the book's three formulas by hand, distributions that add up to one, real text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.nlp import NGramModel, perplexity

TEXT = [0, 1, 2, 0, 1, 3, 0, 1, 2]  # a b c a b d a b c, in a vocabulary of 5


def test_the_books_formulas_by_hand():
    model, strengths = NGramModel(TEXT, 5), (2.0, 3.0, 0.5)
    unigram = (np.array([3, 3, 2, 1, 0]) + 2 / 5) / (9 + 2)
    np.testing.assert_allclose(model.laplace([], strengths=strengths), unigram)
    after_b = (np.array([0, 0, 2, 1, 0]) + 3 * unigram) / (3 + 3)
    np.testing.assert_allclose(model.laplace([1], strengths=strengths), after_b)
    after_ab = (np.array([0, 0, 2, 1, 0]) + 0.5 * unigram) / (3 + 0.5)
    np.testing.assert_allclose(model.laplace([0, 1], strengths=strengths), after_ab)
    np.testing.assert_allclose(model.laplace([4, 4, 0, 1], strengths=strengths), after_ab)  # the last two count


def test_the_ends_of_smoothing():
    model = NGramModel(TEXT, 5)
    np.testing.assert_allclose(model.laplace([0, 1], strengths=(0, 0, 0)), [0, 0, 2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(model.laplace([], strengths=(1e12, 1, 1)), 0.2, rtol=1e-9)
    np.testing.assert_allclose(model.laplace([0, 1], strengths=(1, 1, 1e12)), model.laplace([]), rtol=1e-9)
    np.testing.assert_allclose(model.laplace([4, 4]), model.laplace([]))  # never seen
    with pytest.raises(ValueError, match=r"context: \[4, 4\] never occurred"):
        model.laplace([4, 4], strengths=(1, 1, 0))


def test_backing_off_by_hand():
    model = NGramModel(TEXT, 5)
    unigram = np.array([2.5, 2.5, 1.5, 0.5, 2.0]) / 9  # 4 discounts of .5 go to the one token never seen
    np.testing.assert_allclose(model.backoff([]), unigram)
    after_b = np.array([0, 0, 1.5 / 3, 0.5 / 3, 0])
    unseen = unigram * [1, 1, 0, 0, 1]
    np.testing.assert_allclose(model.backoff([1]), after_b + (1 / 3) * unseen / unseen.sum())
    np.testing.assert_allclose(model.backoff([4, 1]), model.backoff([1]))
    np.testing.assert_allclose(model.backoff([1, 4]), unigram)


texts = st.integers(1, 5).flatmap(
    lambda vocab: st.tuples(st.just(vocab), st.lists(st.integers(0, vocab - 1), min_size=1, max_size=30))
)


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 4), st.data())
def test_estimates_are_distributions(text, order, data):
    vocab, tokens = text
    model = NGramModel(tokens, vocab, order)
    context = data.draw(st.lists(st.integers(0, vocab - 1), max_size=4))
    for distribution in (model.laplace(context), model.backoff(context)):
        assert distribution.min() >= 0
        assert distribution.sum() == pytest.approx(1, abs=1e-12)
    windows = [tuple(tokens[i - len(context) : i + 1]) for i in range(len(context), len(tokens))]
    if len(context) < order:
        np.testing.assert_array_equal(model.count(context), [windows.count((*context, x)) for x in range(vocab)])


def test_longer_contexts_help_until_they_are_too_rare():
    """A chain of order 2: trigrams learn its rule, unigrams are uniform."""
    rng, tokens = np.random.default_rng(0), [0, 1]
    for noise in rng.random(4000):
        tokens.append((tokens[-1] + tokens[-2] + 1) % 7 if noise < 0.9 else int(rng.integers(7)))
    train, test = tokens[:3000], tokens[3000:]
    scores = {}
    for order in (1, 2, 3):
        model = NGramModel(train, 7, order)
        for name in ("laplace", "backoff"):
            scores[name, order] = float(perplexity_of(model.losses(test, getattr(model, name))))
    assert scores["laplace", 1] == pytest.approx(7, rel=0.02)
    assert scores["laplace", 3] < 2.2
    assert scores["backoff", 3] < 2.2
    shuffled = NGramModel(rng.permutation(train), 7, 3)
    assert perplexity_of(shuffled.losses(test, shuffled.laplace)) > 6.5


def perplexity_of(losses):
    return perplexity(np.asarray(losses, np.float32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 3), "tokens: expected at least one to learn from, got none"),
        (([0, 3], 3), r"tokens: expected ids in \[0, 3\), got 3"),
        (([0, -1], 3), r"tokens: expected ids in \[0, 3\), got -1"),
        (([0.5], 3), r"tokens: expected integers \[time\], got float64\[1\]"),
        (([[0]], 3), r"tokens: expected integers \[time\]"),
        (([0], 0), "vocab_size: expected at least 1, got 0"),
        (([0], 1, 0), "order: expected at least 1, got 0"),
    ],
)
def test_a_text_that_cannot_be_learned_from(arguments, message):
    with pytest.raises(ValueError, match=message):
        NGramModel(*arguments)


def test_bad_questions():
    model = NGramModel(TEXT, 5)
    with pytest.raises(ValueError, match=r"context: expected ids in \[0, 5\), got 5"):
        model.laplace([5])
    with pytest.raises(ValueError, match=r"strengths: expected 3 numbers of 0 or more, got \[1\]"):
        model.laplace([0], strengths=(1,))
    with pytest.raises(ValueError, match=r"discount: expected a number in \(0, 1\), got 1"):
        model.backoff([0], discount=1)
    with pytest.raises(ValueError, match=r"tokens: expected ids in \[0, 5\), got 9"):
        model.losses([9], model.laplace)
    assert model.losses([], model.laplace).shape == (0,)
