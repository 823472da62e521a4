"""RMSProp (Tieleman and Hinton, 2012; D2L 12.8): AdaGrad that forgets."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdl.optim.accumulators import descend, full_like, leaky_average, next_step, start_step, widen
from jaxdl.optim.hyperparameters import Rate, check_fraction, check_positive, check_rate


class RMSPropState(NamedTuple):
    """Of `rmsprop`: steps done, and s of the equations."""

    step: jax.Array
    mean_square: Any


def rmsprop(learning_rate: Rate, gamma: float = 0.9, eps: float = 1e-6) -> optax.GradientTransformation:
    """`s <- gamma s + (1 - gamma) g^2; x <- x - rate * g / sqrt(s + eps)`.

    Args:
      learning_rate: a number or a schedule.
      gamma: what is kept of the mean square; PyTorch calls it `alpha` and has 0.99.
      eps: inside the root, as in the book and Optax; PyTorch's is outside.

    Raises:
      ValueError: at construction, if the rate is negative, `gamma` not in [0, 1) or `eps` not positive.
    """
    check_rate(learning_rate)
    check_fraction(gamma=gamma)
    check_positive(eps=eps)

    def init(params: Any) -> RMSPropState:
        return RMSPropState(start_step(params), full_like(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, RMSPropState]:
        g = widen(updates, state.mean_square)
        s = leaky_average(gamma, state.mean_square, jax.tree.map(jnp.square, g))
        direction = jax.tree.map(lambda s, g: g / jnp.sqrt(s + eps), s, g)
        return descend(direction, learning_rate, state.step, updates), RMSPropState(next_step(state.step), s)

    return optax.GradientTransformation(init, update)
