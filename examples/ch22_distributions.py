"""Random variables, maximum likelihood, distributions, statistics (D2L 22.6, 22.7, 22.8, 22.10).

    python examples/ch22_distributions.py

Takes 10 s of processor time. Exact values have been compared with the chapter's; the rest is counted in 10,000
simulated experiments: 95 % confidence intervals from 10 samples hold the mean in 0.950 of them with Student's quantile
and in 0.921 with the normal one (theory: 0.950 and 0.918); tests at 5 % reject in 0.050 where there is nothing, and in
0.801 where there is what they were planned for at a power of 80 %.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import experiment, plotting
from jaxdl import probability as pr

Facts = Iterator[tuple[str, Any, Any]]  # what it is, its value, and what that should be
DISTRIBUTIONS: dict[str, tuple[pr.Distribution, float, float]] = {  # mean and variance by the chapter's formulas
    "Bernoulli(0.3)": (pr.Bernoulli(0.3), 0.3, 0.3 * 0.7),
    "DiscreteUniform(1, 5)": (pr.DiscreteUniform(1, 5), (1 + 5) / 2, (5**2 - 1) / 12),
    "Uniform(1, 3)": (pr.Uniform(1.0, 3.0), (1 + 3) / 2, (3 - 1) ** 2 / 12),
    "Binomial(10, 0.2)": (pr.Binomial(10, 0.2), 10 * 0.2, 10 * 0.2 * 0.8),
    "Poisson(5)": (pr.Poisson(5.0), 5, 5),
    "Normal(0, 1)": (pr.Normal(0.0, 1.0), 0, 1),
}


@dataclass(frozen=True)
class Config:
    """Looks at distributions and draws conclusions from samples."""

    experiments: int = 10_000
    """Repetitions, to see how often a conclusion is right."""
    seed: int = 0
    """Of all samples."""
    folder: Path | None = None
    """Where the pictures go; default: a new run's folder."""

    def __post_init__(self) -> None:
        if self.experiments < 100:
            raise ValueError(f"experiments: expected at least 100, got {self.experiments}")


def random_variables() -> Facts:
    """22.6  Densities, mean and variance, Chebyshev's bound, covariance and correlation."""
    x = np.arange(-500, 500) * 0.01  # from -5 to 5
    density = 0.2 * pr.Normal(3.0, 1.0).prob(x) + 0.8 * pr.Normal(-1.0, 1.0).prob(x)
    inside = (x > -2.001) & (x < 2.999)
    yield "P(-2 <= X < 3), sum of a mixture's density", 0.01 * density[inside].sum(), 0.773617
    a, p = 1.0, 1 / 8
    values, chances = [a - 2, a, a + 2], [p, 1 - 2 * p, p]
    mean, variance = pr.expectation(values, chances), pr.variance(values, chances)
    yield "mean of {a - 2, a, a + 2} with p, 1 - 2p, p", mean, a
    yield "its variance, 8 p", variance, 8 * p
    yield "P(|X - a| >= 2 standard deviations)", 2 * p, pr.chebyshev_bound(2)  # here the bound is met
    yield "Chebyshev: outside 10 deviations at most", pr.chebyshev_bound(10), 0.01
    p = 0.8
    joint = [[p / 2, (1 - p) / 2], [(1 - p) / 2, p / 2]]  # X = ±1, Y = ±2, of the same sign with probability p
    yield "covariance of X = ±1 and Y = ±2, 4 p - 2", pr.covariance([-1, 1], [-2, 2], joint), 4 * p - 2
    yield "their correlation, 2 p - 1", pr.correlation([-1, 1], [-2, 2], joint), 2 * p - 1


