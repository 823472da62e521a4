"""RegNet, the simple networks that AnyNet's best designs have in common (Radosavovic et al., 2020; D2L 8.8)."""

import math
from collections.abc import Callable
from itertools import groupby
from typing import Any

import jax
from flax import linen as nn

from jaxdl.nn.initializers import kaiming_normal
from jaxdl.vision.anynet import AnyNet, compatible_widths
from jaxdl.vision.checks import check_counts


def quantized_linear_widths(
    depth: int, initial_width: int, slope: float, width_multiplier: float, *, multiple: int = 8
) -> list[int]:
    """Widths of blocks that grow linearly, rounded to a few steps (Radosavovic et al., 2020, equations 2 to 4).

    Block j of `depth` has about `u_j = w_0 + w_a j` channels (2), which is `w_0 w_m ^ s_j` (3) for some `s_j`; with
    `s_j` rounded (4), blocks of equal width make a stage.

    Args:
      depth: blocks.
      initial_width: w_0.
      slope: w_a, channels a block.
      width_multiplier: w_m, of the width from stage to stage.
      multiple: the widths are rounded to a multiple of it.

    Returns:
      A width for each block.

    Raises:
      ValueError: if `depth`, `initial_width` or `multiple` is below 1, `slope` is negative, or `width_multiplier` is
        not above 1.

    >>> quantized_linear_widths(10, 32, 5.0, 2.5)
    [32, 32, 32, 32, 80, 80, 80, 80, 80, 80]
    """
    check_counts(depth=depth, initial_width=initial_width, multiple=multiple)
    if not slope >= 0:
        raise ValueError(f"slope: expected at least 0, got {slope}")
    if not width_multiplier > 1:
        raise ValueError(f"width_multiplier: expected a number above 1, got {width_multiplier}")
    widths = []
    for j in range(depth):
        u_j = initial_width + slope * j
        s_j = math.log(u_j / initial_width) / math.log(width_multiplier)
        width = initial_width * width_multiplier ** round(s_j)
        widths.append(max(1, round(width / multiple)) * multiple)
    return widths


class RegNetX(nn.Module):
    """The `AnyNet` whose widths follow `quantized_linear_widths`, with one group width and one bottleneck.

    `RegNetX(1000, 16, 56, 35.73, 2.28, 16, use_bias=False)` is RegNetX-800MF: depths 1, 3, 7, 5, widths 64, 128, 288,
    672, 7,259,656 parameters with 3 channels, also in torchvision.

    Args:
      num_classes: width of the output.
      depth: blocks in all stages.
      initial_width: as in `quantized_linear_widths`.
      slope: as in `quantized_linear_widths`.
      width_multiplier: as in `quantized_linear_widths`.
      group_width: of all stages; a stage's width is rounded to fit, see `compatible_widths`.
      bottleneck: of all stages, as in `ResNeXtBlock`.
      stem_width: channels of the stem.
      use_bias: as in `AnyNet`.
      axis_name: of the mapped axis over which `BatchNorm` takes its statistics together.
      kernel_init: initialiser of all weights.
      dtype: of the computation; parameters and statistics stay float32.

    Raises:
      ValueError: at construction, as in `quantized_linear_widths` and `AnyNet`; when called, if the images are not
        `[batch, height, width, channels]`.
    """

    num_classes: int = 10
    depth: int = 10
    initial_width: int = 32
    slope: float = 5.0
    width_multiplier: float = 2.5
    group_width: int = 16
    bottleneck: float = 1.0
    stem_width: int = 32
    use_bias: bool = True
    axis_name: str | None = None
    kernel_init: Callable[..., Any] = kaiming_normal()
    dtype: Any = None

    def __post_init__(self) -> None:
        check_counts(group_width=self.group_width)
        if not self.bottleneck > 0:
            raise ValueError(f"bottleneck: expected a positive number, got {self.bottleneck}")
        self.anynet()  # checks the numbers before anything is traced
        super().__post_init__()

    def anynet(self) -> AnyNet:
        """The network in AnyNet's terms, a module of its own with the same variables."""
        blocks = quantized_linear_widths(self.depth, self.initial_width, self.slope, self.width_multiplier)
        stages = [(width, len([*same])) for width, same in groupby(blocks)]
        bottlenecks = (self.bottleneck,) * len(stages)
        widths, group_widths = compatible_widths(
            [width for width, _ in stages], (self.group_width,) * len(stages), bottlenecks
        )
        return AnyNet(
            self.num_classes,
            stem_width=self.stem_width,
            depths=tuple(depth for _, depth in stages),
            widths=widths,
            group_widths=group_widths,
            bottlenecks=bottlenecks,
            use_bias=self.use_bias,
            axis_name=self.axis_name,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            parent=None,
        )

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        anynet = self.anynet().copy(parent=self)
        nn.share_scope(self, anynet)  # its variables are ours
        return anynet(images, train)


def regnetx_32(num_classes: int = 10, **fields: Any) -> RegNetX:
    """The book's: depths 4 and 6, widths 32 and 80, groups of 16 channels; 179,290 parameters with one channel.

    The book gives depths and widths themselves; the parameters of the linear rule are chosen to yield them.

    Args:
      num_classes: width of the output.
      fields: others of `RegNetX`.
    """
    return RegNetX(num_classes, depth=10, initial_width=32, slope=5.0, width_multiplier=2.5, group_width=16, **fields)
