"""Are the Pallas kernels right on this GPU, and how fast beside cuBLAS, cuDNN and PyTorch?

    python benchmarks/kernels.py --op attention --suite quick --json benchmarks/results/h100_attention.jsonl

Prints one JSON line a case: first those that only compare with float32 (`differences`: relative norms; gradients too;
`correct`), then those that are timed too. Figures are medians of samples taken in turn with the peers and
with what the device can do: the product of two 8192 x 8192 matrices by cuBLAS, or a copy. `ratio` is the time of `peer`
over ours; above 1 we win. FLOPs are 4BHTSD for attention, half of it if causal, 2.5 times as many backward, and 2MNK
for a product. `must` and `target` say what a figure has to reach.

A case that fails, crashes or hangs gives a line with `failed`, and the next runs in a new process. Without an H100 or
H200 the script says so and ends well; `--interpret` runs all of it, tiny, on any machine, where times mean nothing.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from accelerator import COPY_BYTES, DIED, PEAK_SIZE, Worker, describe_device
from kernel_cases import GOALS, SUITES, AttentionCase, MatmulCase, Suite
from kernel_runs import Settings, check_attention, check_matmul, time_attention, time_matmul

OPERATIONS = ("attention", "matmul", "decode")
CASE_LIMIT = 75.0  # seconds
LEAST_TIME = 15.0  # seconds that must be left to start a case

# What its line says, what to call in the worker, and with what.
Task = tuple[dict[str, Any], Callable[..., dict[str, Any]], tuple[Any, ...]]


def main(arguments: list[str] | None = None) -> None:
    """Reads the flags and prints the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--op", default="attention", help=f"comma-separated, of {', '.join(OPERATIONS)}")
    parser.add_argument("--suite", choices=("quick", "full"), default="quick")
    parser.add_argument("--json", type=Path, help="also write the lines to this file")
    parser.add_argument("--rounds", type=int, default=15, help="samples of each side")
    parser.add_argument("--sample-ms", type=float, default=30.0, help="about how long one sample is")
    parser.add_argument("--max-seconds", type=float, default=560.0, help="cases that would start later are left out")
    parser.add_argument("--interpret", action="store_true", help="tiny cases in Pallas' interpreter, on the CPU")
    flags = parser.parse_args(arguments)
    operations = flags.op.split(",")
    if unknown := [name for name in operations if name not in OPERATIONS]:
        parser.error(
            f"argument --op: expected names out of {', '.join(OPERATIONS)}; got {', '.join(map(repr, unknown))}"
        )
    if flags.rounds < 1:
        parser.error(f"argument --rounds: expected at least 1, got {flags.rounds}")
    deadline = time.monotonic() + flags.max_seconds

    with Worker("cpu" if flags.interpret else None) as worker:
        about = worker.call(describe_device, limit=CASE_LIMIT)
        reason = about.get("failed") or about.pop("refusal")
        if reason and not flags.interpret:
            print(f"nothing was measured: {reason}", file=sys.stderr)
            return
        settings = Settings(flags.interpret, flags.rounds, flags.sample_ms, PEAK_SIZE, COPY_BYTES, torch=True)
        if flags.interpret:
            settings = Settings(True, 1, 0.0, 128, 1 << 16, torch=True)
        suites = {name: SUITES[name, "tiny" if flags.interpret else flags.suite] for name in operations}
        lines = run_tasks(worker, [*checks(suites, settings), *timings(suites, settings)], deadline)
        with write_to(flags.json) as file:
            for line in lines:
                text = json.dumps(line | about)
                for place in (sys.stdout, file):
                    if place is not None:
                        print(text, file=place, flush=True)


def checks(suites: dict[str, Suite], settings: Settings) -> Iterator[Task]:
    """Numerics first: if they are wrong, nothing else matters."""
    for operation, suite in suites.items():
        check = check_matmul if operation == "matmul" else check_attention
        for case in suite.checked:
            yield {"op": operation, "case": case.name, "direction": "both"}, check, (case, settings)


def timings(suites: dict[str, Suite], settings: Settings) -> Iterator[Task]:
    """The cases of all operations in turn, so that each gets its most wanted ones before time runs out."""
    directions = {"attention": ("forward", "backward"), "matmul": ("forward",), "decode": ("forward",)}
    for place in range(max(len(suite.timed) for suite in suites.values())):
        for operation, suite in suites.items():
            for direction in directions[operation] if place < len(suite.timed) else ():
                case: AttentionCase | MatmulCase = suite.timed[place]
                about: dict[str, Any] = {"op": operation, "case": case.name, "direction": direction}
                if (operation, case, direction) in GOALS:
                    figure, must, target = GOALS[operation, case, direction]
                    about |= {"goal": figure, "must": must, "target": target}
                time_case = time_matmul if operation == "matmul" else time_attention
                yield about, time_case, (case, direction, settings)


def run_tasks(worker: Worker, tasks: list[Task], deadline: float) -> Iterator[dict[str, Any]]:
    """A line a task, one at a time."""
    for about, function, args in tasks:
        left = deadline - time.monotonic()
        if left < LEAST_TIME:
            yield about | {"failed": "no time left; --max-seconds gives more"}
            continue
        start = time.monotonic()
        line = worker.call(function, *args, limit=min(CASE_LIMIT, left))
        if line.get("failed") == DIED and left > 2 * LEAST_TIME:  # two libraries of CUDA in one process may not agree
            settings: Settings = args[-1]
            left = max(deadline - time.monotonic(), 1.0)
            line = worker.call(function, *args[:-1], settings._replace(torch=False), limit=min(CASE_LIMIT, left))
            line["retried"] = "without PyTorch, after its process died"
        yield about | line | {"seconds": round(time.monotonic() - start, 1)}


def write_to(path: Path | None) -> Any:
    """A file to write to, or None."""
    if path is None:
        return nullcontext()
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w")


if __name__ == "__main__":
    main()
