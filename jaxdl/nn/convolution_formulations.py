"""The same convolution in several forms, each linear in the image and in the kernel, so JAX can transpose it.

A form is a function `(x, kernel, window) -> y` of `[batch, height, width, in]` and `[h, w, in/groups, out]`; `refusal`
says of each why it cannot do a case. `jaxdl.nn.convolution` picks among them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.nn.convolution_window import Window

Form = Callable[[jax.Array, jax.Array, Window], jax.Array]
Order = tuple[str, str, str]  # of the axes of the image, the kernel and the output; HW for all spatial ones


def xla(
    x: jax.Array,
    kernel: jax.Array,
    window: Window,
    order: Order = ("NHWC", "HWIO", "NHWC"),
    groups_of: Literal["channels", "batch"] = "channels",
) -> jax.Array:
    """XLA's own convolution, of any number of spatial axes, of arrays with their axes in any order."""
    space = "0123456789"[: len(window.size)]
    groups = (window.groups, 1) if groups_of == "channels" else (1, window.groups)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.padding,
        window.input_dilation,
        window.kernel_dilation,
        (order[0].replace("HW", space), order[1].replace("HW", space), order[2].replace("HW", space)),
        *groups,
    )


def xla_for_x(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """The same, so that its transpose, the gradient of x, is a convolution in XLA's native order of axes.

    The native order is that of `xla`. XLA on a CPU brings a convolution into it only in the outermost computation; in
    the body of a loop any other order takes a loop over single numbers, a hundred times slower.
    """
    *taps, inputs, outputs = range(kernel.ndim)
    turned = jax.lax.rev(kernel, taps)  # and with inputs and outputs exchanged is the kernel of the gradient
    if window.groups == 1:
        turned = jax.lax.transpose(turned, (*taps, outputs, inputs))
        return xla(x, jax.lax.rev(turned, taps), window, ("NHWC", "HWOI", "NHWC"))
    channels, features = kernel.shape[-2], kernel.shape[-1] // window.groups
    turned = turned.reshape(*window.size, channels, window.groups, features)
    turned = jax.lax.transpose(turned, (*taps, outputs + 1, outputs, inputs))
    turned = turned.reshape(*window.size, features, window.groups * channels)
    turned = jax.lax.optimization_barrier(turned)  # or oneDNN gets the reversal to do, which it does not in groups
    mirrored = jax.lax.rev(turned, taps).reshape(*window.size, features, window.groups, channels)
    mirrored = jax.lax.transpose(mirrored, (*taps, outputs, inputs, outputs + 1))
    mirrored = mirrored.reshape(*window.size, window.groups * features, channels)
    return xla(x, mirrored, window, ("NHWC", "HWOI", "NHWC"))


def xla_for_kernel(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """The same for the gradient of the kernel: a convolution over the channels, with the batch as its channels.

    The barriers keep what made x, and the gradient of y, out of the loops that transpose them.
    """
    return _batch_as_channels(_channels_as_batch(x, window.groups), kernel, window)


def xla_cropped(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """`xla_for_kernel` of an image with a pixel too much on each side, which the convolution leaves out.

    A convolution that crops is not oneDNN's to compute, which is slow where the kernel is as large as the image.
    """
    wide = replace(window, padding=tuple((low + 1, high + 1) for low, high in window.padding))
    crop = replace(window, padding=((-1, -1),) * len(window.size), input_dilation=(1,) * len(window.size))
    x = wide.pad(_channels_as_batch(x, window.groups))
    return _batch_as_channels(jax.lax.optimization_barrier(x), kernel, crop)


def _channels_as_batch(x: jax.Array, groups: int) -> jax.Array:
    """`[batch, *spatial, in]` as `[in/groups, *spatial, groups * batch]`."""
    batch, *space, channels = range(x.ndim)
    shape = x.shape[:-1]
    x = jax.lax.optimization_barrier(x).reshape(*shape, groups, x.shape[-1] // groups)
    x = jax.lax.transpose(x, (channels + 1, *space, channels, batch))
    return x.reshape(*x.shape[:-2], groups * shape[0])


def _batch_as_channels(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """XLA's convolution of an image `[in/groups, *spatial, groups * batch]`."""
    *space, inner, last = range(x.ndim)
    y = xla(x, jax.lax.transpose(kernel, (inner, *space, last)), window, ("CHWN", "IHWO", "HWNC"), groups_of="batch")
    return jax.lax.optimization_barrier(jax.lax.transpose(y, (inner, *space, last)))


def matmul(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """A 1 x 1 kernel is one matrix product over the channels of the pixels that the strides leave."""
    pixels = window.tap(window.pad(x), (0,) * len(window.size))
    return _channels(pixels, kernel.reshape(kernel.shape[-2:]), window.groups)


def shift(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """For each tap one matrix product over the channels of the shifted image; their sum."""
    x = window.pad(x)
    wide = jnp.promote_types(x.dtype, jnp.float32)  # a sum of many terms does not fit half precision
    taps = [
        _channels(window.tap(x, offset), kernel[offset], window.groups, wide) for offset in np.ndindex(*window.size)
    ]
    # Without the barrier XLA repeats the whole sum in each operation that reads it.
    return jax.lax.optimization_barrier(sum(taps[1:], taps[0]).astype(x.dtype))


def im2col(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """One matrix product: the patch that each position sees, written as a row, with the kernel as a matrix."""
    x, groups = window.pad(x), window.groups
    taps = [window.tap(x, offset) for offset in np.ndindex(*window.size)]  # each [batch, *output, in]
    if groups == 1:
        return _channels(jax.lax.concatenate(taps, x.ndim - 1), kernel.reshape(-1, kernel.shape[-1]))
    grouped = jnp.stack([tap.reshape(*tap.shape[:-1], groups, kernel.shape[-2]) for tap in taps], -2)
    patches = grouped.reshape(*taps[0].shape[:-1], len(taps) * x.shape[-1])  # [..., groups * taps * in/groups]
    return _channels(patches, kernel.reshape(-1, kernel.shape[-1]), groups)


def toeplitz(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """A convolution over rows alone, with all of a row as its channels: along it the kernel is a banded matrix.

    It multiplies with the zeros outside of the band, and fills the matrix unit where the channels are too few to.
    """
    columns, features = window.output(x.shape[1:3])[1], kernel.shape[-1]
    matrix = _shifted(kernel, window, columns)
    taps, width, channels = matrix.shape[:3]
    matrix = matrix.reshape(taps, width * channels, columns * features)
    x = jax.lax.slice_in_dim(window.pad(x), 0, width, axis=2)
    rows = Window((taps,), window.strides[:1], ((0, 0),), (1,), window.kernel_dilation[:1])
    y = xla_for_x(x.reshape(*x.shape[:2], width * channels), matrix, rows)
    return y.reshape(*y.shape[:2], columns, features)


def four_columns(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """`toeplitz` for rows that are long: XLA's convolution that steps four columns and computes them as channels."""
    columns, features = window.output(x.shape[1:3])[1], kernel.shape[-1]
    blocks, stride = -(-columns // 4), window.strides[1]
    wide = _shifted(kernel, window, 4)
    wide = wide.reshape(*wide.shape[:3], 4 * features)
    rows, (left, right) = window.padding
    by_four = replace(
        window,
        size=wide.shape[:2],
        strides=(window.strides[0], 4 * stride),
        padding=(rows, (left, right + (4 * blocks - columns) * stride)),
        kernel_dilation=(window.kernel_dilation[0], 1),
    )
    y = xla(x, wide, by_four)
    return jax.lax.slice_in_dim(y.reshape(*y.shape[:2], 4 * blocks, features), 0, columns, axis=2)


def _shifted(kernel: jax.Array, window: Window, columns: int) -> jax.Array:
    """The kernel once for each of some neighbouring columns, in its place among zeros: `[h, w', in, columns, out]`."""
    (taps, _, channels, features), stride = kernel.shape, window.strides[1]
    width = window.span[1] + (columns - 1) * stride
    # Copies, each `stride` longer than the row that it stands in, so that each row finds its copy that much further on.
    none = (0, 0, 0)
    zeros = (0, width + stride - window.span[1], window.kernel_dilation[1] - 1)
    kernel = jax.lax.pad(kernel, np.zeros((), kernel.dtype), (none, zeros, none, none))
    copies = jax.lax.broadcast_in_dim(kernel, (taps, columns, width + stride, channels, features), (0, 2, 3, 4))
    copies = copies.reshape(taps, columns * (width + stride), channels, features)
    copies = jax.lax.slice_in_dim(copies, 0, columns * width, axis=1).reshape(taps, columns, width, channels, features)
    return jax.lax.transpose(copies, (0, 2, 3, 1, 4))


def block_diagonal(x: jax.Array, kernel: jax.Array, window: Window, form: Form = xla) -> jax.Array:
    """One convolution of all channels with zeros in its kernel between the groups: more products, but fast ones."""
    (*size, inputs, features), groups = kernel.shape, window.groups
    diagonal = np.eye(groups, dtype=kernel.dtype).reshape(*(1 for _ in size), groups, 1, groups, 1)
    blocks = kernel.reshape(*size, 1, inputs, groups, features // groups) * diagonal
    return form(x, blocks.reshape(*size, groups * inputs, features), replace(window, groups=1))


def _channels(x: jax.Array, matrix: jax.Array, groups: int = 1, dtype: jnp.dtype | None = None) -> jax.Array:
    """`[..., in]` times `[in/groups, out]`, group by group."""
    if groups == 1:  # as a matrix: XLA transposes the operands of a product with more axes, and multiplies slower
        y = jax.lax.dot(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), matrix, preferred_element_type=dtype)
        return y.reshape(*x.shape[:-1], matrix.shape[-1])
    width, features = matrix.shape
    y = jnp.einsum(
        "...gi,igo->...go",
        x.reshape(*x.shape[:-1], groups, width),
        matrix.reshape(width, groups, features // groups),
        preferred_element_type=dtype,
    )
    return y.reshape(*x.shape[:-1], features)


FORMS: Mapping[str, Form] = {
    "xla": xla,
    "xla_for_x": xla_for_x,
    "xla_for_kernel": xla_for_kernel,
    "xla_cropped": xla_cropped,
    "matmul": matmul,
    "shift": shift,
    "im2col": im2col,
    "toeplitz": toeplitz,
    "four_columns": four_columns,
    "block_diagonal": block_diagonal,
    "block_diagonal_for_x": partial(block_diagonal, form=xla_for_x),
}


def check_arrays(x: Any, kernel: Any, groups: int) -> None:
    """Raises ValueError unless an image and a kernel fit each other."""
    if x.ndim < 3 or x.ndim != kernel.ndim:
        raise ValueError(
            f"x, kernel: expected [batch, *spatial, in] and [*window, in/groups, out] with as many axes, got "
            f"{list(x.shape)} and {list(kernel.shape)}"
        )
    if x.dtype != kernel.dtype or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x, kernel: expected one floating dtype, got {x.dtype} and {kernel.dtype}")
    channels, features = x.shape[-1], kernel.shape[-1]
    if groups < 1 or channels != groups * kernel.shape[-2] or features % groups:
        raise ValueError(
            f"feature_group_count: {groups} groups of {kernel.shape[-2]} input channels do not fit x with {channels}, "
            f"or do not divide {features} output channels"
        )


def refusal(implementation: str, window: Window) -> str | None:
    """Why a form cannot do a case; None where it can."""
    if implementation == "matmul" and set(window.size) != {1}:
        return f"a matrix product over channels needs a kernel of one pixel, got {list(window.size)}"
    if implementation in ("toeplitz", "four_columns") and len(window.size) != 2:
        return f"it is written for 2 spatial axes, got {len(window.size)}"
    if implementation in ("toeplitz", "four_columns") and window.groups != 1:
        return f"it is written for one group of channels, got {window.groups}"
    return None
