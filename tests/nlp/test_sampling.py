"""Sampling: the law of what is drawn, and what temperature, top-k and top-p leave."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from search_models import MarkovModel, jitted, valid

from jaxdl.nlp import greedy_search, sample, truncate_logits

PROBABILITIES = np.array([0.4, 0.1, 0.3, 0.15, 0.05])
ROWS = 4000


def draw(key=0, **options):
    """Many draws of one token."""

    def step(state, tokens):
        return jnp.broadcast_to(jnp.log(jnp.asarray(PROBABILITIES)), (ROWS, 5)), state

    start = jnp.zeros(ROWS, jnp.int32)
    return sample(step, {}, start, jax.random.key(key), max_length=1, eos_id=None, **options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, PROBABILITIES),
        ({"temperature": 0.5}, PROBABILITIES**2),
        ({"temperature": 2.0}, PROBABILITIES**0.5),
        ({"top_k": 2}, PROBABILITIES * [1, 0, 1, 0, 0]),
        ({"top_p": 0.7}, PROBABILITIES * [1, 0, 1, 0, 0]),
        ({"top_p": 0.75}, PROBABILITIES * [1, 0, 1, 1, 0]),
        ({"top_k": 3, "top_p": 0.8}, PROBABILITIES * [1, 0, 1, 0, 0]),  # .7 of the .85 that top-k leaves
        ({"top_p": 0.5, "temperature": 0.5}, PROBABILITIES**2 * [1, 0, 0, 0, 0]),  # .16 of .275
    ],
)
def test_the_law_of_what_is_drawn(options, expected):
    decoded = draw(**options)
    counts = np.bincount(decoded.tokens[:, 0], minlength=5)
    expected = expected / expected.sum()
    assert not counts[expected == 0].any()
    kept = expected > 0
    if kept.sum() > 1:
        assert stats.chisquare(counts[kept], ROWS * expected[kept]).pvalue > 1e-3
    np.testing.assert_allclose(decoded.scores, np.log(PROBABILITIES)[decoded.tokens[:, 0]], rtol=1e-5)


def test_the_key_decides():
    np.testing.assert_array_equal(draw(1).tokens, draw(1).tokens)
    assert not np.array_equal(draw(1).tokens, draw(2).tokens)


def test_sequences_end_and_differ_step_by_step():
    model = MarkovModel(0, batch=50, vocab=4, scale=0.5)
    search = jax.jit(lambda state, start, key: sample(model.step, state, start, key, max_length=9, eos_id=0, pad_id=3))
    decoded = search(model.state(), jnp.ones(50, jnp.int32), jax.random.key(0))
    for row in range(50):
        tokens = valid(decoded, row)
        assert len(tokens) == 9 or tokens[-1] == 0
        assert 0 not in tokens[:-1]
        np.testing.assert_array_equal(decoded.tokens[row, len(tokens) :], 3)
        assert decoded.scores[row] == pytest.approx(model.log_probability(row, 1, tokens), abs=1e-5)
    assert len({valid(decoded, row) for row in range(50)}) > 25


@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}, {"temperature": 1e-45}])
def test_the_extremes_are_greedy_search(options):
    model = MarkovModel(2, batch=10, vocab=6)
    start = jnp.zeros(10, jnp.int32)
    drawn = sample(model.step, model.state(), start, jax.random.key(0), max_length=5, eos_id=2, **options)
    greedy = jitted(greedy_search, model, max_length=5, eos_id=2)(model.state(), start)
    np.testing.assert_array_equal(drawn.tokens, greedy.tokens)


def test_the_highest_temperature_draws_all_that_is_not_forbidden_alike():
    logits = jnp.array([-jnp.inf, 9.0, -3.0, 0.0])
    drawn = sample(
        lambda state, tokens: (jnp.tile(logits, (ROWS, 1)), state),
        (), jnp.zeros(ROWS, jnp.int32), jax.random.key(0), max_length=1, eos_id=None, temperature=1e40,
    )  # fmt: skip
    counts = np.bincount(drawn.tokens[:, 0], minlength=4)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:]).pvalue > 1e-3


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 7]), st.data())
def test_what_the_cuts_leave(seed, vocab, data):
    logits = np.random.default_rng(seed).normal(size=(3, vocab)).astype(np.float32).round(1)  # with ties
    top_k = data.draw(st.integers(1, vocab))
    kept = np.isfinite(truncate_logits(jnp.asarray(logits), top_k=top_k))
    np.testing.assert_array_equal(kept.sum(axis=1), top_k)
    assert np.all(np.where(kept, logits, np.inf).min(axis=1) >= np.where(kept, -np.inf, logits).max(axis=1))

    top_p = data.draw(st.floats(0.01, 1))
    truncated = np.asarray(truncate_logits(jnp.asarray(logits), top_p=top_p))
    kept = np.isfinite(truncated)
    np.testing.assert_array_equal(truncated[kept], logits[kept])
    probabilities = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis=1, keepdims=True)
    inside = (probabilities * kept).sum(axis=1)
    assert np.all(inside >= top_p - 1e-6)  # enough, and without the least likely not enough
    assert np.all(inside - np.where(kept, probabilities, 1).min(axis=1) < top_p + 1e-6)
    assert np.all(np.where(kept, logits, np.inf).min(axis=1) >= np.where(kept, -np.inf, logits).max(axis=1))


def test_no_cut_leaves_all():
    logits = jax.random.normal(jax.random.key(0), (2, 1000))
    np.testing.assert_array_equal(truncate_logits(logits), logits)
    np.testing.assert_array_equal(truncate_logits(logits, top_k=1000, top_p=1.0), logits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, r"temperature: expected a finite number above 0 \(near it: greedy_search\), got 0"),
        ({"temperature": float("inf")}, "temperature: expected a finite number above 0 .*, got inf"),
        ({"top_k": 0}, r"top_k: expected a number in \[1, 5\], got 0"),
        ({"top_k": 6}, r"top_k: expected a number in \[1, 5\], got 6"),
        ({"top_p": 0.0}, r"top_p: expected a number in \(0, 1\], got 0.0"),
        ({"top_p": 1.1}, r"top_p: expected a number in \(0, 1\], got 1.1"),
        ({"pad_id": 5}, r"pad_id: expected an id in \[0, 5\), got 5"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        draw(**options)


def test_a_key_of_another_kind_is_an_error():
    model = MarkovModel(0, batch=1, vocab=3)
    with pytest.raises(ValueError, match="key: expected one typed key"):
        sample(model.step, model.state(), jnp.zeros(1, int), jax.random.PRNGKey(0), max_length=1, eos_id=None)
