"""Calculus (D2L 2.4): derivatives as limits, their rules, gradients, the chain rule with Jacobians, a tangent drawn.

    python examples/ch02_calculus.py

Takes 4 s of processor time, in float64: a difference over h = 0.00001 loses all digits of float32. Each printed value
has been compared with what it should be.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import experiment, plotting

Facts = Iterator[tuple[str, Any, Any]]  # an expression, its value, and what that should be


@dataclass(frozen=True)
class Config:
    """Differentiates the functions of the chapter."""

    plot: Path | None = None
    """Where the picture goes; default: inside the run's folder."""


def f(x: Any) -> Any:
    """The function of the chapter, whose derivative is 6 x - 4."""
    return 3 * x**2 - 4 * x


def limits() -> Facts:
    """2.4.1  The slope of f(x) = 3 x^2 - 4 x between 1 and 1 + h tends to 2 as h tends to 0."""
    for h, slope in ((1e-1, 2.3), (1e-2, 2.03), (1e-3, 2.003), (1e-4, 2.0003), (1e-5, 2.00003)):
        yield f"(f(1 + h) - f(1)) / h, h = {h:.5f}", (f(1 + h) - f(1)) / h, slope
    yield "grad(f)(1.0)", jax.grad(f)(1.0), 2
    x = jnp.linspace(-1, 3, 5)
    yield "grad(f) - (6 x - 4) at five points", jax.vmap(jax.grad(f))(x) - (6 * x - 4), np.zeros(5)


def rules() -> Facts:
    """2.4.2  Sums, products and quotients have rules; JAX applies them."""
    u, v, x = jnp.sin, jnp.exp, 0.7
    du, dv = jnp.cos(x), jnp.exp(x)
    yield "(u + v)' - (u' + v')", jax.grad(lambda x: u(x) + v(x))(x) - (du + dv), 0
    yield "(u v)' - (u' v + u v')", jax.grad(lambda x: u(x) * v(x))(x) - (du * v(x) + u(x) * dv), 0
    quotient = (du * v(x) - u(x) * dv) / v(x) ** 2
    yield "(u / v)' - (u' v - u v') / v^2", jax.grad(lambda x: u(x) / v(x))(x) - quotient, 0


def gradients() -> Facts:
    """2.4.3  The gradient of a scalar in a vector."""
    x, a = jnp.array([1.0, 2.0]), jnp.array([[1.0, 2.0], [3.0, 4.0]])
    yield "gradient of x.x, 2 x", jax.grad(lambda x: x @ x)(x), 2 * x
    yield "gradient of x.A x, (A + A^T) x", jax.grad(lambda x: x @ a @ x)(x), (a + a.T) @ x
    yield "gradient of the norm, x / norm(x)", jax.grad(jnp.linalg.norm)(x), x / jnp.linalg.norm(x)


def chain_rule() -> Facts:
    """2.4.4  y = f(u), u = g(x): the gradient in x is the Jacobian of u, transposed, times the gradient in u."""
    x, weights = jnp.array([0.5, -1.0, 2.0]), jnp.arange(6.0).reshape(2, 3) / 5

    def inner(x: jax.Array) -> jax.Array:
        return jnp.tanh(weights @ x)  # [2]

    def outer(u: jax.Array) -> jax.Array:
        return u[0] * u[1] ** 2

    whole = jax.grad(lambda x: outer(inner(x)))(x)
    parts = jax.jacobian(inner)(x).T @ jax.grad(outer)(inner(x))
    yield "gradient of f(g(x))", whole, parts
    yield "gradient of sin(x^2) at 2, 4 cos 4", jax.grad(lambda x: jnp.sin(x**2))(2.0), 4 * np.cos(4)


def draw(path: Path) -> None:
    """f with its tangent at 1, and how fast the difference quotient comes near the derivative."""
    picture = plotting.figure(9, 3.4)
    left, right = picture.subplots(1, 2)
    x = np.arange(0, 3, 0.1)
    curves = {"f(x)": f(x), "tangent 2 x - 3": 2 * x - 3}
    plotting.lines(x, curves, xlabel="x", ylabel="f(x)", title="f and its tangent at x = 1", axes=left)
    left.plot(1, f(1), "k.")
    h = np.logspace(-16, 0, 60)
    errors = {
        "of (f(1 + h) - f(1)) / h": abs((f(1 + h) - f(1)) / h - 2),
        "3 h, without rounding": 3 * h,
    }
    title = "The difference quotient in float64"
    plotting.lines(h, errors, xlabel="h", ylabel="error", xscale="log", yscale="log", title=title, axes=right)
    right.set_ylim(1e-16, 10)
    right.annotate("rounding", (1e-13, 1e-3))
    picture.savefig(path, dpi=120)


def main(config: Config) -> dict[str, float]:
    """Prints and checks all sections, draws the picture, and returns the values that are one number."""
    numbers: dict[str, float] = {}
    with jax.enable_x64(True):
        for section in (limits, rules, gradients, chain_rule):
            print(f"\n{section.__doc__}")
            for expression, value, expected in section():
                np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9, err_msg=expression)
                shown = np.array2string(np.asarray(value), precision=6, separator=", ", suppress_small=True)
                print(f"  {expression:<40}" + shown.replace("\n", ""))
                if np.ndim(value) == 0:
                    numbers[expression] = float(value)
    path = config.plot or experiment.run_folder("ch02_calculus") / "tangent.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(path)
    print(f"\npicture: {path}")
    return numbers


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
