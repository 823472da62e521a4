"""Layer normalisation (Ba et al., 2016, "Layer Normalization"; D2L 8.5 and 11.7)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def layer_norm(
    x: jax.Array, scale: jax.Array | None = None, bias: jax.Array | None = None, epsilon: float = 1e-5
) -> jax.Array:
    """Normalises each example over its features: `(x - mean) / sqrt(var + epsilon) * scale + bias`.

    Args:
      x: floating `[..., features]`.
      scale: `[features]`; None is one.
      bias: `[features]`; None is zero.
      epsilon: keeps an example without variance finite.

    Returns:
      `[..., features]` in the widest dtype of the arguments. Statistics are taken in float32, or in float64 for
      float64; the variance divides by `features`.

    Raises:
      ValueError: if `x` is not floating with at least one feature, or `scale` or `bias` is not `[features]`.
    """
    if x.ndim < 1 or x.shape[-1] == 0 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"x: expected floating [..., features] with at least one feature, got {x.dtype}{list(x.shape)}"
        )
    for name, vector in (("scale", scale), ("bias", bias)):
        if vector is not None and vector.shape != x.shape[-1:]:
            raise ValueError(f"{name}: expected shape {list(x.shape[-1:])}, got {list(vector.shape)}")
    out_dtype = jnp.result_type(*(a for a in (x, scale, bias) if a is not None))

    def per_feature(vector: jax.Array) -> jax.Array:
        return vector.reshape((1,) * (x.ndim - 1) + vector.shape)

    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centred = x - x.mean(-1, keepdims=True)
    x = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + epsilon)
    x = x if scale is None else x * per_feature(scale)
    x = x if bias is None else x + per_feature(bias)
    return x.astype(out_dtype)


class LayerNorm(nn.Module):
    """Normalises each example over its features (the last axis); parameters and names are those of Flax.

    Args:
      epsilon: added to the variance; 1e-5 is PyTorch's (Flax has 1e-6).
      dtype: of the output; the default is the widest of input and parameters. Statistics are taken in float32, or in
        float64 for a float64 input, whatever this says.
      use_bias: learn a bias.
      use_scale: learn a scale.
      scale_init: initialiser of the scale.
      bias_init: initialiser of the bias.

    Raises:
      ValueError: at construction, if `epsilon` is negative; when called, if the input is not floating
        `[..., features]` with at least one feature.

    Note: the variance is the mean of squared deviations (Flax subtracts the squared mean from the mean square, which in
    float32 loses a variance that is small beside the mean).
    """

    epsilon: float = 1e-5
    dtype: Any = None
    use_bias: bool = True
    use_scale: bool = True
    scale_init: Callable[..., Any] = nn.initializers.ones
    bias_init: Callable[..., Any] = nn.initializers.zeros

    def __post_init__(self) -> None:
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon: expected a number of at least 0, got {self.epsilon}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises `[..., features]`."""
        scale = self.param("scale", self.scale_init, x.shape[-1:], jnp.float32) if self.use_scale else None
        bias = self.param("bias", self.bias_init, x.shape[-1:], jnp.float32) if self.use_bias else None
        out_dtype = self.dtype or jnp.result_type(*(a for a in (x, scale, bias) if a is not None))
        return layer_norm(x, scale, bias, self.epsilon).astype(out_dtype)
