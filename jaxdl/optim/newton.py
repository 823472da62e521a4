"""Second-order steps (D2L 12.3.3, 12.3.4): Newton's method, and the diagonal of the Hessian as preconditioner."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxdl.optim.accumulators import check_floating
from jaxdl.optim.hyperparameters import check_not_negative

Objective = Callable[[Any], jax.Array]  # params -> scalar


def newton_step(function: Objective, params: Any, learning_rate: float = 1.0) -> Any:
    """`x - rate * H^-1 g`: on a quadratic, one step of rate 1 ends where the gradient is 0.

    The step goes to a stationary point of the local parabola, which is a maximum or a saddle where the Hessian H is not
    positive definite. A singular H gives infinite or NaN parameters. Memory is the square of the number of parameters.

    Args:
      function: of the parameters, to a scalar.
      params: a pytree of floating arrays.
      learning_rate: at least 0.

    Raises:
      ValueError: if `learning_rate` is negative, a parameter not floating, or `function` gives no scalar.
    """
    x, gradient, unravel, flat_function = _flatten(function, params, learning_rate)
    return unravel(x - learning_rate * jnp.linalg.solve(jax.hessian(flat_function)(x), gradient))


def preconditioned_step(function: Objective, params: Any, learning_rate: float = 1.0, eps: float = 1e-8) -> Any:
    """`x - rate * g / (|diag H| + eps)`: each coordinate on a scale of its own, always downhill for a small rate.

    The book has no absolute value; there a coordinate with negative curvature climbs.

    Args:
      function: of the parameters, to a scalar.
      params: a pytree of floating arrays.
      learning_rate: at least 0.
      eps: at least 0; bounds the step where a curvature is 0.

    Raises:
      ValueError: if `learning_rate` or `eps` is negative, a parameter not floating, or `function` gives no scalar.
    """
    check_not_negative(eps=eps)
    x, gradient, unravel, flat_function = _flatten(function, params, learning_rate)
    return unravel(x - learning_rate * gradient / (jnp.abs(_diagonal(flat_function, x)) + eps))


def hessian_diagonal(function: Objective, params: Any) -> Any:
    """The second derivative in each parameter, in the structure of `params`; a Hessian-vector product for each.

    The products run one after the other, so memory is that of one.

    Raises:
      ValueError: if a parameter is not floating, or `function` gives no scalar.
    """
    x, _, unravel, flat_function = _flatten(function, params, 0.0)
    return unravel(_diagonal(flat_function, x))


def _diagonal(function: Objective, x: jax.Array) -> jax.Array:
    if x.size == 0:  # no scan body can index into it
        return x

    def second_derivative(i: jax.Array) -> jax.Array:
        unit = jnp.zeros_like(x).at[i].set(1)
        return jax.jvp(jax.grad(function), (x,), (unit,))[1][i]

    return jax.lax.map(second_derivative, jnp.arange(x.size))


def _flatten(function: Objective, params: Any, learning_rate: float) -> tuple[jax.Array, jax.Array, Any, Objective]:
    check_not_negative(learning_rate=learning_rate)
    check_floating(params)
    x, unravel = ravel_pytree(params)
    unravel_narrow, narrow = unravel, x.dtype  # LAPACK has no half precision
    x, unravel = x.astype(jnp.promote_types(narrow, jnp.float32)), lambda x: unravel_narrow(x.astype(narrow))

    def flat_function(x: jax.Array) -> jax.Array:
        value = function(unravel(x))
        if jnp.shape(value) != ():
            raise ValueError(f"function: expected a scalar, got shape {list(jnp.shape(value))}")
        return value

    return x, jax.grad(flat_function)(x), unravel, flat_function
