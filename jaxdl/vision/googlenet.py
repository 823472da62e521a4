"""GoogLeNet (Szegedy et al., 2015, "Going Deeper with Convolutions"; D2L 8.4)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdl.nn.conv import Conv
from jaxdl.nn.initializers import kaiming_normal
from jaxdl.nn.pooling import max_pool
from jaxdl.vision.checks import check_counts, check_images, check_rank

InceptionWidths = tuple[int, tuple[int, int], tuple[int, int], int]  # the first four fields of InceptionBlock

STAGES: tuple[tuple[InceptionWidths, ...], ...] = (
    (
        (64, (96, 128), (16, 32), 32),  # 256 channels
        (128, (128, 192), (32, 96), 64),  # 480
    ),
    (
        (192, (96, 208), (16, 48), 64),  # 512
        (160, (112, 224), (24, 64), 64),  # 512
        (128, (128, 256), (24, 64), 64),  # 512
        (112, (144, 288), (32, 64), 64),  # 528
        (256, (160, 320), (32, 128), 128),  # 832
    ),
    (
        (256, (160, 320), (32, 128), 128),  # 832
        (384, (192, 384), (48, 128), 128),  # 1024
    ),
)


class InceptionBlock(nn.Module):
    """Four paths side by side, whose channels are concatenated in this order; each convolution is followed by ReLU.

    Args:
      width_1x1: channels of a 1 x 1 convolution.
      widths_3x3: of a 1 x 1 convolution and a 3 x 3 convolution behind it.
      widths_5x5: of a 1 x 1 convolution and a 5 x 5 convolution behind it.
      width_pool: of a 1 x 1 convolution behind 3 x 3 max pooling.
      kernel_init: initialiser of the weights.
      dtype: of the computation; parameters stay float32.

    Raises:
      ValueError: at construction, if a width is below 1; when called, if the input is not
        `[batch, height, width, channels]`.
    """

    width_1x1: int
    widths_3x3: tuple[int, int]
    widths_5x5: tuple[int, int]
    width_pool: int
    kernel_init: Callable[..., Any] = kaiming_normal()
    dtype: Any = None

    def __post_init__(self) -> None:
        check_counts(
            width_1x1=self.width_1x1,
            widths_3x3=self.widths_3x3,
            widths_5x5=self.widths_5x5,
            width_pool=self.width_pool,
        )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, height, width, channels]` to `[batch, height, width, sum of the four paths' widths]`."""
        check_rank(x)

        def conv(x: jax.Array, features: int, size: int) -> jax.Array:
            layer = partial(Conv, padding=size // 2, kernel_init=self.kernel_init, dtype=self.dtype)
            return nn.relu(layer(features, (size, size))(x))

        path_1x1 = conv(x, self.width_1x1, 1)
        path_3x3 = conv(conv(x, self.widths_3x3[0], 1), self.widths_3x3[1], 3)
        path_5x5 = conv(conv(x, self.widths_5x5[0], 1), self.widths_5x5[1], 5)
        path_pool = conv(max_pool(x, (3, 3), (1, 1), ((1, 1), (1, 1))), self.width_pool, 1)
        return jnp.concatenate([path_1x1, path_3x3, path_5x5, path_pool], axis=-1)


class GoogLeNet(nn.Module):
    """Two stages of convolutions, stages of Inception blocks, the average over all pixels, one dense layer.

    3 x 3 max pooling of stride 2 stands between the stages. On 96 x 96 images they work at 48, 24, 12, 6 and 3 pixels a
    side; 5,977,530 parameters with one channel. It is the book's form: the paper's two auxiliary classifiers,
    its local response normalisation and its dropout are left out.

    Args:
      num_classes: width of the output.
      stem_widths: channels of the first convolution and its 1 x 1 convolution, then of the 3 x 3 convolution.
      stages: of each stage its blocks' widths, as the first four fields of `InceptionBlock`.
      kernel_init: initialiser of the weights; the book's is Xavier uniform.
      dtype: of the computation; parameters stay float32.

    Raises:
      ValueError: at construction, if a width is below 1, a stage has no block, or there are not two stem widths; when
        called, if the images are not `[batch, height, width, channels]`.
    """

    num_classes: int = 10
    stem_widths: tuple[int, int] = (64, 192)
    stages: Sequence[Sequence[InceptionWidths]] = STAGES
    kernel_init: Callable[..., Any] = kaiming_normal()
    dtype: Any = None

    def __post_init__(self) -> None:
        check_counts(num_classes=self.num_classes, stem_widths=self.stem_widths)
        if len(self.stem_widths) != 2:
            raise ValueError(f"stem_widths: expected two numbers, got {list(self.stem_widths)}")
        if not self.stages or not all(self.stages):
            raise ValueError(f"stages: expected one or more with at least one block each, got {self.stages}")
        for widths in (widths for stage in self.stages for widths in stage):
            InceptionBlock(*widths, parent=None)  # checks them before anything is traced
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        check_images(images)
        conv = partial(Conv, kernel_init=self.kernel_init, dtype=self.dtype)
        first, second = self.stem_widths
        x = nn.relu(conv(first, (7, 7), 2, padding=3)(images))  # 96 x 96 -> [batch, 48, 48, 64]
        x = _halve(x)  # [batch, 24, 24, 64]
        x = nn.relu(conv(first, (1, 1))(x))
        x = nn.relu(conv(second, (3, 3), padding=1)(x))  # [batch, 24, 24, 192]
        for stage in self.stages:
            x = _halve(x)  # 12, 6, 3 pixels a side
            for widths in stage:
                x = InceptionBlock(*widths, kernel_init=self.kernel_init, dtype=self.dtype)(x)
        x = x.mean((1, 2))  # [batch, 1024]
        return nn.Dense(self.num_classes, kernel_init=self.kernel_init, dtype=self.dtype)(x)


def _halve(x: jax.Array) -> jax.Array:
    return max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
