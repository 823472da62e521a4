"""A dense layer over the last axis."""

import math

import jax
from flax import linen as nn


class Dense(nn.Dense):
    """Flax's layer, parameters and initial values, computed as one product of two matrices: `[..., in] @ [in, out]`.

    With `[batch, time, features]` XLA's gradient of the kernel takes twice the time on a CPU if the leading axes are
    not one (15 ms and 6 at 16 x 128 x 256, to 1,024 features); values are those of Flax.
    """

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps `[..., in]` to `[..., features]`."""
        leading = inputs.shape[:-1]
        flat = inputs.reshape(math.prod(leading), inputs.shape[-1])
        return super().__call__(flat).reshape(*leading, self.features)
