"""Projected gradient descent (D2L 12.2.3.3): a step, then back to the nearest point of a convex set."""

from collections.abc import Callable
from typing import Any

import jax
import optax


def projected(
    optimizer: optax.GradientTransformation, projection: Callable[[Any], Any]
) -> optax.GradientTransformation:
    """An optimiser whose parameters stay in a set, to rounding.

    Args:
      optimizer: takes the step.
      projection: from parameters to the nearest parameters in the set, such as those of `optax.projections`. (That onto
        a ball, `projection_l2_ball`, of gradients is `optax.clip_by_global_norm`.)

    Raises:
      ValueError: at the first update, if it comes without the parameters.

    >>> import jax.numpy as jnp
    >>> optimizer = projected(optax.sgd(1.0), optax.projections.projection_non_negative)
    >>> x = jnp.array([3.0, 1.0])
    >>> updates, _ = optimizer.update(jnp.array([1.0, 2.0]), optimizer.init(x), x)
    >>> optax.apply_updates(x, updates)
    Array([2., 0.], dtype=float32)
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        if params is None:
            raise ValueError("params: expected the parameters, as update(updates, state, params), to project; got None")
        updates, state = optimizer.update(updates, state, params)
        inside = projection(optax.apply_updates(params, updates))
        return jax.tree.map(lambda new, old: new - old, inside, params), state

    return optax.GradientTransformation(optimizer.init, update)
