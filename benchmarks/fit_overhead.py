"""What does the loop cost? Throughput of `fit` beside a bare loop over the same compiled step.

    python benchmarks/fit_overhead.py --cases lenet,mlp

Prints one JSON line a case. `ratio` is the examples a second of `fit` (shuffled `DeviceData`, a row of the history an
epoch, no evaluation) over those of a bare loop that calls the same compiled step on one batch placed once; both from
start to end of a run of whole epochs, compiled before, in alternating rounds. `fit_lines` and `fit_bar` are `fit` with
its progress as plain lines and as a bar on a terminal.
"""

import argparse
import contextlib
import io
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.monitoring
from cases import CASES
from interleaved import Runner, busy_share, interleave, warn_if_busy
from machine import describe, versions

from jaxdl import training
from jaxdl.data.device_data import DeviceData

STEPS_PER_CALL = {"mlp": 16}  # of the cases that gain by it; the others take 1
TARGETS = {"lenet": 0.95, "mlp": 0.8}


class Terminal(io.StringIO):
    """Where a progress bar is drawn without being seen."""

    def isatty(self) -> bool:
        """Says so."""
        return True


def main(arguments: list[str] | None = None) -> None:
    """Reads the flags and prints a line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="lenet,mlp", help=f"comma-separated, of {', '.join(CASES)}")
    parser.add_argument("--examples", type=int, default=60_000, help="examples an epoch")
    parser.add_argument("--rounds", type=int, default=9, help="samples of each")
    parser.add_argument(
        "--sample-seconds", type=float, default=2.0, help="about how long one sample is, an epoch at least"
    )
    parser.add_argument("--max-wait", type=float, default=2.0, help="seconds to wait for a quiet machine, a sample")
    flags = parser.parse_args(arguments)
    names = flags.cases.split(",")
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"argument --cases: expected names out of {', '.join(CASES)}; got {', '.join(map(repr, unknown))}")
    for name in names:
        print(json.dumps(measure(name, flags)), flush=True)


def measure(name: str, flags: argparse.Namespace) -> dict[str, Any]:
    """Times `fit` and the bare loop on one case and returns its line."""
    case, steps_per_call = CASES[name](), STEPS_PER_CALL.get(name, 1)
    compiled = training.jit_step(case.step, steps_per_call=steps_per_call)
    data = DeviceData(case.examples(flags.examples), case.batch_size, train=True)
    batch = dict(next(data.batches(0) if steps_per_call == 1 else data.chunks(0, 0, steps_per_call)))

    def bare(epochs: int) -> float:
        calls = max(1, epochs * len(data) // steps_per_call)
        start, state = time.perf_counter(), compiled.place_state(case.state)
        for _ in range(calls):
            state, _ = compiled(state, batch)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) * 1e3 / (calls * steps_per_call)

    def fit(epochs: int, progress_on: io.StringIO | None = None) -> float:
        start = time.perf_counter()
        with contextlib.redirect_stderr(progress_on or sys.stderr):
            state, _ = training.fit(compiled, case.state, data, epochs=epochs, progress=progress_on is not None)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) * 1e3 / (epochs * len(data))

    runners: dict[str, Runner] = {
        "bare": bare,
        "fit": fit,
        "fit_lines": partial(fit, progress_on=io.StringIO()),
        "fit_bar": partial(fit, progress_on=Terminal()),
    }
    milliseconds = {runner: [run(1), run(1)][-1] for runner, run in runners.items()}  # the first run compiles
    epochs = max(1, round(flags.sample_seconds * 1e3 / (milliseconds["fit"] * len(data))))
    with compilations() as compiled_meanwhile:
        samples = interleave(runners, dict.fromkeys(runners, epochs), rounds=flags.rounds, max_wait=flags.max_wait)
    warn_if_busy(name, busy_share(samples))
    rates = {runner: case.batch_size * 1e3 / each.median for runner, each in samples.items()}
    return {
        "case": name,
        **{f"{runner}_examples_per_second": round(rate) for runner, rate in rates.items()},
        **{f"{runner}_ms": round(each.median, 4) for runner, each in samples.items()},
        "ratio": round(rates["fit"] / rates["bare"], 3),
        "p20_ratio": round(samples["bare"].p20 / samples["fit"].p20, 3),
        "target": TARGETS.get(name),
        "recompilations": len(compiled_meanwhile),
        "batch_size": case.batch_size,
        "steps_per_call": steps_per_call,
        "batches_per_epoch": len(data),
        "epochs_per_sample": epochs,
        "rounds": flags.rounds,
        "busy_share": busy_share(samples),
        "device": jax.default_backend(),
        "machine": describe(),
        "versions": versions("jax", "jaxlib", "flax"),
    }


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """Collects an entry for everything JAX compiles inside the `with`."""
    events: list[str] = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield events
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


if __name__ == "__main__":
    main()
