"""What a GPU kernel is made of (systems course, 23.7): loads that are counted, three kernels, and the races they avoid.

    python examples/ch13_pallas_kernels.py

Four steps. First strides: what a warp pays for walking an array the wrong way. Then the loads of a matrix product in
tiles, counted while it runs in NumPy and drawn over the formulas, beside what they mean for an H100. Then the teaching
kernels of `jaxdl.kernels` (vector addition, sums over windows with a halo, the product in tiles) in Pallas' simulated
GPU, on any machine, against NumPy. Last the same kernels with one line forgotten, and how the simulation finds it.

Steps three and four need jax 0.11 or later, which needs Python 3.12 or later; elsewhere they are skipped with that
reason. With 64 x 64 matrices the largest tile loads 64 times less than none, and every count is the formula's. On jax
0.12 the kernels differ from NumPy by 0, 1.1e-6 and 5.7e-6, and both races are found. It takes 3 s of processor time on
two cores of an AMD EPYC.
"""

import linecache
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import experiment, kernels, plotting

PEAK = 989e12  # bfloat16 operations a second of an H100's tensor cores
BANDWIDTH = 3.35e12  # bytes a second from its memory
TILES = (64, 128), (128, 256)  # of `tiled_matmul`, and a large one


@dataclass(frozen=True)
class Config:
    """Counts loads and walks through three kernels."""

    size: int = 64
    """Rows and columns of the matrices whose loads are counted; a power of 2, at least 4."""
    seed: int = 0
    """Of the numbers."""
    plot: Path | None = None
    """Where the picture goes; default: inside the run's folder."""

    def __post_init__(self) -> None:
        if self.size < 4 or self.size & (self.size - 1):
            raise ValueError(f"size: expected a power of 2 of at least 4, got {self.size}")


