"""How long is a training step, beside the same step in PyTorch?

    python benchmarks/train_step.py --cases mlp,lenet --peer torch --peer-python PATH

Prints one JSON line a case. `ratio` is the peer's time over ours, of medians; above 1 we win. `p20_ratio` is that of
20th percentiles. Both run on the CPU, one thread a core, in processes of their own and alternating rounds, on different
batches in turn; nothing is fetched, and each waits for its work at the end of a round. Both sides are given their
fastest means, found by a short trial: ours is the number of steps a call, the peer's are in `peers/`. Both keep freed
memory: ours by `jaxdl.cpu.tune`, the peer by the same settings from its environment.
"""

import argparse
import json
import sys
from typing import Any

import jax
from cases import CASES, Case
from interleaved import Runner, Samples, busy_share, interleave, warn_if_busy
from machine import cores, describe, versions
from ours import CompiledCase
from peer import WORKERS, Peer, PeerError

from jaxdl import cpu

TRIAL_ROUNDS = 3


def main(arguments: list[str] | None = None) -> None:
    """Reads the flags and prints a line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="mlp,lenet", help=f"comma-separated, of {', '.join(CASES)}")
    parser.add_argument("--peer", default="torch", choices=list(WORKERS), help="the library to compare with")
    parser.add_argument("--peer-python", default=sys.executable, help="the Python that has it; default: this one")
    parser.add_argument("--rounds", type=int, default=15, help="samples of each side")
    parser.add_argument("--steps-per-call", default="1,10", help="comma-separated settings of ours to try")
    parser.add_argument("--sample-seconds", type=float, default=0.25, help="about how long one sample is")
    parser.add_argument("--max-wait", type=float, default=2.0, help="seconds to wait for a quiet machine, a sample")
    flags = parser.parse_args(arguments)

    names, settings = flags.cases.split(","), flags.steps_per_call.split(",")
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"argument --cases: expected names out of {', '.join(CASES)}; got {', '.join(map(repr, unknown))}")
    if not all(text.isdecimal() and int(text) > 0 for text in settings):
        parser.error(f"argument --steps-per-call: expected positive integers, got {flags.steps_per_call!r}")
    if flags.rounds < 1:
        parser.error(f"argument --rounds: expected at least 1, got {flags.rounds}")

    cpu.tune()
    jax.config.update("jax_platforms", "cpu")
    try:
        with Peer(flags.peer, flags.peer_python, cores()) as peer:
            for name in names:
                case = CASES[name]()
                if any(case.num_batches % int(text) for text in settings):
                    expected = f"divisors of the {case.num_batches} batches of {name}"
                    parser.error(f"argument --steps-per-call: expected {expected}, got {flags.steps_per_call!r}")
                print(json.dumps(measure(name, case, peer, list(map(int, settings)), flags)), flush=True)
    except PeerError as error:
        parser.error(f"argument --peer-python: expected a Python that can run the peer {flags.peer}; {error}")


def measure(name: str, case: Case, peer: Peer, steps_per_call: list[int], flags: argparse.Namespace) -> dict[str, Any]:
    """Times one case on both sides and returns its line."""
    theirs = peer.prepare(name, case.batch_size, case.num_batches, case.num_parameters)
    ours = {f"steps_per_call={k}": CompiledCase(case, k) for k in steps_per_call}
    runners: dict[str, Runner] = {variant: each.run for variant, each in ours.items()} | theirs.variants
    trial = interleave(runners, dict.fromkeys(runners, 1), rounds=TRIAL_ROUNDS, max_wait=flags.max_wait)

    def fastest(variants: list[str]) -> list[str]:
        return sorted(variants, key=lambda variant: trial[variant].median)[:1]

    finalists = fastest(list(ours)) + fastest(list(theirs.variants))
    passes = {
        variant: max(1, round(flags.sample_seconds * 1e3 / (trial[variant].median * case.num_batches)))
        for variant in finalists
    }
    samples = interleave(
        {variant: runners[variant] for variant in finalists}, passes, rounds=flags.rounds, max_wait=flags.max_wait
    )
    warn_if_busy(name, busy_share(samples))
    best, rival = finalists[0], finalists[1] if theirs.variants else None
    return {
        "case": name,
        **compare(samples[best], samples[rival] if rival else None),
        "peer": peer.name if rival else None,
        "peer_absent": theirs.absent,
        "peer_variant": rival,
        "peer_trial_ms": {variant: round(trial[variant].median, 4) for variant in theirs.variants},
        "peer_failures": theirs.failures,
        "steps_per_call": ours[best].steps_per_call,
        "jaxdl_trial_ms": {str(each.steps_per_call): round(trial[variant].median, 4) for variant, each in ours.items()},
        "compile_s": round(ours[best].compile_seconds, 3),
        "batch_size": case.batch_size,
        "num_parameters": case.num_parameters,
        "rounds": flags.rounds,
        "busy_share": busy_share(samples),
        "threads": cores(),
        "machine": describe(),
        "versions": versions("jax", "jaxlib", "flax") | {f"peer_{k}": v for k, v in peer.versions.items()},
    }


def compare(ours: Samples, theirs: Samples | None) -> dict[str, float | None]:
    """Both times and how many times faster we are; None where there is no peer."""
    return {
        "jaxdl_ms": round(ours.median, 4),
        "peer_ms": theirs and round(theirs.median, 4),
        "ratio": theirs and round(theirs.median / ours.median, 3),
        "p20_ratio": theirs and round(theirs.p20 / ours.p20, 3),
        "jaxdl_p20_ms": round(ours.p20, 4),
        "peer_p20_ms": theirs and round(theirs.p20, 4),
    }


if __name__ == "__main__":
    main()
