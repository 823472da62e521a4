"""Momentum (D2L 12.6): the heavy ball, the average of gradients, and Nesterov's look ahead.

    heavy ball   v <- beta v + g                x <- x - rate * v
    averaged     u <- beta u + (1 - beta) g     x <- x - rate * u, or u / (1 - beta^(t+1)) without its bias towards 0
    Nesterov     v <- beta v + g                x <- x - rate * (g + beta v)

With a constant rate the average is the heavy ball at `(1 - beta) rate`.
"""

from typing import Any, NamedTuple

import jax
import optax

from jaxdl.optim.accumulators import descend, full_like, leaky_average, next_step, start_step, widen, without_bias
from jaxdl.optim.hyperparameters import Rate, check_fraction, check_rate


class MomentumState(NamedTuple):
    """Of `momentum`, `averaged_momentum` and `nesterov`: steps done, and v or u of the equations."""

    step: jax.Array
    velocity: Any


def momentum(learning_rate: Rate, beta: float = 0.9) -> optax.GradientTransformation:
    """The heavy ball (Polyak, 1964): a gradient counts for `1 / (1 - beta)` steps.

    As in D2L, PyTorch's `SGD(momentum=beta)` and `optax.sgd(momentum=beta)`, the rate is outside the velocity.

    Args:
      learning_rate: a number or a schedule.
      beta: what is kept of the velocity.

    Raises:
      ValueError: at construction, if the rate is negative or `beta` not in [0, 1).
    """
    return _with_velocity(learning_rate, beta, lookahead=False)


def nesterov(learning_rate: Rate, beta: float = 0.9) -> optax.GradientTransformation:
    """Nesterov's accelerated gradient (1983), in the form of PyTorch and Optax, for gradients taken where x stands.

    The textbook takes the gradient ahead, `g(y - rate * beta * v)`, and moves y by `-rate * v`. With a constant rate
    our x is that point ahead, `x = y - rate * beta * v`; both tend to the same end.

    Args:
      learning_rate: a number or a schedule.
      beta: what is kept of the velocity.

    Raises:
      ValueError: at construction, if the rate is negative or `beta` not in [0, 1).
    """
    return _with_velocity(learning_rate, beta, lookahead=True)


def _with_velocity(learning_rate: Rate, beta: float, lookahead: bool) -> optax.GradientTransformation:
    check_rate(learning_rate)
    check_fraction(beta=beta)

    def init(params: Any) -> MomentumState:
        return MomentumState(start_step(params), full_like(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, MomentumState]:
        g = widen(updates, state.velocity)
        v = jax.tree.map(lambda v, g: (beta * v + g).astype(v.dtype), state.velocity, g)
        direction = jax.tree.map(lambda v, g: g + beta * v, v, g) if lookahead else v
        return descend(direction, learning_rate, state.step, updates), MomentumState(next_step(state.step), v)

    return optax.GradientTransformation(init, update)


def averaged_momentum(
    learning_rate: Rate, beta: float = 0.9, *, bias_correction: bool = True
) -> optax.GradientTransformation:
    """Momentum as a leaky average of gradients, of the size of one gradient (systems course, 23.4).

    Args:
      learning_rate: a number or a schedule.
      beta: what is kept of the average.
      bias_correction: divide by `1 - beta^(t+1)`, so that the first steps are as large as the later ones.

    Raises:
      ValueError: at construction, if the rate is negative or `beta` not in [0, 1).

    Note: PyTorch's `dampening=beta` starts its average at the first gradient instead of at zero.
    """
    check_rate(learning_rate)
    check_fraction(beta=beta)

    def init(params: Any) -> MomentumState:
        return MomentumState(start_step(params), full_like(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, MomentumState]:
        u = leaky_average(beta, state.velocity, widen(updates, state.velocity))
        direction = without_bias(beta, u, state.step) if bias_correction else u
        return descend(direction, learning_rate, state.step, updates), MomentumState(next_step(state.step), u)

    return optax.GradientTransformation(init, update)
