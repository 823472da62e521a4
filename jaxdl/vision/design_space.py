"""Design spaces: AnyNets at random, and how good the networks of a space are (Radosavovic et al., 2020; D2L 8.8).

Not one network is judged but the distribution of errors of those that a space contains: of two spaces the better is
the one whose error distribution function lies higher.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxdl.vision.anynet import AnyNet, compatible_widths
from jaxdl.vision.checks import check_counts


@dataclass(frozen=True)
class AnyNetSpace:
    """Ranges and rules for `sample_anynet`.

    The defaults are the paper's AnyNetX_A with at most 1.8e18 networks; each rule switched on, in the order of the
    fields, gives its AnyNetX_B, C, D and E.

    Args:
      num_stages: of each network.
      stem_width: channels of the stem.
      max_depth: most blocks of a stage.
      max_width: most channels of a stage, a multiple of 8; widths are multiples of 8.
      group_widths: to choose from.
      bottlenecks: to choose from, as in `ResNeXtBlock` (the inverse of the paper's ratios 1, 2, 4).
      share_bottleneck: all stages have the same.
      share_group_width: all stages have the same.
      widths_increase: no stage is narrower than the one before.
      depths_increase: no stage is shallower than the one before.

    Raises:
      ValueError: if a count is below 1, there is nothing to choose from, or `max_width` is no multiple of 8.
    """

    num_stages: int = 4
    stem_width: int = 32
    max_depth: int = 16
    max_width: int = 1024
    group_widths: Sequence[int] = (1, 2, 4, 8, 16, 32)
    bottlenecks: Sequence[float] = (1.0, 0.5, 0.25)
    share_bottleneck: bool = False
    share_group_width: bool = False
    widths_increase: bool = False
    depths_increase: bool = False

    def __post_init__(self) -> None:
        check_counts(
            num_stages=self.num_stages,
            stem_width=self.stem_width,
            max_depth=self.max_depth,
            group_widths=self.group_widths,
        )
        if self.max_width < 8 or self.max_width % 8:
            raise ValueError(f"max_width: expected a multiple of 8, got {self.max_width}")
        if not self.bottlenecks or not min(self.bottlenecks) > 0:
            raise ValueError(f"bottlenecks: expected one or more positive numbers, got {list(self.bottlenecks)}")


def sample_anynet(rng: np.random.Generator, space: AnyNetSpace, num_classes: int = 10, **fields: Any) -> AnyNet:
    """Draws a network from a design space, small numbers more often than large ones.

    Depths and widths are log-uniform, group widths and bottlenecks uniform over what there is to choose from. Where
    they shall increase they are sorted. Widths are rounded to fit the groups, see `compatible_widths`.

    Args:
      rng: of NumPy.
      space: what to draw from.
      num_classes: width of the output.
      fields: others of `AnyNet`, such as `use_bias`.
    """
    stages = space.num_stages
    depths = _log_uniform(rng, space.max_depth, stages)
    widths = 8 * _log_uniform(rng, space.max_width // 8, stages)
    group_widths = rng.choice(space.group_widths, 1 if space.share_group_width else stages)
    bottlenecks = rng.choice(space.bottlenecks, 1 if space.share_bottleneck else stages)
    if space.widths_increase:
        widths = np.sort(widths)
    if space.depths_increase:
        depths = np.sort(depths)
    bottlenecks = np.broadcast_to(bottlenecks, stages).tolist()
    widths, group_widths = compatible_widths(
        widths.tolist(), np.broadcast_to(group_widths, stages).tolist(), bottlenecks
    )
    return AnyNet(
        num_classes,
        stem_width=space.stem_width,
        depths=tuple(depths.tolist()),
        widths=widths,
        group_widths=group_widths,
        bottlenecks=tuple(bottlenecks),
        **fields,
    )


def multiply_adds(model: AnyNet, pixels: int, channels: int = 1) -> int:
    """What an AnyNet's convolutions and dense layer cost for one image, to compare networks that cost about the same.

    Counted as the paper does, a multiplication and an addition together as one "FLOP", and without biases,
    normalisation and activations: RegNetX-400MF is at 0.4e9 with 224 pixels and 3 channels.

    Args:
      model: the network.
      pixels: height and width of the image.
      channels: of the image.
    """
    side = -(-pixels // 2)  # the stem halves, rounded up, and so does each stage
    width, total = model.stem_width, side**2 * 9 * channels * model.stem_width
    for depth, features, group_width, bottleneck in zip(
        model.depths, model.widths, model.group_widths, model.bottlenecks, strict=True
    ):
        inner = round(features * bottleneck)
        for i in range(depth):
            total += side**2 * width * inner  # the first 1 x 1 convolution, still at the block's input size
            if i == 0:
                side = -(-side // 2)
                total += side**2 * width * features  # the shortcut
            total += side**2 * inner * (9 * group_width + features)
            width = features
    return total + width * model.num_classes


def error_edf(errors: ArrayLike, thresholds: ArrayLike) -> np.ndarray:
    """The empirical distribution function of errors: the share of networks whose error is at most e (D2L 8.8).

    Args:
      errors: `[networks]`.
      thresholds: e, any shape.

    Returns:
      F(e) in [0, 1], the shape of `thresholds`, float64.

    Raises:
      ValueError: if `errors` is empty, has another rank or is not finite.

    Note: the paper counts errors below e; this is the book's form and the distribution function of statistics.

    >>> error_edf([0.1, 0.3, 0.3, 0.4], [0.0, 0.3, 1.0])
    array([0.  , 0.75, 1.  ])
    """
    errors, thresholds = np.asarray(errors, np.float64), np.asarray(thresholds, np.float64)
    if errors.ndim != 1 or errors.size == 0 or not np.isfinite(errors).all():
        raise ValueError(f"errors: expected [networks], one or more finite numbers, got {errors}")
    return np.searchsorted(np.sort(errors), thresholds, side="right") / errors.size


def _log_uniform(rng: np.random.Generator, largest: int, size: int) -> np.ndarray:
    """Integers from 1 to `largest` whose logarithms are spread evenly."""
    return np.floor(np.exp(rng.uniform(0, np.log(largest + 1), size))).astype(int).clip(1, largest)
