"""The graph of the worked example as data, in DOT and as a picture; compiled functions and constants in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.autodiff import ComputationGraph, grad
from jaxdl.autodiff.graph_drawing import places, short


def example(x1, x2):
    v3, v4, v5 = jnp.log(x1), x1 * x2, jnp.sin(x2)
    return v3 + v4 - v5


def test_nodes_edges_and_values():
    graph = ComputationGraph.of(example, 2.0, 5.0)
    minus, times = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
    assert [node.operation for node in graph.nodes] == ["x1", "x2", "ln", times, "sin", "+", minus]
    parents = {node.name: node.parents for node in graph.nodes}
    assert parents["v4"] == ("v1", "v2")
    assert parents["v7"] == ("v6", "v5")
    assert graph.outputs == ("v7",)
    np.testing.assert_allclose([node.value for node in graph.nodes[2:]], [0.693, 10, -0.959, 10.693, 11.652], atol=1e-3)
    assert all(node.tangent is None and node.adjoint is None for node in graph.nodes)


def test_reverse_mode_extends_the_graph():
    """The gradient's graph is a graph again, computes the adjoints of the inputs, and has tangents of its own."""
    graph = ComputationGraph.of(grad(example, (0, 1)), 2.0, 5.0)
    values = {node.name: float(node.value) for node in graph.nodes}
    assert [values[name] for name in graph.outputs] == pytest.approx([5.5, 2 - np.cos(5)], rel=1e-6)
    assert {"cos", "1 ÷"} <= {node.operation for node in graph.nodes}
    second = {node.name: node.tangent for node in graph.with_tangents(1, None).nodes}
    assert [float(second[name]) for name in graph.outputs] == [-0.25, 1]  # by x1, again: -1 / x1^2; by x2: 1


def test_compiled_functions_are_opened_constants_stand_in_the_operation_and_the_unused_is_left_out():
    def f(params, x):
        unused = jnp.exp(x)
        del unused
        return jax.jit(lambda x: 2 * x**3)(x @ params["w"]), jnp.arange(3.0)[:1] * np.ones(1, np.float32)

    graph = ComputationGraph.of(f, {"w": jnp.ones((2, 2))}, jnp.ones(2)).with_adjoints(jnp.ones(2), 1)
    operations = [node.operation for node in graph.nodes]
    assert operations[:2] == ["params.w", "x"]
    assert {"@", "^3", "2 \N{MULTIPLICATION SIGN}"} <= set(operations)
    assert not {"exp", "jit"} & set(operations)
    assert graph.nodes[0].adjoint.shape == (2, 2)


def test_several_outputs_of_one_operation():
    graph = ComputationGraph.of(lambda x: jax.lax.top_k(x, 2), jnp.array([1.0, 3.0, 2.0])).with_tangents(jnp.arange(3))
    assert [node.operation for node in graph.nodes[1:]] == ["top_k[0]", "top_k[1]"]
    np.testing.assert_array_equal(graph.nodes[1].tangent, [1, 2])
    assert graph.nodes[2].tangent is None


def test_dot_text():
    text = ComputationGraph.of(example, 2.0, 5.0).with_tangents(1, 0).with_adjoints().to_dot()
    assert text.startswith("digraph {")
    assert '  v3 [label="ln\\nv3 = 0.6931\\ntangent 0.5\\nadjoint 1"];' in text
    assert "shape=doublecircle" in text.split("v7 [")[1]
    assert "  v1 -> v3;" in text
    assert text.count("->") == 8


def test_nodes_of_a_column_keep_apart():
    graph = ComputationGraph.of(lambda x: jnp.sin(x) + jnp.cos(x) * jnp.exp(x) - x, 1.0)
    spots = list(places(graph.nodes).values())
    assert len({(round(x, 3), round(y, 3)) for x, y in spots}) == len(graph.nodes)
    for x, y in spots:
        assert all(abs(y - other) > 0.99 for at, other in spots if at == x and other != y)


def test_the_picture(tmp_path):
    figure = ComputationGraph.of(example, 2.0, 5.0).with_adjoints().draw(tmp_path / "graph.png", title="the example")
    assert (tmp_path / "graph.png").stat().st_size > 10_000
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "ln" in texts
    assert r"$\bar{v}_{1}$ = 5.5" in texts
    assert figure.axes[0].get_title() == "the example"


def test_numbers_are_short():
    assert [short(x) for x in (1 / 3, np.array([1.0, -2.5]), np.ones(3), True, np.ones((1, 2), np.float32))] == [
        "0.3333",
        "[1, -2.5]",
        "float64[3]",
        "1",
        "float32[1, 2]",
    ]


def test_errors():
    graph = ComputationGraph.of(example, 2.0, 5.0)
    with pytest.raises(ValueError, match="tangents: expected one for each of 2 inputs, got 1"):
        graph.with_tangents(1)
    with pytest.raises(ValueError, match=r"tangents: expected a number or float32\[\], got float64\[3\]"):
        graph.with_tangents(1, np.ones(3))
    with pytest.raises(ValueError, match=r"tangents: expected a number or int32\[\], got 1"):
        ComputationGraph.of(lambda x: x * 2, 3).with_tangents(1)
    assert ComputationGraph.of(lambda x: x * 2, 3).with_adjoints().nodes[0].adjoint is None
    with pytest.raises(ValueError, match="adjoints: expected one for each of 1 outputs, got 2"):
        graph.with_adjoints(1, 1)
