"""The translator learns numbers and looks where it should; from shuffled translations it learns neither."""

import os
from pathlib import Path

import ch10_translation
import ch11_bahdanau
import jax
import numpy as np
import pytest

from jaxdl import nlp, nn

REAL = Path(os.environ.get("JAXDL_TEST_DATA") or Path(__file__).parents[2] / "../shared/data")
FEW = {"train_split": "train[:128]", "eval_split": "train[128:140]+test[:10]", "batch_size": 64}
SMALL = {"hidden_size": 16, "embed_size": 8}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the example in a folder of its own; returns the last row and what it draws."""
    monkeypatch.chdir(tmp_path)
    drawn = []
    original = ch11_bahdanau.plotting.attention_heatmaps

    def draw(weights, path, **names):
        drawn.append((np.asarray(weights, np.float32), names["keys"], names["queries"]))
        return original(weights, path, **names)

    monkeypatch.setattr(ch11_bahdanau.plotting, "attention_heatmaps", draw)
    return lambda **fields: (ch11_bahdanau.main(ch11_bahdanau.Config(**fields)), drawn)


def test_it_heeds_flags_and_draws_attention(tmp_path, run, capsys):
    """Going on from a checkpoint, under another strategy too, is ch10_translation's."""
    fields = FEW | SMALL | {"checkpoint_dir": tmp_path / "ck", "cell": "lstm", "precision": "bfloat16"}
    row, drawn = run(epochs=1, strategy="fsdp", accumulate=2, **fields)
    assert row["step"] == 2
    assert (tmp_path / "ck" / "2").is_dir()
    assert np.isfinite(row["eval_loss"])
    printed = capsys.readouterr().out
    assert "Translations (beam of 4)" in printed
    assert len([*tmp_path.glob("runs/ch11_bahdanau_*/attention.png")]) == 1
    weights, keys, queries = drawn[-1]
    assert weights.shape[:2] == (1, 4)
    assert any("thousand" in words for words in keys)
    for matrix, english, french in zip(weights[0], keys, queries, strict=True):
        assert english[-1] == "<eos>"
        assert len(french) <= len(matrix)
        np.testing.assert_allclose(matrix[:, : len(english)].sum(-1), 1, atol=1e-2)  # bfloat16
        assert not matrix[:, len(english) :].any()


def test_the_network_of_a_recipe():
    """The book's has two layers and dropout (11.4)."""
    for recipe, cell, recurrence, layers, rate in (
        ("modern", "gru", nn.GRU, 1, 0.0),
        ("book", "lstm", nn.LSTM, 2, 0.2),
    ):
        config = ch11_bahdanau.Config(recipe=recipe, cell=cell, precision="float16", embed_size=8, hidden_size=16)
        model = ch11_bahdanau.make_model(config, (range(5), range(6)))
        assert (model.source_vocab_size, model.target_vocab_size) == (5, 6)
        assert (model.embed_size, model.hidden_size, model.num_layers, model.dropout_rate) == (8, 16, layers, rate)
        assert (model.recurrence, model.dtype) == (recurrence, np.float16)


@pytest.mark.slow
def test_the_books_recipe(monkeypatch, run, capsys):
    """On its data where they are at hand: set JAXDL_TEST_DATA to a folder that has fra-eng/fra-eng.zip."""
    monkeypatch.setenv("JAXDL_DATA", str(REAL))
    fields = FEW | SMALL | {"precision": "float16"}
    if found := (REAL / "fra-eng/fra-eng.zip").is_file():
        fields |= {"data": "fra_eng", "eval_split": "train[512:544]"}
    row, drawn = run(recipe="book", epochs=1, **fields)
    assert row["step"] == 2
    assert np.isfinite(row["eval_loss"])
    assert ("[je suis chez moi .]" in capsys.readouterr().out) == found
    assert drawn[0][0].shape[:2] == (1, 4)


def test_each_row_is_where_the_decoder_looks_before_that_token():
    """Against decoding what was found one token at a time."""
    ids = np.random.default_rng(0).integers(4, 12, (3, 6))
    arrays = {"source": ids[:, :5], "source_length": np.array([5, 3, 4]), "target": np.full((3, 6), 2)}
    model = nlp.AttentionSeq2Seq(12, 12, 4, 8, 1)
    variables = jax.jit(model.init)(jax.random.key(0), ids[:, :5], arrays["source_length"], ids)

    @jax.jit
    def decode(state, tokens):
        return model.apply(variables, state, tokens[:, None], method="decode", mutable=["intermediates"])

    found = ch10_translation.translate(model, variables["params"], arrays, beam_size=2)
    sown = ch11_bahdanau.attention(model, variables["params"], arrays, found.tokens)
    weights = sown["decoder"]["attention_weights"][0]
    assert weights.shape == (3, 5, 5)
    assert len(np.unique(found.tokens)) > 2
    state = model.apply(variables, arrays["source"], arrays["source_length"], method="encode")
    tokens = np.full(3, 2)
    for t in range(5):
        (_, state), sown = decode(state, tokens)
        row = sown["intermediates"]["decoder"]["attention_weights"][0][:, 0]
        np.testing.assert_allclose(weights[:, t], row, atol=1e-5)
        tokens = found.tokens[:, t]


def test_bad_flags(run):
    with pytest.raises(ValueError, match=r"split: expected slices of 'train' and 'test', got \['validation'\]"):
        run(eval_split="validation")
    with pytest.raises(ValueError, match="strategy: this model has no rules for 'tensor'"):
        run(strategy="tensor", **FEW, **SMALL)
    with pytest.raises(ValueError, match="hidden_size: expected at least 1, got 0"):
        ch11_bahdanau.Config(hidden_size=0)


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [False, True])
def test_it_learns_unless_the_translations_are_shuffled(monkeypatch, run, shuffle):
    def shuffled(name, split):
        english, french = original(name, split)
        if shuffle and split.startswith("train"):
            french = [french[i] for i in np.random.default_rng(0).permutation(len(french))]
        return english, french

    original = ch10_translation.sentence_pairs
    monkeypatch.setattr(ch10_translation, "sentence_pairs", shuffled)
    row, drawn = run(epochs=1)
    if shuffle:
        assert row["eval_exact_match"] < 0.01
        assert row["eval_accuracy"] < 0.6
        return
    assert row["eval_exact_match"] >= 0.97
    weights, keys, queries = drawn[0]
    for matrix, english, french in zip(weights[0], keys, queries, strict=True):
        words = len(french) - 1  # at <eos> nothing is left to be read, and it looks anywhere
        looked_at = matrix[:words, : len(english)].argmax(-1)
        assert np.all(np.diff(looked_at) >= 0)  # it reads on as it writes
        assert looked_at[-1] == len(english) - 2  # up to the last word
