"""Additive attention (Bahdanau et al., 2014, arXiv:1409.0473; D2L 11.3)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

from jaxdl.nn.dense import Dense
from jaxdl.nn.dropout import Dropout, check_rate
from jaxdl.nn.masked_softmax import masked_softmax


class AdditiveAttention(nn.Module):
    """Scores by a small network, `w^T tanh(W_q q + W_k k)`, so queries and keys may differ in size (D2L 11.3).

    Args:
      hidden_size: of the network; none of its layers has a bias.
      dropout_rate: on the weights, in training.
      dtype: the compute type; the default is the widest of inputs and parameters.

    Raises:
      ValueError: at construction, if `hidden_size` is below 1 or the rate not in [0, 1]; when called, if the shapes do
        not fit.
    """

    hidden_size: int
    dropout_rate: float = 0.0
    dtype: Any = None

    def __post_init__(self) -> None:
        if self.hidden_size < 1:
            raise ValueError(f"hidden_size: expected at least 1, got {self.hidden_size}")
        check_rate(self.dropout_rate, "dropout_rate")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        lengths: jax.Array | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, jax.Array]:
        """Averages values by the scores of their keys.

        Args:
          query: floating `[batch, queries, q_features]`.
          key: `[batch, keys, k_features]`.
          value: `[batch, keys, v_features]`.
          lengths: integer `[batch]` or `[batch, queries]`: keys from there on are padding.
          train: whether dropout is on.

        Returns:
          `[batch, queries, v_features]` and the weights `[batch, queries, keys]` before dropout.
        """
        shapes = [x.shape for x in (query, key, value)]
        if any(len(shape) != 3 for shape in shapes) or len({shape[0] for shape in shapes}) != 1:
            raise ValueError(f"query, key, value: expected [batch, length, features] of one batch, got {shapes}")
        if key.shape[1] != value.shape[1]:
            raise ValueError(f"value: expected {key.shape[1]} of them, as many as keys, got {value.shape[1]}")
        hidden = (
            self._dense(self.hidden_size, "query")(query)[:, :, None]
            + self._dense(self.hidden_size, "key")(key)[:, None]
        )  # [batch, queries, keys, hidden]
        scores = self._dense(1, "score")(jnp.tanh(hidden))[..., 0]
        weights = masked_softmax(scores, lengths)
        dropped, value = promote_dtype(Dropout(self.dropout_rate)(weights, train), value, dtype=self.dtype)
        return dropped @ value, weights

    def _dense(self, size: int, name: str) -> Dense:
        return Dense(size, use_bias=False, dtype=self.dtype, name=name)
