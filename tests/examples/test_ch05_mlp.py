"""Three ways to write an MLP train the same network; it learns, and on shuffled labels it does not."""

import ch05_mlp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

IMPLEMENTATIONS = ("concise", "scratch", "manual")


def config(**fields):
    return ch05_mlp.Config(**{"epochs": 1, "hidden": (32, 16), "sigma": 0.1, "train_split": "train[:256]", **fields})


def test_the_activations_at_the_books_points():
    """sigmoid'(0) = 0.25 is its maximum, tanh'(0) = 1, ReLU'(0) = 0 by convention."""
    at = {name: jax.vmap(jax.grad(f))(jnp.array([-2.0, 0.0, 2.0])) for name, f in ch05_mlp.ACTIVATIONS.items()}
    np.testing.assert_array_equal(at["ReLU"], [0, 0, 1])
    np.testing.assert_array_equal(at["pReLU (slope 0.25)"], [0.25, 0.25, 1])
    np.testing.assert_allclose(at["sigmoid"], [0.104994, 0.25, 0.104994], rtol=1e-5)
    np.testing.assert_allclose(at["tanh"], [0.0706508, 1, 0.0706508], rtol=1e-5)


def test_all_end_at_the_same_parameters(tmp_path):
    """After 8 steps; the gradients of our own merge over micro-batches and devices as well.

    Weights are at most about 0.5, where float32 rounds by 3e-8: the tolerance is 160 roundings.
    """
    cases = [{"implementation": name} for name in IMPLEMENTATIONS]
    cases.append({"implementation": "manual", "strategy": "pmap", "accumulate": 2})
    ends, losses = [], []
    for i, fields in enumerate(cases):
        state, history = ch05_mlp.train(config(**fields), tmp_path / str(i))
        ends.append(jax.tree.leaves(state.params))
        losses.append(history["eval_loss"][-1])
    for end, loss in zip(ends, losses, strict=True):
        assert loss == pytest.approx(losses[0], rel=1e-5)
        for leaf, first in zip(end, ends[0], strict=True):
            np.testing.assert_allclose(leaf, first, atol=5e-6)
    assert losses[0] < np.log(10)


def test_it_learns_and_leaves_its_record(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    row = ch05_mlp.main(ch05_mlp.Config(epochs=4, implementation="manual"))
    assert row["eval_accuracy"] > 0.85
    assert "203,530" in capsys.readouterr().out
    (folder,) = (tmp_path / "runs").iterdir()
    assert {p.name for p in folder.iterdir()} == {"activations.png", "curve.png", "history.csv", "checkpoints"}


def test_shuffled_labels_teach_nothing(tmp_path, monkeypatch):
    def shuffled(name, split):
        arrays = original(name, split)
        if split.startswith("train"):
            arrays["label"] = np.random.default_rng(0).permutation(arrays["label"])
        return arrays

    original = ch05_mlp.images_and_labels
    monkeypatch.setattr(ch05_mlp, "images_and_labels", shuffled)
    _, history = ch05_mlp.train(ch05_mlp.Config(epochs=4, implementation="manual"), tmp_path)
    assert history["eval_accuracy"][-1] < 0.3


def test_half_precision_computes_so_and_stays_near_float32(tmp_path):
    """A bfloat16 has 8 bits: losses of about 2.3 agree to 0.01."""
    losses = {}
    for implementation, precision in (("concise", "float32"), ("scratch", "float16"), ("manual", "bfloat16")):
        fields = {"implementation": implementation, "precision": precision}
        state, history = ch05_mlp.train(config(**fields), tmp_path / precision)
        losses[precision] = history["eval_loss"][-1]
        assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    assert len(set(losses.values())) == 3
    assert list(losses.values()) == pytest.approx([losses["float32"]] * 3, abs=0.01)


def test_the_weights_of_a_mask_count_in_the_manual_gradients():
    """An example of weight 2 counts as two, one of weight 0 as none."""
    grad_fn = jax.jit(ch05_mlp.manual(config(implementation="manual")))
    params = ch05_mlp.init_layers(jax.random.key(0), (6, 5, 3), 0.5)
    image, label = jax.random.normal(jax.random.key(1), (4, 6)), jnp.array([0, 2, 1, 0])
    batch = {"image": image, "label": label, "mask": jnp.array([1.0, 2.0, 1.0, 0.0])}
    rows = jnp.array([0, 1, 1, 2])
    repeated = {"image": image[rows], "label": label[rows]}
    weighted, expected = (grad_fn(params, {}, b, jax.random.key(2))[0] for b in (batch, repeated))
    assert weighted.loss.count == 4
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), weighted, expected)


def test_it_resumes(tmp_path):
    fields = {"checkpoint_dir": tmp_path / "ck", "implementation": "manual"}
    ch05_mlp.train(config(**fields), tmp_path)
    state, history = ch05_mlp.train(config(epochs=2, resume=True, **fields), tmp_path)
    assert (int(state.step), len(history)) == (16, 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"implementation": "manual", "precision": "float16"}, "precision: float16 scales the loss"),
        ({"hidden": (4, 0)}, r"hidden: expected widths of at least 1, got \(4, 0\)"),
        ({"sigma": -1.0}, "sigma: expected 0 or more, got -1.0"),
        ({"epochs": 0}, "epochs: expected at least 1"),
    ],
)
def test_what_cannot_be_honoured_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        config(**fields)
