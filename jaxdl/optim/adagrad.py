"""AdaGrad (Duchi, Hazan and Singer, 2011; D2L 12.7): a rate for each coordinate, by all its gradients so far."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdl.optim.accumulators import descend, full_like, next_step, start_step, widen
from jaxdl.optim.hyperparameters import Rate, check_not_negative, check_positive, check_rate


class AdagradState(NamedTuple):
    """Of `adagrad`: steps done, and s of the equations."""

    step: jax.Array
    sum_of_squares: Any


def adagrad(learning_rate: Rate, eps: float = 1e-6, *, initial_sum: float = 0.0) -> optax.GradientTransformation:
    """`s <- s + g^2; x <- x - rate * g / sqrt(s + eps)`.

    Args:
      learning_rate: a number or a schedule.
      eps: inside the root, as in the book and Optax; PyTorch's is outside.
      initial_sum: s before the first step; Optax has 0.1.

    Raises:
      ValueError: at construction, if the rate or `initial_sum` is negative or `eps` is not positive.
    """
    check_rate(learning_rate)
    check_positive(eps=eps)
    check_not_negative(initial_sum=initial_sum)

    def init(params: Any) -> AdagradState:
        return AdagradState(start_step(params), full_like(params, initial_sum))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, AdagradState]:
        g = widen(updates, state.sum_of_squares)
        s = jax.tree.map(lambda s, g: s + g**2, state.sum_of_squares, g)
        direction = jax.tree.map(lambda s, g: g / jnp.sqrt(s + eps), s, g)
        return descend(direction, learning_rate, state.step, updates), AdagradState(next_step(state.step), s)

    return optax.GradientTransformation(init, update)
