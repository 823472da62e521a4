"""Batches of NumPy arrays, for arrays that are too large for the device."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxdl.data.batch_order import BatchOrder, count_examples


class HostData:
    """Named arrays in the memory of the host (or memory-mapped), given out as batches.

    The batches are those of `DeviceData` for equal arguments; only their place differs, and 64-bit types stay what they
    are.

    Args:
      arrays: named arrays with one common leading axis, the examples.
      batch_size: examples a batch.
      train: True shuffles by (`seed`, epoch) and drops the ragged end of an epoch. False keeps the order and pads the
        last batch with repeated examples; every batch then has "mask", float32 `[batch]`, 1 for real examples and 0 for
        padding, times your own "mask" if `arrays` has one.
      seed: of the shuffling.

    Raises:
      ValueError: if there are no arrays or no examples, leading axes differ, "mask" is not one number an example,
        `batch_size` is less than 1 or, in training, more than there are examples, or `seed` is negative.
    """

    def __init__(self, arrays: Mapping[str, Any], batch_size: int, *, train: bool, seed: int = 0):
        self.num_examples = count_examples(arrays)
        self._order = BatchOrder(self.num_examples, batch_size, train, seed)
        self._arrays = {name: np.asarray(array) for name, array in arrays.items()}

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self._order)

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """The batches of `epoch` from batch `start` on: the tail of the whole epoch.

        Raises:
          ValueError: if `epoch` is negative or `start` is not in 0 to `len(self)`.
        """
        return map(self._gather, self._order.rows(epoch, start))

    def chunks(self, epoch: int, start: int, size: int) -> Iterator[dict[str, np.ndarray]]:
        """The same batches, `size` of them stacked: `[size, batch, ...]`; the last chunk may be shorter.

        Raises:
          ValueError: as `batches`, or if `size` is less than 1.
        """
        return map(self._gather, self._order.chunks(epoch, start, size))

    def _gather(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        batch = {name: array[rows % self.num_examples] for name, array in self._arrays.items()}
        if not self._order.train:
            real = (rows < self.num_examples).astype(np.float32)
            batch["mask"] = real * batch["mask"].astype(np.float32) if "mask" in batch else real
        return batch
