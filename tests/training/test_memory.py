"""What the compiler says about memory, and that rematerialisation and micro-batches save what they promise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from problems import loss_fn, make_batch, make_state

from jaxdl.training import jit_step, make_step, sum_gradients
from jaxdl.training.memory import MemoryReport, memory_report

ROOT = Path(__file__).parents[2]
DEPTH, BATCH_SIZE = 64, 8


def test_it_counts_arguments_outputs_and_donation():
    x = jax.ShapeDtypeStruct((256, 4), jnp.float32)
    plain = memory_report(jax.jit(lambda x: (x * 2, x[0])).lower(x).compile())
    assert (plain.arguments, plain.aliased) == (4096, 0)
    assert 4096 + 16 <= plain.outputs <= 4096 + 16 + 32  # and the table of a tuple
    donated = memory_report(jax.jit(lambda x: x * 2, donate_argnums=0).lower(x).compile())
    assert donated.aliased == 4096
    assert donated.total == 4096 + donated.temporaries + donated.code


def test_it_counts_what_one_device_holds():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    x = jax.ShapeDtypeStruct((256, 4), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("data")))
    assert memory_report(jax.jit(lambda x: x * 2).lower(x).compile()).arguments == 4096 // 8


def test_it_reads_a_compiled_step():
    optimizer = optax.sgd(0.1)
    step = jit_step(make_step(sum_gradients(loss_fn), optimizer))
    state, batch = step.place_state(make_state(optimizer)), step.place_batch(make_batch())
    report = memory_report(step.call.lower(state, batch).compile())
    numbers = (5 * 7 + 7 * 3) + 64 * 5 + 64 + 64  # parameters, x, y, mask
    assert 4 * numbers <= report.arguments <= 4 * numbers + 64  # and the step, the key
    assert report.aliased >= 4 * (5 * 7 + 7 * 3)


def test_it_prints_a_table():
    lines = str(MemoryReport(3 << 20, 1 << 20, 1 << 20, 5 << 20, 7)).splitlines()
    assert [line.split()[0] for line in lines] == [*MemoryReport._fields, "total"]
    assert lines[3].split() == ["temporaries", "5,242,880", "bytes", "5.000", "MiB"]
    assert lines[-1].split()[1] == f"{(8 << 20) + 7:,}"


def test_it_refuses_what_is_not_compiled():
    for thing in (jnp.sin, jax.jit(jnp.sin), jax.jit(jnp.sin).lower(1.0)):
        with pytest.raises(ValueError, match=r"compiled: expected jax.jit\(f\).lower\(\*args\).compile\(\), got a "):
            memory_report(thing)


def benchmark_lines():
    """Those of `benchmarks/memory.py` under XLA's optimisations, without timings."""
    set_by_conftest = {"XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_NUMPY_RANK_PROMOTION"}
    environment = {name: value for name, value in os.environ.items() if name not in set_by_conftest}
    flags = ["--depths", str(DEPTH), "--batch-size", str(BATCH_SIZE), "--micro-batches", "1,4", "--rounds", "0"]
    command = [sys.executable, str(ROOT / "benchmarks" / "memory.py"), *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 15  # the tables
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.optimized
def test_rematerialisation_and_micro_batches_save_what_they_promise():
    lines = benchmark_lines()
    check_rematerialisation({line["remat"]: line for line in lines if line["question"] == "remat"})
    check_micro_batches([line for line in lines if line["question"] == "accumulate"])
    check_fully_sharded([line for line in lines if line["question"] == "fully_sharded"])


def check_rematerialisation(lines):
    memory = {name: line["temporaries_ratio"] for name, line in lines.items()}
    flops = {name: line["flops_ratio"] for name, line in lines.items()}
    assert memory["sqrt"] <= 0.35
    assert flops["sqrt"] <= 1.35
    assert flops["sqrt"] == pytest.approx(4 / 3, rel=0.02)  # forward 1 and backward 2, and forward again
    # Of every block "full" keeps one input out of more than 20 arrays of its size; it skips the last product of each.
    assert memory["full"] < 0.1
    assert 1.2 < flops["full"] < flops["sqrt"]
    # The attention output is one array a block more to keep, and its products are not done again.
    assert lines["attention"]["temporaries"] - lines["full"]["temporaries"] == pytest.approx(
        DEPTH * BATCH_SIZE * 32 * 64 * 4, rel=0.1
    )
    assert memory["full"] < memory["attention"] < memory["matmuls"] < 0.5
    assert flops["full"] > flops["attention"] > flops["matmuls"] > 1


def check_fully_sharded(lines):
    """Parameters and Adam's two moments, on each device, fall as 1/n."""
    assert [line["devices"] for line in lines] == [1, 2, 4, 8]
    for line in lines:
        assert line["state_ratio"] == pytest.approx(1 / line["devices"], rel=0.1)


def check_micro_batches(lines):
    """`accumulate(k)` reserves the activations of a batch / k and the sums of the gradients beside them.

    The rest are the micro-batches themselves and the workspace of one block: 3 % of the activations are left for them.
    """
    plain, split = lines
    assert (plain["micro_batches"], split["micro_batches"]) == (1, 4)
    activations = split["temporaries"] - split["outputs"]  # the outputs are the gradients
    assert activations == pytest.approx(plain["temporaries"] / 4, rel=0.03)
    assert split["flops_ratio"] < 1.01
