"""What compiling buys and how to time it (D2L 13.1 to 13.3), and a training step that leaves without its code.

    python examples/ch13_compilation.py

Without an accelerator two devices share the CPU. On two cores of an AMD EPYC with jax 0.10.2 it took 15 s:

- An MLP on one example: 2.9 ms a call op by op, 0.008 ms compiled (56 ms the first time); the outputs are equal.
- A training step: lowered in 46 ms, compiled in 201 ms, exported in 13,572 bytes. A process that imports JAX and NumPy
  alone loads it and reaches the same state bit for bit.
- Ten products of 1000 x 1000 matrices: returned after 0.08 ms, finished after 43 ms.
- Small products on two devices: 14.8 ms with a block in between, 7.5 ms together; large ones 78 and 77 ms.
- Ten products and copying them to the host: 54 ms in turn, 47 ms overlapped.

Where other programs keep the cores busy, times double and nothing overlaps.
"""

import math
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax import export

from jaxdl import experiment, nn, training
from jaxdl.data import load

# All that the process needs which runs the exported step: no model, no optimiser, no jaxdl.
RELOAD = """
import sys

import jax
import numpy as np
from jax import export

folder, steps = sys.argv[1], int(sys.argv[2])
with open(f"{folder}/step.exported", "rb") as file:
    step = jax.jit(export.deserialize(bytearray(file.read())).call)
with np.load(f"{folder}/state.npz") as state, np.load(f"{folder}/batch.npz") as batch:
    leaves, batch = list(state.values()), dict(batch)
for _ in range(steps):
    leaves, loss = step(leaves, batch)
np.savez(f"{folder}/reloaded.npz", *leaves)
assert not {"jaxdl", "flax", "optax"} & set(sys.modules)
"""


@dataclass(frozen=True)
class Config:
    """Times compiled against uncompiled code, asynchronous dispatch, and work on two devices; exports a step."""

    rounds: int = 20
    """How often everything is timed; the fastest round counts."""
    calls: int = 50
    """Calls of the MLP in a round."""
    size: int = 1000
    """Of the large matrices."""
    matmuls: int = 10
    """Products of large matrices in a round."""
    steps: int = 20
    """Training steps to run with the exported step."""
    folder: Path = Path("runs/ch13_compilation")
    """Where the exported step and the picture go."""

    def __post_init__(self) -> None:
        for name in ("rounds", "calls", "size", "matmuls", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


@contextmanager
def benchmark(figures: dict[str, float], name: str, calls: int = 1) -> Iterator[None]:
    """Times its body: milliseconds a call go to `figures[name]`, where the fastest of several rounds stays."""
    start = time.perf_counter()
    yield
    elapsed = (time.perf_counter() - start) * 1e3 / calls
    figures[name] = min(figures.get(name, math.inf), elapsed)


def report(title: str, rows: Mapping[str, str], lesson: str) -> None:
    """Prints what was measured and what it teaches."""
    print(title)
    for label, value in rows.items():
        print(f"  {label:<35}{value}")
    print(textwrap.fill(lesson, 110, initial_indent="  ", subsequent_indent="  ") + "\n")


def random_matrix(size: int) -> jax.Array:
    """A matrix whose powers neither vanish nor explode."""
    return jax.random.normal(jax.random.key(0), (size, size)) / math.sqrt(size)


def eager_and_jit(config: Config, figures: dict[str, float]) -> None:
    """13.1: the same MLP op by op and compiled."""
    model, x = nn.MLP([256, 128, 2]), jax.random.normal(jax.random.key(0), (1, 512))
    variables = jax.jit(model.init)(jax.random.key(1), x)
    compiled = jax.jit(model.apply)
    with benchmark(figures, "jit_first_call_ms"):
        jit_output = jax.block_until_ready(compiled(variables, x))
    eager_output = model.apply(variables, x)
    figures["jit_difference"] = float(abs(np.asarray(jit_output) - np.asarray(eager_output)).max())
    for _ in range(config.rounds):
        for name, apply in (("eager_ms", model.apply), ("jit_ms", compiled)):
            with benchmark(figures, name, config.calls):
                jax.block_until_ready([apply(variables, x) for _ in range(config.calls)])

    report(
        f"13.1  An MLP 512-256-128-2 on one example, {config.rounds * config.calls} calls",
        {
            "eager (op by op)": f"{figures['eager_ms']:10.3f} ms a call",
            "jit": f"{figures['jit_ms']:10.3f} ms a call",
            "jit, the first call": f"{figures['jit_first_call_ms']:10.3f} ms",
            "largest difference of the outputs": f"{figures['jit_difference']:10.1e}",
        },
        "Eager, Python runs the model and dispatches every operation anew in each call; jit does so once, in the first "
        "call, and from then on dispatches one program.",
    )


def training_step() -> tuple[training.Step, training.TrainState, dict[str, np.ndarray]]:
    """A step of a small MLP with Adam, its first state, and a batch."""
    model, optimizer = nn.MLP([32, 10]), optax.adam(1e-2)
    loss_fn, _ = training.supervised(
        model, "image", loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]), scores={}
    )
    batch = load("digits", "train[:64]")
    state = training.init_state(lambda key: model.init(key, batch["image"]), optimizer, jax.random.key(0))
    return training.make_step(training.sum_gradients(loss_fn), optimizer), state, batch


