"""How many tokens a second does an LSTM over characters generate, beside a loop in PyTorch?

    python benchmarks/generation.py --batch-sizes 1,64 --peer-python PATH

Prints one JSON line a batch size. The model is one-hot characters, 28, into an LSTM of 256 units and the scores of the
next character, of which the highest is taken. Ours is one compiled loop over all tokens. PyTorch's is a Python loop
over a step: `nn.LSTM` or `nn.LSTMCell`, eager or compiled, whichever is the fastest in a short trial. `ratio` is our
tokens a second over PyTorch's, of medians, `p20_ratio` that of 20th percentiles of time; above 1 we win.
"""

import argparse
import json
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
from interleaved import Runner, busy_share, interleave, warn_if_busy
from machine import cores, describe, versions
from peer import Peer, PeerError

from jaxdl import nn

CHARACTERS, HIDDEN = 28, 256
TRIAL_ROUNDS = 3


class Generator:
    """Our side, compiled."""

    def __init__(self, batch_size: int, tokens: int) -> None:
        model = nn.LSTM(HIDDEN)
        key, head_key = jax.random.split(jax.random.key(0))
        first = jnp.zeros(batch_size, jnp.int32)
        variables = jax.jit(model.init)(key, jnp.zeros((batch_size, 1, CHARACTERS)))
        head = jax.random.normal(head_key, (HIDDEN, CHARACTERS)) / HIDDEN**0.5, jnp.zeros((1, CHARACTERS))
        self.parameters = variables, head
        self.tokens = tokens

        @jax.jit
        def generate(parameters: Any) -> jax.Array:
            variables, (kernel, bias) = parameters

            def step(carry: Any, _: None) -> tuple[Any, jax.Array]:
                token, state = carry
                x = jax.nn.one_hot(token, CHARACTERS)[:, None]  # [batch, 1, characters]
                hidden, state = model.apply(variables, x, None, state)
                token = (hidden[:, 0] @ kernel + bias).argmax(-1).astype(jnp.int32)
                return (token, state), token

            zeros = jnp.zeros((1, batch_size, HIDDEN))
            return jax.lax.scan(step, (first, nn.LSTMState(zeros, zeros)), length=tokens)[1]  # [tokens, batch]

        self.generate = generate
        start = time.perf_counter()
        generate(self.parameters).block_until_ready()
        self.compile_seconds = time.perf_counter() - start

    @property
    def num_parameters(self) -> int:
        """Of the LSTM and the scores."""
        return sum(x.size for x in jax.tree.leaves(self.parameters))

    def run(self, passes: int) -> float:
        """Milliseconds a token."""
        start = time.perf_counter()
        for _ in range(passes):
            self.generate(self.parameters).block_until_ready()
        return (time.perf_counter() - start) * 1e3 / (passes * self.tokens)


def main(arguments: list[str] | None = None) -> None:
    """Reads the flags and prints a line a batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    for name in ("tokens", "rounds"):
        if getattr(flags, name) < 1:
            parser.error(f"argument --{name}: expected at least 1, got {getattr(flags, name)}")

    jax.config.update("jax_platforms", "cpu")
    try:
        with Peer("torch", flags.peer_python, cores()) as peer:
            for size in map(int, sizes):
                print(json.dumps(measure(size, peer, flags)), flush=True)
    except PeerError as error:
        parser.error(f"argument --peer-python: expected a Python that can run the peer torch; {error}")


def measure(batch_size: int, peer: Peer, flags: argparse.Namespace) -> dict[str, Any]:
    """Times one batch size on both sides and returns its line."""
    ours = Generator(batch_size, flags.tokens)
    theirs = peer.prepare("generation", batch_size, flags.tokens, ours.num_parameters)
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
    warn_if_busy(f"generation, batch {batch_size}", busy_share(samples))

    best, other = samples["jaxdl"], samples[rival] if rival else None
    return {
        "case": "generation",
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
