"""The loss and evaluation functions of a model that maps one input to one output."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn

from jaxdl.training.metrics import Mean
from jaxdl.training.step import Batch, EvalFn, LossFn

Score = Callable[[Any, Batch], jax.Array]  # (outputs, batch) -> [batch], per example


def supervised(model: nn.Module, input_name: str, loss: Score, scores: Mapping[str, Score]) -> tuple[LossFn, EvalFn]:
    """Makes the `LossFn` and the `EvalFn` of a model from per-example scores; both honour `batch["mask"]`.

    Args:
      model: called as `model.apply(variables, batch[input_name], train=...)`; dropout gets the step's key.
      input_name: the batch's entry that the model takes.
      loss: what training minimises, `(outputs, batch) -> [batch]`.
      scores: more metrics of the same form, by name.

    >>> from jaxdl import nn
    >>> loss_fn, eval_fn = supervised(
    ...     nn.MLP([10]), "image",
    ...     loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]),
    ...     scores={"accuracy": lambda logits, batch: nn.accuracy(logits, batch["label"])},
    ... )
    """

    def means(outputs: Any, batch: Batch, functions: Mapping[str, Score]) -> dict[str, Mean]:
        return {name: Mean.of(score(outputs, batch), batch.get("mask")) for name, score in functions.items()}

    def loss_fn(params: Any, model_state: Any, batch: Batch, key: jax.Array) -> tuple[Mean, tuple[Any, Any]]:
        variables = {"params": params, **model_state}
        outputs, model_state = model.apply(
            variables, batch[input_name], train=True, rngs={"dropout": key}, mutable=list(model_state)
        )
        return Mean.of(loss(outputs, batch), batch.get("mask")), (means(outputs, batch, scores), model_state)

    def eval_fn(params: Any, model_state: Any, batch: Batch) -> dict[str, Mean]:
        outputs = model.apply({"params": params, **model_state}, batch[input_name], train=False)
        return means(outputs, batch, {"loss": loss, **scores})

    return loss_fn, eval_fn
