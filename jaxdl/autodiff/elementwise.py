"""Rules of primitives that work element by element; what is not smooth follows JAX at its kinks."""

from math import log, pi, sqrt
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.autodiff.rules import (
    LinearMap,
    fit,
    register_constant,
    register_elementwise,
    register_linear,
    register_rule,
    unfit,
)

Array = jax.Array

# Of each function y of x: its derivative.
UNARY: dict[str, Any] = {
    "sin": lambda x, y: jnp.cos(x),
    "cos": lambda x, y: -jnp.sin(x),
    "tan": lambda x, y: 1 + y * y,
    "asin": lambda x, y: lax.rsqrt((1 - x) * (1 + x)),
    "acos": lambda x, y: -lax.rsqrt((1 - x) * (1 + x)),
    "atan": lambda x, y: 1 / (1 + x * x),
    "sinh": lambda x, y: jnp.cosh(x),
    "cosh": lambda x, y: jnp.sinh(x),
    "tanh": lambda x, y: (1 - y) * (1 + y),
    "asinh": lambda x, y: lax.rsqrt(x * x + 1),
    "acosh": lambda x, y: lax.rsqrt((x - 1) * (x + 1)),
    "atanh": lambda x, y: 1 / ((1 - x) * (1 + x)),
    "exp": lambda x, y: y,
    "exp2": lambda x, y: log(2) * y,
    "expm1": lambda x, y: y + 1,
    "log": lambda x, y: 1 / x,
    "log1p": lambda x, y: 1 / (1 + x),
    "log2": lambda x, y: 1 / (log(2) * x),
    "sqrt": lambda x, y: 0.5 / y,
    "rsqrt": lambda x, y: -0.5 * y / x,
    "cbrt": lambda x, y: y / (3 * x),
    "square": lambda x, y: 2 * x,
    "one_minus_square": lambda x, y: -2 * x,
    "abs": lambda x, y: jnp.sign(x),
    "logistic": lambda x, y: y * (1 - y),
    "erf": lambda x, y: 2 / sqrt(pi) * jnp.exp(-x * x),
    "erfc": lambda x, y: -2 / sqrt(pi) * jnp.exp(-x * x),
    "erf_inv": lambda x, y: sqrt(pi) / 2 * jnp.exp(y * y),
    "lgamma": lambda x, y: lax.digamma(x),
    "digamma": lambda x, y: lax.polygamma(jnp.ones_like(x), x),
}


def _larger(x: Array, y: Array) -> Array:
    """1 where x is larger, 0 where y is, and one half where they are equal: both share the gradient."""
    return jnp.where(x == y, 0.5, jnp.where(x > y, 1.0, 0.0)).astype(x.dtype)


def _power_by_base(x: Array, y: Array, z: Array) -> Array:
    y = jnp.asarray(y, x.dtype)  # JAX allows an integer exponent
    return jnp.where(y == 0, 0, y * x ** jnp.where(y == 0, 1, y - 1))  # also at x = 0


def _power_by_exponent(x: Array, y: Array, z: Array) -> Array:
    return z * jnp.log(jnp.where(x == 0, 1, x))  # 0 at x = 0


# Of each function z of x and y: its derivatives by x and by y.
BINARY: dict[str, tuple[Any, Any]] = {
    "mul": (lambda x, y, z: y, lambda x, y, z: x),
    "div": (lambda x, y, z: 1 / y, lambda x, y, z: -z / y),
    "max": (lambda x, y, z: _larger(x, y), lambda x, y, z: _larger(y, x)),
    "min": (lambda x, y, z: _larger(y, x), lambda x, y, z: _larger(x, y)),
    "pow": (_power_by_base, _power_by_exponent),
    "atan2": (lambda x, y, z: y / (x * x + y * y), lambda x, y, z: -x / (x * x + y * y)),
}

for _name, _derivative in UNARY.items():
    register_elementwise(_name, _derivative)
for _name, _derivatives in BINARY.items():
    register_elementwise(_name, *_derivatives)

register_linear("neg", lambda adjoint, x: -adjoint)
register_constant("sign", "floor", "ceil", "round", "stop_gradient")


@register_rule("integer_pow")
def _integer_power(x: Array, *, output: Array, y: int) -> LinearMap:
    def scale(change: Array) -> Array:
        return change * (y * lax.integer_pow(x, y - 1)) if y else jnp.zeros_like(x)

    return LinearMap(scale, scale)


@register_rule("add", "add_any")
def _add(x: Array, y: Array, *, output: Array) -> list[LinearMap]:
    return [LinearMap(lambda t: fit(t, output), lambda g, like=like: unfit(g, like)) for like in (x, y)]


@register_rule("sub")
def _sub(x: Array, y: Array, *, output: Array) -> list[LinearMap]:
    return [
        LinearMap(lambda t: fit(t, output), lambda g: unfit(g, x)),
        LinearMap(lambda t: -fit(t, output), lambda g: -unfit(g, y)),
    ]


@register_rule("rem")
def _remainder(x: Array, y: Array, *, output: Array) -> list[LinearMap]:
    quotient = jnp.trunc(x / y)  # rem(x, y) = x - trunc(x / y) y
    return [
        LinearMap(lambda t: fit(t, output), lambda g: unfit(g, x)),
        LinearMap(lambda t: fit(-quotient * t, output), lambda g: unfit(-quotient * g, y)),
    ]


@register_rule("select_n")
def _select(which: Array, *cases: Array, output: Array) -> list[LinearMap | None]:
    def chosen(i: int) -> LinearMap:
        def keep(change: Array) -> Array:  # its own transposed
            return jnp.where(which == i, change, 0)

        return LinearMap(keep, keep)

    return [None, *map(chosen, range(len(cases)))]


@register_rule("clamp")
def _clamp(low: Array, x: Array, high: Array, *, output: Array) -> list[LinearMap]:
    def where(condition: Array, like: Array) -> LinearMap:
        def keep(change: Array) -> Array:
            return jnp.where(condition, change, 0)

        return LinearMap(lambda t: fit(keep(t), output), lambda g: unfit(keep(g), like))

    return [
        where((low > x) & (low < high), low),
        where((low < x) & (x < high), x),
        where((high < x) | (high < low), high),
    ]


@register_rule("polygamma")
def _polygamma(order: Array, x: Array, *, output: Array) -> list[LinearMap]:
    def derivative(change: Array) -> Array:
        return change * lax.polygamma(order + 1, x)

    def by_order(change: Array) -> Array:
        raise NotImplementedError("polygamma has no derivative by its order")

    return [LinearMap(by_order, by_order), LinearMap(derivative, derivative)]


@register_rule("polynomial")
def _polynomial(x: Array, *coefficients: Array, output: Array, unroll: Any = None) -> list[LinearMap]:
    """By Horner's rule; coefficients from the constant up, as `jax.lax.polynomial` has them since 0.12."""

    def by_coefficient(k: int, like: Array) -> LinearMap:
        return LinearMap(lambda t: fit(t * x**k, output), lambda g: unfit(g * x**k, like))

    slope = jnp.zeros_like(output)
    for k in reversed(range(1, len(coefficients))):
        slope = slope * x + k * coefficients[k]
    by_x = LinearMap(lambda t: fit(slope * t, output), lambda g: unfit(slope * g, x))
    return [by_x, *(by_coefficient(k, c) for k, c in enumerate(coefficients))]
