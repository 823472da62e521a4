"""Maximum likelihood (D2L 22.7): closed forms, and gradient ascent where there is none."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from jaxdl.probability.checks import is_concrete, real_array, same_shape
from jaxdl.probability.distributions import Bernoulli, Binomial, Normal, Poisson, Uniform


def fit_bernoulli(x: ArrayLike, weights: ArrayLike | None = None) -> Bernoulli:
    """The share of ones.

    Args:
      x: `[samples]`, zeros and ones.
      weights: `[samples]`, how often each was seen; by default once.

    Raises:
      ValueError: if there are no samples, the shapes differ, a value that is known cannot come from the distribution,
        or the weights are negative or all 0. So with all functions of this file.

    >>> f"{fit_bernoulli([1, 0], weights=[9, 4]).p:.6f}"  # nine heads, four tails: 9 / 13
    '0.692308'
    """
    x, weights = _samples(x, weights)
    _check_support(x, lambda x: (x == 0) | (x == 1), "0 or 1")
    return Bernoulli((weights * x).sum() / weights.sum())


def fit_binomial(x: ArrayLike, n: int, weights: ArrayLike | None = None) -> Binomial:
    """The share of successes in all trials.

    Args:
      x: `[samples]`, successes in n trials each.
      n: trials, at least 1.
      weights: as in `fit_bernoulli`.
    """
    if n < 1:
        raise ValueError(f"n: expected at least 1 trial, got {n}")
    x, weights = _samples(x, weights)
    _check_support(x, lambda x: (x >= 0) & (x <= n) & (x == np.floor(x)), f"integers from 0 to {n}")
    return Binomial(n, (weights * x).sum() / (n * weights.sum()))


def fit_poisson(x: ArrayLike, weights: ArrayLike | None = None) -> Poisson:
    """The mean.

    Args:
      x: `[samples]`, counts.
      weights: as in `fit_bernoulli`.
    """
    x, weights = _samples(x, weights)
    _check_support(x, lambda x: (x >= 0) & (x == np.floor(x)), "counts")
    return Poisson((weights * x).sum() / weights.sum())


def fit_normal(x: ArrayLike, weights: ArrayLike | None = None) -> Normal:
    """The mean and the standard deviation.

    Args:
      x: `[samples]`, not all the same: the likelihood would grow without bound.
      weights: as in `fit_bernoulli`.

    Note: the variance is that of the samples, with n and not n - 1 below, which is biased: on average it is
    `(n - 1) / n` of the truth.
    """
    x, weights = _samples(x, weights)
    mean = (weights * x).sum() / weights.sum()
    return Normal(mean, jnp.sqrt((weights * (x - mean) ** 2).sum() / weights.sum()))


def fit_uniform(x: ArrayLike) -> Uniform:
    """From the least to the greatest sample: too narrow on average, by `2 / (n + 1)` of the width.

    Args:
      x: `[samples]`, not all the same.
    """
    x, _ = _samples(x, None)
    return Uniform(x.min(), x.max())


def maximize_likelihood(
    log_likelihood: Callable[[Any], jax.Array],
    params: Any,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
) -> tuple[Any, jax.Array]:
    """Ascends the gradient of the log-likelihood. (The likelihood itself underflows after a few hundred samples.)

    Args:
      log_likelihood: from parameters to a scalar, in nats.
      params: where to start; any pytree of floating arrays.
      optimizer: Optax's; it minimises, so it gets the gradient of the negative. `optax.sgd` is plain gradient ascent.
      steps: how many, at least 1.

    Returns:
      The parameters after the last step, and the log-likelihood before each step, `[steps]`. A learning rate that is
      too high leaves NaN in both.

    Raises:
      ValueError: if `steps` is below 1.
    """
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    params = jax.tree.map(jnp.asarray, params)

    def step(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], jax.Array]:
        params, optimizer_state = carry
        loss, gradients = jax.value_and_grad(lambda params: -log_likelihood(params))(params)
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, params)
        return (optax.apply_updates(params, updates), optimizer_state), -loss

    (params, _), log_likelihoods = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
    return params, log_likelihoods


def _samples(x: ArrayLike, weights: ArrayLike | None) -> tuple[jax.Array, jax.Array]:
    x = real_array("x", x, 1)
    if not len(x):
        raise ValueError("x: expected at least one sample, got none")
    if weights is None:
        return x, jnp.ones_like(x)
    weights = real_array("weights", weights, 1)
    same_shape("weights", weights, "x", x)
    if is_concrete(weights) and not ((np.asarray(weights) >= 0).all() and np.asarray(weights).any()):
        raise ValueError(f"weights: expected numbers of at least 0, not all 0, got {weights}")
    return x, weights


def _check_support(x: jax.Array, is_possible: Callable[[Any], Any], expected: str) -> None:
    if is_concrete(x):
        values = np.asarray(x)
        wrong = values[~is_possible(values)]
        if wrong.size:
            raise ValueError(f"x: expected {expected}, got {wrong[0]}")
