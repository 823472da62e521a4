"""The main example learns, and the same run on shuffled labels does not."""

import ch07_lenet
import numpy as np
import pytest


def run(tmp_path, monkeypatch, **fields):
    monkeypatch.chdir(tmp_path)
    config = ch07_lenet.Config(**{"epochs": 4, "train_split": "train[:1024]", **fields})
    return ch07_lenet.main(config)


def test_it_learns_and_leaves_its_record(tmp_path, monkeypatch, capsys):
    row = run(tmp_path, monkeypatch)
    assert row["eval_accuracy"] > 0.85
    assert row["step"] == 64
    captured = capsys.readouterr()
    assert "61,706" in captured.out
    assert len(captured.err.splitlines()) == 5  # the header and four epochs
    (folder,) = (tmp_path / "runs").iterdir()
    assert {path.name for path in folder.iterdir()} == {"curve.png", "history.csv", "checkpoints"}
    assert (folder / "checkpoints" / "64").is_dir()


def test_shuffled_labels_teach_nothing(tmp_path, monkeypatch):
    def shuffled(name, split):
        arrays = original(name, split)
        if split.startswith("train"):
            arrays["label"] = np.random.default_rng(0).permutation(arrays["label"])
        return arrays

    original = ch07_lenet.images_and_labels
    monkeypatch.setattr(ch07_lenet, "images_and_labels", shuffled)
    assert run(tmp_path, monkeypatch)["eval_accuracy"] < 0.3


def test_the_books_recipe_and_half_precision_run(tmp_path, monkeypatch):
    row = run(tmp_path, monkeypatch, epochs=1, recipe="book", learning_rate=0.1, precision="bfloat16", accumulate=2)
    assert row["eval_loss"] == pytest.approx(np.log(10), rel=0.1)  # chance, as the script says


def test_it_resumes(tmp_path, monkeypatch):
    fields = {"train_split": "train[:256]", "checkpoint_dir": tmp_path / "ck"}
    run(tmp_path, monkeypatch, epochs=1, **fields)
    row = run(tmp_path, monkeypatch, epochs=2, resume=True, **fields)
    assert row["step"] == 8
