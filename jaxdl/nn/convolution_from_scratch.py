"""Convolution written out: as loops, as matrix products, and its two adjoints (D2L 7.2 to 7.4; 23.6).

These teach and check; `jaxdl.nn.convolution` is the one to train with. Kernels are not flipped, images are NHWC,
kernels HWIO.
"""

import math
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.nn import convolution_formulations as formulations
from jaxdl.nn.convolution_window import Padding, PerAxis, Window, make_window


def corr2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Cross-correlates one image with one kernel, neither with channels (D2L 7.2).

    Args:
      x: floating `[height, width]`.
      kernel: `[h, w]`, of the same dtype.

    Returns:
      `[height - h + 1, width - w + 1]`.

    Raises:
      ValueError: if an argument is not of two axes, or the kernel is larger than the image.

    >>> corr2d(jnp.arange(9.0).reshape(3, 3), jnp.arange(4.0).reshape(2, 2)).tolist()
    [[19.0, 25.0], [37.0, 43.0]]
    """
    if x.ndim != 2 or kernel.ndim != 2:
        raise ValueError(
            f"x, kernel: expected [height, width] and [h, w], got {list(x.shape)} and {list(kernel.shape)}"
        )
    return conv2d_matmul(x[None, :, :, None], kernel[:, :, None, None])[0, :, :, 0]


def conv2d_naive(
    x: np.ndarray,
    kernel: np.ndarray,
    *,
    strides: PerAxis = 1,
    padding: Padding = "VALID",
    kernel_dilation: PerAxis = 1,
    feature_group_count: int = 1,
) -> np.ndarray:
    """Seven loops of NumPy: examples, output channels, output rows and columns, taps down and across, input channels.

    Args:
      x: floating `[batch, height, width, in]`.
      kernel: `[h, w, in/groups, out]`, of the same dtype.
      strides: as in `convolution`, and so are the others.
      padding: as in `convolution`; none by default.
      kernel_dilation: as in `convolution`.
      feature_group_count: as in `convolution`.

    Returns:
      `[batch, out_height, out_width, out]`.

    Raises:
      ValueError: as `convolution`.
    """
    x, kernel = np.asarray(x), np.asarray(kernel)
    window = _window(x, kernel, strides, padding, kernel_dilation, feature_group_count)
    x = np.pad(x, ((0, 0), *window.padding, (0, 0)))
    height, width, in_per_group, features = kernel.shape
    (stride_h, stride_w), (dilation_h, dilation_w) = window.strides, window.kernel_dilation
    rows, columns = ((n - k) // s + 1 for n, k, s in zip(x.shape[1:3], window.span, window.strides, strict=True))
    y = np.zeros((x.shape[0], rows, columns, features), x.dtype)
    for b, o, row, column in product(range(x.shape[0]), range(features), range(rows), range(columns)):
        first_channel = o // (features // window.groups) * in_per_group  # of the group that this output belongs to
        for i, j, c in product(range(height), range(width), range(in_per_group)):
            pixel = x[b, row * stride_h + i * dilation_h, column * stride_w + j * dilation_w, first_channel + c]
            y[b, row, column, o] += pixel * kernel[i, j, c, o]
    return y


def conv2d_matmul(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: PerAxis = 1,
    padding: Padding = "VALID",
    kernel_dilation: PerAxis = 1,
    feature_group_count: int = 1,
) -> jax.Array:
    """A matrix product over the channels for each tap of the kernel, summed; arguments and errors of `conv2d_naive`."""
    window = _window(x, kernel, strides, padding, kernel_dilation, feature_group_count)
    return formulations.shift(x, kernel, window)


def conv2d_im2col(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: PerAxis = 1,
    padding: Padding = "VALID",
    kernel_dilation: PerAxis = 1,
    feature_group_count: int = 1,
) -> jax.Array:
    """One matrix product of all patches with the kernel as a matrix; arguments and errors of `conv2d_naive`."""
    window = _window(x, kernel, strides, padding, kernel_dilation, feature_group_count)
    return formulations.im2col(x, kernel, window)


def strided_patches(
    x: np.ndarray,
    kernel_size: tuple[int, int],
    *,
    strides: PerAxis = 1,
    padding: Padding = "VALID",
    kernel_dilation: PerAxis = 1,
) -> np.ndarray:
    """All patches as a view: without padding nothing is copied, each pixel is read where it is (23.6, `as_strided`).

    Args:
      x: `[batch, height, width, channels]`, a NumPy array.
      kernel_size: rows and columns of a patch.
      strides: as in `convolution`, and so are the others.
      padding: as in `convolution`.
      kernel_dilation: as in `convolution`.

    Returns:
      `[batch, out_height, out_width, *kernel_size, channels]`, read-only.

    Raises:
      ValueError: if `x` has not four axes, or the window does not fit.
    """
    if x.ndim != 4:
        raise ValueError(f"x: expected [batch, height, width, channels], got {list(x.shape)}")
    window = make_window(x.shape[1:3], kernel_size, strides, padding, kernel_dilation=kernel_dilation)
    positions = window.output(x.shape[1:3])
    x = np.pad(x, ((0, 0), *window.padding, (0, 0))) if any(map(any, window.padding)) else x
    batch, *space, channel = x.strides
    steps = [step * stride for step, stride in zip(space, window.strides, strict=True)]
    taps = [step * dilation for step, dilation in zip(space, window.kernel_dilation, strict=True)]
    shape = (x.shape[0], *positions, *window.size, x.shape[-1])
    return np.lib.stride_tricks.as_strided(x, shape, (batch, *steps, *taps, channel), writeable=False)


def conv2d_input_adjoint(
    cotangent: jax.Array,
    kernel: jax.Array,
    image_size: tuple[int, int],
    *,
    strides: PerAxis = 1,
    padding: Padding = "VALID",
    kernel_dilation: PerAxis = 1,
    feature_group_count: int = 1,
) -> jax.Array:
    """The gradient of the image: a convolution with the kernel flipped and its channels swapped (23.6).

    Strides become zeros between the pixels of the cotangent, padding `p` becomes `span - 1 - p`.

    Args:
      cotangent: `[batch, out_height, out_width, out]`, of the convolution's output.
      kernel: as in `conv2d_naive`, and so are the others.
      image_size: height and width of the image, which strides leave open.
      strides: of the convolution.
      padding: of the convolution.
      kernel_dilation: of the convolution.
      feature_group_count: of the convolution.

    Returns:
      `[batch, *image_size, in]`.

    Raises:
      ValueError: as `convolution`, and if the cotangent is not of the shape of the output.
    """
    height, width, in_per_group, features = kernel.shape
    groups = feature_group_count
    window = make_window(image_size, kernel.shape[:2], strides, padding, 1, kernel_dilation, groups)
    _check_cotangent(cotangent, (*window.output(image_size), features))
    flipped = kernel[::-1, ::-1].reshape(height, width, in_per_group, groups, features // groups)
    flipped = flipped.transpose(0, 1, 4, 3, 2).reshape(height, width, features // groups, groups * in_per_group)
    low = [span - 1 - before for span, (before, _) in zip(window.span, window.padding, strict=True)]
    high = [
        n + span - 2 - (positions - 1) * stride - before
        for n, span, positions, stride, before in zip(
            image_size, window.span, cotangent.shape[1:3], window.strides, low, strict=True
        )
    ]
    padding_of_cotangent = tuple(zip(low, high, strict=True))  # below 0, it crops
    transposed = Window(window.size, (1, 1), padding_of_cotangent, window.strides, window.kernel_dilation, groups)
    return formulations.im2col(cotangent, flipped, transposed)


def conv2d_kernel_adjoint(
    x: jax.Array,
    cotangent: jax.Array,
    kernel_size: tuple[int, int],
    *,
    strides: PerAxis = 1,
    padding: Padding = "VALID",
    kernel_dilation: PerAxis = 1,
    feature_group_count: int = 1,
) -> jax.Array:
    """The gradient of the kernel: `im2col(x)^T cotangent` (23.6).

    Args:
      x: as in `conv2d_naive`, and so are the others.
      cotangent: `[batch, out_height, out_width, out]`, of the convolution's output.
      kernel_size: rows and columns of the kernel, which strides leave open.
      strides: of the convolution.
      padding: of the convolution.
      kernel_dilation: of the convolution.
      feature_group_count: of the convolution.

    Returns:
      `[*kernel_size, in/groups, out]`.

    Raises:
      ValueError: as `convolution`, and if the cotangent is not of the shape of the output.
    """
    groups, features = feature_group_count, cotangent.shape[-1]
    window = make_window(x.shape[1:3], kernel_size, strides, padding, 1, kernel_dilation, groups)
    _check_cotangent(cotangent, (*window.output(x.shape[1:3]), features))
    padded = window.pad(x)
    patches = jnp.stack([window.tap(padded, offset) for offset in np.ndindex(*window.size)], 3)
    patches = patches.reshape(-1, math.prod(window.size), groups, x.shape[-1] // groups)  # [positions, taps, g, in/g]
    grouped = cotangent.reshape(-1, groups, features // groups)
    return jnp.einsum("ntgi,ngo->tigo", patches, grouped).reshape(*window.size, x.shape[-1] // groups, features)


def _window(
    x: jax.Array | np.ndarray,
    kernel: jax.Array | np.ndarray,
    strides: PerAxis,
    padding: Padding,
    kernel_dilation: PerAxis,
    groups: int,
) -> Window:
    formulations.check_arrays(x, kernel, groups)
    if x.ndim != 4:
        raise ValueError(f"x: expected [batch, height, width, in], got {list(x.shape)}")
    return make_window(x.shape[1:3], kernel.shape[:2], strides, padding, 1, kernel_dilation, groups)


def _check_cotangent(cotangent: jax.Array, output: tuple[int, ...]) -> None:
    if cotangent.ndim != 4 or cotangent.shape[1:] != output:
        raise ValueError(f"cotangent: expected [batch, {', '.join(map(str, output))}], got {list(cotangent.shape)}")
