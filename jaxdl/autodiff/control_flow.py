"""Rules of `cond`, `scan` and `while`, whose bodies are jaxprs.

Reverse mode computes the branch that was taken, and each step of a scan, a second time: what a step needs is then its
carry alone, where JAX keeps all that the step has computed.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

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
    opened,
    reverse,
    zeros,
)
from jaxdl.autodiff.rules import add

Active = Sequence[bool]


def active_outputs(jaxpr: Any, active: Active) -> list[bool]:
    """Which outputs depend on an active input and are floating, as far as the equations' variables tell."""
    jaxpr, _ = opened(jaxpr)
    depends = {id(var) for var, is_active in zip(jaxpr.invars, active, strict=True) if is_active}
    for equation in jaxpr.eqns:
        if any(id(atom) in depends for atom in equation.invars):
            depends.update(id(var) for var in equation.outvars if is_real(var))
    return [id(atom) in depends for atom in jaxpr.outvars]


def filled(changes: Values, atoms: Values, active: Active) -> list[Any]:
    """The tangents or adjoints of active variables, zeros where nothing flowed; None of the others."""
    triples = zip(changes, atoms, active, strict=True)
    return [(zeros(atom) if change is None else change) if is_active else None for change, atom, is_active in triples]


def _cond_jvp(equation: Any, inputs: Values, tangents: Values) -> tuple[Values, Values]:
    branches, (which, *operands), tangents = equation.params["branches"], inputs, tangents[1:]
    active = [t is not None for t in tangents]
    output_active = [any(flags) for flags in zip(*(active_outputs(branch, active) for branch in branches), strict=True)]

    def pushed(branch: Any) -> Any:
        def run(operands: Values, tangents: Values) -> Any:
            outputs, output_tangents = forward(branch, operands, tangents)
            return outputs, filled(output_tangents, equation.outvars, output_active)

        return run

    return lax.switch(which, [pushed(branch) for branch in branches], operands, tangents)


def _cond_vjp(equation: Any, inputs: Values, active: Active) -> tuple[Values, Pullback | None]:
    branches, (which, *operands), active = equation.params["branches"], inputs, active[1:]
    if not any(flag for branch in branches for flag in active_outputs(branch, active)):
        return evaluate(equation, inputs), None

    def pulled(branch: Any) -> Any:
        def run(operands: Values, adjoints: Values) -> list[Any]:
            return filled(reverse(branch, operands, active)[1](adjoints), equation.invars[1:], active)

        return run

    def pullback(adjoints: Values) -> list[Any]:
        return [None, *lax.switch(which, [pulled(branch) for branch in branches], operands, adjoints)]

    return evaluate(equation, inputs), pullback