def ahead_of_time(config: Config, figures: dict[str, float]) -> None:
    """13.1: a training step compiled before it is called, written to a file, and run by a process without its code."""
    step, state, batch = training_step()

    def without_key(state: training.TrainState) -> training.TrainState:
        return state._replace(key=jax.random.key_data(state.key))

    leaves, structure = jax.tree.flatten(without_key(state))

    @jax.jit
    def step_on_arrays(leaves: list[jax.Array], batch: training.Batch) -> tuple[list[jax.Array], jax.Array]:
        """The step on lists and dicts of arrays: the classes of the state stay here."""
        state = jax.tree.unflatten(structure, leaves)
        state, metrics = step(state._replace(key=jax.random.wrap_key_data(state.key)), batch)
        return jax.tree.leaves(without_key(state)), metrics["loss"].compute()

    with benchmark(figures, "lower_ms"):
        lowered = step_on_arrays.lower(leaves, batch)
    with benchmark(figures, "compile_ms"):
        compiled = lowered.compile()
    cost: Any = compiled.cost_analysis()
    memory: Any = compiled.memory_analysis()
    figures["flops"] = cost["flops"]
    figures["argument_bytes"] = memory.argument_size_in_bytes
    figures["temporary_bytes"] = memory.temp_size_in_bytes

    config.folder.mkdir(parents=True, exist_ok=True)
    np.savez(config.folder / "state.npz", *map(np.asarray, leaves), allow_pickle=False)
    np.savez(config.folder / "batch.npz", allow_pickle=False, **batch)
    exported = export.export(step_on_arrays)(leaves, batch).serialize()
    (config.folder / "step.exported").write_bytes(exported)
    figures["exported_bytes"] = len(exported)

    losses = []
    for _ in range(config.steps):
        leaves, loss = compiled(leaves, batch)
        losses.append(float(loss))
    figures["first_loss"], figures["last_loss"] = losses[0], losses[-1]

    with benchmark(figures, "reload_ms"):
        # Without preallocation, so that the memory of one GPU has room for both processes.
        command = [sys.executable, "-c", RELOAD, str(config.folder), str(config.steps)]
        subprocess.run(command, env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}, check=True)
    with np.load(config.folder / "reloaded.npz") as reloaded:
        pairs = zip(leaves, reloaded.values(), strict=True)
        figures["reload_difference"] = max(float(abs(np.asarray(ours) - theirs).max()) for ours, theirs in pairs)

    report(
        f"13.1  A training step ahead of time: an MLP 64-32-10 with Adam on a batch of {len(batch['label'])}",
        {
            "trace and lower to StableHLO": f"{figures['lower_ms']:10.3f} ms",
            "compile": f"{figures['compile_ms']:10.3f} ms",
            "floating-point operations": f"{figures['flops']:10,.0f}",
            "memory of the arguments": f"{figures['argument_bytes']:10,.0f} bytes",
            "memory of the temporaries": f"{figures['temporary_bytes']:10,.0f} bytes",
            "exported": f"{figures['exported_bytes']:10,.0f} bytes",
            f"loss, first of {config.steps} steps": f"{figures['first_loss']:10.3f}",
            f"loss, last of {config.steps} steps": f"{figures['last_loss']:10.3f}",
            "a new process: load, compile, run": f"{figures['reload_ms']:10.3f} ms",
            "largest difference of the states": f"{figures['reload_difference']:10.1e}",
        },
        f"{config.folder / 'step.exported'} holds the whole step, model, gradient and optimiser, as StableHLO: the "
        "process that ran it had JAX and NumPy only.",
    )


def asynchronous(config: Config, figures: dict[str, float]) -> None:
    """13.2: a call returns before its work is done."""

    def products(x: jax.Array) -> jax.Array:
        y = x
        for _ in range(config.matmuls):
            y = y @ x
        return y

    x = random_matrix(config.size)
    float(products(x)[0, 0])  # compiles all of it
    for _ in range(config.rounds):
        with benchmark(figures, "finished_ms"):
            with benchmark(figures, "returned_ms"):
                y = products(x)
            y.block_until_ready()
        with benchmark(figures, "read_ms"):
            float(products(x)[0, 0])

    report(
        f"13.2  {config.matmuls} products of {config.size} x {config.size} matrices",
        {
            "returned": f"{figures['returned_ms']:10.3f} ms",
            "finished (block_until_ready)": f"{figures['finished_ms']:10.3f} ms",
            "one number read (float)": f"{figures['read_ms']:10.3f} ms",
        },
        "A call queues its work and returns, so a clock without block_until_ready times the queueing; reading a value "
        "waits for everything that it depends on.",
    )


