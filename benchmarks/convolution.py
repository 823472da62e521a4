"""What does the library's choice of a convolution's formulation, and its own max pooling, save on a CPU?

    python benchmarks/convolution.py --cases first,pool2x2

Prints one JSON line for a case and a direction: the output, the gradient of the input, the gradient of the kernel; for
pooling the output with its gradient. `ratio` is XLA's time over ours, of medians, `p20_ratio` that of 20th percentiles;
above 1 we win. `cpu_ratio` is that of the time all threads spent, which neighbours disturb less. Where the table picks
XLA's own for a direction, nothing is timed.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
from interleaved import Samples, busy_share, interleave, warn_if_busy
from machine import cores, describe, versions

from jaxdl.nn.convolution import choose
from jaxdl.nn.convolution_formulations import FORMS
from jaxdl.nn.convolution_window import make_window
from jaxdl.nn.pooling import max_pool

Functions = dict[str, Callable[[], Any]]  # "ours" and "xla", each ready to call

CONVOLUTIONS: dict[str, tuple[Sequence[int], Sequence[int], dict[str, Any]]] = {
    # image, kernel, window; a row of `choose` each, at the shape its docstring reports
    "groups": ((32, 12, 12, 80), (3, 3, 16, 80), {"padding": 1, "groups": 5}),
    "depthwise": ((32, 12, 12, 128), (3, 3, 1, 128), {"padding": 1, "groups": 128}),
    "one_pixel": ((32, 24, 24, 64), (1, 1, 64, 128), {}),
    "one_pixel_strided": ((32, 24, 24, 64), (1, 1, 64, 128), {"strides": 2}),
    "first": ((256, 28, 28, 1), (5, 5, 1, 6), {"padding": 2}),
    "first_wide": ((32, 96, 96, 1), (3, 3, 1, 16), {"padding": 1}),
    "few": ((256, 14, 14, 6), (5, 5, 6, 16), {}),
    "tiny": ((32, 3, 3, 512), (3, 3, 512, 512), {"padding": 1}),
    "tiny_strided": ((32, 12, 12, 128), (3, 3, 128, 256), {"padding": 1, "strides": 2}),
    "many": ((32, 24, 24, 64), (3, 3, 64, 64), {"padding": 1}),
}
POOLS: dict[str, tuple[int, int, int]] = {"pool2x2": (2, 2, 0), "pool3x3": (3, 2, 1)}  # window, strides, padding


def main(arguments: list[str] | None = None) -> None:
    """Reads the flags and prints a line a case and direction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*CONVOLUTIONS, *POOLS]
    parser.add_argument("--cases", default=",".join(known), help=f"comma-separated, of {', '.join(known)}")
    parser.add_argument("--rounds", type=int, default=15, help="samples of each side")
    parser.add_argument("--sample-seconds", type=float, default=0.05, help="about how long one sample is")
    parser.add_argument("--max-wait", type=float, default=2.0, help="seconds to wait for a quiet machine, a sample")
    flags = parser.parse_args(arguments)
    names = flags.cases.split(",")
    if unknown := [name for name in names if name not in known]:
        parser.error(f"argument --cases: expected names out of {', '.join(known)}; got {', '.join(map(repr, unknown))}")
    if flags.rounds < 1:
        parser.error(f"argument --rounds: expected at least 1, got {flags.rounds}")

    jax.config.update("jax_platforms", "cpu")
    for name in names:
        for direction, form, functions in convolution_case(name) if name in CONVOLUTIONS else pool_case(name):
            line = measure(name, functions, flags.rounds, flags.sample_seconds, flags.max_wait)
            about = {"threads": cores(), "machine": describe(), "versions": versions("jax", "jaxlib", "flax")}
            print(json.dumps({"case": name, "direction": direction, "formulation": form, **line, **about}), flush=True)


