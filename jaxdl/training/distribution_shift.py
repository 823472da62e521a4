"""Weights that make training data stand for data of another distribution (D2L 4.7).

The source is what we have labels for, the target is where the model will be used.

- Covariate shift: the inputs are distributed differently, p(y|x) is the same. `covariate_shift_weights`.
- Label shift: the labels are distributed differently, p(x|y) is the same. `label_shift_prior`, `label_shift_weights`.
- Concept shift: p(y|x) itself differs. Unlabelled inputs do not show it, so nothing here corrects it; it takes labels.

The weights of the training examples go into their batches as "mask", which `Mean.of` takes as weights.
"""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

NEWTON_STEPS = 30  # enough for source and target that do not overlap, where the weights grow long
LARGEST_CONDITION = 1e6  # of a confusion matrix; beyond it the rounding of float32 predictions decides the prior
SUM_TOLERANCE = 1e-4  # of probabilities that were averaged in float32


def covariate_shift_weights(
    source: ArrayLike, target: ArrayLike, *, max_weight: float = 10.0, l2: float = 1e-4
) -> jax.Array:
    """Weights `p_target(x) / p_source(x)` of the source examples, from a classifier that tells target from source.

    A logistic regression `h` on the standardised inputs gives the odds `exp(h(x))` that x comes from the target. These
    odds are the ratio of the densities times `target examples / source examples`, which is divided out again (D2L
    4.7.3.1 takes as many of the one as of the other). The weights average to about 1 where none is clipped.

    Args:
      source: floating `[source examples, features]`. The ratio of two Gaussians is quadratic in x, so pass the squares
        too where spreads may differ: `h` is linear in what it is given.
      target: `[target examples, features]`, unlabelled.
      max_weight: greater ones are clipped to it; that biases the estimate and bounds its variance. `math.inf` allows
        all.
      l2: penalty `l2 / 2 * |w|^2` beside the mean log loss, not on the intercept; `1 / (C * examples)` in the terms of
        scikit-learn. It keeps `h` finite where source and target do not overlap.

    Returns:
      `[source examples]`, float32 or float64.

    Raises:
      ValueError: if the shapes or dtypes do not fit, there are no examples or features, or `max_weight` or `l2` is not
        positive.
    """
    source, target = jnp.asarray(source), jnp.asarray(target)
    for name, inputs in (("source", source), ("target", target)):
        if inputs.ndim != 2 or not jnp.issubdtype(inputs.dtype, jnp.floating):
            raise ValueError(f"{name}: expected floating [examples, features], got {inputs.dtype}{list(inputs.shape)}")
        if inputs.size == 0:
            raise ValueError(f"{name}: expected at least one example and one feature, got {list(inputs.shape)}")
    if source.shape[1] != target.shape[1]:
        raise ValueError(f"target: expected {source.shape[1]} features like source, got {target.shape[1]}")
    for name, number in (("max_weight", max_weight), ("l2", l2)):
        if not number > 0:
            raise ValueError(f"{name}: expected a positive number, got {number}")
    dtype = jnp.promote_types(jnp.promote_types(source.dtype, target.dtype), jnp.float32)
    log_odds = _log_odds_of_target(source.astype(dtype), target.astype(dtype), l2)
    return jnp.minimum(jnp.exp(log_odds) * (len(source) / len(target)), max_weight)


def label_shift_prior(confusion: ArrayLike, mean_prediction: ArrayLike) -> np.ndarray:
    """The classes' shares in the target, from what a model predicts there (Lipton et al., 2018; D2L 4.7.3.2).

    Where p(x|y) is the same, the mean prediction on the target is `confusion @ prior`; this solves for the prior. An
    entry that sampling noise makes negative is set to 0 (its class gets no weight), and the rest is scaled to sum to 1.

    Args:
      confusion: `[classes, classes]`, measured on held-out source examples. Column j is the mean prediction on those of
        true class j, so it sums to 1. (scikit-learn's matrix is the transpose.)
      mean_prediction: `[classes]`, on the target. A prediction is either the probabilities or the one-hot class of the
        highest, the same in both arguments.

    Returns:
      float64 `[classes]`.

    Raises:
      ValueError: if the shapes do not fit, a number is negative or NaN, a column or the mean prediction does not sum to
        1, or the confusion matrix is singular to float32's precision (a condition number above 10^6).

    >>> label_shift_prior([[0.9, 0.2], [0.1, 0.8]], [0.55, 0.45]).round(6)
    array([0.5, 0.5])
    """
    confusion, mean_prediction = np.asarray(confusion, np.float64), np.asarray(mean_prediction, np.float64)
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1] or confusion.size == 0:
        raise ValueError(f"confusion: expected [classes, classes], got {list(confusion.shape)}")
    for j, column in enumerate(confusion.T):
        _check_distribution(f"confusion: column {j}", column, len(confusion))
    _check_distribution("mean_prediction", mean_prediction, len(confusion))
    condition = np.linalg.cond(confusion)
    if condition > LARGEST_CONDITION:
        raise ValueError(
            f"confusion: expected a condition number of at most {LARGEST_CONDITION:.0e}, got {condition:.1e}; "
            "the predictions do not tell some classes apart"
        )
    prior = np.clip(np.linalg.solve(confusion, mean_prediction), 0, None)
    return prior / prior.sum()


