"""Rules of sums, products, extrema, and of their cumulative kin."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.autodiff.rules import LinearMap, register_linear, register_rule

Array = jax.Array


def _spread(array: Array, like: Array, axes: Any) -> Array:
    """Broadcasts along the axes that a reduction took away."""
    return lax.broadcast_in_dim(array, like.shape, [axis for axis in range(like.ndim) if axis not in axes])


register_linear("reduce_sum", lambda adjoint, x, *, axes, out_sharding: _spread(adjoint, x, axes))


@register_rule("reduce_max", "reduce_min")
def _extremum(x: Array, *, output: Array, axes: Any, out_sharding: Any = None) -> LinearMap:
    """Equal extrema share the gradient evenly, as in JAX."""
    hits = (x == _spread(output, x, axes)).astype(x.dtype)
    weights = hits / _spread(hits.sum(axes), x, axes)
    return LinearMap(lambda t: (weights * t).sum(axes), lambda g: weights * _spread(g, x, axes))


@register_rule("reduce_prod")
def _product(x: Array, *, output: Array, axes: Any, out_sharding: Any = None) -> LinearMap:
    """The derivative by each factor is the product of the others, without a division: factors may be zero."""
    axes = tuple(axes)
    front = jnp.moveaxis(x, axes, range(len(axes)))
    flat = front.reshape(-1, *front.shape[len(axes) :])  # [factors, ...]
    ones = jnp.ones((1, *flat.shape[1:]), x.dtype)
    before = jnp.concatenate([ones, lax.cumprod(flat[:-1])])
    after = jnp.concatenate([lax.cumprod(flat[1:], reverse=True), ones])
    others = jnp.moveaxis((before * after)[: len(flat)].reshape(front.shape), range(len(axes)), axes)
    return LinearMap(lambda t: (others * t).sum(axes), lambda g: others * _spread(g, x, axes))


register_linear("cumsum", lambda adjoint, x, *, axis, reverse: lax.cumsum(adjoint, axis=axis, reverse=not reverse))


def _register_cumulative(name: str, combine: Callable[..., tuple[Array, Array]]) -> None:
    """Registers a cumulative operation by what it does to two (value, tangent) pairs, in a parallel scan."""

    @register_rule(name)
    def rule(x: Array, *, output: Array, axis: int, reverse: bool) -> LinearMap:
        def push(t: Array) -> Array:
            return lax.associative_scan(lambda left, right: combine(*left, *right), (x, t), reverse, axis)[1]

        return LinearMap(push)


def _log_add(x: Array, t: Array, y: Array, u: Array) -> tuple[Array, Array]:
    return jnp.logaddexp(x, y), lax.logistic(x - y) * t + lax.logistic(y - x) * u


def _choose(compare: Callable[[Array, Array], Array]) -> Callable[..., tuple[Array, Array]]:
    def combine(x: Array, t: Array, y: Array, u: Array) -> tuple[Array, Array]:
        chosen = jnp.where(x == y, 0.5 * (t + u), jnp.where(compare(x, y), t, u))  # the earlier and the later share
        return jnp.where(compare(x, y), x, y), chosen

    return combine


_register_cumulative("cumprod", lambda x, t, y, u: (x * y, x * u + t * y))
_register_cumulative("cumlogsumexp", _log_add)
_register_cumulative("cummax", _choose(jnp.greater))
_register_cumulative("cummin", _choose(jnp.less))