def convolution_case(name: str) -> list[tuple[str, str, Functions]]:
    """Each direction for which the table does not pick XLA's: its name, the formulation, and both sides."""
    image, size, options = CONVOLUTIONS[name]
    window = make_window(image[1:3], size[:2], **options)
    choice = choose((*image,), (*size,), window, jnp.float32)
    x, kernel = normal(0, image), normal(1, size)
    cotangent = normal(2, (image[0], *window.output(image[1:3]), size[3]))

    def input_gradient(form: str, x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda x: FORMS[form](x, kernel, window), x)(cotangent)[0]

    def kernel_gradient(form: str, x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda kernel: FORMS[form](x, kernel, window), kernel)(cotangent)[0]

    def output(form: str, x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
        return FORMS[form](x, kernel, window)

    directions = [
        ("output", output, choice.output),
        ("input_gradient", input_gradient, choice.input_gradient),
        ("kernel_gradient", kernel_gradient, choice.kernel_gradient),
    ]
    return [
        (direction, form, {side: compiled(partial(fn, f), x, kernel, cotangent) for side, f in sides.items()})
        for direction, fn, form in directions
        if form != "xla"
        for sides in [{"ours": form, "xla": "xla"}]
    ]


def pool_case(name: str) -> list[tuple[str, str, Functions]]:
    """The output of a max pooling with its gradient."""
    size, strides, padding = POOLS[name]
    window, steps = (size, size), (strides, strides)
    pools = {
        "ours": lambda x: max_pool(x, window, steps, padding),
        "xla": lambda x: flax.linen.max_pool(x, window, steps, ((padding, padding),) * 2),  # pyright: ignore[reportArgumentType]
    }
    x = normal(0, (32, 48, 48, 64))
    cotangent = normal(1, jax.eval_shape(pools["ours"], x).shape)

    def both(pool: Callable[[jax.Array], jax.Array], x: jax.Array, cotangent: jax.Array) -> Any:
        y, transpose = jax.vjp(pool, x)
        return y, transpose(cotangent)

    functions = {side: compiled(partial(both, pool), x, cotangent) for side, pool in pools.items()}
    return [("output_and_gradient", "taps", functions)]


def normal(seed: int, shape: Sequence[int]) -> jax.Array:
    """Random numbers."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def compiled(fn: Callable[..., Any], *arguments: jax.Array) -> Callable[[], Any]:
    """The compiled function of these arguments, run once."""
    ready = jax.jit(fn).lower(*arguments).compile()
    jax.block_until_ready(ready(*arguments))
    return lambda: ready(*arguments)


def measure(
    name: str, functions: Functions, rounds: int, sample_seconds: float, max_wait: float
) -> dict[str, float | None]:
    """Times both sides in turn."""
    cpu: dict[str, list[float]] = {side: [] for side in functions}

    def run(side: str, passes: int) -> float:
        start, start_cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready([functions[side]() for _ in range(passes)][-1])
        cpu[side].append((time.process_time() - start_cpu) * 1e3 / passes)
        return (time.perf_counter() - start) * 1e3 / passes

    passes = {side: max(1, round(sample_seconds * 1e3 / run(side, 1))) for side in functions}
    samples: dict[str, Samples] = interleave(
        {side: partial(run, side) for side in functions}, passes, rounds=rounds, max_wait=max_wait
    )
    share = busy_share(samples)
    warn_if_busy(name, share)
    ours, xla = samples["ours"], samples["xla"]
    ours_cpu, xla_cpu = (float(np.percentile(cpu[side][1:], 20)) for side in ("ours", "xla"))
    return {
        "jaxdl_ms": round(ours.median, 4),
        "xla_ms": round(xla.median, 4),
        "ratio": round(xla.median / ours.median, 3),
        "p20_ratio": round(xla.p20 / ours.p20, 3),
        "jaxdl_p20_ms": round(ours.p20, 4),
        "xla_p20_ms": round(xla.p20, 4),
        "cpu_ratio": round(xla_cpu / ours_cpu, 3),
        "jaxdl_cpu_ms": round(ours_cpu, 4),
        "xla_cpu_ms": round(xla_cpu, 4),
        "rounds": rounds,
        "busy_share": share,
    }


if __name__ == "__main__":
    main()
