"""Checks and times one case of a kernel; `kernels.py` calls this in a process that may crash."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from accelerator import (
    copy_runner,
    describe_error,
    normal,
    nvidia_smi,
    peak_runner,
    poison,
    relative_difference,
    runner,
    time_in_turn,
)  # fmt: skip
from interleaved import Runner
from kernel_cases import AttentionCase, MatmulCase, first_heads
from peers import torch_sdpa

from jaxdl import kernels
from jaxdl.kernels.configs import matmul_config

# The largest relative difference from float32, in units of the dtype's epsilon: the operands of two (forward) and five
# (backward) products are rounded to it, and so is the result; rounding is random, so errors hardly add up.
LIMITS = {"forward": 1.0, "backward": 2.0}

Function = Callable[..., Any]


class Settings(NamedTuple):
    """How to time."""

    interpret: bool
    rounds: int
    sample_ms: float
    peak_size: int
    copy_bytes: int
    torch: bool  # whether to try PyTorch too, in the same process


@contextmanager
def somewhere(settings: Settings) -> Iterator[None]:
    """In the interpreter, if that was asked for."""
    if not settings.interpret:
        yield
        return
    with kernels.interpret():
        yield


def check_attention(case: AttentionCase, settings: Settings) -> dict[str, Any]:
    """Compares output, residual and gradients with those of dense attention in float32."""
    with somewhere(settings):
        directions = ["forward"] if case.bias or case.q_len == 1 < case.kv_len else ["forward", "backward"]
        return verdict(case.dtype, {direction: attention_difference(case, case, direction) for direction in directions})


def check_matmul(case: MatmulCase, settings: Settings) -> dict[str, Any]:
    """Compares the product and its gradients with those in float32."""
    with somewhere(settings):
        return verdict(case.dtype, {direction: matmul_difference(case, direction) for direction in LIMITS})


def time_attention(case: AttentionCase, direction: str, settings: Settings) -> dict[str, Any]:
    """Times a direction beside cuDNN's, PyTorch's and, for a single query, XLA's."""
    with somewhere(settings):
        line = verdict(case.dtype, {direction: attention_difference(case, first_heads(case), direction)})
        arrays, shared = attention_arrays(case), {"is_causal": case.is_causal}
        functions: dict[str, Function] = {
            "jaxdl": partial(kernels.attention, implementation="pallas", **shared),
            "cudnn": partial(jax.nn.dot_product_attention, implementation="cudnn", **shared),
        }
        if case.q_len == 1:
            functions["xla"] = partial(jax.nn.dot_product_attention, implementation="xla", **shared)
        build = {name: partial(attention_runner, fn, direction, arrays) for name, fn in functions.items()}
        if case.q_len == 1:  # our kernel reads a cache with its heads first, as `nn.MultiHeadAttention` keeps it
            cache = [jnp.asarray(x.swapaxes(1, 2)) for x in arrays[1:]]
            ours = partial(heads_first, functions["jaxdl"])
            build["jaxdl"] = partial(attention_runner, ours, direction, (arrays[0], *cache))
        if settings.torch:
            build["torch"] = partial(torch_sdpa.runner, *astuple_of(case), direction)
        flops = case.flops(direction)
        line |= race(build, settings, flops, "cudnn", case.cache_bytes if case.q_len == 1 else None)
        return line


def time_matmul(case: MatmulCase, direction: str, settings: Settings) -> dict[str, Any]:
    """Times a product beside cuBLAS, which does what is fused with us one after the other."""
    with somewhere(settings):
        line = verdict(case.dtype, {direction: matmul_difference(case, direction)})
        arrays = matmul_arrays(case)
        build = {
            "jaxdl": partial(runner, partial(matmul, case), *arrays),
            "cublas": partial(runner, partial(plain_matmul, case), *arrays),
        }
        return line | race(build, settings, case.flops, "cublas", None)