def show_strides() -> None:
    """A view is an offset and strides; which axis is walked decides how many lines of memory move."""
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    print("1. Strides. Element [i, j] lies i * strides[0] + j * strides[1] behind the first; views copy nothing:")
    for name, view in (
        ("array", array),
        ("array.T", array.T),
        ("array[:, ::2]", array[:, ::2]),
        ("one row for all", np.broadcast_to(array[0], (3, 4))),
    ):
        strides = [stride // array.itemsize for stride in view.strides]
        print(
            f"   {name:16} shape {list(view.shape)}  strides {strides}  shares memory {np.shares_memory(view, array)}"
        )
    print("   Memory comes in lines of 128 bytes. 32 threads of a warp that each load a float32 move, by stride:")
    lines = {stride: kernels.lines_touched(stride) for stride in (0, 1, 2, 8, 32, 1000)}
    print("   " + ", ".join(f"{stride}: {count}" for stride, count in lines.items()) + " lines\n")


def count_loads(size: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Multiplies in tiles of each size, which also serve as blocks of the cache, and counts what is loaded."""
    tiles = 2 ** np.arange(size.bit_length())
    a, b = rng.standard_normal((2, size, size))
    rows = []
    print(f"2. Loads of a product of two {size} x {size} matrices, counted (and by the formula):")
    print("   tile t   to registers, 2 n^3 / t       to the cache, n^2 + n^3 / t")
    for tile in map(int, tiles):
        counted = kernels.blocked_matmul(a, b, block_m=tile, block_n=tile, tile_m=tile, tile_n=tile)
        np.testing.assert_allclose(counted.product, a @ b, atol=1e-10)
        sizes = (size, size, size)
        model = kernels.tiled_matmul_loads(*sizes, tile, tile), kernels.cache_blocked_loads(*sizes, tile)
        rows.append((counted.from_cache, counted.from_memory, *model))
        print(f"   {tile:6}   {rows[-1][0]:10,} ({model[0]:,})".ljust(42) + f"{rows[-1][1]:10,} ({model[1]:,})")
    small, large = (BANDWIDTH * intensity(*tile) / 1e12 for tile in TILES)
    print(f"   An H100 computes up to 989 TFLOP/s. Fed from its memory alone, tiles of 64 x 128 allow {small:.0f} and")
    print(f"   tiles of 128 x 256 {large:.0f}: programs that run together must find each other's tiles in the cache.")
    names = ("registers", "cache", "registers_model", "cache_model")
    return {"tile": tiles, **dict(zip(names, np.array(rows).T, strict=True))}


def intensity(tile_m: float, tile_n: float, itemsize: int = 2) -> float:
    """Operations a byte of a large product in tiles: 2 n^3 of them for n^3 / tile_m + n^3 / tile_n loads."""
    return 2 / (itemsize * (1 / tile_m + 1 / tile_n))


def draw(loads: dict[str, np.ndarray], size: int, path: Path) -> None:
    """The counted loads on the formulas, and the roof that memory puts over tiles."""
    picture = plotting.figure(10, 4)
    left, right = picture.subplots(1, 2)
    names = {"registers": "to registers: $2n^3/t$", "cache": "to the cache: $n^2+n^3/t$"}
    plotting.lines(
        loads["tile"], {label: loads[f"{name}_model"] for name, label in names.items()}, axes=left, xscale="log",
        yscale="log", xlabel="tile t (rows and columns)", ylabel="numbers loaded",
        title=f"A product of {size} x {size} matrices (n = {size})",
    )  # fmt: skip
    for name, color in zip(names, ("C0", "C1"), strict=True):
        left.plot(loads["tile"], loads[name], "o", color=color, label=f"counted, {name}")
    left.set_xscale("log", base=2)
    left.legend()

    tiles = np.logspace(4, 11, 100, base=2)
    roof = np.minimum(PEAK, BANDWIDTH * np.array([intensity(tile, tile) for tile in tiles])) / 1e12
    plotting.lines(
        tiles, {"if every load comes from memory": roof}, axes=right, yscale="log", xlabel="tile t (rows and columns)",
        ylabel="TFLOP/s at most", title="bfloat16 on an H100: 3.35 TB/s, 989 TFLOP/s",
    )  # fmt: skip
    for tile_m, tile_n in TILES:
        speed = BANDWIDTH * intensity(tile_m, tile_n) / 1e12
        right.plot((tile_m * tile_n) ** 0.5, speed, "o", label=f"{tile_m} x {tile_n}: {speed:.0f}")
    right.set_xscale("log", base=2)
    right.legend()
    picture.savefig(path, dpi=120)


def run_kernels(rng: np.random.Generator) -> dict[str, float]:
    """The three kernels against NumPy: of each the largest error."""
    x, y = rng.standard_normal((2, 512)).astype(np.float32)
    radius = 4
    padded = np.pad(x, radius)
    a, b = (jnp.asarray(rng.standard_normal(shape), jnp.bfloat16) for shape in ((128, 192), (192, 256)))
    with kernels.interpret():
        results = {
            "vector_add": kernels.vector_add(jnp.asarray(x), jnp.asarray(y)),
            "window_sum": kernels.window_sum(jnp.asarray(padded), radius),
            "tiled_matmul": kernels.tiled_matmul(a, b),
        }
        results = {name: np.asarray(result) for name, result in results.items()}
    expected = {
        "vector_add": x + y,
        "window_sum": np.convolve(padded, np.ones(2 * radius + 1), mode="valid"),
        "tiled_matmul": np.asarray(a, np.float64) @ np.asarray(b, np.float64),
    }
    errors = {name: float(np.abs(result - expected[name]).max()) for name, result in results.items()}
    alone, shared = kernels.window_sum_loads(512, radius), kernels.window_sum_loads(512, radius, block=128)
    print("3. Kernels in the simulated GPU, and their largest difference from NumPy:")
    print(f"   vector_add    {errors['vector_add']:.1e}   4 programs add 128 numbers each")
    print(f"   window_sum    {errors['window_sum']:.1e}   {shared:,} numbers loaded; without shared memory {alone:,}")
    alone, shared = (kernels.tiled_matmul_loads(128, 192, 256, *tile) for tile in ((1, 1), (64, 128)))
    print(f"   tiled_matmul  {errors['tiled_matmul']:.1e}   {shared:,} numbers loaded; without tiles {alone:,}\n")
    return {f"{name}_error": error for name, error in errors.items()}


def plant_races(rng: np.random.Generator) -> int:
    """Takes lines out of `vector_add` and returns how many of the mistakes the simulation finds."""
    from jax.experimental.pallas import mosaic_gpu as plgpu

    x = jnp.asarray(rng.standard_normal(256), jnp.float32)
    mistakes = {
        "barrier_wait": "the numbers may not have arrived when they are added",
        "commit_smem": "the copy engine may not see the sums that it copies out",
    }
    found = 0
    print("4. vector_add with a line forgotten. The result may be right by luck; the simulation finds the race:")
    for forgotten, consequence in mistakes.items():
        with mock.patch.object(plgpu, forgotten), errors_of_callbacks() as errors:
            try:
                with kernels.interpret():
                    jax.block_until_ready(kernels.vector_add(x, x))
            except jax.errors.JaxRuntimeError as error:
                errors.append(error)
        accesses = [access for error in errors for access in accesses_of(str(error))]
        found += len(accesses) > 0
        print(f"   without {forgotten}: {consequence}. No order is defined between")
        for access in accesses[:2]:
            print(f"      {access}")
    return found


@contextmanager
def errors_of_callbacks() -> Iterator[list[Exception]]:
    """Collects what the simulation raises, which jax logs in full and passes on cut off."""
    errors: list[Exception] = []

    def collect(record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], Exception):
            errors.append(record.exc_info[1])
        return False

    logger = logging.getLogger("jax._src.callback")
    logger.addFilter(collect)
    try:
        yield errors
    finally:
        logger.removeFilter(collect)


def accesses_of(report: str) -> list[str]:
    """The two accesses of a race: read or write, and the line of the kernel that does it."""
    found = re.findall(r"^ *(read|write) of .*, (\S+):(\d+):\d+ \(", report, re.MULTILINE)
    return [f"{kind:5} by line {line}: {linecache.getline(file, int(line)).strip()}" for kind, file, line in found]


def main(config: Config) -> dict[str, float]:
    """Runs the four steps; returns the errors, how many races were found, and how far counts are from formulas."""
    rng = np.random.default_rng(config.seed)
    show_strides()
    loads = count_loads(config.size, rng)
    gap = max(float(np.abs(loads[name] - loads[f"{name}_model"]).max()) for name in ("registers", "cache"))
    path = config.plot or experiment.run_folder("ch13_pallas_kernels") / "loads.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(loads, config.size, path)
    print(f"   picture: {path}\n")
    metrics = {"largest_count_gap": gap, "loads_saved": float(loads["registers"][0] / loads["registers"][-1])}
    try:
        with kernels.interpret():
            pass
    except ImportError as missing:
        print(f"3. and 4. The kernels are skipped: {missing}")
        return metrics
    return metrics | run_kernels(rng) | {"races_found": plant_races(rng)}


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
