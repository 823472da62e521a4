"""Naive Bayes for features that are 0 or 1 (D2L 22.9)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxdl.probability.checks import check_values, is_concrete, positive, real_array


class BernoulliNaiveBayes(NamedTuple):
    """`p(y | x)` proportional to `p(y) prod p(x_i | y)`: the features are taken for independent within a class.

    All in logarithms: of 784 features the product underflows, even in float64.

    Attributes:
      log_prior: `[classes]`, `log p(y)`; minus infinity for a class without examples.
      log_one: `[classes, features]`, `log p(x_i = 1 | y)`.
      log_zero: `[classes, features]`, `log p(x_i = 0 | y)`.

    >>> model = BernoulliNaiveBayes.fit([[0, 1], [1, 1], [1, 0]], [0, 0, 1], num_classes=2)
    >>> [f"{p:.3f}" for p in jnp.exp(model.log_one).ravel()]  # (n + 1) / (n_y + 2)
    ['0.500', '0.750', '0.667', '0.333']
    """

    log_prior: jax.Array
    log_one: jax.Array
    log_zero: jax.Array

    @classmethod
    def fit(
        cls, features: ArrayLike, labels: ArrayLike, num_classes: int, *, smoothing: float = 1.0
    ) -> "BernoulliNaiveBayes":
        """Counts.

        Args:
          features: `[examples, features]`, zeros and ones of any dtype.
          labels: `[examples]`, integers from 0 to `num_classes - 1`.
          num_classes: how many there are.
          smoothing: seen so many times more than it was, both as 0 and as 1, is every feature in every class (Laplace,
            1814: 1). Without, one pixel never seen in a class would rule it out.

        Raises:
          ValueError: if the shapes or dtypes do not fit, there are no examples, `smoothing` is not positive, or a known
            feature is not 0 or 1 or a known label not a class.
        """
        features, labels = _binary("features", features, 2), jnp.asarray(labels)
        positive("smoothing", smoothing)
        if labels.shape != features.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
            raise ValueError(
                f"labels: expected integers of shape {list(features.shape[:1])}, got {labels.dtype}{list(labels.shape)}"
            )
        if not len(labels):
            raise ValueError("labels: expected at least one example, got none")
        check_values("labels", labels, 0, num_classes - 1, f"classes from 0 to {num_classes - 1}")
        members = jax.nn.one_hot(labels, num_classes, axis=0, dtype=features.dtype)  # [classes, examples]
        class_counts = members.sum(1, keepdims=True)  # [classes, 1]
        one_counts = jnp.matmul(members, features, precision=jax.lax.Precision.HIGHEST)  # [classes, features]
        log_total = jnp.log(class_counts + 2 * smoothing)
        return cls(
            log_prior=jnp.log(class_counts[:, 0] / len(labels)),
            log_one=jnp.log(one_counts + smoothing) - log_total,
            log_zero=jnp.log(class_counts - one_counts + smoothing) - log_total,
        )

    def log_joint(self, features: ArrayLike) -> jax.Array:
        """`log p(x, y)` for every class: `[examples, classes]` for features `[examples, features]`.

        Raises:
          ValueError: if the features are of another number, or known ones not 0 or 1.
        """
        features = _binary("features", features, 2)
        if features.shape[1] != self.log_one.shape[1]:
            raise ValueError(f"features: expected [examples, {self.log_one.shape[1]}], got {list(features.shape)}")
        evidence = jnp.matmul(features, (self.log_one - self.log_zero).T, precision=jax.lax.Precision.HIGHEST)
        return evidence + (self.log_zero.sum(1) + self.log_prior)[None]

    def log_posterior(self, features: ArrayLike) -> jax.Array:
        """`log p(y | x)`: `[examples, classes]`. Features are rarely independent, so it is far too sure of itself."""
        return jax.nn.log_softmax(self.log_joint(features), axis=-1)

    def predict(self, features: ArrayLike) -> jax.Array:
        """The most probable class of each example, `[examples]`; of equals the first."""
        return self.log_joint(features).argmax(-1)


def _binary(name: str, x: ArrayLike, rank: int) -> jax.Array:
    x = real_array(name, x, rank)
    if is_concrete(x):
        values = np.asarray(x)
        wrong = values[(values != 0) & (values != 1)]
        if wrong.size:
            raise ValueError(f"{name}: expected zeros and ones, got {wrong[0]}; choose a threshold")
    return x
