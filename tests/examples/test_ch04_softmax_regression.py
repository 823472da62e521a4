"""Softmax regression learns, from scratch and concise alike; on shuffled labels it does not."""

import gzip
import struct

import ch04_softmax_regression as ch04
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import training
from jaxdl.data import DeviceData, HostData, load


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(**fields):
    return ch04.main(ch04.Config(**{"epochs": 8, **fields}))


@pytest.mark.parametrize("implementation", ["scratch", "concise"])
def test_it_learns_and_leaves_its_record(tmp_path, capsys, implementation):
    row = run(implementation=implementation)
    assert row["eval_accuracy"] > 0.9
    assert row["step"] == 8 * (1437 // 32)
    assert f"test accuracy {row['eval_accuracy']:.4f} on 360 images: the true one is 0.9" in capsys.readouterr().out
    (folder,) = (tmp_path / "runs").iterdir()
    files = {"curve.png", "history.csv", "checkpoints", "mistakes.png", "weights.png"}
    assert {path.name for path in folder.iterdir()} == files


def test_shuffled_labels_teach_nothing(monkeypatch):
    def shuffled(name, split):
        arrays = load(name, split)
        if split.startswith("train"):
            arrays["label"] = np.random.default_rng(0).permutation(arrays["label"])
        return arrays

    monkeypatch.setattr(ch04, "load", shuffled)
    assert run()["eval_accuracy"] < 0.3


def test_both_implementations_end_at_the_same_parameters(x64):
    """Float64, 20 steps of the same loop over the same batches."""
    arrays = load("digits", "train[:160]")
    data = DeviceData(arrays, 16, train=True)
    scratch, concise = ch04.scratch(10, jnp.float64), ch04.concise(10, jnp.float64)
    start = scratch.init(jax.random.key(0), arrays["image"][:1])["params"]
    starts = {scratch: start, concise: {"Dense_0": {"kernel": start["weights"], "bias": start["bias"]}}}
    ends = []
    for classifier, params in starts.items():
        optimizer = optax.sgd(0.1)
        step = training.jit_step(training.make_step(training.sum_gradients(classifier.loss_fn), optimizer))
        state = training.init_state(lambda key, params=params: {"params": params}, optimizer, jax.random.key(0))
        state, history = training.fit(step, state, data, epochs=2, progress=False)
        ends.append((state.params, history["train_accuracy"], history["train_loss"]))
    (mine, *my_history), (flax, *flax_history) = ends
    np.testing.assert_allclose(mine["weights"], flax["Dense_0"]["kernel"], atol=1e-12)
    np.testing.assert_allclose(mine["bias"], flax["Dense_0"]["bias"], atol=1e-12)
    np.testing.assert_allclose(my_history, flax_history, rtol=1e-6)
    assert np.abs(mine["weights"] - start["weights"]).max() > 0.01


@pytest.mark.parametrize(
    ("implementation", "strategy", "precision"), [("scratch", "pmap", "float16"), ("concise", "shard", "bfloat16")]
)
def test_the_flags_are_honoured(tmp_path, implementation, strategy, precision):
    plot, log_dir = tmp_path / "mine/curve.png", tmp_path / "log"
    row = run(
        implementation=implementation, strategy=strategy, precision=precision, accumulate=2, plot=plot, log_dir=log_dir
    )
    assert row["eval_accuracy"] > 0.9
    assert plot.is_file()
    assert any(log_dir.iterdir())


def test_it_resumes(tmp_path):
    fields = {"train_split": "train[:256]", "checkpoint_dir": tmp_path / "ck"}
    run(epochs=1, **fields)
    row = run(epochs=2, resume=True, **fields)
    assert row["step"] == 16


def test_fashion_mnist_has_its_class_names(tmp_path, monkeypatch):
    """Made-up files in the published format; the pictures' titles are caught on the way."""
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    labels = (np.arange(40) % 10).astype(np.uint8)
    (tmp_path / "fashion_mnist").mkdir()
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        for stem in ("train", "t10k"):
            path = tmp_path / f"fashion_mnist/{stem}-{name}-ubyte.gz"
            path.write_bytes(gzip.compress(header + array.tobytes()))
    monkeypatch.setenv("JAXDL_DATA", str(tmp_path))
    titles = []
    monkeypatch.setattr(ch04.plotting, "images", lambda images, names, *args, **kwargs: titles.append(list(names)))
    run(data="fashion_mnist", batch_size=20, epochs=1, train_split="train[:20]")
    mistakes, classes = titles
    assert classes[0] == "t-shirt"
    assert classes[9] == "ankle boot"
    assert len(classes) == 10
    true, predicted = mistakes[0].split("\n")[0].split(" → ")
    assert {true, predicted} <= set(classes)
    assert true != predicted


def test_no_mistake_is_no_picture(tmp_path, capsys):
    arrays = {"image": np.zeros((2, 8, 8, 1)), "label": np.array([0, 1])}
    ch04.draw_mistakes(arrays, np.eye(2), "digits", tmp_path / "mistakes.png")
    assert "no mistakes to draw" in capsys.readouterr().out
    assert not (tmp_path / "mistakes.png").exists()


def test_the_books_batches_an_epoch():
    """D2L 4.2: 938, 469 and 235 batches of 64, 128 and 256; our training data drops the ragged last one."""
    arrays = {"image": np.zeros((60_000, 1), np.uint8)}
    for batch_size, batches in ((64, 938), (128, 469), (256, 235)):
        for kind in (DeviceData, HostData):
            assert len(kind(arrays, batch_size, train=False)) == batches
            assert len(kind(arrays, batch_size, train=True)) == batches - 1
