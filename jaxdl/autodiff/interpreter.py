"""Forward and reverse mode as two ways of reading a jaxpr (systems course, 23.1).

A jaxpr is a list of equations in the order of computation, such as `c = mul a b`. `forward` reads it once and carries,
beside each value, its tangent. `reverse` reads it once for the values and returns a function that reads it from the
last equation to the first and carries adjoints; where a variable is used several times, its adjoint is the sum of what
each use contributes. Both ask a `Rule` what one equation does, and both compute with JAX: what they compute can be
traced and differentiated again, compiled and mapped.

In this room `None` stands for a tangent or adjoint that is zero because nothing flows there.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

Values = Sequence[Any]  # arrays; among tangents and adjoints also None
Pullback = Callable[[Values], list[Any]]  # adjoints of outputs -> adjoints of inputs


class Rule(NamedTuple):
    """What a primitive does to tangents and adjoints; `equation` is one of a jaxpr, `inputs` are its values."""

    jvp: Callable[[Any, Values, Values], tuple[Values, Values]]
    """`(equation, inputs, tangents) -> (outputs, their tangents)`."""
    vjp: Callable[[Any, Values, Sequence[bool]], tuple[Values, Pullback | None]]
    """`(equation, inputs, active) -> (outputs, pullback)`: adjoints are wanted of the active inputs; None if none."""


RULES: dict[str, Rule] = {}  # by the name of the primitive; filled by the files of this room that are named by meaning


def forward(jaxpr: Any, primals: Values, tangents: Values) -> tuple[list[Any], list[Any]]:
    """Evaluates a jaxpr and pushes tangents along: the outputs and their tangents."""
    return outputs_of(jaxpr, *forward_environments(jaxpr, primals, tangents))


def forward_environments(jaxpr: Any, primals: Values, tangents: Values) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """As `forward`, but the value and the tangent of every variable."""
    jaxpr, consts = opened(jaxpr)
    value = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *primals), strict=True))
    tangent = {var: t for var, t in zip(jaxpr.invars, tangents, strict=True) if t is not None}
    for equation in jaxpr.eqns:
        inputs = [read(value, atom) for atom in equation.invars]
        input_tangents = [find(tangent, atom) for atom in equation.invars]
        if any(t is not None for t in input_tangents) and any(map(is_real, equation.outvars)):
            outputs, output_tangents = rule_of(equation).jvp(equation, inputs, input_tangents)
            pairs = zip(equation.outvars, output_tangents, strict=True)
            tangent.update((var, t) for var, t in pairs if t is not None and is_real(var))
        else:
            outputs = evaluate(equation, inputs)
        value.update(zip(equation.outvars, outputs, strict=True))
    return value, tangent


def reverse(jaxpr: Any, primals: Values, active: Sequence[bool]) -> tuple[list[Any], Pullback]:
    """Evaluates a jaxpr: the outputs, and the function from their adjoints to those of the active inputs."""
    value, pull_back = reverse_environments(jaxpr, primals, active)

    def pullback(adjoints: Values) -> list[Any]:
        adjoint = pull_back(adjoints)
        return [adjoint.get(var) for var in opened(jaxpr)[0].invars]

    return outputs_of(jaxpr, value)[0], pullback


def reverse_environments(
    jaxpr: Any, primals: Values, active: Sequence[bool]
) -> tuple[dict[Any, Any], Callable[[Values], dict[Any, Any]]]:
    """As `reverse`, but the value of every variable, and the function to the adjoint of every active one."""
    jaxpr, consts = opened(jaxpr)
    value = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *primals), strict=True))
    depends = {var for var, is_active in zip(jaxpr.invars, active, strict=True) if is_active}
    tape: list[tuple[Any, Pullback]] = []  # the equations on the way from active inputs, in order
    for equation in jaxpr.eqns:
        inputs = [read(value, atom) for atom in equation.invars]
        is_active = [not isinstance(atom, Literal) and atom in depends for atom in equation.invars]
        if any(is_active) and any(map(is_real, equation.outvars)):
            outputs, pull = rule_of(equation).vjp(equation, inputs, is_active)
            if pull is not None:
                tape.append((equation, pull))
                depends.update(filter(is_real, equation.outvars))
        else:
            outputs = evaluate(equation, inputs)
        value.update(zip(equation.outvars, outputs, strict=True))

    def pull_back(adjoints: Values) -> dict[Any, Any]:
        adjoint: dict[Any, Any] = {}

        def add(atoms: Values, contributions: Values) -> None:
            for atom, contribution in zip(atoms, contributions, strict=True):
                if contribution is not None and not isinstance(atom, Literal) and atom in depends:
                    adjoint[atom] = adjoint[atom] + contribution if atom in adjoint else contribution

        add(jaxpr.outvars, adjoints)
        for equation, pull in reversed(tape):
            if any(var in adjoint for var in equation.outvars):
                add(equation.invars, pull([adjoint.get(var, zeros(var)) for var in equation.outvars]))
        return adjoint

    return value, pull_back


def transpose(linear: Callable[..., Any], like: Values) -> Pullback:
    """The transposed of a linear function of arrays of the shapes of `like`: reverse mode at any point, here at zero.

    It takes a list, an adjoint for each leaf of what the function returns.
    """
    at = [jnp.zeros(jnp.shape(x), x.dtype) for x in like]
    return reverse(jax.make_jaxpr(linear)(*at), at, [True] * len(at))[1]


def evaluate(equation: Any, inputs: Values) -> list[Any]:
    """The outputs of one equation, without derivatives."""
    with equation.ctx.manager:  # such as the precision under which it was traced
        outputs = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(equation.params))
    return list(outputs) if equation.primitive.multiple_results else [outputs]


def evaluate_all(jaxpr: Any, primals: Values) -> list[Any]:
    """The outputs of a jaxpr, without derivatives."""
    return forward(jaxpr, primals, [None] * len(primals))[0]


def rule_of(equation: Any) -> Rule:
    """The rule of the equation's primitive, or an error that shows how to register one."""
    name = equation.primitive.name
    if name not in RULES:
        raise NotImplementedError(
            f"no derivative rule for the primitive {name!r}. Register one (`push` alone is enough):\n\n"
            f'    @jaxdl.autodiff.register_rule("{name}")\n'
            "    def rule(*inputs, output, **params):  # a LinearMap for each input, or None where it is zero\n"
            "        return [LinearMap(push=lambda tangent: ...) for x in inputs]\n\n"
            f"The equation is: {equation}"
        )
    for atom in (*equation.invars, *equation.outvars):
        if jnp.issubdtype(dtype_of(atom), jnp.complexfloating):
            raise NotImplementedError(f"derivatives of complex numbers, in the equation: {equation}")
    return RULES[name]


