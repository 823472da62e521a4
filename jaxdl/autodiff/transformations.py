"""The public transformations, with the conventions of `jax.jvp`, `jax.vjp`, `jax.grad` and their kin.

A function is traced to a jaxpr first, as `jax.jit` does, so its Python control flow must not depend on values (where
`jax.grad` outside of `jit` allows that). What comes back computes with JAX: it can be differentiated again, compiled
and mapped. Use it under `jax.jit`; outside, each primitive runs by itself.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxdl.autodiff import (
    calls,
    control_flow,
    elementwise,
    indexing,
    interpreter,
    linear_algebra,
    reductions,
    shapes,
    windows,
)
from jaxdl.autodiff.tracing import PyTree, described, dtype_of, flatten_like, public, trace

# What fills the registry of rules when it is imported.
RULE_FILES = (calls, control_flow, elementwise, indexing, linear_algebra, reductions, shapes, windows)


def jvp(
    f: Callable[..., Any], primals: Sequence[PyTree], tangents: Sequence[PyTree], *, has_aux: bool = False
) -> tuple[Any, ...]:
    """Forward mode: the output of `f(*primals)` and how it changes as the primals move along the tangents.

    Args:
      f: of pytrees of arrays.
      primals: its arguments.
      tangents: one for each, of the same structure, shapes and dtypes; of integers, arrays of dtype `float0` or None.
      has_aux: whether `f` returns a pair of the output and something else, a pytree of arrays, without derivative.

    Returns:
      The output and its tangent, and aux if there is one. Integer outputs have tangents of dtype `float0`.

    Raises:
      ValueError: if a tangent does not fit its primal, or the forward mode meets a `jax.custom_vjp`.
      NotImplementedError: for a primitive without a rule; it shows how to register one.

    >>> jvp(lambda x, y: x * y, (2.0, 5.0), (1.0, 0.0))
    (Array(10., dtype=float32), Array(5., dtype=float32))
    """
    _check_sequence("primals", primals)
    _check_sequence("tangents", tangents)
    traced = trace(f, primals, has_aux)
    leaves = flatten_like("tangents", tuple(tangents), tuple(primals), traced.primals)
    values, changes = interpreter.forward(traced.jaxpr, traced.primals, leaves)
    output, aux = traced.unflatten([*map(jnp.asarray, values)])
    tangent, _ = traced.unflatten(public(changes, values))
    return (output, tangent, aux) if has_aux else (output, tangent)


def vjp(f: Callable[..., Any], *primals: PyTree, has_aux: bool = False) -> tuple[Any, ...]:
    """Reverse mode: the output of `f(*primals)`, and the function that pulls its adjoints back to the primals.

    One pass gives the derivative of a scalar by everything. Where `jax.checkpoint` has a policy, the adjoints are
    the same, but everything inside is computed again.

    Args:
      f: of pytrees of arrays.
      primals: its arguments.
      has_aux: as in `jvp`.

    Returns:
      The output; a function from an adjoint, of the structure and dtypes of the output, to a tuple of one for each
      primal; and aux if there is one. Integers have adjoints of dtype `float0`.

    Raises:
      ValueError: if an adjoint does not fit the output, or reverse mode meets a `while` loop.
      NotImplementedError: for a primitive without a rule; it shows how to register one.

    >>> output, pullback = vjp(lambda x, y: x * y, 2.0, 5.0)
    >>> pullback(1.0)
    (Array(5., dtype=float32), Array(2., dtype=float32))
    """
    traced = trace(f, primals, has_aux)
    active = [jnp.issubdtype(x.dtype, jnp.inexact) for x in traced.primals]
    values, pull = interpreter.reverse(traced.jaxpr, traced.primals, active)
    output, aux = traced.unflatten([*map(jnp.asarray, values)])
    structure = jax.tree.structure(primals)

    def pullback(adjoint: PyTree) -> tuple[PyTree, ...]:
        leaves = flatten_like("adjoint", adjoint, output, jax.tree.leaves(output))
        adjoints = pull([*leaves, *(None for _ in jax.tree.leaves(aux))])
        return jax.tree.unflatten(structure, public(adjoints, traced.primals))

    return (output, pullback, aux) if has_aux else (output, pullback)


def value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """A function that returns the value of `f`, a scalar, and its gradient; as `jax.value_and_grad`.

    Args:
      f: returns a floating scalar, or a pair of it and aux.
      argnums: which positional arguments to differentiate by, pytrees of floating arrays; a sequence gives a tuple of
        gradients. Other arguments may be anything.
      has_aux: as in `jvp`; the value is then the pair.

    Raises:
      ValueError: when called, if the value is not a floating scalar, an argument of `argnums` is not there or not
        floating, and as in `vjp`.
    """

    @wraps(f)
    def with_gradient(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        call, chosen = _by(f, argnums, args, kwargs)
        output, pullback, *aux = vjp(call, *chosen, has_aux=has_aux)
        if not isinstance(output, jax.Array) or output.shape != () or not jnp.issubdtype(output.dtype, jnp.floating):
            raise ValueError(f"f: expected a floating scalar to differentiate, got {described(output)}")
        gradients = pullback(jnp.ones((), output.dtype))
        return (output, *aux) if has_aux else output, gradients[0] if isinstance(argnums, int) else gradients

    return with_gradient


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False) -> Callable[..., Any]:
    """The gradient of a scalar function; as `jax.grad`, and the arguments as in `value_and_grad`.

    Returns a function of the gradient alone, or of the pair of it and aux.

    >>> grad(lambda x: 2 * x @ x)(jnp.arange(4.0))
    Array([ 0.,  4.,  8., 12.], dtype=float32)
    """

    @wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, gradients = value_and_grad(f, argnums, has_aux=has_aux)(*args, **kwargs)
        return (gradients, value[1]) if has_aux else gradients

    return gradient


def jacobian(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, mode: Literal["forward", "reverse"] = "reverse"
) -> Callable[..., Any]:
    """All partial derivatives; as `jax.jacrev`, or `jax.jacfwd` in the mode "forward".

    Reverse mode does a pass for each element of the output, forward mode for each element of the arguments; the passes
    are mapped.

    Args:
      f: of floating arrays, to floating arrays; pytrees of these.
      argnums: as in `value_and_grad`.
      mode: which passes.

    Returns:
      A function with the pytree of the output, at each leaf the pytree of the argument (a tuple of them for a sequence
      of `argnums`), at each leaf of that `[*output_shape, *argument_shape]`.

    Raises:
      ValueError: for another mode; when called, if arguments or outputs are not floating, and as in `vjp` or `jvp`.
    """
    if mode not in ("forward", "reverse"):
        raise ValueError(f'mode: expected "forward" or "reverse", got {mode!r}')

    @wraps(f)
    def derivatives(*args: Any, **kwargs: Any) -> Any:
        call, chosen = _by(f, argnums, args, kwargs)
        traced = trace(call, chosen)
        inputs, outputs = traced.primals, jax.tree.leaves(traced.output)

        def push(tangents: Sequence[Any]) -> list[Any]:
            return interpreter.forward(traced.jaxpr, inputs, tangents)[1]

        for leaf in outputs:
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise ValueError(f"f: expected floating outputs, got {described(traced.output)}")
        if mode == "reverse":
            _, pull = interpreter.reverse(traced.jaxpr, inputs, [True] * len(inputs))
            rows = [_mapped(pull, outputs, i, axis=0) for i in range(len(outputs))]  # of [output_size, *input_shape]
        else:
            columns = [_mapped(push, inputs, j, axis=-1) for j in range(len(inputs))]  # of [*output_shape, input_size]
            rows = [*zip(*columns, strict=True)]
        blocks = [
            [_block(block, (*y.shape, *x.shape), y.dtype) for block, x in zip(row, inputs, strict=True)]
            for row, y in zip(rows, outputs, strict=True)
        ]
        structure = jax.tree.structure(chosen[0] if isinstance(argnums, int) else chosen)
        by_output = [jax.tree.unflatten(structure, row) for row in blocks]
        return jax.tree.unflatten(jax.tree.structure(traced.output), by_output)

    return derivatives


def hessian(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The second derivatives, forward mode over reverse mode; as `jax.hessian`, and the arguments as in `jacobian`.

    >>> hessian(lambda x: (x**3).sum())(jnp.array([1.0, 2.0]))
    Array([[ 6.,  0.],
           [ 0., 12.]], dtype=float32)
    """
    return jacobian(jacobian(f, argnums, mode="reverse"), argnums, mode="forward")


