"""Calculus of one and of many variables, and integrals (D2L 22.3 to 22.5).

    python examples/ch22_calculus.py

Takes 9 s of processor time, in float64. Each printed value has been compared with what it should be. The picture shows
polynomials near exp, the gradient on a map of a function, and the sum whose limit is an integral.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import experiment, plotting

Facts = Iterator[tuple[str, Any, Any]]  # what it is, its value, and what that should be


@dataclass(frozen=True)
class Config:
    """Differentiates and integrates."""

    plot: Path | None = None
    """Where the picture goes; default: inside the run's folder."""


def derivative(f: Callable[[jax.Array], jax.Array], order: int) -> Callable[[jax.Array], jax.Array]:
    """Of a function of one variable, of any order."""
    for _ in range(order):
        f = jax.grad(f)
    return f


def taylor(f: Callable[[jax.Array], jax.Array], centre: float, degree: int) -> Callable[[jax.Array], jax.Array]:
    """The polynomial with the derivatives of f at the centre, up to that degree: `sum f^(n)(c) (x - c)^n / n!`."""
    terms = [derivative(f, n)(jnp.asarray(centre)) / math.factorial(n) for n in range(degree + 1)]
    return lambda x: sum((term * (x - centre) ** n for n, term in enumerate(terms)), jnp.zeros_like(x))


def one_variable() -> Facts:
    """22.3  Near a point a smooth function is a line; with more derivatives a parabola, a polynomial."""

    def loss(x: Any) -> Any:
        return x**2 + 1701 * (x - 4) ** 3

    for h, slope in ((0.1, 25.11), (0.001, 8.002701), (0.0001, 8.000117), (0.00001, 8.00001)):
        yield f"(L(4 + h) - L(4)) / h, h = {h:g}", (loss(4 + h) - loss(4)) / h, slope
    yield "L'(4), L(x) = x^2 + 1701 (x - 4)^3", jax.grad(loss)(4.0), 8
    f = jnp.exp
    errors = jnp.stack([abs(taylor(f, 0.0, degree)(jnp.asarray(1.0)) - math.e) for degree in (1, 2, 5, 10)])
    expected = [math.e - sum(1 / math.factorial(n) for n in range(d + 1)) for d in (1, 2, 5, 10)]
    yield "e minus polynomials of degree 1, 2, 5, 10", errors, expected
    x = 0.3
    composed = jax.grad(lambda x: jnp.sin(x**2 + 1))(x)
    yield "chain rule, sin(x^2 + 1)' = 2 x cos(x^2 + 1)", composed, 2 * x * math.cos(x**2 + 1)


def linearisation() -> Facts:
    """22.4.1  A function of many variables is nearly linear nearby: f(x + e) is about f(x) + e.grad f(x)."""

    def f(x: jax.Array) -> jax.Array:
        return jnp.log(jnp.exp(x).sum())

    x, e = jnp.array([0.0, math.log(2)]), jnp.array([0.01, -0.03])
    gradient = jax.grad(f)(x)
    yield "gradient of log(e^x + e^y) at (0, log 2)", gradient, [1 / 3, 2 / 3]
    yield "linear approximation", f(x) + e @ gradient, 1.081946
    yield "true value", f(x + e), 1.082124
    angle = jnp.linspace(0, 2 * jnp.pi, 7200)
    slopes = jnp.cos(angle) * gradient[0] + jnp.sin(angle) * gradient[1]  # in 7,200 directions
    yield "steepest of 7,200 slopes / the gradient's length", slopes.max() / jnp.linalg.norm(gradient), 1