def opened(jaxpr: Any) -> tuple[Any, Values]:
    """A jaxpr, closed or open, as an open one and its constants; JAX 0.12 has one class for both."""
    return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())


def outputs_of(jaxpr: Any, value: dict[Any, Any], *others: dict[Any, Any]) -> Any:
    """What the output variables of a jaxpr have in environments of values, and of tangents or adjoints."""
    outvars = opened(jaxpr)[0].outvars
    rest = ([find(other, atom) for atom in outvars] for other in others)
    return [read(value, atom) for atom in outvars], *rest


def read(value: dict[Any, Any], atom: Any) -> Any:
    """The value of a variable, or the number that stands in its place."""
    return np.asarray(atom.val, dtype_of(atom)) if isinstance(atom, Literal) else value[atom]


def find(change: dict[Any, Any], atom: Any) -> Any:
    """The tangent or adjoint of a variable; a number that stands in its place has none."""
    return None if isinstance(atom, Literal) else change.get(atom)


def is_real(atom: Any) -> bool:
    """Whether a variable has a tangent: floating, or complex, which `rule_of` refuses."""
    return jnp.issubdtype(dtype_of(atom), jnp.inexact)


def zeros(atom: Any) -> Any:
    """The zero tangent of a variable; None if it has none."""
    return jnp.zeros(atom.aval.shape, atom.aval.dtype) if is_real(atom) else None


def dtype_of(atom: Any) -> Any:
    """The dtype of a variable; of a token, which has none, that of an integer."""
    return getattr(atom.aval, "dtype", jnp.int32)