def _mapped(run: Callable[..., list[Any]], like: Sequence[Any], i: int, axis: int) -> list[Any]:
    """Runs on each unit vector of the i-th leaf, with zero for the others, and stacks along `axis`."""
    units = jnp.eye(like[i].size, dtype=like[i].dtype).reshape(like[i].size, *like[i].shape)
    rest = len(like) - i - 1
    return jax.vmap(lambda unit: run([*[None] * i, unit, *[None] * rest]), out_axes=axis)(units)


def _block(block: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return jnp.zeros(shape, dtype) if block is None else block.reshape(shape)


def _by(
    f: Callable[..., Any], argnums: int | Sequence[int], args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The function of the arguments that `argnums` names, the others held fast, and these arguments."""
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for number in numbers:
        if not -len(args) <= number < len(args):
            raise ValueError(f"argnums: expected the number of one of {len(args)} positional arguments, got {number}")
        for path, leaf in jax.tree_util.tree_leaves_with_path(args[number]):
            if not jnp.issubdtype(dtype_of(leaf), jnp.floating):
                name = f"argument {number}{jax.tree_util.keystr(path)}"
                raise ValueError(f"{name}: expected a floating dtype to differentiate by, got {described(leaf)}")

    def call(*chosen: Any) -> Any:
        everything = list(args)
        for number, arg in zip(numbers, chosen, strict=True):
            everything[number] = arg
        return f(*everything, **kwargs)

    return call, tuple(args[number] for number in numbers)


def _check_sequence(name: str, value: Any) -> None:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name}: expected a tuple or a list, one for each argument of f; got {described(value)}")
