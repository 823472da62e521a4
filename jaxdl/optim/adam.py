"""Adam (Kingma and Ba, 2015; D2L 12.10), and with weight decay beside the gradient (Loshchilov and Hutter, 2019)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdl.optim.accumulators import descend, full_like, leaky_average, next_step, start_step, widen, without_bias
from jaxdl.optim.hyperparameters import Rate, check_fraction, check_not_negative, check_positive, check_rate
from jaxdl.optim.weight_decay import Mask, add_decay


class AdamState(NamedTuple):
    """Of `adam`, `adamw`, `yogi` and `lamb`: steps done, leaky averages of the gradient and of its square."""

    step: jax.Array
    mean: Any
    mean_square: Any


def adam(
    learning_rate: Rate, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, *, bias_correction: bool = True
) -> optax.GradientTransformation:
    """Momentum over the root of the mean square.

        v <- beta1 v + (1 - beta1) g
        s <- beta2 s + (1 - beta2) g^2
        x <- x - rate * v' / (sqrt(s') + eps),   v' = v / (1 - beta1^(t+1)),   s' = s / (1 - beta2^(t+1))

    Args:
      learning_rate: a number or a schedule; a step is at most about this long in each coordinate.
      beta1: what is kept of the mean.
      beta2: what is kept of the mean square.
      eps: outside the root; the book has 1e-6.
      bias_correction: False takes v and s as they are, which start at zero; the first step is then
        `(1 - beta1) / sqrt(1 - beta2)` times as long.

    Raises:
      ValueError: at construction, if the rate is negative, a beta not in [0, 1) or `eps` not positive.
    """
    return adamw(learning_rate, beta1, beta2, eps, weight_decay=0.0, bias_correction=bias_correction)


def adamw(
    learning_rate: Rate,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    *,
    weight_decay: float = 1e-2,
    mask: Mask = None,
    bias_correction: bool = True,
) -> optax.GradientTransformation:
    """Adam whose weights decay by `rate * weight_decay` a step, apart from the gradient and its averages.

    Args:
      learning_rate: a number or a schedule.
      beta1: as in `adam`.
      beta2: as in `adam`.
      eps: as in `adam`.
      weight_decay: the default is PyTorch's; Optax has 1e-4.
      mask: which parameters decay, as in `apply_mask`; None for all.
      bias_correction: as in `adam`.

    Raises:
      ValueError: at construction, as `adam`, or if `weight_decay` is negative.
    """
    check_rate(learning_rate)
    check_fraction(beta1=beta1, beta2=beta2)
    check_positive(eps=eps)
    check_not_negative(weight_decay=weight_decay)

    def init(params: Any) -> AdamState:
        return AdamState(start_step(params), full_like(params), full_like(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, AdamState]:
        direction, new_state = adam_direction(updates, state, beta1, beta2, eps, bias_correction)
        direction = add_decay(direction, params, weight_decay, mask)
        return descend(direction, learning_rate, state.step, updates), new_state

    return optax.GradientTransformation(init, update)


def adam_direction(
    updates: Any, state: AdamState, beta1: float, beta2: float, eps: float, bias_correction: bool = True
) -> tuple[Any, AdamState]:
    """What Adam goes along, at least float32, and its next state."""
    g = widen(updates, state.mean)
    mean = leaky_average(beta1, state.mean, g)
    mean_square = leaky_average(beta2, state.mean_square, jax.tree.map(jnp.square, g))
    v, s = mean, mean_square
    if bias_correction:
        v, s = without_bias(beta1, v, state.step), without_bias(beta2, s, state.step)
    direction = jax.tree.map(lambda v, s: v / (jnp.sqrt(s) + eps), v, s)
    return direction, AdamState(next_step(state.step), mean, mean_square)
