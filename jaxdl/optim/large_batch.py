"""Optimisers for large batches (systems course, 23.9): each array of parameters has a rate by its own norm."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdl.optim.accumulators import descend, full_like, next_step, rate_at, start_step, widen
from jaxdl.optim.adam import AdamState, adam_direction
from jaxdl.optim.hyperparameters import Rate, check_fraction, check_not_negative, check_positive, check_rate
from jaxdl.optim.weight_decay import Mask, add_decay, apply_mask, require


class LARSState(NamedTuple):
    """Of `lars`: steps done, and v of the equations."""

    step: jax.Array
    velocity: Any


def lars(
    learning_rate: Rate,
    beta: float = 0.9,
    *,
    trust_coefficient: float = 1e-3,
    weight_decay: float = 0.0,
    weight_decay_mask: Mask = None,
    trust_ratio_mask: Mask = None,
) -> optax.GradientTransformation:
    """LARS (You, Gitman and Ginsburg, 2017): momentum with layer-wise rates.

        local = trust_coefficient * |x| / (|g| + weight_decay * |x|)
        v <- beta v + rate * local * (g + weight_decay * x)
        x <- x - v

    Args:
      learning_rate: a number or a schedule.
      beta: what is kept of the velocity.
      trust_coefficient: the share of its norm that an array moves by, at rate 1.
      weight_decay: 0 for none.
      weight_decay_mask: which parameters decay, as in `apply_mask`; None for all.
      trust_ratio_mask: which have a local rate; None for all. Of the others it is 1, as it is where a norm is 0.
        Biases and scales of normalisations are usually left out of both.

    Raises:
      ValueError: at construction, if a hyperparameter is out of its range.

    Note: Optax divides by `|g + weight_decay * x|`, which is the same without decay.
    """
    check_rate(learning_rate)
    check_fraction(beta=beta)
    check_positive(trust_coefficient=trust_coefficient)
    check_not_negative(weight_decay=weight_decay)

    def init(params: Any) -> LARSState:
        return LARSState(start_step(params), full_like(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, LARSState]:
        require(params, "norms of layers")
        g, x = widen(updates, state.velocity), widen(params, state.velocity)
        direction = add_decay(g, x, weight_decay, weight_decay_mask)
        decays, trusts = apply_mask(weight_decay_mask, params), apply_mask(trust_ratio_mask, params)

        def local_rate(x: jax.Array, g: jax.Array, decays: bool, trusts: bool) -> Any:
            gradient_norm = _norm(g) + (weight_decay * _norm(x) if decays else 0)
            return _ratio(trust_coefficient * _norm(x), gradient_norm) if trusts else 1.0

        rates, rate = jax.tree.map(local_rate, x, g, decays, trusts), rate_at(learning_rate, state.step)
        v = jax.tree.map(
            lambda v, d, local: (beta * v + rate * local * d).astype(v.dtype), state.velocity, direction, rates
        )
        return descend(v, 1.0, state.step, updates), LARSState(next_step(state.step), v)

    return optax.GradientTransformation(init, update)


def lamb(
    learning_rate: Rate,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-6,
    *,
    weight_decay: float = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformation:
    """LAMB (You et al., 2020, algorithm 2): AdamW's direction, of each array as long as the array itself.

        r = v' / (sqrt(s') + eps) + weight_decay * x        v' and s' as in `adam`
        x <- x - rate * |x| / |r| * r

    Args:
      learning_rate: a number or a schedule; the share of its norm that an array moves by.
      beta1: as in `adam`.
      beta2: as in `adam`.
      eps: as in `adam`.
      weight_decay: 0 for none.
      mask: which parameters decay, as in `apply_mask`; None for all.

    Raises:
      ValueError: at construction, if a hyperparameter is out of its range.

    Note: where a norm is 0 the ratio is 1, as in Optax.
    """
    check_rate(learning_rate)
    check_fraction(beta1=beta1, beta2=beta2)
    check_positive(eps=eps)
    check_not_negative(weight_decay=weight_decay)

    def init(params: Any) -> AdamState:
        return AdamState(start_step(params), full_like(params), full_like(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, AdamState]:
        require(params, "norms of layers")
        x = widen(params, state.mean)
        r, new_state = adam_direction(updates, state, beta1, beta2, eps)
        r = add_decay(r, x, weight_decay, mask)
        r = jax.tree.map(lambda r, x: _ratio(_norm(x), _norm(r)) * r, r, x)
        return descend(r, learning_rate, state.step, updates), new_state

    return optax.GradientTransformation(init, update)


def _norm(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(x)))


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """1 where either is 0."""
    usable = (numerator > 0) & (denominator > 0)
    return jnp.where(usable, numerator / jnp.where(usable, denominator, 1), 1)
