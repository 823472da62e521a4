"""What machine this is, and whether anything else is running on it."""

import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

LOADAVG = Path("/proc/loadavg")
CPUINFO = Path("/proc/cpuinfo")
QUIET_LOOKS = 4  # in a row; one look alone may fall between two slices of a neighbour's time


def cores() -> int:
    """How many cores this process may use, which is also how many threads XLA starts."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, str | int]:
    """The machine in words."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": cores(),
        "system": platform.system(),
    }


def versions(*packages: str) -> dict[str, str]:
    """The versions of this interpreter and of installed packages."""
    return {"python": ".".join(map(str, sys.version_info[:3]))} | {name: metadata.version(name) for name in packages}


def wait_until_quiet(max_wait: float) -> bool | None:
    """Waits until this process is the only one that wants a core.

    Args:
      max_wait: seconds after which to give up; 0 looks once.

    Returns:
      Whether it became quiet; None where the system does not say.
    """
    if not LOADAVG.exists():
        return None
    deadline, quiet_looks = time.monotonic() + max_wait, 0
    while True:
        runnable = int(LOADAVG.read_text().split()[3].partition("/")[0])  # this process included
        quiet_looks = quiet_looks + 1 if runnable <= 1 else 0
        if quiet_looks >= QUIET_LOOKS or time.monotonic() >= deadline:
            return quiet_looks > 0
        time.sleep(0.0015)
