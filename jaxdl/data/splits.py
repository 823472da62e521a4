"""Splits and slices of them, in the notation of TensorFlow Datasets ("Splits and slicing")."""

import re
from typing import NamedTuple

_BOUNDARY = r"(-?[0-9]+%?)?"
_PATTERN = re.compile(rf"\s*(?P<split>[A-Za-z_][A-Za-z0-9_]*)\s*(?P<slice>\[{_BOUNDARY}:{_BOUNDARY}\])?\s*")


class SplitSlice(NamedTuple):
    """A split, from `start` to `stop`: None, a number of examples (`"8000"`) or a percentage (`"80%"`)."""

    split: str
    start: str | None = None
    stop: str | None = None

    def resolve(self, num_examples: int) -> slice:
        """The slice of a split of `num_examples`, as in Python; percentages round to the nearest example."""
        return slice(_position(self.start, num_examples), _position(self.stop, num_examples))


def parse_split(text: str) -> list[SplitSlice]:
    """Parses `"train"`, `"train[:80%]"`, `"test[-100:]"` and sums of them such as `"train[:10%]+test"`.

    >>> parse_split("train[:80%]")[0].resolve(1437)
    slice(None, 1150, None)

    Args:
      text: splits with optional slices, joined by "+".

    Returns:
      The terms of the sum, in order.

    Raises:
      ValueError: if a term is not of this form, or a percentage is beyond 100.
    """
    slices = []
    for term in text.split("+"):
        match = _PATTERN.fullmatch(term)
        if match is None:
            raise ValueError(f"split: expected a form such as 'train', 'train[:80%]' or 'train+test', got {text!r}")
        _, _, start, stop = match.groups()
        for boundary in (start, stop):
            if boundary and boundary.endswith("%") and abs(int(boundary[:-1])) > 100:
                raise ValueError(f"split: expected percentages from -100% to 100%, got {text!r}")
        slices.append(SplitSlice(match["split"], start, stop))
    return slices


def _position(boundary: str | None, num_examples: int) -> int | None:
    if boundary is None:
        return None
    if boundary.endswith("%"):
        return round(int(boundary[:-1]) * num_examples / 100)
    return int(boundary)
