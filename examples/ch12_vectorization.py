"""A matrix product element by element, row by row, column by column, in blocks and whole (D2L 12.5.1).

    python examples/ch12_vectorization.py

256^3 multiply-adds are 0.03 GFLOP. Milliseconds on two cores of an AMD EPYC, the range of five runs beside other
programs:

                            a call each    one compiled loop
    element by element    1,246 to 4,152             19 to 54
    row by row                 3.1 to 13         0.56 to 0.67
    column by column           3.6 to 13         0.63 to 1.36
    16 columns at once      0.30 to 0.63         0.21 to 0.24
    whole                   0.19 to 0.24         0.18 to 0.23

A call takes over ten microseconds, whatever it does. Without calls single columns are still three times as slow as the
whole: for each, all of the first matrix is read again. Takes 8 to 12 s of processor time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import experiment, plotting


@dataclass(frozen=True)
class Config:
    """Times a product of two square matrices."""

    size: int = 256
    """Rows and columns of each, a power of 2."""
    seed: int = 0
    """Of their elements."""
    plot: Path | None = None
    """Where the picture goes; default: in the run's folder."""

    def __post_init__(self) -> None:
        if self.size < 2 or self.size & (self.size - 1):
            raise ValueError(f"size: expected a power of 2, at least 2; got {self.size}")


@dataclass(frozen=True)
class Timing:
    """A way to the product."""

    num_calls: int
    seconds_called: float
    """For the whole product, a call from Python for each part."""
    seconds_looped: float
    """In one compiled loop over the parts."""
    error: float
    """The largest distance from NumPy's product in float64, of both."""


def block(a: jax.Array, b: jax.Array, i: jax.Array, j: jax.Array, height: int, width: int) -> jax.Array:
    """Rows i to i + height and columns j to j + width of the product."""
    rows = jax.lax.dynamic_slice_in_dim(a, i, height, axis=0)
    columns = jax.lax.dynamic_slice_in_dim(b, j, width, axis=1)
    return rows @ columns  # [height, width]


def measure(a: jax.Array, b: jax.Array, height: int, width: int) -> Timing:
    """Multiplies by blocks of one shape, and times it."""
    (num_rows, _), (_, num_columns) = a.shape, b.shape
    corners = [(i, j) for i in range(0, num_rows, height) for j in range(0, num_columns, width)]
    call = jax.jit(partial(block, height=height, width=width))
    on_device = [(jnp.asarray(i), jnp.asarray(j)) for i, j in corners]  # not part of the product's time

    def called() -> list[jax.Array]:
        return [call(a, b, i, j) for i, j in on_device]

    @jax.jit
    def looped(a: jax.Array, b: jax.Array, corners: jax.Array) -> jax.Array:
        return jax.lax.map(lambda corner: call(a, b, corner[0], corner[1]), corners)  # [blocks, height, width]

    all_corners, expected = jnp.asarray(corners), np.asarray(a, np.float64) @ np.asarray(b, np.float64)
    expected = np.stack([expected[i : i + height, j : j + width] for i, j in corners])
    results = np.stack(jax.device_get(called())), np.asarray(looped(a, b, all_corners))
    error = max(float(np.abs(result - expected).max()) for result in results)
    repeats = min(20, 1 + 2000 // len(corners))
    times = seconds_of(called, repeats), seconds_of(lambda: looped(a, b, all_corners), repeats)
    return Timing(len(corners), *times, error)


def seconds_of(function: Callable[[], Any], repeats: int) -> float:
    """The least of some calls: what other programs take is not the product's."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - begin)
    return min(times)


def main(config: Config) -> dict[str, float]:
    """Times every way, prints the table, draws, and returns the errors and the work in GFLOP."""
    path = config.plot or experiment.run_folder("ch12_vectorization") / "vectorization.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    n, rng = config.size, np.random.default_rng(config.seed)
    a, b = (jnp.asarray(rng.normal(size=(n, n)), jnp.float32) for _ in range(2))
    gigaflops = 2 * n**3 / 1e9  # a multiplication and an addition each
    widths = [2**k for k in range(n.bit_length())]
    of_columns = (
        {"column by column": (n, 1)} | {f"{w} columns at once": (n, w) for w in widths[1:-1]} | {"whole": (n, n)}
    )
    ways = {"element by element": (1, 1), "row by row": (1, n)} | of_columns
    figures, timings = {"GFLOP": gigaflops}, {}
    print(f"{n} x {n} times {n} x {n}: {n**3:,} multiply-adds, {gigaflops:.3f} GFLOP")
    print(f"{'':<23} calls   a call each: ms  GFLOP/s   one compiled loop: ms  GFLOP/s")
    for name, (height, width) in ways.items():
        timings[name] = timing = measure(a, b, height, width)
        figures[f"error/{name}"] = timing.error
        called, looped = timing.seconds_called, timing.seconds_looped
        row = f"{1e3 * called:>17.2f} {gigaflops / called:>8.2f} {1e3 * looped:>23.2f} {gigaflops / looped:>8.2f}"
        print(f"  {name:<19} {timing.num_calls:>7} {row}")

    series = {
        "a call each": [gigaflops / timings[name].seconds_called for name in of_columns],
        "one compiled loop": [gigaflops / timings[name].seconds_looped for name in of_columns],
    }
    title = f"{n} x {n} matrices: narrow blocks cost calls and use little of what they read"
    axes = plotting.figure(7, 4.3).subplots()
    plotting.lines(widths, series, xlabel="columns at once", xscale="log", yscale="log", title=title, axes=axes)
    axes.set_ylabel("GFLOP a second")
    axes.set_xticks(widths, [f"{width}" for width in widths], minor=False)
    axes.minorticks_off()
    for line in axes.lines:
        line.set_marker("o")
    axes.legend()
    axes.figure.savefig(path, dpi=110)
    print(f"picture: {path}")
    return figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
