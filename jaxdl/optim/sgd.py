"""Gradient descent (D2L 12.3), stochastic (12.4; Robbins and Monro, 1951) and by minibatches (12.5)."""

from typing import Any, NamedTuple

import jax
import optax

from jaxdl.optim.accumulators import descend, next_step, start_step, widen
from jaxdl.optim.hyperparameters import Rate, check_not_negative, check_rate
from jaxdl.optim.weight_decay import Mask, add_decay


class SGDState(NamedTuple):
    """Of `sgd`: steps done."""

    step: jax.Array


def sgd(learning_rate: Rate, *, weight_decay: float = 0.0, mask: Mask = None) -> optax.GradientTransformation:
    """`x <- (1 - rate * weight_decay) x - rate * g`: gradient descent, stochastic if g comes from a sample.

    For this method, and for no other one here, weight decay is the same as `weight_decay / 2 * sum(x^2)` in the loss.

    Args:
      learning_rate: a number or a schedule.
      weight_decay: 0 for none.
      mask: which parameters decay, as in `apply_mask`; None for all.

    Raises:
      ValueError: at construction, if a hyperparameter is negative or not finite.

    >>> import jax, jax.numpy as jnp
    >>> optimizer = sgd(0.2)
    >>> x = jnp.array(10.0)
    >>> updates, _ = optimizer.update(jax.grad(jnp.square)(x), optimizer.init(x))
    >>> optax.apply_updates(x, updates)
    Array(6., dtype=float32)
    """
    check_rate(learning_rate)
    check_not_negative(weight_decay=weight_decay)

    def init(params: Any) -> SGDState:
        return SGDState(start_step(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, SGDState]:
        direction = add_decay(widen(updates, updates if params is None else params), params, weight_decay, mask)
        return descend(direction, learning_rate, state.step, updates), SGDState(next_step(state.step))

    return optax.GradientTransformation(init, update)
