"""The kernel benchmark runs whole in the interpreter, says what fails, and does not mind that there is no GPU."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kernels.py"

needs_pallas = pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="the Pallas kernels need jax 0.11")


def run(*flags):
    return subprocess.run([sys.executable, str(SCRIPT), *flags], capture_output=True, text=True, timeout=300)


@needs_pallas
def test_all_of_it_runs_tiny_in_the_interpreter(tmp_path):
    path = tmp_path / "results" / "lines.jsonl"
    finished = run("--op", "attention,matmul,decode", "--interpret", "--json", str(path))
    assert finished.returncode == 0, finished.stderr
    lines = list(map(json.loads, finished.stdout.splitlines()))
    assert lines == list(map(json.loads, path.read_text().splitlines()))
    assert not [line["failed"] for line in lines if "failed" in line]
    assert all(line["correct"] for line in lines)
    checked, timed = lines[:3], lines[3:]
    assert [line["op"] for line in checked] == ["attention", "matmul", "decode"]
    directions = [(line["op"], line["direction"]) for line in timed]
    assert sorted(directions) == [
        ("attention", "backward"), ("attention", "forward"), ("decode", "forward"), ("matmul", "forward"),
    ]  # fmt: skip
    for line in timed:
        assert line["jaxdl_ms"] > 0
        assert line["versions"]["jax"] == jax.__version__
        share = "share_of_copy" if line["op"] == "decode" else "share_of_peak"
        assert line[share] > 0
        if line["op"] == "matmul":
            assert line["ratio"] == pytest.approx(line["peer_ms"]["cublas"] / line["jaxdl_ms"], rel=1e-2)
        else:
            assert line["ratio"] is None
            assert {"cudnn", "torch"} <= set(line["peer_failures"])


def test_without_a_gpu_it_says_so_and_ends_well():
    finished = run("--op", "decode")
    assert finished.returncode == 0
    assert finished.stdout == ""
    assert "nothing was measured: the Pallas kernels need" in finished.stderr


WORKER = """
import math, os, time
from accelerator import Worker
if __name__ == "__main__":
    with Worker("cpu") as worker:
        print(worker.call(math.sqrt, -1.0, limit=60))
        print(worker.call(os._exit, 1, limit=60))
        print(worker.call(time.sleep, 60, limit=1))
        print(worker.call(math.sqrt, 4.0, limit=60))
"""


def test_a_call_that_fails_dies_or_hangs_costs_no_other():
    finished = subprocess.run([sys.executable, "-c", WORKER], cwd=SCRIPT.parent, capture_output=True, text=True)
    failed, died, hung, fine = finished.stdout.splitlines()
    assert "ValueError" in failed
    assert died == "{'failed': 'its process died'}"
    assert hung == "{'failed': 'no answer within 1 s'}"
    assert fine == "2.0"


def test_flags_are_checked():
    for flags, words in ((["--op", "attention,conv"], "'conv'"), (["--rounds", "0"], "at least 1, got 0")):
        finished = run(*flags)
        assert finished.returncode == 2
        assert "Traceback" not in finished.stderr
        assert words in finished.stderr
