"""A long sequence cut into batches of short ones, for language models (D2L 9.3 and, in its first edition, 8.3.4).

A batch has `tokens`, int32 `[batch, num_steps + 1]`: the inputs are `tokens[:, :-1]`, the targets `tokens[:, 1:]`.
"""

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdl.data.batch_order import BatchOrder


def overlapping_windows(sequence: Any, num_steps: int) -> np.ndarray:
    """All stretches of `num_steps` elements and the one after them, each one element later than the last (D2L 9.3).

    For `DeviceData({"tokens": windows[:10000]}, ...)`; or, of a time series, `num_steps` features and a label (9.1).

    Args:
      sequence: `[length]`, of any dtype.
      num_steps: at least 1.

    Returns:
      `[length - num_steps, num_steps + 1]`, a view of the sequence that cannot be written to.

    Raises:
      ValueError: if the sequence is not one-dimensional or not longer than `num_steps`.

    >>> overlapping_windows([1, 2, 3, 4], 2)
    array([[1, 2, 3],
           [2, 3, 4]])
    """
    array = np.asarray(sequence)
    if array.ndim != 1:
        raise ValueError(f"sequence: expected [length], got {list(array.shape)}")
    _check_least(num_steps=num_steps)
    if len(array) <= num_steps:
        raise ValueError(f"num_steps: expected fewer than the {len(array)} elements of the sequence, got {num_steps}")
    return np.lib.stride_tricks.sliding_window_view(array, num_steps + 1)


def random_partition(
    corpus: Any, batch_size: int, num_steps: int, *, train: bool, seed: int = 0
) -> "SequencePartition":
    """Cuts a corpus into blocks of `num_steps` inputs that do not overlap, and shuffles them into batches.

    A `Data` for `fit`: `batches(epoch, start)` depends on nothing but its arguments and the seed.

    Args:
      corpus: token numbers, integers `[tokens]`.
      batch_size: blocks a batch.
      num_steps: inputs, and targets, a block.
      train: True shuffles the blocks by (`seed`, epoch) and lets the first begin at a random token, 0 to
        `num_steps - 1`, so that each epoch cuts elsewhere; what does not fill a block or a batch is left out. False
        cuts from the first token on, in order; every token but the first is a target exactly once. Every batch then
        has `length`, int32 `[batch]`, the targets that each row has (the last block may be shorter and ends in 0), and
        `mask`, float32 `[batch]`, 0 for rows that fill up the last batch.
      seed: of the shuffling.

    Raises:
      ValueError: if the corpus is not of integers from 0 on, too short for one batch (one target, in evaluation), or an
        argument is below 1 (the seed: below 0).
    """
    return SequencePartition(_tokens(corpus), batch_size, num_steps, train, seed, consecutive=False)


def sequential_partition(
    corpus: Any, batch_size: int, num_steps: int, *, train: bool, seed: int = 0
) -> "SequencePartition":
    """Cuts a corpus into `batch_size` long stretches, and these into blocks: row i of a batch goes on where row i of
    the batch before it ended, so that a hidden state can be carried over.

    A `Data` for `fit`, as `random_partition`. Every batch has `is_first`, boolean `[batch]`: True where no batch goes
    before (the first of an epoch), and the hidden state has to be the initial one.

    Args:
      corpus: token numbers, integers `[tokens]`.
      batch_size: stretches.
      num_steps: inputs, and targets, a block.
      train: True lets the first stretch begin at a random token, 0 to `num_steps - 1`, drawn by (`seed`, epoch); what
        does not fill a block in every row is left out. False begins at the first token, and every token but the first
        is a target exactly once. Every batch then has `length`, int32 `[batch]`, the targets that each row has (a
        stretch may end within a block; 0 follows), and `mask`, float32 `[batch]`, 0 for rows that have none left.
      seed: of the beginnings.

    Raises:
      ValueError: as `random_partition`.
    """
    return SequencePartition(_tokens(corpus), batch_size, num_steps, train, seed, consecutive=True)


