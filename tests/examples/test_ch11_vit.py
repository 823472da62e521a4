"""The vision transformer learns digits, not shuffled labels; its strategies agree; its pictures show what they say."""

from dataclasses import replace

import ch11_vit
import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import experiment, nn, training

TINY = {"features": 16, "num_heads": 2, "num_blocks": 2}
FEW = {"train_split": "train[:128]", "eval_split": "test[:64]"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda **fields: ch11_vit.main(ch11_vit.Config(**{"epochs": 1, **fields}))


def test_it_leaves_its_record(run, tmp_path, capsys):
    row = run(**TINY, **FEW)
    assert row["step"] == 2
    out = capsys.readouterr().out
    assert f"accuracy {row['eval_accuracy']:.4f}, with the positions of the patches shuffled" in out
    (folder,) = (tmp_path / "runs").iterdir()
    names = {"curve.png", "positions.png", "attention.png", "history.csv", "checkpoints"}
    assert {path.name for path in folder.iterdir()} == names


@pytest.mark.parametrize("strategies", [("tensor",), pytest.param(("pmap", "shard", "fsdp"), marks=pytest.mark.slow)])
def test_every_strategy_takes_the_same_steps(x64, strategies):
    """In float64, two steps of SGD: on eight devices as on one, to 1e-12. The script's clip would hide a scale."""
    random = np.random.default_rng(0)
    batch = {
        "image": random.normal(size=(16, 4, 4, 1)),
        "label": random.integers(0, 10, 16).astype(np.int32),
        "mask": np.r_[np.ones(13), np.zeros(3)],
    }
    optimizer = optax.sgd(0.5)
    config = ch11_vit.Config(**TINY, dropout_rate=0.0)
    model = ch11_vit.make_model(config, 10).clone(dtype=None)  # of the parameters
    loss_fn, _ = training.supervised(
        model, "image", loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]), scores={}
    )

    def init(key):
        return jax.tree.map(lambda x: x.astype(jnp.float64), model.init(key, batch["image"][:1]))

    start, ends = experiment.init_state(init, optimizer, config), {}
    for strategy in ("single", *strategies):
        config = replace(config, strategy=strategy)
        step = experiment.make_step(loss_fn, optimizer, config)
        compiled = experiment.compile_step(step, config, tensor_parallel=nn.STACKED_TENSOR_PARALLEL)
        state = compiled.place_state(start)
        for _ in range(2):
            state, _ = compiled(state, compiled.place_batch(batch))
        if strategy == "tensor":  # by heads and by hidden units, never by blocks
            blocks = state.params["encoder"]["blocks"]
            for kernel, shape in (
                (blocks["attention"]["query"]["kernel"], (2, 16, 8)),
                (blocks["attention"]["out"]["kernel"], (2, 8, 16)),
                (blocks["feed_forward"]["hidden"]["kernel"], (2, 16, 16)),
            ):
                assert kernel.sharding.shard_shape(kernel.shape) == shape
        ends[strategy] = jax.device_get(state.params)
    assert not np.allclose(start.params["class_token"], ends["single"]["class_token"], atol=1e-3)
    for end in ends.values():
        chex.assert_trees_all_close(end, ends["single"], rtol=0, atol=1e-12)


def test_the_flags_are_honoured(run, tmp_path, monkeypatch):
    monkeypatch.setattr(ch11_vit, "draw_attention", lambda *arguments: None)  # it has a test of its own
    files = {"checkpoint_dir": tmp_path / "ck", "plot": tmp_path / "curve.pdf", "log_dir": tmp_path / "log"}
    row = run(strategy="tensor", precision="float16", accumulate=2, **files, **TINY, **FEW)
    assert row["step"] == 2
    assert np.isfinite(row["eval_loss"])
    assert "train_skipped" in row
    assert (tmp_path / "curve.pdf").is_file()
    assert list((tmp_path / "log").iterdir())


