"""Greedy search: the book's tables, a loop in NumPy, the ends of sequences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from search_models import EOS, A, B, C, MarkovModel, book_state, book_step, jitted, valid

from jaxdl.nlp import greedy_search

START = jnp.zeros(1, jnp.int32)


def test_the_books_tables():
    decoded = greedy_search(book_step, book_state(), START, max_length=6, eos_id=EOS)
    assert valid(decoded, 0) == (A, B, C, EOS)
    np.testing.assert_array_equal(decoded.tokens[0, 4:], 0)
    assert decoded.scores[0] == pytest.approx(-1.073584, abs=1e-6)
    log_probability = greedy_search(book_step, book_state(), START, max_length=6, eos_id=EOS, alpha=0)
    assert np.exp(log_probability.scores[0]) == pytest.approx(0.048, rel=1e-6)


def loop(model, row, start, limit, eos):
    tokens, last = [], start
    while len(tokens) < limit and last != eos:
        last = max(range(model.vocab), key=lambda token: model.log_probability(row, start, [*tokens, token]))
        tokens.append(last)
    return tuple(tokens)


def test_a_batch_of_different_ends_is_each_example_alone():
    model = MarkovModel(0, batch=6, vocab=5)
    limits = jnp.array([7, 7, 3, 1, 0, 99])
    search = jitted(greedy_search, model, max_length=7, eos_id=2, pad_id=4)
    start = jnp.array([0, 1, 3, 0, 1, 3])
    decoded = search(model.state(), start, length_limits=limits)
    for row in range(6):
        expected = loop(model, row, int(start[row]), min(int(limits[row]), 7), 2)
        assert valid(decoded, row) == expected
        np.testing.assert_array_equal(decoded.tokens[row, len(expected) :], 4)
        score = model.log_probability(row, int(start[row]), expected) / max(len(expected), 1) ** 0.75
        assert decoded.scores[row] == pytest.approx(score, abs=1e-5)
    assert len({int(n) for n in decoded.lengths}) > 2


def test_without_eos_every_sequence_runs_to_its_limit():
    model = MarkovModel(1, batch=2, vocab=3)
    decoded = greedy_search(model.step, model.state(), jnp.zeros(2, jnp.int32), max_length=5, eos_id=None)
    np.testing.assert_array_equal(decoded.lengths, 5)


def test_the_loop_stops_when_all_have_ended():
    steps = []

    def step(state, tokens):
        jax.debug.callback(lambda: steps.append(1))
        return jnp.zeros((1, 4)).at[:, EOS].set(jnp.where(state == 2, 1.0, -1.0)), state + 1

    greedy_search(step, jnp.int32(0), START, max_length=1000, eos_id=EOS)
    jax.effects_barrier()
    assert len(steps) == 3


def test_an_empty_batch():
    model = MarkovModel(1, batch=0, vocab=3)
    decoded = greedy_search(model.step, model.state(), jnp.zeros(0, jnp.int32), max_length=5, eos_id=0)
    assert decoded.tokens.shape == (0, 5)


@pytest.mark.parametrize(
    "limit", [np.int8(100), np.uint8(200), np.int64(2**63 - 1), np.int32(-5), jnp.int8(100), jnp.uint8(200)], ids=repr
)
def test_limits_of_any_type(limit):
    """300 is 44 in eight bits."""
    model = MarkovModel(1, batch=1, vocab=3)
    limits = limit.reshape(1)
    found = greedy_search(
        model.step, model.state(), jnp.zeros(1, jnp.int32), max_length=300, eos_id=None, length_limits=limits
    )
    assert found.lengths.tolist() == [min(max(int(limit), 0), 300)]


def search(**changed):
    arguments = {"step_fn": book_step, "state": book_state(), "start_tokens": START, "max_length": 3, "eos_id": EOS}
    return greedy_search(**(arguments | changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"start_tokens": jnp.zeros((1, 1), int)}, r"start_tokens: expected integers \[batch\], got int32\[1, 1\]"),
        ({"start_tokens": jnp.zeros(1)}, r"start_tokens: .* got float32\[1\]"),
        ({"max_length": 0}, "max_length: expected at least 1, got 0"),
        ({"eos_id": 4}, r"eos_id: expected an id in \[0, 4\), got 4"),
        ({"pad_id": -1}, r"pad_id: expected an id in \[0, 4\), got -1"),
        ({"alpha": -1}, "alpha: expected 0 or more, got -1"),
        ({"state": book_state(2)}, r"state\['changed'\]: expected the 1 rows of start_tokens .* got \[2\]"),
        ({"length_limits": jnp.ones(2, int)}, r"length_limits: expected integers \[1\], got int32\[2\]"),
        (
            {"step_fn": lambda s, t: (jnp.zeros(4), s)},
            r"step_fn: expected floating logits \[1, vocab\], got float32\[4\]",
        ),
        ({"step_fn": lambda s, t: (jnp.zeros((1, 4), int), s)}, r"step_fn: .* got int32\[1, 4\]"),
        ({"step_fn": lambda s, t: (jnp.zeros((1, 4)), s | {"t": 1.0})}, "step_fn: expected a state of the types"),
    ],
)
def test_bad_input(changed, message):
    with pytest.raises(ValueError, match=message):
        search(**changed)
