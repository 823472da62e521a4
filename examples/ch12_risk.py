"""What a minimum of the training loss is worth, and where descent stops before it (D2L 12.1).

    python examples/ch12_risk.py

The loss of an example z, a standard normal number, is sqrt(e) w cos(pi w + z): its mean, the true risk, is
w cos(pi w), with its minimum of -1.0467 at 1.0904 and a poor one of -0.1786 at -0.2739. In 11 s of processor time on an
AMD EPYC:

- The empirical minimum of 10 examples promises 0.063 less than the true one and has 0.062 more; of 1,000 both are
  0.0006: they fall as 1 / n (theory: 0.062, 0.0006).
- 43 % of [-1, 2] leads into the poor minimum. With noise in the gradients paths leave it: after 300 steps none in
  batches of 64, 0.945 in batches of 4; in batches of 1 they come and go, 0.65 at any time.
- At the saddle of x^2 - y^2 a path slows to a slope of 0.018, which looks like the end, and then runs off.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from optax import projections

from jaxdl import experiment, optim, plotting

NUM_EXAMPLES = (10, 30, 100, 300, 1000)
BATCH_SIZES = (1, 4, 8, 16, 64)
POOR, BEST, BETWEEN = -0.273853, 1.090408, 0.273853  # roots of (pi w) tan(pi w) = 1; the last is a maximum


@dataclass(frozen=True)
class Config:
    """Measures empirical against true risk, and who leaves a poor minimum."""

    num_samples: int = 2000
    """Training sets of each size, and stochastic paths from the poor minimum."""
    num_steps: int = 300
    """Of each stochastic path."""
    seed: int = 0
    """Of the examples."""
    plot: Path | None = None
    """Where the picture goes; default: in the run's folder."""

    def __post_init__(self) -> None:
        for name, least in (("num_samples", 2), ("num_steps", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")


def loss(w: Any, z: Any) -> Any:
    """Of one example."""
    return math.exp(0.5) * w * jnp.cos(jnp.pi * w + z)


def risk(w: Any) -> Any:
    """The loss's mean over all z: that of `cos(a + z)` is `cos(a) / sqrt(e)`."""
    return w * jnp.cos(jnp.pi * w)


def empirical_risk(w: Any, examples: jax.Array) -> Any:
    """The loss's mean over some examples."""
    return loss(w, examples).mean()


def risk_gap(num_examples: int) -> float:
    """Half of the expected distance between both risks at the empirical minimum, for many examples.

    `var(loss') / (2 n risk'')` at the true minimum: so much the empirical minimum lies below the true one, and so much
    above it is the true risk of what was found.
    """
    z, weights = np.polynomial.hermite_e.hermegauss(60)
    slopes = np.asarray(jax.vmap(jax.grad(loss), (None, 0))(BEST, jnp.asarray(z)))
    variance = weights @ slopes**2 / weights.sum()  # their mean is 0 there
    return float(variance / (2 * num_examples * jax.grad(jax.grad(risk))(BEST)))


def at_empirical_minima(key: jax.Array, num_examples: int, num_samples: int) -> tuple[float, float]:
    """Fits w to many training sets by gradient descent from the true minimum.

    Returns:
      How far the empirical risk fell from its value at the true minimum, and how far the true risk rose: means.
    """

    def fit(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        examples = jax.random.normal(key, (num_examples,))
        path = optim.trajectory(lambda w: jax.grad(empirical_risk)(w, examples), optim.sgd(0.05), BEST, 40)
        return empirical_risk(BEST, examples) - empirical_risk(path[-1], examples), risk(path[-1]) - risk(BEST)

    gaps = jax.jit(lambda keys: jax.lax.map(fit, keys, batch_size=100))(jax.random.split(key, num_samples))
    return float(gaps[0].mean()), float(gaps[1].mean())


def share_beyond_the_barrier(key: jax.Array, batch_size: int, config: Config) -> np.ndarray:
    """Of the paths that began in the poor minimum, after each step, `[steps + 1]`.

    An example's gradient is that of the risk plus noise of standard deviation 4; w is kept in [-1, 2].
    """

    def gradient(w: jax.Array, key: jax.Array) -> jax.Array:
        return jax.grad(risk)(w) + 4 / math.sqrt(batch_size) * jax.random.normal(key)

    optimizer = optim.projected(optim.sgd(0.1), lambda w: projections.projection_box(w, -1.0, 2.0))
    keys = jax.random.split(key, config.num_samples)
    paths = jax.vmap(lambda key: optim.trajectory(gradient, optimizer, POOR, config.num_steps, key))
    return np.asarray(jax.jit(lambda keys: (paths(keys) > BETWEEN).mean(0))(keys))


def saddle(x: Any) -> Any:
    """A minimum along one axis, a maximum along the other."""
    return x[0] ** 2 - x[1] ** 2


def risks(config: Config, figures: dict[str, float], curves: Any, gaps: Any) -> None:
    """Prints and draws both risks."""
    w = jnp.linspace(-1, 2, 301)
    curves.plot(w, risk(w), "k", linewidth=2, label="true risk")
    curves.plot([POOR, BEST], [risk(POOR), risk(BEST)], "k*", markersize=10)
    for i in range(3):
        examples = jax.random.normal(jax.random.fold_in(jax.random.key(config.seed), i), (10,))
        values = np.asarray(jax.vmap(empirical_risk, (0, None))(w, examples))
        curves.plot(w, values, f"C{i}", linewidth=1, label="of 10 examples" if i == 0 else "of 10 others")
        curves.plot(w[150 + values[150:].argmin()], values[150:].min(), f"C{i}o")
    curves.set(xlabel="w", ylabel="risk", title="The training set's minimum (dot) is not the true one (star)")

    print("At the empirical minimum      empirical risk lower by   true risk higher by   theory, 1 / n")
    lower, higher, expected = [], [], [risk_gap(n) for n in NUM_EXAMPLES]
    for n, theory in zip(NUM_EXAMPLES, expected, strict=True):
        fell, rose = at_empirical_minima(jax.random.key(config.seed + n), n, config.num_samples)
        figures |= {f"lower/{n}": fell, f"higher/{n}": rose}
        lower.append(fell)
        higher.append(rose)
        print(f"  of {n:>4} examples {fell:>36.5f} {rose:>21.5f} {theory:>15.5f}")
    gaps.plot(NUM_EXAMPLES, lower, "C0v", label="empirical risk there is lower by")
    gaps.plot(NUM_EXAMPLES, higher, "C1^", label="true risk there is higher by")
    gaps.plot(NUM_EXAMPLES, expected, "k:", label="theory")
    gaps.set(xlabel="training examples n", ylabel="distance from the least true risk", xscale="log", yscale="log")
    gaps.set_title("What is found looks better and is worse, by 1 / n")


def minima(config: Config, figures: dict[str, float], axes: Any) -> None:
    """Where descent ends from everywhere, and who leaves the poor minimum with noise."""
    starts = jnp.linspace(-1, 2, 301)
    ends = jax.vmap(lambda w: optim.trajectory(jax.grad(risk), optim.sgd(0.05), w, 200)[-1])(starts)
    poor = np.asarray(ends < 0)
    figures |= {"poor": float(ends[poor].mean()), "best": float(ends[~poor].mean()), "share/poor": float(poor.mean())}
    print(
        f"Gradient descent on w cos(pi w) from 301 points of [-1, 2]: {poor.mean():.0%} end at {figures['poor']:.4f},"
    )
    print(f"where it is {float(risk(figures['poor'])):.4f}, the others at {figures['best']:.4f}: ", end="")
    print(f"{float(risk(figures['best'])):.4f}. From the poor minimum, in batches of")
    for batch_size in BATCH_SIZES:
        share = share_beyond_the_barrier(jax.random.key(config.seed + batch_size), batch_size, config)
        figures[f"left/{batch_size}"] = float(share[-1])
        axes.plot(share, label=f"batches of {batch_size}")
        print(f"  {batch_size:>2}: {share[-1]:.3f} of the paths are beyond the barrier after {config.num_steps} steps")
    axes.set(xlabel="step", ylabel="share of the paths", ylim=(-0.02, 1.02))
    axes.set_title("Beyond the barrier from the poor minimum:\nnoise frees, too much does not rest")


def from_a_saddle(figures: dict[str, float], axes: Any) -> None:
    """Descends from beside the axis that leads into the saddle."""
    least, greatest = np.linalg.eigvalsh(jax.hessian(saddle)(jnp.zeros(2)))
    path = np.asarray(optim.trajectory(jax.grad(saddle), optim.sgd(0.1), jnp.array([1.0, 1e-4]), 50))
    slopes = 2 * np.linalg.norm(path, axis=1)
    figures |= {"saddle/least": float(least), "saddle/greatest": float(greatest)}
    figures |= {"saddle/slope": float(slopes.min()), "saddle/step": float(slopes.argmin())}
    print(
        f"x^2 - y^2 has eigenvalues {greatest:.0f} and {least:.0f} at its saddle. From (1, 0.0001) the slope falls to ",
        end="",
    )
    print(f"{slopes.min():.4f} at step {slopes.argmin()}; at step 50 y is {path[-1, 1]:.2f}")
    x, y = np.meshgrid(np.linspace(-1.1, 1.1, 61), np.linspace(-1.1, 1.1, 61))
    axes.contour(x, y, saddle(np.stack([x, y])), levels=12, colors="0.75", linewidths=0.8)
    axes.plot(*path.T, "C1o-", markersize=4, linewidth=1, label="50 steps from (1, 0.0001)")
    axes.plot(0, 0, "k*", markersize=10, label="saddle")
    axes.set(xlabel="x", ylabel="y", xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
    axes.set_title(f"x² - y², curvatures {greatest:.0f} and {least:.0f}: the path looks done, then leaves")


def main(config: Config) -> dict[str, float]:
    """Measures, prints, draws, and returns the figures."""
    path = config.plot or experiment.run_folder("ch12_risk") / "risk.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = {}
    picture = plotting.figure(12, 9)
    (curves, gaps), (barrier, around_saddle) = picture.subplots(2, 2)
    risks(config, figures, curves, gaps)
    minima(config, figures, barrier)
    from_a_saddle(figures, around_saddle)
    for axes in (curves, gaps, barrier, around_saddle):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    picture.savefig(path, dpi=100)
    print(f"picture: {path}")
    return figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
