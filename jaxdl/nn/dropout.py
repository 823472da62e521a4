"""Dropout (Srivastava et al., 2014; D2L 5.6): noise in training, nothing in evaluation."""

import jax
import jax.numpy as jnp
from flax import linen as nn


def dropout(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Sets each element to zero with probability `rate` and divides the others by `1 - rate`.

    This is the inverted form: the mean of every element stays `x`, so evaluation does nothing at all. The variance
    that it adds is `x^2 rate / (1 - rate)`. The gradient passes through the same mask.

    The mask depends on the key and the shape alone. A key used twice drops the same elements twice, which removes a
    part of the network instead of disturbing all of it: take another one each step. `jaxdl.training.make_step` does:
    it hands `fold_in(key, step)` to the loss, folded with the micro-batch and the device.

    Args:
      x: floating, any shape.
      rate: probability of zero, a Python number in [0, 1]. 0 returns `x`, 1 zeros.
      key: a typed key, `jax.random.key(seed)`.

    Returns:
      The shape and dtype of `x`.

    Raises:
      ValueError: if `x` is not floating, the rate is not in [0, 1], or the key is not one typed key.

    Note: the mask compares `1 - rate` with uniform numbers of 23 random bits (52 under x64).

    >>> dropout(jnp.arange(8.0), 0.5, jax.random.key(0))
    Array([ 0.,  0.,  4.,  6.,  0., 10., 12.,  0.], dtype=float32)
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x: expected a floating dtype, got {x.dtype}")
    check_rate(rate)
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()):
        raise ValueError(f"key: expected one typed key such as jax.random.key(0), got {key!r}")
    rate = float(rate)  # a NumPy scalar would widen the dtype
    if rate == 0:
        return x
    if rate == 1:
        return jnp.zeros_like(x)  # not x / 0, whose gradient would be NaN
    keep = jax.random.uniform(key, x.shape) < 1 - rate
    return jnp.where(keep, x / (1 - rate), 0)


class Dropout(nn.Module):
    """`dropout` as a layer; its key comes from the random stream `dropout`: `apply(..., rngs={"dropout": key})`.

    For equal keys and the same place in a model, the masks are those of `flax.linen.Dropout`.

    Args:
      rate: probability of zero.

    Raises:
      ValueError: at construction, if the rate is not in [0, 1].
    """

    rate: float

    def __post_init__(self) -> None:
        check_rate(self.rate)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `x` to its own shape and dtype; without `train` to itself."""
        if not train or self.rate == 0:
            return x  # needs no random stream
        return dropout(x, self.rate, self.make_rng("dropout"))


def check_rate(rate: float, name: str = "rate") -> None:
    """Raises ValueError unless it is a probability."""
    if not 0 <= rate <= 1:
        raise ValueError(f"{name}: expected a number in [0, 1], got {rate}")
