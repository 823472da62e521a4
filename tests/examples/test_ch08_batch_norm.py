"""Signals and gradients as the theory of wide networks says; what learns with batch normalisation and not without."""

import ch08_batch_norm as example
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.vision import BatchNormLeNet

DEPTH, WIDTH, SEEDS = 12, 64, 6


def config(**fields):
    return example.Config(**{"epochs": 1, "train_split": "train[:256]", "depth": 3, "width": 16, **fields})


@pytest.fixture(scope="module")
def profiles():
    """At the first weights, on standard normal inputs."""
    images = jax.random.normal(jax.random.key(0), (256, 8, 8, 1))
    labels = jnp.arange(256) % 10

    def at_first(normalise):
        model = example.DeepNetwork(10, DEPTH, WIDTH, normalise)
        init = jax.jit(model.init)
        return [example.profile(model, init(jax.random.key(seed), images), images, labels) for seed in range(SEEDS)]

    return {example.WITHOUT: at_first(False), example.WITH: at_first(True)}


@pytest.mark.parametrize("name", [example.WITHOUT, example.WITH])
def test_a_layer_multiplies_by_what_the_theory_says(profiles, name):
    """In mean square a layer of n units strays by a variance of 5 / n from layer to layer (ReLU), half of it in norm.

    The factor of one network is the mean of 11 such layers (10 for the gradient): a standard deviation of
    sqrt(5 / 64) / 2 / sqrt(11) = 0.042, a sixth network's mean 0.017, of which 4 are allowed. Finite batches and widths
    differ from the theory by about 1 / n more.
    """
    found = np.mean([np.log(example.layer_factors(each)) for each in profiles[name]], axis=0)
    np.testing.assert_allclose(found, np.log(example.THEORY[name]), atol=4 * 0.017 + 1 / WIDTH)


def test_normalised_outputs_have_the_deviation_of_a_normal_variable_behind_relu(profiles):
    signal = np.mean([each.signal for each in profiles[example.WITH]], axis=0)
    np.testing.assert_allclose(signal, np.sqrt(1 / 2 - 1 / (2 * np.pi)), rtol=0.05)


def test_the_profile_is_that_of_the_gradients_and_outputs():
    """Two layers written out."""
    images, labels = jax.random.normal(jax.random.key(0), (8, 3, 2, 1)), jnp.arange(8) % 4
    model = example.DeepNetwork(4, 2, 5, False)
    variables = model.init(jax.random.key(1), images)

    def loss(kernel):
        layers = variables["params"]
        h1 = jax.nn.relu(images.reshape(8, 6) @ kernel)
        h2 = jax.nn.relu(h1 @ layers["Dense_1"]["kernel"])
        logits = h2 @ layers["Dense_2"]["kernel"]
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
        return -picked.mean(), (h1, h2)

    gradient, outputs = jax.grad(loss, has_aux=True)(variables["params"]["Dense_0"]["kernel"])
    found = example.profile(model, variables, images, labels)
    np.testing.assert_allclose(found.signal, [np.asarray(h).std() for h in outputs], rtol=1e-5)
    np.testing.assert_allclose(found.gradient[0], np.linalg.norm(gradient), rtol=1e-5)


def test_the_script_reports_and_draws(tmp_path, monkeypatch, capsys):
    """At the high rate only the normalised LeNet learns."""
    monkeypatch.chdir(tmp_path)
    flags = config(epochs=3, train_split="train", plot=tmp_path / "new" / "b.png", checkpoint_dir=tmp_path / "ck")
    figures = example.main(flags)
    assert figures["lenet/with/1/accuracy"] > 0.85
    assert figures["lenet/without/1/accuracy"] < 0.3
    assert flags.plot.stat().st_size > 20_000
    printed = capsys.readouterr().out
    assert f"{figures['deep/with/first/gradient']:.3f} (1.211)" in printed
    gamma, beta = ([figures[f"lenet/{letter}/{i}"] for i in range(6)] for letter in ("gamma", "beta"))
    assert f"{gamma[0]:7.3f} {gamma[1]:7.3f}" in printed
    assert 0 < np.std(gamma) < 1 > np.std(beta) > 0
    runs = {
        "plain_3_layers",
        "normalised_3_layers",
        "lenet_0.1",
        "lenet_1",
        "batch_norm_lenet_0.1",
        "batch_norm_lenet_1",
    }
    (folder,) = (tmp_path / "runs").iterdir()
    assert {path.name for path in folder.iterdir()} == {path.name for path in (tmp_path / "ck").iterdir()} == runs


def test_shuffled_labels_teach_nothing(tmp_path, monkeypatch):
    def shuffled(name, split):
        arrays = original(name, split)
        if split.startswith("train"):
            arrays["label"] = np.random.default_rng(0).permutation(arrays["label"])
        return arrays

    original = example.images_and_labels
    monkeypatch.setattr(example, "images_and_labels", shuffled)
    flags = config(epochs=3, train_split="train")
    assert example.train("x", BatchNormLeNet(), 1.0, flags, tmp_path)[2]["eval_accuracy"][-1] < 0.3


def test_every_strategy_takes_the_statistics_of_the_whole_batch(tmp_path):
    model = example.DeepNetwork(10, 3, 16, True)
    losses = {}
    for strategy in ("single", "pmap", "shard"):
        flags = config(strategy=strategy, batch_size=32)
        _, last, history = example.train("x", model, 0.1, flags, tmp_path / strategy)
        losses[strategy] = history["train_loss"] + history["eval_loss"]
        mean = jax.device_get(last.model_state["batch_stats"]["BatchNorm_2"]["mean"])
        assert mean.shape == (16,)
    assert losses["pmap"] == pytest.approx(losses["single"], rel=1e-4)
    assert losses["shard"] == pytest.approx(losses["single"], rel=1e-4)


def test_it_resumes_with_the_other_flags(tmp_path):
    fields = {"precision": "bfloat16", "accumulate": 2, "checkpoint_dir": tmp_path / "ck", "log_dir": tmp_path / "log"}
    model = example.DeepNetwork(10, 3, 16, True, dtype="bfloat16")
    example.train("x", model, 0.1, config(**fields), tmp_path / "one")
    _, last, history = example.train("x", model, 0.1, config(epochs=2, resume=True, **fields), tmp_path / "two")
    assert (int(last.step), len(history)) == (8, 2)
    assert list((tmp_path / "log" / "x").iterdir())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"high_learning_rate": 0.1}, "high_learning_rate: expected more than the learning rate of 0.1, got 0.1"),
        ({"depth": 1}, "depth: expected at least 2, got 1"),
        ({"width": 0}, "width: expected at least 1, got 0"),
    ],
)
def test_flags_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        config(**fields)
