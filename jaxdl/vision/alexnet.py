"""AlexNet (Krizhevsky et al., 2012, "ImageNet Classification with Deep Convolutional Neural Networks"; D2L 8.1)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from flax import linen as nn

from jaxdl.nn.conv import Conv
from jaxdl.nn.dropout import Dropout
from jaxdl.nn.initializers import kaiming_normal
from jaxdl.nn.pooling import max_pool
from jaxdl.vision.checks import check_counts, check_images, check_rate
from jaxdl.vision.receptive_field import smallest_input


class AlexNet(nn.Module):
    """Five convolutions, 3 x 3 max pooling after the first, second and fifth, then dense layers with dropout.

    On 224 x 224 x 1 images the sides are 54, 26, 26, 12, 12, 12, 12, 5; of 46,764,746 parameters 43 million are in the
    first two dense layers. It is the book's form: one column instead of two, without the local response normalisation,
    and the first convolution padded by 1.

    Args:
      num_classes: width of the output.
      widths: channels of the five convolutions, whose kernels are 11, 5, 3, 3 and 3 pixels wide.
      dense_widths: of the hidden dense layers.
      stem_strides: of the first convolution; 1 for images of about 32 pixels.
      dropout: rate behind each hidden dense layer.
      kernel_init: initialiser of the weights; the book's is Xavier uniform.
      dtype: of the computation; parameters stay float32.

    Raises:
      ValueError: at construction, if a number is below 1, there are not five widths, or the rate is not in [0, 1]; when
        called, if the images are not `[batch, height, width, channels]`, or too small to leave a pixel (less than
        65 x 65 with strides of 4, 23 x 23 with 1).

    Note: the first dense layer sees pixels in the order height, width, channels, PyTorch's in the order channels,
    height, width; on other image sizes than it was initialised with, it does not fit.
    """

    num_classes: int = 10
    widths: Sequence[int] = (96, 256, 384, 384, 256)
    dense_widths: Sequence[int] = (4096, 4096)
    stem_strides: int = 4
    dropout: float = 0.5
    kernel_init: Callable[..., Any] = kaiming_normal()
    dtype: Any = None

    def __post_init__(self) -> None:
        check_counts(
            num_classes=self.num_classes,
            widths=self.widths,
            dense_widths=self.dense_widths,
            stem_strides=self.stem_strides,
        )
        check_rate(dropout=self.dropout)
        if len(self.widths) != 5:
            raise ValueError(f"widths: expected five numbers, got {list(self.widths)}")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        pool = (3, 2)
        check_images(images, smallest_input([(11, self.stem_strides, 1), pool, (5, 1, 2), pool, (3, 1, 1), pool]))

        def conv(x: jax.Array, features: int, size: int, strides: int, padding: int) -> jax.Array:
            layer = partial(Conv, strides=strides, padding=padding, kernel_init=self.kernel_init, dtype=self.dtype)
            return nn.relu(layer(features, (size, size))(x))

        x = conv(images, self.widths[0], 11, self.stem_strides, 1)  # 224 x 224 -> [batch, 54, 54, 96]
        x = max_pool(x, (3, 3), (2, 2))  # [batch, 26, 26, 96]
        x = max_pool(conv(x, self.widths[1], 5, 1, 2), (3, 3), (2, 2))  # [batch, 12, 12, 256]
        for features in self.widths[2:]:
            x = conv(x, features, 3, 1, 1)  # [batch, 12, 12, 384], the last 256
        x = max_pool(x, (3, 3), (2, 2))  # [batch, 5, 5, 256]
        x = jax.lax.collapse(x, 1)  # [batch, 6400]
        for width in self.dense_widths:
            x = nn.relu(nn.Dense(width, kernel_init=self.kernel_init, dtype=self.dtype)(x))
            x = Dropout(self.dropout)(x, train)
        return nn.Dense(self.num_classes, kernel_init=self.kernel_init, dtype=self.dtype)(x)
