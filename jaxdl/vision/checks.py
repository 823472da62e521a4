"""What every architecture checks of its fields and its images."""

from collections.abc import Sequence

import jax


def check_counts(**counts: int | Sequence[int]) -> None:
    """Checks fields that count something, each a number or a sequence of numbers.

    Raises:
      ValueError: naming the field, if a number is below 1 or a sequence is empty.
    """
    for name, count in counts.items():
        if isinstance(count, Sequence):
            if not count or min(count) < 1:
                raise ValueError(f"{name}: expected one or more numbers of at least 1, got {list(count)}")
        elif count < 1:
            raise ValueError(f"{name}: expected at least 1, got {count}")


def check_rate(**rates: float) -> None:
    """Checks fields that are probabilities.

    Raises:
      ValueError: naming the field, if one is not in [0, 1].
    """
    for name, rate in rates.items():
        if not 0 <= rate <= 1:
            raise ValueError(f"{name}: expected a number in [0, 1], got {rate}")


def check_lengths(stages: int, **fields: Sequence[object]) -> None:
    """Checks fields that have one entry a stage.

    Raises:
      ValueError: naming the field, if its length is not `stages`.
    """
    for name, field in fields.items():
        if len(field) != stages:
            raise ValueError(f"{name}: expected one for each of {stages} stages, got {len(field)}")


def check_images(images: jax.Array, smallest: int = 1) -> None:
    """Checks images against the least height and width that an architecture takes.

    Raises:
      ValueError: if they are not `[batch, height, width, channels]`, or smaller.
    """
    if images.ndim != 4:
        raise ValueError(f"images: expected [batch, height, width, channels], got {list(images.shape)}")
    if min(images.shape[1:3]) < smallest:
        raise ValueError(f"images: expected at least {smallest} x {smallest} pixels, got {list(images.shape)}")


def check_rank(x: jax.Array) -> None:
    """Checks the input of a block.

    Raises:
      ValueError: if it is not `[batch, height, width, channels]`.
    """
    if x.ndim != 4:
        raise ValueError(f"x: expected [batch, height, width, channels], got {list(x.shape)}")
