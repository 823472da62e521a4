"""Convolution layers (D2L 7.2 to 7.4, 14.10)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

from jaxdl.nn.convolution import convolution
from jaxdl.nn.convolution_formulations import FORMS, xla
from jaxdl.nn.convolution_window import Padding, PerAxis, make_window


class Conv(nn.Module):
    """`convolution` with a kernel that is learned, and a bias for each output channel.

    Its fields are named as in `flax.linen.Conv` (which has more: `mask`, `precision`, circular and mirrored padding).
    Its parameters and their initial values are the same: `kernel` `[*kernel_size, in/groups, features]` and `bias`
    `[features]`. What it adds is speed on a CPU, where it picks its formulation by shape.

    Args:
      features: output channels.
      kernel_size: one number an axis; its length says how many spatial axes there are, and one number means one axis.
      strides: one number for all spatial axes, or one for each; so are the dilations.
      padding: as in `convolution`.
      input_dilation: as in `convolution`.
      kernel_dilation: as in `convolution`.
      feature_group_count: as in `convolution`.
      use_bias: add a bias.
      dtype: of the computation; the default is the widest of input and parameters.
      param_dtype: of the parameters.
      kernel_init: initialiser of the kernel.
      bias_init: initialiser of the bias.
      implementation: as in `convolution`.

    Raises:
      ValueError: at construction, if `features` or `feature_group_count` is below 1, one does not divide the other, or
        the implementation is not known; when called, if the input has too few axes, and as `convolution`.
    """

    features: int
    kernel_size: PerAxis
    strides: PerAxis = 1
    padding: Padding = "SAME"
    input_dilation: PerAxis = 1
    kernel_dilation: PerAxis = 1
    feature_group_count: int = 1
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Callable[..., Any] = nn.initializers.lecun_normal()
    bias_init: Callable[..., Any] = nn.initializers.zeros
    implementation: str | None = None

    def __post_init__(self) -> None:
        if self.features < 1:
            raise ValueError(f"features: expected at least 1, got {self.features}")
        if self.feature_group_count < 1 or self.features % self.feature_group_count:
            raise ValueError(
                f"feature_group_count: expected a divisor of {self.features} features, got {self.feature_group_count}"
            )
        if self.implementation is not None and self.implementation not in FORMS:
            known = ", ".join(FORMS)
            raise ValueError(f"implementation: expected None or one of {known}; got {self.implementation!r}")
        _size(self.kernel_size)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[..., *spatial, in]` to `[..., *out_spatial, features]`."""
        size = _size(self.kernel_size)
        x, leading = _one_batch_axis(x, len(size))
        if x.shape[-1] % self.feature_group_count:
            raise ValueError(
                f"feature_group_count: expected a divisor of the {x.shape[-1]} input channels, got "
                f"{self.feature_group_count}"
            )
        shape = (*size, x.shape[-1] // self.feature_group_count, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = convolution(
            x,
            kernel,
            strides=self.strides,
            padding=self.padding,
            input_dilation=self.input_dilation,
            kernel_dilation=self.kernel_dilation,
            feature_group_count=self.feature_group_count,
            implementation=self.implementation,
        )
        return _add_bias(y, bias).reshape(*leading, *y.shape[1:])


class ConvTranspose(nn.Module):
    """The transposed convolution of PyTorch and the book: the gradient of a convolution, as a layer (D2L 14.10).

    Each pixel adds the kernel, times its value, to the output: `(n - 1) * stride - 2 * padding + span` pixels. It is
    `flax.linen.ConvTranspose(transpose_kernel=True)`, whose default of False does not flip the kernel and is neither
    the book's nor PyTorch's; parameters are the same: `kernel` `[*kernel_size, features, in]` and `bias` `[features]`.

    Args:
      features: output channels.
      kernel_size: as in `Conv`.
      strides: distance between neighbouring input pixels in the output.
      padding: of the convolution whose transpose this is, so it takes pixels away: a number, or for each axis a number
        or a pair (before, after), as in PyTorch. (Flax's numbers count from the other end: `span - 1 - padding`.)
      kernel_dilation: as in `Conv`.
      use_bias: add a bias.
      dtype: as in `Conv`.
      param_dtype: of the parameters.
      kernel_init: initialiser of the kernel; fans are counted as Flax counts them, with `features` as the input.
      bias_init: initialiser of the bias.

    Raises:
      ValueError: at construction, if `features` is below 1; when called, if the input has too few axes, a number does
        not fit, or the padding takes all pixels away.
    """

    features: int
    kernel_size: PerAxis
    strides: PerAxis = 1
    padding: int | Sequence[int | tuple[int, int]] = 0
    kernel_dilation: PerAxis = 1
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Callable[..., Any] = nn.initializers.lecun_normal()
    bias_init: Callable[..., Any] = nn.initializers.zeros

    def __post_init__(self) -> None:
        if self.features < 1:
            raise ValueError(f"features: expected at least 1, got {self.features}")
        _size(self.kernel_size)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[..., *spatial, in]` to `[..., *out_spatial, features]`."""
        size = _size(self.kernel_size)
        x, leading = _one_batch_axis(x, len(size))
        kernel = self.param("kernel", self.kernel_init, (*size, self.features, x.shape[-1]), self.param_dtype)
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        window = make_window(None, size, self.strides, self.padding, 1, self.kernel_dilation)
        around = tuple(
            (span - 1 - low, span - 1 - high) for span, (low, high) in zip(window.span, window.padding, strict=True)
        )
        window = replace(window, strides=(1,) * len(size), padding=around, input_dilation=window.strides)
        if not all(window.output(x.shape[1:-1])):
            raise ValueError(f"padding: {self.padding} leaves no pixel of an input of {list(x.shape[1:-1])}")
        y = xla(x, jnp.flip(kernel, range(len(size))).swapaxes(-1, -2), window)
        return _add_bias(y, bias).reshape(*leading, *y.shape[1:])


def _size(kernel_size: PerAxis) -> tuple[int, ...]:
    size = (kernel_size,) if isinstance(kernel_size, int | np.integer) else tuple(kernel_size)
    if not size or not all(isinstance(n, int | np.integer) and n >= 1 for n in size):
        raise ValueError(f"kernel_size: expected a number of at least 1, or one for each axis, got {kernel_size!r}")
    return tuple(int(n) for n in size)


def _one_batch_axis(x: jax.Array, rank: int) -> tuple[jax.Array, tuple[int, ...]]:
    """The input with one batch axis, and the axes that it stands for."""
    if x.ndim < rank + 1 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x: expected floating [..., {rank} spatial axes, channels], got {x.dtype}{list(x.shape)}")
    leading = x.shape[: -rank - 1]
    return x.reshape(math.prod(leading), *x.shape[-rank - 1 :]), leading


def _add_bias(y: jax.Array, bias: jax.Array | None) -> jax.Array:
    return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)
