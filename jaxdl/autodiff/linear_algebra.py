"""Rules of matrix products and of the factorisations that Gaussian processes need."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives

from jaxdl.autodiff.rules import LinearMap, register_rule

Array = jax.Array


@register_rule("dot_general")
def _matrix_product(
    x: Array,
    y: Array,
    *,
    output: Array,
    dimension_numbers: Any,
    precision: Any,
    preferred_element_type: Any,
    out_sharding: Any,
) -> list[LinearMap]:
    """For `z = x w`: the adjoints are `z_bar w^T` and `x^T z_bar`; in general, einsums over the same letters."""
    (x_contracted, y_contracted), (x_batch, y_batch) = dimension_numbers
    x_letters = list(range(x.ndim))
    y_letters = list(range(x.ndim, x.ndim + y.ndim))
    for i, j in zip((*x_contracted, *x_batch), (*y_contracted, *y_batch), strict=True):
        y_letters[j] = x_letters[i]
    batch = [x_letters[axis] for axis in x_batch]
    free = [letter for letter in (*x_letters, *y_letters) if (letter in x_letters) != (letter in y_letters)]
    output_letters = batch + free

    def product(left: Array, right: Array) -> Array:
        return primitives.dot_general_p.bind(
            left,
            right,
            dimension_numbers=dimension_numbers,
            precision=precision,
            preferred_element_type=preferred_element_type,
            out_sharding=out_sharding,
        )

    def pull_to(x: Array, x_letters: list[int], y: Array, y_letters: list[int]) -> Any:
        return lambda g: jnp.einsum(g, output_letters, y, y_letters, x_letters, precision=precision).astype(x.dtype)

    return [
        LinearMap(lambda t: product(t, y), pull_to(x, x_letters, y, y_letters)),
        LinearMap(lambda t: product(x, t), pull_to(y, y_letters, x, x_letters)),
    ]


@register_rule("triangular_solve")
def _triangular_solve(
    a: Array,
    b: Array,
    *,
    output: Array,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> list[LinearMap]:
    """From `a x = b`: `a dx = db - da x`."""

    def solve(right_side: Array, transpose_a: bool = transpose_a) -> Array:
        return lax.linalg.triangular_solve(
            a, right_side, left_side=left_side, lower=lower, transpose_a=transpose_a, unit_diagonal=unit_diagonal
        )

    def push_a(t: Array) -> Array:
        offset = -1 if unit_diagonal else 0  # only the triangle that the solver reads has a say
        t = jnp.tril(t, offset) if lower else jnp.triu(t, -offset)
        t = t.mT if transpose_a else t
        return -solve(t @ output if left_side else output @ t)

    return [LinearMap(push_a), LinearMap(solve, lambda g: solve(g, not transpose_a))]


@register_rule("cholesky")
def _cholesky(a: Array, *, output: Array) -> LinearMap:
    """From `L L^T = a`: `dL = L phi(L^-1 da L^-T)`, phi: the lower triangle with half the diagonal (Murray, 2016)."""
    factor = jnp.tril(output)  # the primitive leaves anything in the other triangle

    def solve(right_side: Array, *, left_side: bool) -> Array:
        return lax.linalg.triangular_solve(
            factor, right_side, left_side=left_side, lower=True, transpose_a=not left_side
        )

    def push(t: Array) -> Array:
        inner = solve(solve(t, left_side=False), left_side=True)
        return factor @ (jnp.tril(inner) - inner * jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype) / 2, a.shape))

    return LinearMap(push)
