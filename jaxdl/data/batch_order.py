"""Which examples form which batch: the one rule that all data objects share."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class BatchOrder:
    """The batches of an epoch as rows of example indices.

    Training: a permutation that depends on the seed and the epoch alone; the ragged end is dropped. Evaluation: the
    examples in order; the last row runs on beyond `num_examples`, and an index `i` there is padding that repeats
    example `i % num_examples`.

    Attributes:
      num_examples: at least 1.
      batch_size: examples a batch; in training at most `num_examples`.
      train: shuffle and drop, or in order and pad.
      seed: of the permutations, not negative.

    Raises:
      ValueError: if an attribute is outside these bounds.
    """

    num_examples: int
    batch_size: int
    train: bool
    seed: int = 0

    def __post_init__(self):
        for name, least in (("num_examples", 1), ("batch_size", 1), ("seed", 0)):
            if operator.index(getattr(self, name)) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if self.train and self.batch_size > self.num_examples:
            raise ValueError(
                f"batch_size: expected at most num_examples, {self.num_examples}, in training, got {self.batch_size}"
            )

    def __len__(self) -> int:
        """Batches an epoch."""
        return self.num_examples // self.batch_size if self.train else -(-self.num_examples // self.batch_size)

    def rows(self, epoch: int, start: int = 0) -> np.ndarray:
        """The indices of the batches of `epoch` from batch `start` on.

        Args:
          epoch: counts from 0.
          start: first batch, at most `len(self)` (which leaves none).

        Returns:
          int64 `[len(self) - start, batch_size]`; in evaluation, indices from `num_examples` on are padding.

        Raises:
          ValueError: if `epoch` is negative or `start` is out of range.
        """
        if epoch < 0:
            raise ValueError(f"epoch: expected at least 0, got {epoch}")
        if not 0 <= start <= len(self):
            raise ValueError(f"start: expected 0 to {len(self)}, the batches of an epoch, got {start}")
        num_indices = len(self) * self.batch_size
        if self.train:
            indices = np.random.default_rng((self.seed, epoch)).permutation(self.num_examples)[:num_indices]
        else:
            indices = np.arange(num_indices)
        return indices.reshape(len(self), self.batch_size)[start:]

    def chunks(self, epoch: int, start: int, size: int) -> list[np.ndarray]:
        """The same rows, `size` batches at a time: `[size, batch_size]`, the last chunk perhaps shorter.

        Raises:
          ValueError: as `rows`, or if `size` is less than 1.
        """
        if size < 1:
            raise ValueError(f"size: expected at least 1, got {size}")
        rows = self.rows(epoch, start)
        return [rows[first : first + size] for first in range(0, len(rows), size)]


def count_examples(arrays: Mapping[str, Any]) -> int:
    """The common leading axis of named arrays.

    Raises:
      ValueError: if there are no arrays, their leading axes differ or are missing, or "mask" is not `[examples]`.
    """
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    if not shapes:
        raise ValueError("arrays: expected at least one named array, got none")
    if not all(shapes.values()) or len({shape[0] for shape in shapes.values()}) > 1:
        raise ValueError(f"arrays: expected equal leading axes, got shapes {shapes}")
    num_examples = next(iter(shapes.values()))[0]
    if "mask" in shapes and shapes["mask"] != (num_examples,):
        raise ValueError(f"arrays: expected 'mask' of shape {(num_examples,)}, got {shapes['mask']}")
    return num_examples
