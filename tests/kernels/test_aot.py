"""Every default of the kernels lowers for CUDA; with the extra `aot` it compiles for an H100, and well."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from interpreter import needs_pallas

from jaxdl.kernels import aot
from jaxdl.kernels.aot import Resources, read_report

AUTOTUNE = Path(__file__).parents[2] / "benchmarks" / "autotune.py"
REPORT = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'attention_forward' for 'sm_90a'
ptxas info    : Function properties for attention_forward
    32 bytes stack frame, 24 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 168 registers, used 9 barriers, 32 bytes cumulative stack size
"""
SERIALIZED = (
    "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to "
    "insufficient register resources for the wgmma pipeline in the function 'attention_forward'\n"
)


def autotune(*flags):
    """The lines, and what was said beside them."""
    settings = ("JAX_", "XLA_")  # those of the tests
    environment = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    command = [sys.executable, str(AUTOTUNE), *flags]
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=580)
    assert finished.returncode == 0, finished.stderr
    return list(map(json.loads, finished.stdout.splitlines())), finished.stderr


def problems(lines):
    return {(line["op"], line["case"], str(line["config"])): line["problem"] for line in lines if line["problem"]}


@needs_pallas
def test_every_default_lowers_for_cuda():
    lines, _ = autotune("--shipped", "--lower", "--jobs", "1")
    assert {line["op"] for line in lines} == {"forward", "dq", "dkv", "matmul", "decode"}
    assert not problems(lines)


@pytest.mark.aot
@pytest.mark.skipif(aot.refusal() is not None, reason=str(aot.refusal()))
def test_every_default_compiles_for_an_h100_without_spilling():
    lines, _ = autotune("--shipped", "--jobs", "2")
    assert {line["op"] for line in lines} == {"forward", "dq", "dkv", "matmul", "decode"}
    assert not problems(lines)
    assert all(0 < line["registers"] <= 255 and line["shared_memory"] > 1024 for line in lines)


@pytest.mark.aot
@pytest.mark.skipif(aot.refusal() is not None, reason=str(aot.refusal()))
def test_a_tile_too_large_is_dropped_and_survivors_are_printed():
    lines, said = autotune("--op", "decode", "--depth", "256", "--dropped", "--jobs", "2")
    assert "GPU" in said
    dropped = problems(lines)
    assert len(lines) == 16
    assert 0 < len(dropped) < 16
    largest = next(line for line in lines if line["config"]["block_kv"] == 256 and line["config"]["num_stages"] == 6)
    assert "shared memory" in largest["problem"]


def test_a_report_is_read(tmp_path):
    path, sizes = tmp_path / "kernel_1.ptxas", tmp_path / "kernel_0.resources.txt"
    path.write_text(REPORT)
    sizes.write_text("smem_scratch_bytes=1024\n")
    found = read_report(path, sizes)
    assert found == Resources("kernel_1", 168, 24, 1024, False)
    assert found.problem == "24 bytes of registers spilled"
    path.write_text(REPORT.replace(" 24 bytes", " 0 bytes").replace(" 8 bytes", " 0 bytes") + SERIALIZED)
    assert read_report(path, sizes).problem == "serialised wgmma"
    sizes.write_text("smem_scratch_bytes=232449\n")
    assert "232449 bytes of shared memory" in read_report(path, sizes).problem
    assert Resources("kernel", 168, 0, 232_448, False).problem is None
    path.write_text("ptxas fatal")
    with pytest.raises(ValueError, match=r"^path: expected kernel_1\.ptxas to tell registers, spilled bytes; got"):
        read_report(path, sizes)


def test_without_the_wheels_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(aot, "refusal", lambda: "not installed")
    with pytest.raises(ImportError, match=r"^h100_devices: not installed$"):
        aot.compile_for_h100(lambda x: x)
