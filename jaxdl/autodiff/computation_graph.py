"""A function's graph of computation as data, with values, tangents and adjoints (systems course, 23.1)."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from jaxdl.autodiff import graph_drawing
from jaxdl.autodiff.interpreter import evaluate, forward_environments, is_real, opened, read, reverse_environments
from jaxdl.autodiff.tracing import trace

MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
SYMBOLS = {"log": "ln", "mul": TIMES, "add": "+", "add_any": "+", "sub": MINUS, "neg": MINUS, "div": "÷", "pow": "^"}
SYMBOLS |= {"dot_general": "@", "reduce_sum": "Σ", "square": "^2", "sqrt": "√", "broadcast_in_dim": "broadcast"}
SYMBOLS |= {"convert_element_type": "convert", "select_n": "select", "logistic": "sigmoid"}


@dataclass(frozen=True)
class Node:
    """A value on its way through the function.

    Args:
      name: `v1`, `v2`, ... in the order of computation, the inputs first; `c1`, ... for arrays that f brings along.
      operation: what computes it, such as `ln` or `×`, with numbers among the operands, such as `2 ×`; of an input its
        name.
      parents: the names of its operands.
      value: of the node.
      tangent: its derivative along the direction of `with_tangents`; None before, and where nothing flows.
      adjoint: the derivative of the output by it, of `with_adjoints`; None before, and where nothing flows.
    """

    name: str
    operation: str
    parents: tuple[str, ...]
    value: Any
    tangent: Any = None
    adjoint: Any = None


@dataclass(frozen=True)
class ComputationGraph:
    """The graph of a function at given arguments: a node for each value, an edge from each operand.

    Compiled functions inside are opened; what no output depends on is left out, but for the inputs.

    Args:
      nodes: in the order of computation.
      outputs: names of the nodes that the function returns.
      program: the jaxpr, its inputs, and the variable of each node.

    >>> graph = ComputationGraph.of(lambda x, y: x * y + x, 2.0, 5.0).with_adjoints()
    >>> [(node.name, node.operation, float(node.value), float(node.adjoint)) for node in graph.nodes]
    [('v1', 'x', 2.0, 6.0), ('v2', 'y', 5.0, 2.0), ('v3', '×', 10.0, 1.0), ('v4', '+', 12.0, 1.0)]
    """

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    program: tuple[Any, list[Any], tuple[Any, ...]]

    @classmethod
    def of(cls, f: Callable[..., Any], *args: Any) -> "ComputationGraph":
        """Traces `f(*args)`; the arguments are pytrees of arrays."""
        args = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), args)  # no weakly typed numbers to convert
        traced = trace(f, args)
        inputs = traced.primals
        jaxpr = jax.make_jaxpr(lambda *leaves: _inlined(traced.jaxpr, leaves))(*inputs)
        value, _ = forward_environments(jaxpr, inputs, [None] * len(inputs))
        return _build(jaxpr, inputs, value, _argument_names(f, args))

    def with_tangents(self, *tangents: Any) -> "ComputationGraph":
        """The same graph with forward mode's tangents.

        Args:
          tangents: of each leaf of the arguments: a number for all its elements, an array of its shape, or None for no
            change, as of integers.

        Raises:
          ValueError: if they are not as many as the leaves, or one does not fit its leaf.
        """
        jaxpr, inputs, variables = self.program
        if len(tangents) != len(inputs):
            raise ValueError(f"tangents: expected one for each of {len(inputs)} inputs, got {len(tangents)}")
        changes = [_like(x, t, "tangents") for t, x in zip(tangents, inputs, strict=True)]
        _, tangent = forward_environments(jaxpr, inputs, changes)
        return self._with("tangent", [tangent.get(variable) for variable in variables])

    def with_adjoints(self, *adjoints: Any) -> "ComputationGraph":
        """The same graph with reverse mode's adjoints.

        Args:
          adjoints: of each output, in the same way; by default 1 of each.

        Raises:
          ValueError: if they are not as many as the outputs, or one does not fit its output.
        """
        jaxpr, inputs, variables = self.program
        outvars = opened(jaxpr)[0].outvars
        adjoints = adjoints or tuple(1 if is_real(var) else None for var in outvars)
        if len(adjoints) != len(outvars):
            raise ValueError(f"adjoints: expected one for each of {len(outvars)} outputs, got {len(adjoints)}")
        active = [jnp.issubdtype(x.dtype, jnp.inexact) for x in inputs]
        _, pull_back = reverse_environments(jaxpr, inputs, active)
        adjoint = pull_back([_like(var.aval, g, "adjoints") for var, g in zip(outvars, adjoints, strict=True)])
        return self._with("adjoint", [adjoint.get(variable) for variable in variables])

    def to_dot(self) -> str:
        """The graph in the language of Graphviz: `dot -Tsvg`."""
        return graph_drawing.to_dot(self.nodes, self.outputs)

    def draw(self, path: Any = None, *, title: str = "", axes: Any = None) -> Any:
        """Draws the graph as the lecture does, from left to right, with what is known of each node; needs matplotlib.

        Args:
          path: where to save the picture; its suffix chooses the format.
          title: above.
          axes: matplotlib's, to draw a panel of a larger figure; by default a figure of its own.

        Returns:
          The matplotlib figure.

        Raises:
          ImportError: without matplotlib.
        """
        return graph_drawing.draw(self.nodes, self.outputs, path, title, axes)

    def _with(self, field: str, changes: Sequence[Any]) -> "ComputationGraph":
        nodes = (replace(node, **{field: change}) for node, change in zip(self.nodes, changes, strict=True))
        return replace(self, nodes=tuple(nodes))


def _like(x: Any, change: Any, name: str) -> Any:
    """The tangent or adjoint of a value, in its dtype and shape."""
    if change is None:
        return None
    if not jnp.issubdtype(x.dtype, jnp.floating) or jnp.shape(change) not in ((), x.shape):
        raise ValueError(f"{name}: expected a number or {x.dtype}{list(x.shape)}, got {graph_drawing.short(change)}")
    return jnp.full(x.shape, change, x.dtype)


def _inlined(jaxpr: Any, leaves: Sequence[Any]) -> list[Any]:
    """Evaluates a jaxpr as if nothing in it were compiled."""
    jaxpr, consts = opened(jaxpr)
    value = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *leaves), strict=True))
    for equation in jaxpr.eqns:
        inputs = [read(value, atom) for atom in equation.invars]
        inside = equation.params.get("jaxpr") if equation.primitive.name in ("jit", "closed_call") else None
        outputs = evaluate(equation, inputs) if inside is None else _inlined(inside, inputs)
        value.update(zip(equation.outvars, outputs, strict=True))
    return [read(value, atom) for atom in jaxpr.outvars]


def _argument_names(f: Callable[..., Any], args: Sequence[Any]) -> list[str]:
    """Of each leaf: the parameter's name, and the path in it."""
    try:
        names = list(inspect.signature(f).parameters)
    except (TypeError, ValueError):
        names = []
    names = [names[i] if i < len(names) else f"x{i + 1}" for i in range(len(args))]
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tuple(args))]
    return [
        ".".join([names[path[0].idx], *(jax.tree_util.keystr((key,), simple=True) for key in path[1:])])
        for path in paths
    ]


