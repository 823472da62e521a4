"""VGG (Simonyan and Zisserman, 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition"; D2L 8.2)."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import linen as nn

from jaxdl.nn.conv import Conv
from jaxdl.nn.dropout import Dropout
from jaxdl.nn.initializers import kaiming_normal
from jaxdl.nn.pooling import max_pool
from jaxdl.vision.checks import check_counts, check_images, check_rate


class VGG(nn.Module):
    """Blocks of 3 x 3 convolutions, each followed by 2 x 2 max pooling, then dense layers with dropout.

    Each block halves height and width: the five blocks of `vgg11` leave 112, 56, 28, 14 and 7 of 224 pixels a side.

    Args:
      num_classes: width of the output.
      blocks: of each block `(convolutions, channels)`; the default is `vgg11`'s.
      dense_widths: of the hidden dense layers.
      dropout: rate behind each hidden dense layer.
      kernel_init: initialiser of the weights; the book's is Xavier uniform.
      dtype: of the computation; parameters stay float32.

    Raises:
      ValueError: at construction, if a number is below 1 or the rate is not in [0, 1]; when called, if the images are
        not `[batch, height, width, channels]`, or have fewer than `2 ** len(blocks)` pixels a side.

    Note: the first dense layer sees pixels in the order height, width, channels, PyTorch's in the order channels,
    height, width; on other image sizes than it was initialised with, it does not fit. Torchvision averages whatever the
    blocks leave into 7 x 7, which at 224 pixels changes nothing.
    """

    num_classes: int = 10
    blocks: Sequence[tuple[int, int]] = ((1, 64), (1, 128), (2, 256), (2, 512), (2, 512))
    dense_widths: Sequence[int] = (4096, 4096)
    dropout: float = 0.5
    kernel_init: Callable[..., Any] = kaiming_normal()
    dtype: Any = None

    def __post_init__(self) -> None:
        check_counts(num_classes=self.num_classes, dense_widths=self.dense_widths)
        check_rate(dropout=self.dropout)
        if not self.blocks or any(len(block) != 2 or min(block) < 1 for block in self.blocks):
            raise ValueError(
                f"blocks: expected one or more (convolutions, channels) of at least 1, got {list(self.blocks)}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        check_images(images, smallest=2 ** len(self.blocks))
        x = images
        for convolutions, features in self.blocks:
            for _ in range(convolutions):
                x = nn.relu(Conv(features, (3, 3), padding=1, kernel_init=self.kernel_init, dtype=self.dtype)(x))
            x = max_pool(x, (2, 2), (2, 2))  # [batch, height/2, width/2, features], rounded down
        x = jax.lax.collapse(x, 1)  # 224 x 224 -> [batch, 7 * 7 * features]
        for width in self.dense_widths:
            x = nn.relu(nn.Dense(width, kernel_init=self.kernel_init, dtype=self.dtype)(x))
            x = Dropout(self.dropout)(x, train)
        return nn.Dense(self.num_classes, kernel_init=self.kernel_init, dtype=self.dtype)(x)


def vgg11(num_classes: int = 10, **fields: Any) -> VGG:
    """11 layers: 128,806,154 parameters on 224 x 224 x 1 images.

    Args:
      num_classes: width of the output.
      fields: others of `VGG`.
    """
    return VGG(num_classes, blocks=((1, 64), (1, 128), (2, 256), (2, 512), (2, 512)), **fields)


def vgg11_small(num_classes: int = 10, **fields: Any) -> VGG:
    """`vgg11` with a quarter of the channels, which the book trains: 43,093,322 parameters on 224 x 224 x 1 images.

    Args:
      num_classes: width of the output.
      fields: others of `VGG`.
    """
    return VGG(num_classes, blocks=((1, 16), (1, 32), (2, 64), (2, 128), (2, 128)), **fields)


def vgg16(num_classes: int = 10, **fields: Any) -> VGG:
    """16 layers: 138,357,544 parameters on 224 x 224 x 3 images with 1000 classes.

    Args:
      num_classes: width of the output.
      fields: others of `VGG`.
    """
    return VGG(num_classes, blocks=((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), **fields)


def vgg19(num_classes: int = 10, **fields: Any) -> VGG:
    """19 layers: 143,667,240 parameters on 224 x 224 x 3 images with 1000 classes.

    Args:
      num_classes: width of the output.
      fields: others of `VGG`.
    """
    return VGG(num_classes, blocks=((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)), **fields)