def race(
    build: Mapping[str, Callable[[], Runner]], settings: Settings, flops: float, first_peer: str, num_bytes: int | None
) -> dict[str, Any]:
    """Times ours, the peers that run, and what the device can do, in turn; a line's figures.

    Args:
      build: makes a runner, by name; "jaxdl" must succeed.
      settings: how to time.
      flops: of one call.
      first_peer: whose ratio is `ratio`.
      num_bytes: that one call has to read, where that is what limits it.
    """
    runners, failures = {"jaxdl": build["jaxdl"]()}, {}
    for name in build:
        if name != "jaxdl":
            try:
                runners[name] = build[name]()
            except Exception as error:
                failures[name] = describe_error(error)
    limit = "peak" if num_bytes is None else "copy"
    make_limit = (
        partial(peak_runner, settings.peak_size) if limit == "peak" else partial(copy_runner, settings.copy_bytes)
    )
    samples = time_in_turn({**runners, limit: make_limit()}, rounds=settings.rounds, sample_ms=settings.sample_ms)
    ms = {name: sample.median for name, sample in samples.items()}
    ratios = {name: significant(ms[name] / ms["jaxdl"]) for name in runners if name != "jaxdl"}
    line = {
        "jaxdl_ms": significant(ms["jaxdl"]),
        "jaxdl_p20_ms": significant(samples["jaxdl"].p20),
        "peer": first_peer,
        "ratio": ratios.get(first_peer),
        "ratios": ratios,
        "peer_ms": {name: significant(ms[name]) for name in ratios},
        "peer_failures": failures,
        "tflops": significant(flops / ms["jaxdl"] * 1e-9),
    }
    if num_bytes is None:
        peak = 2.0 * settings.peak_size**3 / ms["peak"] * 1e-9
        line |= {"peak_tflops": significant(peak), "share_of_peak": significant(line["tflops"] / peak)}
    else:
        ours, copy = num_bytes / ms["jaxdl"] * 1e-6, 2 * settings.copy_bytes / ms["copy"] * 1e-6  # read and written
        line |= {
            "gb_per_s": significant(ours),
            "copy_gb_per_s": significant(copy),
            "share_of_copy": significant(ours / copy),
        }
    return line | {"rounds": settings.rounds, **nvidia_smi("clocks.sm", "temperature.gpu")}


def significant(x: float) -> float:
    """Four figures."""
    return float(f"{x:.4g}")


def verdict(dtype: str, differences: Mapping[str, float]) -> dict[str, Any]:
    """Whether relative differences, by direction, are within what the dtype explains."""
    epsilon = float(jnp.finfo(dtype).eps)
    right = all(difference <= LIMITS[direction] * epsilon for direction, difference in differences.items())  # not NaN
    return {"differences": {name: float(f"{x:.2g}") for name, x in differences.items()}, "correct": right}


def attention_arrays(case: AttentionCase) -> tuple[jax.Array, ...]:
    """Random queries, keys and values."""
    query, keys = (case.batch, case.q_len, case.heads), (case.batch, case.kv_len, case.kv_heads)
    return tuple(normal(i, (*shape, case.depth), case.dtype) for i, shape in enumerate((query, keys, keys)))


def attention_options(case: AttentionCase) -> dict[str, Any]:
    """The rest of the arguments."""
    rng = np.random.default_rng(3)
    options: dict[str, Any] = {
        "is_causal": case.is_causal, "local_window_size": case.window, "softcap": case.softcap,
    }  # fmt: skip
    if case.lengths:
        lengths = rng.integers(1, case.kv_len + 1, case.batch)
        lengths[0] = 0
        options["key_value_seq_lengths"] = jnp.asarray(lengths, jnp.int32)
        if case.q_len > 1:
            options["query_seq_lengths"] = jnp.asarray(rng.integers(1, case.q_len + 1, case.batch), jnp.int32)
    if case.segments:
        for name, length in (("query_segment_ids", case.q_len), ("key_value_segment_ids", case.kv_len)):
            options[name] = jnp.asarray(np.sort(rng.integers(0, 3, (case.batch, length))), jnp.int32)
    if case.bias:
        options["bias"] = normal(4, (1, case.heads, case.q_len, case.kv_len), case.dtype)
    return options


def attention_difference(case: AttentionCase, part: AttentionCase, direction: str) -> float:
    """From dense attention in float32: of output and residual, or of the three gradients.

    Args:
      case: to run.
      part: with a smaller batch and fewer heads: the first and the last ones are compared.
      direction: "forward" or "backward".

    Raises:
      RuntimeError: if a second run gives other bits.
    """
    arrays, options = attention_arrays(case), attention_options(case)
    ours = partial(kernels.attention, implementation="pallas", return_residual=True, **options)
    reference = partial(kernels.attention, implementation="reference", return_residual=True, **options)
    heads = (part.heads, part.kv_heads, part.kv_heads)
    cotangents = normal(5, (*arrays[0].shape[:3], case.depth), case.dtype), normal(6, arrays[0].shape[:3], "float32")

    def cut(x: jax.Array, heads: int) -> jax.Array:
        x = x.astype(jnp.float32)
        if part == case:
            return x
        return jnp.concatenate([x[: part.batch, :, :heads], x[-part.batch :, :, -heads:]])

    few = [cut(x, count) for x, count in zip(arrays, heads, strict=True)]
    with jax.default_matmul_precision("highest"):
        if direction == "forward":
            expected = jax.jit(reference)(*few)
        else:
            few_cotangents = [cut(x, part.heads) for x in cotangents]
            expected = jax.jit(lambda xs, ds: jax.vjp(reference, *xs)[1](ds))(few, tuple(few_cotangents))
    if direction == "forward":
        poison(jax.eval_shape(ours, *arrays))
        output, residual = same_twice(jax.jit(ours), *arrays)
        return max(
            relative_difference(cut(output, part.heads), expected[0]),
            100 * relative_difference(cut(residual, part.heads), expected[1]),  # it is float32
        )
    poison(arrays)
    found = same_twice(jax.jit(lambda xs, ds: jax.vjp(ours, *xs)[1](ds)), arrays, cotangents)
    return relative_difference([cut(x, count) for x, count in zip(found, heads, strict=True)], list(expected))


