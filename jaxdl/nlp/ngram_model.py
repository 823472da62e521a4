"""n-gram language models by counting (D2L 9.3.1): Laplace smoothing, and backing off to shorter contexts."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

Distribution = Callable[[Sequence[int]], np.ndarray]  # context -> [vocab_size], float64, adds up to 1


class NGramModel:
    """How often each token followed each context of up to `order - 1` tokens, and two estimates made from that.

    `laplace` and `backoff` give the distribution of the next token; `losses` scores a text under either.

    Args:
      tokens: ids of the text to learn from `[time]`, in [0, vocab_size).
      vocab_size: number of ids.
      order: 1 for unigrams, 2 for bigrams, 3 for trigrams ...

    Raises:
      ValueError: if there are no tokens, an id is outside the vocabulary, or `order` or `vocab_size` is below 1.

    >>> model = NGramModel([0, 1, 0, 1, 0, 2], vocab_size=3, order=2)
    >>> model.laplace([0], strengths=(1, 1)).round(3)  # (n(0, x) + P(x)) / (n(0) + 1)
    array([0.119, 0.583, 0.298])
    """

    def __init__(self, tokens: ArrayLike, vocab_size: int, order: int = 3):
        for name, number in (("vocab_size", vocab_size), ("order", order)):
            if number < 1:
                raise ValueError(f"{name}: expected at least 1, got {number}")
        self.vocab_size = vocab_size
        self.order = order
        ids = self._ids("tokens", tokens)
        if not ids:
            raise ValueError("tokens: expected at least one to learn from, got none")
        self._followers: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for i, token in enumerate(ids):
            for length in range(min(order, i + 1)):
                self._followers[tuple(ids[i - length : i])][token] += 1

    def count(self, context: Sequence[int]) -> np.ndarray:
        """How often each token followed the context, int64 `[vocab_size]`; of no context, how often it occurs.

        The sum is the number of times that something followed the context: the occurrence at the very end of the text
        does not count, where the book's `n(x)` counts it. So every estimate adds up to 1.
        """
        counts = np.zeros(self.vocab_size, np.int64)
        followers = self._followers.get(tuple(context), {})
        counts[list(followers)] = list(followers.values())
        return counts

    def laplace(self, context: Sequence[int], *, strengths: Sequence[float] | None = None) -> np.ndarray:
        """Laplace smoothing, the three formulas of D2L 9.3.1 and on in the same way.

            P(x)           = (n(x) + e1 / vocab_size) / (n + e1)
            P(x' | x)      = (n(x, x') + e2 P(x')) / (n(x) + e2)
            P(x'' | x, x') = (n(x, x', x'') + e3 P(x'')) / (n(x, x') + e3)

        Args:
          context: the tokens before; of a longer one the last `order - 1`, of a shorter one all.
          strengths: e1, e2, ... of each order, 0 or more; default 1 each. 0 is the plain frequency; towards infinity
            unigrams become uniform and longer n-grams fall back on unigrams.

        Returns:
          Float64 `[vocab_size]`.

        Raises:
          ValueError: if the strengths are not `order` numbers of 0 or more, an id is outside the vocabulary, or the
            strength is 0 and the context never occurred.
        """
        strengths = (1.0,) * self.order if strengths is None else strengths
        if len(strengths) != self.order or not all(strength >= 0 for strength in strengths):
            raise ValueError(f"strengths: expected {self.order} numbers of 0 or more, got {list(strengths)}")
        context = self._last(context)
        counts = self.count(())
        unigram = (counts + strengths[0] / self.vocab_size) / (counts.sum() + strengths[0])
        if not context:
            return unigram
        counts, strength = self.count(context), strengths[len(context)]
        if counts.sum() + strength == 0:
            raise ValueError(f"context: {list(context)} never occurred, so its strength must be above 0")
        return (counts + strength * unigram) / (counts.sum() + strength)

    def backoff(self, context: Sequence[int], *, discount: float = 0.5) -> np.ndarray:
        """Backing off (Katz, 1987) with an absolute discount (Ney, Essen and Kneser, 1994).

        A follower that was seen gets `(n - discount) / n(context)`. What the discount saves goes to those that were
        never seen, in proportion to their probability after the context without its first token. A context that never
        occurred hands over to the shorter one; below unigrams stands the uniform distribution.

        Args:
          context: as for `laplace`.
          discount: in (0, 1).

        Returns:
          Float64 `[vocab_size]`, all above 0 (unless every token of the vocabulary was seen, where nothing is saved).

        Raises:
          ValueError: if the discount is not in (0, 1), or an id is outside the vocabulary.
        """
        if not 0 < discount < 1:
            raise ValueError(f"discount: expected a number in (0, 1), got {discount}")
        context = self._last(context)
        shorter = self.backoff(context[1:], discount=discount) if context else self._uniform()
        counts = self.count(context)
        seen = counts > 0
        if not seen.any() or seen.all():
            return counts / counts.sum() if seen.any() else shorter
        left = discount * seen.sum() / counts.sum()
        return np.where(seen, (counts - discount) / counts.sum(), left * shorter / shorter[~seen].sum())

    def losses(self, tokens: ArrayLike, distribution: Distribution) -> np.ndarray:
        """`-log P` of each token after those before it, in nats; `nlp.perplexity` of it scores the model.

        Args:
          tokens: ids `[time]`.
          distribution: `model.laplace`, `model.backoff`, or either with other strengths.

        Returns:
          Float64 `[time]`; infinite where the distribution gives 0.

        Raises:
          ValueError: if an id is outside the vocabulary.
        """
        ids = self._ids("tokens", tokens)
        likelihoods = [distribution(ids[max(0, i - self.order + 1) : i])[token] for i, token in enumerate(ids)]
        with np.errstate(divide="ignore"):
            return -np.log(np.array(likelihoods, np.float64))

    def _uniform(self) -> np.ndarray:
        return np.full(self.vocab_size, 1 / self.vocab_size)

    def _last(self, context: Sequence[int]) -> tuple[int, ...]:
        """The part of a context that the model looks at."""
        ids = self._ids("context", context)
        return tuple(ids[max(0, len(ids) - self.order + 1) :])

    def _ids(self, name: str, tokens: ArrayLike) -> list[int]:
        ids = np.asarray(tokens)
        if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
            raise ValueError(f"{name}: expected integers [time], got {ids.dtype}{list(ids.shape)}")
        if ids.size and not (ids.min() >= 0 and ids.max() < self.vocab_size):
            bad = ids[(ids < 0) | (ids >= self.vocab_size)][0]
            raise ValueError(f"{name}: expected ids in [0, {self.vocab_size}), got {bad}")
        return ids.tolist()
