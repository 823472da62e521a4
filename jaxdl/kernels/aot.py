"""Compiles kernels for an H100 on a machine without a GPU, and reports what they take of it.

It needs the extra `aot`, which is CUDA's compiler without its libraries; what calls cuBLAS or cuDNN cannot be compiled
so. That a kernel compiles does not show that it runs or is fast, but one that spills registers, or whose tensor cores
have to wait for each other, is slow for certain.
"""

import importlib.util
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdl.kernels.mosaic import SHARED_MEMORY_LIMIT, too_old

TARGET = f"""
gpu_device_info {{
  cuda_compute_capability {{ major: 9 minor: 0 }}
  core_count: 132
  clock_rate_ghz: 1.98
  fpus_per_core: 128
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {SHARED_MEMORY_LIMIT}
  shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  l2_cache_size: 52428800
  memory_bandwidth: 3352320000000
  device_memory_size: 84978434048
}}
platform_name: "CUDA"
runtime_version {{ major: 13 minor: 0 patch: 0 }}
dnn_version_info {{ major: 9 minor: 8 patch: 0 }}
device_description_str: "NVIDIA H100 80GB HBM3"
"""  # an H100 SXM, as XLA describes devices


class Resources(NamedTuple):
    """What a compiled kernel takes."""

    kernel: str
    registers: int  # a thread, at the start
    spill_bytes: int  # a thread, stored because registers ran out (and loaded again)
    shared_memory: int  # bytes a block
    serialized: bool  # whether the compiler made tensor core instructions wait for each other

    @property
    def problem(self) -> str | None:
        """What makes it slow or impossible; None if nothing does."""
        if self.shared_memory > SHARED_MEMORY_LIMIT:
            return f"{self.shared_memory} bytes of shared memory, of {SHARED_MEMORY_LIMIT}"
        if self.spill_bytes:
            return f"{self.spill_bytes} bytes of registers spilled"
        if self.serialized:
            return "serialised wgmma"
        return None


def refusal() -> str | None:
    """Why nothing can be compiled here; None if it can."""
    if reason := too_old():
        return reason
    if importlib.util.find_spec("jax_plugins") is None or importlib.util.find_spec("jax_plugins.xla_cuda13") is None:
        return "jax-cuda13-plugin and jax-cuda13-pjrt are not installed: pip install -e '.[aot]'"
    if _ptxas_folder() is None:
        return "nvidia-cuda-nvcc is not installed: pip install -e '.[aot]'"
    return None


def h100_devices(num_devices: int = 1) -> list[Any]:
    """Devices for which programs can be compiled, and nothing else.

    Raises:
      ImportError: if the extra `aot` is not installed or jax too old for the kernels.
    """
    if reason := refusal():
        raise ImportError(f"h100_devices: {reason}")
    from jax.experimental import topologies

    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # it would miss cuDNN, which nobody calls
    topology = topologies.get_topology_desc("", "cuda", target_config=TARGET, topology=f"1x1x{num_devices}")
    return list(topology.devices)


def compile_for_h100(function: Callable[..., Any], *arguments: Any) -> list[Resources]:
    """Compiles a function of arrays and says what each of its Pallas kernels takes.

    Args:
      function: to be jitted.
      arguments: pytrees of arrays or of `jax.ShapeDtypeStruct`; those without a sharding are put on one device.

    Returns:
      One entry a kernel.

    Raises:
      ImportError: as for `h100_devices`.
      RuntimeError: if there is no kernel, or this process has lowered it before: then the compiler reports nothing.
      ValueError: where a kernel wants more shared memory than there is, or cannot be lowered; other errors of jax too.
    """
    one = NamedSharding(Mesh(np.asarray(h100_devices()), ("device",)), PartitionSpec())
    arguments = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=(isinstance(x, jax.ShapeDtypeStruct) and x.sharding) or one
        ),
        arguments,
    )
    with tempfile.TemporaryDirectory() as folder, _environment(folder):
        jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).compile()
        reports, sizes = (_by_number(Path(folder).glob(pattern)) for pattern in ("*.ptxas", "*.resources.txt"))
        if not reports or len(reports) != len(sizes):
            raise RuntimeError("function: expected Pallas kernels that this process has not lowered before, got none")
        return [read_report(*files) for files in zip(reports, sizes, strict=True)]


def read_report(path: Path, sizes_path: Path) -> Resources:
    """Reads what was written about a kernel.

    Args:
      path: of the file `.ptxas`, by the assembler.
      sizes_path: of the file `.resources.txt`, by Mosaic.

    Raises:
      ValueError: if a figure is missing in them.
    """
    report, sizes = path.read_text(), sizes_path.read_text()
    figures = {
        "registers": re.findall(r"Used (\d+) registers", report),
        "spilled bytes": re.findall(r"bytes stack frame, (\d+) bytes spill stores", report),
        "shared memory": re.findall(r"smem_scratch_bytes=(\d+)", sizes),
    }
    if missing := [name for name, found in figures.items() if not found]:
        raise ValueError(f"path: expected {path.name} to tell {', '.join(missing)}; got {report[:500]!r}, {sizes!r}")
    registers, spilled, shared = (list(map(int, found)) for found in figures.values())
    serialized = any("wgmma" in line and "serializ" in line for line in report.splitlines())
    return Resources(path.stem, max(registers), sum(spilled), max(shared), serialized)


def _by_number(paths: Iterable[Path]) -> list[Path]:
    """Files of kernels in the order in which they were compiled; the numbers in the two kinds of names may differ."""
    return sorted(paths, key=lambda path: int(path.name.partition(".")[0].rpartition("_")[2]))


def _ptxas_folder() -> Path | None:
    spec = importlib.util.find_spec("nvidia")
    for parent in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(parent).glob("*/bin/ptxas")):
            return path.parent
    return None


@contextmanager
def _environment(dump_folder: str) -> Iterator[None]:
    """Shows the compiler the assembler, and where to write its reports."""
    before = dict(os.environ)
    os.environ["PATH"] = f"{_ptxas_folder()}{os.pathsep}{os.environ.get('PATH', '')}"
    os.environ["MOSAIC_GPU_DUMP_TO"] = dump_folder
    try:
        yield
    finally:
        for name in ("PATH", "MOSAIC_GPU_DUMP_TO"):
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]
