"""Batches gathered on the device, for arrays that fit there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.batch_order import BatchOrder, count_examples


class DeviceData:
    """Named arrays put on the device once, given out as batches.

    A batch, or a chunk of batches, is one compiled gather; its example indices are all that travels. The batches are
    those of `HostData` for equal arguments.

    Args:
      arrays: named arrays with one common leading axis, the examples. On the device they have JAX's types: without x64,
        float64 becomes float32, and integers of 64 bits become 32.
      batch_size: examples a batch.
      train: True shuffles by (`seed`, epoch) and drops the ragged end of an epoch. False keeps the order and pads the
        last batch with repeated examples; every batch then has "mask", float32 `[batch]`, 1 for real examples and 0 for
        padding, times your own "mask" if `arrays` has one.
      seed: of the shuffling.

    Raises:
      ValueError: if there are no arrays or no examples, leading axes differ, "mask" is not one number an example, an
        array is not of numbers, an integer does not fit the device's type, `batch_size` is less than 1 or, in training,
        more than there are examples, or `seed` is negative.
    """

    def __init__(self, arrays: Mapping[str, Any], batch_size: int, *, train: bool, seed: int = 0):
        self.num_examples = count_examples(arrays)
        self._order = BatchOrder(self.num_examples, batch_size, train, seed)
        self._arrays = {name: _put(name, array) for name, array in arrays.items()}

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self._order)

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, jax.Array]]:
        """The batches of `epoch` from batch `start` on: the tail of the whole epoch.

        Raises:
          ValueError: if `epoch` is negative or `start` is not in 0 to `len(self)`.
        """
        return map(self._gather, self._order.rows(epoch, start))

    def chunks(self, epoch: int, start: int, size: int) -> Iterator["StackedBatches"]:
        """The same batches, `size` of them stacked: `[size, batch, ...]`; the last chunk may be shorter.

        A stack is gathered where it is read, so a compiled scan over its rows gathers batch by batch.

        Raises:
          ValueError: as `batches`, or if `size` is less than 1.
        """
        stacks = self._order.chunks(epoch, start, size)
        return (StackedBatches(self._arrays, _put_rows(rows), self._order.train) for rows in stacks)

    def _gather(self, rows: np.ndarray) -> dict[str, jax.Array]:
        return _gather(self._arrays, _put_rows(rows), train=self._order.train)


@partial(jax.tree_util.register_dataclass, data_fields=("arrays", "rows"), meta_fields=("train",))
@dataclass(frozen=True)
class StackedBatches(Mapping[str, jax.Array]):
    """Several batches of a `DeviceData`, named arrays `[steps, batch, ...]` that are gathered when they are read.

    Inside compiled code, `gather(rows[i])` is batch i alone: its examples go from the data to the arithmetic without
    a stack in between. A pytree of the data's arrays and the row numbers.

    Attributes:
      arrays: of the whole data set.
      rows: int32 `[steps, batch]`, the examples of each batch.
      train: as in `DeviceData`.
    """

    arrays: dict[str, jax.Array]
    rows: jax.Array
    train: bool

    def gather(self, rows: jax.Array) -> dict[str, jax.Array]:
        """The examples `rows`, of any shape, as named arrays."""
        return _gather(self.arrays, rows, train=self.train)

    def __getitem__(self, name: str) -> jax.Array:
        return self.gather(self.rows)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays if self.train else {**self.arrays, "mask": None})

    def __len__(self) -> int:
        return len(list(iter(self)))


def _put_rows(rows: np.ndarray) -> jax.Array:
    return jax.device_put(rows.astype(np.int32))


def _put(name: str, array: Any) -> jax.Array:
    source = array if isinstance(array, jax.Array) else np.asarray(array)
    if jnp.issubdtype(source.dtype, jax.dtypes.extended) or source.dtype.kind in "OSTUMm":
        raise ValueError(f"arrays: expected numbers, got {name!r} of type {source.dtype}")
    # device_put may share the memory of a NumPy array (on a CPU, where it is aligned): later writes would show.
    placed = jax.device_put(source if isinstance(source, jax.Array) else np.array(source))
    if source.size and placed.dtype != source.dtype and jnp.issubdtype(placed.dtype, jnp.integer):
        bounds, low, high = jnp.iinfo(placed.dtype), source.min(), source.max()
        if low < bounds.min or high > bounds.max:
            raise ValueError(f"arrays: expected {name!r} to fit {placed.dtype}, got values from {low} to {high}")
    return placed


@partial(jax.jit, static_argnames="train")
def _gather(arrays: dict[str, jax.Array], rows: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    num_examples = next(iter(arrays.values())).shape[0]
    batch = {name: jnp.take(array, rows % num_examples, axis=0, mode="clip") for name, array in arrays.items()}
    if not train:
        real = (rows < num_examples).astype(jnp.float32)
        batch["mask"] = real * batch["mask"].astype(jnp.float32) if "mask" in batch else real
    return batch
