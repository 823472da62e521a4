"""The perceptron (Rosenblatt, 1958) and how many mistakes it can make (Novikoff, 1962); systems course 23.19."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxdl.probability.checks import is_concrete, real_array


class Perceptron(NamedTuple):
    """A hyperplane, `sign(x . weights + bias)`, found by correcting mistakes.

    Attributes:
      weights: `[features]`.
      bias: a scalar.
      mistakes: int32 `[epochs]`, corrections in each pass over the data; 0 in the last where it has converged.

    >>> model = Perceptron.fit([[0.0, 1.0], [1.0, 0.0]], [1, -1], epochs=5)
    >>> model.mistakes, model.predict([[2.0, 5.0]])
    (Array([2, 0, 0, 0, 0], dtype=int32), Array([1], dtype=int32))
    """

    weights: jax.Array
    bias: jax.Array
    mistakes: jax.Array

    @classmethod
    def fit(cls, x: ArrayLike, y: ArrayLike, *, epochs: int) -> "Perceptron":
        """Adds `y x` to the weights and y to the bias at each mistake, over the examples in their order, from zeros.

        A point on the hyperplane counts as a mistake. There is no learning rate: from zeros it would only scale both.

        Args:
          x: `[examples, features]`.
          y: `[examples]`, 1 or -1.
          epochs: passes over the data, at least 1. On data that no hyperplane separates, such as XOR, it never stops
            making mistakes; on others `mistake_bound` tells how many there can be.

        Raises:
          ValueError: if the shapes do not fit, there are no examples, a known label is not 1 or -1, or `epochs` is
            below 1.
        """
        x, y = _examples(x, y)
        if epochs < 1:
            raise ValueError(f"epochs: expected at least 1, got {epochs}")
        w, b = jnp.zeros_like(x[0]), jnp.zeros_like(y[0])

        def correct(plane: tuple[jax.Array, jax.Array], example: tuple[jax.Array, jax.Array]):
            (w, b), (x, y) = plane, example
            mistake = y * (x @ w + b) <= 0
            step = jnp.where(mistake, y, 0)
            return (w + step * x, b + step), mistake

        def epoch(plane: tuple[jax.Array, jax.Array], _: None):
            plane, mistakes = jax.lax.scan(correct, plane, (x, y))
            return plane, mistakes.sum(dtype=jnp.int32)

        (w, b), mistakes = jax.lax.scan(epoch, (w, b), length=epochs)
        return cls(w, b, mistakes)

    def predict(self, x: ArrayLike) -> jax.Array:
        """int32 `[examples]`, 1 or -1, for x `[examples, features]`; on the hyperplane -1.

        Raises:
          ValueError: if x has another number of features.
        """
        x = real_array("x", x, 2)
        if x.shape[1] != len(self.weights):
            raise ValueError(f"x: expected [examples, {len(self.weights)}], got {list(x.shape)}")
        return jnp.where(x @ self.weights + self.bias > 0, 1, -1).astype(jnp.int32)


def mistake_bound(x: ArrayLike, y: ArrayLike, weights: ArrayLike, bias: ArrayLike) -> jax.Array:
    """`(R / gamma)^2`: the perceptron makes no more mistakes than this, in all its passes together, in any order.

    R is the length of the longest example and gamma the margin of some separating hyperplane, the distance to the
    nearest example, both measured with a 1 appended to each x that carries the bias. (Each mistake adds at most R^2 to
    the squared length of the weights and at least gamma to their product with the separating unit vector.)

    Args:
      x: `[examples, features]`.
      y: `[examples]`, 1 or -1.
      weights: `[features]`, of a hyperplane that separates the classes; the wider its margin, the better the bound.
      bias: a scalar.

    Returns:
      A scalar; infinite if the hyperplane does not separate.

    Raises:
      ValueError: if the shapes do not fit, there are no examples, or a known label is not 1 or -1.
    """
    x, y = _examples(x, y)
    weights, bias = real_array("weights", weights, 1), real_array("bias", bias, 0)
    if weights.shape != x.shape[1:]:
        raise ValueError(f"weights: expected {list(x.shape[1:])}, got {list(weights.shape)}")
    margin = (y * (x @ weights + bias)).min() / jnp.sqrt(weights @ weights + bias**2)
    squared_radius = (jnp.square(x).sum(1) + 1).max()
    return jnp.where(margin > 0, squared_radius / margin**2, jnp.inf)


def _examples(x: ArrayLike, y: ArrayLike) -> tuple[jax.Array, jax.Array]:
    x, y = real_array("x", x, 2), real_array("y", y, 1)
    if y.shape != x.shape[:1]:
        raise ValueError(f"y: expected {list(x.shape[:1])} for x of shape {list(x.shape)}, got {list(y.shape)}")
    if not len(y):
        raise ValueError("x: expected at least one example, got none")
    if is_concrete(y):
        wrong = np.asarray(y)[np.abs(np.asarray(y)) != 1]
        if wrong.size:
            raise ValueError(f"y: expected labels 1 and -1, got {wrong[0]}")
    return x, y.astype(x.dtype)
