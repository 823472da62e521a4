"""The generation benchmark prints a line a case and batch size, with a peer and without one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "generation.py"

# Speaks the protocol of `benchmarks/peer.py` without computing: a token takes 50 ms, and 70 in the slower variant.
FAKE_PEER = f"""#!{sys.executable}
import json, sys
def say(**message):
    print(json.dumps(message), flush=True)
say(versions={{"fake": "1"}})
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "prepare":
        assert request["num_batches"] == 4
        num_parameters = {{"generation_lstm": 300060, "generation_gpt": 808192}}[request["case"]]
        say(variants=["cell", "lstm"], failures={{}}, num_parameters=num_parameters)
    else:
        say(ms={{"cell": 70.0, "lstm": 50.0}}[request["variant"]])
"""


def generation(*flags):
    command = [sys.executable, str(SCRIPT), "--tokens", "4", "--rounds", "2", "--max-wait", "0", *flags]
    return subprocess.run([*command, "--sample-seconds", "0"], capture_output=True, text=True, timeout=120)


def python_that_is(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_the_ratio_is_ours_over_the_fastest_peer(tmp_path):
    finished = generation("--batch-sizes", "1,3", "--peer-python", python_that_is(tmp_path / "python", FAKE_PEER))
    assert finished.returncode == 0, finished.stderr
    lines = list(map(json.loads, finished.stdout.splitlines()))
    assert [(line["case"], line["batch_size"]) for line in lines] == [
        (case, size) for case in ("generation_lstm", "generation_gpt") for size in (1, 3)
    ]
    for line in lines:
        assert (line["peer"], line["peer_variant"]) == ("torch", "lstm")
        assert line["peer_tokens_per_second"] == line["batch_size"] * 20
        rates = line["jaxdl_tokens_per_second"], line["peer_tokens_per_second"]
        assert line["ratio"] == pytest.approx(rates[0] / rates[1], rel=1e-2)


def test_without_the_peer_ours_is_measured_and_the_reason_said(tmp_path):
    # -S: without site-packages, as in an interpreter where nothing is installed.
    bare = python_that_is(tmp_path / "python", f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    finished = generation("--cases", "gpt", "--batch-sizes", "2", "--peer-python", bare)
    assert finished.returncode == 0, finished.stderr
    (line,) = map(json.loads, finished.stdout.splitlines())
    assert line["jaxdl_tokens_per_second"] > 0
    assert (line["peer"], line["ratio"]) == (None, None)
    assert "torch" in line["peer_absent"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--batch-sizes", "1,0"], ["--batch-sizes", "'1,0'"]),
        (["--cases", "gpt,gru"], ["--cases", "lstm, gpt; got gru"]),
        (["--tokens", "0"], ["--tokens", "at least 1, got 0"]),
        (["--peer-python", "/nowhere/python"], ["--peer-python", "/nowhere/python"]),
    ],
)
def test_errors_name_the_flag(flags, words):
    finished = generation(*flags)
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr
    for word in words:
        assert word in finished.stderr
