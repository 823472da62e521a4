"""What all optimisers do with pytrees: accumulators that start, gradients that are widened, a step downhill.

Accumulators are at least float32, whatever the parameters: in bfloat16 `0.999 v + 0.001 g^2` rounds back to v, so a
second moment that had grown would never shrink. (Optax and PyTorch keep them in the dtype of the parameters.)
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import keystr

from jaxdl.optim.hyperparameters import Rate


def check_floating(params: Any) -> None:
    """Raises `ValueError` unless all parameters are arrays of real floating numbers."""
    for path, leaf in jax.tree.leaves_with_path(params):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ValueError(f"params: expected real floating arrays, got {jnp.result_type(leaf)}{_place(path)}")


def check_shapes(name: str, tree: Any, like: Any) -> None:
    """Raises `ValueError` unless each array of the argument `name` has the shape of its counterpart in `like`."""

    def leaf(path: Any, array: Any, other: Any) -> None:
        if jnp.shape(array) != jnp.shape(other):
            expected, got = list(jnp.shape(other)), list(jnp.shape(array))
            raise ValueError(f"{name}: expected shape {expected}, got {got}{_place(path)}")

    jax.tree.map_with_path(leaf, tree, like)


def _place(path: Any) -> str:
    return f" in {keystr(path, simple=True, separator='/')!r}" if path else ""


def start_step(params: Any) -> jax.Array:
    """The number of steps done, 0, once the parameters are known to be floating."""
    check_floating(params)
    return jnp.zeros((), jnp.int32)


def next_step(step: jax.Array) -> jax.Array:
    """One more, up to the largest int32."""
    return jnp.asarray(optax.safe_increment(step))


def full_like(params: Any, value: float = 0.0) -> Any:
    """Accumulators of the shapes of `params`, at least float32."""
    return jax.tree.map(lambda p: jnp.full_like(p, value, jnp.promote_types(jnp.result_type(p), jnp.float32)), params)


def widen(updates: Any, like: Any) -> Any:
    """The gradients that an optimiser is given, in the dtypes of `like` and at least float32.

    Raises:
      ValueError: if one has another shape than its counterpart in `like`.
    """
    check_shapes("updates", updates, like)
    for path, leaf in jax.tree.leaves_with_path(updates):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ValueError(f"updates: expected real floating arrays, got {jnp.result_type(leaf)}{_place(path)}")
    return jax.tree.map(
        lambda g, other: jnp.asarray(g, jnp.promote_types(jnp.result_type(other), jnp.float32)), updates, like
    )


def rate_at(learning_rate: Rate, step: jax.Array) -> Any:
    """The learning rate of a step.

    Raises:
      ValueError: if a schedule gives something else than a scalar.
    """
    rate = learning_rate(step) if callable(learning_rate) else learning_rate
    if jnp.ndim(rate) != 0:
        raise ValueError(f"learning_rate: expected a schedule that gives a scalar, got shape {list(jnp.shape(rate))}")
    return rate


def descend(direction: Any, learning_rate: Rate, step: jax.Array, like: Any) -> Any:
    """`-rate * direction`, in the dtypes of `like`, the gradients."""
    rate = rate_at(learning_rate, step)
    return jax.tree.map(lambda d, g: (-rate * d).astype(jnp.result_type(g)), direction, like)


def leaky_average(beta: float, average: Any, values: Any) -> Any:
    """`beta * average + (1 - beta) * values`."""
    return jax.tree.map(lambda a, x: (beta * a + (1 - beta) * x).astype(a.dtype), average, values)


def without_bias(beta: float, average: Any, step: jax.Array) -> Any:
    """A leaky average that began at zero, divided by the sum of its weights, `1 - beta^(step + 1)`."""
    # In float64 where beta is a number: float32's 0.999 would shift 1 - 0.999 by 1e-5.
    log_beta = jnp.log(beta) if isinstance(beta, jax.Array) else math.log(beta) if beta else -math.inf
    weight = -jnp.expm1(next_step(step) * log_beta)
    return jax.tree.map(lambda a: a / weight, average)