def likelihood() -> Facts:
    """22.7  The parameter under which the data is most probable; from its logarithm, as the product underflows."""
    yield "nine heads, four tails: 9 / 13", pr.fit_bernoulli([1, 0], weights=[9, 4]).p, 9 / 13
    theta = jnp.linspace(0.001, 0.999, 999)
    yield "the best of 999 values", theta[(theta**9 * (1 - theta) ** 4).argmax()], 0.692
    heads, tails = 8_675_309, 256_245

    def log_likelihood(theta: jax.Array) -> jax.Array:
        return heads * jnp.log(theta) + tails * jnp.log(1 - theta)

    found, _ = pr.maximize_likelihood(log_likelihood, 0.5, optax.sgd(1e-9), steps=100)
    yield "8,675,309 heads, 256,245 tails, by gradient", found, 0.971310
    yield "in closed form", pr.fit_bernoulli([1, 0], weights=[heads, tails]).p, 0.971310
    yield "0.971 ^ 8,675,309, a factor of the likelihood", theta[970] ** heads, 0


def moments() -> Facts:
    """22.8  Mean and variance of each distribution, as the chapter derives them."""
    for name, (distribution, mean, variance) in DISTRIBUTIONS.items():
        yield f"{name}, mean and variance", jnp.stack([distribution.mean, distribution.variance]), [mean, variance]
    k = jnp.arange(11)
    yield "Binomial(10, 0.2), P(X = 2) = 45 0.2^2 0.8^8", pr.Binomial(10, 0.2).prob(2), 45 * 0.2**2 * 0.8**8
    yield "Poisson(5), P(X = 5) = 5^5 / 5! e^-5", pr.Poisson(5.0).prob(5), 5**5 / 120 * math.exp(-5)
    yield (
        "Binomial(10^6, 5 / 10^6) - Poisson(5), greatest",
        abs(pr.Binomial(10**6, 5e-6).prob(k) - pr.Poisson(5.0).prob(k)).max(),
        0,
    )
    # An exponential family: one formula for all; the derivatives of its log-partition function are the moments.
    eta = jnp.log(jnp.array([5.0]))
    yield "Poisson as exponential family, mean", pr.POISSON.mean(eta), [5]
    yield "and variance", pr.POISSON.covariance(eta), [[5]]
    eta = jnp.array([1 / 4, -1 / 8])  # mean 1, variance 4
    yield "Normal(1, 2) so, E[x] and E[x^2]", pr.NORMAL.mean(eta), [1, 5]


def no_mean(config: Config, axes: Any) -> dict[str, float]:
    """22.6  A Cauchy distribution has no mean: averages of more samples do not settle."""
    print(f"\n{no_mean.__doc__}")
    key = jax.random.key(config.seed)
    counts = jnp.arange(1, 10_001)
    averages = {
        "normal": jax.random.normal(key, counts.shape).cumsum() / counts,
        "Cauchy": jax.random.cauchy(key, counts.shape).cumsum() / counts,
    }
    plotting.lines(
        counts, averages, xlabel="samples", ylabel="average so far", xscale="log",
        title="Averages of Cauchy samples do not settle", axes=axes,
    )  # fmt: skip
    # The average of n Cauchy samples is distributed as one of them: half of its values lie in [-1, 1].
    means = jax.random.cauchy(jax.random.fold_in(key, 1), (config.experiments, 100)).mean(axis=1)
    share = float((abs(means) <= 1).mean())
    print(f"  averages of 100 Cauchy samples within [-1, 1]: {share:.3f} (of single samples: 0.5)")
    return {"cauchy within 1": share}