def test_only_kernels_decay():
    """With no gradient AdamW moves what decays, and nothing else."""
    config = ch11_vit.Config(**TINY)
    model = ch11_vit.make_model(config, 10)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)))["params"]
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    optimizer = ch11_vit.make_optimizer(config, 5)  # too few for a warm-up
    zeros = jax.tree.map(np.zeros_like, params)
    updates = jax.jit(lambda params: optimizer.update(zeros, optimizer.init(params), params)[0])(params)
    names = {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf).any()
             for path, leaf in jax.tree_util.tree_leaves_with_path(updates)}  # fmt: skip
    assert {name for name, moved in names.items() if moved} == {name for name in names if name.endswith("kernel")}
    assert {"class_token", "positions/embedding", "norm/scale", "encoder/blocks/feed_forward/hidden/bias"} < set(names)


def test_shares_of_patches_follow_the_blocks():
    """Against the product of the blocks' matrices in float64; with blocks that add nothing, nothing is reached."""
    model = ch11_vit.make_model(ch11_vit.Config(**TINY), 10)
    images = np.random.default_rng(0).random((2, 4, 6, 1)).astype(np.float32)
    params = jax.jit(model.init)(jax.random.key(0), images)["params"]
    looked = ch11_vit.class_attention(model, params, images)
    assert looked.shape == (2, 2, 3)
    sown = jax.jit(lambda params: model.apply({"params": params}, images, mutable=["intermediates"])[1])(params)
    (weights,) = sown["intermediates"]["encoder"]["blocks"]["attention"]["attention_weights"]
    assert weights.shape == (2, 2, 2, 7, 7)  # [blocks, images, heads, tokens, tokens]
    for i in range(2):
        first, second = ((np.asarray(block, np.float64) + np.eye(7)) / 2 for block in weights[:, i].mean(1))
        want = (second @ first)[0, 1:]
        np.testing.assert_allclose(looked[i].ravel(), want, rtol=1e-5)


def test_pictures_show_classes_and_positions(tmp_path, monkeypatch):
    figures = []
    original = ch11_vit.plotting.figure
    monkeypatch.setattr(ch11_vit.plotting, "figure", lambda *size: figures.append(original(*size)) or figures[-1])
    table = np.array([[9.0, 9.0], [3.0, 4.0], [0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
    params = {"positions": {"embedding": table}}  # of the class token and six patches
    images = np.zeros((3, 4, 6, 1), np.float32)
    images[0] = 3
    ch11_vit.draw_positions(params, images, 2, tmp_path / "positions.png")
    average, lengths = (axes.images[0].get_array() for axes in figures[0].axes[:2])
    np.testing.assert_array_equal(average, np.ones((4, 6)))
    np.testing.assert_array_equal(lengths, [[5, 0, 1], [2, 0, 0]])

    monkeypatch.setattr(ch11_vit, "class_attention", lambda model, params, images: np.arange(3.0).reshape(3, 1, 1))
    arrays = {"image": images, "label": np.array([7, 4, 7])}
    ch11_vit.draw_attention(None, params, arrays, tmp_path / "attention.png")
    panels = figures[1].axes[:4]
    assert [axes.get_title() for axes in panels] == ["4", "7", "", ""]
    assert [float(axes.images[0].get_array().mean()) for axes in panels] == [0, 1.5, 1, 1]
    assert all((tmp_path / f"{name}.png").is_file() for name in ("positions", "attention"))


def test_bad_flags(run):
    with pytest.raises(ValueError, match="weight_decay: expected 0 or more, got -1"):
        ch11_vit.Config(weight_decay=-1.0)
    with pytest.raises(ValueError, match="images: expected whole patches of 3 pixels"):
        run(**TINY, **FEW, patch_size=3)
    with pytest.raises(ValueError, match="num_heads: expected a divisor of 16"):
        run(**FEW, **TINY | {"num_heads": 3})


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [False, True])
def test_it_reads_digits_unless_the_labels_are_shuffled(run, monkeypatch, shuffle):
    def shuffled(name, split):
        arrays = original(name, split)
        if shuffle and split.startswith("train"):
            arrays["label"] = np.random.default_rng(0).permutation(arrays["label"])
        return arrays

    original = ch11_vit.load
    monkeypatch.setattr(ch11_vit, "load", shuffled)
    row = run(epochs=30)
    if shuffle:
        assert row["eval_accuracy"] < 0.3
        return
    assert row["eval_accuracy"] >= 0.95
    assert row["shuffled_accuracy"] < 0.8  # it knows where the patches are
