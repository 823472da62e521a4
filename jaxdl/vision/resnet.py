"""Residual networks (He et al., 2016, "Deep Residual Learning for Image Recognition"; D2L 8.6 and 13.6)."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import linen as nn

from jaxdl.nn.batch_norm import BatchNorm
from jaxdl.nn.initializers import kaiming_normal
from jaxdl.vision.checks import check_counts, check_images, check_lengths
from jaxdl.vision.residual_blocks import BottleneckBlock, PreActResidualBlock, ResidualBlock
from jaxdl.vision.stem import Stem, apply_stem, check_stem


class ResNet(nn.Module):
    """A stem, stages of residual blocks, the average over all pixels, one dense layer.

    Each stage after the first halves height and width. At 96 x 96 pixels the stem and the four stages of `resnet18`
    give 24, 24, 12, 6, 3 pixels a side; with `stem="small"`, 32 x 32 give 32, 32, 16, 8, 4.

    Args:
      num_classes: width of the output.
      stage_sizes: blocks of each stage.
      widths: channels of each stage; of a `BottleneckBlock`'s 3 x 3 convolution, so its stage has 4 times as many.
      stem: "imagenet" is a 7 x 7 convolution of stride 2, then 3 x 3 max pooling of stride 2; "small", for images of
        about 32 pixels (D2L 13.6), is one 3 x 3 convolution of stride 1.
      use_bias: True is the book's form: convolutions have biases and the shortcut's 1 x 1 convolution is not
        normalised. False is the paper's and torchvision's: no convolution has a bias, each is normalised. (Before a
        normalisation a bias does nothing.)
      axis_name: of the mapped axis over which `BatchNorm` takes its statistics together.
      kernel_init: initialiser of all weights; the book's in 13.6 is `nn.initializers.normal(0.01)`.
      dtype: of the computation; parameters and statistics stay float32.
      block: `ResidualBlock`, `BottleneckBlock` or `PreActResidualBlock`; the last stage of pre-activation blocks is
        normalised and activated once more.

    Raises:
      ValueError: at construction, if a size is below 1, there is not one width a stage, or the stem is unknown; when
        called, if the images are not `[batch, height, width, channels]`.
    """

    num_classes: int = 10
    stage_sizes: Sequence[int] = (2, 2, 2, 2)
    widths: Sequence[int] = (64, 128, 256, 512)
    stem: Stem = "imagenet"
    use_bias: bool = True
    axis_name: str | None = None
    kernel_init: Callable[..., Any] = kaiming_normal()
    dtype: Any = None
    block: type[ResidualBlock | BottleneckBlock | PreActResidualBlock] = ResidualBlock

    def __post_init__(self) -> None:
        check_counts(num_classes=self.num_classes, stage_sizes=self.stage_sizes, widths=self.widths)
        check_lengths(len(self.stage_sizes), widths=self.widths)
        check_stem(self.stem)
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
        x = apply_stem(images, train, stem=self.stem, features=self.widths[0], **fields)
        for stage, (size, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            for i in range(size):
                x = self.block(width, strides=2 if stage > 0 and i == 0 else 1, **fields)(x, train)
        if issubclass(self.block, PreActResidualBlock):
            x = nn.relu(BatchNorm(axis_name=self.axis_name, dtype=self.dtype)(x, train))
        x = x.mean((1, 2))  # [batch, channels]
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


def resnet50(num_classes: int = 10, **fields: Any) -> ResNet:
    """50 layers of bottleneck blocks: 25,557,032 parameters at 3 channels, 1000 classes, no biases.

    Args:
      num_classes: width of the output.
      fields: others of `ResNet`.
    """
    return ResNet(num_classes, stage_sizes=(3, 4, 6, 3), block=BottleneckBlock, **fields)
