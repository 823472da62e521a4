"""The chapter's numbers (CHECKLIST 22.1, 22.2): the script compares the exact ones."""

import ch22_geometry
import numpy as np
import pytest

from jaxdl.data import load


def test_the_script(tmp_path):
    figures = ch22_geometry.main(ch22_geometry.Config(folder=tmp_path / "pictures"))
    assert figures["their angle"] == pytest.approx(0.418990, abs=5e-7)
    assert figures["determinant of [[1, -1], [2, 3]]"] == pytest.approx(5)
    assert figures["stretch"] == pytest.approx(figures["greatest eigenvalue"], rel=1e-6)  # seed 0: real
    assert figures["accuracy"] > 0.97
    assert figures["perceptron_accuracy"] > 0.97
    assert 0 < figures["corrections"] <= figures["bound"] < 1e3
    assert figures["xor_mistakes_in_the_last_pass"] > 0
    assert figures["pca_error"] < 1e-4
    assert figures["variance in 2"] == pytest.approx(0.285, abs=0.01)  # scikit-learn on all digits: 0.285
    files = {"components.png", "eigenvalues.png", "hyperplanes.png"}
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == files


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_an_iterated_matrix_stretches_by_its_greatest_eigenvalue(x64, seed):
    """Of a real eigenvalue in each step, of a complex pair on average."""
    stretches, figures = ch22_geometry.iterated_map(ch22_geometry.Config(seed=seed))
    assert figures["stretch"] == pytest.approx(figures["greatest eigenvalue"], rel=0.01)
    assert 0.1 < figures["change"] < 10
    assert stretches.shape == (100,)


def test_a_threshold_of_ones_own_and_swapped_labels(tmp_path, monkeypatch):
    """Everything on one side is half right; what learned the wrong names is wrong. (Shuffled labels leave a direction
    of chance, along which zeros and ones, so far apart, still lie on different sides: all right or all wrong.)"""
    none = ch22_geometry.hyperplane(ch22_geometry.Config(threshold=-1e9), tmp_path)
    labels = load("digits", "test")["label"]
    assert none["accuracy"] == pytest.approx((labels == 1).sum() / (labels < 2).sum())

    def swapped(name, split):
        arrays = load(name, split)
        label = arrays["label"]
        return arrays | {"label": np.where(label < 2, 1 - label, label)} if split == "train" else arrays

    monkeypatch.setattr(ch22_geometry, "load", swapped)
    wrong = ch22_geometry.hyperplane(ch22_geometry.Config(), tmp_path)
    assert max(wrong["accuracy"], wrong["perceptron_accuracy"]) < 0.1
