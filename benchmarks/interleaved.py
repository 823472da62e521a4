"""Timing several things in turn, so that a machine that slows down slows all of them down."""

import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from machine import wait_until_quiet

TRUSTED_BUSY_SHARE = 0.2

Runner = Callable[[int], float]  # (passes over the batches) -> milliseconds a step


class Samples(NamedTuple):
    """Milliseconds a step, and for each sample whether the machine was quiet when it began (None: unknown)."""

    milliseconds: list[float]
    quiet: list[bool | None]

    @property
    def median(self) -> float:
        """What a step takes."""
        return float(np.median(self.milliseconds))

    @property
    def p20(self) -> float:
        """What a step takes when nothing disturbs it: the 20th percentile."""
        return float(np.percentile(self.milliseconds, 20))


def interleave(
    runners: Mapping[str, Runner], passes: Mapping[str, int], *, rounds: int, max_wait: float
) -> dict[str, Samples]:
    """Takes one sample of each runner in every round, forwards and backwards in turn.

    Args:
      runners: by name.
      passes: how long a sample of each is.
      rounds: how many samples of each.
      max_wait: seconds to wait, before each sample, for the machine to be quiet.
    """
    samples = {name: Samples([], []) for name in runners}
    for round_number in range(rounds):
        for name in runners if round_number % 2 == 0 else reversed(list(runners)):
            samples[name].quiet.append(wait_until_quiet(max_wait))
            samples[name].milliseconds.append(runners[name](passes[name]))
    return samples


def busy_share(samples: Mapping[str, Samples]) -> float | None:
    """The share of samples that began while something else was running; None where the system does not say."""
    quiet = [value for each in samples.values() for value in each.quiet]
    return None if None in quiet else round(quiet.count(False) / len(quiet), 3)


def warn_if_busy(name: str, share: float | None) -> None:
    """Says on standard error that figures are not to be trusted: neighbours slow libraries down by unequal factors."""
    if share is not None and share > TRUSTED_BUSY_SHARE:
        print(
            f"{name}: {share:.0%} of the samples were taken on a busy machine; do not trust the ratio", file=sys.stderr
        )
