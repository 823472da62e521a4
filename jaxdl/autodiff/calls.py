"""Rules of equations that call a function: `jit`, rematerialisation, linear solvers, functions with their own rule."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax

from jaxdl.autodiff.interpreter import (
    RULES,
    Pullback,
    Rule,
    Values,
    evaluate,
    evaluate_all,
    forward,
    is_real,
    reverse,
    transpose,
    zeros,
)
from jaxdl.autodiff.rules import add

Active = Sequence[bool]


def _inline_jvp(equation: Any, inputs: Values, tangents: Values) -> tuple[Values, Values]:
    return forward(_body(equation), inputs, tangents)


def _inline_vjp(equation: Any, inputs: Values, active: Active) -> tuple[Values, Pullback]:
    return reverse(_body(equation), inputs, active)


def _body(equation: Any) -> Any:
    return equation.params["jaxpr" if "jaxpr" in equation.params else "call_jaxpr"]


def _remat_jvp(equation: Any, inputs: Values, tangents: Values) -> tuple[Values, Values]:
    """The pushed function is a rematerialised one again, for a reverse mode that may come after."""
    params = equation.params
    run = jax.checkpoint(
        lambda inputs, tangents: forward(params["jaxpr"], inputs, tangents),
        policy=params["policy"],
        prevent_cse=params["prevent_cse"],
    )
    return run(list(inputs), list(tangents))


def _remat_vjp(equation: Any, inputs: Values, active: Active) -> tuple[Values, Pullback]:
    """Keeps the inputs alone and computes again from them; a policy that would keep more is not needed for the values.

    The barrier keeps the compiler from finding that it has computed the same before.
    """

    def pullback(adjoints: Values) -> list[Any]:
        again = lax.optimization_barrier(list(inputs)) if equation.params["prevent_cse"] else inputs
        return reverse(equation.params["jaxpr"], again, active)[1](adjoints)

    return evaluate_all(equation.params["jaxpr"], inputs), pullback


def _of_active(equation: Any, inputs: Values, active: Active) -> tuple[Callable[..., list[Any]], list[Any]]:
    """The equation as a function of its active inputs to its floating outputs, and these inputs."""
    real = [is_real(var) for var in equation.outvars]

    def call(*chosen: Any) -> list[Any]:
        rest = iter(chosen)
        outputs = evaluate(equation, [next(rest) if flag else x for x, flag in zip(inputs, active, strict=True)])
        return [y for y, flag in zip(outputs, real, strict=True) if flag]

    return call, [x for x, flag in zip(inputs, active, strict=True) if flag]


def _spread(changes: Values, places: Active) -> list[Any]:
    rest = iter(changes)
    return [next(rest) if flag else None for flag in places]


# `jax.jvp` and `jax.vjp` of such a call by itself run the function's own rule and no other; that is how JAX hands it
# out. A rule for tangents is linear in them, and reverse mode on it gives the rule for adjoints.


def _custom_jvp_jvp(equation: Any, inputs: Values, tangents: Values) -> tuple[Values, Values]:
    call, chosen = _of_active(equation, inputs, [t is not None for t in tangents])
    _, pushed = jax.jvp(call, chosen, [t for t in tangents if t is not None])
    return evaluate(equation, inputs), _spread(pushed, [is_real(var) for var in equation.outvars])


def _custom_jvp_vjp(equation: Any, inputs: Values, active: Active) -> tuple[Values, Pullback]:
    call, chosen = _of_active(equation, inputs, active)

    def pullback(adjoints: Values) -> list[Any]:
        pull = transpose(lambda *tangents: jax.jvp(call, chosen, list(tangents))[1], chosen)
        return _spread(pull([g for g, var in zip(adjoints, equation.outvars, strict=True) if is_real(var)]), active)

    return evaluate(equation, inputs), pullback


def _custom_vjp_jvp(equation: Any, inputs: Values, tangents: Values) -> tuple[Values, Values]:
    raise ValueError(
        "forward mode through a function with jax.custom_vjp: it says what to do with adjoints, and nothing of "
        "tangents. Use reverse mode, or give the function jax.custom_jvp, of which both modes follow"
    )


def _custom_vjp_vjp(equation: Any, inputs: Values, active: Active) -> tuple[Values, Pullback]:
    call, chosen = _of_active(equation, inputs, active)
    real_outputs, pull = jax.vjp(call, *chosen)
    outputs = _spread(real_outputs, [is_real(var) for var in equation.outvars])
    if not all(map(is_real, equation.outvars)):
        outputs = [y if y is not None else z for y, z in zip(outputs, evaluate(equation, inputs), strict=True)]

    def pullback(adjoints: Values) -> list[Any]:
        return _spread(pull([g for g, var in zip(adjoints, equation.outvars, strict=True) if is_real(var)]), active)

    return outputs, pullback


# `jax.lax.custom_linear_solve`, which `jnp.linalg.solve` calls: from `A x = b`, `A dx = db - dA x`. Its operands are
# what the product `A x` takes besides x, what three other functions take, and b.


def _split_solve(equation: Any, operands: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    lengths = equation.params["const_lengths"]
    return (
        list(operands[: lengths.matvec]),
        list(operands[lengths.matvec : sum(lengths)]),
        list(operands[sum(lengths) :]),
    )


def _solve_jvp(equation: Any, inputs: Values, tangents: Values) -> tuple[Values, Values]:
    matrix, rest, _ = _split_solve(equation, inputs)
    matrix_tangents, _, side_tangents = _split_solve(equation, tangents)
    solution = evaluate(equation, inputs)
    product = equation.params["jaxprs"].matvec
    _, changes = forward(product, [*matrix, *solution], [*matrix_tangents, *(None for _ in solution)])
    sides = [
        add(t, None if change is None else -change) for t, change in zip(side_tangents, changes, strict=True)
    ]  # db - dA x
    sides = [zeros(var) if side is None else side for side, var in zip(sides, equation.outvars, strict=True)]
    return solution, evaluate(equation, [*matrix, *rest, *sides])


def _solve_vjp(equation: Any, inputs: Values, active: Active) -> tuple[Values, Pullback]:
    lengths, jaxprs = equation.params["const_lengths"], equation.params["jaxprs"]
    if jaxprs.transpose_solve is None:
        raise ValueError("reverse mode through jax.lax.custom_linear_solve: expected it to have a transpose_solve")
    matrix, rest, _ = _split_solve(equation, inputs)
    transposed_matrix = rest[: lengths.vecmat]
    solver = rest[lengths.vecmat : lengths.vecmat + lengths.solve]
    transposed_solver = rest[lengths.vecmat + lengths.solve :]
    solution = evaluate(equation, inputs)

    def pullback(adjoints: Values) -> list[Any]:
        sides = equation.primitive.bind(  # A^T b_bar = x_bar
            *[*transposed_matrix, *matrix, *transposed_solver, *solver, *adjoints],
            const_lengths=lengths.transpose(),
            jaxprs=jaxprs.transpose(),
        )
        wanted = [*active[: lengths.matvec], *(False for _ in solution)]
        _, pull = reverse(jaxprs.matvec, [*matrix, *solution], wanted)
        by_matrix = pull([-side for side in sides])[: lengths.matvec]
        return [*by_matrix, *(None for _ in rest), *sides]

    return solution, pullback


for _name in ("jit", "closed_call", "core_call", "eval_jaxpr"):
    RULES[_name] = Rule(_inline_jvp, _inline_vjp)
RULES["remat2"] = RULES["checkpoint"] = Rule(_remat_jvp, _remat_vjp)
RULES["custom_jvp_call"] = Rule(_custom_jvp_jvp, _custom_jvp_vjp)
RULES["custom_vjp_call"] = Rule(_custom_vjp_jvp, _custom_vjp_vjp)
RULES["custom_linear_solve"] = Rule(_solve_jvp, _solve_vjp)
