"""AdaDelta (Zeiler, 2012; D2L 12.9): the size of past updates stands in for a learning rate."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdl.optim.accumulators import descend, full_like, leaky_average, next_step, start_step, widen
from jaxdl.optim.hyperparameters import Rate, check_fraction, check_positive, check_rate


class AdadeltaState(NamedTuple):
    """Of `adadelta`: steps done, s and delta of the equations."""

    step: jax.Array
    mean_square: Any
    mean_square_update: Any


def adadelta(learning_rate: Rate = 1.0, rho: float = 0.9, eps: float = 1e-5) -> optax.GradientTransformation:
    """Updates of the size that updates have had, by two leaky averages.

        s     <- rho s + (1 - rho) g^2
        u      = sqrt(delta + eps) / sqrt(s + eps) * g
        delta <- rho delta + (1 - rho) u^2
        x     <- x - rate * u

    Args:
      learning_rate: a number or a schedule; the method has none, which is 1.
      rho: what is kept of both averages.
      eps: inside both roots; it sets the size of the first updates.

    Raises:
      ValueError: at construction, if the rate is negative, `rho` not in [0, 1) or `eps` not positive.
    """
    check_rate(learning_rate)
    check_fraction(rho=rho)
    check_positive(eps=eps)

    def init(params: Any) -> AdadeltaState:
        return AdadeltaState(start_step(params), full_like(params), full_like(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, AdadeltaState]:
        g, delta = widen(updates, state.mean_square), state.mean_square_update
        s = leaky_average(rho, state.mean_square, jax.tree.map(jnp.square, g))
        u = jax.tree.map(lambda g, s, delta: jnp.sqrt(delta + eps) / jnp.sqrt(s + eps) * g, g, s, delta)
        delta = leaky_average(rho, delta, jax.tree.map(jnp.square, u))
        return descend(u, learning_rate, state.step, updates), AdadeltaState(next_step(state.step), s, delta)

    return optax.GradientTransformation(init, update)
