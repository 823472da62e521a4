"""Convexity at work (D2L 12.2): sets, Jensen, curvature, and a constrained problem solved in three ways.

    python examples/ch12_convexity.py

In 9 s of processor time on an AMD EPYC (by hand in brackets):

- Of random points on segments between points of a set, none leaves a disc, an intersection or what lies above x^2;
  0.0435 leave the union of two discs.
- Jensen: E exp(X) - exp(E X) = 0.6487 (sqrt(e) - 1) for a standard normal X; of cos, which is not convex, -0.3935.
- The point nearest to (1.2, 0.9) with x + y <= 1, (0.65, 0.35), by projection, by the Lagrangian's saddle (multiplier
  0.55) and by penalties, which leave a violation of 0.55 / weight.
- The projection onto a ball is the clipping of gradients by their norm.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import projections

from jaxdl import experiment, optim, plotting

WEIGHTS = np.logspace(0, 4, 9)  # of the penalty
TARGET = np.array([1.2, 0.9])  # the constrained problem's unconstrained minimum

Point = jax.Array  # [2]


Member = Callable[[np.ndarray, np.ndarray], np.ndarray]  # x and y to whether the set has them
SETS: dict[str, Member] = {
    "a disc": lambda x, y: x**2 + y**2 <= 1,
    "a disc and a half-plane": lambda x, y: (x**2 + y**2 <= 1) & (x + y <= 0.5),
    "two discs": lambda x, y: np.minimum((x + 1) ** 2, (x - 1) ** 2) + y**2 <= 1,
    "above x^2": lambda x, y: y >= x**2,
    "above cos(pi x)": lambda x, y: y >= np.cos(np.pi * x),
}


@dataclass(frozen=True)
class Config:
    """Tests for convexity, and uses it."""

    num_points: int = 100_000
    """Drawn from [-2, 2]^2 to find members of each set."""
    seed: int = 0
    """Of the points."""
    plot: Path | None = None
    """Where the picture goes; default: in the run's folder."""

    def __post_init__(self) -> None:
        if self.num_points < 1000:
            raise ValueError(f"num_points: expected at least 1000, got {self.num_points}")