def _build(jaxpr: Any, inputs: list[Any], value: dict[Any, Any], names: list[str]) -> ComputationGraph:
    open_jaxpr, _ = opened(jaxpr)
    needed = {atom for atom in open_jaxpr.outvars if not isinstance(atom, Literal)}
    equations = []
    for equation in reversed(open_jaxpr.eqns):
        if any(var in needed for var in equation.outvars):
            needed.update(atom for atom in equation.invars if not isinstance(atom, Literal))
            equations.insert(0, equation)

    nodes: list[Node] = []
    variables: list[Any] = []
    name_of: dict[Any, str] = {}

    def add(letter: str, operation: str, parents: Sequence[str], variable: Any) -> None:
        name_of[variable] = f"{letter}{1 + sum(node.name.startswith(letter) for node in nodes)}"
        nodes.append(Node(name_of[variable], operation, tuple(parents), value[variable]))
        variables.append(variable)

    for var, name in zip(open_jaxpr.invars, names, strict=True):
        add("v", name, (), var)
    for var in open_jaxpr.constvars:
        if var in needed:
            add("c", "array", (), var)
    for equation in equations:
        operation = _operation(equation)
        parents = [name_of[atom] for atom in equation.invars if not isinstance(atom, Literal)]
        for i, var in enumerate(equation.outvars):
            if var in needed:
                add("v", f"{operation}[{i}]" if len(equation.outvars) > 1 else operation, parents, var)
    outputs = tuple(name_of[atom] for atom in open_jaxpr.outvars if not isinstance(atom, Literal))
    return ComputationGraph(tuple(nodes), outputs, (jaxpr, inputs, tuple(variables)))


def _operation(equation: Any) -> str:
    """The symbol, with numbers where they stand among the operands."""
    name = equation.primitive.name
    symbol = f"^{equation.params['y']}" if name == "integer_pow" else SYMBOLS.get(name, name)
    numbers = [graph_drawing.short(atom.val) if isinstance(atom, Literal) else "" for atom in equation.invars]
    return " ".join(filter(None, [numbers[0], symbol, *numbers[1:]] if len(numbers) > 1 else [symbol, *numbers]))