def optima() -> Facts:
    """22.4.3  Where the gradient is 0 may lie a minimum; the second derivative, or the Hessian, tells."""

    def f(x: Any) -> Any:
        return 3 * x**4 - 4 * x**3 - 12 * x**2

    critical = jnp.array([-1.0, 0.0, 2.0])
    yield "derivative of 3x^4 - 4x^3 - 12x^2 at -1, 0, 2", jax.vmap(jax.grad(f))(critical), [0, 0, 0]
    yield "its values there", f(critical), [-5, 0, -32]
    yield "second derivatives: minimum, maximum, minimum", jax.vmap(derivative(f, 2))(critical), [36, -24, 72]

    def bump(x: jax.Array) -> jax.Array:
        return x[0] * jnp.exp(-(x @ x))

    at, hessian = jnp.array([-1.0, 0.0]), jax.hessian(bump)
    yield "Hessian of x exp(-x^2 - y^2) at (-1, 0), times e", hessian(at) * math.e, [[2, 0], [0, 2]]


def backpropagation() -> Facts:
    """22.4.5  By hand: each derivative once, from the output to the inputs; the sum over all paths comes out."""
    w, x, y, z = -1.0, 0.0, -2.0, 1.0
    a, b = (w + x + y + z) ** 2, (w + x - y - z) ** 2
    u, v = (a + b) ** 2, (a - b) ** 2
    f = (u + v) ** 2
    df_du = df_dv = 2 * (u + v)
    df_da = df_du * 2 * (a + b) + df_dv * 2 * (a - b)
    df_db = df_du * 2 * (a + b) - df_dv * 2 * (a - b)
    da, db = 2 * (w + x + y + z), 2 * (w + x - y - z)  # in w and x; in y and z the second changes sign
    by_hand = [df_da * da + df_db * db] * 2 + [df_da * da - df_db * db] * 2

    def whole(inputs: jax.Array) -> jax.Array:
        w, x, y, z = inputs
        a, b = (w + x + y + z) ** 2, (w + x - y - z) ** 2
        return ((a + b) ** 2 + (a - b) ** 2) ** 2

    yield "f", f, 1024
    yield "gradient by hand", by_hand, [-4096] * 4
    yield "gradient by JAX", jax.grad(whole)(jnp.array([w, x, y, z])), [-4096] * 4


