"""ResNeXt (Xie et al., 2017, "Aggregated Residual Transformations for Deep Neural Networks"; D2L 8.6)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from flax import linen as nn

from jaxdl.nn.batch_norm import BatchNorm
from jaxdl.nn.conv import Conv
from jaxdl.nn.initializers import kaiming_normal
from jaxdl.vision.checks import check_counts, check_images, check_lengths, check_rank
from jaxdl.vision.stem import Stem, apply_stem, check_stem


class ResNeXtBlock(nn.Module):
    """A grouped 3 x 3 convolution between two 1 x 1 convolutions, added to the input: `relu(x + f(x))`.

    Where the number of channels or the resolution changes, a 1 x 1 convolution takes the input along, normalised.

    Args:
      features: output channels.
      group_width: channels of each group of the 3 x 3 convolution. The book calls it `groups`, but divides by it: 32
        channels of width 16 are two groups.
      bottleneck: channels of the 3 x 3 convolution over `features`, the book's `bot_mul`; the inverse of the RegNet
        paper's bottleneck ratio.
      strides: of the 3 x 3 convolution.
      use_bias: of the convolutions; True in the book, False in torchvision.
      axis_name: as in `ResNet`.
      kernel_init: initialiser of the weights.
      dtype: of the computation; parameters and statistics stay float32.

    Raises:
      ValueError: at construction, if `features`, `group_width` or `strides` is below 1, `bottleneck` is not positive,
        or `group_width` does not divide the channels of the 3 x 3 convolution; when called, if the input is not
        `[batch, height, width, channels]`.
    """

    features: int
    group_width: int = 16
    bottleneck: float = 1.0
    strides: int = 1
    use_bias: bool = True
    axis_name: str | None = None
    kernel_init: Callable[..., Any] = kaiming_normal()
    dtype: Any = None

    def __post_init__(self) -> None:
        check_counts(features=self.features, group_width=self.group_width, strides=self.strides)
        if not self.bottleneck > 0:
            raise ValueError(f"bottleneck: expected a positive number, got {self.bottleneck}")
        if self._inner_width % self.group_width or self._inner_width == 0:
            raise ValueError(
                f"group_width: expected a divisor of the {self._inner_width} channels of the 3 x 3 convolution, "
                f"got {self.group_width}"
            )
        super().__post_init__()

    @property
    def _inner_width(self) -> int:
        return round(self.features * self.bottleneck)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to `[batch, height/strides, width/strides, features]`."""
        check_rank(x)
        conv = partial(Conv, use_bias=self.use_bias, kernel_init=self.kernel_init, dtype=self.dtype)
        norm = partial(BatchNorm, axis_name=self.axis_name, dtype=self.dtype)
        inner, groups = self._inner_width, self._inner_width // self.group_width
        y = nn.relu(norm()(conv(inner, (1, 1))(x), train))
        y = conv(inner, (3, 3), self.strides, padding=1, feature_group_count=groups)(y)
        y = nn.relu(norm()(y, train))
        y = norm()(conv(self.features, (1, 1))(y), train)
        if self.strides != 1 or x.shape[-1] != self.features:
            x = norm()(conv(self.features, (1, 1), self.strides, padding=0)(x), train)
        return nn.relu(x + y)


class ResNeXt(nn.Module):
    """The stem of `ResNet`, stages of ResNeXt blocks, the average over all pixels, one dense layer.

    The default is ResNeXt-50 32x4d: 25,028,904 parameters at 3 channels, 1000 classes, no biases (torchvision's form).

    Args:
      num_classes: width of the output.
      stage_sizes: blocks of each stage.
      widths: output channels of each stage.
      cardinality: groups of each 3 x 3 convolution.
      bottleneck: as in `ResNeXtBlock`.
      stem_width: channels of the stem.
      stem: as in `ResNet`.
      use_bias: of the convolutions.
      axis_name: of the mapped axis over which `BatchNorm` takes its statistics together.
      kernel_init: initialiser of all weights.
      dtype: of the computation; parameters and statistics stay float32.

    Raises:
      ValueError: at construction, if a number is below 1, there is not one width a stage, the stem is unknown, or the
        cardinality does not divide the channels of a 3 x 3 convolution; when called, if the images are not
        `[batch, height, width, channels]`.
    """

    num_classes: int = 10
    stage_sizes: Sequence[int] = (3, 4, 6, 3)
    widths: Sequence[int] = (256, 512, 1024, 2048)
    cardinality: int = 32
    bottleneck: float = 0.5
    stem_width: int = 64
    stem: Stem = "imagenet"
    use_bias: bool = True
    axis_name: str | None = None
    kernel_init: Callable[..., Any] = kaiming_normal()
    dtype: Any = None

    def __post_init__(self) -> None:
        check_counts(
            num_classes=self.num_classes,
            stage_sizes=self.stage_sizes,
            widths=self.widths,
            cardinality=self.cardinality,
            stem_width=self.stem_width,
        )
        check_lengths(len(self.stage_sizes), widths=self.widths)
        check_stem(self.stem)
        for width in self.widths:
            inner = round(width * self.bottleneck)
            if inner < 1 or inner % self.cardinality:
                raise ValueError(
                    f"cardinality: expected a divisor of the {inner} channels of a 3 x 3 convolution, "
                    f"got {self.cardinality}"
                )
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        check_images(images)
        fields: Any = {
            "use_bias": self.use_bias,
            "axis_name": self.axis_name,
            "kernel_init": self.kernel_init,
            "dtype": self.dtype,
        }
        x = apply_stem(images, train, stem=self.stem, features=self.stem_width, **fields)
        for stage, (size, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            group_width = round(width * self.bottleneck) // self.cardinality
            for i in range(size):
                strides = 2 if stage > 0 and i == 0 else 1
                x = ResNeXtBlock(width, group_width, self.bottleneck, strides, **fields)(x, train)
        x = x.mean((1, 2))  # [batch, widths[-1]]
        return nn.Dense(self.num_classes, kernel_init=self.kernel_init, dtype=self.dtype)(x)
