"""What the script claims holds: equal outputs, a step that runs without its code. Times are never asserted."""

import ast
import contextlib
import io
import os
import subprocess
import sys

import ch13_compilation
import jax
import numpy as np
import pytest
from jax import export

from jaxdl import training

TINY = {"rounds": 2, "calls": 2, "size": 32, "matmuls": 2, "steps": 3}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One tiny run: its folder, figures and report."""
    folder = tmp_path_factory.mktemp("ch13") / "run"
    with contextlib.redirect_stdout(io.StringIO()) as report:
        figures = ch13_compilation.main(ch13_compilation.Config(**TINY, folder=folder))
    return folder, figures, report.getvalue()


def test_the_report_answers_each_section_with_what_was_measured(run):
    folder, figures, report = run
    for words in (
        "13.1",
        "eager",
        "ahead of time",
        "13.2",
        "block_until_ready",
        "13.3",
        "together",
        "copy_to_host_async",
    ):
        assert words in report
    for name in ("eager_ms", "jit_ms", "lower_ms", "compile_ms", "returned_ms", "read_ms", "small_in_turn_ms"):
        assert f"{figures[name]:.3f} ms" in report
    assert all(np.isfinite(value) and value >= 0 for value in figures.values())
    assert figures["finished_ms"] > figures["returned_ms"] > 0
    assert figures["flops"] > 2 * 64 * (2 * 64 * 32 + 3 * 32 * 10)  # all products; none for the gradient of the images
    assert {path.name for path in folder.iterdir()} >= {"step.exported", "times.png"}


def test_jit_computes_what_eager_does(run):
    assert run[1]["jit_difference"] < 1e-6


def test_a_benchmark_keeps_the_fastest_round_a_call(monkeypatch):
    clock = iter([0.0, 3.0, 3.0, 4.0, 4.0, 6.0])
    monkeypatch.setattr(ch13_compilation.time, "perf_counter", lambda: next(clock))
    figures = {}
    for _ in range(3):
        with ch13_compilation.benchmark(figures, "x_ms", calls=10):
            pass
    assert figures == {"x_ms": 100.0}


def test_the_chain_of_products_is_a_power():
    x = ch13_compilation.random_matrix(8)
    np.testing.assert_allclose(ch13_compilation.power(x, 5), np.linalg.matrix_power(np.asarray(x), 5), atol=1e-5)


def test_the_process_without_the_code_trained_as_jit_step_does(run):
    folder, figures, _ = run
    assert figures["reload_difference"] <= 1e-6
    assert figures["last_loss"] < figures["first_loss"]

    step, state, batch = ch13_compilation.training_step()
    compiled = training.jit_step(step)
    state, batch = compiled.place_state(state), compiled.place_batch(batch)
    for _ in range(TINY["steps"]):
        state, _ = compiled(state, batch)
    expected = jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))
    with np.load(folder / "reloaded.npz") as reloaded, np.load(folder / "state.npz") as before:
        assert len(before) == len(expected)
        assert not np.array_equal(reloaded["arr_0"], before["arr_0"])
        for ours, theirs in zip(expected, reloaded.values(), strict=True):
            np.testing.assert_allclose(theirs, ours, atol=1e-6)


def test_the_exported_step_needs_arrays_only(run):
    modules = {
        alias.name.split(".")[0] if isinstance(node, ast.Import) else node.module.split(".")[0]
        for node in ast.walk(ast.parse(ch13_compilation.RELOAD))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert modules == {"sys", "jax", "numpy"}
    exported = export.deserialize(bytearray((run[0] / "step.exported").read_bytes()))
    (leaves, batch), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    assert type(leaves) is list
    assert {name: x.shape for name, x in batch.items()} == {"image": (64, 8, 8, 1), "label": (64,)}
    assert all(np.issubdtype(x.dtype, np.number) for x in leaves)  # the key, too


def test_as_a_script_it_has_two_devices(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    flags = [f"--{name}={value}" for name, value in TINY.items()]
    command = [sys.executable, ch13_compilation.__file__, *flags, f"--folder={tmp_path}"]
    report = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "on cpu:0 and one on cpu:1" in report


def test_a_count_below_one_is_an_error():
    with pytest.raises(ValueError, match="rounds: expected at least 1, got 0"):
        ch13_compilation.Config(rounds=0)
