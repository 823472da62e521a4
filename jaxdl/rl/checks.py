"""What this room asks of its arguments.

Values are looked at where they are there, in NumPy, which compiles nothing: inside `jax.jit` and `jax.vmap` only shapes
and dtypes are known, and wrong values give wrong results or NaN.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike


def real_array(name: str, x: ArrayLike, *axes: str) -> jax.Array:
    """Finite numbers in float32 or float64; shorter floats become float32, integers what Python's floats are.

    Args:
      name: of the argument.
      x: an array with as many axes as are named, none of length 0; a scalar if none is named.
      *axes: their names, for the message.

    Raises:
      ValueError: if the numbers are not real, the rank is another, an axis is empty, or a known number is not finite.
    """
    x = jnp.asarray(x)
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    if not (floating or jnp.issubdtype(x.dtype, jnp.integer)):
        raise ValueError(f"{name}: expected real numbers, got {x.dtype}")
    if x.ndim != len(axes) or x.size == 0:
        expected = f"[{', '.join(axes)}], none of length 0" if axes else "a scalar"
        raise ValueError(f"{name}: expected {expected}, got shape {list(x.shape)}")
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32) if floating else float)
    check_values(name, x, np.isfinite, "finite numbers")
    return x


def check_values(name: str, x: jax.Array, fits: Callable[[np.ndarray], np.ndarray], expected: str) -> None:
    """Raises ValueError if a known number does not fit."""
    if not isinstance(x, Tracer):
        values = np.asarray(x)
        wrong = values[~fits(values)]
        if wrong.size:
            raise ValueError(f"{name}: expected {expected}, got {wrong.flat[0]}")


def distribution(name: str, p: ArrayLike, *axes: str) -> jax.Array:
    """Probabilities that sum to 1 over the last axis, as `real_array` gives them.

    A sum may be off by the square root of the given dtype's rounding unit: 3e-4 in float32, 1e-8 in float64.

    Raises:
      ValueError: as `real_array`, and if known numbers are negative or sum to something else.
    """
    given = jnp.asarray(p)
    p = real_array(name, given, *axes)
    check_values(name, p, lambda values: values >= 0, "probabilities of at least 0")
    if not isinstance(p, Tracer):
        sums = np.asarray(p).sum(-1)
        worst = sums.flat[np.abs(sums - 1).argmax()]
        dtype = given.dtype if jnp.issubdtype(given.dtype, jnp.floating) else p.dtype
        if abs(worst - 1) > float(jnp.finfo(dtype).eps) ** 0.5:
            raise ValueError(f"{name}: expected a sum of 1 over {axes[-1]}, the last axis, got {worst:.6g}")
    return p
