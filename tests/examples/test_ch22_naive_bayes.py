"""Naive Bayes learns digits and, where the files are, MNIST; from shuffled labels it learns nothing."""

import os
from pathlib import Path

import ch22_naive_bayes
import numpy as np
import pytest
from sklearn.naive_bayes import BernoulliNB

REAL = Path(os.environ.get("JAXDL_TEST_DATA") or Path(__file__).parents[2] / "../shared/data")


def run(tmp_path, **fields):
    return ch22_naive_bayes.main(ch22_naive_bayes.Config(plot=tmp_path / "new" / "picture.png", **fields))


def test_digits(tmp_path):
    figures = run(tmp_path)
    assert figures["eval_accuracy"] > 0.85
    assert figures["log_of_a_product"] == pytest.approx(-1805.2267, abs=5e-5)
    assert figures["product"] == 0
    pixels, labels = ch22_naive_bayes.binary_images("digits", "train")
    assert set(np.unique(pixels)) == {0, 1}
    reference = BernoulliNB().fit(pixels, labels).score(*ch22_naive_bayes.binary_images("digits", "test"))
    assert figures["eval_accuracy"] == pytest.approx(reference, abs=1 / 360)
    assert (tmp_path / "new" / "picture.png").stat().st_size > 10_000


def test_shuffled_labels_teach_nothing(tmp_path, monkeypatch):
    def shuffled(name, split):
        pixels, labels = original(name, split)
        return pixels, np.random.default_rng(0).permutation(labels) if split == "train" else labels

    original = ch22_naive_bayes.binary_images
    monkeypatch.setattr(ch22_naive_bayes, "binary_images", shuffled)
    assert run(tmp_path)["eval_accuracy"] < 0.3


def test_strong_smoothing_forgets_the_pixels(tmp_path):
    assert run(tmp_path, smoothing=1e9)["eval_accuracy"] < 0.3


@pytest.mark.skipif(
    not (REAL / "mnist/t10k-images-idx3-ubyte.gz").is_file(),
    reason="needs the MNIST test files: set JAXDL_TEST_DATA to a folder that has them in mnist/",
)
def test_mnist(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDL_DATA", str(REAL))
    figures = run(tmp_path, data="mnist", train_split="test[:8000]", eval_split="test[8000:]")
    assert figures["eval_accuracy"] > 0.8
