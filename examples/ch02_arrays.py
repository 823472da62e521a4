"""Arrays in JAX: made, indexed, updated, combined, converted; and where to read more (D2L 2.1 and 2.7).

    python examples/ch02_arrays.py

Each line that it prints is an expression with its value, which has been compared with what it should be. Takes 3 s of
processor time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import experiment

Facts = Iterator[tuple[str, Any, Any]]  # an expression, its value, and what that should be


@dataclass(frozen=True)
class Config:
    """Prints what the operations give."""

    seed: int = 0
    """Of the random numbers."""


def creation(config: Config) -> Facts:
    """2.1.1  Arrays are made from ranges, constants, lists or random numbers."""
    x = jnp.arange(12)
    yield "arange(12)", x, range(12)
    yield "arange(12).size", x.size, 12
    yield "arange(12).shape", x.shape, (12,)
    yield "arange(12).reshape(3, 4)", x.reshape(3, 4), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    yield "arange(12).reshape(-1, 4).shape", x.reshape(-1, 4).shape, (3, 4)  # -1: whatever is left
    yield "zeros((2, 3))", jnp.zeros((2, 3)), [[0, 0, 0], [0, 0, 0]]
    yield "ones((2, 3))", jnp.ones((2, 3)), [[1, 1, 1], [1, 1, 1]]
    yield "array([[2, 1], [1, 2]])", jnp.array([[2, 1], [1, 2]]), [[2, 1], [1, 2]]
    # Random numbers are a function of a key: the same key gives the same numbers, two keys come from a split.
    key, other = jax.random.split(jax.random.key(config.seed))
    x = jax.random.normal(key, (1000,))
    yield "normal(key) - normal(key), greatest", abs(x - jax.random.normal(key, (1000,))).max(), 0
    yield "normal(key) equals normal(other)?", bool((x == jax.random.normal(other, (1000,))).any()), False


def indexing(config: Config) -> Facts:
    """2.1.2  Indices and slices read parts; arrays never change, so `.at[...]` makes a changed copy."""
    x = jnp.arange(12).reshape(3, 4)
    yield "x[-1]", x[-1], [8, 9, 10, 11]
    yield "x[1:3]", x[1:3], [[4, 5, 6, 7], [8, 9, 10, 11]]
    yield "x[:, 1]", x[:, 1], [1, 5, 9]
    yield "x[x > 8]", x[x > 8], [9, 10, 11]
    yield "x.at[1, 2].set(17)", x.at[1, 2].set(17), [[0, 1, 2, 3], [4, 5, 17, 7], [8, 9, 10, 11]]
    yield "x.at[:2, :].set(12)", x.at[:2, :].set(12), [[12] * 4, [12] * 4, [8, 9, 10, 11]]
    yield "x[1, 2], as it was", x[1, 2], 6
    # Beyond the end NumPy raises; JAX, which cannot raise on a device, takes the last element and writes nowhere.
    yield "x[5, 0]", x[5, 0], 8
    yield "x.at[5, 0].set(17).sum()", x.at[5, 0].set(17).sum(), 66


def operations(config: Config) -> Facts:
    """2.1.3  Operations act element by element; arrays are joined along an axis, compared and summed."""
    x, y = jnp.array([1.0, 2, 4, 8]), jnp.array([2.0, 2, 2, 2])
    yield "x + y", x + y, [3, 4, 6, 10]
    yield "x - y", x - y, [-1, 0, 2, 6]
    yield "x * y", x * y, [2, 4, 8, 16]
    yield "x / y", x / y, [0.5, 1, 2, 4]
    yield "x ** y", x**y, [1, 4, 16, 64]
    yield "exp(x)", jnp.exp(x), np.exp([1, 2, 4, 8])
    a, b = jnp.arange(12.0).reshape(3, 4), jnp.array([[2.0, 1, 4, 3], [1, 2, 3, 4], [4, 3, 2, 1]])
    yield "concatenate((a, b), axis=0).shape", jnp.concatenate((a, b), axis=0).shape, (6, 4)
    yield "concatenate((a, b), axis=1).shape", jnp.concatenate((a, b), axis=1).shape, (3, 8)
    yield "a == b", (a == b).astype(int), [[0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    yield "a.sum()", a.sum(), 66


def broadcasting(config: Config) -> Facts:
    """2.1.4  Axes of size 1 are repeated to fit. Missing axes we add by hand, so that none fits by accident."""
    a, b = jnp.arange(3).reshape(3, 1), jnp.arange(2).reshape(1, 2)
    yield "a + b, shapes (3, 1) and (1, 2)", a + b, [[0, 1], [1, 2], [2, 3]]
    yield "ones((3, 2)) + arange(2)[None]", jnp.ones((3, 2)) + jnp.arange(2.0)[None], [[1, 2]] * 3


def memory(config: Config) -> Facts:
    """2.1.5  A new array takes new memory, unless a compiled function is given the old one's (`donate_argnums`)."""
    x, y = jnp.arange(4.0), jnp.ones(4)
    before = x
    x = x + y  # a new array with the old name
    yield "is x after `x = x + y` the same array?", x is before, False
    add = jax.jit(lambda x, y: x + y, donate_argnums=0)  # writes into the memory of its first argument
    address = x.unsafe_buffer_pointer()
    total = add(x, y)
    yield "is the donated x gone?", x.is_deleted(), True
    yield "is the sum where x was?", total.unsafe_buffer_pointer() == address, True
    yield "the sum", total, [2, 3, 4, 5]


def conversion(config: Config) -> Facts:
    """2.1.6  To NumPy and back; an array of one element becomes a Python number."""
    x = jnp.array([3.5])
    yield "type(numpy.asarray(x)) is numpy.ndarray", isinstance(np.asarray(x), np.ndarray), True
    yield "jnp.asarray(numpy.array([3.5]))", jnp.asarray(np.array([3.5])), [3.5]
    yield "x.item(), float(x[0]), int(x[0])", (x.item(), float(x[0]), int(x[0])), (3.5, 3.5, 3)


def documentation() -> None:
    """2.7  `dir` lists what a module has, `help` prints what a function does."""
    print(f"\n{documentation.__doc__}")
    names = [name for name in dir(jax.random) if "uniform" in name or "normal" in name]
    print(f"  in dir(jax.random): {', '.join(names)}")
    print(f"  help(jnp.ones) begins: {(jnp.ones.__doc__ or '').strip().splitlines()[0]}")


def main(config: Config) -> dict[str, float]:
    """Prints and checks all sections, and returns the values that are one number."""
    numbers: dict[str, float] = {}
    for section in (creation, indexing, operations, broadcasting, memory, conversion):
        print(f"\n{section.__doc__}")
        for expression, value, expected in section(config):
            np.testing.assert_allclose(value, expected, rtol=1e-6, err_msg=expression)
            shown = np.array2string(np.asarray(value), precision=6, separator=", ", suppress_small=True)
            print(f"  {expression:<40}" + shown.replace("\n", ""))
            if np.ndim(value) == 0:
                numbers[expression] = float(value)
    documentation()
    return numbers


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
