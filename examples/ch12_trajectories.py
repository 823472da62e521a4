"""The path of every optimiser over one narrow valley, and what stops gradient descent (D2L 12.1, 12.3 to 12.10).

    python examples/ch12_trajectories.py

Two pictures and a table, in 9 s of processor time on an AMD EPYC. Over 0.1 x^2 + 2 y^2 from (-5, -2), twenty steps:

- Gradient descent at rate 0.4 still has 0.94 to go along the floor; at 0.6 it diverges across it (to 1,673).
- The same 0.6 with momentum 0.5 ends at (0.007, 0.003); AdaGrad, RMSProp and a diagonal preconditioner even out the
  two sides and go nearly straight; a line search needs few steps here, and Newton's method one.
- Fifty steps with noise: a constant rate never comes to rest, an exponential decay stops 1.8 short (seed 0), a
  polynomial one arrives.

In one variable: rates too small (3.486784 after ten steps from 10), right (0.060466) and too large (61.917364) on x^2;
a poor minimum (-1.528166); the saddle of x^3; tanh, flat at 4, where ten steps of rate 1 go 0.014; and Newton's method,
which goes to a maximum of x cos(0.15 pi x) at 26.834133, and at half the rate to a minimum at 7.269860.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import experiment, optim, plotting

START = (-5.0, -2.0)
METHODS: dict[str, tuple[optax.GradientTransformation, str]] = {  # and what its path shows
    "gradient descent, rate 0.4": (optim.sgd(0.4), "steep side crossed, floor slow"),
    "gradient descent, rate 0.6": (optim.sgd(0.6), "too long for the steep side: diverges"),
    "momentum 0.6, beta 0.25": (optim.momentum(0.6, 0.25), "the same rate no longer diverges"),
    "momentum 0.6, beta 0.5": (optim.momentum(0.6, 0.5), "zigzags cancel, the floor adds up"),
    "Nesterov 0.3, beta 0.5": (optim.nesterov(0.3, 0.5), "looks ahead: less zigzag"),
    "averaged 0.6, beta 0.5": (optim.averaged_momentum(0.6, 0.5, bias_correction=False), "half the rate in effect"),
    "unbiased 0.6, beta 0.5": (optim.averaged_momentum(0.6, 0.5), "but a first step of full length"),
    "AdaGrad 0.4": (optim.adagrad(0.4), "equal rates in both, but they die"),
    "AdaGrad 2": (optim.adagrad(2.0), "arrives with a larger rate"),
    "RMSProp 0.4": (optim.rmsprop(0.4), "forgets: the rates do not die"),
    "AdaDelta": (optim.adadelta(), "no rate: starts with tiny steps"),
    "Adam 0.5": (optim.adam(0.5, eps=1e-6), "straight at first, then overshoots"),
    "Yogi 0.5": (optim.yogi(0.5), "like Adam"),
    "AdamW 0.5, decay 0.4": (optim.adamw(0.5, eps=1e-6, weight_decay=0.4), "weights decay to 0, here the minimum"),
    "LARS 1": (optim.lars(1.0, 0.5, trust_coefficient=0.1), "pushes of a tenth of the distance from 0"),
    "LAMB 0.2": (optim.lamb(0.2, weight_decay=0.0), "Adam's direction, a fifth of that distance"),
}
NOISY = {
    "stochastic, rate 0.4": (optim.sgd(0.4), "arrives, never comes to rest"),
    "stochastic, 0.4 exp(-0.1 t)": (optim.sgd(optim.exponential_decay(0.4, 0.1)), "stops before it arrives"),
    "stochastic, 0.4 / sqrt(1 + 0.1 t)": (optim.sgd(optim.polynomial_decay(0.4, 0.1)), "arrives and calms down"),
}


@dataclass(frozen=True)
class Config:
    """Draws the paths of all optimisers."""

    num_steps: int = 20
    """Of every path without noise."""
    num_noisy_steps: int = 50
    """Of the stochastic paths."""
    seed: int = 0
    """Of the noise."""
    plot: Path | None = None
    """Where the picture of the valley goes, and beside it that of one variable; default: in the run's folder."""

    def __post_init__(self) -> None:
        for name in ("num_steps", "num_noisy_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


def ravine(x: Any) -> Any:
    """D2L 12.6's valley: 20 times as steep across as along."""
    return 0.1 * x[0] ** 2 + 2 * x[1] ** 2


def wave(x: Any) -> Any:
    """D2L 12.3's function with many minima."""
    return x * jnp.cos(0.15 * jnp.pi * x)


def paths_over_the_valley(config: Config) -> dict[str, tuple[Any, str]]:
    """Of each method its path `[steps + 1, 2]` and what it shows."""
    start, gradient, key = jnp.array(START), jax.grad(ravine), jax.random.key(config.seed)

    def noisy_gradient(x: jax.Array, key: jax.Array) -> jax.Array:
        return gradient(x) + jax.random.normal(key, x.shape)

    paths = {
        name: (optim.trajectory(gradient, optimizer, start, config.num_steps), remark)
        for name, (optimizer, remark) in METHODS.items()
    }
    paths |= {
        name: (optim.trajectory(noisy_gradient, optimizer, start, config.num_noisy_steps, key), remark)
        for name, (optimizer, remark) in NOISY.items()
    }
    scaled = repeated(lambda x: optim.preconditioned_step(ravine, x, 0.4), start, config.num_steps)
    newton = [start, optim.newton_step(ravine, start)]

    def search(x: jax.Array) -> jax.Array:
        rate = optim.bisection_line_search(ravine, x, -gradient(x), upper=10.0)
        return x - rate * gradient(x)

    return paths | {
        "gradient descent, line search": (repeated(search, start, config.num_steps), "each step to the lowest point"),
        "diagonal preconditioner, 0.4": (scaled, "each side on its own scale: straight"),
        "Newton, rate 1": (jnp.stack(newton), "a quadratic takes one step"),
    }


def repeated(step: Callable[[jax.Array], jax.Array], start: jax.Array, num_steps: int) -> jax.Array:
    """The path of a step that is no Optax transformation: it needs the function, not only its gradient."""
    step, points = jax.jit(step), [start]
    for _ in range(num_steps):
        points.append(step(points[-1]))
    return jnp.stack(points)


def draw_valley(paths: dict[str, tuple[Any, str]], path: Path) -> None:
    """A panel a method: contours and its points."""
    picture, columns = plotting.figure(16, 13), 4
    grid = picture.subplots(-(-len(paths) // columns), columns, sharex=True, sharey=True)
    x, y = np.meshgrid(np.linspace(-5.8, 2.2, 81), np.linspace(-2.9, 2.9, 59))
    for axes, (name, (points, remark)) in zip(grid.ravel(), paths.items(), strict=False):
        axes.contour(
            x, y, ravine(np.stack([x, y])), levels=[0.02, 0.1, 0.4, 1, 2, 4, 8, 14], colors="0.75", linewidths=0.8
        )
        axes.plot(*np.asarray(points).T, "C1o-", markersize=3, linewidth=1, zorder=2)
        axes.plot(*START, "ks", markersize=5)
        axes.plot(0, 0, "k*", markersize=9)
        end = float(ravine(points[-1]))
        axes.set_title(f"{name}\n{remark}; ends at {end:.2g}", fontsize=9)
        axes.set(xlim=(-5.8, 2.2), ylim=(-2.9, 2.9))
    for axes in grid.ravel()[len(paths) :]:
        axes.axis("off")
    picture.suptitle("From (-5, -2), the square, to the minimum, the star, of 0.1 x² + 2 y²", fontsize=13)
    picture.supxlabel("x")
    picture.supylabel("y")
    picture.savefig(path, dpi=100)


def one_variable(config: Config, figures: dict[str, float], path: Path) -> None:
    """Gradient descent with rates too small, right and too large; a poor minimum; a saddle; a flat end; Newton."""
    picture = plotting.figure(16, 3.8)
    panels = picture.subplots(1, 5)

    def descend(
        axes: Any, function: Callable[[Any], Any], start: float, rates: tuple[float, ...], bounds: tuple[float, float]
    ) -> list[float]:
        x = np.linspace(*bounds, 200)
        axes.plot(x, function(x), "k", linewidth=1)
        ends = []
        for rate, style in zip(rates, ("C0o-", "C1o-", "C2o-"), strict=False):
            points = np.asarray(optim.trajectory(jax.grad(function), optim.sgd(rate), jnp.array(start), 10))
            shown = points[(bounds[0] <= points) & (points <= bounds[1])]
            axes.plot(shown, function(shown), style, markersize=4, linewidth=1, label=f"rate {rate:g}")
            ends.append(float(points[-1]))
        axes.set(xlabel="x", ylabel="f(x)")
        axes.legend(fontsize=8)
        return ends

    ends = descend(panels[0], jnp.square, 10.0, (0.05, 0.2, 1.1), (-15, 15))
    figures |= {f"x^2, rate {rate}": end for rate, end in zip((0.05, 0.2, 1.1), ends, strict=True)}
    panels[0].set_title("x²: too slow, right, diverging", fontsize=10)
    (figures["x cos(0.15 pi x), rate 2"],) = descend(panels[1], wave, 10.0, (2.0,), (-12, 12))
    panels[1].set_title("x cos(0.15πx): a poor minimum", fontsize=10)
    (figures["x^3, rate 0.1"],) = descend(panels[2], lambda x: x**3, 1.5, (0.1,), (-1.0, 1.6))
    panels[2].set_title("x³: slower and slower into a saddle", fontsize=10)
    (figures["tanh, rate 1"],) = descend(panels[3], jnp.tanh, 4.0, (1.0,), (-5, 5))
    panels[3].set_title(f"tanh from 4: the slope is {float(jax.grad(jnp.tanh)(4.0)):.4f}", fontsize=10)

    def newton(function: Callable[[Any], Any], rate: float) -> jax.Array:
        return repeated(lambda x: optim.newton_step(function, x, rate), jnp.array(10.0), 10)

    figures["cosh(0.5 x), Newton"] = float(newton(lambda x: jnp.cosh(0.5 * x), 1.0)[-1])
    x = np.linspace(5, 32, 300)
    panels[4].plot(x, wave(x), "k", linewidth=1)
    for rate, style in ((1.0, "C0o-"), (0.5, "C1o-")):
        points = newton(wave, rate)
        figures[f"x cos(0.15 pi x), Newton, rate {rate:g}"] = float(points[-1])
        panels[4].plot(points, wave(points), style, markersize=4, linewidth=1, label=f"rate {rate:g}")
    panels[4].set(xlabel="x", ylabel="f(x)")
    panels[4].set_title("Newton: to a maximum, or not", fontsize=10)
    panels[4].legend(fontsize=8)
    picture.savefig(path, dpi=100)


def main(config: Config) -> dict[str, float]:
    """Runs, prints and draws every path, and returns where they end."""
    path = config.plot or experiment.run_folder("ch12_trajectories") / "trajectories.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = {}
    paths = paths_over_the_valley(config)
    print(f"{'0.1 x^2 + 2 y^2 from (-5, -2)':<35} steps  {'end':>26}       f(end)")
    for name, (points, _) in paths.items():
        (x, y), figures[name] = points[-1].tolist(), float(ravine(points[-1]))
        print(f"  {name:<33} {len(points) - 1:>5}  ({x:>10.6f}, {y:>12.6f}) {figures[name]:>12.2e}")
    draw_valley(paths, path)

    other = path.with_stem(f"{path.stem}_one_variable")
    one_variable(config, figures, other)
    figures["tanh'(4)"] = float(jax.grad(jnp.tanh)(4.0))
    print("Gradient descent in one variable, ten steps:")
    for name in ("x^2, rate 0.05", "x^2, rate 0.2", "x^2, rate 1.1", "x cos(0.15 pi x), rate 2", "x^3, rate 0.1"):
        print(f"  {name:<26} ends at {figures[name]:>10.6f}")
    print(f"  tanh from 4                ends at {figures['tanh, rate 1']:>10.6f}: its slope there is 0.0013")
    print("Newton's method from 10, ten steps:")
    for name in ("cosh(0.5 x), Newton", "x cos(0.15 pi x), Newton, rate 1", "x cos(0.15 pi x), Newton, rate 0.5"):
        print(f"  {name:<35} ends at {round(figures[name], 6) + 0.0:>10.6f}")
    print(f"pictures: {path}\n          {other}")
    return figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
