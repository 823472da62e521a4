"""The quality benchmark, run as a user runs it, on generated text and with as little work as it can do."""

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "quality.py"
TRUE = shutil.which("true") or "/bin/true"  # runs, and is no Python
TINY = ["--epochs", "2", "--seeds", "2", "--train-windows", "64", "--eval-windows", "20", "--batch-size", "16"]

# Checks what it is given, and answers without training.
FAKE_PEER = """#!{python}
import json, sys
import numpy as np
arrays = dict(np.load(sys.argv[2]))
settings = json.loads(str(arrays["settings"]))
assert arrays["train"].shape == (64, 33) and arrays["eval"].shape == (20, 33), arrays["train"].shape
assert arrays["rows"].shape == (8, 16) and len(set(arrays["rows"][:4].ravel().tolist())) == 64
assert arrays["rnn.weight_ih_l0"].shape == (3 * 32, settings["vocab_size"])
assert arrays["output.weight"].shape == (settings["vocab_size"], 32)
print(json.dumps({{"initial": 10.0, "perplexity": 5.0, "versions": {{"torch": "fake"}}}}))
"""

# Checks what it is given, and translates as the references do.
PERFECT_TRANSLATOR = """#!{python}
import json, sys
import numpy as np
arrays = dict(np.load(sys.argv[2]))
settings = json.loads(str(arrays["settings"]))
sizes = settings["sizes"]
assert (sizes["features"], sizes["hidden_size"], sizes["num_heads"], sizes["num_blocks"]) == (256, 64, 4, 2), sizes
assert settings["learning_rate"] == 0.001 and arrays["source"].max() < sizes["source_vocab_size"]
assert arrays["source"].shape == (512, 9) and arrays["eval_target"].shape == (128, 10)
assert arrays["rows"].shape == (4, 128) and len(set(arrays["rows"].ravel().tolist())) == 512
found = [row[1:n].tolist() for row, n in zip(arrays["eval_target"], arrays["eval_target_length"])]
print(json.dumps({{"translations": found, "versions": {{"torch": "fake"}}}}))
"""


@pytest.fixture
def quality(tmp_path):
    folder = tmp_path / "data" / "timemachine"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    letters = rng.choice(list("abcdefgh "), 400)
    (folder / "timemachine.txt").write_text("".join(letters))
    (tmp_path / "data" / "fra-eng").mkdir()
    sentences = [" ".join(words) for words in rng.choice(list("abcd"), (640, 3))]  # to be translated letter by letter
    pairs = [f"{sentence}\t{sentence.translate(str.maketrans('abcd', 'wxyz'))}\n" for sentence in sentences]
    (tmp_path / "data" / "fra-eng" / "fra.txt").write_text("".join(pairs))
    environment = {"PATH": "", "JAXDL_DATA": str(tmp_path / "data"), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

    def quality(*flags):
        command = [sys.executable, str(SCRIPT), *TINY, *flags]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)

    return quality


def executable(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_the_ratio_is_of_the_means(quality, tmp_path):
    peer = executable(tmp_path / "python", FAKE_PEER.format(python=sys.executable))
    finished = quality("--recipes", "gru", "--peer-python", peer)
    assert finished.returncode == 0, finished.stderr
    (line,) = map(json.loads, finished.stdout.splitlines())
    assert (line["recipe"], line["metric"], line["peer"]) == ("gru", "perplexity", 5)
    assert len(line["jaxdl_runs"]) == len(line["peer_runs"]) == 2
    assert line["jaxdl"] == pytest.approx(np.mean(line["jaxdl_runs"]), abs=1e-3)
    assert line["ratio"] == pytest.approx(line["jaxdl"] / 5, abs=1e-3)
    assert 1 < line["jaxdl"] < 20
    assert line["versions"]["peer_torch"] == "fake"


@pytest.mark.slow
def test_translations_of_the_peer_are_judged_as_ours_are(quality, tmp_path):
    peer = executable(tmp_path / "python", PERFECT_TRANSLATOR.format(python=sys.executable))
    finished = quality("--recipes", "transformer", "--seeds", "1", "--epochs", "1", "--peer-python", peer)
    assert finished.returncode == 0, finished.stderr
    (line,) = map(json.loads, finished.stdout.splitlines())
    assert (line["recipe"], line["metric"], line["peer"]) == ("transformer", "bleu", 1)
    assert 0 <= line["jaxdl"] < 1


def test_without_the_peer_ours_is_measured_and_the_reason_said(quality, tmp_path):
    # -S: without site-packages, as in an interpreter where nothing is installed.
    bare = executable(tmp_path / "python", f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    finished = quality("--recipes", "rnn", "--seeds", "1", "--peer-python", bare)
    assert finished.returncode == 0, finished.stderr
    (line,) = map(json.loads, finished.stdout.splitlines())
    assert line["peer"] is None
    assert line["ratio"] is None
    assert "No module named" in line["peer_absent"]
    assert line["jaxdl_deviation"] == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--recipes", "rnn,mlp"), "expected names out of rnn, gru, lstm, seq2seq, bahdanau, transformer; got mlp"),
        (("--seeds", "0"), "argument --seeds: expected at least 1, got 0"),
        (("--recipes", "rnn", "--seeds", "1", "--peer-python", TRUE), "ended with exit code 0 and said 'nothing'"),
        (("--peer-python", "/no/such/python"), "cannot run '/no/such/python'"),
    ],
)
def test_flags_that_cannot_be_are_refused(quality, flags, message):
    finished = quality(*flags)
    assert finished.returncode == 2
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.slow
def test_the_peer_trains_on_the_same_from_the_same_weights(quality):
    pytest.importorskip("torch")
    finished = quality("--recipes", "lstm", "--seeds", "1")
    assert finished.returncode == 0, finished.stderr
    (line,) = map(json.loads, finished.stdout.splitlines())
    assert line["initial_difference"] < 1e-5
    assert line["ratio"] == pytest.approx(1, abs=1e-3)  # eight steps: rounding has not grown


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["seq2seq", "bahdanau", "transformer"])
def test_the_peer_translates(quality, recipe):
    pytest.importorskip("torch")
    finished = quality("--recipes", recipe, "--seeds", "1", "--epochs", "8")
    assert finished.returncode == 0, finished.stderr
    (line,) = map(json.loads, finished.stdout.splitlines())
    assert line["peer_absent"] is None
    assert line["peer"] > 0.2
