"""Running things on a GPU so that one that crashes or hangs costs its own line and no other."""

import multiprocessing
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, TimeoutError, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from importlib import metadata
from queue import SimpleQueue
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from interleaved import Runner, Samples, interleave
from machine import versions

PEAK_SIZE = 8192  # of the product that stands for what the device can do
COPY_BYTES = 1 << 30
DIED = "its process died"

# PyTorch needs memory beside JAX's, and `jnp.dot` should be cuBLAS and not a Triton kernel of XLA's choice.
ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_FLAGS": "--xla_gpu_enable_triton_gemm=false"}


class Worker:
    """A process in which functions are called; a context manager that ends it.

    When it dies, takes too long or a call raises, a new one takes its place: after an error on the device CUDA answers
    everything with that error.

    Args:
      platform: that JAX uses there; None leaves it to JAX.
    """

    def __init__(self, platform: str | None = None) -> None:
        self.platform = platform
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def call(self, function: Callable[..., Any], *args: Any, limit: float) -> Any:
        """What a function of a module returns, or `{"failed": reason}`.

        Args:
          function: returns what can be pickled.
          args: can be pickled.
          limit: seconds.
        """
        if self._pool is None:
            os.environ.update(ENVIRONMENT)  # the child reads it when it imports jax
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, context, _use_platform, (self.platform,))
        try:
            result, reason = self._pool.submit(_attempt, function, args).result(timeout=limit)
        except TimeoutError:
            result, reason = None, f"no answer within {limit:.0f} s"
        except BrokenProcessPool:
            result, reason = None, DIED
        if reason is None:
            return result
        self.close()
        return {"failed": reason}

    def close(self) -> None:
        """Ends the process, whatever it does."""
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def call_all(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], *, num_processes: int, platform: str, limit: float
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Calls a function once a tuple of arguments in some workers; yields `(arguments, result)` as results come."""
    workers: SimpleQueue[Worker] = SimpleQueue()
    for _ in range(num_processes):
        workers.put(Worker(platform))

    def call(args: tuple[Any, ...]) -> Any:
        worker = workers.get()
        try:
            return worker.call(function, *args, limit=limit)
        finally:
            workers.put(worker)

    try:
        with ThreadPoolExecutor(num_processes) as threads:
            futures = {threads.submit(call, args): args for args in calls}
            for future in as_completed(futures):
                yield futures[future], future.result()
    finally:
        for _ in range(num_processes):
            workers.get().close()


def _attempt(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, str | None]:
    try:
        return function(*args), None
    except Exception as error:  # as text: not every exception survives pickling
        return None, describe_error(error)


def _use_platform(name: str | None) -> None:
    if name is not None:
        jax.config.update("jax_platforms", name)


def describe_error(error: BaseException) -> str:
    """An error in a line; compilers write pages."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]


def describe_device() -> dict[str, Any]:
    """The device, its driver, and the versions of what runs on it; also why our kernels cannot, or None."""
    from jaxdl.kernels import mosaic

    names = ["jax", "jaxlib"]
    for name in ("jax-cuda13-plugin", "torch", "nvidia-cudnn-cu13", "nvidia-cublas"):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        names.append(name)
    return {
        "device": jax.devices()[0].device_kind,
        **nvidia_smi("driver_version"),
        "versions": versions(*names),
        "refusal": mosaic.refusal(),
    }


def nvidia_smi(*fields: str) -> dict[str, str]:
    """What the driver says of the first GPU; empty where there is none.

    Args:
      fields: as `nvidia-smi --help-query-gpu` lists them.
    """
    command = shutil.which("nvidia-smi")
    if command is None:
        return {}
    query = [command, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", "--id=0"]
    finished = subprocess.run(query, capture_output=True, text=True, timeout=30)
    values = finished.stdout.strip().split(", ")
    return dict(zip(fields, values, strict=False)) if finished.returncode == 0 else {}


def runner(function: Callable[..., Any], *arrays: Any) -> Runner:
    """Compiles a function of arrays and runs it once.

    Calls are queued one after another, so that a sample of several calls has no gaps between them.
    """
    jitted = jax.jit(function)
    jax.block_until_ready(jitted(*arrays))

    def run(passes: int) -> float:
        start, result = time.perf_counter(), None
        for _ in range(passes):
            result = jitted(*arrays)
        jax.block_until_ready(result)
        return (time.perf_counter() - start) * 1e3 / passes

    return run


def peak_runner(size: int = PEAK_SIZE) -> Runner:
    """The product of two bfloat16 matrices by cuBLAS."""
    a, b = (normal(seed, (size, size), jnp.bfloat16) for seed in (0, 1))
    return runner(jnp.dot, a, b)


def copy_runner(num_bytes: int = COPY_BYTES) -> Runner:
    """A copy from device memory to device memory."""
    return runner(jnp.copy, normal(0, (num_bytes // 2,), jnp.bfloat16))


def normal(seed: int, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Random numbers, made on the device."""
    draw = jax.jit(partial(jax.random.normal, shape=shape, dtype=dtype))
    return draw(jax.random.key(seed, impl="rbg"))  # compiles and runs faster than the default


def poison(*like: Any) -> None:
    """Fills device memory of these sizes with NaN and frees it, so that what a kernel leaves unwritten is seen."""
    jax.block_until_ready([jnp.full(x.shape, jnp.nan, x.dtype) for x in jax.tree.leaves(like)])


def time_in_turn(runners: Mapping[str, Runner], *, rounds: int, sample_ms: float) -> dict[str, Samples]:
    """Times everything in turn, forwards and backwards, after a first sample that warms the clocks.

    Args:
      runners: by name.
      rounds: samples of each.
      sample_ms: about how long a sample is.
    """
    passes = {}
    for name, run in runners.items():
        few = run(3)
        passes[name] = max(1, round(sample_ms / few)) if few > 0 else 1
        run(passes[name])
    return interleave(runners, passes, rounds=rounds, max_wait=0.0)


ROW_LIMIT = 4.0


def relative_difference(ours: Any, reference: Any) -> float:
    """The norm of the difference of two pytrees over the reference's, the largest of their leaves; NaN if any is.

    A single row (the last axis) may be ROW_LIMIT times as far off, of its own norm or of an average row's: a wrong tile
    of a large result shows there and not in the whole.
    """

    def of_leaf(x: Any, y: Any) -> float:
        x, y = (np.asarray(z, np.float64) for z in (x, y))
        finite = np.isfinite(y)
        if not np.array_equal(x[~finite], y[~finite]):  # -inf of a row that sees nothing
            return float("nan")
        x, y = (np.where(finite, z, 0).reshape(-1, z.shape[-1] if z.ndim else 1) for z in (x, y))
        wrong, right = (np.linalg.norm(z, axis=1) for z in (x - y, y))  # [rows]
        average = max(float(np.linalg.norm(right)) / len(right) ** 0.5, 1e-30)
        whole = float(np.linalg.norm(wrong)) / len(wrong) ** 0.5 / average
        return max(whole, float(np.max(wrong / np.maximum(right, average))) / ROW_LIMIT)

    return float(
        np.max([of_leaf(x, y) for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True)])
    )
