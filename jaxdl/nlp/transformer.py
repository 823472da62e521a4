"""The transformer, an encoder and a decoder of attention alone (Vaswani et al., 2017; D2L 11.7)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdl.nlp.token_ids import check_form, check_lengths, check_tokens, embed, without_padding
from jaxdl.nn.dense import Dense
from jaxdl.nn.dropout import Dropout
from jaxdl.nn.layer_norm import LayerNorm
from jaxdl.nn.multi_head_attention import KVCache
from jaxdl.nn.positions import sinusoidal_positions
from jaxdl.nn.transformer_block import TransformerBlock


class TransformerState(NamedTuple):
    """What the decoder goes on from; every leaf has the batch as its leading axis, or none, as the searches want it."""

    memory: jax.Array  # the encoder's output [batch, source_time, features]
    memory_length: jax.Array  # [batch]
    caches: tuple[KVCache, ...]  # of each block of the decoder

    @property
    def capacity(self) -> int:
        """How many tokens the caches hold."""
        return self.caches[0].key.shape[2]


class _Embedded(nn.Module):
    """Tokens as vectors `embedding * sqrt(features) + positions`, with dropout."""

    vocab_size: int
    features: int
    dropout_rate: float
    dtype: Any

    @nn.compact
    def __call__(self, name: str, tokens: jax.Array, positions: jax.Array | None, train: bool) -> jax.Array:
        tokens = check_tokens(name, tokens, self.vocab_size)
        scaled = nn.initializers.normal(self.features**-0.5)
        table = nn.Embed(self.vocab_size, self.features, embedding_init=scaled, dtype=self.dtype, name="tokens")
        x = embed(table, tokens)
        at = jnp.arange(tokens.shape[1])[None] if positions is None else positions
        x = x * self.features**0.5 + sinusoidal_positions(at, self.features).astype(x.dtype)
        return Dropout(self.dropout_rate)(x, train)


class _Stack(nn.Module):
    """What the two stacks of blocks have in common."""

    vocab_size: int
    features: int = 256
    hidden_size: int = 64
    num_heads: int = 4
    num_blocks: int = 2
    dropout_rate: float = 0.2
    pre_norm: bool = False
    use_bias: bool = False
    dtype: Any = None
    implementation: str | None = None

    def _embedded(self) -> _Embedded:
        return _Embedded(self.vocab_size, self.features, self.dropout_rate, self.dtype, name="embedded")

    def _block(self, i: int, *, cross_attention: bool = False) -> TransformerBlock:
        return TransformerBlock(
            self.num_heads,
            self.hidden_size,
            self.pre_norm,
            cross_attention,
            self.dropout_rate,
            use_bias=self.use_bias,
            dtype=self.dtype,
            implementation=self.implementation,
            name=f"block_{i}",
        )

    def _last_norm(self, x: jax.Array) -> jax.Array:
        return LayerNorm(dtype=self.dtype, name="norm")(x) if self.pre_norm else x


class TransformerEncoder(_Stack):
    """Tokens, sinusoidal positions, and blocks in which every token sees every other.

    Args:
      vocab_size: number of tokens.
      features: of a token; even.
      hidden_size: of the position-wise networks.
      num_heads: of each block.
      num_blocks: how many.
      dropout_rate: of the tokens and inside the blocks, in training.
      pre_norm: norms come first, with one more at the end; the book has them last.
      use_bias: whether the attention's projections have biases.
      dtype: the compute type.
      implementation: of the attention, see `jaxdl.kernels.attention`.

    Raises:
      ValueError: as `TransformerBlock`; when called, if the tokens are not integers `[batch, time]`.
    """

    @nn.compact
    def __call__(self, tokens: jax.Array, lengths: jax.Array | None = None, train: bool = False) -> jax.Array:
        """Maps integers `[batch, time]` to `[batch, time, features]`; what stands behind `lengths` changes nothing."""
        check_form("tokens", tokens)
        if lengths is not None:
            lengths = check_lengths("lengths", lengths, *tokens.shape)
            tokens = without_padding(tokens, lengths)
        x = self._embedded()("tokens", tokens, None, train)
        for i in range(self.num_blocks):
            x = self._block(i)(x, lengths=lengths, train=train)
        return self._last_norm(x)


class TransformerDecoder(_Stack):
    """Tokens, sinusoidal positions, causal blocks that also see an encoder's output, and logits.

    Args:
      vocab_size: number of tokens.
      features: as in `TransformerEncoder`, and so are all other fields.
      hidden_size: as in `TransformerEncoder`.
      num_heads: as in `TransformerEncoder`.
      num_blocks: as in `TransformerEncoder`.
      dropout_rate: as in `TransformerEncoder`.
      pre_norm: as in `TransformerEncoder`.
      use_bias: as in `TransformerEncoder`.
      dtype: as in `TransformerEncoder`.
      implementation: as in `TransformerEncoder`.

    Raises:
      ValueError: as `TransformerEncoder`.
    """

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        memory: jax.Array,
        memory_lengths: jax.Array | None = None,
        caches: tuple[KVCache, ...] | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, tuple[KVCache, ...] | None]:
        """Logits of each next token.

        Args:
          tokens: integers `[batch, time]`.
          memory: the encoder's output `[batch, source_time, features]`.
          memory_lengths: integers `[batch]`: what stands behind is padding.
          caches: one for each block, to decode with: the tokens go on from those that they hold.
          train: whether dropout is on.

        Returns:
          `[batch, time, vocab_size]` and the caches.
        """
        if caches is not None and len(caches) != self.num_blocks:
            raise ValueError(f"caches: expected one for each of {self.num_blocks} blocks, got {len(caches)}")
        positions = None if caches is None else caches[0].end + jnp.arange(tokens.shape[1])[None]
        x = self._embedded()("target_inputs", tokens, positions, train)
        options: dict[str, Any] = {"memory_lengths": memory_lengths, "train": train}
        new = []
        for i in range(self.num_blocks):
            block = self._block(i, cross_attention=True)
            if caches is None:
                x = block(x, memory, is_causal=True, **options)
            else:
                x, cache = block(x, memory, cache=caches[i], **options)
                new.append(cache)
        logits = Dense(self.vocab_size, dtype=self.dtype, name="output")(self._last_norm(x))
        return logits, None if caches is None else tuple(new)


class Transformer(nn.Module):
    """An encoder reads the source, a decoder writes the target and looks at all of what the encoder made of it.

    It has the methods of `Seq2Seq`, so `teacher_forcing` trains it and `translate` decodes with it:

        encode(source, source_length) -> state
        decode(state, tokens [batch, time]) -> (logits [batch, time, target_vocab_size], state)
        decode_step(state, tokens [batch]) -> (logits [batch, target_vocab_size], state)

    The defaults are the book's recipe.

    Args:
      source_vocab_size: tokens of the source's language.
      target_vocab_size: tokens of the target's.
      max_length: tokens that the decoder's caches hold: of a translation at most.
      features: as in `TransformerEncoder`, and so are all other fields.
      hidden_size: as in `TransformerEncoder`.
      num_heads: as in `TransformerEncoder`.
      num_blocks: of the encoder, and of the decoder.
      dropout_rate: as in `TransformerEncoder`.
      pre_norm: as in `TransformerEncoder`.
      use_bias: as in `TransformerEncoder`.
      dtype: as in `TransformerEncoder`.
      implementation: as in `TransformerEncoder`.

    Raises:
      ValueError: at construction, if a size is below 1, `num_heads` does not divide `features` or the rate is not in
        [0, 1); when called, as encoder and decoder, or if the source lengths are not integers `[batch]`, or, where the
        numbers are known, one is not in [0, source_time].
    """

    source_vocab_size: int
    target_vocab_size: int
    max_length: int = 64
    features: int = 256
    hidden_size: int = 64
    num_heads: int = 4
    num_blocks: int = 2
    dropout_rate: float = 0.2
    pre_norm: bool = False
    use_bias: bool = False
    dtype: Any = None
    implementation: str | None = None

    def __post_init__(self) -> None:
        sizes = ("source_vocab_size", "target_vocab_size", "max_length", "features", "num_heads", "num_blocks")
        for name in (*sizes, "hidden_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.features % self.num_heads:
            raise ValueError(f"num_heads: expected a divisor of {self.features} features, got {self.num_heads}")
        TransformerBlock(self.num_heads, 1, dropout_rate=self.dropout_rate, parent=None)  # which judges the rate
        super().__post_init__()

    def setup(self) -> None:
        """Creates encoder and decoder."""
        shared = {name: getattr(self, name) for name in _SHARED}
        self.encoder = TransformerEncoder(self.source_vocab_size, **shared)
        self.decoder = TransformerDecoder(self.target_vocab_size, **shared)

    def __call__(
        self, source: jax.Array, source_length: jax.Array, target_inputs: jax.Array, train: bool = False
    ) -> jax.Array:
        """Logits of each next token under teacher forcing, `[batch, target_time, target_vocab_size]`.

        Args:
          source: integers `[batch, source_time]`.
          source_length: integers `[batch]`, tokens before the padding.
          target_inputs: integers `[batch, target_time]`: `<bos>` and the target's tokens but the last.
          train: dropout; needs `rngs={"dropout": key}`.
        """
        memory, source_length = self._read(source, source_length, train)
        return self.decoder(target_inputs, memory, source_length, train=train)[0]

    def encode(self, source: jax.Array, source_length: jax.Array, train: bool = False) -> TransformerState:
        """Reads the source `[batch, source_time]`; what stands behind `source_length` `[batch]` changes nothing."""
        memory, source_length = self._read(source, source_length, train)
        cache = KVCache.empty(
            source.shape[0], self.max_length, self.num_heads, self.features // self.num_heads, memory.dtype
        )
        return TransformerState(memory, source_length, (cache,) * self.num_blocks)

    def _read(self, source: jax.Array, source_length: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """The encoder's output, and the lengths as an array."""
        check_form("source", source)
        source_length = check_lengths("source_length", source_length, *source.shape)
        source = check_tokens("source", source, self.source_vocab_size, source_length)
        return self.encoder(source, source_length, train), source_length

    def decode(
        self, state: TransformerState, tokens: jax.Array, train: bool = False
    ) -> tuple[jax.Array, TransformerState]:
        """Logits `[batch, time, target_vocab_size]` of the tokens after `tokens` `[batch, time]`, and the new state."""
        logits, caches = self.decoder(tokens, state.memory, state.memory_length, state.caches, train=train)
        assert caches is not None
        return logits, state._replace(caches=caches)

    def decode_step(self, state: TransformerState, tokens: jax.Array) -> tuple[jax.Array, TransformerState]:
        """`decode` of one token `[batch]`: logits `[batch, target_vocab_size]` and the new state."""
        logits, state = self.decode(state, tokens[:, None])
        return logits[:, 0], state


_SHARED = ("features", "hidden_size", "num_heads", "num_blocks", "dropout_rate", "pre_norm", "use_bias", "dtype",
           "implementation")  # fmt: skip