def between_members(member: Member, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Random points on segments between random members, `[points, 2]`, and whether they are members; if all, convex."""
    rng = np.random.default_rng(config.seed)
    points = rng.uniform(-2, 2, (config.num_points, 2))
    members = points[member(*points.T)]
    share = rng.random((len(members), 1))
    between = share * members + (1 - share) * rng.permutation(members)
    return between, member(*between.T)


def jensen_gap(function: Callable[[np.ndarray], np.ndarray]) -> float:
    """`E f(X) - f(E X)` for a standard normal X, by 60 points of quadrature; at least 0 if f is convex."""
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    return float(weights @ function(points) - function(np.zeros(1))[0])


def least_curvature(function: Callable[[jax.Array], jax.Array], bound: float = 3.0) -> float:
    """The least eigenvalue of the Hessian of a function of two variables on a grid; below 0 it is not convex."""
    side = jnp.linspace(-bound, bound, 25)
    grid = jnp.stack(jnp.meshgrid(side, side), axis=-1).reshape(-1, 2)
    return float(jnp.linalg.eigvalsh(jax.vmap(jax.hessian(function))(grid)).min())


# A constrained problem with a known answer: the point nearest to (1.2, 0.9) with x + y <= 1 is (0.65, 0.35), and the
# multiplier is 0.55.


def objective(x: Point) -> jax.Array:
    """Half the squared distance to the target."""
    return jnp.sum((x - TARGET) ** 2) / 2


def constraint(x: Point) -> jax.Array:
    """At most 0 where x is allowed."""
    return x[0] + x[1] - 1


def by_projection() -> jax.Array:
    """Projected gradient descent: the path `[steps + 1, 2]`."""

    def nearest(x: Point) -> Point:
        return projections.projection_halfspace(x, jnp.ones(2), 1.0)

    return optim.trajectory(jax.grad(objective), optim.projected(optim.sgd(0.3), nearest), jnp.array([-1.0, 1.8]), 40)


def by_lagrangian() -> tuple[jax.Array, jax.Array]:
    """Down in x and up in the multiplier, which stays at least 0: the paths `[steps + 1, 2]` and `[steps + 1]`."""

    def gradient(params: tuple[Point, jax.Array]) -> tuple[Point, jax.Array]:
        x, multiplier = params
        down = jax.grad(lambda x: objective(x) + multiplier * constraint(x))(x)
        return down, -constraint(x)

    def allowed(params: tuple[Point, jax.Array]) -> tuple[Point, jax.Array]:
        return params[0], jnp.maximum(params[1], 0)

    start = jnp.array([-1.0, 1.8]), jnp.array(0.0)
    return optim.trajectory(gradient, optim.projected(optim.sgd(0.2), allowed), start, 250)


def by_penalty(weight: float) -> Point:
    """The minimum of `objective + weight / 2 * max(0, constraint)^2`, by Newton's method."""

    def penalised(x: Point) -> jax.Array:
        return objective(x) + weight / 2 * jnp.maximum(constraint(x), 0) ** 2

    x = jnp.asarray(TARGET)
    for _ in range(3):  # a quadratic on each side of the line
        x = optim.newton_step(penalised, x)
    return x


def sets(figures: dict[str, float], config: Config, axes: Any) -> None:
    """Prints how much of the segments leaves each set, and draws those of the two discs."""
    print("Points on segments between members that are no members:")
    for name, member in SETS.items():
        points, inside = between_members(member, config)
        figures[f"left/{name}"] = float(1 - inside.mean())
        print(f"  {name:<24} {figures[f'left/{name}']:.4f}")
        if name == "two discs":
            for kept, color, label in ((inside, "C0", "members"), (~inside, "C3", "not members")):
                axes.plot(*points[kept][:3000].T, ".", color=color, markersize=2, label=label)
    axes.set(xlabel="x", ylabel="y", aspect="equal", title="On segments between points of two discs")
    axes.legend(fontsize=8, loc="upper right", markerscale=4)


def jensen_and_curvature(figures: dict[str, float]) -> None:
    """Prints which functions are convex, by both tests."""
    print("Jensen, X standard normal: E f(X) - f(E X) (by hand)")
    for name, function, expected in (
        ("x^2", np.square, 1.0),
        ("exp x", np.exp, math.exp(0.5) - 1),
        ("cos x", np.cos, math.exp(-0.5) - 1),
    ):
        figures[f"jensen/{name}"] = jensen_gap(function)
        print(f"  {name:<6} {figures[f'jensen/{name}']:>8.4f} ({expected:.4f})")
    print("Least eigenvalue of the Hessian on [-3, 3]^2; convex where it is not negative:")
    for name, surface in (
        ("x^2 + y^2 / 2", lambda x: x[0] ** 2 + x[1] ** 2 / 2),
        ("log(e^x + e^y)", lambda x: jnp.logaddexp(x[0], x[1])),
        ("x^2 - y^2", lambda x: x[0] ** 2 - x[1] ** 2),
        ("cos(pi x) + y^2", lambda x: jnp.cos(jnp.pi * x[0]) + x[1] ** 2),
    ):
        figures[f"curvature/{name}"] = least_curvature(surface)
        print(f"  {name:<16} {round(figures[f'curvature/{name}'], 4) + 0.0:>8.4f}")


def constrained(figures: dict[str, float], axes: Any, penalty_axes: Any) -> None:
    """Solves the problem in three ways, prints them and draws the paths."""
    projected, (saddle, multipliers) = by_projection(), by_lagrangian()
    penalised = np.stack([by_penalty(float(weight)) for weight in WEIGHTS])
    violations = penalised.sum(1) - 1
    figures |= {"projection/x": float(projected[-1, 0]), "projection/y": float(projected[-1, 1])}
    figures |= {"lagrangian/x": float(saddle[-1, 0]), "lagrangian/multiplier": float(multipliers[-1])}
    figures |= {"penalty/x": float(penalised[-1, 0]), "penalty/slope": float(weight_slope(violations))}
    figures["penalty/multiplier"] = float(WEIGHTS[-1] * violations[-1])
    print("The point nearest to (1.2, 0.9) with x + y <= 1 is (0.65, 0.35), with multiplier 0.55:")
    print(f"  projected gradient descent  ({projected[-1, 0]:.5f}, {projected[-1, 1]:.5f})")
    multiplier = f"multiplier {multipliers[-1]:.5f}"
    print(f"  saddle of the Lagrangian    ({saddle[-1, 0]:.5f}, {saddle[-1, 1]:.5f}), {multiplier}")
    multiplier = f"weight times violation {figures['penalty/multiplier']:.5f}"
    print(f"  penalty of weight 10,000    ({penalised[-1, 0]:.5f}, {penalised[-1, 1]:.5f}), {multiplier}")

    x, y = np.meshgrid(np.linspace(-1.3, 2.1, 60), np.linspace(-0.5, 2.1, 60))
    axes.contour(x, y, ((x - 1.2) ** 2 + (y - 0.9) ** 2) / 2, levels=12, colors="0.8", linewidths=0.8)
    axes.fill_between([-1.3, 2.1], [2.3, -1.1], 2.1, color="C3", alpha=0.12, label="not allowed: x + y > 1")
    axes.plot(*projected.T, "C0o-", markersize=4, label="projected gradient descent")
    axes.plot(*saddle.T, "C1-", linewidth=1.2, label="down in x, up in the multiplier")
    axes.plot(*penalised.T, "C2^", markersize=5, label="penalties 1 to 10,000")
    axes.plot(0.65, 0.35, "k*", markersize=11, zorder=5)
    axes.set(xlabel="x", ylabel="y", xlim=(-1.3, 2.1), ylim=(-0.5, 2.1), title="Three ways to (0.65, 0.35), the star")
    axes.legend(fontsize=8, loc="lower left")
    plotting.lines(
        WEIGHTS,
        {"violation x + y - 1": violations, "0.55 / weight": 0.55 / WEIGHTS},
        xlabel="weight of the penalty",
        ylabel="violation",
        title="A penalty violates by multiplier / weight",
        xscale="log",
        yscale="log",
        axes=penalty_axes,
    )
    penalty_axes.lines[1].set_linestyle(":")
    penalty_axes.legend()


def weight_slope(violations: np.ndarray) -> float:
    """The power of the weight that the violation follows, over the larger weights."""
    return np.polyfit(np.log(WEIGHTS[-4:]), np.log(violations[-4:]), 1)[0]


def clipping(figures: dict[str, float]) -> None:
    """Compares two of Optax's functions on gradients inside and outside the ball."""
    gradients = jax.random.normal(jax.random.key(0), (100, 2))
    clipped = jax.vmap(lambda g: optax.clip_by_global_norm(1.0).update(g, optax.EmptyState())[0])(gradients)
    projected = jax.vmap(lambda g: projections.projection_l2_ball(g, 1.0))(gradients)
    figures["clipped"] = float(jnp.any(clipped != gradients, axis=1).mean())
    figures["clipping - projection"] = float(jnp.abs(clipped - projected).max())
    print(
        f"Gradients clipped to norm 1 ({figures['clipped']:.0%} of them changed) and projected onto the ball ", end=""
    )
    print(f"differ by {figures['clipping - projection']:.1e} at most")


def main(config: Config) -> dict[str, float]:
    """Measures, prints, draws, and returns the figures."""
    path = config.plot or experiment.run_folder("ch12_convexity") / "convexity.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = {}
    picture = plotting.figure(16, 4.5)
    discs, problem, penalty = picture.subplots(1, 3)
    sets(figures, config, discs)
    jensen_and_curvature(figures)
    with jax.enable_x64(True):  # violations of 0.00005
        constrained(figures, problem, penalty)
    clipping(figures)
    picture.savefig(path, dpi=100)
    print(f"picture: {path}")
    return figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