@dataclass(frozen=True, eq=False)
class SequencePartition:
    """The batches of `random_partition` or `sequential_partition`: a `Data` for `fit`."""

    corpus: np.ndarray
    batch_size: int
    num_steps: int
    train: bool
    seed: int
    consecutive: bool

    def __post_init__(self):
        _check_least(batch_size=self.batch_size, num_steps=self.num_steps)
        if self.seed < 0:
            raise ValueError(f"seed: expected 0 or more, got {self.seed}")
        needed = self.num_steps * (self.batch_size + 1) if self.train else 2
        if len(self.corpus) < needed:
            raise ValueError(
                f"corpus: expected at least {needed} tokens for batch_size {self.batch_size} and "
                f"num_steps {self.num_steps}, got {len(self.corpus)}"
            )

    def __len__(self) -> int:
        """Batches an epoch."""
        if not self.consecutive:
            return len(self._order)
        return self._stretch // self.num_steps if self.train else -(-self._stretch // self.num_steps)

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """The batches of `epoch` from batch `start` on: the tail of the whole epoch.

        Raises:
          ValueError: if `epoch` is negative or `start` is not in 0 to `len(self)`.
        """
        self._check_position(epoch, start)
        starts, lengths = self._blocks(epoch)
        return (self._gather(number, starts, lengths) for number in range(start, len(self)))

    def chunks(self, epoch: int, start: int, size: int) -> Iterator[dict[str, np.ndarray]]:
        """The same batches, `size` of them stacked: `[size, batch, ...]`; the last chunk may be shorter.

        Raises:
          ValueError: as `batches`, or if `size` is less than 1.
        """
        self._check_position(epoch, start)
        _check_least(size=size)
        starts, lengths = self._blocks(epoch)
        return (self._gather(slice(first, first + size), starts, lengths) for first in range(start, len(self), size))

    def _check_position(self, epoch: int, start: int) -> None:
        if epoch < 0:
            raise ValueError(f"epoch: expected at least 0, got {epoch}")
        if not 0 <= start <= len(self):
            raise ValueError(f"start: expected 0 to {len(self)}, the batches of an epoch, got {start}")

    @property
    def _stretch(self) -> int:
        """Targets of a row over all batches of a sequential partition."""
        if self.train:
            return (len(self.corpus) - self.num_steps) // self.batch_size
        return -(-(len(self.corpus) - 1) // self.batch_size)

    @property
    def _order(self) -> BatchOrder:
        """Which blocks of a random partition form which batch."""
        num_targets = len(self.corpus) - (self.num_steps if self.train else 1)
        num_blocks = num_targets // self.num_steps if self.train else -(-num_targets // self.num_steps)
        return BatchOrder(num_blocks, self.batch_size, self.train, self.seed)

    def _blocks(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The first input and the number of targets of each row, int64 `[batches, batch]`; 0 targets: no row."""
        last_target = len(self.corpus) - 1
        if self.consecutive:
            first = np.arange(self.batch_size) * self._stretch  # [batch]
            starts = first + self.num_steps * np.arange(len(self))[:, None]
            ends = np.minimum(starts + self.num_steps, np.minimum(first + self._stretch, last_target))
        else:
            starts = self.num_steps * self._order.rows(epoch)
            ends = np.minimum(starts + self.num_steps, last_target)
        if self.train:  # every row is full, wherever the first begins
            offset = np.random.default_rng((self.seed, epoch, 1)).integers(self.num_steps)
            return starts + offset, np.full_like(starts, self.num_steps)
        return starts, np.maximum(ends - starts, 0)

    def _gather(self, batch: int | slice, starts: np.ndarray, lengths: np.ndarray) -> dict[str, np.ndarray]:
        starts, lengths = starts[batch], lengths[batch]  # [..., batch]
        steps = np.arange(self.num_steps + 1)
        tokens = self.corpus[np.minimum(starts[..., None] + steps, len(self.corpus) - 1)]
        arrays = {"tokens": np.where(steps <= lengths[..., None], tokens, 0).astype(np.int32)}
        if self.consecutive:
            numbers = np.arange(len(self))[batch, ...]
            arrays["is_first"] = np.broadcast_to((numbers == 0)[..., None], lengths.shape)
        if not self.train:
            arrays |= {"length": lengths.astype(np.int32), "mask": (lengths > 0).astype(np.float32)}
        return arrays


def _tokens(corpus: Any) -> np.ndarray:
    """Int32 `[tokens]`."""
    array = np.asarray(corpus)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"corpus: expected integers [tokens], got {array.dtype}{list(array.shape)}")
    if array.size and not 0 <= array.min() <= array.max() < 2**31:
        raise ValueError(f"corpus: expected token numbers from 0 on, got {array.min()} to {array.max()}")
    return array.astype(np.int32)


def _check_least(**numbers: int) -> None:
    for name, number in numbers.items():
        if operator.index(number) < 1:
            raise ValueError(f"{name}: expected at least 1, got {number}")