@partial(jax.jit, static_argnums=1)
def power(x: jax.Array, exponent: int) -> jax.Array:
    """A chain of matrix products as one program."""
    return jax.lax.fori_loop(1, exponent, lambda _, y: y @ x, x)


def two_devices(config: Config, figures: dict[str, float]) -> None:
    """13.3: independent work on two devices, one after the other and together."""
    devices = (jax.devices() * 2)[:2]  # the only device twice, if there is one
    for name, size, exponent in (("small", 64, 300 * config.matmuls), ("large", config.size, config.matmuls)):
        matrices = [jax.device_put(random_matrix(size), device) for device in devices]
        jax.block_until_ready([power(x, exponent) for x in matrices])
        for _ in range(config.rounds):
            with benchmark(figures, f"{name}_in_turn_ms"):
                for x in matrices:
                    power(x, exponent).block_until_ready()
            with benchmark(figures, f"{name}_together_ms"):
                jax.block_until_ready([power(x, exponent) for x in matrices])

    report(
        f"13.3  A chain of products on {devices[0]} and one on {devices[1]}",
        {
            "small, block in between": f"{figures['small_in_turn_ms']:10.3f} ms",
            "small, dispatched together": f"{figures['small_together_ms']:10.3f} ms",
            "large, block in between": f"{figures['large_in_turn_ms']:10.3f} ms",
            "large, dispatched together": f"{figures['large_together_ms']:10.3f} ms",
        },
        "Each device has its own queue, so work that is dispatched without a block in between can overlap. CPU devices "
        f"share the cores: a small product (64 x 64) takes one, so two overlap where two cores are free; a large one "
        f"({config.size} x {config.size}) takes all of them, and two gain nothing.",
    )


def compute_and_copy(config: Config, figures: dict[str, float]) -> None:
    """13.3: copying results to the host, after computing and meanwhile."""
    x = random_matrix(config.size)
    jax.block_until_ready(x @ x)
    for _ in range(config.rounds):
        with benchmark(figures, "compute_then_copy_ms"):
            with benchmark(figures, "compute_ms"):
                results = jax.block_until_ready([x @ x for _ in range(config.matmuls)])
            _ = [np.array(y) for y in results]
        with benchmark(figures, "compute_and_copy_ms"):
            results = [x @ x for _ in range(config.matmuls)]
            for y in results:
                y.copy_to_host_async()
            _ = [np.array(y) for y in results]

    report(
        f"13.3  {config.matmuls} products of {config.size} x {config.size} matrices, copied to the host",
        {
            "products alone": f"{figures['compute_ms']:10.3f} ms",
            "all products, then all copies": f"{figures['compute_then_copy_ms']:10.3f} ms",
            "each copy as soon as it can": f"{figures['compute_and_copy_ms']:10.3f} ms",
        },
        "copy_to_host_async queues the copy behind the product that it needs, and the next product does not wait for "
        "it. The memory of a CPU device is the host's, and its cores do both, so there the gain is small.",
    )


def draw(figures: dict[str, float], path: Path) -> None:
    """The measured times as bars, a panel a question."""
    from matplotlib.figure import Figure

    panels = {
        "13.1 a call of an MLP": {"eager": "eager_ms", "jit": "jit_ms"},
        "13.2 matrix products": {"returned": "returned_ms", "finished": "finished_ms", "read": "read_ms"},
        "13.3 two devices, small": {"in turn": "small_in_turn_ms", "together": "small_together_ms"},
        "13.3 two devices, large": {"in turn": "large_in_turn_ms", "together": "large_together_ms"},
        "13.3 products and copies": {"in turn": "compute_then_copy_ms", "together": "compute_and_copy_ms"},
    }
    figure = Figure(figsize=(3.0 * len(panels), 3.0), layout="constrained")
    for axes, (title, bars) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        heights = [figures[name] for name in bars.values()]
        axes.bar_label(axes.bar(list(bars), heights, color=["C0", "C1", "C2"][: len(bars)]), fmt="%.3g")
        axes.set(title=title, ylabel="ms")
        axes.margins(y=0.12)
    figure.savefig(path, dpi=120)


def main(config: Config) -> dict[str, float]:
    """Measures, prints the report, and returns the figures."""
    figures: dict[str, float] = {}
    print(f"jax {jax.__version__}, {os.cpu_count()} CPU cores; times are the fastest of {config.rounds} rounds\n")
    for section in (eager_and_jit, ahead_of_time, asynchronous, two_devices, compute_and_copy):
        section(config, figures)
    picture = config.folder / "times.png"
    draw(figures, picture)
    print(f"picture: {picture}")
    return figures


if __name__ == "__main__":
    if not {"XLA_FLAGS", "JAX_NUM_CPU_DEVICES"} & set(os.environ):  # what the user set stays
        jax.config.update("jax_num_cpu_devices", 2)  # where there is no accelerator, two devices share the CPU
    main(experiment.parse_flags(Config))
