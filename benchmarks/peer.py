"""The peer: another library's training step, in a process and an interpreter of its own.

The two processes exchange one JSON object a line. The worker (`peers/torch_worker.py`) opens with what it is,
`{"versions": {...}}`, or why it cannot be, `{"absent": reason}`; it then answers requests:

    {"do": "prepare", "case": "mlp", "batch_size": 256, "num_batches": 20}
        -> {"variants": ["eager", "compile"], "failures": {variant: reason}, "num_parameters": 203530}
        -> {"absent": reason} for a case it does not have
    {"do": "run", "variant": "eager", "passes": 6}
        -> {"ms": milliseconds a step, over 6 passes over the batches after one that is not timed}
"""

import contextlib
import json
import os
import subprocess
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from interleaved import Runner

KEEP_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62)}  # as `cpu.tune`
WORKERS = {"torch": Path(__file__).parent / "peers" / "torch_worker.py"}


class PeerError(RuntimeError):
    """The peer's process did not answer, or compares something else."""


class Prepared(NamedTuple):
    """A case on the peer's side."""

    variants: dict[str, Runner]
    failures: dict[str, str]  # why a variant does not run, by name
    absent: str | None  # why none does


class Peer:
    """A running worker; a context manager that ends it.

    Args:
      name: a key of `WORKERS`.
      python: the interpreter to run it with.
      threads: how many it may compute with.

    Raises:
      PeerError: if the interpreter cannot be run, or does not answer.
    """

    def __init__(self, name: str, python: str, threads: int) -> None:
        self.name = name
        self.python = python
        try:
            self._process = subprocess.Popen(
                [python, str(WORKERS[name]), str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | KEEP_MEMORY | {"OMP_NUM_THREADS": str(threads)},
            )
        except OSError as error:
            raise PeerError(f"cannot run {python!r}: {error.strerror}") from None
        try:
            hello = self._answer()
        except PeerError:
            self.close()
            raise
        self.absent: str | None = hello.get("absent")
        self.versions: dict[str, str] = hello.get("versions", {})

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def prepare(self, name: str, batch_size: int, num_batches: int, num_parameters: int) -> Prepared:
        """Builds and compiles a case in the worker; for one that generates, tokens are the batches.

        Raises:
          PeerError: if its model is not of our size, or the worker ended.
        """
        if self.absent is not None:
            return Prepared({}, {}, self.absent)
        answer = self._ask(do="prepare", case=name, batch_size=batch_size, num_batches=num_batches)
        if "absent" in answer:
            return Prepared({}, {}, answer["absent"])
        if answer["num_parameters"] != num_parameters:
            raise PeerError(f"its {name} has {answer['num_parameters']:,} parameters, ours {num_parameters:,}")
        return Prepared(
            {variant: partial(self._run, variant) for variant in answer["variants"]}, answer["failures"], None
        )

    def close(self) -> None:
        """Ends the worker: it stops when its input does."""
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def _run(self, variant: str, passes: int) -> float:
        return self._ask(do="run", variant=variant, passes=passes)["ms"]

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer will be missing, and say so
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            answer = json.loads(line)
        except json.JSONDecodeError:
            answer = None
        if isinstance(answer, dict):
            return answer
        ending = f"said {line.strip()!r}" if line else f"ended with exit code {self._process.wait()}"
        raise PeerError(f"{self.python!r} should answer as the {self.name} peer, but {ending}")
