"""Batches prepared in the background by Grain: data too large for memory, and augmentation."""

import atexit
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jaxdl.data.batch_order import BatchOrder, count_examples

Example = Mapping[str, Any]
Transform = Callable[[Example, np.random.Generator], Example]
_BATCHES_AHEAD = 4  # prepared by threads while the consumer works, in this process or in each worker


class ExampleSource(Protocol):
    """Examples by their number, such as a reader of record files."""

    def __len__(self) -> int:
        """How many examples there are."""
        ...

    def __getitem__(self, index: int, /) -> Example:
        """Example `index`: named arrays and numbers of the same names and shapes for every example."""
        ...


def pipeline(
    source: Mapping[str, Any] | ExampleSource,
    batch_size: int,
    *,
    train: bool,
    seed: int = 0,
    transform: Transform | None = None,
    num_workers: int = 0,
) -> "GrainData":
    """Batches that Grain prepares ahead, of examples that may be read or augmented one by one.

    The examples, their order and their randomness depend on `seed`, the epoch and the example alone, not on
    `num_workers`, so `batches(epoch, start)` resumes exactly. Without a transform the batches are those of `HostData`.

    Args:
      source: named arrays with one common leading axis, or anything with `len` and `[index]` that gives examples.
      batch_size: examples a batch.
      train: shuffle and drop the ragged end, or keep the order, pad the last batch and add "mask", as `HostData`.
      seed: of the shuffling and of the transform.
      transform: `(example, rng) -> example`; it runs in several threads or processes, so all randomness must come from
        `rng`. The arrays it gets are its own to change.
      num_workers: processes to prepare batches in; 0 uses threads of this process. Each gets a pickled copy of `source`
        (a reader should open its file on first use) when an epoch starts, which takes a second or two; a script must
        guard its entry by `if __name__ == "__main__":`, as for any process pool.

    Returns:
      An object with `batches(epoch, start=0)`, a length, and `num_examples`; it yields NumPy arrays.

    Raises:
      ImportError: if Grain is not installed.
      ValueError: as `HostData`, or if `num_workers` is negative.
    """
    try:
        import grain  # noqa: F401 (fail here, not in the first batch)
    except ImportError as error:
        raise ImportError("`pipeline` needs Grain: pip install -e '.[examples]'") from error
    if num_workers < 0:
        raise ValueError(f"num_workers: expected at least 0, got {num_workers}")
    if isinstance(source, Mapping):
        count_examples(source)
        source = _ArrayExamples({name: np.asarray(array) for name, array in source.items()})
    return GrainData(source, BatchOrder(len(source), batch_size, train, seed), transform, num_workers)


class GrainData:
    """What `pipeline` makes: a `Data` object.

    Attributes:
      num_examples: examples in the source.
    """

    def __init__(self, source: ExampleSource, order: BatchOrder, transform: Transform | None, num_workers: int):
        self.num_examples = order.num_examples
        self._source, self._order, self._transform, self._num_workers = source, order, transform, num_workers

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self._order)

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """The batches of `epoch` from batch `start` on: the tail of the whole epoch.

        Raises:
          ValueError: if `epoch` is negative or `start` is not in 0 to `len(self)`; from the iterator, if the examples
            of a batch differ in names or shapes. What `source` or `transform` raises comes through.
        """
        rows = self._order.rows(epoch, start)
        iterator = self._iterate(_EpochBatches(self._source, self._order, self._transform, epoch, rows))
        _unfinished.add(iterator)
        return iterator

    def _iterate(self, batches: "_EpochBatches") -> Generator[dict[str, np.ndarray], None, None]:
        import grain
        from absl import flags

        options = grain.ReadOptions(num_threads=_BATCHES_AHEAD, prefetch_buffer_size=_BATCHES_AHEAD)
        dataset = grain.MapDataset.source(batches).to_iter_dataset(options)
        if self._num_workers:
            if not flags.FLAGS.is_parsed():  # Grain reads absl's flags, which only an absl app has parsed
                flags.FLAGS.mark_as_parsed()
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=self._num_workers))
        iterator = iter(dataset)
        try:
            # Workers hand over shared memory; the copy frees it at once.
            yield from map(_copy, iterator) if self._num_workers else iterator
        finally:
            iterator.close()


_unfinished: weakref.WeakSet[Generator] = weakref.WeakSet()


@atexit.register
def _close_unfinished() -> None:
    """Ends the epochs that a script left in the middle, while Grain can still clean up after itself."""
    for iterator in list(_unfinished):
        iterator.close()


def _copy(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.array(array) for name, array in batch.items()}


@dataclass(frozen=True)
class _ArrayExamples:
    """Named arrays as a source of examples."""

    arrays: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: int) -> Example:
        return {name: array[index].copy() for name, array in self.arrays.items()}


@dataclass(frozen=True)
class _EpochBatches:
    """The batches of an epoch as a random-access source, which is what Grain's threads and processes share out."""

    source: ExampleSource
    order: BatchOrder
    transform: Transform | None
    epoch: int
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        row = self.rows[index]
        examples = [self._example(int(i)) for i in row % self.order.num_examples]
        names = examples[0].keys()
        batch = {}
        if any(example.keys() != names for example in examples):
            raise ValueError(f"examples: expected the same names in a batch, got {[sorted(e) for e in examples]}")
        for name in names:
            values = [np.asarray(example[name]) for example in examples]
            if len({value.shape for value in values}) > 1:
                raise ValueError(f"examples: expected equal shapes of {name!r}, got {[v.shape for v in values]}")
            batch[name] = np.stack(values)
        if not self.order.train:
            real = (row < self.order.num_examples).astype(np.float32)
            batch["mask"] = real * batch["mask"].astype(np.float32) if "mask" in batch else real
        return batch

    def _example(self, index: int) -> Example:
        example = self.source[index]
        if self.transform is None:
            return example
        return self.transform(example, np.random.default_rng((self.order.seed, self.epoch, index)))
