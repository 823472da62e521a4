"""Softmax over the valid part of a padded axis (D2L 11.3)."""

import jax
import jax.numpy as jnp


def masked_softmax(scores: jax.Array, lengths: jax.Array | None = None, mask: jax.Array | None = None) -> jax.Array:
    """Softmax over the last axis as if the masked entries were not there.

    Args:
      scores: floating `[batch, ..., keys]`.
      lengths: integer `[batch]`, or `[batch, ...]` with one length for each row: entries from there on are masked.
      mask: boolean, broadcastable to `scores` with as many axes; False is masked.

    Returns:
      `[batch, ..., keys]` in the dtype of `scores`, computed in float32 at least. Masked entries are exactly zero, and
      so is a row without a valid entry (the book fills with -1e6 and gets the average there).

    Raises:
      ValueError: if the shapes do not fit.
    """
    if scores.ndim < 2 or not jnp.issubdtype(scores.dtype, jnp.floating):
        raise ValueError(f"scores: expected floating [batch, ..., keys], got {scores.dtype}{list(scores.shape)}")
    valid = jnp.ones((1,) * scores.ndim, bool)
    if lengths is not None:
        if lengths.shape not in (scores.shape[:1], scores.shape[:-1]) or not jnp.issubdtype(lengths.dtype, jnp.integer):
            expected = f"integer {list(scores.shape[:1])} or {list(scores.shape[:-1])}"
            raise ValueError(f"lengths: expected {expected}, got {lengths.dtype}{list(lengths.shape)}")
        lengths = lengths.reshape(lengths.shape + (1,) * (scores.ndim - lengths.ndim))
        valid = jnp.arange(scores.shape[-1]).reshape((1,) * (scores.ndim - 1) + (-1,)) < lengths
    if mask is not None:
        fits = mask.ndim == scores.ndim and all(m in (1, n) for m, n in zip(mask.shape, scores.shape, strict=True))
        if not fits or mask.dtype != jnp.bool_:
            expected = f"boolean {list(scores.shape)}, or 1 for any of these"
            raise ValueError(f"mask: expected {expected}; got {mask.dtype}{list(mask.shape)}")
        valid = valid & mask
    x = jnp.where(valid, scores.astype(jnp.promote_types(scores.dtype, jnp.float32)), -jnp.inf)
    largest = jax.lax.stop_gradient(jnp.max(x, -1, keepdims=True, initial=-jnp.inf))
    x = jnp.exp(x - jnp.where(largest == -jnp.inf, 0, largest))
    total = x.sum(-1, keepdims=True)
    return (x / jnp.where(total == 0, 1, total)).astype(scores.dtype)
