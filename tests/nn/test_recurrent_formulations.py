"""Both formulations are the same function with the same derivatives, and one scan over time whatever its length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from jax.test_util import check_grads

from jaxdl.nn.recurrent_cells import CellWeights
from jaxdl.nn.recurrent_formulations import (
    FORMULATIONS,
    GRU_CELL,
    GRU_RESET_BEFORE_CELL,
    LSTM_CELL,
    RNN_CELLS,
    recurrence,
)

CELLS = {"tanh": RNN_CELLS["tanh"], "relu": RNN_CELLS["relu"], "gru": GRU_CELL, "lstm": LSTM_CELL}
INPUTS, HIDDEN, BATCH = 3, 4, 2


def problem(cell, time=5, masked=False):
    """Inputs, which are valid, state, weights."""
    wide = cell.gates * HIDDEN
    shapes = [(time, BATCH, INPUTS), *[(BATCH, HIDDEN)] * cell.states]
    shapes += [(INPUTS, wide), (HIDDEN, wide), (wide,), (wide,)]
    keys = jax.random.split(jax.random.key(0), len(shapes))
    inputs, *rest = (jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))
    valid = (jnp.arange(time)[:, None] < jnp.array([2, time])[None])[..., None] if masked else None
    return inputs, valid, tuple(rest[: cell.states]), CellWeights(*rest[cell.states :])


def function(cell, valid, implementation, reverse=False):
    def run(inputs, state, weights):
        return recurrence(cell, inputs, valid, state, weights, reverse=reverse, implementation=implementation)

    return run


def loss(fn):
    def total(*arguments):
        leaves = jax.tree.leaves(fn(*arguments))
        return sum((jnp.sin(x) * jnp.cos(jnp.arange(x.size)).reshape(x.shape)).sum() for x in leaves)

    return total


def assert_close(got, want, tolerance=1e-12):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), got, want)


@pytest.mark.parametrize("masked", [False, True], ids=["full", "masked"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", CELLS)
def test_values_and_all_derivatives_agree(x64, name, reverse, masked):
    """Reverse mode, forward mode, and forward over reverse."""
    cell = CELLS[name]
    inputs, valid, state, weights = problem(cell, masked=masked)
    arguments = inputs, state, weights
    tangents = jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size)).reshape(x.shape), arguments)

    def everything(implementation):
        fn = function(cell, valid, implementation, reverse)
        gradient = jax.grad(loss(fn), (0, 1, 2))
        return jax.jvp(fn, arguments, tangents), jax.jvp(gradient, arguments, tangents)

    assert_close(*(jax.jit(everything, static_argnums=0)(implementation) for implementation in FORMULATIONS))


@pytest.mark.parametrize("implementation", FORMULATIONS)
def test_gradients_are_finite_differences(x64, implementation):
    inputs, valid, state, weights = problem(LSTM_CELL, masked=True)
    total = jax.jit(loss(function(LSTM_CELL, valid, implementation)))
    check_grads(total, (inputs, state, weights), order=1, modes=("fwd", "rev"), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("differentiated", [(0,), (1,), (2,), (0, 2)], ids=str)
def test_some_arguments_may_be_constant(x64, differentiated):
    """What is not differentiated has a symbolic zero for tangent, and costs no product."""
    inputs, valid, state, weights = problem(GRU_CELL)
    gradients = [
        jax.grad(loss(function(GRU_CELL, valid, implementation)), differentiated)(inputs, state, weights)
        for implementation in FORMULATIONS
    ]
    assert_close(*gradients)


def count(jaxpr, name=None):
    """Equations of a jaxpr and of all inside it, or those of one primitive."""
    total = 0
    for equation in jaxpr.eqns:
        total += name is None or equation.primitive.name == name
        for inner in jaxprs_in_params(equation.params):
            total += count(inner, name)
    return total


@pytest.mark.parametrize("implementation", FORMULATIONS)
@pytest.mark.parametrize("name", CELLS)
def test_the_program_does_not_grow_with_time(name, implementation):
    def jaxprs(time):
        inputs, valid, state, weights = problem(CELLS[name], time)
        fn = function(CELLS[name], valid, implementation)
        return (jax.make_jaxpr(f)(inputs, state, weights).jaxpr for f in (fn, jax.grad(loss(fn), (0, 1, 2))))

    for short, long, scans in zip(jaxprs(8), jaxprs(64), (1, 2), strict=True):
        assert count(short) == count(long)
        assert count(long, "scan") == scans  # forwards, and back


def test_the_weight_gradient_is_one_product_over_time():
    """No product in the reverse scan is as large as the kernel, and one outside of it contracts time and batch."""
    inputs, valid, state, weights = problem(LSTM_CELL)
    gradient = jax.grad(loss(function(LSTM_CELL, valid, "factors")), 2)
    scans = [e for e in jax.make_jaxpr(gradient)(inputs, state, weights).eqns if e.primitive.name == "scan"]
    for scan in scans:
        products = [e for e in scan.params["jaxpr"].eqns if e.primitive.name == "dot_general"]
        assert len(products) == 1
        assert products[0].outvars[0].aval.shape != weights.recurrent_kernel.shape


@pytest.mark.parametrize("implementation", FORMULATIONS)
@pytest.mark.parametrize("name", CELLS)
def test_transformations(x64, name, implementation):
    cell = CELLS[name]
    inputs, valid, state, weights = problem(cell, masked=True)
    fn = function(cell, valid, implementation)
    gradient = jax.grad(loss(fn), (0, 1, 2))
    want = gradient(inputs, state, weights)
    assert_close(jax.grad(jax.checkpoint(loss(fn)), (0, 1, 2))(inputs, state, weights), want)
    twice = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), weights)
    got = jax.vmap(gradient, (None, None, 0))(inputs, state, twice)
    assert_close(jax.tree.map(lambda x: x[0], got), want)
    doubled = jax.tree.map(lambda x: 2 * x, weights)
    assert_close(jax.tree.map(lambda x: x[1], got), gradient(inputs, state, doubled))


def test_no_steps_and_no_examples():
    for implementation in FORMULATIONS:
        for time, batch in ((0, BATCH), (3, 0)):
            inputs, _, state, weights = problem(LSTM_CELL, time)
            inputs, state = inputs[:, :batch], tuple(part[:batch] for part in state)
            fn = function(LSTM_CELL, None, implementation)
            hidden, last = fn(inputs, state, weights)
            assert hidden.shape == (time, batch, HIDDEN)
            if time == 0:
                assert_close(last, state)
            gradient = jax.grad(loss(fn), 2)(inputs, state, weights)
            assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))


def test_the_books_gru_has_no_factors():
    inputs, valid, state, weights = problem(GRU_RESET_BEFORE_CELL)
    with pytest.raises(ValueError, match="'factors' cannot do a GRU with reset_after=False; expected 'xla'"):
        function(GRU_RESET_BEFORE_CELL, valid, "factors")(inputs, state, weights)
    assert_close(
        function(GRU_RESET_BEFORE_CELL, valid, None)(inputs, state, weights),
        function(GRU_RESET_BEFORE_CELL, valid, "xla")(inputs, state, weights),
    )
