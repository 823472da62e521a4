"""DenseNet (Huang et al., 2017, "Densely Connected Convolutional Networks"; D2L 8.7)."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdl.nn.batch_norm import BatchNorm
from jaxdl.nn.conv import Conv
from jaxdl.nn.initializers import kaiming_normal
from jaxdl.nn.pooling import avg_pool
from jaxdl.vision.checks import check_counts, check_images, check_rank
from jaxdl.vision.receptive_field import smallest_input
from jaxdl.vision.stem import Stem, apply_stem, check_stem


class DenseBlock(nn.Module):
    """Convolutions each of which sees the block's input and the outputs of all before it.

    Normalisation and ReLU come before each 3 x 3 convolution.

    Args:
      convolutions: how many.
      growth_rate: channels that each adds.
      use_bias: of the convolutions.
      axis_name: as in `BatchNorm`.
      kernel_init: initialiser of the weights.
      dtype: of the computation; parameters and statistics stay float32.

    Raises:
      ValueError: at construction, if `convolutions` or `growth_rate` is below 1; when called, if the input is not
        `[batch, height, width, channels]`.
    """

    convolutions: int
    growth_rate: int
    use_bias: bool = True
    axis_name: str | None = None
    kernel_init: Callable[..., Any] = kaiming_normal()
    dtype: Any = None

    def __post_init__(self) -> None:
        check_counts(convolutions=self.convolutions, growth_rate=self.growth_rate)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to as many pixels, `convolutions * growth_rate` channels more."""
        check_rank(x)
        for _ in range(self.convolutions):
            y = nn.relu(BatchNorm(axis_name=self.axis_name, dtype=self.dtype)(x, train))
            y = Conv(
                self.growth_rate,
                (3, 3),
                padding=1,
                use_bias=self.use_bias,
                kernel_init=self.kernel_init,
                dtype=self.dtype,
            )(y)
            x = jnp.concatenate([x, y], axis=-1)
        return x


class TransitionBlock(nn.Module):
    """Normalisation, ReLU, a 1 x 1 convolution that sets the channels, and 2 x 2 average pooling.

    Args:
      features: output channels.
      use_bias: of the convolution.
      axis_name: as in `BatchNorm`.
      kernel_init: initialiser of the weights.
      dtype: of the computation; parameters and statistics stay float32.

    Raises:
      ValueError: at construction, if `features` is below 1; when called, if the input is not
        `[batch, height, width, channels]`.
    """

    features: int
    use_bias: bool = True
    axis_name: str | None = None
    kernel_init: Callable[..., Any] = kaiming_normal()
    dtype: Any = None

    def __post_init__(self) -> None:
        check_counts(features=self.features)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to `[batch, height/2, width/2, features]`, rounded down."""
        check_rank(x)
        x = nn.relu(BatchNorm(axis_name=self.axis_name, dtype=self.dtype)(x, train))
        x = Conv(self.features, (1, 1), use_bias=self.use_bias, kernel_init=self.kernel_init, dtype=self.dtype)(x)
        return avg_pool(x, (2, 2), (2, 2))


class DenseNet(nn.Module):
    """The stem of `ResNet`, dense blocks with transitions that halve channels, height and width, then one dense layer.

    On 96 x 96 images the channels and sides are 64 @ 24, 192 @ 24, 96 @ 12, 224 @ 12, 112 @ 6, 240 @ 6, 120 @ 3,
    248 @ 3: 758,226 parameters with one channel. (The book's JAX version halves 192 after every block; this is its
    PyTorch version, and the paper.) The last block is normalised and activated before the average.

    Args:
      num_classes: width of the output.
      block_sizes: convolutions of each dense block.
      growth_rate: channels that each adds.
      stem_width: channels of the stem.
      stem: as in `ResNet`.
      use_bias: of the convolutions; True in the book, False in the paper.
      axis_name: of the mapped axis over which `BatchNorm` takes its statistics together.
      kernel_init: initialiser of all weights.
      dtype: of the computation; parameters and statistics stay float32.

    Raises:
      ValueError: at construction, if a number is below 1 or the stem is unknown; when called, if the images are not
        `[batch, height, width, channels]`, or too small to halve them at each transition.
    """

    num_classes: int = 10
    block_sizes: Sequence[int] = (4, 4, 4, 4)
    growth_rate: int = 32
    stem_width: int = 64
    stem: Stem = "imagenet"
    use_bias: bool = True
    axis_name: str | None = None
    kernel_init: Callable[..., Any] = kaiming_normal()
    dtype: Any = None

    def __post_init__(self) -> None:
        check_counts(
            num_classes=self.num_classes,
            block_sizes=self.block_sizes,
            growth_rate=self.growth_rate,
            stem_width=self.stem_width,
        )
        check_stem(self.stem)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        stem_windows = [] if self.stem == "small" else [(7, 2, 3), (3, 2, 1)]
        check_images(images, smallest_input(stem_windows + [(2, 2)] * (len(self.block_sizes) - 1)))
        fields: Any = {
            "use_bias": self.use_bias,
            "axis_name": self.axis_name,
            "kernel_init": self.kernel_init,
            "dtype": self.dtype,
        }
        x = apply_stem(images, train, stem=self.stem, features=self.stem_width, **fields)
        for i, convolutions in enumerate(self.block_sizes):
            if i > 0:
                x = TransitionBlock(x.shape[-1] // 2, **fields)(x, train)
            x = DenseBlock(convolutions, self.growth_rate, **fields)(x, train)
        x = nn.relu(BatchNorm(axis_name=self.axis_name, dtype=self.dtype)(x, train))
        x = x.mean((1, 2))  # [batch, channels]
        return nn.Dense(self.num_classes, kernel_init=self.kernel_init, dtype=self.dtype)(x)
