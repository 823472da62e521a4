"""The loss of an encoder and decoder: each target token from the source and the true tokens before it (D2L 10.7)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdl.nlp.bleu import NgramCounts
from jaxdl.nlp.generation import translate
from jaxdl.nlp.token_ids import widen, without_padding
from jaxdl.nn.losses import cross_entropy
from jaxdl.training.metrics import Mean
from jaxdl.training.step import Batch, EvalFn, LossFn

UNMATCHED = -1  # in the place of <unk> in a reference: no id of a prediction is equal to it


def teacher_forcing(model: nn.Module, *, eos_id: int = 3, unk_id: int | None = 1) -> tuple[LossFn, EvalFn]:
    """Makes the `LossFn` and the `EvalFn` of a model such as `Seq2Seq`.

    A batch has the arrays of `jaxdl.data.encode_pairs`: `source`, `source_length`, `target` (`<bos>`, the tokens,
    `<eos>`, padding) and `target_length`, how many of `target[:, 1:]` count. The loss is the cross-entropy of tokens,
    and tokens are what is counted: `sum(loss * weight) / sum(weight)`. `mask` `[batch]`, if there, weighs the rows.

    Training reports the accuracy of tokens under teacher forcing. Evaluation also translates by greedy search, in the
    same compiled call, and reports

    - `bleu`: BLEU-2 of the corpus, as `NgramCounts`, without `<eos>`;
    - `exact_match`: the share of pairs whose translation is the target to the last token.

    Args:
      model: called as `model.apply(variables, source, source_length, target[:, :-1], train=...)`; has the methods
        `encode` and `decode_step`. Dropout gets the step's key.
      eos_id: of the target's vocabulary.
      unk_id: where the reference has it, no prediction is right: the word it stands for is not known. None if there is
        no such token.

    Raises:
      ValueError: when traced, if the target is not integers `[batch, time + 1]`, or its length is not `[batch]`.
    """

    def scores(logits: jax.Array, batch: Batch) -> tuple[Mean, Mean]:
        """Loss and accuracy of the tokens."""
        labels, weights = widen(batch["target"])[:, 1:], _weights(batch)
        labels = jnp.where(weights != 0, labels, 0)  # padding may be any id
        right = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
        return Mean.of(cross_entropy(logits, labels), weights), Mean.of(right, weights)

    def loss_fn(params: Any, model_state: Any, batch: Batch, key: jax.Array) -> tuple[Mean, tuple[Any, Any]]:
        _check_target(batch)
        logits, model_state = model.apply(
            {"params": params, **model_state},
            batch["source"],
            batch["source_length"],
            _inputs(batch),
            train=True,
            rngs={"dropout": key},
            mutable=list(model_state),
        )
        loss, accuracy = scores(logits, batch)
        return loss, ({"accuracy": accuracy}, model_state)

    def eval_fn(params: Any, model_state: Any, batch: Batch) -> dict[str, Any]:
        _check_target(batch)
        variables = {"params": params, **model_state}
        source = batch["source"], batch["source_length"]
        logits: Any = model.apply(variables, *source, _inputs(batch))
        loss, accuracy = scores(logits, batch)

        limit = batch["target"].shape[1] - 1
        found = translate(model, variables, *source, batch["target"][:, 0], max_length=limit, eos_id=eos_id)
        labels, lengths = widen(batch["target"])[:, 1:], batch["target_length"]
        if unk_id is not None:
            labels = jnp.where(labels == unk_id, UNMATCHED, labels)
        real = jnp.arange(labels.shape[1])[None] < lengths[:, None]
        right = (found.lengths == lengths) & jnp.all((found.tokens == labels) | ~real, axis=1)
        words, reference_words = (
            n - jnp.any((tokens == eos_id) & (jnp.arange(labels.shape[1])[None] < n[:, None]), axis=1).astype(n.dtype)
            for tokens, n in ((found.tokens, found.lengths), (labels, lengths))
        )
        mask = batch.get("mask")
        return {
            "loss": loss,
            "accuracy": accuracy,
            "bleu": NgramCounts.of(found.tokens, words, labels, reference_words, mask),
            "exact_match": Mean.of(right.astype(jnp.float32), mask),
        }

    return loss_fn, eval_fn


def _inputs(batch: Batch) -> jax.Array:
    """What the decoder reads."""
    return without_padding(batch["target"][:, :-1], batch["target_length"])


def _weights(batch: Batch) -> jax.Array:
    """Of each target token `[batch, time]`."""
    steps = batch["target"].shape[1] - 1
    weights = (jnp.arange(steps)[None] < batch["target_length"][:, None]).astype(jnp.float32)
    return weights * batch["mask"].astype(jnp.float32)[:, None] if "mask" in batch else weights


def _check_target(batch: Batch) -> None:
    target, lengths = batch["target"], batch["target_length"]
    if target.ndim != 2 or target.shape[1] < 2 or not jnp.issubdtype(target.dtype, jnp.integer):
        raise ValueError(
            "target: expected integers [batch, time + 1], <bos> and at least one token, "
            f"got {target.dtype}{list(target.shape)}"
        )
    if lengths.shape != target.shape[:1] or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(
            f"target_length: expected integers [{target.shape[0]}], got {lengths.dtype}{list(lengths.shape)}"
        )
