"""What models of text read: ids of tokens, which of them are in the vocabulary, and lengths before the padding."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.core import Tracer


def check_tokens(name: str, tokens: Any, vocab_size: int, lengths: Any = None) -> Any:
    """Checks what a model reads, and returns it; what stands behind `lengths` may be any id and comes back as 0.

    Raises:
      ValueError: if it is not integers `[batch, time]`, or, where the numbers are known, an id is outside the
        vocabulary. (In compiled code they are not: `embed` makes NaN of such an id, never another word.)
    """
    check_form(name, tokens)
    if lengths is not None:
        tokens = without_padding(tokens, lengths)
    if tokens.size and not isinstance(tokens, Tracer):
        ids = np.asarray(tokens)  # under jit, JAX would trace the minimum of a constant
        if ids.min() < 0 or ids.max() >= vocab_size:
            raise ValueError(f"{name}: expected ids in [0, {vocab_size}), got {ids.min()} to {ids.max()}")
    return tokens


def check_form(name: str, tokens: Any) -> None:
    """Raises ValueError unless it is integers `[batch, time]`."""
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(f"{name}: expected integers [batch, time], got {tokens.dtype}{list(tokens.shape)}")


def without_padding(tokens: Any, lengths: Any) -> Any:
    """Tokens `[batch, time]` with 0 behind `lengths` `[batch]`.

    The NaN that stands for an unknown id would pass every mask, being NaN times zero: into gradients, if not values.
    """
    known = isinstance(tokens, np.ndarray) and not isinstance(lengths, Tracer)
    xp = np if known else jnp  # `jnp` would wrap ids of 64 bits before anyone has looked at them
    lengths = xp.asarray(lengths)
    return xp.where(xp.arange(tokens.shape[1])[None] < lengths[:, None], tokens if known else widen(tokens), 0)


def embed(embedding: nn.Embed, tokens: jax.Array) -> jax.Array:
    """Embeddings `[batch, time, features]`; of an id outside the vocabulary NaN (Flax counts negative ones back)."""
    tokens = widen(tokens)
    valid = (tokens >= 0) & (tokens < embedding.num_embeddings)
    return jnp.where(valid[..., None], embedding(jnp.where(valid, tokens, 0)), jnp.nan)


def widen(numbers: Any) -> jax.Array:
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
