"""Every test runs on eight fake CPU devices, with XLA's costly optimisations off and rank promotion an error.

Compile time is what a JAX test suite costs. A test that asserts on memory, HLO or speed is marked `optimized` and runs
its code in a subprocess, where `os.environ` is what the user has.
"""

import os
from collections.abc import Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("MPLBACKEND", "agg")

import jax
import pytest

jax.devices()  # started, so that no script under test tunes this process (`jaxdl.cpu`)


@pytest.fixture
def x64() -> Iterator[None]:
    """Float64 inside one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """A list that grows by one with each compilation that XLA does."""
    seen: list[str] = []

    def listen(event: str, duration: float, **kwargs: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)
