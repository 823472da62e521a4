"""Information theory (D2L 22.11): entropy and what is built from it, for distributions given as tables.

An outcome of probability 0 adds nothing, `0 log 0 = 0`, and has gradient 0: the limit along any smooth path of
distributions, such as a softmax whose output has underflowed. (The slope of `-p log p` alone is infinite at 0;
`jax.scipy.special.entr` gives that, and the softmax before it NaN.) Nothing else hides a NaN.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from jaxdl.probability.checks import check_values, distribution, real_array, same_shape

Unit = Literal["nats", "bits"]


def self_information(p: ArrayLike, *, unit: Unit = "nats") -> jax.Array:
    """`-log p`, how surprising an event of probability p is (Shannon, 1948), element by element.

    Args:
      p: probabilities in [0, 1], any shape; those of 0 give infinity.
      unit: of the result: "nats" (natural logarithm) or "bits" (base 2).

    Returns:
      The shape of p, float32 or float64.

    Raises:
      ValueError: if a number that is known is outside [0, 1], or the unit is unknown.

    >>> self_information(1 / 64, unit="bits")
    Array(6., dtype=float32)
    """
    p = real_array("p", p)
    check_values("p", p, 0, 1, "probabilities in [0, 1]")
    return _in_unit(-jnp.log(p), unit)


def entropy(p: ArrayLike, *, unit: Unit = "nats") -> jax.Array:
    """`H(X) = -sum p log p`, the expected self-information.

    Args:
      p: `[..., outcomes]`, sums to 1 over the last axis.
      unit: "nats" or "bits".

    Returns:
      `[...]`, float32 or float64; between 0 and `log(outcomes)`.

    Raises:
      ValueError: if there is no outcome, the numbers (where they are known) are negative or do not sum to 1, or the
        unit is unknown. So with all functions of this file.

    >>> entropy([0.5, 0.25, 0.25, 0.0], unit="bits")
    Array(1.5, dtype=float32)
    """
    p = distribution("p", p)
    return _in_unit(-_weighted_log(p, p).sum(-1), unit)


def joint_entropy(joint: ArrayLike, *, unit: Unit = "nats") -> jax.Array:
    """`H(X, Y) = -sum p(x, y) log p(x, y)`: at least the greater of `H(X)` and `H(Y)`, at most their sum.

    Args:
      joint: `[..., x, y]`, sums to 1 over the last two axes.
      unit: "nats" or "bits".

    Returns:
      `[...]`.
    """
    joint = distribution("joint", joint, axes=2)
    return _in_unit(-_weighted_log(joint, joint).sum((-2, -1)), unit)


def conditional_entropy(joint: ArrayLike, *, unit: Unit = "nats") -> jax.Array:
    """`H(Y | X) = -sum p(x, y) log p(y | x)`: what Y still tells once X is known, `H(X, Y) - H(X)`.

    Args:
      joint: `[..., x, y]`, sums to 1 over the last two axes; for `H(X | Y)` pass the transpose.
      unit: "nats" or "bits".

    Returns:
      `[...]`, between 0 and `H(Y)`.

    Note: p(x) is summed from the joint distribution. The book passes it separately, and its example is of numbers that
    belong to no distribution: they sum to 1.1.
    """
    joint = distribution("joint", joint, axes=2)
    x = jnp.broadcast_to(joint.sum(-1, keepdims=True), joint.shape)
    return _in_unit((_weighted_log(joint, x) - _weighted_log(joint, joint)).sum((-2, -1)), unit)


def mutual_information(joint: ArrayLike, *, unit: Unit = "nats") -> jax.Array:
    """`I(X, Y) = sum p(x, y) log p(x, y) / (p(x) p(y))`: what one tells of the other, `H(Y) - H(Y | X)`.

    Args:
      joint: `[..., x, y]`, sums to 1 over the last two axes.
      unit: "nats" or "bits".

    Returns:
      `[...]`, symmetric in X and Y; 0 where they are independent, up to rounding to either side.

    Note: both margins are summed from the joint distribution; those of the book's example are of other distributions.
    """
    joint = distribution("joint", joint, axes=2)
    x = jnp.broadcast_to(joint.sum(-1, keepdims=True), joint.shape)
    y = jnp.broadcast_to(joint.sum(-2, keepdims=True), joint.shape)
    terms = _weighted_log(joint, joint) - _weighted_log(joint, x) - _weighted_log(joint, y)
    return _in_unit(terms.sum((-2, -1)), unit)


def cross_entropy(p: ArrayLike, q: ArrayLike, *, unit: Unit = "nats") -> jax.Array:
    """`H(p, q) = -sum p log q`: the surprise of one who believes in q where p holds.

    Args:
      p: `[..., outcomes]`, the truth.
      q: of the same shape, the belief.
      unit: "nats" or "bits".

    Returns:
      `[...]`, at least `H(p)`; infinite where q rules out what p allows.

    Raises:
      ValueError: also if the shapes differ.

    Note: for training take `jaxdl.nn.cross_entropy`, which starts from logits and is stable there.
    """
    p, q = distribution("p", p), distribution("q", q)
    same_shape("q", q, "p", p)
    return _in_unit(-_weighted_log(p, q).sum(-1), unit)


def kl_divergence(p: ArrayLike, q: ArrayLike, *, unit: Unit = "nats") -> jax.Array:
    """`D(p || q) = sum p log (p / q) = H(p, q) - H(p)` (Kullback and Leibler, 1951). Not symmetric.

    Args:
      p: `[..., outcomes]`.
      q: of the same shape.
      unit: "nats" or "bits".

    Returns:
      `[...]`, 0 where p = q (up to rounding) and more elsewhere; infinite where q rules out what p allows.

    Raises:
      ValueError: also if the shapes differ.

    Note: the book's demonstration passes raw samples for p and q, which are no distributions.
    """
    p, q = distribution("p", p), distribution("q", q)
    same_shape("q", q, "p", p)
    return _in_unit((_weighted_log(p, p) - _weighted_log(p, q)).sum(-1), unit)


def _weighted_log(p: jax.Array, q: jax.Array) -> jax.Array:
    """`p log q`; 0 where p is 0, and there the gradients are 0 too."""
    impossible = p == 0
    return jnp.where(impossible, 0, p) * jnp.log(jnp.where(impossible, 1, q))


def _in_unit(nats: jax.Array, unit: Unit) -> jax.Array:
    if unit not in ("nats", "bits"):
        raise ValueError(f"unit: expected 'nats' or 'bits', got {unit!r}")
    return nats if unit == "nats" else nats / math.log(2)
