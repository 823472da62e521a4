"""The path of an optimiser over a function that is given by its gradient."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


def trajectory(
    gradient: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    params: Any,
    num_steps: int,
    key: jax.Array | None = None,
) -> Any:
    """Runs an optimiser and keeps every point.

    Args:
      gradient: of the parameters; with `key`, of the parameters and the step's key.
      optimizer: any Optax transformation.
      params: the first point, a pytree of floating arrays.
      num_steps: 0 or more.
      key: of the noise, if the gradient has some.

    Returns:
      The parameters with a leading axis of `num_steps + 1`, the first point and that after each step.

    Raises:
      ValueError: if `num_steps` is negative.

    >>> import jax.numpy as jnp
    >>> trajectory(jax.grad(jnp.square), optax.sgd(0.25), jnp.array(8.0), 3)
    Array([8., 4., 2., 1.], dtype=float32)
    """
    if num_steps < 0:
        raise ValueError(f"num_steps: expected 0 or more, got {num_steps}")
    params = jax.tree.map(jnp.asarray, params)

    def step(carry: tuple[Any, Any], i: jax.Array) -> tuple[tuple[Any, Any], Any]:
        params, state = carry
        grads = gradient(params) if key is None else gradient(params, jax.random.fold_in(key, i))
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    _, points = jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(num_steps))
    return jax.tree.map(lambda first, later: jnp.concatenate([first[None], later]), params, points)
