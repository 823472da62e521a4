"""LeNet with batch normalisation (Ioffe and Szegedy, 2015; D2L 8.5)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from flax import linen as nn

from jaxdl.nn.batch_norm import BatchNorm
from jaxdl.nn.conv import Conv
from jaxdl.nn.pooling import max_pool
from jaxdl.vision.checks import check_counts, check_images


class BatchNormLeNet(nn.Module):
    """LeNet whose four hidden layers are normalised before the activation: 44,878 parameters on 28 x 28 x 1 images.

    It has fewer than `LeNet` because, as in the book, its first convolution is not padded: 28 pixels a side become 24,
    12, 8, 4, and 256 features go into the dense layers.

    Args:
      num_classes: width of the output.
      activation: `nn.relu`; the book's is `nn.sigmoid`, which learns well once it is normalised.
      pool: `max_pool`; the book's is `avg_pool`.
      axis_name: of the mapped axis over which `BatchNorm` takes its statistics together.
      kernel_init: initialiser of the weights; the book's is Xavier uniform.
      dtype: of the computation; parameters and statistics stay float32.

    Raises:
      ValueError: at construction, if `num_classes` is below 1; when called, if the images are not
        `[batch, height, width, channels]` or smaller than 16 x 16.

    Note: the first dense layer sees pixels in the order height, width, channels, PyTorch's in the order channels,
    height, width.
    """

    num_classes: int = 10
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    pool: Callable[..., jax.Array] = max_pool
    axis_name: str | None = None
    kernel_init: Callable[..., Any] = nn.initializers.xavier_uniform()
    dtype: Any = None

    def __post_init__(self) -> None:
        check_counts(num_classes=self.num_classes)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        check_images(images, smallest=16)
        conv = partial(Conv, kernel_size=(5, 5), padding="VALID", kernel_init=self.kernel_init, dtype=self.dtype)
        dense = partial(nn.Dense, kernel_init=self.kernel_init, dtype=self.dtype)

        def normalised(x: jax.Array) -> jax.Array:
            return self.activation(BatchNorm(axis_name=self.axis_name, dtype=self.dtype)(x, train))

        x = self.pool(normalised(conv(6)(images)), (2, 2), (2, 2))  # 28 x 28 -> [batch, 12, 12, 6]
        x = self.pool(normalised(conv(16)(x)), (2, 2), (2, 2))  # [batch, 4, 4, 16]
        x = jax.lax.collapse(x, 1)  # [batch, 256]
        x = normalised(dense(120)(x))
        x = normalised(dense(84)(x))
        return dense(self.num_classes)(x)
