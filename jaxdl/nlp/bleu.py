"""BLEU (Papineni et al., 2002; D2L 10.7.6) from sums: n-grams of the predictions that their references have too."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("matches", "possible", "prediction_length", "reference_length"),
    meta_fields=("exponents",),
)
@dataclass(frozen=True)
class NgramCounts:
    """The sums that BLEU is made of; those of two batches, or two devices, merge by addition.

    BLEU of a corpus is computed from the sums of all its sentences (Papineni et al., section 2.2), so one prediction
    without a match does not make it zero. It is not the mean of the BLEU of the sentences.
    """

    matches: Any  # n-grams of order 1, 2, ... that the reference has, each at most as often as there [max_order]
    possible: Any  # n-grams of the predictions [max_order]
    prediction_length: Any  # []
    reference_length: Any  # []
    exponents: tuple[float, ...]  # of each order's precision

    @classmethod
    def of(
        cls,
        predictions: jax.Array,
        prediction_lengths: jax.Array,
        references: jax.Array,
        reference_lengths: jax.Array,
        mask: jax.Array | None = None,
        *,
        exponents: Sequence[float] = (0.5, 0.25),
    ) -> "NgramCounts":
        """Counts n-grams of padded token ids, in compiled code too.

        Args:
          predictions: integers `[batch, prediction_time]`.
          prediction_lengths: integers `[batch]`; what stands behind is padding.
          references: integers `[batch, reference_time]`, one for each prediction.
          reference_lengths: integers `[batch]`.
          mask: `[batch]`; 1 counts, 0 is padding.
          exponents: of the orders 1, 2, ...; the default is BLEU-2 of the book, `(0.25,) * 4` the paper's BLEU-4.

        Raises:
          ValueError: if a shape or dtype does not fit, or there is no exponent.
        """
        if not exponents:
            raise ValueError("exponents: expected one for each order of n-grams, got none")
        for name, tokens, lengths in (
            ("prediction", predictions, prediction_lengths),
            ("reference", references, reference_lengths),
        ):
            if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
                raise ValueError(f"{name}s: expected integers [batch, time], got {tokens.dtype}{list(tokens.shape)}")
            if lengths.shape != predictions.shape[:1] or tokens.shape[0] != predictions.shape[0]:
                raise ValueError(
                    f"{name}s: expected {predictions.shape[0]} rows and as many lengths, got {tokens.shape[0]} and "
                    f"{list(lengths.shape)}"
                )
        if mask is None:
            mask = jnp.ones(predictions.shape[0])
        if mask.shape != predictions.shape[:1]:
            raise ValueError(f"mask: expected {list(predictions.shape[:1])}, got {list(mask.shape)}")
        count = partial(_count_ngrams, orders=len(exponents))
        counts = jax.vmap(count)(predictions, prediction_lengths, references, reference_lengths)
        weights = (mask != 0).astype(jnp.float32)
        sums = (jnp.tensordot(weights, count.astype(jnp.float32), axes=1) for count in counts)
        return cls(*sums, exponents=tuple(exponents))

    def compute(self) -> Any:
        """`exp(min(0, 1 - reference_length / prediction_length)) * prod_n precision_n ^ exponent_n`, in [0, 1].

        An order that no prediction is long enough for is left out, as in the book; predictions of no token give 0.
        """
        xp = jnp if isinstance(self.matches, jax.Array) else np  # sums added on the host keep their float64
        exists = self.possible > 0
        precisions = xp.where(exists, self.matches / xp.where(exists, self.possible, 1), 1)
        length = xp.where(self.prediction_length > 0, self.prediction_length, 1)
        brevity = xp.exp(xp.minimum(0, 1 - self.reference_length / length))
        score = brevity * xp.prod(precisions ** xp.asarray(self.exponents, precisions.dtype))
        return xp.where(self.prediction_length > 0, score, 0)


def bleu(
    prediction: Sequence[Hashable], reference: Sequence[Hashable], *, exponents: Sequence[float] = (0.5, 0.25)
) -> float:
    """BLEU of one predicted sequence against one reference (D2L 10.7.6).

    Args:
      prediction: its tokens, strings or ids.
      reference: its tokens.
      exponents: of the orders 1, 2, ...; the book's are `1 / 2^n`, of which the default takes two.

    Returns:
      In [0, 1]: 1 for the reference itself, 0 if no token matches or there is no prediction.

    Raises:
      ValueError: if there is no exponent, or a string came instead of a sequence of tokens.

    Note: orders for which the prediction is too short are left out, so a right word alone scores its brevity penalty.

    >>> round(bleu("A B B C D".split(), "A B C D E F".split()), 6)
    0.681477
    """
    for name, tokens in (("prediction", prediction), ("reference", reference)):
        if isinstance(tokens, str):
            raise ValueError(f"{name}: expected a sequence of tokens, got the string {tokens!r}; split it first")
    if not exponents:
        raise ValueError("exponents: expected one for each order of n-grams, got none")
    pairs = [(_ngrams(prediction, n), _ngrams(reference, n)) for n in range(1, len(exponents) + 1)]
    return float(
        NgramCounts(
            matches=np.array([(ours & theirs).total() for ours, theirs in pairs], np.float64),
            possible=np.array([ours.total() for ours, _ in pairs], np.float64),
            prediction_length=np.float64(len(prediction)),
            reference_length=np.float64(len(reference)),
            exponents=tuple(exponents),
        ).compute()
    )


def _ngrams(tokens: Sequence[Hashable], n: int) -> Counter[tuple[Hashable, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def _count_ngrams(
    prediction: jax.Array,
    prediction_length: jax.Array,
    reference: jax.Array,
    reference_length: jax.Array,
    *,
    orders: int,
) -> tuple[jax.Array, ...]:
    """The counts of one padded pair `[prediction_time]`, `[reference_time]`, by comparing all positions."""
    matches, possible = [], []
    for n in range(1, orders + 1):
        ours, ours_real = _windows(prediction, prediction_length, n)
        theirs, theirs_real = _windows(reference, reference_length, n)
        same = jnp.all(ours[:, None] == ours[None], axis=-1) & ours_real[:, None] & ours_real[None]
        found = jnp.all(ours[:, None] == theirs[None], axis=-1) & ours_real[:, None] & theirs_real[None]
        occurrence = jnp.tril(same).sum(axis=1)  # 1 for the first occurrence of an n-gram in the prediction, 2, ...
        matches.append((ours_real & (occurrence <= found.sum(axis=1))).sum())
        possible.append(ours_real.sum())
    return jnp.stack(matches), jnp.stack(possible), prediction_length, reference_length


def _windows(tokens: jax.Array, length: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """The n-grams that begin at each position `[time, n]`, and which of them lie within the length `[time]`."""
    positions = jnp.arange(tokens.shape[0])[:, None] + jnp.arange(n)[None]
    return tokens.at[positions].get(mode="fill", fill_value=-1), positions[:, -1] < length
