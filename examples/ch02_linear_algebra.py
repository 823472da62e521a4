"""Linear algebra in JAX: vectors, matrices, reductions, products, norms (D2L 2.3).

    python examples/ch02_linear_algebra.py

Each line that it prints is an expression with its value, which has been compared with what it should be. Takes 3 s of
processor time. The picture shows the unit circles of three norms: all vectors of length 1, by three ways to measure
length.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdl import experiment, plotting

Facts = Iterator[tuple[str, Any, Any]]  # an expression, its value, and what that should be


@dataclass(frozen=True)
class Config:
    """Prints what the operations give."""

    plot: Path | None = None
    """Where the picture goes; default: inside the run's folder."""


def scalars_to_tensors() -> Facts:
    """2.3.1 to 2.3.5  Scalars, vectors, matrices, tensors: arrays of rank 0, 1, 2 and more."""
    x, y = jnp.array(3.0), jnp.array(2.0)
    yield "x + y, x * y, x / y, x ** y", jnp.stack([x + y, x * y, x / y, x**y]), [5, 6, 1.5, 9]
    a = jnp.arange(6.0).reshape(3, 2)
    yield "A", a, [[0, 1], [2, 3], [4, 5]]
    yield "A.T", a.T, [[0, 2, 4], [1, 3, 5]]
    symmetric = jnp.array([[1, 2, 3], [2, 0, 4], [3, 4, 5]])
    yield "(S == S.T).all(), S symmetric", (symmetric == symmetric.T).all(), True
    yield "arange(24).reshape(2, 3, 4)[1, 2, 3]", jnp.arange(24).reshape(2, 3, 4)[1, 2, 3], 23
    a = jnp.arange(6.0).reshape(2, 3)
    yield "A * A, the Hadamard product", a * a, [[0, 1, 4], [9, 16, 25]]
    yield "2 + A", 2 + a, [[2, 3, 4], [5, 6, 7]]


def reductions() -> Facts:
    """2.3.6, 2.3.7  Sums and means, over all axes or some; `keepdims` keeps the axis, so that the result divides A."""
    a = jnp.arange(6.0).reshape(2, 3)
    yield "A.sum()", a.sum(), 15
    yield "A.sum(axis=0)", a.sum(axis=0), [3, 5, 7]
    yield "A.sum(axis=1)", a.sum(axis=1), [3, 12]
    yield "A.mean()", a.mean(), 2.5
    yield "A.mean(axis=0)", a.mean(axis=0), [1.5, 2.5, 3.5]
    yield "A.sum(axis=1, keepdims=True).shape", a.sum(axis=1, keepdims=True).shape, (2, 1)
    yield "A / A.sum(1, keepdims=True), rows sum", (a / a.sum(axis=1, keepdims=True)).sum(axis=1), [1, 1]
    yield "A.cumsum(axis=0)", a.cumsum(axis=0), [[0, 1, 2], [3, 5, 7]]


def products() -> Facts:
    """2.3.8 to 2.3.10  The dot product sums what the Hadamard product leaves; matrices are many dot products."""
    x, a = jnp.arange(3.0), jnp.arange(6.0).reshape(2, 3)
    yield "x @ ones(3)", x @ jnp.ones(3), 3
    yield "A @ x", a @ x, [5, 14]
    yield "A @ ones((3, 4))", a @ jnp.ones((3, 4)), [[3] * 4, [12] * 4]
    yield "(A @ B).T - B.T @ A.T", (a @ a.T).T - a @ a.T, np.zeros((2, 2))


def norms() -> Facts:
    """2.3.11  Norms are lengths: Euclid's (2), the city's (1), any p, the greatest entry; Frobenius' of a matrix."""
    u = jnp.array([3.0, -4.0])
    yield "norm(u)", jnp.linalg.norm(u), 5
    yield "norm(u, 1)", jnp.linalg.norm(u, 1), 7
    yield "norm(u, inf)", jnp.linalg.norm(u, jnp.inf), 4
    yield "norm(u, 3)", jnp.linalg.norm(u, 3), (27 + 64) ** (1 / 3)
    yield "norm(ones((4, 9)), 'fro')", jnp.linalg.norm(jnp.ones((4, 9)), "fro"), 6
    v = jnp.array([1.0, 2.0])
    lengths = jnp.stack([jnp.linalg.norm(w) for w in (u + v, u, v)])
    yield "norm(u + v) <= norm(u) + norm(v)", lengths[0] <= lengths[1] + lengths[2], True


def draw(path: Path) -> None:
    """The vectors of length 1."""
    angle = jnp.linspace(0, 2 * jnp.pi, 401)
    directions = jnp.stack([jnp.cos(angle), jnp.sin(angle)])  # [2, points]
    picture = plotting.figure(4.4, 4.4)
    axes = picture.subplots()
    for order, name in ((1, "1: sum of sizes"), (2, "2: Euclid"), (jnp.inf, "∞: greatest size")):
        axes.plot(*directions / jnp.linalg.norm(directions, order, axis=0, keepdims=True), label=name)
    axes.set(title="All vectors of norm 1, by three norms", xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    axes.grid(alpha=0.3)
    axes.legend(loc="center", title="norm")
    picture.savefig(path, dpi=120)


def main(config: Config) -> dict[str, float]:
    """Prints and checks all sections, draws the picture, and returns the values that are one number."""
    numbers: dict[str, float] = {}
    for section in (scalars_to_tensors, reductions, products, norms):
        print(f"\n{section.__doc__}")
        for expression, value, expected in section():
            np.testing.assert_allclose(value, expected, rtol=1e-6, err_msg=expression)
            shown = np.array2string(np.asarray(value), precision=6, separator=", ", suppress_small=True)
            print(f"  {expression:<40}" + shown.replace("\n", ""))
            if np.ndim(value) == 0:
                numbers[expression] = float(value)
    path = config.plot or experiment.run_folder("ch02_linear_algebra") / "norms.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(path)
    print(f"\npicture: {path}")
    return numbers


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
