"""The translator learns numbers, and from shuffled translations it does not; every flag is honoured."""

import os
from pathlib import Path

import ch10_translation
import numpy as np
import pytest

REAL = Path(os.environ.get("JAXDL_TEST_DATA") or Path(__file__).parents[2] / "../shared/data")
FEW = {"train_split": "train[:128]", "eval_split": "train[128:140]+test[:10]", "batch_size": 64}
SMALL = {"hidden_size": 16, "embed_size": 8}


def run(tmp_path, monkeypatch, **fields):
    monkeypatch.chdir(tmp_path)
    return ch10_translation.main(ch10_translation.Config(**fields))


def test_it_goes_on_under_another_strategy_and_translates(tmp_path, monkeypatch, capsys):
    fields = FEW | SMALL | {"checkpoint_dir": tmp_path / "ck", "cell": "lstm", "precision": "bfloat16"}
    with monkeypatch.context() as patch:
        patch.setattr(ch10_translation, "translate_and_print", lambda *args: None)
        run(tmp_path, monkeypatch, epochs=1, strategy="shard", **fields)
    row = run(tmp_path, monkeypatch, epochs=2, resume=True, strategy="pmap", accumulate=2, **fields)
    assert row["step"] == 4
    assert np.isfinite(row["eval_loss"])
    assert 0 <= row["eval_bleu"] <= 1
    printed = capsys.readouterr().out
    assert "Translations (beam of 4)" in printed
    assert "thousand" in printed


@pytest.mark.slow
def test_the_books_recipe(tmp_path, monkeypatch, capsys):
    """On its data where they are at hand: set JAXDL_TEST_DATA to a folder that has fra-eng/fra-eng.zip."""
    monkeypatch.setenv("JAXDL_DATA", str(REAL))
    fields = FEW | SMALL | {"precision": "float16"}
    if found := (REAL / "fra-eng/fra-eng.zip").is_file():
        fields |= {"data": "fra_eng", "eval_split": "train[512:544]"}
    row = run(tmp_path, monkeypatch, recipe="book", epochs=1, **fields)
    assert row["step"] == 2
    assert np.isfinite(row["eval_loss"])
    assert ("[je suis chez moi .]" in capsys.readouterr().out) == found


def test_bad_flags(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"split: expected slices of 'train' and 'test', got \['validation'\]"):
        run(tmp_path, monkeypatch, eval_split="validation")
    with pytest.raises(ValueError, match="beam_size: expected at least 1, got 0"):  # before training, not after it
        ch10_translation.Config(beam_size=0)


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [False, True])
def test_it_learns_unless_the_translations_are_shuffled(tmp_path, monkeypatch, shuffle):
    def shuffled(name, split):
        english, french = original(name, split)
        if shuffle and split.startswith("train"):
            french = [french[i] for i in np.random.default_rng(0).permutation(len(french))]
        return english, french

    original = ch10_translation.sentence_pairs
    monkeypatch.setattr(ch10_translation, "sentence_pairs", shuffled)
    row = run(tmp_path, monkeypatch, epochs=2)
    if shuffle:
        assert row["eval_exact_match"] < 0.01
        assert row["eval_accuracy"] < 0.6
    else:
        assert row["eval_exact_match"] > 0.9
        assert row["eval_bleu"] > 0.95