class Loop(NamedTuple):
    """A scan taken apart: how many inputs are constants, how many are carried; the rest are slices."""

    body: Any
    num_consts: int
    num_carry: int

    @classmethod
    def of(cls, equation: Any) -> "Loop":
        """What is sliced or stacked has one axis more outside; versions of JAX record the counts differently."""
        jaxpr, _ = opened(equation.params["jaxpr"])
        carried = _num_same_shape(equation.outvars, jaxpr.outvars)
        return cls(equation.params["jaxpr"], _num_same_shape(equation.invars, jaxpr.invars) - carried, carried)

    def split(self, inputs: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Constants, first carry, slices."""
        last = self.num_consts + self.num_carry
        return list(inputs[: self.num_consts]), list(inputs[self.num_consts : last]), list(inputs[last:])

    def activity(self, active: Active) -> tuple[list[bool], list[bool]]:
        """Of the inputs and outputs, once what an iteration makes active has gone around."""
        consts, carry, slices = self.split(active)
        while True:
            outputs = active_outputs(self.body, [*consts, *carry, *slices])
            grown = [before or after for before, after in zip(carry, outputs, strict=False)]
            if grown == carry:
                return [*consts, *carry, *slices], [*carry, *outputs[self.num_carry :]]
            carry = grown


def _num_same_shape(outside: Values, inside: Values) -> int:
    return sum(x.aval.shape == y.aval.shape for x, y in zip(outside, inside, strict=True))


def _options(equation: Any) -> dict[str, Any]:
    return {name: equation.params[name] for name in ("length", "reverse", "unroll")}


def _scan_jvp(equation: Any, inputs: Values, tangents: Values) -> tuple[Values, Values]:
    loop = Loop.of(equation)
    active, output_active = loop.activity([t is not None for t in tangents])
    consts, init, slices = loop.split(inputs)
    const_tangents, init_tangents, slice_tangents = loop.split(filled(tangents, equation.invars, active))

    def step(carry: Any, now: Any) -> Any:
        values, changes = zip(carry, now, strict=True)  # of the carry and of the slices
        outputs, output_tangents = forward(
            loop.body, [*consts, *values[0], *values[1]], [*const_tangents, *changes[0], *changes[1]]
        )
        output_tangents = filled(output_tangents, opened(loop.body)[0].outvars, output_active)
        n = loop.num_carry
        return (outputs[:n], output_tangents[:n]), (outputs[n:], output_tangents[n:])

    last, stacked = lax.scan(step, (init, init_tangents), (slices, slice_tangents), **_options(equation))
    return [*last[0], *stacked[0]], [*last[1], *stacked[1]]


def _scan_vjp(equation: Any, inputs: Values, active: Active) -> tuple[Values, Pullback | None]:
    """Forward, a scan that also stacks the carries; backward, one that carries the adjoints of carry and constants."""
    loop = Loop.of(equation)
    active, output_active = loop.activity(active)
    if not any(output_active):
        return evaluate(equation, inputs), None
    consts, init, slices = loop.split(inputs)
    n, options = loop.num_carry, _options(equation)

    def step(carry: Any, now: Any) -> Any:
        outputs = evaluate_all(loop.body, [*consts, *carry, *now])
        return outputs[:n], (outputs[n:], carry)

    last, (stacked, carries) = lax.scan(step, init, slices, **options)

    def pullback(adjoints: Values) -> list[Any]:
        adjoints = filled(adjoints, equation.outvars, output_active)

        def step_back(state: Any, now: Any) -> Any:
            const_adjoints, carry_adjoints = state
            carry, current, stacked_adjoints = now
            _, pull = reverse(loop.body, [*consts, *carry, *current], active)
            body_adjoints = pull([*carry_adjoints, *stacked_adjoints])
            own, before, sliced = loop.split(filled(body_adjoints, opened(loop.body)[0].invars, active))
            return ([add(total, g) for total, g in zip(const_adjoints, own, strict=True)], before), sliced

        start = [zeros(atom) if flag else None for atom, flag in zip(equation.invars, active, strict=True)]
        (const_adjoints, first), sliced = lax.scan(
            step_back,
            (start[: loop.num_consts], adjoints[:n]),
            (carries, slices, adjoints[n:]),
            **options | {"reverse": not options["reverse"]},
        )
        return [*const_adjoints, *first, *sliced]

    return [*last, *stacked], pullback


def _while_parts(equation: Any, inputs: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
    """Constants of the condition, constants of the body, carry."""
    i = equation.params["cond_nconsts"]
    j = i + equation.params["body_nconsts"]
    return inputs[:i], inputs[i:j], inputs[j:]


def _while_activity(equation: Any, active: Active) -> list[bool]:
    _, consts, carry = _while_parts(equation, active)
    return Loop(equation.params["body_jaxpr"], len(consts), len(carry)).activity([*consts, *carry])[1]


def _while_jvp(equation: Any, inputs: Values, tangents: Values) -> tuple[Values, Values]:
    condition_consts, consts, init = _while_parts(equation, inputs)
    _, const_tangents, init_tangents = _while_parts(equation, tangents)
    active = _while_activity(equation, [t is not None for t in tangents])

    def go_on(state: Any) -> Any:
        return evaluate_all(equation.params["cond_jaxpr"], [*condition_consts, *state[0]])[0]

    def step(state: Any) -> Any:
        values, changes = forward(equation.params["body_jaxpr"], [*consts, *state[0]], [*const_tangents, *state[1]])
        return values, filled(changes, equation.outvars, active)

    return lax.while_loop(go_on, step, (list(init), filled(init_tangents, equation.outvars, active)))


def _while_vjp(equation: Any, inputs: Values, active: Active) -> tuple[Values, None]:
    if any(_while_activity(equation, active)):
        raise ValueError(
            "reverse mode through a `while` loop: it would have to keep the values of every iteration, and how many "
            "there will be is not known when the function is compiled. Use forward mode (jvp), lax.scan, or "
            "lax.fori_loop with bounds that are Python integers"
        )
    return evaluate(equation, inputs), None


RULES["cond"] = Rule(_cond_jvp, _cond_vjp)
RULES["scan"] = Rule(_scan_jvp, _scan_vjp)
RULES["while"] = Rule(_while_jvp, _while_vjp)
