"""From functions of pytrees to jaxprs of their leaves, and back."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any


class Traced(NamedTuple):
    """A function of pytrees as a jaxpr of their leaves."""

    jaxpr: Any
    primals: list[Any]
    output: PyTree
    """Of shapes and dtypes."""
    aux: PyTree
    """Of shapes and dtypes; None if the function has no auxiliary output."""

    def unflatten(self, leaves: Sequence[Any]) -> tuple[PyTree, PyTree]:
        """Output leaves as output and aux."""
        structure, rest = jax.tree.structure(self.output), jax.tree.structure(self.aux)
        n = structure.num_leaves
        return jax.tree.unflatten(structure, leaves[:n]), jax.tree.unflatten(rest, leaves[n:])


def trace(f: Callable[..., Any], primals: Sequence[PyTree], has_aux: bool = False) -> Traced:
    """Traces a function of pytrees of arrays."""
    jaxpr, shape = jax.make_jaxpr(f, return_shape=True)(*primals)
    if has_aux and not (isinstance(shape, tuple) and len(shape) == 2):
        raise ValueError(f"has_aux: expected f to return a pair (output, aux), got {described(shape)}")
    output, aux = shape if has_aux else (shape, None)
    leaves = [jnp.asarray(x, jnp.result_type(x)) if is_number(x) else x for x in jax.tree.leaves(tuple(primals))]
    return Traced(jaxpr, leaves, output, aux)


def flatten_like(name: str, tree: PyTree, like: PyTree, leaves: Sequence[Any]) -> list[Any]:
    """The leaves of tangents or adjoints, checked against what they belong to; None where nothing is differentiated."""
    expected = jax.tree.structure(like)
    try:
        changes = expected.flatten_up_to(tree)
    except ValueError:
        raise ValueError(f"{name}: expected the structure {expected}, got {jax.tree.structure(tree)}") from None
    checked = []
    for i, (change, x) in enumerate(zip(changes, leaves, strict=True)):
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            if change is not None and dtype_of(change) != jax.dtypes.float0:
                raise ValueError(
                    f"{name}: expected float0 or None for leaf {i}, {described(x)}; got {described(change)}"
                )
            checked.append(None)
            continue
        fits = is_number(change) or dtype_of(change) == x.dtype
        if change is None or not fits or jnp.shape(change) != x.shape:
            raise ValueError(f"{name}: expected {described(x)} for leaf {i}, got {described(change)}")
        checked.append(jnp.asarray(change, x.dtype))
    return checked


def public(changes: Sequence[Any], likes: Sequence[Any]) -> list[Any]:
    """Tangents or adjoints as JAX hands them out: zeros instead of None, `float0` for integers."""

    def zero(like: Any) -> Any:
        if jnp.issubdtype(like.dtype, jnp.inexact):
            return jnp.zeros(like.shape, like.dtype)
        return np.zeros(like.shape, jax.dtypes.float0)

    return [zero(like) if change is None else change for change, like in zip(changes, likes, strict=True)]


def is_number(x: Any) -> bool:
    """Whether x is a number of Python's."""
    return isinstance(x, int | float | complex)


def dtype_of(x: Any) -> Any:
    """The dtype of an array or number; None of anything else."""
    return x.dtype if hasattr(x, "dtype") else jnp.result_type(x) if is_number(x) else None


def described(tree: Any) -> str:
    """Dtypes and shapes of the leaves, for messages."""
    return str(
        jax.tree.map(lambda x: f"{dtype_of(x)}{list(jnp.shape(x))}" if dtype_of(x) is not None else repr(x), tree)
    )
