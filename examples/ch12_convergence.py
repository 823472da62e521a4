"""How fast descent on convex functions is (D2L 12.3, 12.4, 12.6): theory's rates, measured on quadratics.

    python examples/ch12_convergence.py

In 6 s of processor time on an AMD EPYC (theory in brackets):

- A step of gradient descent multiplies the error by 0.9802 (0.9802) at condition number 100, one of momentum by 0.8184
  (0.8182).
- Stochastic gradients: at rate 0.2 the mean square stays at its noise, 0.106 (0.111); at 1 / (t + 1) it
  falls as t^-0.99 (t^-1).
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import experiment, optim, plotting

CONDITIONS = (2.0, 5.0, 10.0, 30.0, 100.0)  # greatest by least curvature


@dataclass(frozen=True)
class Config:
    """Measures rates of convergence."""

    num_runs: int = 2000
    """Stochastic paths to average over."""
    num_steps: int = 1000
    """Of each."""
    seed: int = 0
    """Of the noise."""
    plot: Path | None = None
    """Where the picture goes; default: in the run's folder."""

    def __post_init__(self) -> None:
        for name, least in (("num_runs", 1), ("num_steps", 40)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")


def tuned(condition: float) -> dict[str, tuple[optax.GradientTransformation, float]]:
    """The best rates for curvatures from 1 to `condition`, and what they multiply the error by in a step.

    Gradient descent: Nesterov (2004), theorem 2.1.15; heavy ball: Polyak (1964).
    """
    root = math.sqrt(condition)
    momentum_factor = (root - 1) / (root + 1)
    return {
        "gradient descent": (optim.sgd(2 / (1 + condition)), (condition - 1) / (condition + 1)),
        "momentum": (optim.momentum(4 / (1 + root) ** 2, momentum_factor**2), momentum_factor),
    }


def measured_factor(optimizer: optax.GradientTransformation, condition: float, expected: float) -> float:
    """Fits `error = c * t^p * factor^t` to a path over `x^2 / 2 + condition * y^2 / 2`.

    The power is for momentum, whose matrix at the best rates has a double eigenvalue.
    """
    num_steps = max(12, int(-20 / math.log(expected)))  # to about e^-20 of the first error
    curvature = jnp.array([1.0, condition])
    path = optim.trajectory(lambda x: curvature * x, optimizer, jnp.array([1.0, 1.0]), num_steps)
    t, errors = np.arange(1, num_steps + 1), np.linalg.norm(path[1:], axis=1)
    late = t > num_steps // 4
    design = np.stack([np.ones(len(t)), t, np.log(t)], axis=1)[late]
    return float(np.exp(np.linalg.lstsq(design, np.log(errors[late]), rcond=None)[0][1]))


def stochastic_errors(schedule: Any, config: Config) -> np.ndarray:
    """The mean square of x before each step, over many runs on `x^2 / 2` with noise of variance 1 in its gradient."""

    def noisy_gradient(x: jax.Array, key: jax.Array) -> jax.Array:
        return x + jax.random.normal(key)

    def run(key: jax.Array) -> jax.Array:
        return optim.trajectory(noisy_gradient, optim.sgd(schedule), jnp.array(1.0), config.num_steps, key)

    keys = jax.random.split(jax.random.key(config.seed), config.num_runs)
    return np.asarray(jax.jit(lambda keys: (jax.vmap(run)(keys) ** 2).mean(0))(keys))


STEPS = {  # of SGD
    "0.2": lambda step: 0.2,
    "1 / (t + 1)": optim.polynomial_decay(1.0, 1.0, 1.0),
    "0.5 / sqrt(t + 1)": optim.square_root_decay(0.5),
}


def expected_errors(schedule: Any, num_steps: int) -> np.ndarray:
    """The same mean squares without drawing: `m <- (1 - rate)^2 m + rate^2`."""
    mean_square = [1.0]
    for step in range(num_steps):
        rate = float(schedule(step))
        mean_square.append((1 - rate) ** 2 * mean_square[-1] + rate**2)
    return np.array(mean_square)


def log_slope(values: np.ndarray) -> float:
    """The power of t that a curve follows, fitted on logarithmic axes without its first steps."""
    t = np.arange(len(values))
    late = t >= 20
    return float(np.polyfit(np.log(t[late]), np.log(values[late]), 1)[0])


def convergence(figures: dict[str, float], config: Config, factor_axes: Any, noise_axes: Any) -> None:
    """Prints and draws the rates of convergence, measured and by theory."""
    print("A step multiplies the error by (theory), greatest over least curvature:")
    measured: dict[str, list[float]] = {}
    for condition in CONDITIONS:
        row = f"  {condition:>4.0f}"
        for name, (optimizer, expected) in tuned(condition).items():
            factor = measured_factor(optimizer, condition, expected)
            figures[f"{name}/{condition:.0f}"] = factor
            measured.setdefault(name, []).append(factor)
            row += f"   {name} {factor:.4f} ({expected:.4f})"
        print(row)
    conditions = np.geomspace(1.5, 120, 50)
    for color, name in (("C0", "gradient descent"), ("C1", "momentum")):
        theory = [tuned(condition)[name][1] for condition in conditions]
        factor_axes.plot(conditions, theory, f"{color}:", label=f"{name}, theory")
        factor_axes.plot(CONDITIONS, measured[name], f"{color}o", label=f"{name}, measured")
    factor_axes.set(
        xlabel="condition number: greatest by least curvature",
        ylabel="what a step multiplies the error by",
        xscale="log",
    )
    factor_axes.set_title("Momentum feels the square root of the condition number")

    t = np.arange(1, config.num_steps + 1)
    print(f"Stochastic gradients on x^2 / 2, mean square of x after {config.num_steps} steps (theory), its power of t:")
    for i, (name, schedule) in enumerate(STEPS.items()):
        errors = stochastic_errors(schedule, config)
        expected = expected_errors(schedule, config.num_steps)
        figures |= {f"sgd/{name}": float(errors[-1]), f"sgd/{name}/slope": log_slope(errors)}
        print(f"  {name:<18} {errors[-1]:.5f} ({expected[-1]:.5f})   {figures[f'sgd/{name}/slope']:>6.2f}")
        noise_axes.plot(t, errors[1:], f"C{i}", linewidth=0.8, label=f"rate {name}")
        noise_axes.plot(t, expected[1:], "k:", linewidth=1)
    noise_axes.lines[-1].set_label("theory")
    noise_axes.set(xlabel="step t", ylabel="mean square of x", xscale="log", yscale="log")
    noise_axes.set_title("SGD: a constant rate stops at its noise, 1/t goes on")
    for axes in (factor_axes, noise_axes):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)


def main(config: Config) -> dict[str, float]:
    """Measures, prints, draws, and returns the figures."""
    path = config.plot or experiment.run_folder("ch12_convergence") / "convergence.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = {}
    picture = plotting.figure(12, 4.5)
    factors, noise = picture.subplots(1, 2)
    with jax.enable_x64(True):  # errors down to e^-20
        convergence(figures, config, factors, noise)
    picture.savefig(path, dpi=100)
    print(f"picture: {path}")
    return figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
