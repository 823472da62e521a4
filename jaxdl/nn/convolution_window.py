"""Where the kernel of a convolution or the window of a pooling stands: everything about it but the arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import jax
import numpy as np

PerAxis: TypeAlias = int | Sequence[int]
Padding: TypeAlias = str | int | Sequence[int | tuple[int, int]]


@dataclass(frozen=True)
class Window:
    """A window that slides over an image, with one number, or pair, for each spatial axis.

    Args:
      size: of the window, in taps.
      strides: steps between its positions.
      padding: pixels added before and after the image.
      input_dilation: distance between neighbouring pixels; what lies between them is zero.
      kernel_dilation: distance between neighbouring taps.
      groups: number of blocks of channels that do not see each other.
    """

    size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    input_dilation: tuple[int, ...]
    kernel_dilation: tuple[int, ...]
    groups: int = 1

    @property
    def span(self) -> tuple[int, ...]:
        """Pixels from the first to the last tap."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.size, self.kernel_dilation, strict=True))

    def padded(self, image: Sequence[int]) -> tuple[int, ...]:
        """The size of an image with its padding and the zeros between its pixels."""
        return tuple(
            (n - 1) * d + 1 + low + high if n else low + high
            for n, d, (low, high) in zip(image, self.input_dilation, self.padding, strict=True)
        )

    def output(self, image: Sequence[int]) -> tuple[int, ...]:
        """How often the window fits along each axis: `floor((padded - span) / stride) + 1`."""
        return tuple(
            (n - k) // s + 1 if n >= k else 0
            for n, k, s in zip(self.padded(image), self.span, self.strides, strict=True)
        )

    def pad(self, x: jax.Array, value: float = 0.0) -> jax.Array:
        """Pads `[batch, *spatial, channels]` and puts the zeros of the input dilation between its pixels."""
        middle = [(low, high, d - 1) for d, (low, high) in zip(self.input_dilation, self.padding, strict=True)]
        if not any(map(any, middle)):
            return x
        return jax.lax.pad(x, np.asarray(value, x.dtype), [(0, 0, 0), *middle, (0, 0, 0)])

    def tap(self, padded: jax.Array, offset: Sequence[int]) -> jax.Array:
        """What one tap sees at all positions of the window: `[batch, *output, channels]` of a padded image."""
        positions = [(n - k) // s + 1 for n, k, s in zip(padded.shape[1:-1], self.span, self.strides, strict=True)]
        start = [i * d for i, d in zip(offset, self.kernel_dilation, strict=True)]
        stop = [a + (n - 1) * s + 1 for a, n, s in zip(start, positions, self.strides, strict=True)]
        batch, channels = padded.shape[0], padded.shape[-1]
        return jax.lax.slice(padded, (0, *start, 0), (batch, *stop, channels), (1, *self.strides, 1))


def make_window(
    image: Sequence[int] | None,
    size: Sequence[int],
    strides: PerAxis = 1,
    padding: Padding = "VALID",
    input_dilation: PerAxis = 1,
    kernel_dilation: PerAxis = 1,
    groups: int = 1,
) -> Window:
    """Writes the arguments of a convolution or a pooling out, one number or pair for each spatial axis.

    Args:
      image: spatial shape of the input; None is not known, then the padding must be numbers.
      size: of the window.
      strides: one number for all axes, or one for each; so are the dilations.
      padding: `"VALID"` for none; `"SAME"` for as much as makes the output `ceil(input / stride)`, the odd pixel
        behind; a number for all sides; or for each axis a number or a pair (before, after).
      input_dilation: as in `Window`.
      kernel_dilation: as in `Window`.
      groups: as in `Window`.

    Raises:
      ValueError: if there is not one number an axis, one is too small, the padding is not known, or the window does not
        fit into the padded image.
    """
    window = Window(
        _per_axis("window_shape", tuple(size), len(size)),
        _per_axis("strides", strides, len(size)),
        ((0, 0),) * len(size),
        _per_axis("input_dilation", input_dilation, len(size)),
        _per_axis("kernel_dilation", kernel_dilation, len(size)),
        groups,
    )
    window = replace(window, padding=_pairs(padding, image, window))
    if image is not None and not all(window.output(image)):
        raise ValueError(
            f"x: a window that spans {list(window.span)} pixels does not fit into an image of {list(image)} with "
            f"padding {[list(pair) for pair in window.padding]}"
        )
    return window


def _per_axis(name: str, numbers: Any, rank: int, least: int = 1) -> tuple[int, ...]:
    every = (numbers,) * rank if _is_integer(numbers) else tuple(numbers) if _is_sequence(numbers) else ()
    if len(every) != rank or not all(_is_integer(n) and n >= least for n in every):
        raise ValueError(f"{name}: expected a number or {rank} numbers of at least {least}, got {numbers!r}")
    return tuple(int(n) for n in every)


def _pairs(padding: Any, image: Sequence[int] | None, window: Window) -> tuple[tuple[int, int], ...]:
    if padding == "SAME" and set(window.input_dilation) != {1}:
        raise ValueError(
            f"padding: 'SAME' is not defined with an input dilation of {window.input_dilation}; pass numbers"
        )
    if image is not None and padding in ("SAME", "VALID"):
        pairs = jax.lax.padtype_to_pads(image, window.span, window.strides, padding)
        return tuple((int(low), int(high)) for low, high in pairs)
    rank = len(window.size)
    sides = (padding,) * rank if _is_integer(padding) else tuple(padding) if _is_sequence(padding) else ()
    try:
        if len(sides) == rank:
            before_and_after = [_per_axis("padding", side, 2, least=0) for side in sides]
            return tuple((low, high) for low, high in before_and_after)
    except ValueError:
        pass
    names = "" if image is None else "'SAME', 'VALID', "
    raise ValueError(
        f"padding: expected {names}a number of at least 0, or one number or pair for each of {rank} axes; "
        f"got {padding!r}"
    )


def _is_integer(number: Any) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def _is_sequence(numbers: Any) -> bool:
    return isinstance(numbers, Sequence) and not isinstance(numbers, str)
