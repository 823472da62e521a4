"""Information theory (D2L 22.11): surprise, entropy, what variables tell of each other, divergence, cross-entropy.

    python examples/ch22_information_theory.py

Takes 4 s of processor time, in float64: the probability of one order of a deck is below the smallest float32. Exact
values have been compared with the chapter's. Where its demonstrations take tables that are no distributions, the script
says so, and shows what proper ones give.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import experiment, plotting
from jaxdl.probability import (
    Normal,
    conditional_entropy,
    cross_entropy,
    entropy,
    joint_entropy,
    kl_divergence,
    mutual_information,
    self_information,
)

Facts = Iterator[tuple[str, Any, Any]]  # what it is, its value, and what that should be
JOINT = np.array([[0.1, 0.5], [0.1, 0.3]])  # P(X, Y): rows are x, columns y


@dataclass(frozen=True)
class Config:
    """Measures information."""

    samples: int = 10_000
    """To estimate divergences from."""
    seed: int = 0
    """Of the samples."""
    plot: Path | None = None
    """Where the picture goes; default: inside the run's folder."""

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError(f"samples: expected at least 2, got {self.samples}")


def surprise() -> Facts:
    """22.11.1  Self-information: the less probable an event, the more bits it carries; independent events add up."""
    yield "an event of probability 1/64", self_information(1 / 64, unit="bits"), 6
    yield "something certain", self_information(1.0, unit="bits"), 0
    yield "one of four suits", self_information(1 / 4, unit="bits"), 2
    yield "a card of 52", self_information(1 / 52, unit="bits"), 5.70044
    yield "a shuffled deck, 1 / 52!", self_information(1 / math.factorial(52), unit="bits"), 225.581003


def entropies() -> Facts:
    """22.11.2, 22.11.3  Entropy is expected surprise; of two variables together, of one given the other, in common."""
    x, y = JOINT.sum(axis=1), JOINT.sum(axis=0)
    h_x, h_y = entropy(x, unit="bits"), entropy(y, unit="bits")
    h_xy = joint_entropy(JOINT, unit="bits")
    yield "H of 0.1, 0.5, 0.1, 0.3", entropy([0.1, 0.5, 0.1, 0.3], unit="bits"), 1.685475
    yield "H(X, Y)", h_xy, 1.685475
    yield "H(Y | X) = H(X, Y) - H(X)", conditional_entropy(JOINT, unit="bits"), h_xy - h_x
    yield "H(X | Y) = H(X, Y) - H(Y)", conditional_entropy(JOINT.T, unit="bits"), h_xy - h_y
    yield "I(X, Y) = H(X) + H(Y) - H(X, Y)", mutual_information(JOINT, unit="bits"), h_x + h_y - h_xy
    yield "I where Y copies X, one bit", mutual_information([[0.5, 0], [0, 0.5]], unit="bits"), 1
    yield "I where they are independent", mutual_information(np.outer(x, y), unit="bits"), 0


def the_books_tables() -> Facts:
    """The book's own numbers for the last two, from tables that belong to no one distribution."""
    table, p_x = np.array([[0.1, 0.5], [0.2, 0.3]]), np.array([[0.2, 0.8]])
    yield "its joint table sums to", table.sum(), 1.1
    yield "'conditional entropy'", -(table * np.log2(table / p_x)).sum(), 0.863547
    p_y = np.array([[0.75, 0.25]])  # multiplied with P(x) element by element, not every x with every y
    yield "margins of its next table: P(x), P(y)", np.stack([JOINT.sum(1), JOINT.sum(0)]), [[0.6, 0.4], [0.2, 0.8]]
    yield "'mutual information' with other margins", (JOINT * np.log2(JOINT / (p_y * p_x))).sum(), 0.71946


