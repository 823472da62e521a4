"""What do rematerialisation and micro-batches save in memory, and what do they cost in time?

    python benchmarks/memory.py --plot memory.png

Prints one JSON line a case to standard output, and all of them as a table to standard error. A case is the compiled
gradient of a stack of transformer blocks. `question` "remat" compares ways to rematerialise, "accumulate" numbers of
micro-batches; ratios are over the plain case, the first of each comparison. "fully_sharded" gives the bytes of
parameters and Adam's state on each of n devices (fake ones without accelerators). `temporaries` are the bytes that the
compiled function reserves while it runs, beside `arguments` and `outputs`; `flops` are counted in the jaxpr; `ms` is
the median time of a call, the cases of one comparison in alternating rounds.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from interleaved import Runner, busy_share, interleave
from jax.ad_checkpoint import checkpoint_name
from machine import describe, versions

from jaxdl import training
from jaxdl.nn import RepeatedBlocks
from jaxdl.parallel import ShardingRules, make_mesh, shard_step
from jaxdl.training import count_flops, memory_report

REMAT: dict[str, Any] = {
    "none": "none",
    "full": "full",
    "sqrt": "sqrt",
    "matmuls": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # keep what multiplied a weight
    "attention": jax.checkpoint_policies.save_only_these_names("attention"),
}
TIME_STEPS, WIDTH = 32, 64
SAMPLE_MS = 300  # about how long one timing is


class Block(nn.Module):
    """A pre-norm transformer block: attention under a mask, then an MLP."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, time, width]` to the same; `mask` is `[batch, 1, time, time]`, True may be attended."""
        y = nn.MultiHeadDotProductAttention(num_heads=4)(nn.LayerNorm()(x), mask=mask)
        x = x + checkpoint_name(y, "attention")
        y = nn.gelu(nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x)))
        return x + nn.Dense(x.shape[-1])(y)


class Case(NamedTuple):
    """One way to compute the gradient of one model."""

    depth: int
    remat: str = "none"
    micro_batches: int = 1


def main(arguments: list[str] | None = None) -> None:
    """Reads the flags, prints a line a case and the table, draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--depths", default="4,16,64", help="comma-separated numbers of blocks; micro-batches take the last"
    )
    parser.add_argument("--remat", default=",".join(REMAT), help=f"comma-separated, of {', '.join(REMAT)}")
    parser.add_argument("--micro-batches", default="1,2,4,8", help="comma-separated numbers of micro-batches")
    parser.add_argument("--batch-size", type=int, default=16, help=f"sequences of {TIME_STEPS} x {WIDTH}")
    parser.add_argument("--rounds", type=int, default=5, help="timings of each case; 0 runs nothing")
    parser.add_argument("--max-wait", type=float, default=2.0, help="seconds to wait for a quiet machine, a timing")
    parser.add_argument("--plot", type=Path, help="where to draw the picture")
    parser.add_argument("--fake-devices", type=int, default=8, help="CPU devices to pretend, without accelerators")
    flags = parser.parse_args(arguments)
    for name in ("depths", "micro_batches"):
        text = getattr(flags, name)
        if not all(part.isdecimal() and int(part) > 0 for part in text.split(",")):
            parser.error(f"argument --{name.replace('_', '-')}: expected positive integers, got {text!r}")
        setattr(flags, name, [int(part) for part in text.split(",")])
    flags.remat = flags.remat.split(",")
    if unknown := [name for name in flags.remat if name not in REMAT]:
        parser.error(f"argument --remat: expected names out of {', '.join(REMAT)}; got {', '.join(map(repr, unknown))}")

    jax.config.update("jax_num_cpu_devices", flags.fake_devices)
    lines = []
    for line in measurements(flags):
        lines.append(line)
        print(json.dumps(line), flush=True)
    print(table(lines), file=sys.stderr)
    if flags.plot:
        draw(lines, flags.plot)


def measurements(flags: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The lines of every comparison; the first of each is its plain case."""
    for depth in flags.depths:
        yield from compare("remat", [Case(depth, remat) for remat in dict.fromkeys(["none", *flags.remat])], flags)
    depth = flags.depths[-1]
    yield from compare("accumulate", [Case(depth, "none", k) for k in dict.fromkeys([1, *flags.micro_batches])], flags)
    yield from fully_sharded(depth, flags.batch_size)


def fully_sharded(depth: int, batch_size: int) -> Iterator[dict[str, Any]]:
    """What a device holds of parameters and optimiser state between steps, by the number of devices."""
    params, _, batch, key = make_arguments(depth, batch_size)
    optimizer, alone = optax.adam(1e-3), 0
    step = training.make_step(gradient(Case(depth, "full")), optimizer)
    state = training.init_state(lambda key: {"params": params}, optimizer, key)
    num_devices = 1
    while num_devices <= jax.device_count() and batch_size % num_devices == 0:
        mesh = make_mesh({"data": num_devices})
        compiled = shard_step(step, mesh, ShardingRules(fully_sharded="data"))
        lowered = compiled.call.lower(compiled.place_state(state), compiled.place_batch(batch))
        report = memory_report(lowered.compile())
        alone = alone or report.aliased  # the state is the one argument whose memory the step takes over
        line = {"question": "fully_sharded", "depth": depth, "devices": num_devices, "state": report.aliased}
        line |= {"state_ratio": round(report.aliased / alone, 4), **report._asdict(), "batch_size": batch_size}
        yield line | {"device": jax.default_backend(), "versions": versions("jax", "jaxlib", "flax")}
        num_devices *= 2


