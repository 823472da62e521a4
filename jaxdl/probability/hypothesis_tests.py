"""Tests of means, and how many samples they need (D2L 22.10).

The null hypothesis is that nothing is there. Its p-value is how probable data at least so extreme would be if it held;
the significance (often 5 %) is the p-value below which it is rejected, so how often it is rejected where it holds; the
power (often 80 %) is how often it is rejected where it does not hold.
"""

from bisect import bisect_left
from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy import special
from numpy.typing import ArrayLike

from jaxdl.probability.checks import open_unit, positive, real_array


class TTest(NamedTuple):
    """The outcome of a t-test.

    Attributes:
      statistic: t, the difference in units of its standard error.
      p_value: two-sided.
      degrees_of_freedom: of Student's t, which t follows under the null hypothesis.
    """

    statistic: jax.Array
    p_value: jax.Array
    degrees_of_freedom: jax.Array


def t_test(x: ArrayLike, mean: ArrayLike = 0.0) -> TTest:
    """Tests whether samples come from a distribution of that mean (Student, 1908).

    Args:
      x: `[samples]`, independent, at least two, not all the same; normal, or many.
      mean: of the null hypothesis, a scalar.

    Raises:
      ValueError: if the shapes do not fit.
    """
    x, mean = _samples("x", x), real_array("mean", mean, 0)
    return _student((x.mean() - mean) / jnp.sqrt(x.var(ddof=1) / len(x)), jnp.asarray(len(x) - 1.0))


def two_sample_t_test(x: ArrayLike, y: ArrayLike) -> TTest:
    """Tests whether two groups have the same mean; their variances may differ (Welch, 1947).

    Args:
      x: `[samples]` of one group, as in `t_test`.
      y: `[samples]` of the other; as many or not.

    Raises:
      ValueError: if the shapes do not fit.

    Note: as `scipy.stats.ttest_ind` with `equal_var=False`, which is not its default.
    """
    x, y = _samples("x", x), _samples("y", y)
    x_part, y_part = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    degrees = (x_part + y_part) ** 2 / (x_part**2 / (len(x) - 1) + y_part**2 / (len(y) - 1))
    return _student((x.mean() - y.mean()) / jnp.sqrt(x_part + y_part), degrees)


def z_test_power(effect: float, num_samples: int, *, significance: float = 0.05) -> float:
    """How often a two-sided test of a mean finds an effect that is there, if the standard deviation is known.

    Args:
      effect: difference of the true mean from that of the null hypothesis, in standard deviations. For two groups of
        `num_samples` each pass their difference over sqrt(2).
      num_samples: at least 1.
      significance: above 0 and below 1.

    Returns:
      A number from `significance` (at effect 0) to 1.

    Raises:
      ValueError: if an argument is out of range.
    """
    open_unit("significance", significance)
    if num_samples < 1:
        raise ValueError(f"num_samples: expected at least 1, got {num_samples}")
    normal, shift = NormalDist(), effect * sqrt(num_samples)
    critical = normal.inv_cdf(1 - significance / 2)
    return normal.cdf(shift - critical) + normal.cdf(-shift - critical)


def z_test_sample_size(effect: float, *, power: float = 0.8, significance: float = 0.05) -> int:
    """The fewest samples with which `z_test_power` is at least `power`.

    Args:
      effect: in standard deviations, above 0; as in `z_test_power`.
      power: above 0 and below 1.
      significance: above 0 and below 1.

    Raises:
      ValueError: if an argument is out of range.

    >>> z_test_sample_size(0.5)
    32
    """
    positive("effect", effect)
    open_unit("power", power)
    most = 1
    while z_test_power(effect, most, significance=significance) < power:
        most *= 2
    samples = range(most + 1)
    return bisect_left(samples, power, lo=1, key=lambda n: z_test_power(effect, n, significance=significance))


def _samples(name: str, x: ArrayLike) -> jax.Array:
    x = real_array(name, x, 1)
    if len(x) < 2:
        raise ValueError(f"{name}: expected at least two samples, got {len(x)}")
    return x


def _student(t: jax.Array, degrees: jax.Array) -> TTest:
    """`P(|T| >= |t|)` is the incomplete beta function `I_{v / (v + t^2)}(v / 2, 1 / 2)`."""
    degrees = degrees.astype(t.dtype)
    p_value = special.betainc(degrees / 2, jnp.full_like(t, 0.5), degrees / (degrees + t**2))
    return TTest(t, p_value, degrees)
