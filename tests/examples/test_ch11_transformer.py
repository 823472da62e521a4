"""The transformer translates numbers and from shuffled translations learns nothing; every strategy takes its step."""

import os
from pathlib import Path

import ch10_translation
import ch11_transformer
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import experiment, nlp, nn
from jaxdl.data import english_number, french_number, sentence_vocab

REAL = Path(os.environ.get("JAXDL_TEST_DATA") or Path(__file__).parents[2] / "../shared/data")
FEW = {"train_split": "train[:128]", "eval_split": "train[128:140]+test[:10]", "batch_size": 64}
SMALL = {"features": 16, "hidden_size": 16, "num_heads": 2, "num_blocks": 1}
PICTURES = {"encoder_attention.png", "decoder_attention.png", "decoder_cross_attention.png"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the example in a folder of its own; returns the last row and the weights and names that it draws."""
    monkeypatch.chdir(tmp_path)
    drawn = {}
    original = ch11_transformer.plotting.attention_heatmaps

    def draw(weights, path, **names):
        drawn[path.stem] = (np.asarray(weights, np.float32), names["queries"], names["keys"])
        return original(weights, path, **names)

    monkeypatch.setattr(ch11_transformer.plotting, "attention_heatmaps", draw)
    return lambda **fields: (ch11_transformer.main(ch11_transformer.Config(**fields)), drawn)


def test_it_heeds_flags_and_draws_attention(tmp_path, run, capsys):
    """That it goes on from a checkpoint is shown for ch10_translation, with the same `train`."""
    fields = FEW | SMALL | {"checkpoint_dir": tmp_path / "ck", "precision": "bfloat16"}
    row, drawn = run(epochs=2, strategy="tensor", accumulate=2, **fields)
    assert row["step"] == 4
    assert (tmp_path / "ck").is_dir()
    assert np.isfinite(row["eval_loss"])
    printed = capsys.readouterr().out
    assert "Translations (beam of 4)" in printed
    assert "What a layer of 16 features costs" in printed
    *_, folder = sorted((tmp_path / "runs").iterdir())
    assert {path.name for path in folder.glob("*_attention.png")} == PICTURES
    for name, (weights, queries, keys) in drawn.items():
        assert weights.shape == (1, 2, len(queries), len(keys)), name
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-2)  # bfloat16; and nothing looks at padding
    weights, queries, keys = drawn["decoder_attention"]
    assert keys == ["<bos>", *queries[:-1]]
    assert not np.triu(weights, 1).any()
    assert drawn["encoder_attention"][2][-1] == drawn["decoder_cross_attention"][2][-1] == "<eos>"


def test_the_network_of_a_recipe():
    """The book's has norms after each layer, and dropout (11.7)."""
    arrays = [{"target": np.zeros((1, length), int)} for length in (6, 8)]
    task = ch10_translation.Task((range(5), range(6)), *arrays, ([], []), {})
    for recipe, pre_norm, rate in (("modern", True, 0.0), ("book", False, 0.2)):
        model = ch11_transformer.make_model(ch11_transformer.Config(**SMALL, recipe=recipe, precision="float16"), task)
        assert (model.pre_norm, model.dropout_rate, model.max_length) == (pre_norm, rate, 7)
        assert {name: getattr(model, name) for name in SMALL} == SMALL
        assert (model.source_vocab_size, model.target_vocab_size, model.dtype) == (5, 6, np.float16)


def test_costs_of_layers():
    """D2L 11.6: k n d^2 products for a convolution, 2 n d^2 recurrently, 4 n d^2 + 2 n^2 d for attention.

    A product is two operations. Biases and the softmax come on top, a few for each output and weight.
    """
    (n, long), d = (8, 512), 32
    costs = ch11_transformer.layer_costs(d, (n, long))
    for name, products, extra in (
        ("convolution, 3 wide", lambda n: 3 * n * d**2, lambda n: n * d),
        ("recurrent", lambda n: 2 * n * d**2, lambda n: 8 * n * d),
        ("self-attention", lambda n: 4 * n * d**2 + 2 * n**2 * d, lambda n: 12 * n**2 + 8 * n * d),
    ):
        for length, cost in zip((n, long), costs[name], strict=True):
            assert 2 * products(length) < cost <= 2 * products(length) + extra(length), name


@pytest.mark.slow
def test_the_books_recipe(monkeypatch, run, capsys):
    """On its data where they are at hand: set JAXDL_TEST_DATA to a folder that has fra-eng/fra-eng.zip."""
    monkeypatch.setenv("JAXDL_DATA", str(REAL))
    fields = FEW | SMALL | {"precision": "float16", "strategy": "pmap"}
    if found := (REAL / "fra-eng/fra-eng.zip").is_file():
        fields |= {"data": "fra_eng", "eval_split": "train[512:544]"}
    row, drawn = run(recipe="book", epochs=1, **fields)
    assert row["step"] == 2
    assert np.isfinite(row["eval_loss"])
    assert ("[je suis chez moi .]" in capsys.readouterr().out) == found
    assert len(drawn) == 3


def test_every_strategy_takes_the_same_steps(x64):
    """In float64 two steps of SGD give the parameters and the metrics of one device, to rounding."""
    rng, ends = np.random.default_rng(0), []
    lengths = {name: rng.integers(1, 6, 16) for name in ("source_length", "target_length")}
    batch = {"source": rng.integers(4, 12, (16, 5)), "target": rng.integers(4, 12, (16, 6)), **lengths}
    vocab, optimizer = sentence_vocab([list("abcdefgh")]), optax.sgd(0.1)  # 12 tokens
    task = ch10_translation.Task((vocab, vocab), batch, batch, ([], []), batch)
    inputs = batch["source"], batch["source_length"], batch["target"][:, :-1]
    model = ch11_transformer.make_model(ch11_transformer.Config(**SMALL), task).clone(dtype=jnp.float64)
    variables = jax.tree.map(lambda x: x.astype(jnp.float64), jax.jit(model.init)(jax.random.key(0), *inputs))
    for strategy, accumulate in (("single", 1), ("pmap", 2), ("shard", 1), ("fsdp", 2), ("tensor", 1)):
        config = ch11_transformer.Config(**SMALL, strategy=strategy, accumulate=accumulate)
        step = experiment.make_step(nlp.teacher_forcing(model)[0], optimizer, config)
        compiled = experiment.compile_step(step, config, tensor_parallel=nn.TENSOR_PARALLEL)
        state = compiled.place_state(experiment.init_state(lambda key, given=variables: given, optimizer, config))
        split = any(any(leaf.sharding.spec) for leaf in jax.tree.leaves(state.params) if strategy != "single")
        assert split == (strategy in ("fsdp", "tensor"))
        for _ in range(2):
            state, metrics = compiled(state, compiled.place_batch(batch))
        ends.append((strategy, jax.tree.leaves((state.params, metrics))))
    for strategy, leaves in ends[1:]:
        for ours, theirs in zip(leaves, ends[0][1], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12, err_msg=strategy)


def test_bad_flags(run):
    with pytest.raises(ValueError, match="num_blocks: expected at least 1, got 0"):
        ch11_transformer.Config(num_blocks=0)
    with pytest.raises(ValueError, match="num_heads: expected a divisor of 16 features, got 3"):
        run(**(FEW | SMALL | {"num_heads": 3}))


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [False, True])
def test_it_learns_unless_the_translations_are_shuffled(monkeypatch, run, shuffle):
    """Numbers below 1,000, of which it sees 850."""
    rng = np.random.default_rng(0)
    numbers = rng.permutation(1000).tolist()

    def below_1000(name, split):
        chosen = numbers[:850] if split == "train" else numbers[850:]
        english, french = ([word(n).split() for n in chosen] for word in (english_number, french_number))
        if shuffle and split == "train":
            french = [french[i] for i in rng.permutation(len(french))]
        return english, french

    monkeypatch.setattr(ch10_translation, "sentence_pairs", below_1000)
    row, _ = run(epochs=12, batch_size=50, features=32, hidden_size=64, num_blocks=1, learning_rate=4e-3)
    if shuffle:
        assert row["eval_exact_match"] < 0.05
        assert row["eval_accuracy"] < 0.6
        return
    assert row["eval_exact_match"] > 0.9
