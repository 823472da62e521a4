"""The example counts what the formulas say, and its kernels are right and its races found where there is Pallas."""

import json
import os
import subprocess
import sys
from pathlib import Path

import ch13_pallas_kernels
import jax
import pytest

HAS_PALLAS = jax.__version_info__ >= (0, 11)
SCRIPT = """
import json, sys, ch13_pallas_kernels as example
metrics = example.main(example.Config(size=16, plot=example.Path(sys.argv[1])))
print(json.dumps(metrics))
"""


def test_the_walk(tmp_path):
    """In a process of its own: a race leaves a simulated GPU behind."""
    folder = str(Path(ch13_pallas_kernels.__file__).parent)
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["PYTHONPATH"] = os.pathsep.join([folder, str(Path(folder).parent)])
    picture = tmp_path / "new" / "loads.png"
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, picture],
        capture_output=True,
        text=True,
        env=environment,
        timeout=200,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    *lines, last = run.stdout.splitlines()
    metrics = json.loads(last)
    assert picture.stat().st_size > 10_000
    assert metrics["largest_count_gap"] == 0
    assert metrics["loads_saved"] == 16
    if not HAS_PALLAS:
        assert "kernels are skipped: interpret: the Pallas kernels need jax 0.11" in lines[-1]
        assert "races_found" not in metrics
        return
    assert metrics["races_found"] == 2
    assert metrics["vector_add_error"] == 0
    assert metrics["window_sum_error"] < 9 * 9 * 5 * 2**-24  # sums of 9 numbers of up to 5 in float32
    assert metrics["tiled_matmul_error"] < 1e-4  # sums of 192 products in float32
    (commit,) = (line for line in lines if "copy_smem_to_gmem(out_smem" in line)
    assert commit.strip().startswith("read  by line")


def test_a_report_without_a_race_has_no_accesses():
    assert ch13_pallas_kernels.accesses_of("ValueError: Not all copies completed, read of nothing, file.py:3") == []


@pytest.mark.parametrize("size", [0, 2, 48])
def test_sizes_are_powers_of_2(size):
    with pytest.raises(ValueError, match=f"size: expected a power of 2 of at least 4, got {size}"):
        ch13_pallas_kernels.Config(size=size)
