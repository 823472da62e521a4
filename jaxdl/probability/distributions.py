"""Distributions with their mass or density, cumulative distribution, moments and samples (D2L 22.8).

`jax.scipy.stats` computes what it has; added is what it lacks. A distribution is one: its parameters are scalars, and
`jax.vmap(lambda rate, x: Poisson(rate).prob(x))` makes many. They may be traced, so all is differentiable in them.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special, stats
from jax.typing import ArrayLike

from jaxdl.probability.checks import is_concrete, real_array


class Distribution(ABC):
    """What every distribution offers. Values x may have any shape, and results are float32 or float64.

    A discrete distribution gives probability 0 to what is not an integer. NaN gives NaN.
    """

    discrete = False

    @property
    def mean(self) -> jax.Array:
        """`E[X]`."""
        return jnp.asarray(self._mean(), float)

    @property
    def variance(self) -> jax.Array:
        """`E[(X - E[X])^2]`."""
        return jnp.asarray(self._variance(), float)

    @property
    def std(self) -> jax.Array:
        """The standard deviation, in the unit of X."""
        return jnp.sqrt(self.variance)

    def log_prob(self, x: ArrayLike) -> jax.Array:
        """Natural logarithm of the probability of x, or of the density at x; minus infinity where it is 0."""
        x = real_array("x", x)
        possible = jnp.isfinite(x) & ((x == jnp.floor(x)) if self.discrete else True)
        log_prob = jnp.where(possible, self._log_prob(jnp.where(possible, x, 0)), -jnp.inf)
        return jnp.where(jnp.isnan(x), x, log_prob)

    def prob(self, x: ArrayLike) -> jax.Array:
        """The probability of x, or the density at x."""
        return jnp.exp(self.log_prob(x))

    def cdf(self, x: ArrayLike) -> jax.Array:
        """`P(X <= x)`."""
        x = real_array("x", x)
        cdf = self._cdf(jnp.where(jnp.isfinite(x), jnp.floor(x) if self.discrete else x, 0))
        return jnp.where(jnp.isfinite(x), cdf, jnp.where(jnp.isnan(x), x, (x > 0).astype(x.dtype)))

    def sample(self, key: jax.Array, shape: tuple[int, ...] = ()) -> jax.Array:
        """Independent samples of that shape."""
        return jnp.asarray(self._sample(key, shape), float)

    @abstractmethod
    def _mean(self) -> Any: ...

    @abstractmethod
    def _variance(self) -> Any: ...

    @abstractmethod
    def _log_prob(self, x: jax.Array) -> jax.Array: ...

    @abstractmethod
    def _cdf(self, x: jax.Array) -> jax.Array: ...

    @abstractmethod
    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array: ...


@dataclass(frozen=True)
class Bernoulli(Distribution):
    """1 with probability p, else 0 (D2L 22.8.1).

    Raises:
      ValueError: if p is not a scalar in [0, 1]. So with all distributions, where the parameters are known.
    """

    p: ArrayLike
    discrete = True

    def __post_init__(self) -> None:
        _check_parameter("p", self.p, 0, 1)

    def _mean(self) -> Any:
        return self.p

    def _variance(self) -> Any:
        return self.mean * (1 - self.mean)

    def _log_prob(self, x: jax.Array) -> jax.Array:
        return stats.bernoulli.logpmf(x, self.mean)

    def _cdf(self, x: jax.Array) -> jax.Array:
        return stats.bernoulli.cdf(x, self.mean)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.bernoulli(key, self.mean, shape)


@dataclass(frozen=True)
class DiscreteUniform(Distribution):
    """Every integer from `low` to `high`, both included, with the same probability (D2L 22.8.2: 1 to n)."""

    low: int
    high: int
    discrete = True

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"high: expected at least low = {self.low}, got {self.high}")

    def _mean(self) -> Any:
        return (self.low + self.high) / 2

    def _variance(self) -> Any:
        return ((self.high - self.low + 1) ** 2 - 1) / 12

    def _log_prob(self, x: jax.Array) -> jax.Array:
        return jnp.where((x >= self.low) & (x <= self.high), -jnp.log(self.high - self.low + 1.0), -jnp.inf)

    def _cdf(self, x: jax.Array) -> jax.Array:
        return jnp.clip((x - self.low + 1) / (self.high - self.low + 1), 0, 1)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.randint(key, shape, self.low, self.high + 1)


@dataclass(frozen=True)
class Uniform(Distribution):
    """Density `1 / (high - low)` from `low` to `high` (D2L 22.8.3)."""

    low: ArrayLike = 0.0
    high: ArrayLike = 1.0

    def __post_init__(self) -> None:
        _check_parameter("low", self.low)
        _check_parameter("high", self.high)
        if is_concrete(self.low) and is_concrete(self.high) and not bool(np.asarray(self.low) < np.asarray(self.high)):
            raise ValueError(f"high: expected more than low = {self.low}, got {self.high}")

    def _width(self) -> jax.Array:
        return jnp.asarray(self.high, float) - self.low

    def _mean(self) -> Any:
        return self.low + self._width() / 2

    def _variance(self) -> Any:
        return self._width() ** 2 / 12

    def _log_prob(self, x: jax.Array) -> jax.Array:
        return stats.uniform.logpdf(x, self.low, self._width())

    def _cdf(self, x: jax.Array) -> jax.Array:
        return stats.uniform.cdf(x, self.low, self._width())

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.uniform(key, shape, float) * self._width() + self.low


@dataclass(frozen=True)
class Binomial(Distribution):
    """How many of n independent trials succeed, each with probability p (D2L 22.8.4).

    Note: `log_prob` is a difference of logarithms of factorials. In float32 it is off by 0.001 for a
    thousand trials and by 2 for a million: take float64 there.
    """

    n: int
    p: ArrayLike
    discrete = True

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n: expected at least 1 trial, got {self.n}")
        _check_parameter("p", self.p, 0, 1)

    def _p(self) -> jax.Array:
        return jnp.asarray(self.p, float)

    def _mean(self) -> Any:
        return self.n * self._p()

    def _variance(self) -> Any:
        return self.n * self._p() * (1 - self._p())

    def _log_prob(self, x: jax.Array) -> jax.Array:
        return stats.binom.logpmf(x, self.n, self._p())

    def _cdf(self, x: jax.Array) -> jax.Array:
        """`P(X <= k)` is the incomplete beta function `I_{1-p}(n - k, k + 1)`."""
        k = jnp.clip(x, 0, self.n - 1)
        inside = special.betainc(self.n - k, k + 1, 1 - self._p())
        return jnp.where(x < 0, 0, jnp.where(x >= self.n, 1, inside))

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.binomial(key, float(self.n), self._p(), shape)


@dataclass(frozen=True)
class Poisson(Distribution):
    """How many independent events happen where `rate` are expected (D2L 22.8.5): the limit of `Binomial(n, rate / n)`
    for large n.
    """

    rate: ArrayLike
    discrete = True

    def __post_init__(self) -> None:
        _check_parameter("rate", self.rate, 0)

    def _mean(self) -> Any:
        return self.rate

    def _variance(self) -> Any:
        return self.rate

    def _log_prob(self, x: jax.Array) -> jax.Array:
        return stats.poisson.logpmf(x, self.mean)

    def _cdf(self, x: jax.Array) -> jax.Array:
        return stats.poisson.cdf(x, self.mean)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.poisson(key, self.mean, shape)


@dataclass(frozen=True)
class Normal(Distribution):
    """The Gaussian of mean `loc` and standard deviation `scale` (D2L 22.8.6)."""

    loc: ArrayLike = 0.0
    scale: ArrayLike = 1.0

    def __post_init__(self) -> None:
        _check_parameter("loc", self.loc)
        _check_parameter("scale", self.scale, 0)
        if is_concrete(self.scale) and not bool(np.asarray(self.scale) > 0):
            raise ValueError(f"scale: expected a positive number, got {self.scale}")

    def _mean(self) -> Any:
        return self.loc

    def _variance(self) -> Any:
        return jnp.asarray(self.scale, float) ** 2

    def _log_prob(self, x: jax.Array) -> jax.Array:
        return stats.norm.logpdf(x, self.loc, self.scale)

    def _cdf(self, x: jax.Array) -> jax.Array:
        return stats.norm.cdf(x, self.loc, self.scale)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return self.mean + self.std * jax.random.normal(key, shape, float)


def _check_parameter(name: str, value: ArrayLike, low: float = -jnp.inf, high: float = jnp.inf) -> None:
    """Raises ValueError unless it is a real scalar, and finite and in [low, high] if it is known."""
    value = real_array(name, value)
    if value.ndim:
        raise ValueError(f"{name}: expected a scalar, got shape {list(value.shape)}; jax.vmap makes many distributions")
    if is_concrete(value) and not (low <= float(value) <= high and abs(float(value)) < jnp.inf):
        raise ValueError(f"{name}: expected a finite number in [{low:g}, {high:g}], got {value}")
