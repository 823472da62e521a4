"""Pooling over windows of an image (D2L 7.5)."""

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.nn.convolution_window import Padding, Window, make_window

MAX_TAPS = 64  # a larger window, unrolled, costs more time to compile than it saves


def max_pool(
    x: jax.Array,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
    implementation: str | None = None,
) -> jax.Array:
    """The maximum of each window; its gradient goes to the first maximum in reading order.

    Args:
      x: floating `[..., *spatial, channels]` with as many spatial axes as the window.
      window_shape: pixels along each spatial axis.
      strides: along each spatial axis; the default is 1, as in Flax (the book's and PyTorch's is the window).
      padding: as in `convolution`; the padding is minus infinity and never wins over a pixel.
      implementation: None is `"taps"` on a CPU, for windows of up to 64 pixels, and `"xla"` anywhere else; the decision
        falls when the program is lowered for its platform. `"taps"` takes a running maximum over the shifted image and
        remembers in one byte an output which pixel won; with XLA's `select_and_scatter` value and gradient take 16 to
        28 times as long (3 x 3 with strides of 2, 2 x 2; 32 x 48 x 48 x 64, float32, jax 0.12).

    Returns:
      `[..., *out_spatial, channels]` in the dtype of `x`.

    Raises:
      ValueError: if `x` is not floating or has too few axes, a number does not fit, or the window does not fit into the
        padded image.

    Note: value and gradient are XLA's, bit for bit where windows do not overlap. A window that holds NaN is NaN, and
    its gradient goes where XLA's goes: to the first maximum behind the last NaN, or to the NaN if it is last.
    """
    if implementation not in (None, "xla", "taps"):
        raise ValueError(f"implementation: expected None, 'xla' or 'taps', got {implementation!r}")
    x, window, leading = _prepare(x, window_shape, strides, padding)
    if implementation is None and math.prod(window.size) > MAX_TAPS:
        implementation = "xla"
    pooled = _max_xla(x, window) if implementation == "xla" else _compiled(x, window, implementation == "taps")
    return pooled.reshape(*leading, *pooled.shape[1:])


def avg_pool(
    x: jax.Array,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
) -> jax.Array:
    """The mean of each window.

    Args:
      x: as in `max_pool`.
      window_shape: as in `max_pool`.
      strides: as in `max_pool`, 1 by default.
      padding: as in `convolution`, with zeros.
      count_include_pad: divide by the window; otherwise by its pixels that are not padding.

    Returns:
      `[..., *out_spatial, channels]` in the dtype of `x`.

    Raises:
      ValueError: as `max_pool`.
    """
    x, window, leading = _prepare(x, window_shape, strides, padding)
    # A sum of many terms does not fit half precision.
    total = _sum_xla(x.astype(jnp.promote_types(x.dtype, jnp.float32)), window)
    if count_include_pad:
        pooled = total / math.prod(window.size)
    else:
        pixels = _sum_xla(jnp.ones((1, *x.shape[1:-1], 1)), window).astype(total.dtype)
        pooled = total / jnp.broadcast_to(pixels, total.shape)
    return pooled.astype(x.dtype).reshape(*leading, *pooled.shape[1:])


def _prepare(
    x: jax.Array, window_shape: Sequence[int], strides: Sequence[int] | None, padding: Padding
) -> tuple[jax.Array, Window, tuple[int, ...]]:
    """The input with one batch axis, the window over it, and the axes that the batch axis stands for."""
    rank = len(window_shape)
    if x.ndim < rank + 1 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x: expected floating [..., {rank} spatial axes, channels], got {x.dtype}{list(x.shape)}")
    leading, image = x.shape[: -rank - 1], x.shape[-rank - 1 :]
    window = make_window(image[:-1], window_shape, 1 if strides is None else strides, padding)
    return x.reshape(math.prod(leading), *image), window, leading


def _pick(named: bool, ours: Callable[..., Any], xla: Callable[..., Any], *arguments: jax.Array) -> Any:
    """Ours if it was named, else ours on a CPU and XLA's anywhere else."""
    return ours(*arguments) if named else jax.lax.platform_dependent(*arguments, cpu=ours, default=xla)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _max_pool(x: jax.Array, window: Window, named: bool) -> jax.Array:
    return _pick(named, partial(_max_taps, window=window), partial(_max_xla, window=window), x)


@_max_pool.defjvp
def _max_pool_jvp(window: Window, named: bool, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """The gradient is the transpose of the tangent. `checkpoint` keeps its two arguments for it and nothing else."""
    (x,), (x_dot,) = primals, tangents

    def without_winner(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        pooled = _max_xla(x, window)
        return pooled, jnp.zeros(pooled.shape, _index_type(window))

    def at_winner(x: jax.Array, winner: jax.Array, x_dot: jax.Array) -> jax.Array:
        zero = jnp.zeros(winner.shape, x_dot.dtype)
        taps = enumerate(_taps(x_dot, window))
        return sum((jnp.where(winner == i, tap, zero) for i, tap in taps), zero)

    def by_xla(x: jax.Array, winner: jax.Array, x_dot: jax.Array) -> jax.Array:
        return jax.jvp(partial(_max_xla, window=window), (x,), (x_dot,))[1]

    pooled, winner = _pick(named, partial(_max_and_winner, window=window), without_winner, x)
    tangent = jax.checkpoint(partial(_pick, named, at_winner, by_xla), prevent_cse=False)
    return pooled, tangent(x, winner, x_dot)


_compiled = jax.jit(_max_pool, static_argnums=(1, 2))  # one operation, also outside of `jit`


def _index_type(window: Window) -> Any:
    return jnp.int8 if math.prod(window.size) <= 128 else jnp.int32


def _taps(x: jax.Array, window: Window, padding: float = 0.0) -> list[jax.Array]:
    """What each pixel of the window sees, in reading order: each `[batch, *output, channels]`."""
    x = window.pad(x, padding)
    return [window.tap(x, offset) for offset in np.ndindex(*window.size)]


def _max_taps(x: jax.Array, window: Window) -> jax.Array:
    return reduce(jnp.maximum, _taps(x, window, -math.inf))


def _max_and_winner(x: jax.Array, window: Window) -> tuple[jax.Array, jax.Array]:
    """The maximum, and which pixel of the window won: the comparisons are those of XLA, also for NaN."""
    best, *others = _taps(x, window, -math.inf)
    pooled, winner = best, jnp.zeros(best.shape, _index_type(window))
    for i, tap in enumerate(others, 1):
        better = ~(best >= tap)
        winner = jnp.where(better, jnp.asarray(i, winner.dtype), winner)
        best = jnp.where(better, tap, best)
        pooled = jnp.maximum(pooled, tap)
    # Without the barrier XLA repeats all comparisons for each pixel of the window where the gradient reads the winner.
    return pooled, jax.lax.optimization_barrier(winner)


def _max_xla(x: jax.Array, window: Window) -> jax.Array:
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *_axes(window))


def _sum_xla(x: jax.Array, window: Window) -> jax.Array:
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, *_axes(window))


def _axes(window: Window) -> Any:
    return (1, *window.size, 1), (1, *window.strides, 1), ((0, 0), *window.padding, (0, 0))
