"""Evaluation: exact over all examples, whatever the batch size, under every strategy."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxdl.training.metrics import HostSums
from jaxdl.training.step import Batch, EvalFn, TrainState

FETCH_EVERY = 64  # batches; bounds what is in flight without making the device wait


def evaluate(eval_fn: EvalFn, state: TrainState, data: Any) -> dict[str, float]:
    """Merges the metrics of every batch and computes them.

    Args:
      eval_fn: `(params, model_state, batch) -> metrics`, sums that honour `batch["mask"]`; compiled here.
      state: only its `params` and `model_state` are used.
      data: a `Data` whose batches carry a "mask", such as `DeviceData(..., train=False)`.

    Returns:
      The figures by name, added up on the host in float64.

    Raises:
      ValueError: if there are no batches, or they carry no mask (training data drops the ragged end of an epoch).
    """
    compiled, sums = jax.jit(eval_fn), HostSums(stacked=False)
    for batch in _masked_batches(data):
        sums.push(compiled(state.params, state.model_state, batch))
        if len(sums.pending) == FETCH_EVERY:
            sums.fetch()
    sums.fetch()
    return sums.compute()


def predict(eval_fn: Callable[[Any, Any, Batch], Any], state: TrainState, data: Any) -> Any:
    """Per-example outputs of every example, in order, for scores that are not sums (AUC, mean average precision).

    Args:
      eval_fn: `(params, model_state, batch) -> pytree` of arrays with the batch's leading axis; compiled here.
      state: only its `params` and `model_state` are used.
      data: as for `evaluate`.

    Returns:
      The same pytree of NumPy arrays, `[examples, ...]`, padding removed.

    Raises:
      ValueError: as `evaluate`, or if an output lacks the batch's leading axis.
    """
    compiled, outputs = jax.jit(eval_fn), []
    for batch in _masked_batches(data):
        real = np.asarray(batch["mask"]) != 0
        output = jax.device_get(compiled(state.params, state.model_state, batch))
        for path, leaf in jax.tree_util.tree_leaves_with_path(output):
            if leaf.shape[:1] != real.shape:
                name = jax.tree_util.keystr(path)
                raise ValueError(f"eval_fn: expected output{name} of shape [{len(real)}, ...], got {list(leaf.shape)}")
        outputs.append(jax.tree.map(lambda leaf, real=real: leaf[real], output))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *outputs)


def _masked_batches(data: Any) -> Any:
    if len(data) == 0:
        raise ValueError("data: expected at least one batch to evaluate, got none")
    for batch in data.batches(0):
        if "mask" not in batch:
            raise ValueError(
                f"data: expected batches with a 'mask' (make the data with train=False), got {sorted(batch)}"
            )
        yield batch
