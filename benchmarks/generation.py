"""How many tokens a second does a language model generate, beside a loop in PyTorch?

    python benchmarks/generation.py --cases lstm,gpt --batch-sizes 1,64 --peer-python PATH

Prints one JSON line a case and batch size. Ours is `nlp.generate` by greedy search, one compiled call for all tokens.
PyTorch's is a Python loop over a step, whichever is the fastest in a short trial:

- `lstm`: one-hot characters, 28, into an LSTM of 256 units; theirs is `nn.LSTM` or `nn.LSTMCell`, eager or compiled;
- `gpt`: 4 blocks of 128 features and 4 heads, 96 tokens, after a prompt of 16; theirs has a cache of keys and values
  that grows, or is sliced, or is read as a whole under a mask, the last compiled too.

`ratio` is our tokens a second over PyTorch's, of medians, `p20_ratio` that of 20th percentiles of time; above 1 we win.
"""

import argparse
import json
import sys
import time
from functools import partial
from typing import Any

import jax
from interleaved import Runner, busy_share, interleave, warn_if_busy
from machine import cores, describe, versions
from peer import Peer, PeerError

from jaxdl import cpu, nlp, nn

CASES: dict[str, Any] = {  # by name: the model of so many tokens, and the length of the prompt
    "lstm": lambda length: (nlp.RNNLanguageModel(28, nn.LSTM(256)), 1),
    "gpt": lambda length: (nlp.GPT(96, max_length=16 + length, features=128, num_heads=4, num_blocks=4), 16),
}
TRIAL_ROUNDS = 3


class Generator:
    """Our side, compiled."""

    def __init__(self, case: str, batch_size: int, tokens: int) -> None:
        model, prompt_length = CASES[case](tokens)
        self.tokens = tokens
        self.prompt = jax.random.randint(jax.random.key(1), (batch_size, prompt_length), 0, model.vocab_size)
        self.variables = jax.jit(model.init)(jax.random.key(0), self.prompt)
        self.generate = jax.jit(partial(nlp.generate, model, max_new_tokens=tokens, eos_id=None))
        start = time.perf_counter()
        jax.block_until_ready(self.generate(self.variables, self.prompt))
        self.compile_seconds = time.perf_counter() - start

    @property
    def num_parameters(self) -> int:
        """Of the model."""
        return nn.parameter_count(self.variables)

    def run(self, passes: int) -> float:
        """Milliseconds a token."""
        start = time.perf_counter()
        for _ in range(passes):
            jax.block_until_ready(self.generate(self.variables, self.prompt))
        return (time.perf_counter() - start) * 1e3 / (passes * self.tokens)


def main(arguments: list[str] | None = None) -> None:
    """Reads the flags and prints a line a batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="lstm,gpt", help="comma-separated")
    parser.add_argument("--batch-sizes", default="1,64", help="comma-separated")
    parser.add_argument("--tokens", type=int, default=256, help="length of a sequence")
    parser.add_argument("--peer-python", default=sys.executable, help="the Python that has PyTorch; default: this one")
    parser.add_argument("--rounds", type=int, default=15, help="samples of each side")
    parser.add_argument("--sample-seconds", type=float, default=0.25, help="about how long one sample is")
    parser.add_argument("--max-wait", type=float, default=2.0, help="seconds to wait for a quiet machine, a sample")
    flags = parser.parse_args(arguments)
    sizes = flags.batch_sizes.split(",")
    if not all(text.isdecimal() and int(text) > 0 for text in sizes):
        parser.error(f"argument --batch-sizes: expected positive integers, got {flags.batch_sizes!r}")
    cases = flags.cases.split(",")
    if unknown := [case for case in cases if case not in CASES]:
        parser.error(f"argument --cases: expected some of {', '.join(CASES)}; got {', '.join(unknown)}")
    for name in ("tokens", "rounds"):
        if getattr(flags, name) < 1:
            parser.error(f"argument --{name}: expected at least 1, got {getattr(flags, name)}")

    cpu.tune()
    jax.config.update("jax_platforms", "cpu")
    try:
        with Peer("torch", flags.peer_python, cores()) as peer:
            for case in cases:
                for size in map(int, sizes):
                    print(json.dumps(measure(case, size, peer, flags)), flush=True)
    except PeerError as error:
        parser.error(f"argument --peer-python: expected a Python that can run the peer torch; {error}")


def measure(case: str, batch_size: int, peer: Peer, flags: argparse.Namespace) -> dict[str, Any]:
    """Times a case and batch size on both sides and returns its line."""
    ours = Generator(case, batch_size, flags.tokens)
    theirs = peer.prepare(f"generation_{case}", batch_size, flags.tokens, ours.num_parameters)
    runners: dict[str, Runner] = {"jaxdl": ours.run} | theirs.variants
    trial = interleave(runners, dict.fromkeys(runners, 1), rounds=TRIAL_ROUNDS, max_wait=flags.max_wait)
    rival = min(theirs.variants, key=lambda variant: trial[variant].median, default=None)
    finalists = ["jaxdl"] if rival is None else ["jaxdl", rival]
    passes = {
        name: max(1, round(flags.sample_seconds * 1e3 / (trial[name].median * flags.tokens))) for name in finalists
    }
    samples = interleave(
        {name: runners[name] for name in finalists}, passes, rounds=flags.rounds, max_wait=flags.max_wait
    )
    warn_if_busy(f"generation of {case}, batch {batch_size}", busy_share(samples))

    best, other = samples["jaxdl"], samples[rival] if rival else None
    return {
        "case": f"generation_{case}",
        "batch_size": batch_size,
        "tokens": flags.tokens,
        "jaxdl_tokens_per_second": round(batch_size * 1e3 / best.median),
        "peer_tokens_per_second": other and round(batch_size * 1e3 / other.median),
        "ratio": other and round(other.median / best.median, 3),
        "p20_ratio": other and round(other.p20 / best.p20, 3),
        "peer": peer.name if rival else None,
        "peer_absent": theirs.absent,
        "peer_variant": rival,
        "peer_trial_ms": {variant: round(trial[variant].median, 4) for variant in theirs.variants},
        "peer_failures": theirs.failures,
        "compile_s": round(ours.compile_seconds, 3),
        "num_parameters": ours.num_parameters,
        "rounds": flags.rounds,
        "busy_share": busy_share(samples),
        "threads": cores(),
        "machine": describe(),
        "versions": versions("jax", "jaxlib", "flax") | {f"peer_{k}": v for k, v in peer.versions.items()},
    }


if __name__ == "__main__":
    main()