def statistics(config: Config, axes: Any) -> dict[str, float]:
    """22.10  What samples say of a mean: error of estimators, confidence intervals, tests and their power."""
    print(f"\n{statistics.__doc__}")
    keys = jax.random.split(jax.random.key(config.seed))
    x = 1 + 2 * jax.random.normal(keys[0], (config.experiments, 10))
    figures: dict[str, float] = {}
    print("  estimators of a variance of 4 from 10 samples     squared error = bias^2 + variance")
    for name, estimates in (("n - 1 below", x.var(1, ddof=1)), ("n below, maximum likelihood", x.var(1))):
        error = pr.estimator_error(estimates, 4.0)
        parts = f"{float(error.bias) ** 2:.3f} + {error.variance:.3f}"
        print(f"    {name:<46}{error.mean_squared_error:>8.3f} = {parts}")
        figures |= {f"{name}/bias": float(error.bias), f"{name}/squared error": float(error.mean_squared_error)}

    intervals = {}
    for quantile in ("t", "normal"):
        low, high = jax.jit(jax.vmap(partial(pr.confidence_interval, quantile=quantile)))(x)
        intervals[quantile] = low, high
        share = float(((low <= 1) & (high >= 1)).mean())
        print(f"  95 % confidence intervals that hold the mean, {quantile + ' quantile:':<17} {share:.3f}")
        figures[f"interval/{quantile}"] = share
    low, high = (np.asarray(end[:50]) for end in intervals["t"])
    holds = (low <= 1) & (high >= 1)
    for i in range(len(low)):
        axes.plot([i, i], [low[i], high[i]], color="C0" if holds[i] else "C3", linewidth=2)
    axes.axhline(1, color="k", linewidth=1, label="true mean")
    axes.set(xlabel="data set of 10 samples", title=f"95 % confidence intervals: {holds.sum()} of 50 hold the mean")
    axes.legend()

    effect = 0.5
    n = pr.z_test_sample_size(effect / math.sqrt(2))  # two groups
    print(f"  two groups that differ by {effect} standard deviations: {n} in each for a power of 80 % at 5 %")
    a, b = jax.random.normal(keys[1], (2, config.experiments, n))
    test = jax.jit(jax.vmap(pr.two_sample_t_test))
    for name, shift in (("no difference", 0.0), (f"a difference of {effect}", effect)):
        rejected = float((test(a + shift, b).p_value < 0.05).mean())
        print(f"  p < 5 % in {rejected:.3f} of the experiments with {name}")
        figures[f"rejected/{shift}"] = rejected
    return figures | {"group size": n}


def draw_distributions(path: Path) -> None:
    """Mass or density and cumulative distribution of each."""
    picture = plotting.figure(15, 5)
    picture.suptitle("Probability or density (above), and P(X ≤ x) (below)")
    grid = picture.subplots(2, len(DISTRIBUTIONS))
    for column, (name, (distribution, _, _)) in enumerate(DISTRIBUTIONS.items()):
        above, below = grid[:, column]
        low, high = {"Normal(0, 1)": (-3, 3), "Poisson(5)": (-1, 13)}.get(name, (-1, 6))
        x = np.linspace(low, high, 50 * (high - low) + 1)  # the integers, and 49 points between two
        prob, cdf = jax.jit(lambda x, d=distribution: (d.prob(x), d.cdf(x)))(x)
        if distribution.discrete:
            above.stem(x[::50], prob[::50], basefmt=" ", markerfmt="C0.")
        else:
            above.plot(x, prob)
        below.plot(x, cdf, "C1")
        above.set_title(name, fontsize=10)
        above.set_ylim(bottom=0)
        below.grid(alpha=0.3)
    picture.savefig(path, dpi=110)


def main(config: Config) -> dict[str, float]:
    """Prints and checks all sections, draws the pictures, and returns the figures."""
    folder = config.folder or experiment.run_folder("ch22_distributions")
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = {}
    with jax.enable_x64(True):  # ten million tosses and their gradients need more than 24 bits
        for section in (random_variables, likelihood, moments):
            print(f"\n{section.__doc__}")
            for name, value, expected in section():
                np.testing.assert_allclose(value, expected, atol=1e-6, rtol=1e-6, err_msg=name)
                shown = np.array2string(np.asarray(value), precision=6, separator=", ", suppress_small=True)
                print(f"  {name:<50}" + shown.replace("\n", ""))
                if np.ndim(value) == 0:
                    figures[name] = float(value)
    picture = plotting.figure(11, 3.8)
    left, right = picture.subplots(1, 2)
    figures |= no_mean(config, left) | statistics(config, right)
    picture.savefig(folder / "samples.png", dpi=120)
    draw_distributions(folder / "distributions.png")
    print(f"\npictures: {folder / 'distributions.png'}, {folder / 'samples.png'}")
    return figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
