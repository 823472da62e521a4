"""Sequence to sequence with attention (Bahdanau, Cho and Bengio, 2014, arXiv:1409.0473; D2L 11.4)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdl.nlp.token_ids import check_tokens, embed
from jaxdl.nn.additive_attention import AdditiveAttention
from jaxdl.nn.dense import Dense
from jaxdl.nn.recurrent import GRU


class AttentionState(NamedTuple):
    """What the decoder goes on from; every leaf has the batch as its leading axis, as the searches want it."""

    memory: jax.Array  # the encoder's outputs [batch, source_time, hidden_size]
    memory_length: jax.Array  # [batch]
    recurrent: Any  # of the decoder's layers [batch, num_layers, hidden_size]; for an LSTM two of these


class AttentionSeq2Seq(nn.Module):
    """Before each token the decoder looks at all of the source, where `Seq2Seq` has one vector for it.

    The query is the hidden state of the decoder's last layer; what additive attention makes of the encoder's outputs
    stands beside the embedding of the token before. The methods are those of `Seq2Seq`, so `teacher_forcing` trains it
    and `translate` decodes with it. With the collection `intermediates` mutable the weights
    `[batch, target_time, source_time]` are sown in `decoder` as `attention_weights`.

    Args:
      source_vocab_size: tokens of the source's language.
      target_vocab_size: tokens of the target's.
      embed_size: width of both embeddings.
      hidden_size: of every recurrent layer, and of the attention.
      num_layers: of the encoder, and of the decoder.
      dropout_rate: between the layers, and of the attention weights.
      recurrence: `nn.GRU`, `nn.LSTM` or `nn.RNN` of `jaxdl`.
      kernel_init: initialiser of the recurrent and the output weights.
      dtype: of the computation; parameters stay float32.

    Raises:
      ValueError: at construction, if a size is below 1 or the rate not in [0, 1]; when called, as
        `check_tokens`.
    """

    source_vocab_size: int
    target_vocab_size: int
    embed_size: int = 256
    hidden_size: int = 256
    num_layers: int = 2
    dropout_rate: float = 0.2
    recurrence: Callable[..., Any] = GRU
    kernel_init: Callable[..., Any] = nn.initializers.xavier_uniform()
    dtype: Any = None

    def __post_init__(self) -> None:
        for name in ("source_vocab_size", "target_vocab_size", "embed_size", "hidden_size", "num_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 <= self.dropout_rate <= 1:
            raise ValueError(f"dropout_rate: expected a number in [0, 1], got {self.dropout_rate}")
        super().__post_init__()

    def setup(self) -> None:
        """Creates the layers."""
        normal = nn.initializers.normal(1.0)
        self.source_embedding = nn.Embed(
            self.source_vocab_size, self.embed_size, dtype=self.dtype, embedding_init=normal
        )
        self.target_embedding = nn.Embed(
            self.target_vocab_size, self.embed_size, dtype=self.dtype, embedding_init=normal
        )
        self.encoder = self._recurrent()
        in_axes: Any = nn.broadcast, nn.broadcast, 1, nn.broadcast
        over_time = nn.scan(
            _DecoderStep,
            variable_broadcast="params",
            variable_axes={"intermediates": 1},
            split_rngs={"params": False, "dropout": True},
            in_axes=in_axes,
            out_axes=1,
        )
        self.decoder = over_time(self._recurrent(parent=None), self.hidden_size, self.dropout_rate, self.dtype)
        self.output = Dense(self.target_vocab_size, dtype=self.dtype, kernel_init=self.kernel_init)

    def _recurrent(self, **kwargs: Any) -> Any:
        return self.recurrence(
            self.hidden_size,
            num_layers=self.num_layers,
            dropout_rate=self.dropout_rate if self.num_layers > 1 else 0.0,
            kernel_init=self.kernel_init,
            recurrent_init=self.kernel_init,
            dtype=self.dtype,
            **kwargs,
        )

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
        return self.decode(self.encode(source, source_length, train), target_inputs, train)[0]

    def encode(self, source: jax.Array, source_length: jax.Array, train: bool = False) -> AttentionState:
        """Reads the source `[batch, source_time]`; what stands behind `source_length` `[batch]` changes nothing."""
        check_tokens("source", source, self.source_vocab_size)
        outputs, final = self.encoder(embed(self.source_embedding, source), source_length, train=train)
        return AttentionState(outputs, source_length, jax.tree.map(lambda s: s.swapaxes(0, 1), final))

    def decode(self, state: AttentionState, tokens: jax.Array, train: bool = False) -> tuple[jax.Array, AttentionState]:
        """Logits `[batch, time, target_vocab_size]` of the tokens after `tokens` `[batch, time]`, and the new state."""
        check_tokens("target_inputs", tokens, self.target_vocab_size)
        embedded = embed(self.target_embedding, tokens)
        after, outputs = self.decoder(state.recurrent, state.memory, state.memory_length, embedded, train)
        return self.output(outputs), state._replace(recurrent=after)

    def decode_step(self, state: AttentionState, tokens: jax.Array) -> tuple[jax.Array, AttentionState]:
        """`decode` of one token `[batch]`: logits `[batch, target_vocab_size]` and the new state."""
        logits, state = self.decode(state, tokens[:, None])
        return logits[:, 0], state


class _DecoderStep(nn.Module):
    """One token: attention by the state before, then the recurrent layers."""

    recurrence: nn.Module
    hidden_size: int
    dropout_rate: float
    dtype: Any

    @nn.compact
    def __call__(
        self, state: Any, memory: jax.Array, memory_length: jax.Array, embedded: jax.Array, train: bool
    ) -> tuple[Any, jax.Array]:
        query = jax.tree.leaves(state)[0][:, -1:]  # hidden state of the last layer [batch, 1, hidden]
        attention = AdditiveAttention(self.hidden_size, self.dropout_rate, self.dtype, name="attention")
        context, weights = attention(query.astype(memory.dtype), memory, memory, memory_length, train)
        if self.is_mutable_collection("intermediates"):
            self.sow("intermediates", "attention_weights", weights[:, 0])
        x = jnp.concatenate([context, embedded[:, None]], -1)  # [batch, 1, hidden + embed]
        before = jax.tree.map(lambda s: s.swapaxes(0, 1), state)
        outputs, after = self.recurrence(x, initial_state=before, train=train)
        return jax.tree.map(lambda s: s.swapaxes(0, 1), after), outputs[:, 0]
