"""Hit rate (He et al., 2017, "Neural Collaborative Filtering", section 4.1) and AUC of recommendations (D2L 21.6).

Both rank a user's candidates by score, greatest first. Candidates are what `mask` leaves: it takes out what the user
had before, and padding. (The book's `evaluate_ranking` counts its candidates by users, a slip.) Equal scores are
taken to be ranked at random, and the result is the expectation: a model that scores all alike is worth what chance is.
A score of NaN gives NaN for that user; an infinite one is a score like others, and integers are taken to floats.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike


def hit_at_k(scores: ArrayLike, held_out: ArrayLike, k: int, *, mask: ArrayLike | None = None) -> jax.Array:
    """Whether the held-out item of each user is among the k best candidates: 1 or 0.

    If the k-th place falls among candidates with the score of the held-out item, the result is the share of their
    random orders that put it among the k.

    Args:
      scores: `[..., items]`.
      held_out: integers `[...]`, the item of each user.
      k: 1 to items. With no more than k candidates it is always a hit.
      mask: boolean `[..., items]`, True for candidates; default: all.

    Returns:
      `[...]`, float32, or float64 for such scores; NaN inside `jax.jit` where the held-out item is no candidate.
      `jaxdl.training.Mean.of` takes its mean over padded batches of users.

    Raises:
      ValueError: if shapes or dtypes do not fit, `k` is out of range, or a known held-out item is no candidate.

    >>> hit_at_k([[0.1, 0.7, 0.2], [0.5, 0.5, 0.5]], [2, 0], 2)
    Array([1.       , 0.6666667], dtype=float32)
    """
    scores, mask = _candidates(scores, mask)
    held_out = jnp.asarray(held_out)
    if held_out.shape != scores.shape[:-1] or not jnp.issubdtype(held_out.dtype, jnp.integer):
        expected = f"integers of shape {list(scores.shape[:-1])}"
        raise ValueError(f"held_out: expected {expected}, got {held_out.dtype}{list(held_out.shape)}")
    if not 1 <= k <= scores.shape[-1]:
        raise ValueError(f"k: expected a number in [1, {scores.shape[-1]}], got {k}")
    hit, is_candidate = _hit(scores, held_out, k, mask)
    if not isinstance(is_candidate, Tracer) and not is_candidate.all():
        wrong = np.asarray(held_out)[~np.asarray(is_candidate)].flat[0]
        expected = f"a candidate of each user, an item in [0, {scores.shape[-1]}) that the mask leaves"
        raise ValueError(f"held_out: expected {expected}, got {wrong}")
    return hit


def hit_rate(scores: ArrayLike, held_out: ArrayLike, k: int, *, mask: ArrayLike | None = None) -> jax.Array:
    """The share of users whose held-out item is among the k best candidates: the mean of `hit_at_k`.

    Args:
      scores: `[..., items]`, of at least one user.
      held_out: integers `[...]`.
      k: 1 to items.
      mask: boolean `[..., items]`, True for candidates; default: all.

    Returns:
      A scalar, float32 or float64.

    Raises:
      ValueError: as `hit_at_k`, and if there are no users.
    """
    hits = hit_at_k(scores, held_out, k, mask=mask)
    if not hits.size:
        raise ValueError(f"scores: expected at least one user, got shape {list(jnp.shape(scores))}")
    return hits.mean()


def auc(scores: ArrayLike, relevant: ArrayLike, *, mask: ArrayLike | None = None) -> jax.Array:
    """The probability that a relevant candidate is scored above another, per user; a tie counts one half.

    The area under the ROC curve, by sorting: items * log(items) for each user, no pairs in memory.

    Args:
      scores: `[..., items]`.
      relevant: boolean `[..., items]`.
      mask: boolean `[..., items]`, True for candidates; default: all.

    Returns:
      `[...]`, float32, or float64 for such scores; NaN for a user whose candidates are all relevant, or none is.
      D2L reports the mean over users; `jnp.nanmean` leaves those out.

    Raises:
      ValueError: if shapes or dtypes do not fit.

    >>> auc([[0.9, 0.5, 0.5, 0.1]], jnp.array([[True, True, False, False]]))  # (1 + 1 + 1/2 + 1) / 4
    Array([0.875], dtype=float32)
    """
    scores, mask = _candidates(scores, mask)
    relevant = _boolean("relevant", relevant, scores)
    return _auc(scores, relevant, mask)


@jax.jit
def _hit(scores: jax.Array, held_out: jax.Array, k: ArrayLike, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The hits, and whether the held-out items are candidates."""
    items = jnp.arange(scores.shape[-1]).reshape((1,) * held_out.ndim + (-1,))
    is_held_out = mask & (held_out[..., None] == items)
    is_candidate = is_held_out.any(-1)
    own = jnp.where(is_held_out, scores, -jnp.inf).max(-1, keepdims=True)
    above = (mask & (scores > own)).sum(-1)
    tied = (mask & (scores == own)).sum(-1)  # the held-out item too
    hit = jnp.clip((k - above) / jnp.maximum(tied, 1), 0, 1).astype(scores.dtype)
    return jnp.where(is_candidate & ~_any_nan(scores, mask), hit, jnp.nan), is_candidate


@jax.jit
def _auc(scores: jax.Array, relevant: jax.Array, mask: jax.Array) -> jax.Array:
    area = jnp.vectorize(_auc_of_user, signature="(n),(n),(n)->()")(scores, relevant & mask, ~relevant & mask)
    return jnp.where(_any_nan(scores, mask), jnp.nan, area)


def _auc_of_user(scores: jax.Array, relevant: jax.Array, other: jax.Array) -> jax.Array:
    num_relevant, num_other = relevant.sum(), other.sum()
    rising = jnp.sort(jnp.where(other, scores, jnp.inf))  # the scores of the others, then infinities
    below = jnp.minimum(jnp.searchsorted(rising, scores, side="left"), num_other)
    not_above = jnp.minimum(jnp.searchsorted(rising, scores, side="right"), num_other)
    share = (below + not_above).astype(scores.dtype) / (2 * num_other)  # of the others that each item is above
    return jnp.where(relevant, share, 0).sum() / num_relevant


def _candidates(scores: ArrayLike, mask: ArrayLike | None) -> tuple[jax.Array, jax.Array]:
    scores = jnp.asarray(scores)
    real = jnp.issubdtype(scores.dtype, jnp.floating) or jnp.issubdtype(scores.dtype, jnp.integer)
    if scores.ndim == 0 or scores.shape[-1] == 0 or not real:
        expected = "real [..., items] with at least one item"
        raise ValueError(f"scores: expected {expected}, got {scores.dtype}{list(scores.shape)}")
    if jnp.issubdtype(scores.dtype, jnp.floating):
        scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    else:
        scores = scores.astype(float)
    mask = jnp.ones(scores.shape, bool) if mask is None else _boolean("mask", mask, scores)
    return scores, mask


def _boolean(name: str, x: ArrayLike, scores: jax.Array) -> jax.Array:
    x = jnp.asarray(x)
    if x.shape != scores.shape or x.dtype != bool:
        expected = f"boolean, of the shape of scores {list(scores.shape)}"
        raise ValueError(f"{name}: expected {expected}, got {x.dtype}{list(x.shape)}")
    return x


def _any_nan(scores: jax.Array, mask: jax.Array) -> jax.Array:
    """For each user, whether a candidate's score is NaN."""
    return (mask & jnp.isnan(scores)).any(-1)
