"""Beam search: the book's tables, exhaustive search by brute force, batches, one compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from search_models import EOS, A, B, C, MarkovModel, book_state, book_step, jitted, valid

from jaxdl.nlp import beam_search, greedy_search

START = jnp.zeros(1, jnp.int32)


def test_the_books_tables():
    decoded = beam_search(book_step, book_state(), START, beam_size=2, max_length=4, eos_id=EOS)
    assert valid(decoded, 0, 0) == (A, C, B, EOS)
    assert valid(decoded, 0, 1) == (A, B, C, EOS)
    np.testing.assert_allclose(decoded.scores[0], [-1.031941, -1.073584], atol=1e-6)
    log_probability = beam_search(book_step, book_state(), START, beam_size=2, max_length=4, eos_id=EOS, alpha=0)
    np.testing.assert_allclose(np.exp(log_probability.scores[0, 0]), 0.054, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.75, 1.0])
def test_a_wide_beam_is_exhaustive_search(alpha):
    """24 continuations of 3 symbols are all there are at the fourth step: the beam drops nothing."""
    model = MarkovModel(3, batch=8, vocab=3)
    search = jitted(beam_search, model, beam_size=24, max_length=4, eos_id=2, alpha=alpha)
    decoded = search(model.state(), jnp.zeros(8, jnp.int32))
    lengths = set()
    for row in range(8):
        expected = model.all_sequences(row, 0, 4, 2, alpha)[:24]
        np.testing.assert_allclose(decoded.scores[row], [score for score, _ in expected], atol=1e-5)
        assert [valid(decoded, row, i) for i in range(24)] == [sequence for _, sequence in expected]
        lengths.add(len(expected[0][1]))
    assert len(lengths) > 1  # an early <eos> is among the best


def test_without_eos_a_wide_beam_is_exhaustive_too():
    model = MarkovModel(4, batch=3, vocab=3)
    decoded = beam_search(model.step, model.state(), jnp.zeros(3, int), beam_size=27, max_length=3, eos_id=None)
    for row in range(3):
        best = max(model.log_probability(row, 0, s) for s in np.ndindex(3, 3, 3)) / 3**0.75
        assert decoded.scores[row, 0] == pytest.approx(best, abs=1e-5)


def test_one_beam_is_greedy_search():
    model = MarkovModel(5, batch=16, vocab=6)
    start, limits = jnp.arange(16) % 6, jnp.arange(16) % 9
    options = {"max_length": 8, "eos_id": 1}
    greedy = jitted(greedy_search, model, **options)(model.state(), start, length_limits=limits)
    beam = jitted(beam_search, model, beam_size=1, **options)(model.state(), start, length_limits=limits)
    np.testing.assert_array_equal(beam.tokens[:, 0], greedy.tokens)
    np.testing.assert_array_equal(beam.lengths[:, 0], greedy.lengths)
    found = np.asarray(limits) > 0
    np.testing.assert_allclose(beam.scores[found, 0], greedy.scores[found], rtol=1e-6)
    assert np.all(np.isneginf(np.asarray(beam.scores)[~found]))


def reference_beam_search(model, row, start, *, beam_size, limit, eos, alpha):
    """The same algorithm as lists, without stopping early."""
    live, finished = [(0.0, ())], []
    for _ in range(limit):
        grown = [(0, (*s, token)) for _, s in live for token in range(model.vocab)]
        grown = [(model.log_probability(row, start, s), s) for _, s in grown]
        best = sorted(grown, key=lambda pair: -pair[0])[:beam_size]
        done = [pair for pair in best if pair[1][-1] == eos or len(pair[1]) == limit]
        finished += [(p / len(s) ** alpha, s) for p, s in done]
        live = [pair for pair in best if pair not in done]
    return sorted(finished, key=lambda pair: -pair[0])[:beam_size]


def test_a_batch_of_different_limits_is_each_example_by_a_plain_loop():
    """So the early stop changes nothing, nor does one example another."""
    model = MarkovModel(6, batch=12, vocab=7)
    start, limits = jnp.arange(12) % 7, 1 + jnp.arange(12) % 10
    decoded = jitted(beam_search, model, beam_size=4, max_length=10, eos_id=0, pad_id=6)(
        model.state(), start, length_limits=limits
    )
    for row in range(12):
        expected = reference_beam_search(
            model, row, int(start[row]), beam_size=4, limit=int(limits[row]), eos=0, alpha=0.75
        )
        found = [valid(decoded, row, i) for i in range(4)]
        assert found == [s for _, s in expected] + [()] * (4 - len(expected))
        np.testing.assert_allclose(decoded.scores[row, : len(expected)], [s for s, _ in expected], atol=1e-5)
        for i in range(4):
            np.testing.assert_array_equal(decoded.tokens[row, i, len(found[i]) :], 6)


def test_it_is_one_compilation(compilations):
    model = MarkovModel(7, batch=4, vocab=5)
    first = model.state(), jnp.zeros(4, jnp.int32), jnp.array([1, 2, 3, 4])
    second = model.state(), jnp.ones(4, jnp.int32), jnp.array([6, 5, 6, 5])
    search = jax.jit(
        lambda state, start, limits: beam_search(
            model.step, state, start, beam_size=3, max_length=6, eos_id=0, length_limits=limits
        )
    )
    compilations.clear()
    search(*first)
    assert len(compilations) == 1
    search(*second)
    assert len(compilations) == 1


def test_it_stops_when_nothing_better_can_come():
    steps = []

    def step(state, tokens):
        jax.debug.callback(lambda: steps.append(1))
        return jnp.broadcast_to(jnp.array([0.0, -9.0, 9.0]), (len(tokens), 3)), state

    decoded = beam_search(step, {}, START, beam_size=2, max_length=500, eos_id=2, alpha=0)
    jax.effects_barrier()
    assert len(steps) == 2  # after which two sequences end, and the one prefix left is less likely than both
    assert valid(decoded, 0, 0) == (2,)


def test_the_score_of_a_row_of_nan_is_nan_alone_and_beside_others():
    def step(state, tokens):
        return jnp.where(state[:, None], jnp.nan, jnp.array([[0.0, 1.0, 2.0]])), state

    options = {"beam_size": 2, "max_length": 3, "eos_id": None}
    for bad in ([True], [True, False]):
        found = beam_search(step, jnp.array(bad), jnp.zeros(len(bad), jnp.int32), **options)
        assert np.isnan(found.scores[0]).all()
        assert (found.lengths == 3).all()
    assert np.isfinite(found.scores[1]).all()


def test_no_beam_is_an_error():
    with pytest.raises(ValueError, match="beam_size: expected at least 1, got 0"):
        beam_search(book_step, book_state(), START, beam_size=0, max_length=4, eos_id=EOS)
    with pytest.raises(ValueError, match="alpha: expected 0 or more"):
        beam_search(book_step, book_state(), START, beam_size=1, max_length=4, eos_id=EOS, alpha=-0.1)
    with pytest.raises(ValueError, match="max_length: expected at least 1"):
        beam_search(book_step, book_state(), START, beam_size=1, max_length=0, eos_id=EOS)
    with pytest.raises(ValueError, match=r"state\['changed'\]"):
        beam_search(book_step, book_state(2), START, beam_size=1, max_length=4, eos_id=EOS)


def test_the_sign_of_a_nan_does_not_matter():
    bad = jnp.array(-np.full((1, 4), np.nan, np.float32))
    found = beam_search(lambda state, _: (state, state), bad, jnp.array([1]), beam_size=2, max_length=3, eos_id=None)
    assert np.isnan(found.scores).all()
