"""Sequence to sequence with attention (Bahdanau, Cho and Bengio, 2014, arXiv:1409.0473; D2L 11.4)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdl.nlp.seq2seq import Seq2Seq, check_rows
from jaxdl.nlp.token_ids import check_tokens, embed
from jaxdl.nn.additive_attention import AdditiveAttention


class AttentionState(NamedTuple):
    """What the decoder goes on from; every leaf has the batch as its leading axis, as the searches want it."""

    memory: jax.Array  # the encoder's outputs [batch, source_time, hidden_size * directions]
    memory_length: jax.Array  # [batch]
    recurrent: Any  # of the decoder's layers [batch, num_layers, hidden_size]; for an LSTM two of these


class AttentionSeq2Seq(Seq2Seq):
    """Before each token the decoder looks at all of the source, where `Seq2Seq` has one vector for it.

    The query is the hidden state of the decoder's last layer; what additive attention makes of the encoder's outputs
    stands beside the embedding of the token before. The methods are those of `Seq2Seq`, so `teacher_forcing` trains it
    and `translate` decodes with it. With the collection `intermediates` mutable the weights
    `[batch, target_time, source_time]` are sown in `decoder` as `attention_weights`.

    Args:
      source_vocab_size: as in `Seq2Seq`, and so are all other fields.
      target_vocab_size: as in `Seq2Seq`.
      embed_size: as in `Seq2Seq`.
      hidden_size: of every recurrent layer, and of the attention.
      num_layers: as in `Seq2Seq`.
      dropout_rate: between the layers, and of the attention weights.
      recurrence: as in `Seq2Seq`.
      bidirectional: as in `Seq2Seq`; the paper's encoder is, the book's is not.
      kernel_init: as in `Seq2Seq`.
      embedding_init: as in `Seq2Seq`.
      dtype: as in `Seq2Seq`.

    Raises:
      ValueError: as `Seq2Seq`.
    """

    def _decoder(self) -> nn.Module:
        in_axes: Any = nn.broadcast, nn.broadcast, 1, nn.broadcast
        over_time = nn.scan(
            _DecoderStep,
            variable_broadcast="params",
            variable_axes={"intermediates": 1},
            split_rngs={"params": False, "dropout": True},
            in_axes=in_axes,
            out_axes=1,
        )
        return over_time(self._recurrent(parent=None), self.hidden_size, self.dropout_rate, self.dtype)

    def encode(self, source: jax.Array, source_length: jax.Array, train: bool = False) -> AttentionState:
        """Reads the source `[batch, source_time]`; what stands behind `source_length` `[batch]` changes nothing."""
        outputs, final = self._read(source, source_length, train)
        return AttentionState(outputs, source_length, final)

    def decode(self, state: AttentionState, tokens: jax.Array, train: bool = False) -> tuple[jax.Array, AttentionState]:
        """Logits `[batch, time, target_vocab_size]` of the tokens after `tokens` `[batch, time]`, and the new state."""
        check_tokens("target_inputs", tokens, self.target_vocab_size)
        check_rows(tokens, state.memory.shape[0])
        embedded = embed(self.target_embedding, tokens)
        after, outputs = self.decoder(state.recurrent, state.memory, state.memory_length, embedded, train)
        return self.output(outputs), state._replace(recurrent=after)


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
