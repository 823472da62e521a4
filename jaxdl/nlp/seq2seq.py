"""Sequence to sequence (Cho et al., 2014; Sutskever, Vinyals and Le, 2014; D2L 10.6, 10.7)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdl.nlp.token_ids import check_tokens, embed
from jaxdl.nn.dense import Dense
from jaxdl.nn.recurrent import GRU


class DecoderState(NamedTuple):
    """What the decoder goes on from; every leaf has the batch as its leading axis, as the searches want it."""

    context: jax.Array  # the source in one vector [batch, hidden_size]
    recurrent: Any  # of the decoder's layers [batch, num_layers, hidden_size]; for an LSTM two of these


class Seq2Seq(nn.Module):
    """Two recurrent networks: one reads the source, the other writes the target from what the first remembers.

    The decoder starts from the final state of the encoder, layer by layer. The context, the final state of the last
    layer, stands beside the embedding of the token before at every step.

        encode(source, source_length) -> state
        decode(state, tokens [batch, time]) -> (logits [batch, time, target_vocab_size], state)
        decode_step(state, tokens [batch]) -> (logits [batch, target_vocab_size], state)    what the searches take

    The defaults are the book's recipe.

    Args:
      source_vocab_size: tokens of the source's language.
      target_vocab_size: tokens of the target's.
      embed_size: width of both embeddings.
      hidden_size: of every recurrent layer.
      num_layers: of the encoder, and of the decoder.
      dropout_rate: between the layers; a single layer has none.
      recurrence: `nn.GRU`, `nn.LSTM` or `nn.RNN` of `jaxdl`.
      bidirectional: the encoder reads in both directions; a dense layer brings their states to `hidden_size`.
      kernel_init: initialiser of the recurrent and the output weights.
      embedding_init: initialiser of the embeddings; the default is PyTorch's.
      dtype: of the computation; parameters stay float32.

    Raises:
      ValueError: at construction, if a size is below 1 or the rate not in [0, 1]; when called, if a shape or dtype does
        not fit, or, where the numbers are known, an id is outside the vocabulary or a length above the padded size. (In
        compiled code the numbers are not known: such an id makes its example NaN, never another word.)

    Note: the book takes the state after the last step of the padded source, so its context depends on the padding.
    Here padding changes nothing.
    """

    source_vocab_size: int
    target_vocab_size: int
    embed_size: int = 256
    hidden_size: int = 256
    num_layers: int = 2
    dropout_rate: float = 0.2
    recurrence: Callable[..., Any] = GRU
    bidirectional: bool = False
    kernel_init: Callable[..., Any] = nn.initializers.xavier_uniform()
    embedding_init: Callable[..., Any] = nn.initializers.normal(1.0)
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

        def embedding(vocab_size: int) -> nn.Embed:
            return nn.Embed(vocab_size, self.embed_size, dtype=self.dtype, embedding_init=self.embedding_init)

        self.source_embedding = embedding(self.source_vocab_size)
        self.target_embedding = embedding(self.target_vocab_size)
        self.encoder = self._recurrent(bidirectional=self.bidirectional)
        self.decoder = self._decoder()
        if self.bidirectional:
            self.bridges = [Dense(self.hidden_size, dtype=self.dtype) for _ in range(2)]  # hidden state, LSTM's cell
        self.output = Dense(self.target_vocab_size, dtype=self.dtype, kernel_init=self.kernel_init)

    def _decoder(self) -> nn.Module:
        return self._recurrent()

    def _recurrent(self, **options: Any) -> Any:
        return self.recurrence(
            self.hidden_size,
            num_layers=self.num_layers,
            dropout_rate=self.dropout_rate if self.num_layers > 1 else 0.0,
            kernel_init=self.kernel_init,
            recurrent_init=self.kernel_init,
            dtype=self.dtype,
            **options,
        )

    def __call__(
        self, source: jax.Array, source_length: jax.Array, target_inputs: jax.Array, train: bool = False
    ) -> jax.Array:
        """Logits of each next token under teacher forcing.

        Args:
          source: integers `[batch, source_time]`.
          source_length: integers `[batch]`, tokens before the padding.
          target_inputs: integers `[batch, target_time]`: `<bos>` and the target's tokens but the last.
          train: dropout; needs `rngs={"dropout": key}`.

        Returns:
          `[batch, target_time, target_vocab_size]`; those at t are for the token after `target_inputs[:, t]`.
        """
        return self.decode(self.encode(source, source_length, train), target_inputs, train)[0]

    def encode(self, source: jax.Array, source_length: jax.Array, train: bool = False) -> Any:
        """Reads the source `[batch, source_time]`; what stands behind `source_length` `[batch]` changes nothing."""
        _, final = self._read(source, source_length, train)
        return DecoderState(jax.tree.leaves(final)[0][:, -1], final)  # an LSTM's first leaf is its hidden state

    def _read(self, source: jax.Array, source_length: jax.Array, train: bool) -> tuple[jax.Array, Any]:
        """The encoder's outputs `[batch, source_time, hidden * directions]`, and the decoder's state to begin with."""
        check_tokens("source", source, self.source_vocab_size)
        outputs, final = self.encoder(embed(self.source_embedding, source), source_length, train=train)
        final = jax.tree.map(lambda s: s.swapaxes(0, 1), final)  # [batch, num_layers * directions, hidden]
        if self.bidirectional:
            leaves, structure = jax.tree.flatten(final)
            leaves = [s.reshape(s.shape[0], self.num_layers, -1) for s in leaves]  # the directions side by side
            leaves = [bridge(s).astype(s.dtype) for bridge, s in zip(self.bridges, leaves, strict=False)]
            final = jax.tree.unflatten(structure, leaves)
        return outputs, final

    def decode(self, state: Any, tokens: jax.Array, train: bool = False) -> tuple[jax.Array, Any]:
        """Logits `[batch, time, target_vocab_size]` of the tokens after `tokens` `[batch, time]`, and the new state."""
        check_tokens("target_inputs", tokens, self.target_vocab_size)
        check_rows(tokens, state.context.shape[0])
        x = embed(self.target_embedding, tokens)
        context = jnp.broadcast_to(state.context[:, None], (*tokens.shape, state.context.shape[1])).astype(x.dtype)
        x = jnp.concatenate([x, context], axis=-1)  # [batch, time, embed + hidden]
        before = jax.tree.map(lambda s: s.swapaxes(0, 1), state.recurrent)
        outputs, after = self.decoder(x, initial_state=before, train=train)
        after = jax.tree.map(lambda s: s.swapaxes(0, 1), after)
        return self.output(outputs), DecoderState(state.context, after)

    def decode_step(self, state: Any, tokens: jax.Array) -> tuple[jax.Array, Any]:
        """`decode` of one token `[batch]`: logits `[batch, target_vocab_size]` and the new state."""
        logits, state = self.decode(state, tokens[:, None])
        return logits[:, 0], state


def check_rows(tokens: jax.Array, rows: int) -> None:
    """Checks that there is a target for each source.

    Raises:
      ValueError: if not.
    """
    if tokens.shape[0] != rows:
        raise ValueError(f"target_inputs: expected {rows} rows, as of the source, got {tokens.shape[0]}")