def compare(question: str, cases: Sequence[Case], flags: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures cases of one depth side by side; the ratios are over the first."""
    lines: list[dict[str, Any]] = []
    runners: dict[str, Runner] = {}
    arguments = make_arguments(cases[0].depth, flags.batch_size)
    for case in cases:
        grad_fn = gradient(case)
        compiled = jax.jit(grad_fn).lower(*arguments).compile()
        line = {
            "question": question,
            **case._asdict(),
            **memory_report(compiled)._asdict(),
            "flops": count_flops(grad_fn, *arguments),
            "ms": None,
        }
        lines.append(line)
        runners[str(case)] = partial(milliseconds, compiled, arguments)
    if flags.rounds:
        passes = {name: max(1, round(SAMPLE_MS / min(run(1), run(1)))) for name, run in runners.items()}
        samples = interleave(runners, passes, rounds=flags.rounds, max_wait=flags.max_wait)
        for line, each in zip(lines, samples.values(), strict=True):
            line["ms"] = round(each.median, 2)
            line["ms_ratio"] = round(each.median / samples[str(cases[0])].median, 3)
            line["busy_share"] = busy_share({"": each})
    for line in lines:
        line |= {f"{name}_ratio": round(line[name] / lines[0][name], 4) for name in ("temporaries", "flops")}
        line |= {"batch_size": flags.batch_size, "device": jax.default_backend(), "machine": describe()}
        line |= {"versions": versions("jax", "jaxlib", "flax")}
    return lines


def make_arguments(depth: int, batch_size: int) -> tuple[Any, ...]:
    """Random parameters, model state, a batch of sequences of uneven lengths, and a key: what a `GradFn` takes."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, batch_size, TIME_STEPS, WIDTH)).astype(np.float32)
    batch = {"x": jnp.asarray(x), "y": jnp.asarray(y), "length": jnp.asarray(rng.integers(1, TIME_STEPS, batch_size))}
    model = RepeatedBlocks(Block(), depth)
    types = jax.eval_shape(lambda key: model.init(key, batch["x"], attention_mask(batch))["params"], jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(scale=0.02, size=leaf.shape), leaf.dtype), types)
    return params, {}, batch, jax.random.key(1)


def gradient(case: Case) -> training.GradFn:
    """The gradient function of a case."""
    model = RepeatedBlocks(Block(), case.depth, remat=REMAT[case.remat])

    def loss_fn(params: Any, model_state: Any, batch: training.Batch, key: jax.Array) -> Any:
        y = model.apply({"params": params}, batch["x"], attention_mask(batch), train=True)
        error = jnp.square(jnp.asarray(y) - batch["y"]).mean(-1)  # [batch, time]
        return training.Mean.of(error, real_tokens(batch)), ({}, model_state)

    return training.accumulate(training.sum_gradients(loss_fn), case.micro_batches)


def real_tokens(batch: training.Batch) -> jax.Array:
    """`[batch, time]`, True where a sequence has not ended."""
    return jnp.arange(TIME_STEPS) < batch["length"][:, None]


def attention_mask(batch: training.Batch) -> jax.Array:
    """`[batch, 1, time, time]`: real tokens, not later ones."""
    return real_tokens(batch)[:, None, None, :] & jnp.tril(jnp.ones((TIME_STEPS, TIME_STEPS), bool))


def milliseconds(compiled: jax.stages.Compiled, arguments: tuple[Any, ...], calls: int) -> float:
    """The time of a call."""
    start = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(compiled(*arguments))
    return (time.perf_counter() - start) * 1e3 / calls


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The lines for reading."""
    rows = [
        f"{'depth':>5} {'remat':<10} {'micro':>5} {'MiB':>9} {'of plain':>9} {'GFLOP':>8} {'of plain':>9} {'ms':>9}"
    ]
    sharded = [line for line in lines if line["question"] == "fully_sharded"]
    for line in (line for line in lines if line not in sharded):
        if line is not lines[0] and line["temporaries_ratio"] == line["flops_ratio"] == 1:
            rows.append("")
        rows.append(
            f"{line['depth']:>5} {line['remat']:<10} {line['micro_batches']:>5} {line['temporaries'] / 2**20:>9.1f} "
            f"{line['temporaries_ratio']:>9.3f} {line['flops'] / 1e9:>8.2f} {line['flops_ratio']:>9.3f} "
            f"{line['ms'] if line['ms'] is not None else '-':>9}"
        )
    rows += ["", f"{'devices':>7} {'MiB of parameters and optimiser state on each':>46} {'of one':>9}"]
    rows += [f"{line['devices']:>7} {line['state'] / 2**20:>46.2f} {line['state_ratio']:>9.3f}" for line in sharded]
    return "\n".join(rows)


def draw(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws temporaries over depth, and over the number of micro-batches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    stacks = [line for line in lines if line["question"] == "remat"]
    for remat in dict.fromkeys(line["remat"] for line in stacks):
        points = [(line["depth"], line["temporaries"] / 2**20) for line in stacks if line["remat"] == remat]
        left.plot(*zip(*points, strict=True), marker="o", label=remat)
    left.set(xlabel="blocks", title="remat")
    split = [line for line in lines if line["question"] == "accumulate"]
    numbers, sizes = zip(*((line["micro_batches"], line["temporaries"] / 2**20) for line in split), strict=True)
    right.plot(numbers, sizes, marker="o", label="measured")
    right.plot(numbers, [sizes[0] / k for k in numbers], "k:", label="1/k")
    right.plot(numbers, [sizes[0] / k + split[0]["outputs"] / 2**20 for k in numbers], "k--", label="1/k + gradients")
    right.set(xlabel="micro-batches", title=f"accumulate, {split[0]['depth']} blocks")
    for axes, ticks in ((left, sorted({line["depth"] for line in stacks})), (right, numbers)):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylabel("temporaries (MiB)")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
