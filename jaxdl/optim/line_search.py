"""How far to go along a direction (D2L 12.3.3.4): until the slope is 0, or until the function has fallen enough.

Both are compiled code: they work under `jit`, `vmap` and in a scan.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdl.optim.accumulators import check_floating, check_shapes
from jaxdl.optim.hyperparameters import check_count, check_number, check_positive

Objective = Callable[[Any], jax.Array]  # params -> scalar


def bisection_line_search(
    function: Objective, params: Any, direction: Any, upper: float = 1.0, num_halvings: int = 50
) -> jax.Array:
    """The rate in `[0, upper]` that minimises `function(params + rate * direction)`, convex along the direction.

    Halves the interval where the slope changes its sign. `upper` comes back where the function still falls there, and
    about 0 where it does not fall at all.

    Args:
      function: of the parameters, to a scalar.
      params: a pytree of floating arrays.
      direction: of the structure of `params`, such as minus the gradient.
      upper: the longest rate.
      num_halvings: leave an interval of `upper / 2^num_halvings`.

    Raises:
      ValueError: if a parameter is not floating, a direction has another shape than its parameter, `upper` is not
        positive or `num_halvings` not an integer of at least 1.
    """
    check_floating(params)
    check_shapes("direction", direction, params)
    check_positive(upper=upper)
    check_count(num_halvings=num_halvings)

    def slope(rate: jax.Array) -> jax.Array:
        return jax.jvp(lambda rate: function(_move(params, direction, rate)), (rate,), (jnp.ones_like(rate),))[1]

    def halve(_: Any, interval: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = interval
        middle = (low + high) / 2
        falls = slope(middle) < 0
        return jnp.where(falls, middle, low), jnp.where(falls, high, middle)

    high = jnp.asarray(upper, jnp.promote_types(jnp.result_type(*jax.tree.leaves(params)), jnp.float32))
    low, high = jax.lax.fori_loop(0, num_halvings, halve, (jnp.zeros_like(high), high))
    return jnp.where(slope(jnp.full_like(high, upper)) < 0, upper, (low + high) / 2)


def backtracking_line_search(
    function: Objective,
    params: Any,
    direction: Any,
    initial: float = 1.0,
    *,
    shrink: float = 0.5,
    slope: float = 1e-4,
    max_shrinks: int = 50,
) -> jax.Array:
    """The first of the rates `initial * shrink^k` at which the function has fallen enough (Armijo, 1966).

    Enough is `f(x + rate * d) <= f(x) + slope * rate * <g, d>`. A NaN or infinite value is not a fall.

    Args:
      function: of the parameters, to a scalar.
      params: a pytree of floating arrays.
      direction: of the structure of `params`, downhill.
      initial: the first rate.
      shrink: what a rate is multiplied by, in (0, 1).
      slope: the share of the slope at the start that is asked for, in (0, 1).
      max_shrinks: how often; then the rate is 0, as it is where the direction is not downhill.

    Raises:
      ValueError: if a parameter is not floating, a direction has another shape than its parameter, or a number is out
        of its range.
    """
    check_floating(params)
    check_shapes("direction", direction, params)
    check_positive(initial=initial)
    check_count(max_shrinks=max_shrinks)
    for name, value in (("shrink", shrink), ("slope", slope)):
        check_number(name, value, "a number in (0, 1)", lambda x: 0 < x < 1)
    value, derivative = jax.jvp(function, (params,), (direction,))

    def fallen(rate: jax.Array) -> jax.Array:
        new = function(_move(params, direction, rate))
        return jnp.isfinite(new) & (new <= value + slope * rate * derivative)

    def too_long(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        count, rate = state
        return (count < max_shrinks) & ~fallen(rate)

    start = jnp.zeros((), jnp.int32), jnp.asarray(initial, value.dtype)
    _, rate = jax.lax.while_loop(too_long, lambda state: (state[0] + 1, state[1] * shrink), start)
    return jnp.where((derivative < 0) & fallen(rate), rate, 0)


def _move(params: Any, direction: Any, rate: jax.Array) -> Any:
    return optax.apply_updates(params, jax.tree.map(lambda d: rate * d, direction))
