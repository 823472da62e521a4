"""AnyNet, a design space of networks (Radosavovic et al., 2020, "Designing Network Design Spaces"; D2L 8.8)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import linen as nn

from jaxdl.nn.batch_norm import BatchNorm
from jaxdl.nn.conv import Conv
from jaxdl.nn.initializers import kaiming_normal
from jaxdl.vision.checks import check_counts, check_images, check_lengths
from jaxdl.vision.resnext import ResNeXtBlock


class AnyNet(nn.Module):
    """A stem, a body of stages of ResNeXt blocks, the average over all pixels, one dense layer.

    The stem, a 3 x 3 convolution, and each stage halve height and width. With four stages, the width of the stem and
    each stage's depth, width, group width and bottleneck are the 17 numbers to choose.

    Args:
      num_classes: width of the output.
      stem_width: channels of the stem.
      depths: blocks of each stage.
      widths: channels of each stage.
      group_widths: of each stage, as in `ResNeXtBlock`.
      bottlenecks: of each stage, as in `ResNeXtBlock`.
      use_bias: of the convolutions; True in the book, False in the paper and in torchvision.
      axis_name: of the mapped axis over which `BatchNorm` takes its statistics together.
      kernel_init: initialiser of all weights.
      dtype: of the computation; parameters and statistics stay float32.

    Raises:
      ValueError: at construction, if a count is below 1, a bottleneck is not positive, the fields of the stages differ
        in length, or a group width does not divide the channels of its 3 x 3 convolutions; when called, if the images
        are not `[batch, height, width, channels]`.
    """

    num_classes: int = 10
    stem_width: int = 32
    depths: Sequence[int] = (1, 1, 1, 1)
    widths: Sequence[int] = (32, 64, 128, 256)
    group_widths: Sequence[int] = (16, 16, 16, 16)
    bottlenecks: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
    use_bias: bool = True
    axis_name: str | None = None
    kernel_init: Callable[..., Any] = kaiming_normal()
    dtype: Any = None

    def __post_init__(self) -> None:
        check_counts(num_classes=self.num_classes, stem_width=self.stem_width, depths=self.depths, widths=self.widths)
        check_lengths(
            len(self.depths), widths=self.widths, group_widths=self.group_widths, bottlenecks=self.bottlenecks
        )
        for block in zip(self.widths, self.group_widths, self.bottlenecks, strict=True):
            ResNeXtBlock(*block, parent=None)  # checks the numbers before anything is traced
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        check_images(images)
        fields: Any = {"use_bias": self.use_bias, "kernel_init": self.kernel_init, "dtype": self.dtype}
        x = Conv(self.stem_width, (3, 3), 2, padding=1, **fields)(images)
        x = nn.relu(BatchNorm(axis_name=self.axis_name, dtype=self.dtype)(x, train))  # [batch, h/2, w/2, stem_width]
        stages = zip(self.depths, self.widths, self.group_widths, self.bottlenecks, strict=True)
        for depth, width, group_width, bottleneck in stages:
            for i in range(depth):
                strides = 2 if i == 0 else 1
                x = ResNeXtBlock(width, group_width, bottleneck, strides, axis_name=self.axis_name, **fields)(x, train)
        x = x.mean((1, 2))  # [batch, widths[-1]]
        return nn.Dense(self.num_classes, kernel_init=self.kernel_init, dtype=self.dtype)(x)


def compatible_widths(
    widths: Sequence[int], group_widths: Sequence[int], bottlenecks: Sequence[float]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The nearest widths and group widths of which the one divides the other, stage by stage.

    A group is never wider than its 3 x 3 convolution, whose channels are then rounded to a multiple of the group width.
    So do the authors of the paper.

    Args:
      widths: channels of each stage.
      group_widths: of each stage.
      bottlenecks: of each stage, as in `ResNeXtBlock`.

    Returns:
      The widths and the group widths.

    >>> compatible_widths([24, 56], [16, 64], [1, 0.5])
    ((32, 56), (16, 28))
    """
    pairs = []
    for width, group_width, bottleneck in zip(widths, group_widths, bottlenecks, strict=True):
        inner = max(1, round(width * bottleneck))
        group_width = min(group_width, inner)
        multiple = math.lcm(group_width, int(bottleneck)) if bottleneck > 1 else group_width
        inner = max(1, round(inner / multiple)) * multiple
        pairs.append((round(inner / bottleneck), group_width))
    return tuple(width for width, _ in pairs), tuple(group_width for _, group_width in pairs)
