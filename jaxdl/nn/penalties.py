"""Penalties on the size of the weights, which leave the biases alone (D2L 3.7).

A weight is an array of two or more axes: kernels and embeddings are, biases and the scales of a normalisation are not,
nor those of `RepeatedBlocks`, which are stacked and told by their names.
In a loss of sums a penalty is multiplied by the count: `Mean(total + count * rate * nn.l2_penalty(params), count)`.
"""

from typing import Any

import jax
import jax.numpy as jnp


def weight_mask(params: Any) -> Any:
    """True for each weight, False for each bias, in the structure of `params`.

    It is what Optax asks for as a mask: `optax.add_decayed_weights(rate, mask=nn.weight_mask)`.

    >>> weight_mask({"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)})
    {'bias': False, 'kernel': True}
    """
    return jax.tree.map_with_path(lambda path, x: jnp.ndim(x) >= 2 and _name(path) not in ("bias", "scale"), params)


def kernel_mask(params: Any) -> Any:
    """True for each array named `kernel`: what decays in a transformer, where embeddings and positions do not either.

    >>> kernel_mask({"embedding": jnp.ones((5, 3)), "kernel": jnp.ones((3, 3)), "scale": jnp.ones(3)})
    {'embedding': False, 'kernel': True, 'scale': False}
    """
    return jax.tree.map_with_path(lambda path, _: _name(path) == "kernel", params)


def _name(path: Any) -> str | None:
    """The last name on the way to an array; None for one that stands in a list or alone."""
    return getattr(path[-1], "key", None) if path else None


def l2_penalty(params: Any) -> jax.Array:
    """Half the sum of the squares of all weights; its gradient is the weights themselves.

    For plain SGD a loss with `rate` times this is decay of the weights by `learning_rate * rate` a step; for Adam it
    is not (Loshchilov and Hutter, 2019).

    >>> l2_penalty({"kernel": jnp.array([[3.0, 4.0]]), "bias": jnp.ones(2)})
    Array(12.5, dtype=float32)
    """
    return jnp.asarray(sum(jnp.sum(jnp.square(x)) for x in _weights(params)) / 2)


def l1_penalty(params: Any) -> jax.Array:
    """The sum of the absolute values of all weights; it drives single weights to zero.

    >>> l1_penalty({"kernel": jnp.array([[3.0, -4.0]]), "bias": jnp.ones(2)})
    Array(7., dtype=float32)
    """
    return jnp.asarray(sum(jnp.sum(jnp.abs(x)) for x in _weights(params)))


def _weights(params: Any) -> list[jax.Array]:
    """At least float32, so that a sum over many halves does not stop growing."""
    weights = [jnp.asarray(x) for x in jax.tree.leaves(params) if jnp.ndim(x) >= 2]
    if not weights:
        raise ValueError("params: expected at least one array of two or more axes, got none")
    return [x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in weights]
