"""How to say what a primitive does: the derivative by each input is a linear map, and forward and reverse follow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.autodiff.interpreter import RULES, Pullback, Rule, Values, evaluate, transpose

Array = jax.Array
LocalRule = Callable[..., "LinearMap | Sequence[LinearMap | None]"]


@dataclass(frozen=True)
class LinearMap:
    """The derivative of an equation's output by one of its inputs, at the values at hand.

    Args:
      push: from a tangent of the input to the tangent of the output.
      pull: from an adjoint of the output to the adjoint of the input, the transposed of `push`.

    One of the two is enough: the other is then its transposed, found by reverse mode on it. Of a primitive with several
    outputs, `push` returns a list and `pull` takes one, with None for outputs that are not floating.

    Raises:
      ValueError: if both are missing.
    """

    push: Callable[[Any], Any] | None = None
    pull: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if self.push is None and self.pull is None:
            raise ValueError("LinearMap: expected push, pull or both, got neither")


def register_rule(*names: str) -> Callable[[LocalRule], LocalRule]:
    """Registers the derivative of the primitives so named, for forward and reverse mode, in place of any earlier one.

    The rule is called `rule(*inputs, output=output, **params)`, with the values of one equation and the parameters of
    its primitive (`output` is a list if the primitive has several), and returns a `LinearMap` for each input, or None
    where the derivative is zero. For one input the map alone will do. Name the parameters one by one: a version of JAX
    that adds one, whose meaning the rule does not know, is then an error and not a wrong derivative.

        @register_rule("bessel_i0e")
        def bessel_i0e(x, *, output):
            return LinearMap(push=lambda tangent: tangent * (jax.lax.bessel_i1e(x) - jnp.sign(x) * output))

    Args:
      names: of primitives, as they stand in a jaxpr.
    """

    def register(rule: LocalRule) -> LocalRule:
        for name in names:
            RULES[name] = both_modes(rule)
        return rule

    return register


def both_modes(rule: LocalRule) -> Rule:
    """Forward mode adds what each input pushes; reverse mode pulls to each input."""

    def linearize(equation: Any, inputs: Values) -> tuple[list[Any], list[Any]]:
        outputs, several = evaluate(equation, inputs), equation.primitive.multiple_results
        result = rule(*inputs, output=outputs if several else outputs[0], **equation.params)
        maps = [result] if result is None or isinstance(result, LinearMap) else result
        if len(maps) != len(inputs):
            name = equation.primitive.name
            raise ValueError(f"rule of {name!r}: expected {len(inputs)} maps, one for each input, got {len(maps)}")
        return outputs, [
            None if linear is None else completed(linear, x, outputs, several)
            for linear, x in zip(maps, inputs, strict=True)
        ]

    def jvp(equation: Any, inputs: Values, tangents: Values) -> tuple[Values, Values]:
        outputs, maps = linearize(equation, inputs)
        total: list[Any] = [None] * len(outputs)
        for linear, tangent in zip(maps, tangents, strict=True):
            if linear is not None and tangent is not None:
                total = [add(old, new) for old, new in zip(total, linear.push(tangent), strict=True)]
        return outputs, total

    def vjp(equation: Any, inputs: Values, active: Sequence[bool]) -> tuple[Values, Pullback | None]:
        outputs, maps = linearize(equation, inputs)
        wanted = [linear if is_active else None for linear, is_active in zip(maps, active, strict=True)]
        if not any(wanted):
            return outputs, None
        return outputs, lambda adjoints: [linear and linear.pull(adjoints) for linear in wanted]

    return Rule(jvp, vjp)


def completed(linear: LinearMap, x: Array, outputs: Sequence[Array], several: bool) -> LinearMap:
    """With both directions, between a change of x and a list of changes of the outputs."""
    real = [i for i, y in enumerate(outputs) if jnp.issubdtype(y.dtype, jnp.inexact)]

    def own_push(tangent: Any) -> list[Any]:
        assert linear.push is not None
        pushed = linear.push(tangent)
        return list(pushed) if several else [pushed]

    def own_pull(adjoints: Sequence[Any]) -> Any:
        assert linear.pull is not None
        return linear.pull(adjoints if several else adjoints[0])

    def push(tangent: Any) -> list[Any]:
        def pull_real(*adjoints: Any) -> Any:
            given = dict(zip(real, adjoints, strict=True))
            return own_pull([given.get(i) for i in range(len(outputs))])

        pushed = dict(zip(real, transpose(pull_real, [outputs[i] for i in real])([tangent]), strict=True))
        return [pushed.get(i) for i in range(len(outputs))]

    def pull(adjoints: Sequence[Any]) -> Any:
        def push_real(tangent: Any) -> list[Any]:
            pushed = own_push(tangent)
            return [jnp.zeros_like(outputs[i]) if pushed[i] is None else pushed[i] for i in real]

        return transpose(push_real, [x])([adjoints[i] for i in real])[0]

    return LinearMap(own_push if linear.push else push, own_pull if linear.pull else pull)


def add(left: Any, right: Any) -> Any:
    """The sum of two tangents or adjoints, where None is zero."""
    return right if left is None else left if right is None else left + right


def fit(tangent: Array, output: Array) -> Array:
    """Pushes through an elementwise primitive, which repeats scalars and axes of length 1."""
    return jnp.broadcast_to(tangent, output.shape).astype(output.dtype)


def unfit(adjoint: Array, x: Array) -> Array:
    """The transposed of `fit`: what was repeated gets the sum."""
    if x.ndim == 0 < adjoint.ndim:
        adjoint = adjoint.sum()
    elif x.shape != adjoint.shape:
        repeated = [axis for axis in range(x.ndim) if x.shape[axis] != adjoint.shape[axis]]
        adjoint = adjoint.sum(repeated, keepdims=True)
    return adjoint.astype(x.dtype)


def register_elementwise(name: str, *partials: Callable[..., Any]) -> None:
    """Registers a primitive that computes each element of its output from the same element of each input.

    Args:
      name: of the primitive.
      partials: for each input, the derivative element by element, a function of the inputs and the output.
    """

    @register_rule(name)
    def rule(*inputs: Array, output: Array, accuracy: Any = None, out_dtype: Any = None) -> list[LinearMap]:
        def diagonal(x: Array, partial: Callable[..., Any]) -> LinearMap:
            def derivative() -> Any:  # computed when it is asked for
                return partial(*inputs, output)

            return LinearMap(
                push=lambda tangent: fit(tangent * derivative(), output),
                pull=lambda adjoint: unfit(adjoint * derivative(), x),
            )

        return [diagonal(x, partial) for x, partial in zip(inputs, partials, strict=True)]


def register_linear(name: str, pull: Callable[..., Any]) -> None:
    """Registers a primitive that is linear in its only input: it pushes tangents itself.

    Args:
      name: of the primitive.
      pull: `(adjoint, x, **params) -> adjoint of x`; of several outputs it takes a list of adjoints.
    """

    def jvp(equation: Any, inputs: Values, tangents: Values) -> tuple[Values, Values]:
        return evaluate(equation, inputs), evaluate(equation, tangents)

    def vjp(equation: Any, inputs: Values, active: Sequence[bool]) -> tuple[Values, Pullback]:
        several = equation.primitive.multiple_results
        outputs = evaluate(equation, inputs)
        return outputs, lambda adjoints: [pull(adjoints if several else adjoints[0], inputs[0], **equation.params)]

    RULES[name] = Rule(jvp, vjp)


def register_constant(*names: str) -> None:
    """Registers primitives whose derivative is zero wherever it exists."""
    register_rule(*names)(lambda *inputs, output, **params: [None] * len(inputs))
