"""How good an estimator is, and how sure an estimate (D2L 22.10)."""

from statistics import NormalDist
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from jaxdl.probability.checks import open_unit, real_array


class EstimatorError(NamedTuple):
    """The error of an estimator and its two parts, `mean_squared_error = bias^2 + variance`.

    Attributes:
      mean_squared_error: the mean of `(estimate - truth)^2`.
      bias: the mean of `estimate - truth`.
      variance: of the estimates, around their own mean.
    """

    mean_squared_error: jax.Array
    bias: jax.Array
    variance: jax.Array


def estimator_error(estimates: ArrayLike, truth: ArrayLike) -> EstimatorError:
    """Measures an estimator by what it said on many data sets.

    Args:
      estimates: `[data sets]`, at least one.
      truth: a scalar.

    Raises:
      ValueError: if the shapes are others or there are no estimates.

    >>> [float(part) for part in estimator_error([1.0, 3.0], 1.0)]
    [2.0, 1.0, 1.0]
    """
    estimates, truth = real_array("estimates", estimates, 1), real_array("truth", truth, 0)
    if not len(estimates):
        raise ValueError("estimates: expected at least one, got none")
    return EstimatorError(jnp.square(estimates - truth).mean(), (estimates - truth).mean(), estimates.var())


def confidence_interval(
    x: ArrayLike, confidence: float = 0.95, *, quantile: Literal["t", "normal"] = "t"
) -> tuple[jax.Array, jax.Array]:
    """Where the mean of a distribution lies, given samples: `mean(x) ± q s / sqrt(n)`.

    Of the intervals of many data sets a share of `confidence` holds the true mean: exactly, if the samples are normal
    and q is Student's; for other distributions and many samples nearly. (It is not the probability that the true mean
    lies in this one: that is 0 or 1.)

    Args:
      x: `[samples]`, independent, at least two.
      confidence: above 0 and below 1.
      quantile: "t" takes q from Student's t with n - 1 degrees of freedom, as s is estimated too; "normal" gives the
        book's 1.96 at 0.95, too narrow for few samples.

    Returns:
      The lower and the upper end.

    Raises:
      ValueError: if the shape does not fit, the confidence is out of range, or the quantile is unknown.
    """
    x = real_array("x", x, 1)
    open_unit("confidence", confidence)
    if len(x) < 2:
        raise ValueError(f"x: expected at least two samples, got {len(x)}")
    probability = (1 + confidence) / 2
    if quantile == "t":
        from scipy import special  # JAX has no quantile of Student's t

        q = float(special.stdtrit(len(x) - 1, probability))
    elif quantile == "normal":
        q = NormalDist().inv_cdf(probability)
    else:
        raise ValueError(f"quantile: expected 't' or 'normal', got {quantile!r}")
    mean, radius = x.mean(), q * x.std(ddof=1) / len(x) ** 0.5
    return mean - radius, mean + radius
