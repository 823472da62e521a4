"""Derivatives held against central differences (systems course, 23.2)."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Mode = Literal["forward", "reverse"]
ROUNDINGS = 30  # allowed errors of one unit in the last place, relative to the largest terms of the output


class GradientError(ValueError):
    """A derivative is further from the central difference than rounding and the step explain."""


class Comparison(NamedTuple):
    """A directional derivative by one leaf of the arguments, of the output weighted at random."""

    order: int
    """1: of the function; 2: of its derivative; and so on."""
    mode: Mode
    leaf: str
    """Path of the leaf, such as `args[0]['kernel']`."""
    derivative: float
    difference: float
    expected_error: float
    """How far the two may be apart: what halving the step changes, and rounding."""

    @property
    def error(self) -> float:
        """How far apart they are."""
        return abs(self.derivative - self.difference)


def check_gradients(
    f: Callable[..., Any],
    args: Sequence[Any],
    *,
    order: int = 1,
    modes: Sequence[Mode] = ("forward", "reverse"),
    eps: float | None = None,
    seed: int = 0,
    jvp: Callable[..., Any] = jax.jvp,
    vjp: Callable[..., Any] = jax.vjp,
) -> list[Comparison]:
    """Compares the derivatives of `f` at `args` with central differences, `(f(x + eps d) - f(x - eps d)) / (2 eps)`.

    For each floating leaf of the arguments, d is a random unit vector in it. The error of the difference is `O(eps^2)`
    and rounding divided by eps; how large that is here is estimated from a second difference with twice the step and
    from the magnitude of the output. Where a derivative is further off, every element of the worst leaf is compared.

    Args:
      f: of pytrees of arrays, to a pytree of arrays; traceable, as under `jax.jit`, smooth at `args`, and computed in
        the precision of its arguments and outputs throughout (else rounding is taken for an error).
      args: its positional arguments. In float64 an error of 1e-8 shows, in float32 only one of about 1e-3.
      order: how many derivatives to check, each by the one before; at least 1.
      modes: which of forward and reverse mode; of a function with `jax.custom_vjp` only `("reverse",)`.
      eps: step; default the cube root of the dtype's precision, times the leaf's largest magnitude if that is above 1.
      seed: of the directions and weights.
      jvp: what computes the derivative in forward mode, such as `jaxdl.autodiff.jvp`.
      vjp: the same for reverse mode.

    Returns:
      What was compared, a row for each order, mode and leaf.

    Raises:
      GradientError: if a derivative is wrong; it names the order, the mode, the leaf and the worst index in it.
      ValueError: if an option is out of range, or nothing in the arguments or the output is floating.

    >>> (row,) = check_gradients(lambda x: x**3, [jnp.array(2.0)], modes=["reverse"])
    >>> row.leaf, row.error < row.expected_error
    ('args[0]', True)
    """
    if order < 1:
        raise ValueError(f"order: expected at least 1, got {order}")
    if not modes or not set(modes) <= {"forward", "reverse"}:
        raise ValueError(f'modes: expected "forward", "reverse" or both, got {modes!r}')
    if eps is not None and not eps > 0:
        raise ValueError(f"eps: expected a positive step, got {eps}")
    paths, leaves, call = _of_floating_leaves(f, args)
    rng = np.random.default_rng(seed)
    rows: list[Comparison] = []
    for i in range(1, order + 1):
        function = _Weighted(call, leaves, rng, jvp, vjp)
        wrong: list[tuple[Comparison, int]] = []
        for j, path in enumerate(paths):
            step, difference, expected_error = function.difference(j, eps)
            for mode in modes:
                row = Comparison(i, mode, path, function.derivative(mode, j, step), difference, expected_error)
                rows.append(row)
                if not row.error <= expected_error:  # also if it is not a number
                    wrong.append((row, j))
        if wrong:
            raise GradientError(_message(function, *max(wrong, key=_severity), eps))
        call = function.next_order(modes)
    return rows


def _severity(wrong: tuple[Comparison, int]) -> float:
    ratio = wrong[0].error / wrong[0].expected_error
    return np.inf if np.isnan(ratio) else ratio


def _message(function: "_Weighted", row: Comparison, j: int, eps: float | None) -> str:
    """What is wrong, with the element that is furthest off."""
    elements, differences = function.derivatives(row.mode, j), function.differences(j, eps)
    worst = int(jnp.argmax(jnp.nan_to_num(jnp.abs(elements - differences), nan=jnp.inf)))
    index = [int(k) for k in np.unravel_index(worst, function.leaves[j].shape)]
    return (
        f"order {row.order}, {row.mode} mode, {row.leaf}: along a random direction the derivative is "
        f"{row.derivative:.6g}, the central difference {row.difference:.6g}; they differ by {row.error:.2g}, "
        f"expected is at most {row.expected_error:.2g}. Worst at index {index}: derivative {elements[worst]:.6g}, "
        f"difference {differences[worst]:.6g}"
    )


def _of_floating_leaves(
    f: Callable[..., Any], args: Sequence[Any]
) -> tuple[list[str], list[np.ndarray], Callable[[list[Any]], list[Any]]]:
    """Paths and values of the floating leaves, and `f` as a function of a list of them to its floating outputs."""
    with_paths, structure = jax.tree_util.tree_flatten_with_path(list(args))
    everything = [jnp.asarray(leaf) for _, leaf in with_paths]
    places = [i for i, leaf in enumerate(everything) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    if not places:
        raise ValueError("args: expected a floating array among them, got none")

    def call(leaves: list[Any]) -> list[Any]:
        filled = list(everything)
        for i, leaf in zip(places, leaves, strict=True):
            filled[i] = leaf
        outputs = jax.tree.leaves(f(*jax.tree.unflatten(structure, filled)))
        return [jnp.asarray(y) for y in outputs if jnp.issubdtype(jnp.result_type(y), jnp.floating)]

    paths = [f"args{jax.tree_util.keystr(with_paths[i][0])}" for i in places]
    return paths, [np.asarray(everything[i]) for i in places], call


class _Weighted:
    """A function of floating leaves, its outputs weighted at random and added, with its derivatives and differences."""

    def __init__(self, call: Any, leaves: list[np.ndarray], rng: np.random.Generator, jvp: Any, vjp: Any) -> None:
        self.call, self.leaves, self.jvp, self.vjp = call, leaves, jvp, vjp
        self.weights = [_unit(rng, y) for y in jax.eval_shape(call, leaves)]
        if not self.weights:
            raise ValueError("f: expected a floating output, got none")
        self.directions = [_unit(rng, x) for x in leaves]
        self.value = jax.jit(self._value)
        self.push = jax.jit(self._push, static_argnums=0)

    def _value(self, leaves: list[Any]) -> tuple[Any, Any]:
        """The weighted sum, and the sum of its magnitudes."""
        terms = [w * y for w, y in zip(self.weights, self.call(leaves), strict=True)]
        return sum(term.sum() for term in terms), sum(jnp.abs(term).sum() for term in terms)

    def _push(self, j: int, tangent: Any) -> Any:
        tangents = self.replaced(j, tangent, [jnp.zeros_like(leaf) for leaf in self.leaves])
        changes = self.jvp(self.call, (self.leaves,), (tangents,))[1]
        return sum((w * change).sum() for w, change in zip(self.weights, changes, strict=True))

    @cached_property
    def adjoints(self) -> list[Any]:
        return jax.jit(lambda leaves: self.vjp(self.call, leaves)[1](self.weights)[0])(self.leaves)

    def replaced(self, j: int, leaf: Any, leaves: Sequence[Any] | None = None) -> list[Any]:
        leaves = self.leaves if leaves is None else leaves
        return [*leaves[:j], leaf, *leaves[j + 1 :]]

    def derivative(self, mode: Mode, j: int, tangent: Any) -> float:
        """Along a tangent of one leaf, divided by its length."""
        along = (self.adjoints[j] * tangent).sum() if mode == "reverse" else self.push(j, tangent)
        return float(along) / max(float(np.linalg.norm(tangent)), 1e-300)

    def derivatives(self, mode: Mode, j: int) -> Any:
        """By each element of a leaf."""
        x = self.leaves[j]
        if mode == "reverse":
            return self.adjoints[j].ravel()
        zeros = jnp.zeros(x.size, x.dtype)
        return jax.lax.map(lambda i: self.push(j, zeros.at[i].set(1).reshape(x.shape)), np.arange(x.size))

    def size_of_step(self, j: int, eps: float | None) -> tuple[float, float]:
        """And the precision of what is computed."""
        x = self.leaves[j]
        precision = max(float(jnp.finfo(array.dtype).eps) for array in (x, *self.weights))
        return eps or precision ** (1 / 3) * max(1.0, float(np.abs(x).max(initial=0))), precision

    def difference(self, j: int, eps: float | None) -> tuple[np.ndarray, float, float]:
        """The step, the central difference along it, and how far that may be off."""
        x = self.leaves[j]
        size, precision = self.size_of_step(j, eps)
        step = (x + size * self.directions[j]).astype(x.dtype) - x  # what is really added, after rounding
        length = max(float(np.linalg.norm(step)), 1e-300)
        ends = [self.value(self.replaced(j, x + times * step)) for times in (1, -1, 2, -2)]
        values, magnitudes = zip(*((float(value), float(magnitude)) for value, magnitude in ends), strict=True)
        difference, wide = (values[0] - values[1]) / (2 * length), (values[2] - values[3]) / (4 * length)
        truncation = abs(wide - difference)  # three times the error of the smaller step, which is O(eps^2)
        return step, difference, truncation + ROUNDINGS * precision * max(magnitudes) / size

    def differences(self, j: int, eps: float | None) -> Any:
        """The central differences by each element of a leaf."""
        x, (size, _) = jnp.asarray(self.leaves[j]), self.size_of_step(j, eps)

        def by_element(i: Any) -> Any:
            ends = (x.ravel().at[i].add(sign * size).reshape(x.shape) for sign in (1, -1))
            above, below = (self.value(self.replaced(j, end))[0] for end in ends)
            return (above - below) / (2 * size)

        return jax.lax.map(by_element, np.arange(x.size))

    def next_order(self, modes: Sequence[Mode]) -> Callable[[list[Any]], list[Any]]:
        """The derivative as a function of the leaves again."""
        if "reverse" in modes:
            return lambda leaves: list(self.vjp(self.call, leaves)[1](self.weights)[0])
        return lambda leaves: self.jvp(self.call, (leaves,), (self.directions,))[1]


def _unit(rng: np.random.Generator, like: Any) -> np.ndarray:
    """A random vector of length 1, in the shape and dtype of `like`."""
    vector = rng.normal(size=like.shape)
    return (vector / max(np.linalg.norm(vector), 1e-300)).astype(like.dtype)
