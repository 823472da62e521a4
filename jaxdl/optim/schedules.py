"""Learning-rate schedules (D2L 12.4, 12.11): functions from the step, 0 for the first, to the rate.

A step is an integer or an integer array, traced or not; the rate has its shape. What the book counts in epochs becomes
a schedule of steps by `per_epoch`. All go wherever Optax takes a schedule.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.optim.hyperparameters import Schedule, check_count, check_not_negative, check_number


def exponential_decay(base: float, rate: float) -> Schedule:
    """`base * exp(-rate * t)` (D2L 12.4): it may stop before it arrives, since the sum of all steps is finite.

    Raises:
      ValueError: if an argument is negative or not finite.
    """
    check_not_negative(base=base, rate=rate)
    return lambda step: base * jnp.exp(-rate * _time(step))


def polynomial_decay(base: float, rate: float, power: float = 0.5) -> Schedule:
    """`base * (1 + rate * t)^-power` (D2L 12.4).

    Powers in (1/2, 1] satisfy the conditions of Robbins and Monro (1951): the rates sum to infinity, their squares do
    not. `optax.polynomial_schedule` is another one: it goes to its end by a power of the time that is left.

    Raises:
      ValueError: if an argument is negative or not finite.
    """
    check_not_negative(base=base, rate=rate, power=power)
    return lambda step: base * (1 + rate * _time(step)) ** -power


def square_root_decay(base: float) -> Schedule:
    """`base * (t + 1)^-1/2` (D2L 12.11.2).

    Raises:
      ValueError: if `base` is negative or not finite.
    """
    return polynomial_decay(base, rate=1.0, power=0.5)


def factor_decay(base: float, factor: float, minimum: float = 0.0) -> Schedule:
    """`max(minimum, base * factor^(t + 1))` (D2L 12.11.3.1); as in the book, the first rate is multiplied already.

    Raises:
      ValueError: if `factor` is not in (0, 1], or another argument negative or not finite.
    """
    check_not_negative(base=base, minimum=minimum)
    check_number("factor", factor, "a number in (0, 1]", lambda x: 0 < x <= 1)
    return lambda step: jnp.maximum(minimum, base * factor ** (_time(step) + 1))


def multi_factor_decay(base: float, milestones: Sequence[int], factor: float) -> Schedule:
    """`base` times `factor` for each milestone that the step has reached (D2L 12.11.3.2; PyTorch's `MultiStepLR`).

    Raises:
      ValueError: if the milestones do not increase from 1 or more, `factor` is not in (0, 1], or `base` is negative.
    """
    check_not_negative(base=base)
    check_number("factor", factor, "a number in (0, 1]", lambda x: 0 < x <= 1)
    check_count(**{f"milestones[{i}]": milestone for i, milestone in enumerate(milestones)})
    if any(a >= b for a, b in itertools.pairwise(milestones)):
        raise ValueError(f"milestones: expected increasing steps, got {list(milestones)}")
    return lambda step: base * factor ** sum((_time(step) >= m for m in milestones), start=0 * _time(step))


def cosine_decay(base: float, num_steps: int, final: float = 0.0) -> Schedule:
    """Half a period of a cosine from `base` to `final`, which stays from step `num_steps` on (D2L 12.11.3.3).

    Raises:
      ValueError: if `num_steps` is not an integer of at least 1, or a rate is negative or not finite.
    """
    check_not_negative(base=base, final=final)
    check_count(num_steps=num_steps)
    return lambda step: _half_cosine(base, final, jnp.minimum(_time(step) / num_steps, 1))


def cosine_restarts(base: float, period: int, final: float = 0.0, *, multiplier: int = 1) -> Schedule:
    """SGDR (Loshchilov and Hutter, 2017, equation 5): a cosine from `base` to `final`, again and again.

    Args:
      base: the rate at the start of each cycle.
      period: steps of the first cycle.
      final: what a cycle tends to; its last step is one step short of it.
      multiplier: each cycle is so many times as long as the one before; `T_mult` of the paper.

    Raises:
      ValueError: if `period` or `multiplier` is not an integer of at least 1, or a rate is negative or not finite.
    """
    check_not_negative(base=base, final=final)
    check_count(period=period, multiplier=multiplier)
    starts = [0]  # of the cycles, as far as an int32 counts
    while multiplier > 1 and starts[-1] < 2**31:
        starts.append(starts[-1] + period * multiplier ** (len(starts) - 1))

    def schedule(step: Any) -> jax.Array:
        t = _time(step)
        if multiplier == 1:
            return _half_cosine(base, final, (t % period) / period)
        first = np.array(starts, np.float64)
        cycle = jnp.searchsorted(jnp.asarray(first, t.dtype), t, side="right") - 1
        start, length = jnp.asarray(first[:-1], t.dtype)[cycle], jnp.asarray(np.diff(first), t.dtype)[cycle]
        return _half_cosine(base, final, (t - start) / length)

    return schedule


def warm_up(schedule: Schedule, num_steps: int, start: float = 0.0) -> Schedule:
    """A line from `start` to the first rate of `schedule` in `num_steps` steps, then `schedule` (D2L 12.11.3.4).

    Raises:
      ValueError: if `schedule` is not a function, `num_steps` not an integer of at least 1, or `start` negative.
    """
    if not callable(schedule):
        raise ValueError(f"schedule: expected a function of the step, got {schedule!r}")
    check_count(num_steps=num_steps)
    check_not_negative(start=start)

    def warmed(step: Any) -> jax.Array:
        t = _time(step)
        line = start + (schedule(0) - start) * t / num_steps
        return jnp.where(t < num_steps, line, schedule(jnp.maximum(jnp.asarray(step) - num_steps, 0)))

    return warmed


def per_epoch(schedule: Schedule, steps_per_epoch: int) -> Schedule:
    """A schedule that counts epochs, as one that counts steps: the rate changes between epochs only.

    Raises:
      ValueError: if `schedule` is not a function, or `steps_per_epoch` not an integer of at least 1.

    >>> schedule = per_epoch(multi_factor_decay(0.5, [15, 30], 0.5), steps_per_epoch=100)
    >>> float(schedule(1499)), float(schedule(1500))
    (0.5, 0.25)
    """
    if not callable(schedule):
        raise ValueError(f"schedule: expected a function of the epoch, got {schedule!r}")
    check_count(steps_per_epoch=steps_per_epoch)
    return lambda step: schedule(jnp.asarray(step) // steps_per_epoch)


def _time(step: Any) -> jax.Array:
    """The step as a floating number: float32, or float64 where that is enabled."""
    return jnp.asarray(step, jnp.result_type(float))


def _half_cosine(base: float, final: float, position: jax.Array) -> jax.Array:
    """From `base` at position 0 to `final` at 1."""
    return final + (base - final) * (1 + jnp.cos(jnp.pi * position)) / 2
