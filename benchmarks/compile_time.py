"""How long does a training step take to compile, beside the same step with XLA's own convolutions, as Flax has them?

    python benchmarks/compile_time.py --cases lenet,resnet18,first

Prints one JSON line a case: the seconds to trace, lower and compile, each of the three, and the number of operations
lowered, of the fastest of some rounds in turn; `ratio` is XLA's seconds over ours. A name of `cases.py` (or
`regnetx_32`) is the whole training step; one of `convolution.py` is an `nn.Conv` by itself, its output and the
gradients of its parameters and image, beside `flax.linen.Conv`.
"""

import argparse
import json
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any
from unittest import mock

import flax.linen
import jax
import jax.numpy as jnp
from cases import CASES, Case, modern_cnn
from convolution import CONVOLUTIONS
from interleaved import warn_if_busy
from machine import cores, describe, versions, wait_until_quiet

from jaxdl import cpu, nn
from jaxdl.nn.convolution import XLA
from jaxdl.vision import regnetx_32

Program = tuple[Callable[..., Any], tuple[Any, ...]]  # a function, and the shapes of its arguments
NETWORKS: dict[str, Callable[[], Case]] = {
    name: CASES[name] for name in ("lenet", "lenet_relu_max", "vgg", "nin", "googlenet", "resnet18", "densenet")
} | {"regnetx_32": lambda: modern_cnn(regnetx_32())}


def main(arguments: list[str] | None = None) -> None:
    """Reads the flags and prints a line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*NETWORKS, *CONVOLUTIONS]
    parser.add_argument("--cases", default=",".join(known), help=f"comma-separated, of {', '.join(known)}")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each side")
    parser.add_argument("--untuned", action="store_true", help="without jaxdl.cpu.tune")
    parser.add_argument("--max-wait", type=float, default=2.0, help="seconds to wait for a quiet machine, a sample")
    flags = parser.parse_args(arguments)
    names = flags.cases.split(",")
    if unknown := [name for name in names if name not in known]:
        parser.error(f"argument --cases: expected names out of {', '.join(known)}; got {', '.join(map(repr, unknown))}")
    if flags.rounds < 1:
        parser.error(f"argument --rounds: expected at least 1, got {flags.rounds}")

    if not flags.untuned:
        cpu.tune()
    jax.config.update("jax_platforms", "cpu")
    for name in names:
        line = measure(name, flags.rounds, flags.max_wait)
        about = {"threads": cores(), "machine": describe(), "versions": versions("jax", "jaxlib", "flax")}
        print(json.dumps({"case": name, "tuned": not flags.untuned, **line, **about}), flush=True)


def training_step(name: str) -> Program:
    """A case's step."""
    case = NETWORKS[name]()
    return case.step, (case.state, case.examples(case.batch_size))


def layer(conv: Any, name: str) -> Program:
    """One layer of a class, `nn.Conv` or Flax's: its output, and the gradients of its parameters and its image."""
    image, (*size, _, features), options = CONVOLUTIONS[name]
    options = {"padding": "VALID", **options}
    module = conv(features, tuple(size), feature_group_count=options.pop("groups", 1), **options)
    x = jax.ShapeDtypeStruct(image, jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)

    def output_and_gradients(variables: Any, x: jax.Array) -> Any:
        y, transpose = jax.vjp(module.apply, variables, x)
        return y, transpose(jnp.cos(y))

    return output_and_gradients, (variables, x)


def compiled(program: Program) -> tuple[float, ...]:
    """Seconds in all, to trace, to lower and to compile, with nothing kept of an earlier call; lowered operations."""
    jax.clear_caches()
    fn, arguments = program
    start = time.perf_counter()
    traced = jax.jit(fn).trace(*arguments)
    at_traced = time.perf_counter()
    lowered = traced.lower()
    at_lowered = time.perf_counter()
    lowered.compile()
    end = time.perf_counter()
    operations = lowered.as_text().count(" = ")
    return end - start, at_traced - start, at_lowered - at_traced, end - at_lowered, operations


def measure(case: str, rounds: int, max_wait: float) -> dict[str, Any]:
    """Compiles both sides in turn and returns the figures of a line."""
    if case in NETWORKS:
        ours_program = plain_program = training_step(case)
    else:
        ours_program, plain_program = layer(nn.Conv, case), layer(flax.linen.Conv, case)
    module = import_module("jaxdl.nn.convolution")  # not the function, which has the same name in `jaxdl.nn`
    xla = mock.patch.object(module, "choose", return_value=XLA)
    ours, plain, quiet = [], [], []
    for _ in range(rounds):
        quiet += [wait_until_quiet(max_wait)]
        ours += [compiled(ours_program)]
        quiet += [wait_until_quiet(max_wait)]
        with xla:
            plain += [compiled(plain_program)]
    share = None if None in quiet else round(quiet.count(False) / len(quiet), 3)
    warn_if_busy(case, share)
    names = ("s", "trace_s", "lower_s", "compile_s", "operations")
    best = {side: dict(zip(names, min(samples), strict=True)) for side, samples in (("jaxdl", ours), ("xla", plain))}
    return {
        **{f"{side}_{name}": round(value, 4) for side, values in best.items() for name, value in values.items()},
        "ratio": round(best["xla"]["s"] / best["jaxdl"]["s"], 3),
        "rounds": rounds,
        "busy_share": share,
    }


if __name__ == "__main__":
    main()
