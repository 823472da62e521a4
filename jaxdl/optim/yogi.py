"""Yogi (Zaheer et al., 2018; D2L 12.10): Adam whose mean square moves by steps of g^2, up or down."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdl.optim.accumulators import descend, full_like, leaky_average, next_step, start_step, widen, without_bias
from jaxdl.optim.adam import AdamState
from jaxdl.optim.hyperparameters import Rate, check_fraction, check_not_negative, check_positive, check_rate


def yogi(
    learning_rate: Rate,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-3,
    *,
    initial_mean_square: float = 0.0,
) -> optax.GradientTransformation:
    """Adam with `s <- s + (1 - beta2) sign(g^2 - s) g^2`: s cannot forget fast what it has seen.

    Args:
      learning_rate: a number or a schedule.
      beta1: what is kept of the mean.
      beta2: how slowly s moves.
      eps: outside the root.
      initial_mean_square: s before the first step. Optax has 1e-6 and starts the mean of gradients there too.

    Raises:
      ValueError: at construction, if the rate or `initial_mean_square` is negative, a beta not in [0, 1) or `eps` not
        positive.
    """
    check_rate(learning_rate)
    check_fraction(beta1=beta1, beta2=beta2)
    check_positive(eps=eps)
    check_not_negative(initial_mean_square=initial_mean_square)

    def init(params: Any) -> AdamState:
        return AdamState(start_step(params), full_like(params), full_like(params, initial_mean_square))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, AdamState]:
        g = widen(updates, state.mean)
        mean = leaky_average(beta1, state.mean, g)
        mean_square = jax.tree.map(
            lambda s, g: (s + (1 - beta2) * jnp.sign(g**2 - s) * g**2).astype(s.dtype), state.mean_square, g
        )
        v, s = without_bias(beta1, mean, state.step), without_bias(beta2, mean_square, state.step)
        direction = jax.tree.map(lambda v, s: v / (jnp.sqrt(s) + eps), v, s)
        return descend(direction, learning_rate, state.step, updates), AdamState(
            next_step(state.step), mean, mean_square
        )

    return optax.GradientTransformation(init, update)
