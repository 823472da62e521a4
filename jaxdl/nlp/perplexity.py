"""Perplexity of a language model (D2L 9.3.2): how many tokens it hesitates between, on average."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.training.metrics import Mean


class Perplexity(NamedTuple):
    """`exp` of the mean negative log-likelihood, as the two sums of the mean; merge with `training.merge_metrics`."""

    total: Any  # nats
    count: Any  # tokens

    @classmethod
    def of(cls, losses: jax.Array, mask: jax.Array | None = None) -> "Perplexity":
        """Sums the losses of tokens, each `-log P` in nats, such as those of `jaxdl.nn.cross_entropy`.

        Args:
          losses: floating, any shape.
          mask: of the same shape; 1 counts, 0 is padding.

        Raises:
          ValueError: as `jaxdl.training.Mean.of`.
        """
        return cls(*Mean.of(losses, mask))

    def compute(self) -> Any:
        """`exp(total / count)`: 1 at best, the size of the vocabulary for a uniform guess; NaN of no token."""
        # NumPy's exp keeps the float64 of sums that were added on the host.
        mean = self.total / self.count
        return jnp.exp(mean) if isinstance(mean, jax.Array) else np.exp(mean)


def perplexity(losses: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """The perplexity of tokens: `exp` of the mean of their losses in nats (D2L 9.3.2).

    Of several batches, merge `Perplexity` sums: the mean of their perplexities is another number.

    Args:
      losses: `-log P` of each token, floating, any shape.
      mask: of the same shape; 1 counts, 0 is padding.

    Returns:
      `[]`, float32 or float64; NaN where nothing counts.

    Raises:
      ValueError: as `jaxdl.training.Mean.of`.

    >>> perplexity(jnp.full((2, 3), jnp.log(28.0))).round()
    Array(28., dtype=float32)
    """
    return Perplexity.of(losses, mask).compute()
