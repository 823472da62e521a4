"""The position-wise network of a transformer (Vaswani et al., 2017, section 3.3; Shazeer, 2020, for the gated form)."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from jaxdl.nn.dense import Dense
from jaxdl.nn.dropout import Dropout, check_rate


class FeedForward(nn.Module):
    """Two dense layers, the same at every position: `W_2 phi(W_1 x)`.

    Args:
      hidden_size: of the layer between.
      out_size: of the output; the default is that of the input.
      activation: phi, such as `jax.nn.relu` (the original), `partial(jax.nn.gelu, approximate=False)` (BERT; PyTorch's
        GELU), `jax.nn.gelu` (GPT-2; its tanh form), or with `gated` `jax.nn.silu` (SwiGLU).
      gated: multiplies with a third layer, `W_2 (phi(W_1 x) * W_3 x)`.
      dropout_rate: on the hidden layer, in training.
      use_bias: whether the layers have biases.
      dtype: the compute type.

    Raises:
      ValueError: at construction, if a size is below 1 or the rate not in [0, 1].
    """

    hidden_size: int
    out_size: int | None = None
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu
    gated: bool = False
    dropout_rate: float = 0.0
    use_bias: bool = True
    dtype: Any = None

    def __post_init__(self) -> None:
        for name, size in (("hidden_size", self.hidden_size), ("out_size", self.out_size)):
            if size is not None and size < 1:
                raise ValueError(f"{name}: expected at least 1, got {size}")
        check_rate(self.dropout_rate, "dropout_rate")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[..., features]` to `[..., out_size]`."""
        hidden = self.activation(self._dense(self.hidden_size, "hidden")(x))
        if self.gated:
            hidden = hidden * self._dense(self.hidden_size, "gate")(x)
        return self._dense(self.out_size or x.shape[-1], "out")(Dropout(self.dropout_rate)(hidden, train))

    def _dense(self, size: int, name: str) -> Dense:
        return Dense(size, use_bias=self.use_bias, dtype=self.dtype, name=name)
