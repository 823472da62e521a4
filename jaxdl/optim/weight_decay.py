"""Weight decay (D2L 3.7; Loshchilov and Hutter, 2019), of all parameters or of those that a mask names."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Mask = Any | Callable[[Any], Any] | None  # of booleans, a pytree or a function that makes it from the parameters


def apply_mask(mask: Mask, params: Any) -> Any:
    """A boolean for each parameter, in the structure of `params`.

    Args:
      mask: None for all; booleans in the structure of `params` or a prefix of it; or a function of `params` that gives
        them, such as `jaxdl.nn.weight_mask`.
      params: the parameters.

    Raises:
      ValueError: if the mask does not fit the parameters or has something else than booleans.
    """
    mask = True if mask is None else mask(params) if callable(mask) else mask
    for leaf in jax.tree.leaves(mask):
        if not isinstance(leaf, bool | np.bool_):
            raise ValueError(f"mask: expected booleans, got {leaf!r}")
    return jax.tree.map(lambda flag, subtree: jax.tree.map(lambda _: flag, subtree), mask, params)


def add_decay(direction: Any, params: Any, weight_decay: float, mask: Mask = None) -> Any:
    """`direction + weight_decay * params`, where the mask is True.

    Raises:
      ValueError: if there is decay and `params` is None.
    """
    if isinstance(weight_decay, int | float) and weight_decay == 0:
        return direction
    require(params, "weight decay")

    def add(direction: jax.Array, param: jax.Array, flag: bool) -> jax.Array:
        return direction + weight_decay * jnp.asarray(param, direction.dtype) if flag else direction

    flags = apply_mask(mask, params)
    return jax.tree.map(add, direction, params, flags)


def require(params: Any, reason: str) -> None:
    """Raises `ValueError` if `params` is None."""
    if params is None:
        raise ValueError(f"params: expected the parameters, as update(updates, state, params), for {reason}; got None")
