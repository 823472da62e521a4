"""`benchmarks/compile_time.py`, run as a user runs it, on single layers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "compile_time.py"


def run(*flags):
    command = [sys.executable, str(SCRIPT), "--rounds", "1", "--max-wait", "0", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_special_form_is_compared_with_xlas():
    finished = run("--untuned", "--cases", "groups,tiny")
    assert finished.returncode == 0, finished.stderr
    lines = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [(line["case"], line["tuned"]) for line in lines] == [("groups", False), ("tiny", False)]
    for line in lines:
        assert line["ratio"] == pytest.approx(line["xla_s"] / line["jaxdl_s"], rel=1e-2)
        for side in ("jaxdl", "xla"):
            phases = [line[f"{side}_{phase}_s"] for phase in ("trace", "lower", "compile")]
            assert sum(phases) == pytest.approx(line[f"{side}_s"], abs=1e-3)
        assert line["jaxdl_operations"] > line["xla_operations"]


@pytest.mark.parametrize(
    ("flags", "words"), [(("--cases", "alexnet"), "got 'alexnet'"), (("--rounds", "0"), "expected at least 1, got 0")]
)
def test_errors_name_the_flag(flags, words):
    finished = run(*flags)
    assert finished.returncode == 2
    assert words in finished.stderr
