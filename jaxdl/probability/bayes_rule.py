"""Bayes' rule for finitely many hypotheses (D2L 2.6)."""

import math

import jax
from numpy.typing import ArrayLike

from jaxdl.probability.checks import check_values, distribution, is_concrete, real_array, same_shape


def evidence(prior: ArrayLike, likelihood: ArrayLike) -> jax.Array:
    """`P(D) = sum P(D | H) P(H)`: how probable the data is under all hypotheses together.

    Args:
      prior: `[hypotheses]`, sums to 1.
      likelihood: `[hypotheses]`, the probability or density of the data under each.

    Returns:
      A scalar.

    Raises:
      ValueError: if the shapes differ, a known number is negative or NaN, or the prior does not sum to 1.
    """
    prior, likelihood = _checked(prior, likelihood)
    return (prior * likelihood).sum()


def posterior(prior: ArrayLike, likelihood: ArrayLike) -> jax.Array:
    """`P(H | D) = P(D | H) P(H) / P(D)`.

    The posterior of one observation is the prior of the next, if the two are independent under each hypothesis.

    Args:
      prior: `[hypotheses]`, sums to 1.
      likelihood: `[hypotheses]`, the probability or density of the data under each; a common factor does not matter.

    Returns:
      `[hypotheses]`, sums to 1.

    Raises:
      ValueError: as `evidence`; and if the data is impossible under every hypothesis that the prior allows (inside
        `jax.jit`: NaN).

    >>> [f"{p:.4f}" for p in posterior([0.9985, 0.0015], [0.01, 1.0])]  # healthy or ill, after a positive test
    ['0.8694', '0.1306']
    """
    prior, likelihood = _checked(prior, likelihood)
    joint = prior * likelihood
    if is_concrete(joint) and not bool(joint.sum() > 0):
        raise ValueError("likelihood: expected data that some hypothesis allows, got probability 0 under all")
    return joint / joint.sum()


def _checked(prior: ArrayLike, likelihood: ArrayLike) -> tuple[jax.Array, jax.Array]:
    prior, likelihood = distribution("prior", prior), real_array("likelihood", likelihood, 1)
    same_shape("likelihood", likelihood, "prior", prior)
    check_values("likelihood", likelihood, 0, math.inf, "numbers of at least 0")
    return prior, likelihood
