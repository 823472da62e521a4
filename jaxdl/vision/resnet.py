"""Residual networks (He et al., 2016, "Deep Residual Learning for Image Recognition"; D2L 8.6 and 13.6)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
from flax import linen as nn

from jaxdl.nn.batch_norm import BatchNorm
from jaxdl.nn.initializers import kaiming_normal


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions whose output is added to the input: `relu(x + f(x))` (He et al., 2016, figure 2).

    Where the number of channels or the resolution changes, a 1 x 1 convolution takes the input along.

    Args:
      features: output channels.
      strides: of the first convolution; 2 halves height and width, rounded up.
      use_bias: as in `ResNet`.
      axis_name: as in `ResNet`.
      kernel_init: initialiser of the weights.
      dtype: of the computation; parameters and statistics stay float32.

    Raises:
      ValueError: at construction, if `features` or `strides` is below 1; when called, if the input is not
        `[batch, height, width, channels]`.
    """

    features: int
    strides: int = 1
    use_bias: bool = True
    axis_name: str | None = None
    kernel_init: Callable[..., Any] = kaiming_normal()
    dtype: Any = None

    def __post_init__(self) -> None:
        for name, number in (("features", self.features), ("strides", self.strides)):
            if number < 1:
                raise ValueError(f"{name}: expected at least 1, got {number}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to `[batch, height/strides, width/strides, features]`."""
        if x.ndim != 4:
            raise ValueError(f"x: expected [batch, height, width, channels], got {list(x.shape)}")
        conv = partial(nn.Conv, self.features, use_bias=self.use_bias, kernel_init=self.kernel_init, dtype=self.dtype)
        norm = partial(BatchNorm, axis_name=self.axis_name, dtype=self.dtype)
        y = conv((3, 3), self.strides, padding=1)(x)
        y = nn.relu(norm()(y, train))
        y = conv((3, 3), padding=1)(y)
        y = norm()(y, train)
        if self.strides != 1 or x.shape[-1] != self.features:
            x = conv((1, 1), self.strides, padding=0)(x)
            if not self.use_bias:
                x = norm()(x, train)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A stem, stages of residual blocks, the average over all pixels, one dense layer.

    Each stage after the first halves height and width. At 96 x 96 pixels the stem and the four stages of `resnet18`
    give 24, 24, 12, 6, 3 pixels a side; with `stem="small"`, 32 x 32 give 32, 32, 16, 8, 4.

    Args:
      num_classes: width of the output.
      stage_sizes: blocks of each stage.
      widths: channels of each stage.
      stem: "imagenet" is a 7 x 7 convolution of stride 2, then 3 x 3 max pooling of stride 2; "small", for images of
        about 32 pixels (D2L 13.6), is one 3 x 3 convolution of stride 1.
      use_bias: True is the book's form: convolutions have biases and the shortcut's 1 x 1 convolution is not
        normalised. False is the paper's and torchvision's: no convolution has a bias, each is normalised. (Before a
        normalisation a bias does nothing.)
      axis_name: of the mapped axis over which `BatchNorm` takes its statistics together.
      kernel_init: initialiser of all weights; the book's in 13.6 is `nn.initializers.normal(0.01)`.
      dtype: of the computation; parameters and statistics stay float32.

    Raises:
      ValueError: at construction, if a size is below 1, there is not one width a stage, or the stem is unknown; when
        called, if the images are not `[batch, height, width, channels]`.
    """

    num_classes: int = 10
    stage_sizes: Sequence[int] = (2, 2, 2, 2)
    widths: Sequence[int] = (64, 128, 256, 512)
    stem: Literal["imagenet", "small"] = "imagenet"
    use_bias: bool = True
    axis_name: str | None = None
    kernel_init: Callable[..., Any] = kaiming_normal()
    dtype: Any = None

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise ValueError(f"num_classes: expected at least 1, got {self.num_classes}")
        for name, numbers in (("stage_sizes", self.stage_sizes), ("widths", self.widths)):
            if not numbers or min(numbers) < 1:
                raise ValueError(f"{name}: expected one or more numbers of at least 1, got {list(numbers)}")
        if len(self.widths) != len(self.stage_sizes):
            raise ValueError(f"widths: expected one for each of {len(self.stage_sizes)} stages, got {len(self.widths)}")
        if self.stem not in ("imagenet", "small"):
            raise ValueError(f"stem: expected 'imagenet' or 'small', got {self.stem!r}")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        if images.ndim != 4:
            raise ValueError(f"images: expected [batch, height, width, channels], got {list(images.shape)}")
        conv = partial(nn.Conv, self.widths[0], use_bias=self.use_bias, kernel_init=self.kernel_init, dtype=self.dtype)
        block = partial(
            ResidualBlock,
            use_bias=self.use_bias,
            axis_name=self.axis_name,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
        )
        x = conv((3, 3), padding=1)(images) if self.stem == "small" else conv((7, 7), 2, padding=3)(images)
        x = nn.relu(BatchNorm(axis_name=self.axis_name, dtype=self.dtype)(x, train))
        if self.stem == "imagenet":
            padding: Any = ((1, 1), (1, 1))  # Flax takes pairs, though its annotation says str
            x = nn.max_pool(x, (3, 3), (2, 2), padding)
        for stage, (size, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            for i in range(size):
                x = block(width, strides=2 if stage > 0 and i == 0 else 1)(x, train)
        x = x.mean((1, 2))  # [batch, widths[-1]]
        return nn.Dense(self.num_classes, kernel_init=self.kernel_init, dtype=self.dtype)(x)


def resnet18(num_classes: int = 10, **fields: Any) -> ResNet:
    """18 layers: 11,178,378 parameters on 1 channel (the book's), 11,689,512 at 3 channels, 1000 classes, no biases.

    Args:
      num_classes: width of the output.
      fields: others of `ResNet`.
    """
    return ResNet(num_classes, stage_sizes=(2, 2, 2, 2), **fields)


def resnet34(num_classes: int = 10, **fields: Any) -> ResNet:
    """34 layers: 21,797,672 parameters at 3 channels, 1000 classes, no biases.

    Args:
      num_classes: width of the output.
      fields: others of `ResNet`.
    """
    return ResNet(num_classes, stage_sizes=(3, 4, 6, 3), **fields)