def matrix_calculus() -> Facts:
    """22.4.6  Rules for matrices, compared with jax.grad on random ones."""
    a, v, u, x = (jax.random.normal(key, (3, 3)) for key in jax.random.split(jax.random.key(0), 4))
    b = v[0]
    yield "x.b: b", jax.grad(lambda x: x @ b)(x[0]) - b, np.zeros(3)
    yield "x.A x: (A + A^T) x", jax.grad(lambda x: x @ a @ x)(x[0]) - (a + a.T) @ x[0], np.zeros(3)

    def error(u: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.square(v - u @ x).sum()

    yield "|V - U X|^2 in U: -2 (V - U X) X^T", jax.grad(error)(u, x) + 2 * (v - u @ x) @ x.T, np.zeros((3, 3))
    yield "|V - U X|^2 in X: -2 U^T (V - U X)", jax.grad(error, 1)(u, x) + 2 * u.T @ (v - u @ x), np.zeros((3, 3))
    yield "trace(A X): A^T", jax.grad(lambda x: jnp.trace(a @ x))(x) - a.T, np.zeros((3, 3))


def integrals() -> Facts:
    """22.5  An integral is a limit of sums, and undoes the derivative."""

    def riemann(width: float) -> jax.Array:
        x = jnp.arange(round(2 / width)) * width
        return (x / (1 + x**2)).sum() * width

    yield "sum for x / (1 + x^2) on [0, 2], width 0.05", riemann(0.05), 0.794486
    yield "its limit, log(5) / 2", riemann(1e-6), math.log(5) / 2
    yield "log(1 + x^2) / 2, differentiated at 1.3", jax.grad(lambda x: jnp.log(1 + x**2) / 2)(1.3), 1.3 / (1 + 1.3**2)
    # x = u^2 turns the integral of sin(sqrt(x)) / (2 sqrt(x)) over [0, 4] into that of sin(u) over [0, 2].
    x, u = jnp.linspace(0, 4, 2_000_001), jnp.linspace(0, 2, 2001)
    middle = (x[1:] + x[:-1]) / 2
    yield (
        "change of variables, before",
        (jnp.sin(jnp.sqrt(middle)) / (2 * jnp.sqrt(middle))).sum() * 2e-6,
        1 - math.cos(2),
    )
    yield "change of variables, after", jnp.trapezoid(jnp.sin(u), u), 1 - math.cos(2)
    x = jnp.linspace(-6, 6, 241)
    curve = jnp.exp(-(x**2))
    surface = curve[:, None] * curve[None, :]  # exp(-x^2 - y^2)
    volume = jnp.trapezoid(jnp.trapezoid(surface, dx=0.05, axis=1), dx=0.05)
    yield "integral of exp(-x^2 - y^2) over the plane, pi", volume, math.pi
    # In polar coordinates the area element is r dr dtheta: r is the determinant of the Jacobian.
    r = jnp.linspace(0, 6, 6001)
    yield "the same in polar coordinates", 2 * math.pi * jnp.trapezoid(jnp.exp(-(r**2)) * r, r), math.pi
    polar = jax.jacobian(lambda p: jnp.array([p[0] * jnp.cos(p[1]), p[0] * jnp.sin(p[1])]))
    yield "det of its Jacobian at r = 3", jnp.linalg.det(polar(jnp.array([3.0, 0.4]))), 3
    yield "so the integral of exp(-x^2) is sqrt(pi)", jnp.trapezoid(curve, x), math.sqrt(math.pi)


def draw(path: Path) -> None:
    """Taylor polynomials, a tangent plane's directions, and a Riemann sum."""
    picture = plotting.figure(13, 3.8)
    left, middle, right = picture.subplots(1, 3)
    x = jnp.linspace(-1, 3, 200)
    curves = {"exp(x)": jnp.exp(x)} | {f"degree {d}": taylor(jnp.exp, 0.0, d)(x) for d in (1, 2, 5)}
    plotting.lines(x, curves, xlabel="x", title="Polynomials with the derivatives of exp at 0", axes=left)

    a, b = np.meshgrid(np.linspace(-2.2, 2.2, 200), np.linspace(-2.2, 2.2, 200))
    middle.contour(a, b, a * np.exp(-(a**2) - b**2), levels=12, cmap="viridis")
    points = np.stack(np.meshgrid(np.linspace(-1.8, 1.8, 8), np.linspace(-1.8, 1.8, 8)), -1).reshape(-1, 2)
    slopes = np.asarray(jax.vmap(jax.grad(lambda p: p[0] * jnp.exp(-(p @ p))))(points))
    middle.quiver(*points.T, *-slopes.T, width=0.004)
    middle.set(title="$x\\,e^{-x^2-y^2}$ and minus its gradient: downhill", xlabel="x", ylabel="y", aspect="equal")

    edges = np.arange(0, 2, 0.2)
    right.bar(edges, edges / (1 + edges**2), width=0.2, align="edge", alpha=0.4, edgecolor="C0", label="sum, width 0.2")
    x = np.linspace(0, 2, 200)
    right.plot(x, x / (1 + x**2), "C1", label="$x / (1 + x^2)$")
    right.set(title="An integral is a limit of sums", xlabel="x")
    right.legend()
    picture.savefig(path, dpi=120)


def main(config: Config) -> dict[str, float]:
    """Prints and checks all sections, draws the picture, and returns the values that are one number."""
    figures: dict[str, float] = {}
    with jax.enable_x64(True):  # differences over small steps lose the digits of float32
        sections = (one_variable, linearisation, optima, backpropagation, matrix_calculus, integrals)
        for section in sections:
            print(f"\n{section.__doc__}")
            for name, value, expected in section():
                np.testing.assert_allclose(value, expected, atol=1e-6, rtol=1e-6, err_msg=name)
                shown = np.array2string(np.asarray(value), precision=6, separator=", ", suppress_small=True)
                print(f"  {name:<50}" + shown.replace("\n", ""))
                if np.ndim(value) == 0:
                    figures[name] = float(value)
        path = config.plot or experiment.run_folder("ch22_calculus") / "calculus.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path)
    print(f"\npicture: {path}")
    return figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
