"""What this room asks of its arguments.

Values are looked at where they are there: inside `jax.jit`, `jax.vmap` and `jax.grad` only shapes and dtypes are known,
and wrong values give wrong results or NaN. They are looked at in NumPy, which compiles nothing.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike


def is_concrete(x: object) -> bool:
    """Whether the values are known, and not only shape and dtype."""
    return not isinstance(x, Tracer)


def real_array(name: str, x: ArrayLike, rank: int | None = None) -> jax.Array:
    """An array of float32 or float64 (shorter floats become float32, integers what Python's floats are), of some rank.

    Raises:
      ValueError: if it is not of real numbers, or of another rank.
    """
    x = jnp.asarray(x)
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    if not (floating or jnp.issubdtype(x.dtype, jnp.integer) or x.dtype == bool):
        raise ValueError(f"{name}: expected real numbers, got {x.dtype}")
    if rank is not None and x.ndim != rank:
        raise ValueError(f"{name}: expected an array of rank {rank}, got shape {list(x.shape)}")
    return x.astype(jnp.promote_types(x.dtype, jnp.float32) if floating else float)


def check_values(name: str, x: jax.Array, low: float, high: float, expected: str) -> None:
    """Raises ValueError if a number that is known is NaN or outside [low, high]."""
    if is_concrete(x):
        values = np.asarray(x)
        wrong = values[~((values >= low) & (values <= high))]
        if wrong.size:
            raise ValueError(f"{name}: expected {expected}, got {wrong.flat[0]}")


def distribution(name: str, p: ArrayLike, axes: int = 1) -> jax.Array:
    """Probabilities that sum to 1 over the last `axes` axes, in float32 or float64; leading axes are a batch.

    The sum may be off by the square root of the dtype's rounding unit: 3e-4 in float32, 1e-8 in float64.

    Raises:
      ValueError: if the rank is too low, there is no outcome, or numbers that are known are negative, NaN or sum to
        something else.
    """
    given = jnp.asarray(p)
    shape, p = given.shape, real_array(name, given)
    if len(shape) < axes or 0 in shape[len(shape) - axes :]:
        form = ", ".join(["..."] + ["outcomes"] * axes)
        raise ValueError(f"{name}: expected [{form}] with at least one outcome, got shape {list(shape)}")
    check_values(name, p, 0, np.inf, "probabilities of at least 0")
    if is_concrete(p) and p.size:
        sums = np.asarray(p).sum(tuple(range(-axes, 0)))
        worst = sums.flat[np.abs(sums - 1).argmax()]
        dtype = given.dtype if jnp.issubdtype(given.dtype, jnp.floating) else p.dtype
        if abs(worst - 1) > float(jnp.finfo(dtype).eps) ** 0.5:
            over = "the last axis" if axes == 1 else f"the last {axes} axes"
            raise ValueError(f"{name}: expected a sum of 1 over {over}, got {worst:.6g}")
    return p


def same_shape(name: str, x: jax.Array, other_name: str, other: jax.Array) -> None:
    """Raises ValueError if the shapes differ: nothing is broadcast."""
    if x.shape != other.shape:
        raise ValueError(f"{name}: expected the shape of {other_name} {list(other.shape)}, got {list(x.shape)}")


def positive(name: str, value: float) -> None:
    """Raises ValueError if a Python number is not above 0."""
    if not value > 0:
        raise ValueError(f"{name}: expected a positive number, got {value}")


def open_unit(name: str, value: float) -> None:
    """Raises ValueError if a Python number is not above 0 and below 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name}: expected a number above 0 and below 1, got {value}")
