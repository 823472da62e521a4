"""Cross-validation against scikit-learn's."""

import numpy as np
import pytest
from sklearn.model_selection import KFold

from jaxdl.data import k_fold


@pytest.mark.parametrize(("num_examples", "num_folds"), [(1460, 5), (7, 3), (4, 4), (2, 2)])
def test_folds_are_scikit_learns(num_examples, num_folds):
    ours = list(k_fold(num_examples, num_folds))
    theirs = list(KFold(num_folds).split(np.zeros(num_examples)))
    for (train, valid), (their_train, their_valid) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(train, their_train)
        np.testing.assert_array_equal(valid, their_valid)


def test_the_books_folds_have_292_examples_and_shuffling_keeps_everyone_once():
    folds = list(k_fold(1460, 5, seed=0))
    assert {len(valid) for _, valid in folds} == {292}  # D2L 5.7
    assert sorted(np.concatenate([valid for _, valid in folds])) == list(range(1460))
    assert all(not set(train) & set(valid) and len(train) == 1168 for train, valid in folds)
    assert folds[0][1].tolist() != list(range(292))
    np.testing.assert_array_equal(folds[0][1], next(k_fold(1460, 5, seed=0))[1])


@pytest.mark.parametrize("num_folds", [1, 4])
def test_folds_that_cannot_be(num_folds):
    with pytest.raises(ValueError, match=f"num_folds: expected 2 to 3, the number of examples, got {num_folds}"):
        k_fold(3, num_folds)
