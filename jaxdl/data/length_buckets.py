"""Batches of examples of similar length, so that little of a batch is padding."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from jaxdl.data.batch_order import BatchOrder, count_examples


class LengthBuckets:
    """Named arrays given out in batches whose examples have similar lengths, each cut to the bucket's boundary.

    A `Data` for `fit`, in the memory of the host. Bucket i has the examples whose length is above `boundaries[i - 1]`
    and at most `boundaries[i]`; a row of it has less padding than the boundaries are apart. Batches of different
    buckets differ in shape, so that a step compiles once for each.

    Args:
      arrays: named arrays with one common leading axis, the examples.
      lengths: integers `[examples]`: what each example needs of the second axis, such as `arrays["length"]`, or
        `np.maximum(source_length, target_length + 1)` for the pairs of `encode_pairs`.
      batch_size: examples a batch, in every bucket.
      boundaries: increasing; the last is at least the largest length. A bucket without examples does not count.
      sequences: the names of the arrays whose second axis is cut; by default "tokens", "source" and "target", as far
        as there are.
      train: True shuffles the examples of each bucket and the order of all batches by (`seed`, epoch), and drops the
        ragged end of each bucket. False keeps the order within a bucket, goes from bucket to bucket, and pads the last
        batch of each with repeated examples; every batch then has "mask", float32 `[batch]`, 1 for real examples and 0
        for padding, times your own "mask" if `arrays` has one.
      seed: of the shuffling.

    Raises:
      ValueError: if the arrays do not fit together, a length is outside 0 to the last boundary, the boundaries do not
        increase, `sequences` names an array that is not there or has no second axis, a batch would be shorter than its
        length (the array itself is), `batch_size` is less than 1, `seed` is negative or, in training, a bucket has
        some examples but fewer than `batch_size`, which would never be shown.
    """

    def __init__(
        self,
        arrays: Mapping[str, Any],
        lengths: Any,
        batch_size: int,
        *,
        boundaries: Sequence[int],
        sequences: Collection[str] | None = None,
        train: bool,
        seed: int = 0,
    ):
        self.num_examples = count_examples(arrays)
        if self.num_examples == 0:
            raise ValueError("arrays: expected at least one example, got none")
        self._arrays = {name: np.asarray(array) for name, array in arrays.items()}
        if sequences is None:
            sequences = [name for name in ("tokens", "source", "target") if name in arrays]
        self._sequences = frozenset(sequences)
        lengths = _checked_lengths(lengths, self.num_examples, boundaries)
        for name in self._sequences:
            if name not in self._arrays or self._arrays[name].ndim < 2:
                raise ValueError(f"sequences: expected names of arrays [examples, time, ...], got {name!r}")
            if self._arrays[name].shape[1] < lengths.max():
                found = self._arrays[name].shape[1]
                raise ValueError(f"lengths: expected at most {found}, the second axis of {name!r}, got {lengths.max()}")
        self._train, self._seed = train, seed
        self._buckets: list[tuple[int, np.ndarray, BatchOrder]] = []  # boundary, examples, which of them form a batch
        for low, high in pairwise([-1, *boundaries]):
            examples = np.flatnonzero((lengths > low) & (lengths <= high))
            if 0 < len(examples) < batch_size and train:
                raise ValueError(
                    f"boundaries: expected at least batch_size={batch_size} examples in each bucket in training, got "
                    f"{len(examples)} of length {low + 1} to {high}"
                )
            if len(examples):
                self._buckets.append((high, examples, BatchOrder(len(examples), batch_size, train, seed)))

    def __len__(self) -> int:
        """Batches an epoch."""
        return sum(len(order) for _, _, order in self._buckets)

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """The batches of `epoch` from batch `start` on: the tail of the whole epoch.

        Raises:
          ValueError: if `epoch` is negative or `start` is not in 0 to `len(self)`.
        """
        if not 0 <= start <= len(self):
            raise ValueError(f"start: expected 0 to {len(self)}, the batches of an epoch, got {start}")
        rows = [(bucket, row) for bucket in self._buckets for row in bucket[2].rows(epoch)]
        if self._train:
            rows = [rows[i] for i in np.random.default_rng((self._seed, epoch, 1)).permutation(len(rows))]
        return (self._gather(bucket, row) for bucket, row in rows[start:])

    def chunks(self, epoch: int, start: int, size: int) -> Iterator[dict[str, np.ndarray]]:
        """The same batches, up to `size` of them stacked: `[size, batch, ...]`. A chunk ends where the bucket changes.

        Raises:
          ValueError: as `batches`, or if `size` is less than 1.
        """
        if size < 1:
            raise ValueError(f"size: expected at least 1, got {size}")
        return _stacks(self.batches(epoch, start), size)

    def _gather(self, bucket: tuple[int, np.ndarray, BatchOrder], row: np.ndarray) -> dict[str, np.ndarray]:
        boundary, examples, _ = bucket
        chosen = examples[row % len(examples)]
        batch = {
            name: array[chosen, :boundary] if name in self._sequences else array[chosen]
            for name, array in self._arrays.items()
        }
        if not self._train:
            real = (row < len(examples)).astype(np.float32)
            batch["mask"] = real * batch["mask"].astype(np.float32) if "mask" in batch else real
        return batch


def _stacks(batches: Iterator[dict[str, np.ndarray]], size: int) -> Iterator[dict[str, np.ndarray]]:
    stack: list[dict[str, np.ndarray]] = []
    for batch in batches:
        fits = not stack or all(batch[name].shape == array.shape for name, array in stack[0].items())
        if len(stack) == size or not fits:
            yield {name: np.stack([one[name] for one in stack]) for name in stack[0]}
            stack = []
        stack.append(batch)
    if stack:
        yield {name: np.stack([one[name] for one in stack]) for name in stack[0]}


def _checked_lengths(lengths: Any, num_examples: int, boundaries: Sequence[int]) -> np.ndarray:
    if not len(boundaries) or any(low >= high for low, high in pairwise([0, *boundaries])):
        raise ValueError(f"boundaries: expected increasing positive integers, got {list(boundaries)}")
    array = np.asarray(lengths)
    if array.shape != (num_examples,) or array.dtype.kind not in "iu":
        raise ValueError(f"lengths: expected integers [{num_examples}], got {array.dtype}{list(array.shape)}")
    outside = np.flatnonzero((array < 0) | (array > boundaries[-1]))
    if outside.size:
        raise ValueError(
            f"lengths: expected 0 to {boundaries[-1]}, the last boundary, "
            f"got {array[outside[0]]} of example {outside[0]}"
        )
    return array
