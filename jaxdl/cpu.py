"""What makes training on a CPU faster and has to be said before JAX starts: `tune`."""

import ctypes
import os
import platform
from importlib import metadata

import jax

CONVOLUTIONS_BY_ONEDNN = "--xla_cpu_experimental_onednn_custom_call=true"
NOT_BY_YNNPACK = (  # what else XLA gives to that library, it goes on giving
    "--xla_cpu_experimental_ynn_fusion_type="
    "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
)
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of mallopt(3)


def tune() -> None:
    """Sets this process up for training on a CPU; call it before the first array is made.

    - The C library (glibc) keeps freed memory for the next step. It would hand large arrays back to the kernel, which
      clears every page anew (0.2 s of processor time a GiB). The process may come to hold twice as much.
    - XLA computes convolutions in float32 with oneDNN (jax 0.12, x86-64), by way of `XLA_FLAGS`, which the processes
      that this one starts inherit. Flags of the same names that are set already are left alone.

    Where something does not apply, such as on a Mac, it is left out. `benchmarks/README.md` has what it gains. Source:
    mallopt(3).

    Raises:
      RuntimeError: if JAX has started, when it would be too late.
    """
    if started():
        raise RuntimeError("tune: expected to be called before JAX's first computation, which has been")
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_ARENA_MAX, 1)):
            libc.mallopt(option, value)
    flags = os.environ.get("XLA_FLAGS", "")
    names = [flag.partition("=")[0] for flag in (CONVOLUTIONS_BY_ONEDNN, NOT_BY_YNNPACK)]
    known = metadata.version("jaxlib").startswith("0.12.")  # a flag that XLA does not know ends the process
    if known and platform.machine() == "x86_64" and not any(name in flags for name in names):
        os.environ["XLA_FLAGS"] = f"{flags} {CONVOLUTIONS_BY_ONEDNN} {NOT_BY_YNNPACK}".lstrip()


def started() -> bool:
    """Whether JAX has started its devices, after which it refuses another number of them."""
    number = jax.config.values["jax_num_cpu_devices"]
    try:
        jax.config.update("jax_num_cpu_devices", number + 1)
    except RuntimeError:
        return True
    jax.config.update("jax_num_cpu_devices", number)
    return False


def convolutions_by_onednn() -> bool:
    """Whether XLA was told to compute convolutions in float32 with oneDNN."""
    return CONVOLUTIONS_BY_ONEDNN in os.environ.get("XLA_FLAGS", "").split()
