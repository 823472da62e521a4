"""Greedy search (D2L 10.8.1): at each step the likeliest token."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.nlp.decoding import Decoded, StepFn, check_alpha, check_search, decode_tokens, normalize


def greedy_search(
    step_fn: StepFn,
    state: Any,
    start_tokens: jax.Array,
    *,
    max_length: int,
    eos_id: int | None,
    pad_id: int = 0,
    length_limits: jax.Array | None = None,
    alpha: float = 0.75,
) -> Decoded:
    """Takes the likeliest token at each step, until `<eos>` or the limit. It need not find the likeliest sequence.

    Args:
      step_fn: `(state, tokens [batch]) -> (logits [batch, vocab], state)`; `jaxdl/nlp/decoding.py` says more.
      state: a pytree whose leaves have the leading axis batch, or no axis.
      start_tokens: integers `[batch]`, fed to the first step; they are not part of the result.
      max_length: steps at most, and the width of the result.
      eos_id: the token that ends a sequence; None: every sequence runs to its limit.
      pad_id: stands behind the end.
      length_limits: integers `[batch]`, a limit of its own for each example; above `max_length` that one counts.
      alpha: the score is `log P / L^alpha`; 0 gives the log probability.

    Returns:
      Tokens `[batch, max_length]`, lengths `[batch]` with `<eos>` counted, scores `[batch]`.

    Raises:
      ValueError: if a shape or dtype does not fit, `max_length` is below 1, an id is outside the vocabulary, `alpha`
        is negative, or the step changes the types of the state.

    Note: of equal logits the lower id wins. The loop stops when all have ended.
    """
    check_alpha(alpha)
    limits = check_search(step_fn, state, start_tokens, max_length, eos_id, pad_id, length_limits)
    tokens, lengths, scores = decode_tokens(
        step_fn,
        state,
        start_tokens,
        limits,
        lambda logits, t: jnp.argmax(logits, axis=1),
        max_length=max_length,
        eos_id=eos_id,
        pad_id=pad_id,
    )
    return Decoded(tokens, lengths, normalize(scores, lengths, alpha))
