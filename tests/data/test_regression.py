"""The generated problems have the moments and the weights that they claim, and their noise is independent of x."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import factorial

from jaxdl.data import high_dimensional_regression, linear_regression, polynomial_regression

GENERATORS = [linear_regression, high_dimensional_regression, polynomial_regression]


def least_squares(x, y):
    """NumPy's, in float64, with a column for the bias; and the residuals."""
    x, y = np.c_[x.astype(np.float64), np.ones(len(x))], y.astype(np.float64)
    weights = np.linalg.lstsq(x, y)[0]
    return weights[:, 0], (y - x @ weights)[:, 0]


@pytest.mark.parametrize(("generator", "num_features"), list(zip(GENERATORS, [2, 200, 21], strict=True)))
def test_shapes_types_and_the_seed(generator, num_features):
    for num_examples in (1, 5):
        arrays = generator(num_examples, seed=3)
        assert {name: (a.shape, a.dtype) for name, a in arrays.items()} == {
            "x": ((num_examples, num_features), np.float32),
            "y": ((num_examples, 1), np.float32),
        }
    again, other = generator(5, seed=3), generator(5, seed=4)
    for name in ("x", "y"):
        np.testing.assert_array_equal(again[name], arrays[name])
        assert (other[name] != arrays[name]).any()


def test_the_books_line_is_recovered_with_its_noise():
    arrays = linear_regression(2000)  # D2L 3.3: 1,000 to train and 1,000 to validate
    weights, residuals = least_squares(**arrays)
    # The standard error of a weight is noise / sqrt(n) = 2.2e-4.
    np.testing.assert_allclose(weights, [2, -3.4, 4.2], atol=5 * 0.01 / np.sqrt(2000))
    assert residuals.std() == pytest.approx(0.01, rel=5 / np.sqrt(2 * 2000))  # so is a standard deviation's
    assert stats.kstest(residuals / 0.01, "norm").pvalue > 1e-3
    assert stats.kstest(arrays["x"].ravel(), "norm").pvalue > 1e-3


@given(num_features=st.integers(1, 4), bias=st.floats(-10, 10, width=32), seed=st.integers(0, 2**40), data=st.data())
@settings(max_examples=20, deadline=None)
def test_without_noise_least_squares_gives_the_weights_back(num_features, bias, seed, data):
    weights = data.draw(st.lists(st.floats(-10, 10, width=32), min_size=num_features, max_size=num_features))
    found, _ = least_squares(**linear_regression(50, seed=seed, weights=weights, bias=bias, noise=0))
    np.testing.assert_allclose(found, [*weights, bias], atol=1e-4)  # y is rounded to float32


def test_the_high_dimensional_problem_has_equal_weights_and_independent_noise():
    x, y = high_dimensional_regression(20_000).values()
    noise = y[:, 0] - (0.05 + 0.01 * x.astype(np.float64).sum(1))
    assert noise.std() == pytest.approx(0.01, rel=5 / np.sqrt(2 * 20_000))
    correlations = (x * (noise / 0.01)[:, None]).mean(0)
    assert abs(correlations).max() < 5 / np.sqrt(20_000)
    assert high_dimensional_regression(3, num_features=7)["x"].shape == (3, 7)


def test_polynomial_features_are_powers_over_factorials():
    x, y = polynomial_regression(200, noise=0).values()
    powers = np.arange(21)
    want = x[:, 1:2].astype(np.float64) ** powers / factorial(powers)
    np.testing.assert_allclose(x, want, rtol=21 * 2**-23, atol=1e-37)  # x itself is rounded; the smallest underflow
    want = 5 + 1.2 * x[:, 1] - 3.4 * x[:, 1] ** 2 / 2 + 5.6 * x[:, 1] ** 3 / 6  # the book's
    np.testing.assert_allclose(y[:, 0], want, atol=2e-5)


def test_noise_is_independent_of_the_feature():
    """Drawn from one stream, as in the book's JAX tab, they would be the same numbers."""
    x, y = polynomial_regression(2000, coefficients=[0.0], degree=1, noise=1.0).values()
    assert abs(np.corrcoef(x[:, 1], y[:, 0])[0, 1]) < 5 / np.sqrt(2000)


def test_a_polynomial_of_the_right_degree_finds_the_coefficients():
    x, y = polynomial_regression(500).values()
    weights, residuals = least_squares(x[:, 1:4], y)
    np.testing.assert_allclose(weights, [1.2, -3.4, 5.6, 5], atol=0.03)  # five standard errors
    assert residuals.std() == pytest.approx(0.1, rel=5 / np.sqrt(2 * 500))


def test_a_constant_and_a_high_degree():
    arrays = polynomial_regression(4, coefficients=[3], degree=0, noise=0)
    np.testing.assert_array_equal(arrays["x"], np.ones((4, 1)))
    np.testing.assert_array_equal(arrays["y"], np.full((4, 1), 3))
    assert np.isfinite(polynomial_regression(4, degree=200)["x"]).all()  # 171! is beyond float64


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_examples": 0}, "num_examples: expected at least 1, got 0"),
        ({"seed": -1}, "seed: expected 0 or more, got -1"),
        ({"noise": -0.1}, "noise: expected a standard deviation, 0 or more, got -0.1"),
        ({"noise": np.nan}, "noise: expected a standard deviation, 0 or more, got nan"),
    ],
)
def test_sizes_seed_and_noise_are_checked(generator, fields, message):
    with pytest.raises(ValueError, match=message):
        generator(**{"num_examples": 2, **fields})
    with pytest.raises(TypeError, match="integer"):
        generator(2.5)


@pytest.mark.parametrize(
    ("generator", "fields", "message"),
    [
        (linear_regression, {"weights": []}, r"weights: expected one or more finite numbers, got \[\]"),
        (linear_regression, {"weights": [[1.0]]}, r"weights: expected one or more finite numbers, got \[\[1.0\]\]"),
        (linear_regression, {"bias": np.inf}, r"bias: expected one or more finite numbers, got \[inf\]"),
        (high_dimensional_regression, {"num_features": 0}, "num_features: expected at least 1, got 0"),
        (polynomial_regression, {"degree": 2}, "degree: expected at least 3, for 4 coefficients, got 2"),
        (polynomial_regression, {"coefficients": []}, r"coefficients: expected one or more finite numbers, got \[\]"),
    ],
)
def test_what_makes_no_problem_is_refused(generator, fields, message):
    with pytest.raises(ValueError, match=message):
        generator(2, **fields)
