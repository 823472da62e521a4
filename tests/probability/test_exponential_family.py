"""The exponential family against the distributions that it gathers, and moments by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.probability import BERNOULLI, NORMAL, POISSON, Bernoulli, Normal, Poisson

# The exponential family: natural parameter, ours, and E[T(x)].
FAMILIES = {
    "Bernoulli": (BERNOULLI, [math.log(0.3 / 0.7)], Bernoulli(0.3), [0.3]),
    "Poisson": (POISSON, [math.log(5)], Poisson(5.0), [5]),
    "Normal": (NORMAL, [1 / 4, -1 / 8], Normal(1.0, 2.0), [1, 5]),
}


@pytest.mark.parametrize(("family", "eta", "distribution", "moments"), FAMILIES.values(), ids=FAMILIES)
def test_the_exponential_family(x64, family, eta, distribution, moments):
    x = jnp.array([0.0, 1.0])
    np.testing.assert_allclose(
        jax.jit(jax.vmap(lambda x: family.log_prob(eta, x)))(x), distribution.log_prob(x), rtol=1e-12, atol=1e-14
    )
    mean, covariance = jax.jit(lambda eta: (family.mean(eta), family.covariance(eta)))(jnp.array(eta, float))
    np.testing.assert_allclose(mean, moments, rtol=1e-12)
    assert float(covariance[0, 0]) == pytest.approx(float(distribution.variance), rel=1e-12)
    assert np.linalg.eigvalsh(covariance).min() > 0
    if family is NORMAL:  # Cov[x, x^2] = 2 mean variance, Var[x^2] = 2 variance^2 + 4 mean^2 variance
        np.testing.assert_allclose(covariance, [[4, 8], [8, 48]], rtol=1e-12)


def test_errors_of_the_exponential_family():
    with pytest.raises(ValueError, match=r"eta: expected shape \[2\], got \[1\]"):
        NORMAL.log_prob([1.0], 0.0)
    with pytest.raises(ValueError, match=r"x: expected an array of rank 0, got shape \[2\]"):
        POISSON.log_prob([1.0], [0.0, 1.0])
