"""Batch normalisation (Ioffe and Szegedy, 2015; D2L 8.5)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def batch_norm(
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    mean: jax.Array,
    var: jax.Array,
    epsilon: float = 1e-5,
) -> jax.Array:
    """Normalises each feature with the given statistics: `(x - mean) / sqrt(var + epsilon) * scale + bias`.

    Args:
      x: `[..., features]`.
      scale: `[features]`; None is one.
      bias: `[features]`; None is zero.
      mean: `[features]`.
      var: `[features]`.
      epsilon: keeps a feature without variance finite.

    Returns:
      `[..., features]` in the widest dtype of the arguments.

    Raises:
      ValueError: if `scale`, `bias`, `mean` or `var` is not `[features]`.
    """
    for name, vector in (("scale", scale), ("bias", bias), ("mean", mean), ("var", var)):
        if vector is not None and vector.shape != x.shape[-1:]:
            raise ValueError(f"{name}: expected shape {list(x.shape[-1:])}, got {list(vector.shape)}")

    def per_feature(vector: jax.Array) -> jax.Array:
        return vector.reshape((1,) * (x.ndim - 1) + vector.shape)

    factor = jax.lax.rsqrt(var + epsilon)
    x = (x - per_feature(mean)) * per_feature(factor if scale is None else factor * scale)
    return x if bias is None else x + per_feature(bias)


class BatchNorm(nn.Module):
    """Normalises each feature (the last axis) over all other axes, examples that are padding included.

    When training it uses the batch's own statistics and moves the running ones, `mean` and `var` in the collection
    `batch_stats`, towards them; otherwise it uses the running ones and changes nothing. Parameters, names and
    conventions are those of `flax.linen.BatchNorm`. It differs in two ways: statistics and running averages of float64
    inputs are float64, and the variance is the mean of squared deviations (Flax subtracts the squared mean from the
    mean square, which in float32 loses a variance that is small beside the mean).

    Args:
      momentum: `running = momentum * running + (1 - momentum) * batch`; 0.9 is PyTorch's 0.1.
      epsilon: added to the variance.
      axis_name: a mapped axis (`pmap`, `shard_map`, `vmap`) over which statistics are taken together, exactly those of
        the whole batch if each device holds as many examples. Under `jit` with a sharded batch they always are.
      dtype: of the output; the default is the widest of input and parameters. Statistics are computed and kept in
        float32, or in float64 for a float64 input, whatever this says.
      use_bias: learn a bias.
      use_scale: learn a scale.
      scale_init: initialiser of the scale.
      bias_init: initialiser of the bias.

    Raises:
      ValueError: at construction, if `momentum` is not in [0, 1] or `epsilon` is negative; when called, if the input is
        not floating `[batch, ..., features]`, or empty in training.

    Note: the variance divides by `n`, also the one that is kept, as in Flax and in the book's version from scratch.
    PyTorch normalises with the same one but keeps the one that divides by `n - 1`. A feature with one value in the
    whole batch has variance 0 and comes out as the bias (PyTorch raises).
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None
    dtype: Any = None
    use_bias: bool = True
    use_scale: bool = True
    scale_init: Callable[..., Any] = nn.initializers.ones
    bias_init: Callable[..., Any] = nn.initializers.zeros

    def __post_init__(self) -> None:
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum: expected a number in [0, 1], got {self.momentum}")
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon: expected a number of at least 0, got {self.epsilon}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Normalises `[batch, ..., features]`."""
        if x.ndim < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"x: expected floating [batch, ..., features], got {x.dtype}{list(x.shape)}")
        if train and x.size == 0:
            raise ValueError(f"x: an empty batch {list(x.shape)} has no statistics to train with")
        features, dtype = x.shape[-1:], jnp.promote_types(x.dtype, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features, dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, features, dtype)
        scale = self.param("scale", self.scale_init, features, jnp.float32) if self.use_scale else None
        bias = self.param("bias", self.bias_init, features, jnp.float32) if self.use_bias else None
        out_dtype = self.dtype or jnp.result_type(*(a for a in (x, scale, bias) if a is not None))

        x = x.astype(dtype)
        if train:
            mean = self._average(x)
            var = self._average(jnp.square(x - mean.reshape((1,) * (x.ndim - 1) + features)))
            if not self.is_initializing():
                for running, new in ((running_mean, mean), (running_var, var)):
                    old = running.value
                    running.value = (self.momentum * old + (1 - self.momentum) * new).astype(old.dtype)
        else:
            mean, var = running_mean.value, running_var.value
        return batch_norm(x, scale, bias, mean, var, self.epsilon).astype(out_dtype)

    def _average(self, x: jax.Array) -> jax.Array:
        average = x.mean(range(x.ndim - 1))  # [features]
        if self.axis_name is None or self.is_initializing():  # `init` runs outside the map
            return average
        return jax.lax.pmean(average, self.axis_name)
