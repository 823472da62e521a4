"""Nadaraya-Watson kernel regression, attention without parameters (D2L 11.2; Nadaraya, 1964; Watson, 1964)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.core import Tracer

Kernel = Callable[[jax.Array], jax.Array]  # of distances, elementwise


def gaussian_kernel(distance: jax.Array) -> jax.Array:
    """`exp(-d^2 / 2)`: everything counts, what is near the most."""
    return jnp.exp(-jnp.square(distance) / 2)


def boxcar_kernel(distance: jax.Array) -> jax.Array:
    """1 where `|d| < 1`, else 0."""
    return (jnp.abs(distance) < 1).astype(distance.dtype)


def constant_kernel(distance: jax.Array) -> jax.Array:
    """1 everywhere: the average of all values."""
    return jnp.ones_like(distance)


def epanechikov_kernel(distance: jax.Array) -> jax.Array:
    """`max(0, 1 - |d|)`, as the book has it (the kernel of that name in statistics is `3/4 max(0, 1 - d^2)`)."""
    return jnp.maximum(0, 1 - jnp.abs(distance))


def kernel_regression(
    query: jax.Array, key: jax.Array, value: jax.Array, kernel: Kernel = gaussian_kernel, width: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Estimates a function by the average of observed values, weighted by how near they were observed.

    `f(q) = sum_i K((q - k_i) / width) v_i / sum_i K((q - k_i) / width)`

    Args:
      query: floating `[queries]` or `[queries, features]`: where the function is wanted.
      key: `[keys]` or `[keys, features]`: where it was observed. Distances are Euclidean.
      value: `[keys]` or `[keys, ...]`: what was observed there.
      kernel: how much an observation counts by its distance, such as `gaussian_kernel`.
      width: the distance that is 1 to the kernel, positive.

    Returns:
      The estimates `[queries, ...]` and the attention weights `[queries, keys]`, whose rows sum to 1. Where no
      observation counts, estimate and weights are zeros.

    Raises:
      ValueError: if the shapes do not fit each other, or the width is not positive.
    """
    if query.ndim not in (1, 2) or key.ndim != query.ndim or key.shape[1:] != query.shape[1:]:
        raise ValueError(
            f"query, key: expected [queries] and [keys], or both with the same features, got {list(query.shape)} and "
            f"{list(key.shape)}"
        )
    if value.ndim < 1 or value.shape[0] != key.shape[0]:
        raise ValueError(f"value: expected {key.shape[0]} of them, as many as keys, got {list(value.shape)}")
    if not isinstance(width, Tracer) and not width > 0:
        raise ValueError(f"width: expected a positive number, got {width}")
    difference = query[:, None] - key[None]
    distance = jnp.abs(difference) if query.ndim == 1 else _norm(difference)
    similarity = kernel(distance / width)
    total = similarity.sum(-1, keepdims=True)
    weights = similarity / jnp.where(total == 0, 1, total)
    return jnp.tensordot(weights, value, 1), weights


def _norm(x: jax.Array) -> jax.Array:
    """Euclidean, over the last axis; the gradient at 0 is 0, like that of `jnp.abs` (the root alone gives NaN)."""
    square = jnp.square(x).sum(-1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
