"""Network in network (Lin et al., 2014, "Network In Network"; D2L 8.3)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from flax import linen as nn

from jaxdl.nn.conv import Conv
from jaxdl.nn.dropout import Dropout
from jaxdl.nn.initializers import kaiming_normal
from jaxdl.nn.pooling import max_pool
from jaxdl.vision.checks import check_counts, check_images, check_rank, check_rate
from jaxdl.vision.receptive_field import smallest_input


class NiNBlock(nn.Module):
    """A convolution and two 1 x 1 convolutions, a small dense network at every pixel, each followed by ReLU.

    Args:
      features: output channels of all three.
      kernel_size: side of the first one's window.
      strides: of the first one.
      padding: of the first one.
      last_relu: whether the last one is followed by ReLU too.
      kernel_init: initialiser of the weights.
      dtype: of the computation; parameters stay float32.

    Raises:
      ValueError: at construction, if `features`, `kernel_size` or `strides` is below 1; when called, if the input is
        not `[batch, height, width, channels]`.
    """

    features: int
    kernel_size: int
    strides: int = 1
    padding: int = 0
    last_relu: bool = True
    kernel_init: Callable[..., Any] = kaiming_normal()
    dtype: Any = None

    def __post_init__(self) -> None:
        check_counts(features=self.features, kernel_size=self.kernel_size, strides=self.strides)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, height, width, channels]` to `[batch, out_height, out_width, features]`."""
        check_rank(x)
        conv = partial(Conv, self.features, kernel_init=self.kernel_init, dtype=self.dtype)
        x = nn.relu(conv((self.kernel_size, self.kernel_size), self.strides, padding=self.padding)(x))
        x = nn.relu(conv((1, 1))(x))
        x = conv((1, 1))(x)
        return nn.relu(x) if self.last_relu else x


class NiN(nn.Module):
    """Blocks with pooling between them; the last one has a channel for each class, whose average is its logit.

    There are no dense layers. On 224 x 224 images the sides are 54, 26, 26, 12, 12, 5, 5; 1,992,166 parameters with one
    channel.

    Args:
      num_classes: width of the output.
      widths: channels of the three blocks before the last, whose windows are 11, 5 and 3 pixels wide.
      stem_strides: of the first convolution; 1 for images of about 32 pixels.
      dropout: rate before the last block.
      relu_logits: True is the form of the paper and the book, where a ReLU stands behind the last block too, so that no
        logit is negative. A class whose channel starts below zero for all images then never learns.
      kernel_init: initialiser of the weights; the book's is Xavier uniform.
      dtype: of the computation; parameters stay float32.

    Raises:
      ValueError: at construction, if a number is below 1, there are not three widths, or the rate is not in [0, 1];
        when called, if the images are not `[batch, height, width, channels]`, or too small to leave a pixel (less than
        67 x 67 with strides of 4, 25 x 25 with 1).
    """

    num_classes: int = 10
    widths: Sequence[int] = (96, 256, 384)
    stem_strides: int = 4
    dropout: float = 0.5
    relu_logits: bool = True
    kernel_init: Callable[..., Any] = kaiming_normal()
    dtype: Any = None

    def __post_init__(self) -> None:
        check_counts(num_classes=self.num_classes, widths=self.widths, stem_strides=self.stem_strides)
        check_rate(dropout=self.dropout)
        if len(self.widths) != 3:
            raise ValueError(f"widths: expected three numbers, got {list(self.widths)}")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        windows = [(11, self.stem_strides, 0), (5, 1, 2), (3, 1, 1)]
        check_images(images, smallest_input([layer for window in windows for layer in (window, (3, 2))]))
        block = partial(NiNBlock, kernel_init=self.kernel_init, dtype=self.dtype)
        x = images
        for features, window in zip(self.widths, windows, strict=True):
            x = block(features, *window)(x)
            x = max_pool(x, (3, 3), (2, 2))  # 224 x 224 -> 26, 12, 5 pixels a side
        x = Dropout(self.dropout)(x, train)
        x = block(self.num_classes, kernel_size=3, padding=1, last_relu=self.relu_logits)(x)
        return x.mean((1, 2))  # [batch, num_classes]
