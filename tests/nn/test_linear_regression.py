"""Least squares against NumPy and scikit-learn, against its own definition, and as maximum likelihood."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm
from sklearn.linear_model import LinearRegression, Ridge

from jaxdl import nn
from jaxdl.nn import least_squares

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 4)) * [1, 10, 0.1, 3] + [0, 5, -2, 100]
Y = RNG.normal(size=(30, 2)) + X @ RNG.normal(size=(4, 2)) + [4.2, -1]


def test_it_is_numpys_and_scikit_learns(x64):
    weights, bias = least_squares(jnp.asarray(X), jnp.asarray(Y))
    theirs = np.linalg.lstsq(np.c_[X, np.ones(30)], Y)[0]
    np.testing.assert_allclose(np.r_[weights, bias[None]], theirs, rtol=1e-10)
    model = LinearRegression().fit(X, Y)
    np.testing.assert_allclose(weights, model.coef_.T, rtol=1e-10)
    np.testing.assert_allclose(bias, model.intercept_, rtol=1e-10)


@pytest.mark.parametrize("l2", [1e-3, 0.5, 3.0])
def test_with_a_penalty_it_is_scikit_learns_ridge(x64, l2):
    weights, bias = least_squares(jnp.asarray(X), jnp.asarray(Y), l2=l2)
    model = Ridge(alpha=30 * l2).fit(X, Y)
    np.testing.assert_allclose(weights, model.coef_.T, rtol=1e-10)
    np.testing.assert_allclose(bias, model.intercept_, rtol=1e-10)


@pytest.mark.parametrize(("num_examples", "l2"), [(1, 0.7), (3, 0.0), (12, 0.7)])
def test_the_gradient_of_what_it_minimises_is_zero_there(x64, num_examples, l2):
    x, y = jnp.asarray(RNG.normal(size=(num_examples, 3))), jnp.asarray(RNG.normal(size=(num_examples, 2)))

    @jax.jit
    def objective(parameters):
        weights, bias = parameters
        predictions = x @ weights + bias[None]
        return nn.squared_error(predictions, y).sum(1).mean() + l2 * nn.l2_penalty(weights)

    for gradient in jax.grad(objective)(least_squares(x, y, l2=l2)):
        np.testing.assert_allclose(gradient, 0, atol=1e-13)


def test_without_enough_examples_it_gives_the_smallest_weights_that_fit(x64):
    x, y = jnp.asarray(X[:3]), jnp.asarray(Y[:3])
    weights, bias = least_squares(x, y)
    np.testing.assert_allclose(x @ weights + bias[None], y, atol=1e-10)
    model = LinearRegression().fit(X[:3], Y[:3])
    np.testing.assert_allclose(weights, model.coef_.T, rtol=1e-9, atol=1e-12)
    limit, _ = least_squares(x, y, l2=1e-10)
    np.testing.assert_allclose(limit, weights, atol=1e-6)  # the smallest are the limit of a vanishing penalty


def test_a_feature_that_stands_twice_or_is_constant_shares_or_gets_nothing():
    x = jnp.asarray(RNG.normal(size=(10, 1)), jnp.float32)
    weights, bias = least_squares(jnp.concatenate([x, x, jnp.ones((10, 1))], axis=1), 2 * x + 1)
    np.testing.assert_allclose(weights[:, 0], [1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(bias, [1], atol=1e-5)


def test_one_example_is_its_own_mean():
    weights, bias = least_squares(jnp.array([[3.0, 1.0]]), jnp.array([[7.0]]))
    np.testing.assert_array_equal(weights, jnp.zeros((2, 1)))
    np.testing.assert_array_equal(bias, [7])


def test_dtypes_and_what_is_not_a_number():
    x, y = jnp.asarray(X, jnp.bfloat16), jnp.asarray(Y, jnp.float16)
    assert {a.dtype for a in least_squares(x, y)} == {jnp.dtype("float32")}
    weights, bias = least_squares(jnp.asarray(X, jnp.float32).at[0, 0].set(jnp.nan), jnp.asarray(Y, jnp.float32))
    assert jnp.isnan(weights).all()
    assert jnp.isnan(bias).all()


def test_the_normal_equation_s_square_loses_the_digits_that_the_decomposition_keeps(x64):
    """Two features that differ by 1e-6: X^T X has a condition number of 4e12, X one of 2e6."""
    z, e = RNG.normal(size=(2, 100, 1))
    x = np.c_[z, z + 1e-6 * e]
    x, y = x - x.mean(0), x @ np.array([[1.0], [2.0]])
    y -= y.mean(0)
    normal_equation = np.linalg.solve(x.T @ x, x.T @ y)
    weights, _ = least_squares(jnp.asarray(x), jnp.asarray(y))
    error, theirs = (abs(np.asarray(w) - [[1], [2]]).max() for w in (weights, normal_equation))
    assert error < 1e-8 < 1e-6 < theirs


def test_gaussian_densities():
    densities = [norm.pdf(0.0), norm.pdf(1.0), norm.pdf(0.0, 0.0, 2.0)]
    np.testing.assert_allclose(densities, [0.398942, 0.241971, 0.199471], atol=5e-7)  # D2L 3.1


def test_least_squares_is_maximum_likelihood_under_gaussian_noise(x64):
    """D2L 3.1.3: -log p(y | x) and the squared error over the variance differ by a constant of the parameters."""
    x, y, scale = jnp.asarray(X), jnp.asarray(Y[:, :1]), 0.3

    def negative_log_likelihood(weights, bias):
        return -norm.logpdf(y, x @ weights + bias[None], scale).sum()

    for seed in range(3):
        weights, bias = jax.random.normal(jax.random.key(seed), (4, 1)), jnp.ones(1) * seed
        squared = nn.squared_error(x @ weights + bias[None], y).sum() / scale**2
        constant = 30 / 2 * np.log(2 * np.pi * scale**2)
        np.testing.assert_allclose(negative_log_likelihood(weights, bias), squared + constant, rtol=1e-13)
    for gradient in jax.grad(negative_log_likelihood, argnums=(0, 1))(*least_squares(x, y)):
        np.testing.assert_allclose(gradient, 0, atol=1e-7)


@pytest.mark.parametrize(
    ("x", "y", "l2", "message"),
    [
        (jnp.ones(3), jnp.ones((3, 1)), 0.0, r"x: expected floating \[examples, features\], got float32\[3\]"),
        (jnp.ones((3, 1), int), jnp.ones((3, 1)), 0.0, r"x: expected floating \[examples, features\], got int32"),
        (jnp.ones((3, 2)), jnp.ones(3), 0.0, r"y: expected floating \[examples, targets\], got float32\[3\]"),
        (jnp.ones((3, 2)), jnp.ones((1, 1)), 0.0, "y: expected the 3 examples of x, got 1"),
        (jnp.ones((0, 2)), jnp.ones((0, 1)), 0.0, r"x: expected at least one example and one feature, got \[0, 2\]"),
        (jnp.ones((3, 0)), jnp.ones((3, 1)), 0.0, r"x: expected at least one example and one feature, got \[3, 0\]"),
        (jnp.ones((3, 2)), jnp.ones((3, 1)), -1.0, "l2: expected 0 or more, got -1.0"),
    ],
)
def test_what_it_refuses(x, y, l2, message):
    with pytest.raises(ValueError, match=message):
        least_squares(x, y, l2=l2)
