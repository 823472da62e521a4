"""Sampling from a language model: temperature, top-k (Fan et al., 2018) and top-p (Holtzman et al., 2020)."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.nlp.decoding import Decoded, StepFn, check_search, decode_tokens


def sample(
    step_fn: StepFn,
    state: Any,
    start_tokens: jax.Array,
    key: jax.Array,
    *,
    max_length: int,
    eos_id: int | None,
    pad_id: int = 0,
    length_limits: jax.Array | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Decoded:
    """Draws each token from the model's distribution, sharpened by `temperature` and cut off by `top_k` and `top_p`.

    Args:
      step_fn: `(state, tokens [batch]) -> (logits [batch, vocab], state)`; `jaxdl/nlp/decoding.py` says more.
      state: a pytree whose leaves have the leading axis batch, or no axis.
      start_tokens: integers `[batch]`, fed to the first step; they are not part of the result.
      key: a typed key, `jax.random.key(seed)`; step t draws with `fold_in(key, t)`.
      max_length: steps at most, and the width of the result.
      eos_id: the token that ends a sequence; None: every sequence runs to its limit.
      pad_id: stands behind the end.
      length_limits: integers `[batch]`, a limit of its own for each example; above `max_length` that one counts.
      temperature: divides the logits. Below 1 the likely tokens gain, above 1 the unlikely; towards 0 it is
        `greedy_search`.
      top_k: draw among the k likeliest tokens.
      top_p: draw among the fewest tokens that have this probability together, after temperature and `top_k`.

    Returns:
      Tokens `[batch, max_length]`, lengths `[batch]` with `<eos>` counted, scores `[batch]`: the log probability of
      what was drawn under the model itself, without temperature and cut.

    Raises:
      ValueError: if a shape or dtype does not fit, the key is not one typed key, `temperature` is not positive
        and finite, `top_k` is not in [1, vocab], `top_p` not in (0, 1], `max_length` below 1, an id outside the
        vocabulary, or the step changes the types of the state.
    """
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()):
        raise ValueError(f"key: expected one typed key such as jax.random.key(0), got {key!r}")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature: expected a finite number above 0 (near it: greedy_search), got {temperature}")
    limits = check_search(step_fn, state, start_tokens, max_length, eos_id, pad_id, length_limits)

    def choose(logits: jax.Array, t: jax.Array) -> jax.Array:
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        logits -= logits.max(axis=1, keepdims=True)  # the likeliest gets 0, which no temperature makes infinite
        logits /= min(max(temperature, 1e-30), 1e30)  # float32 ends soon beyond; so do the differences
        return jax.random.categorical(jax.random.fold_in(key, t), truncate_logits(logits, top_k=top_k, top_p=top_p))

    return decode_tokens(
        step_fn, state, start_tokens, limits, choose, max_length=max_length, eos_id=eos_id, pad_id=pad_id
    )


def truncate_logits(logits: jax.Array, *, top_k: int | None = None, top_p: float | None = None) -> jax.Array:
    """Sets the logits of unlikely tokens to -inf.

    Args:
      logits: floating `[..., vocab]`.
      top_k: how many stay; of equal logits the lower ids.
      top_p: the fewest stay that have at least this probability together, among those that `top_k` leaves. The
        likeliest always stays.

    Returns:
      `[..., vocab]` in the dtype of the logits.

    Raises:
      ValueError: if `top_k` is not in [1, vocab], or `top_p` not in (0, 1].

    >>> truncate_logits(jnp.array([-3.0, 2.0, 1.0]), top_p=0.8)
    Array([-inf,   2.,   1.], dtype=float32)
    """
    vocab = logits.shape[-1]
    if top_k is not None and not 1 <= top_k <= vocab:
        raise ValueError(f"top_k: expected a number in [1, {vocab}], got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected a number in (0, 1], got {top_p}")
    if top_k is None and top_p in (None, 1):
        return logits
    order = jnp.argsort(logits, axis=-1, stable=True, descending=True)
    ranks = jnp.argsort(order, axis=-1)  # of each token: 0 is the likeliest
    if top_k is not None:
        logits = jnp.where(ranks < top_k, logits, -jnp.inf)
    if top_p is not None and top_p < 1:  # at 1 rounding of the sum must not cost a token
        probabilities = jax.nn.softmax(jnp.take_along_axis(logits, order, axis=-1))  # in falling order
        likelier = jnp.cumsum(probabilities, axis=-1) - probabilities  # probability of the tokens before each
        logits = jnp.where(jnp.take_along_axis(likelier < top_p, ranks, axis=-1), logits, -jnp.inf)
    return logits
