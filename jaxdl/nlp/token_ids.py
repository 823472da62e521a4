"""What models of text read: ids of tokens, which of them are in the vocabulary, and lengths before the padding."""

from typing import Any

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
    tokens = widen(tokens)
    valid = (tokens >= 0) & (tokens < embedding.num_embeddings)
    return jnp.where(valid[..., None], embedding(jnp.where(valid, tokens, 0)), jnp.nan)


def widen(numbers: jax.Array) -> jax.Array:
    """Integers of 32 bits at least: a vocabulary of 256 is 0 as a uint8, and -1 is 255."""
    numbers = jnp.asarray(numbers)
    return numbers.astype(jnp.int32) if numbers.dtype.itemsize < 4 else numbers


def check_lengths(name: str, lengths: Any, batch: int, time: int, *, least: int = 0) -> jax.Array:
    """Checks how many tokens stand before the padding of each row, and returns it as an array.

    Raises:
      ValueError: if it is not integers `[batch]`, or, where the numbers are known, one is outside `[least, time]`.
    """
    lengths = lengths if isinstance(lengths, jax.Array) else np.asarray(lengths)
    if lengths.shape != (batch,) or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"{name}: expected integers [{batch}], got {lengths.dtype}{list(lengths.shape)}")
    if not isinstance(lengths, Tracer):
        values = np.asarray(lengths)
        if outside := values[(values < least) | (values > time)].tolist():
            raise ValueError(f"{name}: expected numbers in [{least}, {time}], the padded size; got {outside[0]}")
    return widen(lengths)
