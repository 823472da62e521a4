"""Which block sizes of the Pallas kernels compile well for an H100, and which of those are the fastest?

    python benchmarks/autotune.py --op forward --depth 128 --causal
    python benchmarks/autotune.py --shipped

Compiles every configuration for an H100 (any machine; without the extra `aot` it ends with 1 and says so) and drops
those that need too much shared memory, spill registers or have serialised tensor core instructions. Where there is a
GPU the rest is timed, the fastest last; elsewhere they are printed with what they take. One JSON line each. The
defaults are in `jaxdl/kernels/configs.py`; `--shipped` checks all of them instead, with and without masks.
"""

import argparse
import itertools
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from accelerator import (
    PEAK_SIZE,
    Worker,
    call_all,
    describe_device,
    describe_error,
    normal,
    peak_runner,
    runner,
    time_in_turn,
)  # fmt: skip
from kernel_cases import AttentionCase, MatmulCase, attention_at

from jaxdl.kernels import aot, configs
from jaxdl.kernels.attention_case import make_case
from jaxdl.kernels.configs import AttentionBackwardConfig, AttentionConfig, Config, DecodeConfig, MatmulConfig

BLOCKS = (64, 128, 192, 256)
# What is masked in the checks of the defaults. The gradients of keys and values are the shortest of registers, and
# fewer masks may spill where all do not.
PADDED: dict[str, Any] = {"lengths": True, "segments": True}
EVERYTHING = PADDED | {"softcap": 20.0, "window": (1024, 1024)}
FEWER = ({"softcap": 20.0}, {"window": (1024, 1024)}, {"softcap": 20.0, "window": (1024, 1024)}, PADDED)
MASKS = {"forward": (EVERYTHING,), "dq": (EVERYTHING,), "dkv": (EVERYTHING, *FEWER)}
H100 = "NVIDIA H100 80GB HBM3"
COMPILE_LIMIT, TIME_LIMIT = 300.0, 60.0  # seconds


class Trial(NamedTuple):
    """A configuration of a kernel, and what to try it on."""

    op: str
    case: AttentionCase | MatmulCase
    config: Config


def candidates(op: str) -> list[Config]:
    """All configurations of a kernel that are worth a try."""
    if op == "forward":
        return [AttentionConfig(*sizes) for sizes in itertools.product((64, 128), BLOCKS, (2, 3, 4))]
    if op == "dq":
        grid = itertools.product((64, 128), (64, 128), (1, 2, 3))
        return [AttentionBackwardConfig(block_q_dq=q, block_kv_dq=kv, num_stages=n) for q, kv, n in grid]
    if op == "dkv":
        grid = itertools.product((64, 128), (64, 128), (1, 2, 3))
        return [AttentionBackwardConfig(block_q_dkv=q, block_kv_dkv=kv, num_stages=n) for q, kv, n in grid]
    if op == "matmul":
        grid = itertools.product((64, 128), (128, 256), (64,), (3, 4, 5, 6), (4, 8, 16), (1, 2))
        return [MatmulConfig(*sizes) for sizes in grid]
    return [DecodeConfig(block, None, stages) for block, stages in itertools.product(BLOCKS, (2, 3, 4, 6))]


OPERATIONS = ("forward", "dq", "dkv", "matmul", "decode")


def shipped() -> list[Trial]:
    """Every default for an H100, on the kinds of cases for which it is looked up."""
    table, trials = configs.H100, []
    depths, lengths = (64, 128, 256), {row.length or 8192 for row in table.attention + table.attention_backward}
    for depth, length, is_causal, is_masked in itertools.product(depths, lengths, (False, True), (False, True)):
        case, of = attention_at(depth, length, is_causal), (depth, length, length, is_causal, is_masked, H100)
        backward = configs.attention_backward_config(*of)
        for op, config in (("forward", configs.attention_config(*of)), ("dq", backward), ("dkv", backward)):
            cases = [masked(case, masks) for masks in MASKS[op]] if is_masked else [case]
            trials += [Trial(op, x, config) for x in cases]
    for depth, length, is_masked in itertools.product(
        depths, {row.length or 8192 for row in table.decode}, (False, True)
    ):
        case = AttentionCase(16, 1, length, 32, 8, depth, lengths=is_masked, softcap=20.0 if is_masked else None)
        trials.append(Trial("decode", case, configs.decode_config(depth, 1, case.kv_len, False, is_masked, H100)))
    for row in table.matmul:
        case = MatmulCase(row.m or 8192, row.n or 8192, 8192)
        fused = replace(case, bias=True, activation="gelu", transpose_a=True, transpose_b=True)
        trials += [Trial("matmul", x, row.config) for x in (case, fused)]
    return trials


