"""The benchmark scripts, run as a user runs them, with as little work as they can do."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TRUE = shutil.which("true") or "/bin/true"  # runs, and is no Python
KEYS = {"case", "jaxdl_ms", "peer", "peer_ms", "ratio", "p20_ratio", "compile_s", "versions"}

# Speaks the protocol of `benchmarks/peer.py` without computing: a step takes 50 ms, and 70 in the slower variant.
FAKE_PEER = """#!{python}
import json, sys
def say(**message):
    print(json.dumps(message), flush=True)
say(versions={{"python": "3", "fake": "1"}})
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "prepare":
        say(variants=["slow", "fast"], failures={{"broken": "no compiler"}}, num_parameters={num_parameters})
    else:
        say(ms={{"slow": 70.0, "fast": 50.0}}[request["variant"]])
"""


def run(script, *flags):
    command = [sys.executable, str(BENCHMARKS / script), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def train_step(*flags):
    return run(
        "train_step.py", "--cases", "mlp", "--rounds", "2", "--sample-seconds", "0.01", "--max-wait", "0", *flags
    )


def executable(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_the_ratio_is_the_fastest_peer_over_ours(tmp_path):
    peer = executable(tmp_path / "python", FAKE_PEER.format(python=sys.executable, num_parameters=203_530))
    finished = train_step("--peer-python", peer, "--steps-per-call", "1")
    assert finished.returncode == 0, finished.stderr
    (line,) = map(json.loads, finished.stdout.splitlines())
    assert line.keys() >= KEYS
    assert (line["case"], line["peer"], line["peer_variant"], line["peer_ms"]) == ("mlp", "torch", "fast", 50)
    assert line["peer_trial_ms"] == {"slow": 70, "fast": 50}
    assert line["peer_failures"] == {"broken": "no compiler"}
    assert line["ratio"] == pytest.approx(50 / line["jaxdl_ms"], rel=1e-2, abs=1e-3)
    assert line["p20_ratio"] == pytest.approx(50 / line["jaxdl_p20_ms"], rel=1e-2, abs=1e-3)
    assert line["steps_per_call"] == 1
    assert line["num_parameters"] == 203_530
    assert line["compile_s"] > 0
    assert {"python", "jax", "jaxlib", "flax", "peer_python", "peer_fake"} == line["versions"].keys()


def test_without_the_peer_ours_is_measured_and_the_reason_said(tmp_path):
    # -S: without site-packages, as in an interpreter where nothing is installed.
    bare = executable(tmp_path / "python", f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    finished = train_step("--peer-python", bare)
    assert finished.returncode == 0, finished.stderr
    (line,) = map(json.loads, finished.stdout.splitlines())
    assert line.keys() >= KEYS
    assert line["jaxdl_ms"] > 0
    assert line["jaxdl_trial_ms"].keys() == {"1", "10"}
    assert [line[key] for key in ("peer", "peer_ms", "ratio", "p20_ratio")] == [None] * 4
    assert "torch" in line["peer_absent"]


def test_a_peer_of_another_size_is_refused(tmp_path):
    peer = executable(tmp_path / "python", FAKE_PEER.format(python=sys.executable, num_parameters=7))
    finished = train_step("--peer-python", peer)
    assert finished.returncode == 2
    assert "--peer-python" in finished.stderr
    assert "its mlp has 7 parameters, ours 203,530" in finished.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--cases", "mlp,resnet50"], ["--cases", "'resnet50'", "lenet"]),
        (["--peer-python", "/nowhere/python"], ["--peer-python", "/nowhere/python", "No such file"]),
        (["--peer-python", TRUE], ["--peer-python", TRUE, "exit code 0"]),
        (["--steps-per-call", "0"], ["--steps-per-call", "'0'"]),
        (["--steps-per-call", "7"], ["--steps-per-call", "divisors of the 20 batches", "'7'"]),
    ],
)
def test_errors_name_the_flag(flags, words):
    finished = train_step(*flags)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert "Traceback" not in finished.stderr
    for word in words:
        assert word in finished.stderr


@pytest.mark.skipif(not os.environ.get("PEER_PYTHON"), reason="PEER_PYTHON names no Python that has torch")
def test_the_torch_worker():
    finished = train_step("--peer-python", os.environ["PEER_PYTHON"])
    (line,) = map(json.loads, finished.stdout.splitlines())
    assert line["peer"] == "torch"
    assert "eager" in line["peer_trial_ms"]
    assert "peer_torch" in line["versions"]


def test_fit_overhead_compiles_nothing_while_it_measures():
    flags = ["--cases", "mlp", "--examples", "4096", "--rounds", "1", "--sample-seconds", "0", "--max-wait", "0"]
    finished = run("fit_overhead.py", *flags)
    assert finished.returncode == 0, finished.stderr
    (line,) = map(json.loads, finished.stdout.splitlines())
    assert line["recompilations"] == 0
    rates = line["fit_examples_per_second"], line["bare_examples_per_second"]
    assert line["ratio"] == pytest.approx(rates[0] / rates[1], rel=1e-2)
