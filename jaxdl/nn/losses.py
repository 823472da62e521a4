"""Losses, one figure per example; `jaxdl.training.Mean.of(loss, mask)` makes the sums that training needs."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy of the softmax of `logits` with labels, in nats (D2L 4.1), by a stable log-sum-exp.

    Args:
      logits: `[..., classes]`, floating; below float32 they are taken to float32.
      labels: integer classes `[...]`, or probabilities `[..., classes]` that sum to 1.
      label_smoothing: share of the label that is spread evenly over all classes (Szegedy et al., 2016, section 7).

    Returns:
      `[...]`, float32 or float64.

    Raises:
      ValueError: if the shapes or dtypes do not fit, or `label_smoothing` is not in [0, 1].

    Note: an integer label outside `[0, classes)` gives NaN; it is never taken for another class.

    >>> cross_entropy(jnp.log(jnp.array([[0.1, 0.3, 0.6]])), jnp.array([0])).round(4)
    Array([2.3026], dtype=float32)
    """
    if logits.ndim == 0 or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(f"logits: expected floating [..., classes], got {logits.dtype}{list(logits.shape)}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing: expected a number in [0, 1], got {label_smoothing}")
    classes = logits.shape[-1]
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if jnp.issubdtype(labels.dtype, jnp.integer):
        if labels.shape != logits.shape[:-1]:
            raise ValueError(f"labels: expected integers of shape {list(logits.shape[:-1])}, got {list(labels.shape)}")
        if labels.dtype.itemsize < 4:  # or the number of classes may not fit beside them
            labels = labels.astype(jnp.int32)
        if label_smoothing == 0:
            indices = jnp.where(labels < 0, classes, labels)[..., None]  # JAX would count a negative one from the end
            log_probabilities = jax.nn.log_softmax(logits)  # logsumexp - picked would cancel where logits are large
            return -jnp.take_along_axis(log_probabilities, indices, axis=-1, mode="fill", fill_value=jnp.nan)[..., 0]
        probabilities = jax.nn.one_hot(labels, classes, dtype=logits.dtype)
    elif jnp.issubdtype(labels.dtype, jnp.floating):
        if labels.shape != logits.shape:
            raise ValueError(f"labels: expected probabilities of shape {list(logits.shape)}, got {list(labels.shape)}")
        probabilities = labels.astype(logits.dtype)
    else:
        raise ValueError(f"labels: expected integers or floating probabilities, got {labels.dtype}")
    return optax.softmax_cross_entropy(logits, (1 - label_smoothing) * probabilities + label_smoothing / classes)


def huber_loss(predictions: jax.Array, targets: jax.Array, *, delta: float = 1.0) -> jax.Array:
    """Quadratic near the target, linear far from it, element by element (Huber, 1964).

    `r^2 / 2` where `|r| = |predictions - targets| <= delta`, else `delta (|r| - delta / 2)`.

    Args:
      predictions: floating, any shape; below float32 they are taken to float32.
      targets: of the same shape.
      delta: where the line begins, in the unit of the targets.

    Returns:
      The shape of the predictions; sum or average over the axes that belong to one example.

    Raises:
      ValueError: if the shapes differ, the predictions are not floating, or `delta` is not positive.

    Note: D2L 3.5's exercise (and PyTorch's `smooth_l1_loss`) is this divided by `delta`.

    >>> huber_loss(jnp.array([0.5, 3.0]), jnp.zeros(2))
    Array([0.125, 2.5  ], dtype=float32)
    """
    if not delta > 0:
        raise ValueError(f"delta: expected a positive number, got {delta}")
    predictions, targets = _one_shape(predictions, targets)
    return optax.huber_loss(predictions, targets, delta=delta)


def squared_error(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """`(predictions - targets)^2 / 2`, element by element (D2L 3.1).

    Args:
      predictions: floating, any shape; below float32 they are taken to float32.
      targets: of the same shape; `[batch]` does not fit `[batch, 1]`.

    Returns:
      The shape of the predictions; sum or average over the axes that belong to one example.

    Raises:
      ValueError: if the shapes differ or the predictions are not floating.

    Note: PyTorch's `MSELoss` has no 1/2, which doubles the effective learning rate.

    >>> squared_error(jnp.array([1.0, 4.0]), jnp.array([1.0, 1.0]))
    Array([0. , 4.5], dtype=float32)
    """
    return optax.l2_loss(*_one_shape(predictions, targets))


def absolute_error(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """`|predictions - targets|`, element by element.

    Args:
      predictions: floating, any shape; below float32 they are taken to float32.
      targets: of the same shape.

    Returns:
      The shape of the predictions; sum or average over the axes that belong to one example.

    Raises:
      ValueError: if the shapes differ or the predictions are not floating.

    Note: where they are equal the gradient is that of JAX's `abs`, 1; PyTorch's is 0.

    >>> absolute_error(jnp.array([1.0, 4.0]), jnp.array([2.0, 1.0]))
    Array([1., 3.], dtype=float32)
    """
    predictions, targets = _one_shape(predictions, targets)
    return jnp.abs(predictions - targets)


def binary_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy of `sigmoid(logits)` with labels in [0, 1], in nats, element by element, stable for any logit.

    Args:
      logits: floating, any shape; below float32 they are taken to float32.
      labels: of the same shape: classes 0 and 1 of any dtype, or probabilities.

    Returns:
      The shape of the logits, float32 or float64.

    Raises:
      ValueError: if the shapes differ or the logits are not floating.

    Note: as PyTorch's `binary_cross_entropy_with_logits` without a reduction.

    >>> binary_cross_entropy(jnp.array([0.0, 1e4]), jnp.array([1, 0]))
    Array([6.931472e-01, 1.000000e+04], dtype=float32)
    """
    return optax.sigmoid_binary_cross_entropy(*_one_shape(logits, labels, "logits", "labels"))


def _one_shape(
    predictions: jax.Array, targets: jax.Array, name: str = "predictions", other: str = "targets"
) -> tuple[jax.Array, jax.Array]:
    """Both in the dtype of the computation, if they are element by element of each other."""
    if not jnp.issubdtype(predictions.dtype, jnp.floating):
        raise ValueError(f"{name}: expected a floating dtype, got {predictions.dtype}")
    if targets.shape != predictions.shape:
        raise ValueError(f"{other}: expected the shape of {name} {list(predictions.shape)}, got {list(targets.shape)}")
    dtype = jnp.promote_types(predictions.dtype, jnp.float32)
    return predictions.astype(dtype), targets.astype(dtype)
