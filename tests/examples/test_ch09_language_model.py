"""The language model learns a text, does not learn a shuffled one, and goes on with a prefix."""

import os
from pathlib import Path

import ch09_language_model
import numpy as np
import pytest

REAL = Path(os.environ.get("JAXDL_TEST_DATA") or Path(__file__).parents[2] / "../shared/data")
TINY = {"hidden_size": 32, "num_steps": 16, "batch_size": 16, "num_generated": 8, "learning_rate": 0.01}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*, generate=False, **fields):
        if not generate:  # compiling that takes longer than training
            monkeypatch.setattr(ch09_language_model, "continue_text", lambda *arguments: ("", ""))
        splits = {"train_split": "train[:8000]", "eval_split": "test[:2000]"}
        return ch09_language_model.main(ch09_language_model.Config(**{"epochs": 2, **TINY, **splits, **fields}))

    return run


def entropy_bound(text):
    """The perplexity of knowing how often each character comes, and nothing else."""
    _, counts = np.unique(list(text), return_counts=True)
    p = counts / counts.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def test_it_learns_and_goes_on_with_the_prefix(run, capsys, tmp_path):
    row = run(epochs=4, generate=True)
    text = ch09_language_model.read_text("pydoc", "test[:2000]")
    assert row["eval_perplexity"] < 0.75 * entropy_bound(text)
    assert row["eval_perplexity"] == pytest.approx(np.exp(row["eval_loss"]), rel=1e-6)
    out = capsys.readouterr().out
    assert "8,000 characters to train, 2,000 to evaluate" in out
    likeliest = out.split("the likeliest characters:\n")[1].splitlines()[0]
    assert likeliest.startswith(("'it has", '"it has'))
    (folder,) = (tmp_path / "runs").iterdir()
    assert {path.name for path in folder.iterdir()} == {"curve.png", "history.csv", "checkpoints"}


def test_a_shuffled_text_teaches_the_frequencies_at_most(run, monkeypatch):
    def shuffled(name, split):
        text = original(name, split)
        return "".join(np.random.default_rng(0).permutation(list(text)))

    original = ch09_language_model.read_text
    bound = entropy_bound(original("pydoc", "test[:2000]"))
    monkeypatch.setattr(ch09_language_model, "read_text", shuffled)
    assert run(epochs=4)["eval_perplexity"] > 0.9 * bound


@pytest.mark.parametrize(
    "fields",
    [
        {"cell": "rnn", "partition": "sequential", "strategy": "shard", "precision": "bfloat16"},
        {
            "cell": "gru",
            "strategy": "pmap",
            "precision": "float16",
            "embed_size": 8,
            "num_layers": 2,
            "dropout_rate": 0.1,
        },
    ],
    ids=["rnn", "gru"],
)
def test_the_flags_are_honoured(run, tmp_path, fields):
    text = {"train_split": "train[:1200]", "eval_split": "test[:300]"}
    row = run(epochs=1, log_dir=tmp_path / "log", plot=tmp_path / "curve.pdf", **text, **fields)
    assert 1 < row["eval_perplexity"] < 100
    assert ("train_skipped" in row) == (fields.get("precision") == "float16")
    assert (tmp_path / "curve.pdf").is_file()
    assert list((tmp_path / "log").iterdir())


@pytest.mark.slow
def test_it_resumes_with_the_state_it_carried(run, tmp_path):
    fields = {"partition": "sequential", "train_split": "train[:1200]", "eval_split": "test[:300]", "cell": "lstm"}
    whole = run(epochs=2, **fields)  # 4 batches an epoch
    run(epochs=1, checkpoint_dir=tmp_path / "ck", **fields)
    resumed = run(epochs=2, checkpoint_dir=tmp_path / "ck", resume=True, **fields)
    assert {k: v for k, v in resumed.items() if "second" not in k} == {
        k: v for k, v in whole.items() if "second" not in k
    }


def test_pmap_and_micro_batches_refuse_a_carried_state(run):
    with pytest.raises(ValueError, match="per-example state 'carry'; use shard_step"):
        run(partition="sequential", strategy="pmap")
    with pytest.raises(ValueError, match="'carry' cannot be split into micro-batches"):
        run(partition="sequential", accumulate=2)


@pytest.mark.skipif(
    not (REAL / "timemachine/timemachine.txt").is_file(),
    reason="needs The Time Machine: set JAXDL_TEST_DATA to a folder that has timemachine/timemachine.txt",
)
def test_the_books_text_and_recipe(run, monkeypatch):
    monkeypatch.setenv("JAXDL_DATA", str(REAL))
    text = ch09_language_model.read_text("time_machine", "train")
    assert len(text) == 173_428
    assert len(set(text)) == 27  # the book counts <unk> too
    assert ch09_language_model.read_text("time_machine", "train[:10032]") == text[:10032]
    splits = {"train_split": "train[:288]", "eval_split": "train[256:600]"}
    book = {"cell": "lstm", "partition": "overlapping", "optimizer": "sgd", "num_steps": 32, "batch_size": 128}
    row = run(data="time_machine", learning_rate=4.0, epochs=1, accumulate=2, **splits, **book)
    assert row["step"] == 2  # 256 windows
    assert row["eval_perplexity"] < 29


def test_flags_that_make_no_sense_are_refused(run):
    for fields, message in (
        ({"prefix": ""}, "prefix: expected at least one character, got none"),
        ({"num_generated": 0}, "num_generated: expected at least 1, got 0"),
        ({"temperature": 0.0}, "temperature: expected a positive number, got 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            ch09_language_model.Config(**fields)
    with pytest.raises(ValueError, match=r"prefix: expected characters of the training text, got \['é'\]"):
        run(prefix="é", epochs=1)