def classification() -> Facts:
    """22.11.5  Cross-entropy, in nats, is the loss of classification: minus the log of the label's probability."""
    predictions, labels = jnp.array([[0.3, 0.6, 0.1], [0.2, 0.3, 0.5]]), jnp.array([0, 2])
    one_hot = jax.nn.one_hot(labels, 3)
    yield "mean of two examples", cross_entropy(one_hot, predictions).mean(), 0.94856
    yield "-(log 0.3 + log 0.5) / 2", -(math.log(0.3) + math.log(0.5)) / 2, 0.94856
    p, q = jnp.array([0.1, 0.5, 0.4]), jnp.array([0.3, 0.3, 0.4])
    yield "H(p, q) - H(p) - D(p || q)", cross_entropy(p, q) - entropy(p) - kl_divergence(p, q), 0


def gaussian_divergence(loc: Any, scale: Any) -> Any:
    """D(N(0, 1) || N(loc, scale^2)) in nats, in closed form."""
    return jnp.log(scale) + (1 + loc**2) / (2 * scale**2) - 0.5


def divergences(config: Config) -> dict[str, float]:
    """22.11.4  D(p || q) between densities is the mean of log p(x) - log q(x) where x comes from p, in nats."""
    print(f"\n{divergences.__doc__}")
    p, figures = Normal(0.0, 1.0), {}
    x = p.sample(jax.random.key(config.seed), (config.samples,))
    for loc, scale in ((-1.0, 1.0), (1.0, 1.0), (0.0, 2.0), (0.0, 0.5)):
        name, exact = f"D(N(0, 1) || N({loc:g}, {scale**2:g}))", float(gaussian_divergence(loc, scale))
        differences = p.log_prob(x) - Normal(loc, scale).log_prob(x)
        estimate, error = float(differences.mean()), float(differences.std()) / math.sqrt(config.samples)
        print(f"  {name:<42}{exact:.4f}, from {config.samples:,} samples {estimate:.4f} ± {error:.4f}")
        figures |= {name: exact, f"{name}, errors off": abs(estimate - exact) / error}
    print("  too narrow a q costs more than one that is too wide: it all but rules out what happens")
    print("  (the book compares sums over raw samples, which are not divergences)")
    return figures


def draw(path: Path) -> None:
    """The entropy of a coin, and divergence in both directions."""
    picture = plotting.figure(9, 3.6)
    left, right = picture.subplots(1, 2)
    p = jnp.linspace(0, 1, 201)
    bits = entropy(jnp.stack([p, 1 - p], axis=1), unit="bits")
    title = "A fair coin is the most uncertain"
    plotting.lines(p, {"": bits}, xlabel="probability of heads", ylabel="entropy in bits", title=title, axes=left)
    scale = jnp.exp(jnp.linspace(jnp.log(0.25), jnp.log(4.0), 200))
    backward = -jnp.log(scale) + scale**2 / 2 - 0.5  # D(N(0, s^2) || N(0, 1))
    curves = {"$D(p\\,||\\,q)$": gaussian_divergence(0.0, scale), "$D(q\\,||\\,p)$": backward}
    title = "Divergence of $p = N(0, 1)$ and $q = N(0, s^2)$"
    plotting.lines(scale, curves, xlabel="s", ylabel="nats", xscale="log", title=title, axes=right)
    right.set_xticks([0.25, 0.5, 1, 2, 4], ["1/4", "1/2", "1", "2", "4"])
    right.minorticks_off()
    picture.savefig(path, dpi=120)


def main(config: Config) -> dict[str, float]:
    """Prints and checks all sections, draws the picture, and returns the values that are one number."""
    figures: dict[str, float] = {}
    with jax.enable_x64(True):  # 1 / 52! is below the smallest float32
        for section in (surprise, entropies, the_books_tables, classification):
            print(f"\n{section.__doc__}")
            for name, value, expected in section():
                np.testing.assert_allclose(value, expected, atol=5e-6, err_msg=name)
                shown = np.array2string(np.asarray(value) + 0.0, precision=6, separator=", ", suppress_small=True)
                print(f"  {name:<42}" + shown.replace("\n", ""))
                if np.ndim(value) == 0:
                    figures[name] = float(value)
        figures |= divergences(config)
        path = config.plot or experiment.run_folder("ch22_information_theory") / "information.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path)
    print(f"\npicture: {path}")
    return figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