def masked(case: AttentionCase, masks: dict[str, Any]) -> AttentionCase:
    """With heads of keys that serve several too."""
    return replace(case, kv_heads=max(case.heads // 4, 1), **masks)


def program(trial: Trial) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The function that launches the kernel, and the shapes of its arguments."""
    if isinstance(trial.case, MatmulCase):
        return matmul_program(trial.case, trial.config)
    case, config = trial.case, cast(Any, trial.config)
    q_shape, kv_shape = (case.batch, case.q_len, case.heads), (case.batch, case.kv_len, case.kv_heads)
    query, key, value = (struct((*shape, case.depth), case.dtype) for shape in (q_shape, kv_shape, kv_shape))
    options: dict[str, Any] = {}
    if case.lengths:
        options |= {name: struct((case.batch,), "int32") for name in ("query_seq_lengths", "key_value_seq_lengths")}
    if case.segments:
        options["query_segment_ids"] = struct((case.batch, case.q_len), "int32")
        options["key_value_segment_ids"] = struct((case.batch, case.kv_len), "int32")
    bias = struct((1, case.heads, case.q_len, case.kv_len), case.dtype) if case.bias else None
    attention = make_case(
        query,
        key,
        value,
        bias,
        is_causal=case.is_causal,
        local_window_size=case.window,
        softcap=case.softcap,
        **options,
    )
    form, extras = attention.form, attention.extras

    if trial.op in ("forward", "decode"):
        from jaxdl.kernels import attention_decode, attention_hopper_forward

        if case.bias:  # as the dispatch does: a bias may want smaller blocks
            config = attention_hopper_forward.fitting(config, extras, form)
        launch: Any = attention_decode.decode if trial.op == "decode" else attention_hopper_forward.forward
        return lambda q, k, v, extras: launch(q, k, v, extras, form, config), (query, key, value, extras)

    from jaxdl.kernels.attention_hopper_backward import backward

    wanted = slice(0, 1) if trial.op == "dq" else slice(1, 3)  # XLA drops the kernel of the rest
    residual = struct((case.batch, case.heads, case.q_len), "float32")

    def gradients(q: Any, k: Any, v: Any, extras: Any, output: Any, residual: Any, d_output: Any) -> Any:
        d_residual = jnp.zeros_like(residual)
        return backward(q, k, v, extras, form, output, residual, d_output, d_residual, config)[wanted]

    return gradients, (query, key, value, extras, query, residual, query)


def matmul_program(case: MatmulCase, config: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """As `program`."""
    from jaxdl.kernels.matmul_hopper import multiply

    a, b = (case.m, case.k), (case.k, case.n)
    a, b = a[::-1] if case.transpose_a else a, b[::-1] if case.transpose_b else b
    batch = max(case.batch, 1)
    arrays = [struct((batch, *shape), case.dtype) for shape in (a, b)]
    bias = struct((1, case.n), case.dtype) if case.bias else None

    def product(a: Any, b: Any, bias: Any) -> Any:
        return multiply(
            a, b, bias, transpose_a=case.transpose_a, transpose_b=case.transpose_b, activation=case.activation,
            out_dtype=a.dtype, config=config,
        )  # fmt: skip

    return product, (*arrays, bias)


def struct(shape: tuple[int, ...], dtype: str) -> jax.ShapeDtypeStruct:
    """A shape."""
    return jax.ShapeDtypeStruct(shape, dtype)


def compile_trial(trial: Trial) -> dict[str, Any]:
    """What the kernel takes on an H100."""
    function, arguments = program(trial)
    try:
        kernels = aot.compile_for_h100(function, *arguments)
    except ValueError as error:  # more shared memory than there is, or a size that the kernel does not have
        return {"problem": describe_error(error)}
    problems = [kernel.problem for kernel in kernels if kernel.problem]
    return {
        "registers": max(kernel.registers for kernel in kernels),
        "spill_bytes": sum(kernel.spill_bytes for kernel in kernels),
        "shared_memory": max(kernel.shared_memory for kernel in kernels),
        "serialized": any(kernel.serialized for kernel in kernels),
        "problem": "; ".join(problems) or None,
    }


def lower_trial(trial: Trial) -> dict[str, Any]:
    """Lowers the kernel for CUDA, which needs no more than jax."""
    function, arguments = program(trial)
    text = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    return {"problem": None if "mosaic_gpu" in text else "no kernel was lowered"}


def time_trial(trial: Trial, rounds: int, sample_ms: float) -> dict[str, Any]:
    """Milliseconds a call, beside those of a product by cuBLAS."""
    function, arguments = program(trial)

    def fill(x: jax.ShapeDtypeStruct) -> jax.Array:  # lengths and segments that hide nothing
        whole = jnp.issubdtype(x.dtype, jnp.integer)
        return jnp.full(x.shape, 1 << 30, x.dtype) if whole else normal(0, x.shape, x.dtype)

    arrays = jax.tree.map(fill, arguments)
    runners = {"ours": runner(function, *arrays), "peak": peak_runner()}
    samples = time_in_turn(runners, rounds=rounds, sample_ms=sample_ms)
    peak = 2.0 * PEAK_SIZE**3 / samples["peak"].median * 1e-9
    return {"ms": round(samples["ours"].median, 4), "peak_tflops": round(peak, 1)}


def main(arguments: list[str] | None = None) -> None:
    """Reads the flags and prints the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--op", choices=OPERATIONS, default="forward")
    parser.add_argument("--depth", type=int, choices=(64, 128, 256), default=128, help="of attention")
    parser.add_argument("--length", type=int, default=8192, help="of queries and keys; m, n and k of a product")
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--masked", action="store_true", help="with lengths, segments, a window and a softcap")
    parser.add_argument("--shipped", action="store_true", help="check the defaults instead")
    parser.add_argument("--lower", action="store_true", help="with --shipped: lower only, without the extra `aot`")
    parser.add_argument("--dropped", action="store_true", help="print what is dropped, too")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes that compile")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--sample-ms", type=float, default=30.0)
    flags = parser.parse_args(arguments)
    if flags.jobs < 1:
        parser.error(f"argument --jobs: expected at least 1, got {flags.jobs}")
    if flags.lower and not flags.shipped:
        parser.error("argument --lower: only with --shipped; what has only been lowered may spill or not compile")
    if flags.op in ("matmul", "decode") and (flags.causal or flags.masked):
        parser.error(f"argument --causal, --masked: not of --op {flags.op}")
    if not flags.lower and (reason := aot.refusal()):
        sys.exit(f"nothing was compiled: {reason}")

    trials = shipped() if flags.shipped else [Trial(flags.op, case_of(flags), x) for x in candidates(flags.op)]
    judge = lower_trial if flags.lower else compile_trial
    survivors = []
    for (trial,), found in call_all(
        judge, [(trial,) for trial in trials], num_processes=flags.jobs, platform="cpu", limit=COMPILE_LIMIT
    ):
        found = {"problem": found["failed"]} if "failed" in found else found
        if found["problem"] is None:
            survivors.append((trial, found))
        if flags.shipped or (found["problem"] is not None and flags.dropped):
            print_line(trial, found)
    if not flags.shipped:
        time_survivors(survivors, flags.rounds, flags.sample_ms)


def case_of(flags: argparse.Namespace) -> AttentionCase | MatmulCase:
    """What to try on."""
    if flags.op == "matmul":
        return MatmulCase(flags.length, flags.length, flags.length)
    if flags.op == "decode":
        return AttentionCase(16, 1, flags.length, 32, 8, flags.depth)
    case = attention_at(flags.depth, flags.length, flags.causal)
    return masked(case, EVERYTHING) if flags.masked else case


def time_survivors(survivors: list[tuple[Trial, dict[str, Any]]], rounds: int, sample_ms: float) -> None:
    """Prints the configurations that compile well, the fastest last where they can be timed."""
    with Worker() as worker:
        about = worker.call(describe_device, limit=TIME_LIMIT)
        reason = about.get("failed") or about.pop("refusal")
        if not reason:
            timed = [
                (trial, found | worker.call(time_trial, trial, rounds, sample_ms, limit=TIME_LIMIT) | about)
                for trial, found in survivors
            ]
            survivors = sorted(timed, key=lambda x: -x[1].get("ms", float("inf")))
    for trial, found in survivors:
        print_line(trial, found)
    print(
        f"{len(survivors)} compile well; {f'not timed: {reason}' if reason else 'the last is the fastest'}",
        file=sys.stderr,
    )


def print_line(trial: Trial, found: dict[str, Any]) -> None:
    """One JSON line."""
    about = {"op": trial.op, "case": trial.case.name, "config": asdict(trial.config)}
    print(json.dumps(about | found), flush=True)


if __name__ == "__main__":
    main()
