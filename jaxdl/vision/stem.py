"""The first layers that ResNet, ResNeXt and DenseNet share (He et al., 2016; D2L 8.6 and 13.6)."""

from collections.abc import Callable
from typing import Any, Literal

import jax
from flax import linen as nn

from jaxdl.nn.batch_norm import BatchNorm
from jaxdl.nn.conv import Conv
from jaxdl.nn.pooling import max_pool

Stem = Literal["imagenet", "small"]


def check_stem(stem: str) -> None:
    """Checks the name of a stem.

    Raises:
      ValueError: if it is unknown.
    """
    if stem not in ("imagenet", "small"):
        raise ValueError(f"stem: expected 'imagenet' or 'small', got {stem!r}")


def apply_stem(
    images: jax.Array,
    train: bool,
    *,
    stem: Stem,
    features: int,
    use_bias: bool,
    axis_name: str | None,
    kernel_init: Callable[..., Any],
    dtype: Any,
) -> jax.Array:
    """A convolution, normalised, and pooling; the layers belong to the compact module that calls it.

    Args:
      images: `[batch, height, width, channels]`.
      train: as in `BatchNorm`.
      stem: "imagenet" is a 7 x 7 convolution of stride 2, then 3 x 3 max pooling of stride 2; "small", for images of
        about 32 pixels, is one 3 x 3 convolution of stride 1.
      features: output channels.
      use_bias: of the convolution.
      axis_name: as in `BatchNorm`.
      kernel_init: initialiser of the convolution's weights.
      dtype: of the computation.

    Returns:
      `[batch, height/4, width/4, features]`, or `[batch, height, width, features]` if small.
    """
    size, strides = ((3, 3), 1) if stem == "small" else ((7, 7), 2)
    conv = Conv(features, size, strides, padding=size[0] // 2, use_bias=use_bias, kernel_init=kernel_init, dtype=dtype)
    x = nn.relu(BatchNorm(axis_name=axis_name, dtype=dtype)(conv(images), train))
    return x if stem == "small" else max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
