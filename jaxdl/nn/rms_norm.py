"""Root mean square normalisation (Zhang and Sennrich, 2019)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class RMSNorm(nn.Module):
    """Divides each example by the root of its mean square: layer normalisation without the mean and the bias.

    Args:
      epsilon: added to the mean square.
      dtype: of the output; the default is the widest of input and scale. The mean square is taken in float32, or in
        float64 for a float64 input.

    Raises:
      ValueError: at construction, if `epsilon` is negative; when called, if the input is not floating
        `[..., features]` with at least one feature.
    """

    epsilon: float = 1e-6
    dtype: Any = None

    def __post_init__(self) -> None:
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon: expected at least 0, got {self.epsilon}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[..., features]` to the same shape."""
        if x.ndim < 1 or x.shape[-1] == 0 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                f"x: expected floating [..., features] with at least one feature, got {x.dtype}{list(x.shape)}"
            )
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.float32)
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        y = wide * jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + self.epsilon)
        y = y * scale.reshape((1,) * (x.ndim - 1) + scale.shape)
        return y.astype(self.dtype or jnp.result_type(x, scale))
