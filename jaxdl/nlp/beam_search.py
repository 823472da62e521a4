"""Beam search (D2L 10.8.3): the best few prefixes are kept at each step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdl.nlp.decoding import Decoded, StepFn, check_alpha, check_search, log_probabilities, normalize


class _Search(NamedTuple):
    """What one step hands to the next."""

    t: jax.Array  # tokens so far
    last: jax.Array  # the newest token of each prefix [batch * beam_size]
    state: Any  # leaves [batch * beam_size, ...]
    prefixes: jax.Array  # int32 [batch, beam_size, max_length]
    live: jax.Array  # log probability of each prefix [batch, beam_size]; -inf where there is none
    finished: Decoded  # the best complete sequences [batch, beam_size]; score -inf where there is none


def beam_search(
    step_fn: StepFn,
    state: Any,
    start_tokens: jax.Array,
    *,
    beam_size: int,
    max_length: int,
    eos_id: int | None,
    pad_id: int = 0,
    length_limits: jax.Array | None = None,
    alpha: float = 0.75,
) -> Decoded:
    """Keeps the `beam_size` likeliest continuations at each step; among the complete ones the best score wins.

    A continuation that ends, by `<eos>` or at its limit, leaves the beam for the list of complete sequences, which are
    ranked by `log P / L^alpha`; its place is free for others at the next step. An example is done when no prefix in its
    beam can still come into the list, so stopping early changes nothing. With `beam_size=1` this is greedy search; with
    a beam that holds all continuations it is exhaustive search.

    Args:
      step_fn: `(state, tokens [rows]) -> (logits [rows, vocab], state)`, called with `batch * beam_size` rows, those
        of one example together; `jaxdl/nlp/decoding.py` says more.
      state: a pytree whose leaves have the leading axis batch, or no axis; it is repeated for the beams.
      start_tokens: integers `[batch]`, fed to the first step; they are not part of the result.
      beam_size: prefixes kept, and sequences returned, for each example.
      max_length: steps at most, and the width of the result.
      eos_id: the token that ends a sequence; None: every sequence runs to its limit.
      pad_id: stands behind the end.
      length_limits: integers `[batch]`, a limit of its own for each example; above `max_length` that one counts.
      alpha: of the score. 0 prefers short sequences, 1 is the mean log probability; the book's 0.75 lies between.

    Returns:
      Tokens `[batch, beam_size, max_length]`, lengths and scores `[batch, beam_size]`, best first. Where fewer
      sequences were found, the rest have length 0 and score -inf.

    Raises:
      ValueError: if `beam_size` is below 1, a shape or dtype does not fit, `max_length` is below 1, an id is outside
        the vocabulary, `alpha` is negative, or the step changes the types of the state.

    Note: the book also ranks the prefixes of what it found; here only complete sequences count.
    """
    if beam_size < 1:
        raise ValueError(f"beam_size: expected at least 1, got {beam_size}")
    check_alpha(alpha)
    limits = check_search(step_fn, state, start_tokens, max_length, eos_id, pad_id, length_limits)
    batch = start_tokens.shape[0]
    state = _map_rows(lambda leaf: jnp.repeat(leaf, beam_size, axis=0), state)
    start = jnp.repeat(start_tokens.astype(jnp.int32), beam_size)
    logits, _ = jax.eval_shape(step_fn, state, start)
    dtype = jnp.promote_types(logits.dtype, jnp.float32)

    def promising(search: _Search) -> jax.Array:
        # log P only falls and the divisor is largest at the limit: no continuation of a prefix scores above `best`.
        # Of NaN every comparison is false: such a row goes on to its limit, where its score is NaN, not none.
        best = normalize(search.live.max(axis=1), limits, alpha)
        return (search.t < max_length) & jnp.any(~(best <= search.finished.scores.min(axis=1)))

    def step(search: _Search) -> _Search:
        t = search.t
        logits, state = step_fn(search.state, search.last)
        vocab = logits.shape[1]
        totals = search.live[:, :, None] + log_probabilities(logits).reshape(batch, beam_size, vocab)
        totals = jnp.where(jnp.isnan(totals), jnp.nan, totals)  # `top_k` has a NaN first, but with a minus sign last
        best, index = jax.lax.top_k(totals.reshape(batch, beam_size * vocab), beam_size)  # [batch, beam_size]
        parent, token = index // vocab, index % vocab
        rows = (jnp.arange(batch)[:, None] * beam_size + parent).reshape(-1)
        prefixes = jnp.take_along_axis(search.prefixes, parent[:, :, None], axis=1).at[:, :, t].set(token)
        ended = jnp.broadcast_to(t + 1 >= limits[:, None], token.shape)
        if eos_id is not None:
            ended |= token == eos_id
        lengths = jnp.full((batch, beam_size), t + 1)
        complete = Decoded(prefixes, lengths, jnp.where(ended, normalize(best, lengths, alpha), -jnp.inf))
        return _Search(
            t + 1,
            token.reshape(-1),
            _map_rows(lambda leaf: leaf[rows], state),
            prefixes,
            jnp.where(ended, -jnp.inf, best),
            _best_of(search.finished, complete),
        )

    none = Decoded(
        jnp.full((batch, beam_size, max_length), pad_id, jnp.int32),
        jnp.zeros((batch, beam_size), jnp.int32),
        jnp.full((batch, beam_size), -jnp.inf, dtype),
    )
    # All beams begin with the same prefix: only the first lives, or the search would find everything beam_size times.
    live = none.scores.at[:, 0].set(jnp.where(limits > 0, jnp.zeros((), dtype), -jnp.inf))
    return jax.lax.while_loop(promising, step, _Search(jnp.int32(0), start, state, none.tokens, live, none)).finished


def _best_of(a: Decoded, b: Decoded) -> Decoded:
    """The best sequences of two lists of one size; of equal scores those of `a` come first."""
    both = jax.tree.map(lambda x, y: jnp.concatenate([x, y], axis=1), a, b)
    scores, index = jax.lax.top_k(both.scores, a.scores.shape[1])
    tokens = jnp.take_along_axis(both.tokens, index[:, :, None], axis=1)
    return Decoded(tokens, jnp.take_along_axis(both.lengths, index, axis=1), scores)


def _map_rows(function: Any, state: Any) -> Any:
    """Applies a function to the leaves that have rows."""
    return jax.tree.map(lambda leaf: function(leaf) if jnp.ndim(leaf) else jnp.asarray(leaf), state)