def label_shift_weights(source_prior: ArrayLike, target_prior: ArrayLike) -> np.ndarray:
    """The weight of each class, `target_prior / source_prior`; an example's is that of its label (D2L 4.7.3.2).

    Args:
      source_prior: `[classes]`, the classes' shares in the source.
      target_prior: `[classes]`, those in the target, such as from `label_shift_prior`.

    Returns:
      float64 `[classes]`; 0 for a class that is in neither.

    Raises:
      ValueError: if the shapes differ, a number is negative or NaN, the shares do not sum to 1, or the source lacks a
        class that the target has: no weight makes up for that.
    """
    source_prior, target_prior = np.asarray(source_prior, np.float64), np.asarray(target_prior, np.float64)
    if source_prior.ndim != 1:
        raise ValueError(f"source_prior: expected [classes], got {list(source_prior.shape)}")
    _check_distribution("source_prior", source_prior, len(source_prior))
    _check_distribution("target_prior", target_prior, len(source_prior))
    if missing := np.flatnonzero((source_prior == 0) & (target_prior > 0)).tolist():
        raise ValueError(f"source_prior: expected a share above 0 for each class of the target, got 0 for {missing}")
    return np.divide(target_prior, source_prior, out=np.zeros_like(source_prior), where=source_prior > 0)


def _check_distribution(name: str, shares: np.ndarray, classes: int) -> None:
    if shares.shape != (classes,):
        raise ValueError(f"{name}: expected [{classes}], got {list(shares.shape)}")
    if not (shares >= 0).all():
        raise ValueError(f"{name}: expected numbers of at least 0, got {shares.min()}")
    if abs(shares.sum() - 1) > SUM_TOLERANCE:
        raise ValueError(f"{name}: expected a sum of 1, got {shares.sum():.6g}")


@jax.jit
def _log_odds_of_target(source: jax.Array, target: jax.Array, l2: float) -> jax.Array:
    """Of each source example, by a logistic regression that is fitted by damped Newton steps."""
    inputs = jnp.concatenate([source, target])
    deviation = inputs.std(axis=0, keepdims=True)
    inputs = (inputs - inputs.mean(axis=0, keepdims=True)) / jnp.where(deviation > 0, deviation, 1)
    inputs = jnp.concatenate([inputs, jnp.ones_like(inputs[:, :1])], axis=1)  # the last weight is the intercept
    signs = jnp.concatenate([-jnp.ones_like(source[:, 0]), jnp.ones_like(target[:, 0])])
    penalised = jnp.ones_like(inputs[0]).at[-1].set(0)

    def objective(weights: jax.Array) -> jax.Array:
        log_loss = jax.nn.softplus(-signs * (inputs @ weights)).mean()
        return log_loss + l2 / 2 * (penalised * weights**2).sum()

    def newton_step(_: int, weights: jax.Array) -> jax.Array:
        step = jnp.linalg.solve(jax.hessian(objective)(weights), jax.grad(objective)(weights))
        candidates = weights[None] - 0.5 ** jnp.arange(10.0)[:, None] * step[None]  # the damping; [10, features + 1]
        gradients = jax.vmap(jax.grad(objective))(candidates)  # they keep their digits near the end, the objective not
        return candidates[jnp.square(gradients).sum(axis=1).argmin()]

    weights = jax.lax.fori_loop(0, NEWTON_STEPS, newton_step, jnp.zeros_like(inputs[0]))
    return inputs[: len(source)] @ weights
