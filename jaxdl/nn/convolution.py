"""Convolution that picks its formulation (D2L 7.2 to 7.4; 23.6 for the formulations themselves)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxdl import cpu
from jaxdl.nn.convolution_formulations import FORMS, Form, check_arrays, refusal, xla
from jaxdl.nn.convolution_window import Padding, PerAxis, Window, make_window


def convolution(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: PerAxis = 1,
    padding: Padding = "SAME",
    input_dilation: PerAxis = 1,
    kernel_dilation: PerAxis = 1,
    feature_group_count: int = 1,
    implementation: str | None = None,
) -> jax.Array:
    """Slides a kernel over images: `y[b, h, w, o] = sum_ijc x[b, h*s + i*d, w*s + j*d, c] kernel[i, j, c, o]`.

    Like every library and the book it does not flip the kernel (a mathematician's cross-correlation).

    Args:
      x: floating `[batch, height, width, in]`; also one or three spatial axes, which XLA does.
      kernel: `[h, w, in/groups, out]`, of the same dtype.
      strides: one number for all spatial axes, or one for each; so are the dilations.
      padding: `"SAME"` (output `ceil(input / stride)`, the odd pixel behind, which differs from PyTorch's for strides
        of 2), `"VALID"`, a number for all sides, or for each axis a number or a pair (before, after).
      input_dilation: zeros are put between the pixels, `n - 1` of them (a transposed convolution).
      kernel_dilation: distance between the taps of the kernel.
      feature_group_count: blocks of channels that do not see each other; it divides `in` and `out`.
      implementation: None picks by shape on a CPU, by the table of `choose` in this file, and takes XLA's anywhere
        else: the decision falls when the program is lowered for its platform. A name of `FORMS`, such as `"xla"`,
        `"matmul"`, `"shift"`, `"im2col"`, `"toeplitz"` or `"block_diagonal"`, is that formulation with its own
        gradients, on every platform.

    Returns:
      `[batch, out_height, out_width, out]` in the dtype of the arguments.

    Raises:
      ValueError: if the arrays do not fit each other, an argument is not as above, the kernel is larger than the padded
        image, or the named implementation cannot do the case, with the reason.

    Note: forward mode (`jax.jvp`) and higher derivatives work with every implementation. Where the table picks, the
    residuals are the two arguments; a formulation that was named keeps what it made of them. "toeplitz",
    "four_columns" and "block_diagonal" multiply with zeros, so that one number that is infinite or NaN makes its row,
    the columns beside it, or the other groups NaN.
    """
    check_arrays(x, kernel, feature_group_count)
    window = make_window(
        x.shape[1:-1], kernel.shape[:-2], strides, padding, input_dilation, kernel_dilation, feature_group_count
    )
    if implementation is None:
        choice = choose(x.shape, kernel.shape, window, x.dtype)
        return xla(x, kernel, window) if choice == XLA else _compiled(x, kernel, window, choice)
    if implementation not in FORMS:
        raise ValueError(f"implementation: expected None or one of {', '.join(FORMS)}; got {implementation!r}")
    if reason := refusal(implementation, window):
        raise ValueError(f"implementation: {implementation!r} cannot do this convolution: {reason}")
    return _forced(x, kernel, window, implementation)


MAX_TAPS = 64  # a form is unrolled over the taps, or fills up between them with zeros: 4 million would never end


@dataclass(frozen=True)
class Choice:
    """Which formulation computes the output, and whose transposes compute the gradients."""

    output: str = "xla"
    input_gradient: str = "xla"
    kernel_gradient: str = "xla"


XLA = Choice()
XLA_IN_ORDER = Choice("xla", "xla_for_x", "xla_for_kernel")


def choose(x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], window: Window, dtype: Any) -> Choice:
    """The table: what a CPU does with a convolution of two spatial axes in float32 or float64; the first row that fits.

    | case | output, gradient of x, of the kernel | ms | XLA's | measured at |
    |---|---|---|---|---|
    | groups, to 128 channels | block_diagonal twice, xla_for_kernel | 1.3, 1.3, 2.5 | 2.6, 2.7, 97 | 80 in 5 groups |
    | 1 x 1 kernel | matmul, all three | 0.7, 0.7, 0.9 | 0.9, 1.1, 4.6 | 24 x 24, 64 to 128 |
    | the same, strided | xla, xla_for_x, matmul | 0.4, 0.6, 0.3 | 0.4, 0.9, 1.2 | strides 2 |
    | 1 channel | four_columns, xla_for_x, xla_for_kernel | 1.0, 7.0, 1.4 | 3.8, 7.0, 1.4 | 28 x 28, 5 x 5, to 6 |
    | few channels, narrow | xla, toeplitz, xla_for_kernel | 0.8, 1.2, 0.5 | 0.8, 3.0, 0.5 | 14 x 14, 5 x 5, 6 to 16 |
    | many channels, tiny image | xla, im2col, xla_for_kernel | 4.9, 2.9, 4.6 | 4.9, 7.4, 4.5 | 3 x 3, 512 |
    | else | xla, xla_for_x, xla_for_kernel | 3.1, 3.0, 5.6 | 3.1, 3.0, 5.6 | 24 x 24, 64 |

    Where oneDNN computes (float32 under `jaxdl.cpu.tune`) groups and one channel are of the last row, and the gradient
    of the kernel is "xla_cropped" where "xla_for_kernel" stands, 4.8 for 7.1 ms in the last row, but for groups of more
    than one channel. Other than two spatial axes and other types are of the last row too.

    Few is 1 to 6 channels to at most 16, with strides of 1, narrow an output of at most 16 columns under a kernel of at
    least 25 taps; many is 128 input channels or more, tiny an output of at most 36 pixels (16 with oneDNN) under at
    most 9 taps. Kernels of more than 64 taps are left to XLA, and those that would be larger than their image, with
    which XLA exchanges them: up to 70 times slower. Milliseconds with jax 0.12 on two cores, batch 32, 3 x 3 and
    12 x 12 if not said otherwise; 5 x 5: batch 256 (`benchmarks/convolution.py`). A row takes at most 1.5 times as long
    to compile as Flax's layer, in the middle of its samples (`benchmarks/compile_time.py`): a form that runs faster but
    takes longer to compile, such as "shift" for depthwise convolutions, is to be named. In the body of a loop, such as
    `lax.scan`, the gradients that JAX makes of XLA's own convolution take a hundred times as long; no row does.
    """
    onednn = dtype == jnp.float32 and cpu.convolutions_by_onednn()
    if len(window.size) != 2 or dtype not in (jnp.float32, jnp.float64):
        return XLA_IN_ORDER
    otherwise = replace(XLA_IN_ORDER, kernel_gradient="xla_cropped") if onednn else XLA_IN_ORDER
    channels, features = kernel_shape[-2:]
    small = math.prod(window.size) <= MAX_TAPS
    if window.groups > 1 and onednn:
        return otherwise if channels == 1 else XLA_IN_ORDER
    if window.groups > 1:
        dense = Choice("block_diagonal", "block_diagonal_for_x", "xla_for_kernel")
        return dense if x_shape[-1] <= 128 and small else XLA_IN_ORDER
    if window.size == (1, 1):
        strided = replace(otherwise, kernel_gradient="matmul")
        return Choice("matmul", "matmul", "matmul") if window.strides == (1, 1) else strided
    if window.strides != (1, 1) or not small:
        return otherwise
    rows, columns = window.output(x_shape[1:3])
    height, width = window.span
    if channels <= 6 and features <= 16 and window.input_dilation == (1, 1):
        if channels == 1 and not onednn and height * (width + 3) <= math.prod(x_shape[1:3]):
            return replace(otherwise, output="four_columns")
        if channels > 1 and columns <= 16 and rows >= height and math.prod(window.size) >= 25:
            return replace(otherwise, input_gradient="toeplitz")
    if channels >= 128 and rows * columns <= (16 if onednn else 36) and math.prod(window.size) <= 9:
        return replace(otherwise, input_gradient="im2col")
    return otherwise


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _chosen(x: jax.Array, kernel: jax.Array, window: Window, choice: Choice) -> jax.Array:
    return _on_cpu((FORMS[choice.output],), ((x, kernel),), window)


@partial(_chosen.defjvp, symbolic_zeros=True)
def _chosen_jvp(window: Window, choice: Choice, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """Each gradient is the transpose of one term. `checkpoint` keeps the arguments for it, not what is made of them."""
    (x, kernel), (x_dot, kernel_dot) = primals, tangents
    terms = ((choice.input_gradient, (x_dot, kernel)), (choice.kernel_gradient, (x, kernel_dot)))
    terms = [(FORMS[form], pair) for form, pair in terms if not any(isinstance(a, SymbolicZero) for a in pair)]
    forms, pairs = zip(*terms, strict=True)
    y_dot = jax.checkpoint(partial(_on_cpu, forms, window=window), prevent_cse=False)(pairs)
    return _chosen(x, kernel, window, choice), y_dot


_compiled = jax.jit(_chosen, static_argnums=(2, 3))  # one operation, also outside of `jit`


@partial(jax.jit, static_argnums=(2, 3))
def _forced(x: jax.Array, kernel: jax.Array, window: Window, implementation: str) -> jax.Array:
    return FORMS[implementation](x, kernel, window)


def _on_cpu(forms: Sequence[Form], pairs: Sequence[tuple[jax.Array, jax.Array]], window: Window) -> jax.Array:
    """The sum of convolutions of an image and a kernel each, on a CPU in the given forms."""

    def total(forms: Sequence[Form], pairs: Sequence[tuple[jax.Array, jax.Array]]) -> jax.Array:
        terms = [form(x, kernel, window) for form, (x, kernel) in zip(forms, pairs, strict=True)]
        return sum(terms[1:], terms[0])

    others = (xla,) * len(forms)
    if forms == others:
        return total(others, pairs)
    return jax.lax.platform_dependent(pairs, cpu=partial(total, forms), default=partial(total, others))
