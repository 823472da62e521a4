"""LeNet-5 as the book has it (LeCun et al., 1998; D2L 7.6)."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from jaxdl.nn.conv import Conv
from jaxdl.nn.pooling import max_pool

Pool = Callable[..., jax.Array]  # (images, window_shape, strides) -> images


class LeNet(nn.Module):
    """Two convolutions with pooling, three dense layers: 61,706 parameters on 28 x 28 x 1 images.

    Args:
      num_classes: width of the output.
      activation: `nn.relu`; the book's is `nn.sigmoid`, which needs far more data and steps.
      pool: `nn.max_pool`; the book's is `nn.avg_pool`.
      kernel_init: initialiser of the weights; the book's is Xavier uniform.
      dtype: of the computation; parameters stay float32.

    Raises:
      ValueError: at construction, if `num_classes` is below 1; when called, if the images are not
        `[batch, height, width, channels]` or smaller than 12 x 12.
    """

    num_classes: int = 10
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    pool: Pool = max_pool
    kernel_init: Callable[..., Any] = nn.initializers.xavier_uniform()
    dtype: Any = None

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise ValueError(f"num_classes: expected at least 1, got {self.num_classes}")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        if images.ndim != 4 or min(images.shape[1:3]) < 12:
            raise ValueError(
                f"images: expected [batch, height, width, channels], at least 12 x 12 pixels; got {list(images.shape)}"
            )

        def conv(channels: int, padding: str) -> Conv:
            return Conv(channels, (5, 5), padding=padding, dtype=self.dtype, kernel_init=self.kernel_init)

        def dense(width: int) -> nn.Dense:
            return nn.Dense(width, dtype=self.dtype, kernel_init=self.kernel_init)

        x = self.pool(self.activation(conv(6, "SAME")(images)), (2, 2), (2, 2))  # 28 x 28 -> [batch, 14, 14, 6]
        x = self.pool(self.activation(conv(16, "VALID")(x)), (2, 2), (2, 2))  # [batch, 5, 5, 16]
        x = jax.lax.collapse(x, 1)  # [batch, 400]
        x = self.activation(dense(120)(x))
        x = self.activation(dense(84)(x))
        return dense(self.num_classes)(x)
