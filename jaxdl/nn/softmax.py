"""Softmax from scratch, in the form that does not overflow, and softmax regression's gradient (D2L 4.1, 4.4, 4.5).

`jax.nn.softmax`, `jax.nn.log_softmax` and `jax.nn.logsumexp` are the same functions in production form.
"""

import jax
import jax.numpy as jnp


def log_sum_exp(logits: jax.Array, axis: int = -1) -> jax.Array:
    """Logarithm of the sum of exponentials along an axis (D2L 4.5).

    Computed as `max + log(sum(exp(logits - max)))`. The greatest exponential is then 1: none overflows, and those that
    underflow are too small to count beside it. Written as in the definition, float32 overflows above 88.7.

    Args:
      logits: floating, any shape with at least one axis; below float32 they are taken to float32.
      axis: to sum along.

    Returns:
      The shape of the logits less `axis`, float32 or float64; -inf where all logits are -inf.

    Raises:
      ValueError: if the logits are not floating, lack the axis, or have no entry along it.

    >>> log_sum_exp(jnp.array([1000.0, 1000.0]))  # 1000 + log 2
    Array(1000.6932, dtype=float32)
    """
    shifted, greatest = _shift(logits, axis)
    result = jnp.log(jnp.exp(shifted).sum(axis, keepdims=True)) + greatest
    return jnp.where(jnp.isfinite(greatest), result, greatest).squeeze(axis)  # where it is not: inf - inf is NaN


def log_softmax(logits: jax.Array, axis: int = -1) -> jax.Array:
    """Logarithm of the softmax, `logits - log_sum_exp(logits)`, finite where the softmax itself rounds to 0 (D2L 4.5).

    Args:
      logits: as in `log_sum_exp`; -inf excludes an entry.
      axis: of the classes.

    Returns:
      The shape of the logits, float32 or float64.

    Raises:
      ValueError: as `log_sum_exp`.

    Note: all logits -inf, or one +inf, is no distribution and gives NaN, as in `jax.nn` and PyTorch.
    """
    shifted, _ = _shift(logits, axis)
    return shifted - jnp.log(jnp.exp(shifted).sum(axis, keepdims=True))


def softmax(logits: jax.Array, axis: int = -1) -> jax.Array:
    """Probabilities `exp(logits) / sum(exp(logits))` (D2L 4.1).

    Args:
      logits: as in `log_sum_exp`; -inf excludes an entry: its probability and its gradient are 0.
      axis: of the classes.

    Returns:
      The shape of the logits, float32 or float64 (`jax.nn.softmax` keeps half precision); they sum to 1 along `axis`.

    Raises:
      ValueError: as `log_sum_exp`.

    Note: all logits -inf, or one +inf, is no distribution and gives NaN, as in `jax.nn` and PyTorch.

    >>> softmax(jnp.array([1000.0, 1000.0, -jnp.inf]))
    Array([0.5, 0.5, 0. ], dtype=float32)
    """
    shifted, _ = _shift(logits, axis)
    exponentials = jnp.exp(shifted)
    return exponentials / exponentials.sum(axis, keepdims=True)


def cross_entropy_gradient(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The derivative of `cross_entropy` in the logits: the softmax minus the one-hot label (D2L 4.1).

    Args:
      logits: `[..., classes]`, floating.
      labels: integers `[...]` in `[0, classes)`.

    Returns:
      `[..., classes]` in the dtype of the logits; its rows sum to 0. A label out of range makes its row NaN. The
      softmax runs in float32 at least.

    Raises:
      ValueError: if the shapes or dtypes do not fit.

    >>> cross_entropy_gradient(jnp.log(jnp.array([[0.25, 0.25, 0.5]])), jnp.array([0])).round(4)
    Array([[-0.75,  0.25,  0.5 ]], dtype=float32)
    """
    if logits.ndim == 0 or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(f"logits: expected floating [..., classes], got {logits.dtype}{list(logits.shape)}")
    if not jnp.issubdtype(labels.dtype, jnp.integer) or labels.shape != logits.shape[:-1]:
        raise ValueError(f"labels: expected integers {list(logits.shape[:-1])}, got {labels.dtype}{list(labels.shape)}")
    classes = logits.shape[-1]
    known = (labels >= 0) & (labels < classes)
    wide = jnp.promote_types(logits.dtype, jnp.float32)
    gradient = softmax(logits.astype(wide)) - jax.nn.one_hot(labels, classes, dtype=wide)
    return jnp.where(known[..., None], gradient, jnp.nan).astype(logits.dtype)


def softmax_regression_gradient(
    features: jax.Array, labels: jax.Array, weights: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Gradient of the mean cross-entropy of softmax regression, derived by hand (D2L 4.1).

    By the logits `O = X W + b` the gradient is softmax minus one-hot label, `S - Y`; by the chain rule it is
    `X^T (S - Y) / batch` for the weights and the mean of `S - Y` for the bias.

    Args:
      features: X, floating `[batch, features]`.
      labels: integer classes `[batch]`.
      weights: W, floating `[features, classes]`.
      bias: b, floating `[classes]`.

    Returns:
      The gradients by the weights and by the bias, in their shapes, float32 or float64.

    Raises:
      ValueError: if the shapes or dtypes do not fit, or there is no example.

    Note: a label outside `[0, classes)` makes the gradient NaN, as it does `cross_entropy`.
    """
    for name, array, axes in (("features", features, 2), ("weights", weights, 2), ("bias", bias, 1)):
        if array.ndim != axes or not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{name}: expected floating with {axes} axes, got {array.dtype}{list(array.shape)}")
    batch, classes = features.shape[0], weights.shape[1]
    if batch == 0:
        raise ValueError("features: expected at least one example, got none")
    if labels.shape != (batch,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels: expected integers of shape [{batch}], got {labels.dtype}{list(labels.shape)}")
    for name, array, shape in (("weights", weights, (features.shape[1], classes)), ("bias", bias, (classes,))):
        if array.shape != shape:
            raise ValueError(f"{name}: expected shape {list(shape)}, got {list(array.shape)}")
    logits = features @ weights + bias[None]
    residuals = cross_entropy_gradient(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), labels)
    return features.T @ residuals / batch, residuals.mean(axis=0)


def _shift(logits: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """The logits less their greatest, and the greatest; it cancels, so it is a constant to differentiation."""
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(f"logits: expected a floating dtype, got {logits.dtype}")
    if not -logits.ndim <= axis < logits.ndim:
        raise ValueError(f"logits: expected an axis {axis}, got {list(logits.shape)}")
    if logits.shape[axis] == 0:
        raise ValueError(f"logits: expected at least one entry along axis {axis}, got {list(logits.shape)}")
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    greatest = jax.lax.stop_gradient(logits.max(axis, keepdims=True))
    return logits - greatest, greatest
