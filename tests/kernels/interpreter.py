"""Runs kernels in Pallas' interpreter, in a process of their own: a wrong one may hang or leave broken threads."""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import numpy as np
import pytest

LIMIT = 120.0  # seconds a call, on a busy machine; a quiet one takes 1 to 5

needs_pallas = pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="the Pallas kernels need jax 0.11")

_pool: ProcessPoolExecutor | None = None


def run_interpreted(function: Callable[..., Any], *args: Any, detect_races: bool = True, **kwargs: Any) -> Any:
    """Calls a function of a module with arrays, under `jaxdl.kernels.interpret`, and returns its results as NumPy's.

    The process is kept from one call to the next, unless a call fails or hangs: then it ends with the process.

    Raises:
      TimeoutError: if it takes longer than `LIMIT`.
      Exception: what the function raised; races and strict barriers, among others.
    """
    global _pool
    if _pool is None:
        context = multiprocessing.get_context("spawn")
        _pool = ProcessPoolExecutor(max_workers=1, mp_context=context, initializer=_plain_environment)
    try:
        return _pool.submit(_run, function, detect_races, args, kwargs).result(timeout=LIMIT)
    except BaseException:
        for process in list((_pool._processes or {}).values()):
            process.kill()
        _pool.shutdown(wait=False, cancel_futures=True)
        _pool = None
        raise


def _plain_environment() -> None:
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"  # threads for all that is simulated
    jax.config.update("jax_platforms", "cpu")


def _run(function: Callable[..., Any], detect_races: bool, args: Any, kwargs: Any) -> Any:
    from jaxdl.kernels.mosaic import interpret

    with interpret(detect_races):
        return jax.tree.map(np.asarray, jax.block_until_ready(jax.jit(lambda *xs: function(*xs, **kwargs))(*args)))
