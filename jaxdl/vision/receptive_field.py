"""Receptive fields: which input pixels a unit sees through a stack of convolutions and pooling layers (D2L 7.2)."""

from collections.abc import Sequence
from typing import NamedTuple


class Window(NamedTuple):
    """One layer's sliding window along one axis.

    Fields:
      size: of the kernel or the pooling window, in pixels of the layer's input.
      stride: between two neighbouring windows.
      padding: before the first pixel, and after the last.
      dilation: distance of the kernel's elements.
    """

    size: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1


class ReceptiveField(NamedTuple):
    """Unit `j` of the output sees the input pixels `start + j * stride` to `start + j * stride + size - 1`.

    Fields:
      size: in input pixels.
      stride: input pixels between the fields of neighbouring units.
      start: first pixel that unit 0 sees; negative within the padding.
    """

    size: int
    stride: int
    start: int


def receptive_field(layers: Sequence[Window | tuple[int, ...]]) -> ReceptiveField:
    """The receptive field, along one axis, of one output unit of a stack of layers.

    With `r_i` the units of layer i's input that one output unit sees, `r_i = (r_{i+1} - 1) s_i + k_i`, where `k_i` is
    the extent of the kernel, dilation included, and `s_i` its stride: the recursion runs from the output, where r = 1.

    Args:
      layers: from the input on, `Window`s or tuples `(size, stride, padding, dilation)` whose later entries may be left
        out. Layers without a window (activation, normalisation, dense layers over channels) are left out; of parallel
        branches take the one with the largest field.

    Raises:
      ValueError: if a size, stride or dilation is below 1, or a padding negative.

    Note: it is where a unit can look. What it in fact listens to is concentrated at the centre (Luo et al., 2016).

    >>> receptive_field([(3,), (3, 2), (3,)])  # 3 x 3 convolutions, the second of stride 2
    ReceptiveField(size=9, stride=2, start=0)
    """
    size, stride, start = 1, 1, 0
    for window in reversed(_windows(layers)):
        size = (size - 1) * window.stride + (window.size - 1) * window.dilation + 1
        start = start * window.stride - window.padding
        stride *= window.stride
    return ReceptiveField(size, stride, start)


def smallest_input(layers: Sequence[Window | tuple[int, ...]]) -> int:
    """The least number of input pixels, along one axis, that leave every layer at least one output unit.

    Args:
      layers: as in `receptive_field`.

    Raises:
      ValueError: as in `receptive_field`.

    >>> smallest_input([(11, 4, 1), (3, 2), (5, 1, 2), (3, 2)])
    33
    """
    pixels = 1
    for window in reversed(_windows(layers)):
        extent = (window.size - 1) * window.dilation + 1
        pixels = max(1, (pixels - 1) * window.stride + extent - 2 * window.padding)
    return pixels


def _windows(layers: Sequence[Window | tuple[int, ...]]) -> list[Window]:
    windows = [Window(*layer) for layer in layers]
    for i, window in enumerate(windows):
        for name, least in (("size", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
            if getattr(window, name) < least:
                raise ValueError(f"layers: {name} of layer {i}: expected at least {least}, got {getattr(window, name)}")
    return windows
