"""Functions with a gradient of their own have no forward mode; an error that says what to do about it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def reverse_only(function: Callable[..., Any], message: str) -> Callable[..., Any]:
    """A function that calls a `jax.custom_vjp`, with an error of ours in forward mode.

    JAX's own names neither the function nor a way out. Reverse mode never computes a tangent, it only turns the program
    of the tangents around; whoever does compute one meets the error.

    Args:
      function: of pytrees of floating arrays, without keywords.
      message: of the error.

    Raises:
      TypeError: when called under `jax.jvp`, `jax.jacfwd`, `jax.hessian` or `jax.linearize`; inside a jitted function
        when that is traced or compiled.
    """

    def call(*arrays: Any) -> Any:
        leaves, structure = jax.tree.flatten(arrays)
        arrays = jax.tree.unflatten(structure, _pass(message, *leaves))
        try:
            return function(*arrays)
        except TypeError as error:  # JAX's comes first where tangents are batched in a traced function
            if "forward-mode" in str(error):
                raise TypeError(message) from None
            raise

    return call


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _pass(message: str, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    return arrays


@_pass.defjvp
def _pass_jvp(message: str, arrays: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    return _pass(message, *arrays), tuple(_tangents.bind(*tangents, message=message))


def _refuse(*_: Any, message: str) -> Any:
    raise TypeError(message)


def _transpose(cotangents: Any, *tangents: Any, message: str) -> list[Any]:
    return [dy if ad.is_undefined_primal(dx) else None for dy, dx in zip(cotangents, tangents, strict=True)]


def _batch(tangents: Any, axes: Any, *, message: str) -> tuple[Any, Any]:
    return _tangents.bind(*tangents, message=message), axes


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def first_order(message: str, arrays: Any) -> Any:
    """The identity, for what a gradient of one's own is computed from: the gradient has no gradient.

    Raises:
      TypeError: with the message, if it is differentiated.
    """
    return arrays


@first_order.defjvp
def _first_order_jvp(message: str, arrays: Any, tangents: Any) -> Any:
    raise TypeError(message)


_tangents = Primitive("reverse_only")  # of tangents: the identity, which can be transposed but not computed
_tangents.multiple_results = True
_tangents.def_impl(_refuse)
_tangents.def_abstract_eval(lambda *tangents, message: tangents)
ad.primitive_transposes[_tangents] = _transpose
batching.primitive_batchers[_tangents] = _batch
mlir.register_lowering(_tangents, lambda _, *tangents, message: _refuse(message=message))
