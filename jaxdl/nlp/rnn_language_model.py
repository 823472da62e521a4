"""Recurrent language models (D2L 9.5, 9.6, 10.1 to 10.3)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdl.nlp.token_ids import check_tokens, widen
from jaxdl.nn.dense import Dense


class RNNLanguageModel(nn.Module):
    """Tokens as one-hot vectors or embeddings, a recurrent network, and logits of each next token.

    Args:
      vocab_size: number of tokens.
      recurrence: what runs over time: `nn.RNN`, `nn.GRU` or `nn.LSTM`, such as `nn.LSTM(256, num_layers=2)`.
      embed_size: width of the embeddings; None is one-hot, as in the book.
      carry_state: in training, go on from the state in which the batch before ended (truncated backpropagation through
        time, D2L 9.7): row i of a batch continues row i of the one before, as `data.sequential_partition` has it. The
        state lives in the collection `carry`, one for each row of the batch, and no gradient flows through it to the
        earlier batch. Initialise with a batch of the size that is trained. Evaluation starts from zeros.
      dtype: of the embeddings and the output layer; parameters stay float32. The recurrence has its own.

    Raises:
      ValueError: at construction, if a size is below 1, or the recurrence is bidirectional or time-major; when called,
        if the tokens are not integers `[batch, time]`, an id is outside the vocabulary (where the ids are known; in
        compiled code the logits are NaN from there on, never those of another token), the carried state is of another
        batch size, or a `state` is given in training with `carry_state`.
    """

    vocab_size: int
    recurrence: nn.Module
    embed_size: int | None = None
    carry_state: bool = False
    dtype: Any = None

    def __post_init__(self) -> None:
        for name, size in (("vocab_size", self.vocab_size), ("embed_size", self.embed_size)):
            if size is not None and size < 1:
                raise ValueError(f"{name}: expected at least 1, got {size}")
        if getattr(self.recurrence, "bidirectional", False):
            raise ValueError("recurrence: expected one direction; a bidirectional network sees what it should predict")
        if getattr(self.recurrence, "time_major", False):
            raise ValueError("recurrence: expected time_major=False")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        state: Any = None,
        lengths: jax.Array | None = None,
        *,
        is_first: jax.Array | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, Any]:
        """Reads tokens.

        Args:
          tokens: integers `[batch, time]`.
          state: to go on from, as returned: each leaf `[batch, num_layers, hidden]`; None is zeros.
          lengths: integers `[batch]` in [0, time], tokens of each row before its padding, which changes no state; None:
            all. Logits behind them mean nothing.
          is_first: boolean `[batch]`, rows whose carried state starts again from zeros; default none.
          train: dropout, and the carried state.

        Returns:
          Logits `[batch, time, vocab_size]`, at step t those of token t + 1, and the state after the last token. (The
          batch is its leading axis, as the searches and the sharding of `carry` have it; the recurrence has the layers
          there, as PyTorch.)
        """
        tokens = check_tokens("tokens", tokens, self.vocab_size, lengths)
        tokens = widen(tokens)
        valid = (tokens >= 0) & (tokens < self.vocab_size)
        if self.embed_size is None:
            x = jax.nn.one_hot(tokens, self.vocab_size, dtype=self.dtype or jnp.float32)
        else:
            x = nn.Embed(self.vocab_size, self.embed_size, dtype=self.dtype)(tokens)
        x = jnp.where(valid[..., None], x, jnp.nan)  # [batch, time, features]

        if self.carry_state and train and not self.is_initializing():
            if state is not None:
                raise ValueError("state: expected None in training with carry_state=True, which keeps it")
            state = self._carried_state(tokens.shape[0], is_first)
        outputs, state = self.recurrence(x, lengths, initial_state=_swap_layers_and_batch(state), train=train)
        state = _swap_layers_and_batch(state)
        if self.carry_state and self.is_initializing():
            self.put_variable("carry", "state", jax.tree.map(jnp.zeros_like, state))
        elif self.carry_state and train:
            self.put_variable("carry", "state", state)
        return Dense(self.vocab_size, dtype=self.dtype)(outputs), state

    def empty_state(self, batch_size: int, length: int | None = None, dtype: Any = None) -> None:
        """The state before the first token: None, which is zeros of any size and type, for texts of any length."""

    def _carried_state(self, batch_size: int, is_first: jax.Array | None) -> Any:
        """Where the batch before ended, as a constant."""
        state = jax.lax.stop_gradient(self.get_variable("carry", "state"))
        if state is None:
            raise ValueError("carry: expected the state that init made, as `mutable` collection; got none")
        carried = jax.tree.leaves(state)[0].shape[0]
        if carried != batch_size:
            raise ValueError(f"tokens: expected {carried} rows, as in init; got {batch_size}")
        if is_first is None:
            return state
        if is_first.shape != (batch_size,):
            raise ValueError(f"is_first: expected [{batch_size}], got {list(is_first.shape)}")
        return jax.tree.map(lambda s: jnp.where(jax.lax.expand_dims(is_first, range(1, s.ndim)), 0, s), state)


def _swap_layers_and_batch(state: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), state)
