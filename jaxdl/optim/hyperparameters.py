"""What an optimiser or a schedule may be given; what is wrong is refused when it is made, not when it runs."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

Schedule = Callable[[Any], Any]  # step (0, 1, ...) -> rate; steps of any shape
Rate = float | jax.Array | Schedule


def check_rate(learning_rate: Rate) -> None:
    """Raises `ValueError` unless it is a schedule or a number of at least 0."""
    if not callable(learning_rate):
        check_number("learning_rate", learning_rate, "a schedule or a finite number of at least 0", lambda x: x >= 0)


def check_not_negative(**arguments: Any) -> None:
    """Raises `ValueError` unless each is a finite number of at least 0."""
    for name, value in arguments.items():
        check_number(name, value, "a finite number of at least 0", lambda x: x >= 0)


def check_positive(**arguments: Any) -> None:
    """Raises `ValueError` unless each is a finite number above 0."""
    for name, value in arguments.items():
        check_number(name, value, "a finite number above 0", lambda x: x > 0)


def check_fraction(**arguments: Any) -> None:
    """Raises `ValueError` unless each is a number in [0, 1), as the share that a leaky average keeps must be."""
    for name, value in arguments.items():
        check_number(name, value, "a number in [0, 1)", lambda x: 0 <= x < 1)


def check_count(**arguments: Any) -> None:
    """Raises `ValueError` unless each is an integer of at least 1."""
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name}: expected an integer of at least 1, got {value!r}")


def check_number(name: str, value: Any, expected: str, allowed: Callable[[float], bool]) -> None:
    """Raises `ValueError` unless `value` is an allowed finite scalar.

    The value of a tracer (a rate under `vmap`, or in `optax.inject_hyperparams`) is not known yet and passes.
    """
    if isinstance(value, Tracer) and value.ndim == 0:
        return
    is_scalar = isinstance(value, int | float | np.generic | np.ndarray | jax.Array) and np.ndim(value) == 0
    if isinstance(value, bool) or not is_scalar or not math.isfinite(value) or not allowed(float(value)):
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
