"""The loss of a language model: each token from those before it (D2L 9.3)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdl.nlp.perplexity import Perplexity
from jaxdl.nlp.token_ids import check_lengths, without_padding
from jaxdl.nn.losses import cross_entropy
from jaxdl.training.metrics import Mean
from jaxdl.training.step import Batch, EvalFn, LossFn


def next_token_prediction(model: nn.Module) -> tuple[LossFn, EvalFn]:
    """Makes the `LossFn` and the `EvalFn` of a language model; both report the perplexity.

    A batch holds `tokens`, integers `[batch, num_steps + 1]`, as `data.random_partition` and its like give it: the
    model sees all but the last column and predicts all but the first. What counts are tokens, not sequences. `mask`
    `[batch]`, if there, is the weight of each row; `length` `[batch]`, if there, how many targets each row has, the
    others being padding; `is_first` `[batch]`, if there, is given to a model that carries its state.

    Args:
      model: called as `model.apply(variables, tokens, train=...)`, returns logits `[batch, num_steps, vocab]` and a
        state, which is not used; dropout gets the step's key. Such as `RNNLanguageModel`.

    Raises:
      ValueError: when traced, if the tokens are not integers `[batch, num_steps + 1]` of at least 2 columns, or mask or
        length are not `[batch]`.

    >>> from jaxdl import nn
    >>> from jaxdl.nlp import RNNLanguageModel
    >>> loss_fn, eval_fn = next_token_prediction(RNNLanguageModel(28, nn.GRU(32)))
    """

    def losses(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Of each predicted token its loss and its weight, `[batch, num_steps]`."""
        losses = cross_entropy(logits, _real(batch["tokens"][:, 1:], batch))
        weights = jnp.ones_like(losses)
        if "mask" in batch:
            weights *= batch["mask"].astype(weights.dtype)[:, None]
        if "length" in batch:
            targets = jnp.arange(losses.shape[1])
            weights *= (targets[None] < batch["length"][:, None]).astype(weights.dtype)
        return losses, weights

    def loss_fn(params: Any, model_state: Any, batch: Batch, key: jax.Array) -> tuple[Mean, tuple[Any, Any]]:
        carried = {}
        if getattr(model, "carry_state", False):  # which padding must not reach
            arguments = {"is_first": "is_first", "lengths": "length"}
            carried = {argument: batch[name] for argument, name in arguments.items() if name in batch}
        (logits, _), model_state = model.apply(
            {"params": params, **model_state},
            _inputs(batch),
            **carried,
            train=True,
            rngs={"dropout": key},
            mutable=list(model_state),
        )
        found = losses(logits, batch)
        return Mean.of(*found), ({"perplexity": Perplexity.of(*found)}, model_state)

    def eval_fn(params: Any, model_state: Any, batch: Batch) -> dict[str, Any]:
        logits, _ = model.apply({"params": params, **model_state}, _inputs(batch), train=False)
        found = losses(logits, batch)
        return {"loss": Mean.of(*found), "perplexity": Perplexity.of(*found)}

    return loss_fn, eval_fn


def _inputs(batch: Batch) -> jax.Array:
    tokens = batch["tokens"]
    if tokens.ndim != 2 or tokens.shape[1] < 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(
            "tokens: expected integers [batch, num_steps + 1] with at least 2 columns, "
            f"got {tokens.dtype}{list(tokens.shape)}"
        )
    rows, columns = tokens.shape
    if "mask" in batch and jnp.shape(batch["mask"]) != (rows,):
        raise ValueError(f"mask: expected [{rows}], got {list(jnp.shape(batch['mask']))}")
    if "length" in batch:
        check_lengths("length", batch["length"], rows, columns - 1)
    return _real(tokens[:, :-1], batch)


def _real(tokens: jax.Array, batch: Batch) -> jax.Array:
    """Padding may be any id."""
    if "length" in batch:
        tokens = without_padding(tokens, batch["length"])
    if "mask" in batch:
        tokens = without_padding(tokens, jnp.where(batch["mask"] != 0, tokens.shape[1], 0))
    return tokens
