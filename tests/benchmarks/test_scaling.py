"""The scaling benchmark prints what it promises, on two fake devices and a tiny batch."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scaling.py"


def test_a_line_for_each_strategy_and_number_of_devices():
    flags = ["--batch-size", "16", "--seconds", "0", "--fake-devices", "2"]
    environment = {"PATH": "", "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run([sys.executable, SCRIPT, *flags], capture_output=True, text=True, check=True, env=environment)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["strategy"], line["devices"]) for line in lines] == [
        ("jit", 1),
        *((name, n) for n in (1, 2) for name in ("pmap", "data parallel", "fully sharded")),
    ]
    for line in lines:
        alone = next(other for other in lines if other["strategy"] == line["strategy"])
        efficiency = line["examples_per_second"] / alone["examples_per_second"] / line["devices"]
        assert abs(line["efficiency"] - efficiency) < 0.01
        assert line["compile_s"] > 0
