"""Generated regression problems whose weights are known (D2L 3.3, 3.6, 3.7).

Each function returns `x`, float32 `[examples, features]`, and `y`, float32 `[examples, 1]`; `y` is computed in float64
and rounded once. Features and noise come from two independent streams of the seed (the book's JAX tab draws both with
one key, so that they are not independent). To split into training and validation, slice.
"""

import math
import operator
from collections.abc import Sequence

import numpy as np


def linear_regression(
    num_examples: int, *, seed: int = 0, weights: Sequence[float] = (2.0, -3.4), bias: float = 4.2, noise: float = 0.01
) -> dict[str, np.ndarray]:
    """`y = x @ weights + bias + noise * e` with standard normal features and noise (D2L 3.3).

    Args:
      num_examples: at least 1; the book has 1,000 to train and 1,000 to validate.
      seed: of both streams, not negative.
      weights: one for each feature.
      bias: `y` where all features are 0.
      noise: standard deviation of the noise.

    Raises:
      ValueError: if a size, the seed or the noise is out of range, or a number is not finite.

    >>> arrays = linear_regression(1000, noise=0.0)
    >>> arrays["x"].shape, arrays["y"].shape
    ((1000, 2), (1000, 1))
    """
    coefficients = _finite("weights", weights)
    features, errors = _streams(num_examples, seed, noise)
    x = features.standard_normal((num_examples, len(coefficients)), np.float32)
    return _examples(x, x @ coefficients + _finite("bias", [bias])[0], errors, noise)


def high_dimensional_regression(
    num_examples: int, *, num_features: int = 200, seed: int = 0, noise: float = 0.01
) -> dict[str, np.ndarray]:
    """`y = 0.05 + sum(0.01 x_i) + noise * e`: more features than examples, to overfit and to decay (D2L 3.7).

    Args:
      num_examples: at least 1; the book has 20 to train and 100 to validate.
      num_features: at least 1.
      seed: of both streams, not negative.
      noise: standard deviation of the noise.

    Raises:
      ValueError: as `linear_regression`.
    """
    if operator.index(num_features) < 1:
        raise ValueError(f"num_features: expected at least 1, got {num_features}")
    return linear_regression(num_examples, seed=seed, weights=(0.01,) * num_features, bias=0.05, noise=noise)


def polynomial_regression(
    num_examples: int,
    *,
    coefficients: Sequence[float] = (5.0, 1.2, -3.4, 5.6),
    degree: int = 20,
    noise: float = 0.1,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """A polynomial of a standard normal `x`, with all its powers up to `degree` as features (D2L 3.6).

    Feature i is `x^i / i!`, feature 0 the constant 1; `y = sum(coefficients[i] * feature i) + noise * e`. To fit a
    polynomial of degree d, slice: `x[:, : d + 1]`. (The first edition of the book, which has this demonstration, stops
    at degree 19.)

    Args:
      num_examples: at least 1.
      coefficients: of the first features; those of the others are 0. The default is the book's cubic.
      degree: of the last feature.
      noise: standard deviation of the noise.
      seed: of both streams, not negative.

    Raises:
      ValueError: as `linear_regression`, or if there are more coefficients than features.
    """
    true = _finite("coefficients", coefficients)
    if operator.index(degree) < len(true) - 1:
        raise ValueError(f"degree: expected at least {len(true) - 1}, for {len(true)} coefficients, got {degree}")
    features, errors = _streams(num_examples, seed, noise)
    ratios = features.standard_normal((num_examples, 1)) / np.arange(1, degree + 1)  # feature i = feature i-1 * x / i
    x = np.hstack([np.ones((num_examples, 1)), np.cumprod(ratios, axis=1)])
    return _examples(x, x[:, : len(true)] @ true, errors, noise)


def _finite(name: str, numbers: Sequence[float]) -> np.ndarray:
    """Float64 `[numbers]`, at least one."""
    array = np.asarray(numbers, np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected one or more finite numbers, got {numbers}")
    return array


def _streams(num_examples: int, seed: int, noise: float) -> list[np.random.Generator]:
    """Independent generators of the features and of the noise."""
    if operator.index(num_examples) < 1:
        raise ValueError(f"num_examples: expected at least 1, got {num_examples}")
    if operator.index(seed) < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}")
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise: expected a standard deviation, 0 or more, got {noise}")
    return np.random.default_rng(seed).spawn(2)


def _examples(x: np.ndarray, y: np.ndarray, errors: np.random.Generator, noise: float) -> dict[str, np.ndarray]:
    y = y + noise * errors.standard_normal(len(y))
    return {"x": x.astype(np.float32), "y": y.astype(np.float32)[:, None]}
