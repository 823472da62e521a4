"""Mean, variance, covariance and correlation of random variables given as tables, and Chebyshev's bound (D2L 22.6).

Of samples, `jnp.mean`, `jnp.var`, `jnp.cov` and `jnp.corrcoef` estimate them.
"""

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from jaxdl.probability.checks import distribution, positive, real_array, same_shape


def expectation(values: ArrayLike, p: ArrayLike) -> jax.Array:
    """`E[X] = sum x p(x)`.

    Args:
      values: `[outcomes]`, of X, or of a function of X.
      p: `[outcomes]`, sums to 1.

    Returns:
      A scalar.

    Raises:
      ValueError: if the shapes differ, or known probabilities are negative or do not sum to 1.

    >>> f"{expectation([0, 2, 10], [0.5, 0.4, 0.1]):.3f}"
    '1.800'
    """
    values, p = real_array("values", values, 1), distribution("p", p)
    same_shape("values", values, "p", p)
    return (values * p).sum()


def variance(values: ArrayLike, p: ArrayLike) -> jax.Array:
    """`Var[X] = E[(X - E[X])^2]`; arguments, result and errors as of `expectation`."""
    values = real_array("values", values, 1)
    return expectation((values - expectation(values, p)) ** 2, p)


def covariance(x: ArrayLike, y: ArrayLike, joint: ArrayLike) -> jax.Array:
    """`Cov[X, Y] = E[(X - E[X]) (Y - E[Y])]`.

    Args:
      x: `[x]`, the values of X.
      y: `[y]`, the values of Y.
      joint: `[x, y]`, their joint probabilities, which sum to 1.

    Returns:
      A scalar.

    Raises:
      ValueError: if the shapes do not fit, or known probabilities are negative or do not sum to 1.
    """
    x, y, joint = real_array("x", x, 1), real_array("y", y, 1), distribution("joint", joint, axes=2)
    if joint.shape != (*x.shape, *y.shape):
        raise ValueError(f"joint: expected shape {[*x.shape, *y.shape]}, got {list(joint.shape)}")
    x_mean, y_mean = expectation(x, joint.sum(1)), expectation(y, joint.sum(0))
    return (x - x_mean) @ joint @ (y - y_mean)


def correlation(x: ArrayLike, y: ArrayLike, joint: ArrayLike) -> jax.Array:
    """`Cov[X, Y]` over the product of the standard deviations: in [-1, 1]; NaN if one of them is constant.

    Arguments and errors as of `covariance`.
    """
    both = covariance(x, y, joint)
    joint = jnp.asarray(joint)
    return both / jnp.sqrt(variance(x, joint.sum(1)) * variance(y, joint.sum(0)))


def chebyshev_bound(num_deviations: float) -> float:
    """The most that `P(|X - E[X]| >= k standard deviations)` can be, whatever the distribution: `min(1, 1 / k^2)`.

    Args:
      num_deviations: k, above 0.

    Raises:
      ValueError: if it is not positive.

    >>> chebyshev_bound(4)
    0.0625
    """
    positive("num_deviations", num_deviations)
    return min(1.0, 1 / num_deviations**2)
