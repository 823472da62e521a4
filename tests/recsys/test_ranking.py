"""Ranking scores: cases counted by hand, all pairs, random orders of ties, and scikit-learn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.recsys import auc, hit_at_k, hit_rate

NAN, INF = float("nan"), float("inf")
SCORES = np.array([[0.1, 0.9, 0.5, 0.3], [0.4, 0.4, 0.4, 0.1], [0.9, 0.8, 0.8, 0.7]])
HELD_OUT = np.array([2, 0, 1])


def cases(seed, users=3, items=6, levels=4):
    """Scores of few levels, so that many are tied, and masks."""
    rng = np.random.default_rng(seed)
    mask = rng.random((users, items)) < 0.8
    held_out = rng.integers(0, items, users)
    mask[np.arange(users), held_out] = True
    return rng.integers(0, levels, (users, items)) / levels, held_out, mask, rng.random((users, items)) < 0.4


@pytest.mark.parametrize(
    ("k", "expected"),
    [(1, [0, 1 / 3, 0]), (2, [1, 2 / 3, 1 / 2]), (3, [1, 1, 1]), (4, [1, 1, 1])],
)
def test_hits_by_hand(k, expected):
    hits = hit_at_k(SCORES, HELD_OUT, k)
    assert hits.dtype == jnp.float32
    np.testing.assert_allclose(hits, expected, rtol=1e-6)
    assert float(hit_rate(SCORES, HELD_OUT, k)) == pytest.approx(np.mean(expected), rel=1e-6)


def test_a_mask_takes_better_items_out():
    mask = np.ones((3, 4), bool)
    mask[0, 1] = mask[1, 1:] = mask[2, 0] = False
    np.testing.assert_allclose(hit_at_k(SCORES, HELD_OUT, 1, mask=mask), [1, 1, 1 / 2], rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(1, 4))
def test_a_hit_is_what_random_orders_of_ties_give(seed, k):
    scores, held_out, mask, _ = cases(seed, users=2, items=4, levels=2)
    for user in range(2):
        candidates = np.flatnonzero(mask[user])
        orders = [
            order
            for order in itertools.permutations(candidates)
            if all(scores[user, a] >= scores[user, b] for a, b in itertools.pairwise(order))
        ]
        expected = np.mean([held_out[user] in order[:k] for order in orders])
        found = hit_at_k(scores[user], held_out[user], k, mask=mask[user])
        assert float(found) == pytest.approx(expected, rel=1e-6)


def test_scikit_learn_agrees_where_nothing_is_tied(x64):
    rng = np.random.default_rng(0)
    scores, held_out = rng.normal(size=(50, 8)), rng.integers(0, 8, 50)
    for k in (1, 3, 7):
        expected = sklearn.metrics.top_k_accuracy_score(held_out, scores, k=k, labels=range(8))
        assert float(hit_rate(scores, held_out, k)) == pytest.approx(expected, abs=1e-12)


def test_scores_that_say_nothing_are_worth_what_chance_is():
    same = np.zeros((1, 10))
    assert float(hit_rate(same, [3], 4)) == pytest.approx(0.4)
    assert float(auc(same, np.arange(10)[None] < 3)[0]) == 0.5


@pytest.mark.parametrize(
    ("scores", "relevant", "expected"),
    [
        ([4, 3, 2, 1], [1, 1, 0, 0], 1),
        ([4, 3, 2, 1], [0, 0, 1, 1], 0),
        ([4, 3, 2, 1], [1, 0, 1, 0], 3 / 4),
        ([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0], 3.5 / 4),
        ([0.9, 0.5, 0.5, 0.5], [0, 1, 0, 1], 1 / 4),
        ([INF, INF, -INF, 0.0], [1, 0, 0, 0], 2.5 / 3),  # infinities are scores like others
        ([-INF, -INF], [1, 0], 1 / 2),
        ([0.0, -0.0], [1, 0], 1 / 2),
        ([-0.0, 0.0], [1, 0], 1 / 2),
        ([1.0, 2.0], [1, 1], NAN),
        ([1.0, 2.0], [0, 0], NAN),
        ([1.0, NAN, 0.0], [1, 0, 0], NAN),
    ],
)
def test_auc_by_hand(scores, relevant, expected):
    found = auc(scores, np.array(relevant, bool))
    assert found.shape == ()
    assert float(found) == pytest.approx(expected, rel=1e-6, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_auc_is_scikit_learns(seed):
    with jax.enable_x64(True):
        scores, _, mask, relevant = cases(seed)
        mask[:, :2], relevant[:, 0], relevant[:, 1] = True, True, False
        found = auc(scores, relevant, mask=mask)
        assert found.dtype == jnp.float64
        for user, area in enumerate(found):
            expected = sklearn.metrics.roc_auc_score(relevant[user][mask[user]], scores[user][mask[user]])
            assert float(area) == pytest.approx(expected, abs=1e-12)
        np.testing.assert_allclose(auc(-scores, relevant, mask=mask), 1 - found, atol=1e-12)


def test_the_masked_change_nothing_and_leading_axes_are_free():
    scores, held_out, mask, relevant = cases(1)
    mask[:, :2], relevant[:, 0], relevant[:, 1] = True, True, False
    mask[np.arange(3), held_out] = True
    for filler in (NAN, INF, -INF, 100.0):
        filled = np.where(mask, scores, filler)
        np.testing.assert_array_equal(auc(filled, relevant, mask=mask), auc(scores, relevant, mask=mask))
        np.testing.assert_array_equal(
            hit_at_k(filled, held_out, 2, mask=mask), hit_at_k(scores, held_out, 2, mask=mask)
        )
    assert auc(scores[None], relevant[None]).shape == (1, 3)
    assert hit_at_k(scores[None], held_out[None], 1).shape == (1, 3)
    assert auc(np.zeros((0, 3)), np.zeros((0, 3), bool)).shape == hit_at_k(np.zeros((0, 3)), np.zeros(0, int), 1).shape


def test_a_diverged_model_scores_nan():
    assert np.isnan(hit_at_k([[NAN, 1.0], [2.0, 1.0]], [1, 0], 1)).tolist() == [True, False]


def test_inside_jit():
    scores, held_out, mask, relevant = cases(2)
    hits = jax.jit(lambda *arguments: hit_at_k(*arguments[:2], 2, mask=arguments[2]))
    np.testing.assert_array_equal(hits(scores, held_out, mask), hit_at_k(scores, held_out, 2, mask=mask))
    np.testing.assert_array_equal(jax.jit(auc)(scores, relevant), auc(scores, relevant))
    mask[0, held_out[0]], held_out[1] = False, 99
    assert np.isnan(hits(scores, held_out, mask)).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hit_at_k(SCORES, HELD_OUT, 0), r"k: expected a number in \[1, 4\], got 0"),
        (lambda: hit_at_k(SCORES, HELD_OUT, 5), r"k: expected a number in \[1, 4\], got 5"),
        (lambda: hit_at_k(SCORES, [0, 1], 1), r"held_out: expected integers of shape \[3\], got int32\[2\]"),
        (lambda: hit_at_k(SCORES, [0.0, 1, 2], 1), r"held_out: expected integers of shape \[3\], got float32\[3\]"),
        (lambda: hit_at_k(SCORES, [0, 4, 1], 1), r"held_out: expected a candidate of each user, .*, got 4"),
        (lambda: hit_at_k(SCORES, [0, -1, 1], 1), r"held_out: expected a candidate of each user, .*, got -1"),
        (lambda: hit_at_k(SCORES, HELD_OUT, 1, mask=SCORES > 0.4), "held_out: .* that the mask leaves, got 0"),
        (lambda: hit_at_k(SCORES, HELD_OUT, 1, mask=SCORES), r"mask: expected boolean, .* got float32\[3, 4\]"),
        (lambda: hit_at_k(np.zeros((3, 0)), HELD_OUT, 1), "scores: expected real .* at least one item, got float32"),
        (lambda: hit_at_k(SCORES > 0, HELD_OUT, 1), "scores: expected real .*, got bool"),
        (
            lambda: hit_rate(np.zeros((0, 4)), np.zeros(0, int), 1),
            r"scores: expected at least one user, got shape \[0, 4",
        ),
        (lambda: auc(SCORES, SCORES > 0, mask=np.ones((1, 4), bool)), r"mask: expected boolean, .* got bool\[1, 4\]"),
        (lambda: auc(SCORES, [1, 0, 0, 1]), r"relevant: expected boolean, of the shape of scores \[3, 4\], got int32"),
        (lambda: auc(1.0, True), r"scores: expected real \[\.\.\., items\]"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
