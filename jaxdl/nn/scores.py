"""Scores, one figure per example; `jaxdl.training.Mean.of(score, mask)` makes the sums that evaluation needs."""

import jax
import jax.numpy as jnp


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1 where the highest score (the first of equals) is the label's, else 0 (D2L 4.3).

    Args:
      logits: scores or probabilities, `[..., classes]`.
      labels: integer classes, `[...]`.

    Returns:
      float32 `[...]`.

    Raises:
      ValueError: if the shapes do not fit or the labels are not integers.
    """
    if logits.ndim == 0 or labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels: expected the shape of logits {list(logits.shape)} less its last axis, got {list(labels.shape)}"
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels: expected integers, got {labels.dtype}")
    return (logits.argmax(axis=-1) == labels).astype(jnp.float32)
