"""Automatic differentiation as JAX has it (D2L 2.5): gradients, vector outputs, detached parts, Python control flow.

    python examples/ch02_autodiff.py

Takes 5 s. At x = [0, 1, 2, 3] the gradient of 2 x.x is [0, 4, 8, 12]; the function of loops and branches, whose steps
depend on its argument, is linear around every argument, and its derivative is f(a) / a.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import experiment, plotting


@dataclass(frozen=True)
class Config:
    """Differentiates the functions of the chapter."""

    seed: int = 0
    """Of the argument of the function with control flow."""
    plot: Path | None = None
    """Where the picture goes; default: inside the run's folder."""


def twice_square(x: jax.Array) -> jax.Array:
    """2 x.x; its gradient is 4 x."""
    return 2 * jnp.dot(x, x)


def square(x: jax.Array) -> jax.Array:
    """Element by element: a vector, which has no gradient but a Jacobian."""
    return x * x


def detached(x: jax.Array) -> jax.Array:
    """The sum of u x, where u = x^2 is taken for a constant: the gradient is u and not 3 x^2."""
    u = jax.lax.stop_gradient(square(x))
    return (u * x).sum()


def python_control_flow(a: jax.Array) -> jax.Array:
    """Doubles until it is large, then maybe times 100. Python's `while` and `if` see values: not under `jax.jit`."""
    b = 2 * a
    while abs(b) < 1000:
        b = 2 * b
    return b if b > 0 else 100 * b


def compiled_control_flow(a: jax.Array) -> jax.Array:
    """The same as operations, which can be compiled; only forward mode goes through a loop of unknown length."""
    b = jax.lax.while_loop(lambda b: jnp.abs(b) < 1000, lambda b: 2 * b, 2 * a)
    return jax.lax.cond(b > 0, lambda b: b, lambda b: 100 * b, b)


def gradients(x: jax.Array) -> dict[str, np.ndarray]:
    """What the chapter derives, at x."""
    y, pullback = jax.vjp(square, x)  # of a vector: say how much each element of y counts
    (weighted,) = pullback(jnp.ones_like(y))
    results = {
        "2 x.x": twice_square(x),
        "gradient of 2 x.x": jax.grad(twice_square)(x),
        "gradient of the sum of x": jax.grad(jnp.sum)(x),
        "gradient of the sum of x^2": weighted,
        "diagonal of the Jacobian of x^2": jnp.diagonal(jax.jacobian(square)(x)),
        "gradient of u x, u = x^2 held fast": jax.grad(detached)(x),
    }
    return {name: np.asarray(value) for name, value in results.items()}


def draw(path: Path) -> None:
    """The sine and its derivatives, and the function with control flow with its derivative."""
    figure = plotting.figure(9, 3.4)
    left, right = figure.subplots(1, 2)
    x = jnp.linspace(-2 * jnp.pi, 2 * jnp.pi, 200)
    curves: dict[str, Any] = {}
    f: Callable[[jax.Array], jax.Array] = jnp.sin
    for name in ("sin", "its derivative", "second", "third"):
        curves[name] = jax.vmap(f)(x)
        f = jax.grad(f)
    plotting.lines(x, curves, xlabel="x", title="derivatives of derivatives", axes=left)
    left.set_ylim(-1.1, 2.4)  # room for the legend
    a = jnp.linspace(1.0, 100.0, 800)
    with_slope = jax.vmap(lambda a: jax.jvp(compiled_control_flow, (a,), (jnp.ones(()),)))
    values, slopes = with_slope(a)
    title = "control flow: linear in pieces"
    plotting.lines(a, {"f(a)": values, "f'(a)": slopes}, xlabel="a", yscale="log", title=title, axes=right)
    figure.savefig(path, dpi=120)


def main(config: Config) -> dict[str, float]:
    """Prints the derivatives, draws the picture, and returns how far the control flow's is from f(a) / a."""
    x = jnp.arange(4.0)
    print(f"at x = {x}:")
    for name, value in gradients(x).items():
        print(f"{name:>36}  {value}")

    a = jax.random.normal(jax.random.key(config.seed))
    slope = jax.grad(python_control_flow)(a)
    _, forward_slope = jax.jit(lambda a: jax.jvp(compiled_control_flow, (a,), (jnp.ones(()),)))(a)
    expected = python_control_flow(a) / a
    print(f"control flow at a = {a:.4f}: f'(a) = {slope:.0f}, compiled {forward_slope:.0f}, f(a) / a = {expected:.0f}")

    picture = config.plot or experiment.run_folder("ch02_autodiff") / "derivatives.png"
    draw(picture)
    print(f"picture: {picture}")
    return {
        "value": float(twice_square(x)),
        "control_flow_error": abs(float(slope / expected) - 1),
        "compiled_control_flow_error": abs(float(forward_slope / expected) - 1),
    }


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