def same_twice(function: Function, *arguments: Any) -> Any:
    """Calls a function, which has to give the same bits again: the kernels add in one order, unless threads race.

    Raises:
      RuntimeError: if it does not.
    """
    first, second = function(*arguments), function(*arguments)
    for x, y in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        if not bool(jnp.array_equal(x, y, equal_nan=True)):
            raise RuntimeError(f"two runs differ, in an output of shape {list(x.shape)}")
    return first


def heads_first(function: Function, query: jax.Array, *cache: jax.Array) -> jax.Array:
    """Attention to keys and values `[batch, kv_heads, kv_len, depth]`."""
    return function(query, *(x.swapaxes(1, 2) for x in cache))


def attention_runner(function: Function, direction: str, arrays: tuple[jax.Array, ...]) -> Runner:
    """The output, or the gradients from what was kept for them."""
    if direction == "forward":
        return runner(function, *arrays)
    output, transpose = jax.jit(partial(jax.vjp, function))(*arrays)
    return runner(lambda transpose, cotangent: transpose(cotangent), transpose, normal(5, output.shape, output.dtype))


def astuple_of(case: AttentionCase) -> tuple[Any, ...]:
    """What `torch_sdpa.runner` wants to know."""
    return case.batch, case.q_len, case.kv_len, case.heads, case.kv_heads, case.depth, case.is_causal, case.dtype


def matmul_arrays(case: MatmulCase) -> tuple[jax.Array, ...]:
    """Random matrices, and a bias."""
    batch = (case.batch,) if case.batch else ()
    a, b = ((case.m, case.k), (case.k, case.n))
    shapes = [(*batch, *(a[::-1] if case.transpose_a else a)), (*batch, *(b[::-1] if case.transpose_b else b))]
    if case.bias:
        shapes.append((case.n,))
    scale = case.k**-0.5  # keeps the activation's argument near 1
    return tuple(
        normal(i, shape, case.dtype) * jnp.asarray(scale if i == 0 else 1, case.dtype) for i, shape in enumerate(shapes)
    )


def matmul(case: MatmulCase, a: jax.Array, b: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """Ours."""
    config = matmul_config(case.m, case.n, case.k)
    return kernels.matmul(
        a, b, bias=bias, activation=case.activation, transpose_a=case.transpose_a, transpose_b=case.transpose_b,
        implementation="pallas", config=replace(config, cluster_size=2) if case.pairs else None,
    )  # fmt: skip


def plain_matmul(case: MatmulCase, a: jax.Array, b: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """The same by `jnp.matmul`, in the dtype of its operands."""
    a = a.swapaxes(-1, -2) if case.transpose_a else a
    x = jnp.matmul(a, b.swapaxes(-1, -2) if case.transpose_b else b)
    x = x if bias is None else x + jnp.broadcast_to(bias, x.shape)
    return x if case.activation is None else getattr(jax.nn, case.activation)(x)


def matmul_difference(case: MatmulCase, direction: str) -> float:
    """From the product in float32."""
    arrays = matmul_arrays(case)
    shape = (*arrays[0].shape[:-2], case.m, case.n)
    cotangent = normal(5, shape, case.dtype)
    wide = [x.astype(jnp.float32) for x in arrays]
    ours, reference = partial(matmul, case), partial(plain_matmul, case)
    if direction == "forward":
        with jax.default_matmul_precision("highest"):
            expected = jax.jit(reference)(*wide)
        poison(cotangent)
        return relative_difference(same_twice(jax.jit(ours), *arrays), expected)

    def gradients(fn: Function, xs: Any, d: jax.Array) -> Any:
        return jax.vjp(fn, *xs)[1](d)

    with jax.default_matmul_precision("highest"):
        expected = jax.jit(partial(gradients, reference))(wide, cotangent.astype(jnp.float32))
    poison(arrays)
    return relative_difference(
        list(same_twice(jax.jit(partial(gradients, ours)), list(arrays), cotangent)), list(expected)
    )
