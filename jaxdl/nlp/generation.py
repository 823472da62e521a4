"""Text from models: `generate` goes on with prompts, `translate` writes what an encoder has read.

Both put a search on top of a model's step. What the model has read is in the state, as the hidden state of a recurrent
network or the keys and values of a transformer, so a step reads one token and no more. Reading the prompts and all
steps are one computation; under `jax.jit` it is compiled once for shapes and options:

    @jax.jit
    def write(variables, prompt, lengths, key):
        return generate(
            model, variables, prompt, lengths, sample, max_new_tokens=200, eos_id=None, key=key, temperature=0.7
        )
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxdl.nlp.decoding import Decoded
from jaxdl.nlp.greedy_search import greedy_search
from jaxdl.nlp.token_ids import check_lengths, check_tokens, widen

Search = Callable[..., Decoded]


def generate(
    model: Any,
    variables: Any,
    prompt: Any,
    lengths: Any = None,
    search: Search = greedy_search,
    *,
    max_new_tokens: int,
    **options: Any,
) -> Decoded:
    """Continues texts: reads the prompts, then decodes token by token from the state they leave (D2L 9.5.5).

    Args:
      model: an `RNNLanguageModel` or a `GPT`; or what has `vocab_size`, perhaps `max_length`, and

            empty_state(batch_size, length, dtype) -> state                that will read `length` tokens at most; for
                                                                           variables of this dtype
            __call__(tokens [batch, time], state, lengths [batch] or None) -> (logits [batch, time, vocab_size], state)

      variables: of the model.
      prompt: integers `[batch, time]`, also as lists, of at least 1 step, padded at the end.
      lengths: integers `[batch]` in [1, time], tokens of each prompt before its padding, which may be anything; None:
        all. The logits of a row are what they are alone; what `sample` draws depends on its place in the batch too.
      search: `greedy_search`, `sample` or `beam_search`.
      max_new_tokens: the `max_length` of the search.
      options: of the search, such as `eos_id`.

    Returns:
      What the search decodes; the prompt is not part of it.

    Raises:
      ValueError: if a shape or dtype does not fit, the prompt is empty, `max_new_tokens` is below 1, the model has no
        room for padded prompt and new tokens but the last, which is not read; where the numbers are known, if an id is
        outside the vocabulary or a length out of its range (in compiled code the scores of such a row are NaN); or as
        the search.
    """
    prompt = prompt if isinstance(prompt, jax.Array) else np.asarray(prompt)
    if prompt.ndim != 2 or prompt.shape[1] < 1:
        raise ValueError(f"prompt: expected integers [batch, time] of at least 1 step, got {list(prompt.shape)}")
    batch, time = prompt.shape
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens: expected at least 1, got {max_new_tokens}")
    reads, room = time + max_new_tokens - 1, getattr(model, "max_length", None)
    if room is not None and reads > room:
        raise ValueError(
            f"max_new_tokens: the model reads {room} tokens at most (max_length); a prompt of {time} and "
            f"{max_new_tokens} new tokens, the last of which is not read, are {reads}"
        )
    if lengths is None:
        prompt = widen(check_tokens("prompt", prompt, model.vocab_size))
        before, last = None, prompt[:, -1]
    else:
        lengths = check_lengths("lengths", lengths, batch, time, least=1)
        prompt = widen(check_tokens("prompt", prompt, model.vocab_size, lengths))
        before, last = lengths - 1, jnp.take_along_axis(prompt, lengths[:, None] - 1, axis=1)[:, 0]
        last = jnp.where((lengths >= 1) & (lengths <= time), last, -1)  # -1 becomes NaN

    def step_fn(state: Any, tokens: jax.Array) -> tuple[jax.Array, Any]:
        logits, state = model.apply(variables, tokens[:, None], state)
        return logits[:, 0], state

    dtype = jnp.result_type(*jax.tree.leaves(variables) or [jnp.float32])
    _, state = model.apply(variables, prompt[:, :-1], model.empty_state(batch, reads, dtype), before)
    return search(step_fn, state, last, max_length=max_new_tokens, **options)


def translate(
    model: nn.Module,
    variables: Any,
    source: jax.Array,
    source_length: jax.Array,
    start_tokens: jax.Array,
    search: Search = greedy_search,
    **options: Any,
) -> Decoded:
    """Encodes sources and decodes their translations (D2L 10.7, 10.8).

        run = jax.jit(partial(translate, model, search=beam_search, beam_size=4, max_length=20, eos_id=3))
        found = run(variables, source, source_length, start_tokens)

    Args:
      model: has the methods `encode` and `decode_step`: `Seq2Seq`, `AttentionSeq2Seq` or `Transformer`.
      variables: of the model.
      source: integers `[batch, source_time]`.
      source_length: integers `[batch]`.
      start_tokens: integers `[batch]`, `<bos>`.
      search: `greedy_search`, `beam_search` or `sample`, or one of them with options fixed by `partial`.
      options: of the search, such as `max_length` and `eos_id`.

    Returns:
      What the search decodes.

    Raises:
      ValueError: as the model and the search; so if `max_length` is above that of a `Transformer`.
    """
    state = model.apply(variables, source, source_length, method="encode")

    def step_fn(state: Any, tokens: jax.Array) -> tuple[jax.Array, Any]:
        return model.apply(variables, state, tokens, method="decode_step")

    return search(step_fn, state, start_tokens, **options)
