"""Convolution that picks its formulation (D2L 7.2 to 7.4; 23.6 for the formulations themselves)."""

import math
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
        `"matmul"`, `"shift"`, `"im2col"`, `"toeplitz"` or `"split"`, is that formulation with its own gradients, on
        every platform.

    Returns:
      `[batch, out_height, out_width, out]` in the dtype of the arguments.

    Raises:
      ValueError: if the arrays do not fit each other, an argument is not as above, the kernel is larger than the padded
        image, or the named implementation cannot do the case, with the reason.

    Note: forward mode (`jax.jvp`) and higher derivatives work with every implementation. Where the table picks, the
    residuals are the two arguments; a formulation that was named keeps what it made of them. "toeplitz" multiplies rows
    with zeros, so that a pixel that is infinite or NaN makes whole rows of the output NaN, or of the gradient of x.
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


MAX_BAND = 2**17  # numbers in the matrix of `toeplitz`: a larger one costs more than it saves, and has no bound
MAX_TAPS = 64  # of a larger kernel the unrolled forms take long to compile: 4 million taps would never end


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
    | 2 to 32 groups | split, split_for_x, split_for_kernel | 0.9, 0.8, 0.9 | 3.0, 2.9, 105 | 12 x 12, 80 in 5 groups |
    | more groups | shift, all three | 0.5, 0.3, 3.9 | 6.5, 6.4, 5.8 | 12 x 12, 128 in 128 groups |
    | 1 x 1 kernel | matmul, all three | 1.0, 0.6, 1.0 | 1.2, 0.8, 5.3 | 24 x 24, 64 to 128 |
    | the same, strided | xla, xla_for_x, matmul | 0.4, 0.6, 0.4 | 0.4, 1.2, 1.5 | strides 2 |
    | 1 channel, narrow | shift, toeplitz, xla_for_kernel | 0.8, 1.3, 3.9 | 4.0, 7.5, 3.8 | 28 x 28, 5 x 5, to 6 |
    | 1 channel | shift, xla_for_x, xla_for_kernel | 0.5, 5.7, 3.1 | 3.8, 5.7, 3.2 | 96 x 96, to 16 |
    | to 8 channels, narrow | xla, toeplitz, xla_for_kernel | 0.8, 1.4, 1.0 | 0.8, 3.3, 1.0 | 14 x 14, 5 x 5, 6 to 16 |
    | many channels, tiny image | xla, im2col, xla_for_kernel | 4.9, 3.0, 5.3 | 4.9, 8.3, 5.8 | 3 x 3, 512 |
    | else | xla, xla_for_x, xla_for_kernel | 3.1, 3.1, 5.9 | 3.1, 3.1, 6.0 | 24 x 24, 64 |

    Where oneDNN computes (float32 under `jaxdl.cpu.tune`) no output needs a form: it is "xla" in every row but that of
    "matmul". The gradient of the kernel is "xla_cropped" where "xla_for_kernel" stands: 4.8 for 7.1 ms in the last row.

    The rows of few channels are for strides of 1; narrow is an image of up to 6 kernels across, with at most 32 output
    channels and 131,072 numbers in the matrix of "toeplitz"; many is 128 input channels or more, tiny an output of at
    most 36 pixels. Kernels of more than 64 pixels are left to XLA, if not split, because the forms are unrolled over
    them. Milliseconds with jax 0.12 on two cores, batch 32, 3 x 3 if not said otherwise; 5 x 5: batch 256
    (`benchmarks/convolution.py`). Forms take longer to compile than a call of XLA's: training steps of eight
    networks take 1.02 to 1.49 times (`benchmarks/compile_time.py`). In the body of a loop, such as `lax.scan`,
    the gradients that JAX makes of XLA's own convolution take a hundred times as long on a CPU; no row does.
    """
    if len(window.size) != 2 or dtype not in (jnp.float32, jnp.float64):
        return XLA_IN_ORDER if window.groups == 1 else XLA
    onednn = dtype == jnp.float32 and cpu.convolutions_by_onednn()
    unrolls = math.prod(window.size) <= MAX_TAPS
    if window.groups > 32:
        return Choice("xla" if onednn else "shift", "shift", "shift") if unrolls else XLA
    if window.groups > 1:
        return Choice("xla" if onednn else "split", "split_for_x", "split_for_kernel")
    otherwise = replace(XLA_IN_ORDER, kernel_gradient="xla_cropped") if onednn else XLA_IN_ORDER
    channels, features = kernel_shape[-2:]
    if window.size == (1, 1):
        strided = replace(otherwise, kernel_gradient="matmul")
        return Choice("matmul", "matmul", "matmul") if window.strides == (1, 1) else strided
    if channels <= 8 and window.strides == window.input_dilation == (1, 1) and unrolls:
        columns, out_columns = window.padded(x_shape[1:3])[1], window.output(x_shape[1:3])[1]
        band = window.size[0] * columns * channels * out_columns * features
        narrow = x_shape[2] <= 6 * window.size[1] and features <= 32 and band <= MAX_BAND
        if channels == 1 and not onednn:
            otherwise = replace(otherwise, output="shift")
        return replace(otherwise, input_gradient="toeplitz") if narrow else otherwise
    if channels >= 128 and math.prod(window.output(x_shape[1:3])) <= 36 and unrolls:
        return replace(otherwise, input_gradient="im2col")
    return otherwise


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _chosen(x: jax.Array, kernel: jax.Array, window: Window, choice: Choice) -> jax.Array:
    return _on_cpu(FORMS[choice.output], x, kernel, window)


@partial(_chosen.defjvp, symbolic_zeros=True)
def _chosen_jvp(window: Window, choice: Choice, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """Each gradient is the transpose of one term. `checkpoint` keeps the arguments for it, not what is made of them."""
    (x, kernel), (x_dot, kernel_dot) = primals, tangents
    terms = []
    for form, arguments in ((choice.input_gradient, (x_dot, kernel)), (choice.kernel_gradient, (x, kernel_dot))):
        if not any(isinstance(argument, SymbolicZero) for argument in arguments):
            term = partial(_on_cpu, FORMS[form], window=window)
            terms.append(jax.checkpoint(term, prevent_cse=False)(*arguments))
    return _chosen(x, kernel, window, choice), sum(terms[1:], terms[0])


_compiled = jax.jit(_chosen, static_argnums=(2, 3))  # one operation, also outside of `jit`


@partial(jax.jit, static_argnums=(2, 3))
def _forced(x: jax.Array, kernel: jax.Array, window: Window, implementation: str) -> jax.Array:
    return FORMS[implementation](x, kernel, window)


def _on_cpu(form: Form, x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    if form is xla:
        return xla(x, kernel, window)
    return jax.lax.platform_dependent(
        x, kernel, cpu=lambda x, kernel: form(x, kernel, window), default=lambda x, kernel: xla(x, kernel, window)
    )
