"""The exponential family (D2L 22.8.7): `p(x | eta) = h(x) exp(eta . T(x) - A(eta))`.

The log-partition function A makes it sum to 1, and its derivatives are the moments of T(x): `jax.grad` and
`jax.hessian` give what a table of distributions lists.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from jaxdl.probability.checks import real_array


class ExponentialFamily(NamedTuple):
    """A family of distributions, one for each natural parameter eta `[k]`.

    Attributes:
      sufficient_statistics: T, from a scalar x to `[k]`.
      log_partition: A, from `[k]` to a scalar.
      log_base_measure: log h, from a scalar x to a scalar.

    >>> f"{POISSON.mean(jnp.log(jnp.array([5.0])))[0]:.4f}"  # the natural parameter is the logarithm of the rate
    '5.0000'
    """

    sufficient_statistics: Callable[[jax.Array], jax.Array]
    log_partition: Callable[[jax.Array], jax.Array]
    log_base_measure: Callable[[jax.Array], jax.Array]

    def log_prob(self, eta: ArrayLike, x: ArrayLike) -> jax.Array:
        """`log p(x | eta)`, a scalar.

        Args:
          eta: the natural parameter, `[k]`.
          x: a scalar; `jax.vmap` takes it to many.

        Raises:
          ValueError: if x is not a scalar, or eta not `[k]`.
        """
        eta, x = real_array("eta", eta, 1), real_array("x", x, 0)
        statistics = self.sufficient_statistics(x)
        if statistics.shape != eta.shape:
            raise ValueError(f"eta: expected shape {list(statistics.shape)}, got {list(eta.shape)}")
        return self.log_base_measure(x) + eta @ statistics - self.log_partition(eta)

    def mean(self, eta: ArrayLike) -> jax.Array:
        """`E[T(x)]`, `[k]`: the gradient of A."""
        return jax.grad(self.log_partition)(real_array("eta", eta, 1))

    def covariance(self, eta: ArrayLike) -> jax.Array:
        """`Cov[T(x)]`, `[k, k]`: the Hessian of A, so A is convex."""
        return jax.hessian(self.log_partition)(real_array("eta", eta, 1))


BERNOULLI = ExponentialFamily(
    sufficient_statistics=lambda x: x[None],
    log_partition=lambda eta: jax.nn.softplus(eta[0]),
    log_base_measure=lambda x: jnp.zeros_like(x),
)
"""eta is the logit of p: the sigmoid of logistic regression is the mean of this family."""

POISSON = ExponentialFamily(
    sufficient_statistics=lambda x: x[None],
    log_partition=lambda eta: jnp.exp(eta[0]),
    log_base_measure=lambda x: -jax.scipy.special.gammaln(x + 1),
)
"""eta is the logarithm of the rate."""

NORMAL = ExponentialFamily(
    sufficient_statistics=lambda x: jnp.stack([x, x**2]),
    log_partition=lambda eta: -(eta[0] ** 2) / (4 * eta[1]) - jnp.log(-2 * eta[1]) / 2,
    log_base_measure=lambda x: jnp.full_like(x, -math.log(2 * math.pi) / 2),
)
"""eta is `[mean / variance, -1 / (2 variance)]`, its second entry negative."""
