"""A transformer that only decodes (Radford et al., 2018 and 2019, GPT and GPT-2; D2L 11.9)."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdl.nlp.token_ids import check_tokens, embed, widen
from jaxdl.nn.dropout import Dropout
from jaxdl.nn.layer_norm import LayerNorm
from jaxdl.nn.multi_head_attention import KVCache, resize
from jaxdl.nn.positions import LearnedPositions
from jaxdl.nn.transformer_block import TransformerBlock


class GPTState(NamedTuple):
    """How far texts have been read; every leaf has the batch as its leading axis, or none, as the searches want it."""

    position: jax.Array  # of the next token, int32 [batch]
    real: jax.Array | None  # False for slots of the caches that hold padding, boolean [batch, size]; None: no padding
    caches: tuple[KVCache, ...]  # of each block

    @property
    def capacity(self) -> int:
        """How many tokens the caches hold."""
        return self.caches[0].key.shape[2]

    def resized(self, capacity: int) -> "GPTState":
        """The same with other caches, of the first slots or with empty ones behind."""
        real = None if self.real is None else resize(self.real, capacity, axis=1, fill=True)
        return self._replace(real=real, caches=tuple(cache.resized(capacity) for cache in self.caches))


class GPT(nn.Module):
    """Predicts each token from those before it: causal blocks with norms first; the embedding is the output layer too.

    It is called as `RNNLanguageModel` is, so `next_token_prediction` trains it and `generate` writes with it.

    Args:
      vocab_size: number of tokens.
      max_length: tokens of a text at most; there are as many learned positions.
      features: of a token.
      num_heads: of each block.
      num_blocks: how many.
      hidden_size: of the position-wise networks; the default is `4 * features`.
      num_kv_heads: fewer heads of keys and values make a smaller cache; the default is as many.
      dropout_rate: of the tokens and inside the blocks, in training.
      dtype: the compute type.
      implementation: of the attention, see `jaxdl.kernels.attention`.

    Raises:
      ValueError: at construction, if a size is below 1, `num_heads` does not divide `features`, `num_kv_heads` does not
        divide it, or the rate is not in [0, 1); when called, if the tokens are not integers `[batch, time]`, or
        more than `max_length`, or the state is of another batch or model, or, where the numbers are known, an id is
        outside the vocabulary or the caches have no room. (In compiled code such an id gives NaN, and a call for which
        there is no room gives NaN for all its tokens.)
    """

    vocab_size: int
    max_length: int = 256
    features: int = 128
    num_heads: int = 4
    num_blocks: int = 4
    hidden_size: int | None = None
    num_kv_heads: int | None = None
    dropout_rate: float = 0.0
    dtype: Any = None
    implementation: str | None = None

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "max_length", "features", "num_heads", "num_blocks", "hidden_size", "num_kv_heads")
        for name in sizes:
            if (size := getattr(self, name)) is not None and size < 1:
                raise ValueError(f"{name}: expected at least 1, got {size}")
        if self.features % self.num_heads:
            raise ValueError(f"num_heads: expected a divisor of {self.features} features, got {self.num_heads}")
        TransformerBlock(
            self.num_heads, 1, num_kv_heads=self.num_kv_heads, dropout_rate=self.dropout_rate, parent=None
        )  # which judges the rest
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        state: GPTState | None = None,
        lengths: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, GPTState | None]:
        """Reads tokens.

        Args:
          tokens: integers `[batch, time]`.
          state: to go on from, from `empty_state` or as returned; None reads from the beginning and keeps nothing.
          lengths: integers `[batch]`, with a state: tokens of each row before its padding, which may be any ids of the
            vocabulary and is never seen; None: all. (One above `time` counts as `time`, a negative one as 0.)
          train: whether dropout is on.

        Returns:
          Logits `[batch, time, vocab_size]`, at step t those of token t + 1, and the state after the last token.
        """
        check_tokens("tokens", tokens, self.vocab_size)
        if tokens.shape[1] > self.max_length:
            raise ValueError(f"tokens: expected at most {self.max_length} a text, got {list(tokens.shape)}")
        if state is not None:
            got, expected = (*state.position.shape, len(state.caches)), (tokens.shape[0], self.num_blocks)
            if got != expected:
                raise ValueError(f"state: expected one of [rows, blocks] {list(expected)}, got {list(got)}")
        if lengths is not None:
            _check_lengths(lengths, tokens, state)
        positions = None if state is None else state.position[:, None] + jnp.arange(tokens.shape[1])[None]
        after = None if state is None else _advance(state, tokens.shape[1], lengths)
        mask = None if after is None or after.real is None else after.real[:, None, None]  # [batch, 1, 1, size]
        normal = nn.initializers.normal(0.02)
        embedding = nn.Embed(self.vocab_size, self.features, embedding_init=normal, dtype=self.dtype, name="tokens")
        x = LearnedPositions(self.max_length, name="positions")(embed(embedding, tokens), positions)
        x = Dropout(self.dropout_rate)(x, train)
        caches = []
        for i in range(self.num_blocks):
            block = TransformerBlock(
                self.num_heads,
                4 * self.features if self.hidden_size is None else self.hidden_size,
                dropout_rate=self.dropout_rate,
                num_kv_heads=self.num_kv_heads,
                activation=partial(jax.nn.gelu, approximate=True),
                dtype=self.dtype,
                implementation=self.implementation,
                name=f"block_{i}",
            )
            if state is None:
                x = block(x, is_causal=True, train=train)
            else:
                x, cache = block(x, mask=mask, cache=state.caches[i], train=train)
                caches.append(cache)
        x = LayerNorm(dtype=self.dtype, name="norm")(x)
        logits = embedding.attend(x.reshape(-1, self.features)).reshape(*tokens.shape, self.vocab_size)  # see `Dense`
        return logits, None if after is None else after._replace(caches=tuple(caches))

    def empty_state(self, batch_size: int, length: int | None = None, dtype: Any = None) -> GPTState:
        """The state before the first token; its caches hold `length` tokens with padding, by default `max_length`.

        They are of the compute type; where the model has none, of `dtype`, that of its parameters, by default float32.

        Raises:
          ValueError: if there are no positions for so many.
        """
        length = self.max_length if length is None else length
        if not 1 <= length <= self.max_length:
            raise ValueError(f"length: expected 1 to max_length {self.max_length}, got {length}")
        kv_heads = self.num_heads if self.num_kv_heads is None else self.num_kv_heads
        dtype = self.dtype or dtype or jnp.float32
        cache = KVCache.empty(batch_size, length, kv_heads, self.features // self.num_heads, dtype)
        return GPTState(jnp.zeros(batch_size, jnp.int32), None, (cache,) * self.num_blocks)


def _check_lengths(lengths: jax.Array, tokens: jax.Array, state: GPTState | None) -> None:
    if state is None:
        raise ValueError("lengths: expected a state with them; without one, padding behind a text changes nothing")
    if lengths.shape != tokens.shape[:1] or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths: expected integers [{tokens.shape[0]}], got {lengths.dtype}{list(lengths.shape)}")


def _advance(state: GPTState, time: int, lengths: jax.Array | None) -> GPTState:
    """The state after `time` tokens, but for its caches."""
    if lengths is None:
        return state._replace(position=state.position + time)
    lengths = jnp.clip(widen(lengths), 0, time).astype(jnp.int32)
    token = jnp.arange(state.capacity)[None] - state.caches[0].end  # of these, in each slot [1, size]
    padding = (token >= lengths[:, None]) & (token < time)
    real = ~padding if state.real is None else state.real & ~padding
    return state._replace(position=state.position + lengths, real=real)
