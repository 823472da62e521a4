"""Probability and statistics (D2L 2.6): coins, a medical test and Bayes' rule, the worth of an investment, covariance.

    python examples/ch02_probability.py

Takes 4 s of processor time. A positive result of a test that is right 99 % of the time for the healthy and always for
the ill means 13 % of being ill where 0.15 % are; a second, independent positive result means 83 %. Each printed value
of Bayes' rule and of the investment has been compared with the chapter's. The picture shows the law of large numbers on
a fair coin.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import experiment, plotting, probability

Facts = Iterator[tuple[str, Any, Any]]  # what it is, its value, and what that should be


@dataclass(frozen=True)
class Config:
    """Tosses coins and weighs evidence."""

    tosses: int = 10_000
    """Of a fair coin."""
    seed: int = 0
    """Of the coin and of the samples."""
    plot: Path | None = None
    """Where the picture goes; default: inside the run's folder."""

    def __post_init__(self) -> None:
        if self.tosses < 10:
            raise ValueError(f"tosses: expected at least 10, got {self.tosses}")


def toss_coins(config: Config, path: Path) -> dict[str, float]:
    """2.6.1  The share of heads comes near 1/2, by about 1 / (2 sqrt(n)) after n tosses: the law of large numbers."""
    print(f"\n{toss_coins.__doc__}")
    key, many_key = jax.random.split(jax.random.key(config.seed))
    tosses = jax.random.bernoulli(key, 0.5, (20, config.tosses))  # 20 people toss
    counts = jnp.arange(1, config.tosses + 1)
    shares = np.asarray(tosses.cumsum(axis=1) / counts[None])
    deviation = 0.5 / np.sqrt(counts)
    for n in (10, 100, config.tosses):
        print(f"  {n:>6} tosses: shares of 20 people {shares[:, n - 1].min():.3f} to {shares[:, n - 1].max():.3f}")
    heads, tails = jax.random.multinomial(many_key, 100.0, jnp.array([0.5, 0.5]))  # counts, without the tosses
    print(f"  a sample of the multinomial distribution of 100 tosses: {heads:.0f} heads, {tails:.0f} tails")

    picture = plotting.figure(6.4, 3.8)
    axes = picture.subplots()
    axes.plot(counts, shares.T, color="C0", alpha=0.35, linewidth=0.8)
    for sign in (-2, 2):
        label = "1/2 ± two standard deviations, 1 / sqrt(n)" if sign == 2 else None
        axes.plot(counts, 0.5 + sign * deviation, "k--", linewidth=1, label=label)
    axes.set(xscale="log", ylim=(0, 1), xlabel="tosses n", ylabel="share of heads")
    axes.set_title("Twenty fair coins: shares of heads come near 1/2")
    axes.grid(alpha=0.3)
    axes.legend()
    picture.savefig(path, dpi=120)
    inside = np.abs(shares[:, 9:] - 0.5) <= 2 * deviation[None, 9:]
    return {"error of the share": float(np.abs(shares[:, -1] - 0.5).mean()), "inside": float(inside.mean())}


def bayes() -> Facts:
    """2.6.5  Bayes' rule: a test with few errors, for an illness that is rarer than its errors."""
    prior = [1 - 0.0015, 0.0015]  # healthy, ill
    first = [0.01, 1.0]  # P(D1 = 1 | H)
    second = [0.03, 0.98]  # P(D2 = 1 | H), errors independent of the first test's
    both = jnp.array(first) * jnp.array(second)
    yield "P(D1 = 1)", probability.evidence(prior, first), 0.011485
    yield "P(H = 1 | D1 = 1)", probability.posterior(prior, first)[1], 0.1306
    yield "P(D1 = 1, D2 = 1 | H), H = 0, 1", both, [0.0003, 0.98]
    yield "P(D1 = 1, D2 = 1)", probability.evidence(prior, both), 0.00176955
    yield "P(H = 1 | D1 = 1, D2 = 1)", probability.posterior(prior, both)[1], 0.8307
    one_after_the_other = probability.posterior(probability.posterior(prior, first), second)
    yield "the same, one test after the other", one_after_the_other[1], 0.8307


def coupled_tests() -> Facts:
    """2.6, exercise 7  Two tests that err together: 10 % false positives, 1 % false negatives, both false with 2 %."""
    prior = [1 - 0.0015, 0.0015]
    coupled = jnp.array([[0.82, 0.08], [0.08, 0.02]])  # P(D1, D2 | H = 0): the margins leave one entry free
    yield "P(D1, D2 | H = 0), margin", coupled.sum(axis=1), [0.9, 0.1]
    first, both = [0.1, 0.99], [coupled[1, 1], 0.99**2]  # for the ill they err independently
    yield "P(H = 1 | D1 = 1)", probability.posterior(prior, first)[1], 0.001485 / 0.101335
    yield "P(H = 1 | D1 = 1, D2 = 1)", probability.posterior(prior, jnp.array(both))[1], 0.00147015 / 0.02144015
    independent = probability.posterior(prior, [0.1**2, 0.99**2])[1]
    yield "if they erred independently", independent, 0.00147015 / (0.00147015 + 0.9985 * 0.01)


def investment() -> Facts:
    """2.6.6  An investment returns 0, 2 or 10 times its price; to lose all is worse than to keep one's money."""
    p = [0.5, 0.4, 0.1]
    yield "expected return", probability.expectation([0, 2, 10], p), 1.8
    yield "variance of the return", probability.variance([0, 2, 10], p), 8.36
    yield "expected utility, of utilities -1, 2, 4", probability.expectation([-1, 2, 4], p), 0.7
    print("  keeping the money has utility 1: to this investor the offer is a loss of 30 %")


def vectors(config: Config) -> dict[str, float]:
    """2.6.6  Random vectors: the covariance matrix of x = A z for standard normal z is A A^T."""
    print(f"\n{vectors.__doc__}")
    a = jnp.array([[1.0, 0.0], [0.8, 0.6]])
    z = jax.random.normal(jax.random.key(config.seed), (2, 10_000))
    covariance = jnp.cov(a @ z)
    print(f"  A A^T          {(a @ a.T).round(2).tolist()}")
    print(f"  of 10,000 x    {np.asarray(covariance).round(2).tolist()}")
    v = jnp.array([1.0, -1.0])
    print(f"  variance of v.x {(v @ a @ z).var():.3f}, and v.Σ v {v @ a @ a.T @ v:.3f}")
    return {"error of the covariance": float(abs(covariance - a @ a.T).max())}


def main(config: Config) -> dict[str, float]:
    """Runs all sections and returns their figures."""
    path = config.plot or experiment.run_folder("ch02_probability") / "large_numbers.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = toss_coins(config, path)
    for section in (bayes, coupled_tests, investment):
        print(f"\n{section.__doc__}")
        for name, value, expected in section():
            np.testing.assert_allclose(value, expected, atol=5e-5, err_msg=name)
            shown = np.array2string(np.asarray(value), precision=6, separator=", ", suppress_small=True)
            print(f"  {name:<42}" + shown.replace("\n", ""))
            if np.ndim(value) == 0:
                figures[f"{section.__name__}/{name}"] = float(value)
    figures |= vectors(config)
    print(f"\npicture: {path}")
    return figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
