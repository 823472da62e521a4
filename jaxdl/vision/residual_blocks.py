"""Blocks that add their input to their output: basic, bottleneck and pre-activation (He et al., 2016; D2L 8.6)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from flax import linen as nn

from jaxdl.nn.batch_norm import BatchNorm
from jaxdl.nn.conv import Conv
from jaxdl.nn.initializers import kaiming_normal
from jaxdl.vision.checks import check_counts, check_rank


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions whose output is added to the input: `relu(x + f(x))`.

    Where the number of channels or the resolution changes, a 1 x 1 convolution takes the input along. Source: He et
    al., 2016, "Deep Residual Learning for Image Recognition", figure 2.

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
        check_counts(features=self.features, strides=self.strides)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to `[batch, height/strides, width/strides, features]`."""
        check_rank(x)
        conv = partial(Conv, self.features, use_bias=self.use_bias, kernel_init=self.kernel_init, dtype=self.dtype)
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


class BottleneckBlock(nn.Module):
    """A 3 x 3 convolution between two 1 x 1 convolutions, which narrow its input and widen its output.

    The block of ResNet-50 and deeper (He et al., 2016, figure 5). Where the number of channels or the resolution
    changes, a 1 x 1 convolution takes the input along.

    Args:
      features: channels of the 3 x 3 convolution.
      strides: of the 3 x 3 convolution, as in torchvision (the paper has them in the first 1 x 1 convolution).
      expansion: output channels over `features`.
      use_bias: as in `ResNet`.
      axis_name: as in `ResNet`.
      kernel_init: initialiser of the weights.
      dtype: of the computation; parameters and statistics stay float32.

    Raises:
      ValueError: at construction, if `features`, `strides` or `expansion` is below 1; when called, if the input is not
        `[batch, height, width, channels]`.
    """

    features: int
    strides: int = 1
    expansion: int = 4
    use_bias: bool = True
    axis_name: str | None = None
    kernel_init: Callable[..., Any] = kaiming_normal()
    dtype: Any = None

    def __post_init__(self) -> None:
        check_counts(features=self.features, strides=self.strides, expansion=self.expansion)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to `[batch, height/strides, width/strides, expansion * features]`."""
        check_rank(x)
        conv = partial(Conv, use_bias=self.use_bias, kernel_init=self.kernel_init, dtype=self.dtype)
        norm = partial(BatchNorm, axis_name=self.axis_name, dtype=self.dtype)
        out_features = self.expansion * self.features
        y = nn.relu(norm()(conv(self.features, (1, 1))(x), train))
        y = nn.relu(norm()(conv(self.features, (3, 3), self.strides, padding=1)(y), train))
        y = norm()(conv(out_features, (1, 1))(y), train)
        if self.strides != 1 or x.shape[-1] != out_features:
            x = conv(out_features, (1, 1), self.strides, padding=0)(x)
            if not self.use_bias:
                x = norm()(x, train)
        return nn.relu(x + y)


class PreActResidualBlock(nn.Module):
    """As `ResidualBlock`, but normalised and activated before each convolution, with nothing after the sum: `x + f(x)`.

    So a stack of blocks has a path from end to end that only adds. Where the number of channels or the resolution
    changes, a 1 x 1 convolution takes the normalised input along. Source: He et al., 2016, "Identity Mappings in Deep
    Residual Networks", figure 4(e).

    Args:
      features: output channels.
      strides: of the first convolution.
      use_bias: of the convolutions.
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
        check_counts(features=self.features, strides=self.strides)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to `[batch, height/strides, width/strides, features]`."""
        check_rank(x)
        conv = partial(Conv, self.features, use_bias=self.use_bias, kernel_init=self.kernel_init, dtype=self.dtype)
        norm = partial(BatchNorm, axis_name=self.axis_name, dtype=self.dtype)
        activated = nn.relu(norm()(x, train))
        y = conv((3, 3), self.strides, padding=1)(activated)
        y = conv((3, 3), padding=1)(nn.relu(norm()(y, train)))
        if self.strides != 1 or x.shape[-1] != self.features:
            x = conv((1, 1), self.strides, padding=0)(activated)
        return x + y
