"""What the searches share: the step function that they take, the sequences that they return, the loop over tokens.

    step_fn(state, tokens) -> (logits, state)      # [rows], float [rows, vocab]

The state is any pytree: the hidden state of a recurrent network, the keys and values of a transformer so far. **Every
leaf has the rows as its leading axis**, so that a search can copy and reorder rows (a beam search calls the step with
`batch * beam_size` of them). A leaf without axes, such as a position, belongs to all rows alike. What stays the same at
every step but differs between rows, such as the outputs of an encoder, is part of the state too; parameters are what
the function closes over. The types and shapes of the state stay as they are. A state that holds so many tokens and no
more, such as the caches of a transformer, says so by an attribute `capacity`, and the searches ask no more of it. If it
also has a method `resized(capacity)`, `decode_tokens` lets it grow: a step takes as long as there are slots to read.

The searches are pure. Put them under `jax.jit` together with what makes the state, and decoding is one compiled call:

    @jax.jit
    def translate(variables, source, source_length):
        state = model.apply(variables, source, source_length, method="encode")
        step_fn = lambda state, tokens: model.apply(variables, state, tokens, method="decode_step")
        return beam_search(step_fn, state, bos, beam_size=4, max_length=20, eos_id=3)
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

STAGE = 64  # steps at least between two sizes of a state that grows
MAX_STAGES = 4  # each is compiled

StepFn = Callable[[Any, jax.Array], tuple[jax.Array, Any]]


class Decoded(NamedTuple):
    """Decoded sequences; the leading axes are `[batch]`, or `[batch, beam_size]`, best first."""

    tokens: jax.Array  # int32 [..., max_length], with <eos> where there is one, then padding
    lengths: jax.Array  # int32 [...], <eos> counts
    scores: jax.Array  # [...], log probability, divided by length^alpha where the search says so


def check_search(
    step_fn: StepFn,
    state: Any,
    start_tokens: jax.Array,
    max_length: int,
    eos_id: int | None,
    pad_id: int,
    length_limits: jax.Array | None,
) -> jax.Array:
    """Checks what every search takes, and returns the length limit of each example, int32 `[batch]`.

    Raises:
      ValueError: if a shape or dtype does not fit, `max_length` is below 1 or above the capacity of the state, an id
        is outside the vocabulary, or the step changes the types of the state.
    """
    if start_tokens.ndim != 1 or not jnp.issubdtype(start_tokens.dtype, jnp.integer):
        raise ValueError(f"start_tokens: expected integers [batch], got {start_tokens.dtype}{list(start_tokens.shape)}")
    if max_length < 1:
        raise ValueError(f"max_length: expected at least 1, got {max_length}")
    capacity = getattr(state, "capacity", None)
    if capacity is not None and max_length > capacity:
        raise ValueError(f"max_length: expected at most {capacity}, the tokens that the state holds; got {max_length}")
    batch = start_tokens.shape[0]
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.ndim(leaf) > 0 and jnp.shape(leaf)[0] != batch:
            raise ValueError(
                f"state{jax.tree_util.keystr(path)}: expected the {batch} rows of start_tokens as the leading axis, "
                f"got {list(jnp.shape(leaf))}"
            )
    logits, new_state = jax.eval_shape(step_fn, state, start_tokens.astype(jnp.int32))
    if logits.ndim != 2 or logits.shape[0] != batch or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(f"step_fn: expected floating logits [{batch}, vocab], got {logits.dtype}{list(logits.shape)}")
    before, after = jax.tree.map(_type_of, state), jax.tree.map(_type_of, new_state)
    if before != after:
        raise ValueError(f"step_fn: expected a state of the types it was given, {before}; got {after}")
    for name, token in (("eos_id", eos_id), ("pad_id", pad_id)):
        if token is not None and not 0 <= token < logits.shape[1]:
            raise ValueError(f"{name}: expected an id in [0, {logits.shape[1]}), got {token}")
    if length_limits is None:
        return jnp.full(batch, max_length, jnp.int32)
    if length_limits.shape != (batch,) or not jnp.issubdtype(length_limits.dtype, jnp.integer):
        raise ValueError(
            f"length_limits: expected integers [{batch}], got {length_limits.dtype}{list(length_limits.shape)}"
        )
    most = min(max_length, jnp.iinfo(length_limits.dtype).max)  # 300 is 44 as a uint8
    xp = jnp if isinstance(length_limits, jax.Array) else np  # `jnp` would wrap numbers of 64 bits
    return jnp.asarray(xp.clip(length_limits, 0, most), jnp.int32)


def check_alpha(alpha: float) -> None:
    """Checks the exponent of the length.

    Raises:
      ValueError: if it is negative or not a number.
    """
    if not alpha >= 0:
        raise ValueError(f"alpha: expected 0 or more, got {alpha}")


def log_probabilities(logits: jax.Array) -> jax.Array:
    """Log of the softmax, in float32 at least."""
    return jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))


def decode_tokens(
    step_fn: StepFn,
    state: Any,
    start_tokens: jax.Array,
    limits: jax.Array,
    choose: Callable[[jax.Array, jax.Array], jax.Array],
    *,
    max_length: int,
    eos_id: int | None,
    pad_id: int,
) -> Decoded:
    """Decodes token by token until every row has ended; the scores are log probabilities.

    Args:
      step_fn: see the top of this file.
      state: of the rows.
      start_tokens: int `[batch]`.
      limits: from `check_search`.
      choose: `(logits [batch, vocab], step []) -> tokens [batch]`.
      max_length: of the arrays returned.
      eos_id: ends a row.
      pad_id: stands behind the end.
    """

    def unfinished(end: int, carry: Any) -> jax.Array:
        t, done = carry[0], carry[-1]
        return (t < end) & ~jnp.all(done)

    def step(carry: Any) -> Any:
        t, state, last, (tokens, lengths, scores), done = carry
        logits, state = step_fn(state, last)
        chosen = choose(logits, t).astype(jnp.int32)
        gain = jnp.take_along_axis(log_probabilities(logits), chosen[:, None], axis=1)[:, 0]
        chosen = jnp.where(done, pad_id, chosen)
        tokens = jax.lax.dynamic_update_index_in_dim(tokens, chosen, t, axis=1)
        lengths = lengths + jnp.where(done, 0, 1)
        scores = scores + jnp.where(done, 0, gain)
        ended = lengths >= limits if eos_id is None else (lengths >= limits) | (chosen == eos_id)
        return t + 1, state, chosen, Decoded(tokens, lengths, scores), done | ended

    start_tokens = start_tokens.astype(jnp.int32)
    batch = start_tokens.shape[0]
    logits, _ = jax.eval_shape(step_fn, state, start_tokens)
    empty = Decoded(
        jnp.full((batch, max_length), pad_id, jnp.int32),
        jnp.zeros(batch, jnp.int32),
        jnp.zeros(batch, jnp.promote_types(logits.dtype, jnp.float32)),
    )
    state = jax.tree.map(jnp.asarray, state)
    carry = (jnp.zeros((), jnp.int32), state, start_tokens, empty, limits < 1)
    stages = max(1, min(MAX_STAGES, max_length // STAGE)) if hasattr(state, "resized") else 1
    for i in range(1, stages + 1):
        end = max_length * i // stages
        if stages > 1:  # there is room for all steps, so less serves the first
            carry = carry[0], carry[1].resized(state.capacity - max_length + end), *carry[2:]
        carry = jax.lax.while_loop(partial(unfinished, end), step, carry)
    return carry[3]


def normalize(log_probability: jax.Array, lengths: jax.Array, alpha: float) -> jax.Array:
    """`log P / L^alpha` (D2L 10.8); of no token 0."""
    return log_probability / jnp.maximum(lengths, 1).astype(log_probability.dtype) ** alpha


def _type_of(leaf: Any) -> str:
    leaf = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
    return f"{leaf.dtype}{list(leaf.shape)}"
