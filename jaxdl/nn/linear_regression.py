"""Linear regression in closed form (D2L 3.1.1.4)."""

import math

import jax
import jax.numpy as jnp


def least_squares(x: jax.Array, y: jax.Array, *, l2: float = 0.0) -> tuple[jax.Array, jax.Array]:
    """The weights and the bias that minimise `mean((x @ weights + bias - y)^2 / 2) + l2 * sum(weights^2) / 2`.

    The best bias for any weights makes the mean residual zero: `mean(y) - mean(x) @ weights`, unpenalised. What is left
    is the normal equation `(X^T X / n + l2 I) w = X^T y / n` of the centred X and y. Forming X^T X would square the
    condition number of X; a singular value decomposition of X (with l2, of X above `sqrt(n l2) I`) solves it without.

    Args:
      x: `[examples, features]`, floating.
      y: `[examples, targets]`, floating.
      l2: rate of the penalty, the lambda of 3.7 (and of `jaxdl.nn.l2_penalty` beside an average loss).

    Returns:
      Weights `[features, targets]` and bias `[targets]`, in the wider dtype of the two, at least float32.

    Raises:
      ValueError: if x or y is not of this form, there is no example or no feature, or `l2` is not 0 or more.

    Note: where the features do not determine the weights (fewer examples than features, or one feature a combination of
    others) it gives the smallest that fit best, as `numpy.linalg.lstsq` does; singular values below the largest times
    the dtype's epsilon times the longer side of X count as zero. The rows of `l2 > 0` leave nothing undetermined.
    scikit-learn's `Ridge` minimises a sum, not a mean: its `alpha` is `examples * l2`.

    >>> weights, bias = least_squares(jnp.array([[0.0], [1.0], [2.0]]), jnp.array([[1.0], [3.0], [5.0]]))
    >>> weights.round(4), bias.round(4)
    (Array([[2.]], dtype=float32), Array([1.], dtype=float32))
    """
    for name, array in (("x", x), ("y", y)):
        if array.ndim != 2 or not jnp.issubdtype(array.dtype, jnp.floating):
            columns = "features" if name == "x" else "targets"
            raise ValueError(f"{name}: expected floating [examples, {columns}], got {array.dtype}{list(array.shape)}")
    num_examples, num_features = x.shape
    if num_examples == 0 or num_features == 0:
        raise ValueError(f"x: expected at least one example and one feature, got {list(x.shape)}")
    if y.shape[0] != num_examples:
        raise ValueError(f"y: expected the {num_examples} examples of x, got {y.shape[0]}")
    if not 0 <= l2 < math.inf:
        raise ValueError(f"l2: expected 0 or more, got {l2}")
    dtype = jnp.promote_types(jnp.promote_types(x.dtype, y.dtype), jnp.float32)
    x, y = x.astype(dtype), y.astype(dtype)
    x_mean, y_mean = x.mean(0, keepdims=True), y.mean(0, keepdims=True)
    x, y = x - x_mean, y - y_mean
    if l2:
        x = jnp.concatenate([x, math.sqrt(num_examples * l2) * jnp.eye(num_features, dtype=dtype)])
        y = jnp.concatenate([y, jnp.zeros((num_features, y.shape[1]), dtype)])
    weights = jnp.linalg.lstsq(x, y)[0]
    bias = y_mean - jnp.matmul(x_mean, weights, precision=jax.lax.Precision.HIGHEST)  # [1, targets]
    return weights, bias[0]
