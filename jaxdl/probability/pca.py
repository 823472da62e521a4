"""Principal component analysis (systems course 23.19; Pearson, 1901): the directions in which data varies most."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from jaxdl.probability.checks import real_array


class PCA(NamedTuple):
    """An affine map from features to a few uncorrelated components, and back.

    Attributes:
      mean: `[features]`.
      components: `[components, features]`, orthonormal rows; the entry of each that is greatest in size is positive,
        as in scikit-learn, because the sign means nothing.
      variances: `[components]`, of the data along each, with n - 1 below; falling.
      total_variance: of the data, over all directions.

    >>> pca = PCA.fit([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]], num_components=1)
    >>> [f"{weight:.3f}" for weight in pca.components[0]], f"{pca.variances[0] / pca.total_variance:.3f}"
    (['0.600', '0.800'], '1.000')
    """

    mean: jax.Array
    components: jax.Array
    variances: jax.Array
    total_variance: jax.Array

    @classmethod
    def fit(cls, x: ArrayLike, num_components: int) -> "PCA":
        """Finds the components by a singular value decomposition of the centred data.

        They are the eigenvectors of its covariance, which is not formed: that would square the condition number.

        Args:
          x: `[examples, features]`, at least two examples. Features in different units should be scaled first.
          num_components: at least 1, at most the smaller of examples and features.

        Raises:
          ValueError: if the shape or the number does not fit.
        """
        x = real_array("x", x, 2)
        num_examples, num_features = x.shape
        if num_examples < 2:
            raise ValueError(f"x: expected at least two examples, got {num_examples}")
        if not 1 <= num_components <= min(num_examples, num_features):
            raise ValueError(
                f"num_components: expected 1 to {min(num_examples, num_features)} for x of shape {list(x.shape)}, "
                f"got {num_components}"
            )
        mean = x.mean(0)
        _, singular_values, rows = jnp.linalg.svd(x - mean[None], full_matrices=False)
        rows = rows[:num_components]
        largest = jnp.take_along_axis(rows, jnp.abs(rows).argmax(1, keepdims=True), axis=1)  # [components, 1]
        variances = singular_values**2 / (num_examples - 1)
        return cls(mean, rows * jnp.where(largest < 0, -1, 1), variances[:num_components], variances.sum())

    def transform(self, x: ArrayLike) -> jax.Array:
        """The components of x: `[examples, components]` for `[examples, features]`.

        Raises:
          ValueError: if x has another number of features.
        """
        x = real_array("x", x, 2)
        if x.shape[1] != len(self.mean):
            raise ValueError(f"x: expected [examples, {len(self.mean)}], got {list(x.shape)}")
        return (x - self.mean[None]) @ self.components.T

    def inverse_transform(self, z: ArrayLike) -> jax.Array:
        """What the components say of x: `[examples, features]` for `[examples, components]`.

        Of all maps to so few numbers and back by affine maps, this loses least in squared distance.

        Raises:
          ValueError: if z has another number of components.
        """
        z = real_array("z", z, 2)
        if z.shape[1] != len(self.components):
            raise ValueError(f"z: expected [examples, {len(self.components)}], got {list(z.shape)}")
        return z @ self.components + self.mean[None]
