"""The architectures are the book's; the script trains under every strategy, and shuffled labels teach nothing."""

import csv
from typing import get_args

import ch08_modern_cnn as example
import jax
import numpy as np
import pytest

from jaxdl import nn

COUNTS = {  # one channel, ten classes; of ResNeXt-50 32x4d, 25,028,904 with 3 channels and 1000 classes
    "lenet": 61_706,
    "batch_norm_lenet": 44_878,
    "alexnet": 46_764_746,
    "vgg11": 128_806_154,
    "nin": 1_992_166,
    "googlenet": 5_977_530,
    "resnet18": 11_178_378,
    "densenet": 758_226,
    "regnetx": 179_290,
}


def variables(size, name):
    pixels = 32 if size == "small" else example.FULL[name][1]
    model = example.make_model(example.Config(model=name, size=size), 10)
    return jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, pixels, pixels, 1), "float32"))


@pytest.mark.parametrize("name", COUNTS)
def test_full_networks_have_the_books_number_of_parameters(name):
    assert nn.parameter_count(variables("full", name)) == COUNTS[name]


@pytest.mark.parametrize("name", [name for name in example.SMALL if name != "resnext"])
def test_small_networks_have_the_same_layers(name):
    full, small = (jax.tree.structure(variables(size, name)) for size in ("full", "small"))
    assert full == small


def test_the_flag_names_every_architecture():
    assert list(get_args(example.ModelName)) == list(example.SMALL) == list(example.FULL)


def run(tmp_path, monkeypatch, **fields):
    monkeypatch.chdir(tmp_path)
    defaults = {"model": "batch_norm_lenet", "epochs": 3, "train_split": "train[:1024]"}
    return example.main(example.Config(**{**defaults, **fields}))


def test_it_learns_and_leaves_its_record(tmp_path, monkeypatch, capsys):
    row = run(tmp_path, monkeypatch)
    assert row["eval_accuracy"] > 0.85
    assert row["step"] == 96
    # At 32 pixels, 400 features go into the first dense layer instead of 256.
    assert row["parameters"] == 44_878 + (400 - 256) * 120
    assert f"accuracy {row['eval_accuracy']:.4f}, 62,158 parameters" in capsys.readouterr().out
    (folder,) = (tmp_path / "runs").iterdir()
    assert {path.name for path in folder.iterdir()} == {"curve.png", "history.csv", "checkpoints"}
    with open(folder / "history.csv") as file:
        rates = [float(line["examples_per_second"]) for line in csv.DictReader(file)]
    assert row["seconds_per_epoch"] == pytest.approx(1024 / np.median(rates))


def test_shuffled_labels_teach_nothing(tmp_path, monkeypatch):
    def shuffled(split, config):
        arrays = original(split, config)
        if split.startswith("train"):
            arrays["label"] = np.random.default_rng(0).permutation(arrays["label"])
        return arrays

    original = example.images_and_labels
    monkeypatch.setattr(example, "images_and_labels", shuffled)
    assert run(tmp_path, monkeypatch)["eval_accuracy"] < 0.3


def test_pmap_normalises_over_the_whole_batch(tmp_path, monkeypatch):
    """Eight devices with eight images each take the statistics of all 64, so the losses are those of one device.

    With statistics of eight images each, they differ by more than 0.1.
    """
    fields = {"train_split": "train[:256]", "batch_size": 64, "epochs": 1}
    one, eight = (run(tmp_path, monkeypatch, strategy=strategy, **fields) for strategy in ("single", "pmap"))
    assert eight["train_loss"] == pytest.approx(one["train_loss"], rel=1e-4)
    assert eight["eval_loss"] == pytest.approx(one["eval_loss"], rel=1e-3)


def test_it_resumes_with_the_other_flags(tmp_path, monkeypatch):
    fields = {"model": "lenet", "pixels": 28, "precision": "bfloat16", "accumulate": 2, "strategy": "shard"}
    fields |= {
        "train_split": "train[:256]",
        "checkpoint_dir": tmp_path / "ck",
        "plot": tmp_path / "curve.png",
        "log_dir": tmp_path / "log",
    }
    first = run(tmp_path, monkeypatch, epochs=1, **fields)
    second = run(tmp_path, monkeypatch, epochs=2, resume=True, **fields)
    assert (first["step"], second["step"]) == (8, 16)
    assert first["parameters"] == 61_706
    assert (tmp_path / "curve.png").exists()
    assert list((tmp_path / "log").iterdir())


def test_pixels_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="pixels: expected at least 1, got 0"):
        example.Config(pixels=0)
    with pytest.raises(ValueError, match=r"images: expected .*at least 16 x 16"):
        run(tmp_path, monkeypatch, pixels=8)
