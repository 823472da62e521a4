"""Attention over parts of the keys, merged into attention over all of them.

A softmax over parts is exact where each part says how much it weighs: the logarithm of its sum of exponentials
(Milakov and Gimelshein, 2018, "Online normalizer calculation for softmax"; FlashAttention, Dao et al., 2022).
"""

import jax
import jax.numpy as jnp


def merge_attention(outputs: jax.Array, residuals: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Averages the outputs of attention over parts of the keys, each by the exponential of its residual.

    The parts are disjoint sets of keys; the order does not matter, and merging merged parts is the same as merging all
    at once. It has a gradient in both arguments.

    Args:
      outputs: floating `[parts, ..., v_depth]`, of `attention(..., return_residual=True)` on each part.
      residuals: floating `[parts, ...]`: the residuals. A part of which a query sees nothing has -inf and counts for
        nothing.

    Returns:
      The output `[..., v_depth]` and the residual `[...]` over the keys of all parts, in the dtypes that came; sums are
      at least float32. Where no part has anything to see: zeros and -inf.

    Raises:
      ValueError: if the shapes or dtypes do not fit, or there is no part.

    >>> output, residual = merge_attention(jnp.array([[[1.0]], [[4.0]]]), jnp.log(jnp.array([[2.0], [1.0]])))
    >>> output.item(), jnp.exp(residual).item()
    (2.0, 3.0)
    """
    for name, x in (("outputs", outputs), ("residuals", residuals)):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"{name}: expected floating numbers, got {x.dtype}")
    if outputs.ndim < 2 or outputs.shape[:-1] != residuals.shape or not len(outputs):
        raise ValueError(
            f"outputs, residuals: expected [parts, ..., v_depth] and [parts, ...] of at least one part, got "
            f"{list(outputs.shape)} and {list(residuals.shape)}"
        )
    wide = jnp.promote_types(jnp.promote_types(outputs.dtype, residuals.dtype), jnp.float32)
    parts = residuals.astype(wide)
    largest = jax.lax.stop_gradient(parts.max(0))
    largest = jnp.where(largest == -jnp.inf, 0, largest)  # nothing to see: exp(-inf - 0) is 0, exp(-inf + inf) is NaN
    weights = jnp.exp(parts - largest[None])
    total = weights.sum(0)
    empty = total == 0
    safe = jnp.where(empty, 1, total)
    shares = weights / safe[None]
    output = (shares[..., None] * outputs.astype(wide)).sum(0)
    residual = jnp.where(empty, -jnp.inf, largest + jnp.log(safe))
    return output.astype(outputs.dtype), residual.astype(residuals.dtype)
