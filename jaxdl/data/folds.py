"""Splits for cross-validation (D2L 3.6)."""

from collections.abc import Iterator

import numpy as np


def k_fold(num_examples: int, num_folds: int, *, seed: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Splits examples into folds; each fold validates once, what is left trains.

    Args:
      num_examples: how many there are.
      num_folds: K; where it does not divide the examples, the first folds have one more.
      seed: shuffles the examples first; None keeps their order, as scikit-learn's `KFold` does.

    Returns:
      K pairs of example indices, `(training, validation)`.

    Raises:
      ValueError: if `num_folds` is not between 2 and `num_examples`.

    >>> [validation.tolist() for _, validation in k_fold(5, 2)]
    [[0, 1, 2], [3, 4]]
    """
    if not 2 <= num_folds <= num_examples:
        raise ValueError(f"num_folds: expected 2 to {num_examples}, the number of examples, got {num_folds}")
    order = np.arange(num_examples) if seed is None else np.random.default_rng(seed).permutation(num_examples)
    folds = np.array_split(order, num_folds)
    return ((np.concatenate(folds[:i] + folds[i + 1 :]), fold) for i, fold in enumerate(folds))
