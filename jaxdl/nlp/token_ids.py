"""Ids of tokens: which are in the vocabulary, and what becomes of the others."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.core import Tracer


def check_tokens(name: str, tokens: jax.Array, vocab_size: int) -> None:
    """Checks what a model reads.

    Raises:
      ValueError: if it is not integers `[batch, time]`, or, where the numbers are known, an id is outside the
        vocabulary. (In compiled code they are not: `embed` makes NaN of such an id, never another word.)
    """
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(f"{name}: expected integers [batch, time], got {tokens.dtype}{list(tokens.shape)}")
    if tokens.size and not isinstance(tokens, Tracer):
        ids = np.asarray(tokens)  # under jit, JAX would trace the minimum of a constant
        if ids.min() < 0 or ids.max() >= vocab_size:
            raise ValueError(f"{name}: expected ids in [0, {vocab_size}), got {ids.min()} to {ids.max()}")


def embed(embedding: nn.Embed, tokens: jax.Array) -> jax.Array:
    """Embeddings `[batch, time, features]`; of an id outside the vocabulary NaN (Flax counts negative ones back)."""
    valid = (tokens >= 0) & (tokens < embedding.num_embeddings)
    return jnp.where(valid[..., None], embedding(jnp.where(valid, tokens, 0)), jnp.nan)
