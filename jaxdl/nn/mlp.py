"""The multilayer perceptron (D2L 5.1)."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdl.nn.dropout import Dropout


class MLP(nn.Module):
    """Dense layers with an activation between them.

    Args:
      features: width of each layer; the last is the output, without activation. `[10]` is softmax regression,
        `[256, 10]` the book's MLP (203,530 parameters on 784 inputs).
      activation: between layers.
      dropout_rate: after each hidden activation, when training.
      kernel_init: initialiser of the weights; biases start at zero.
      dtype: of the computation; parameters stay float32.

    Raises:
      ValueError: at construction, if there is no layer or a width is below 1, or the rate is not in [0, 1].
    """

    features: Sequence[int]
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    dropout_rate: float = 0.0
    kernel_init: Callable[..., Any] = nn.initializers.lecun_normal()
    dtype: Any = None

    def __post_init__(self) -> None:
        if not self.features or min(self.features) < 1:
            raise ValueError(f"features: expected one or more widths of at least 1, got {list(self.features)}")
        if not 0 <= self.dropout_rate <= 1:
            raise ValueError(f"dropout_rate: expected a number in [0, 1], got {self.dropout_rate}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, ...]` to `[batch, features[-1]]`; the axes after the batch are flattened."""
        if x.ndim < 2:
            raise ValueError(f"x: expected [batch, ...] with at least one axis of features, got {list(x.shape)}")
        x = jax.lax.collapse(x, 1)
        for i, width in enumerate(self.features):
            x = nn.Dense(width, dtype=self.dtype, kernel_init=self.kernel_init)(x)
            if i < len(self.features) - 1:
                x = self.activation(x)
                x = Dropout(self.dropout_rate)(x, train=train)
        return jnp.asarray(x)
