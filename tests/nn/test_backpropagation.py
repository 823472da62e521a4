"""Hand-written gradients: an example on paper, finite differences, and `jax.grad`."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from jaxdl.nn import (
    RELU,
    SIGMOID,
    TANH,
    Intermediates,
    cross_entropy_gradient,
    mlp_backward,
    mlp_forward,
    squared_loss_gradient,
)

ACTIVATIONS = {"relu": RELU, "sigmoid": SIGMOID, "tanh": TANH}


def make_params(widths, dtype=jnp.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {"kernel": jnp.asarray(rng.normal(size=shape), dtype), "bias": jnp.asarray(rng.normal(size=shape[1]), dtype)}
        for shape in itertools.pairwise(widths)
    ]


def assert_close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def test_an_example_by_hand():
    """Two inputs, two hidden units, of which ReLU closes one, one output; loss (o - y)^2 / 2, lambda 0.1.

    U_1 = [1 * 1 + 2 * 0.5, -1 + 2 - 2] = [2, -1], Z_2 = [2, 0], o = 7, dJ/do = 2.
    """
    params = [
        {"kernel": jnp.array([[1.0, -1.0], [0.5, 1.0]]), "bias": jnp.array([0.0, -2.0])},
        {"kernel": jnp.array([[3.0], [4.0]]), "bias": jnp.array([1.0])},
    ]
    outputs, intermediates = mlp_forward(params, jnp.array([[1.0, 2.0]]))
    assert outputs == 7
    assert_close(intermediates.preactivations[0], np.array([[2.0, -1.0]]))
    assert_close(intermediates.inputs[1], np.array([[2.0, 0.0]]))
    output_gradient = squared_loss_gradient(outputs, jnp.array([[5.0]]))
    gradients = mlp_backward(params, intermediates, output_gradient, weight_penalty=0.1)
    expected = [
        {"kernel": np.array([[6.1, -0.1], [12.05, 0.1]]), "bias": np.array([6.0, 0.0])},
        {"kernel": np.array([[4.3], [0.4]]), "bias": np.array([2.0])},
    ]
    assert_close(gradients, expected, rtol=1e-6)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_it_is_the_gradient_of_jax(x64, name, depth):
    activation, widths = ACTIVATIONS[name], [*[5, 7, 4, 6][:depth], 3]
    params, rng = make_params(widths), np.random.default_rng(1)
    x, labels = jnp.asarray(rng.normal(size=(8, 5))), jnp.asarray(rng.integers(0, 3, 8))
    targets = jnp.asarray(rng.normal(size=(8, 3)))
    losses = {
        "cross-entropy": (lambda o: nn.cross_entropy(o, labels).sum(), lambda o: cross_entropy_gradient(o, labels)),
        "squared": (lambda o: ((o - targets) ** 2).sum() / 2, lambda o: squared_loss_gradient(o, targets)),
    }
    for loss, output_gradient in losses.values():

        def total(params, loss=loss):
            penalty = 0.3 / 2 * sum((layer["kernel"] ** 2).sum() for layer in params)
            return loss(mlp_forward(params, x, activation)[0]) + penalty

        def by_hand(params, output_gradient=output_gradient):
            outputs, intermediates = mlp_forward(params, x, activation)
            return mlp_backward(params, intermediates, output_gradient(outputs), activation, 0.3)

        assert_close(jax.jit(by_hand)(params), jax.jit(jax.grad(total))(params), rtol=1e-12, atol=1e-12)


def test_it_agrees_with_finite_differences(x64):
    """In NumPy, along a random direction; a central difference of 1e-5 is good to about 1e-9."""
    params, direction = make_params([4, 6, 3]), make_params([4, 6, 3], seed=5)
    x, labels = np.random.default_rng(2).normal(size=(5, 4)), np.array([0, 1, 2, 2, 1])

    def loss(step):
        first, last = jax.tree.map(lambda p, d: np.asarray(p + step * d), params, direction)
        logits = np.tanh(x @ first["kernel"] + first["bias"]) @ last["kernel"] + last["bias"]
        return (np.log(np.exp(logits).sum(1)) - logits[np.arange(5), labels]).sum()

    outputs, intermediates = mlp_forward(params, jnp.asarray(x), TANH)
    gradients = mlp_backward(params, intermediates, cross_entropy_gradient(outputs, jnp.asarray(labels)), TANH)
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: float((g * d).sum()), gradients, direction)))
    assert slope == pytest.approx((loss(1e-5) - loss(-1e-5)) / 2e-5, rel=1e-7)


def test_one_layer_is_softmax_regression(x64):
    """X^T (S - I_y) / m."""
    params, rng = make_params([4, 3]), np.random.default_rng(3)
    x, labels = rng.normal(size=(6, 4)), rng.integers(0, 3, 6)
    outputs, intermediates = mlp_forward(params, jnp.asarray(x))
    (gradient,) = mlp_backward(params, intermediates, cross_entropy_gradient(outputs, jnp.asarray(labels)) / 6)
    odds = np.exp(x @ np.asarray(params[0]["kernel"]) + np.asarray(params[0]["bias"]))
    softmax = odds / odds.sum(1, keepdims=True)
    np.testing.assert_allclose(gradient["kernel"], x.T @ (softmax - np.eye(3)[labels]) / 6, rtol=1e-12)


def test_examples_add_up_and_none_give_zero(x64):
    params, x = make_params([4, 6, 3]), jnp.asarray(np.random.default_rng(4).normal(size=(7, 4)))

    def gradients(x):
        outputs, intermediates = mlp_forward(params, x)
        return mlp_backward(params, intermediates, squared_loss_gradient(outputs, jnp.zeros_like(outputs)))

    parts = [gradients(x[:1]), gradients(x[1:])]
    assert_close(gradients(x), jax.tree.map(jnp.add, *parts), rtol=1e-12, atol=1e-12)
    assert_close(gradients(x[:0]), jax.tree.map(jnp.zeros_like, params))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_derivatives_of_the_activations(x64, name):
    activation = ACTIVATIONS[name]
    u = jnp.concatenate([jnp.arange(-8, 8, 0.1), jnp.array([-600.0, -30.0, 0.0, 30.0])])
    expected = jax.vmap(jax.grad(lambda u: activation.function(u)))(u)
    np.testing.assert_allclose(activation.derivative(u), expected, rtol=1e-12, atol=1e-15)
    at_zero = {"relu": 0, "sigmoid": 0.25, "tanh": 1}[name]
    assert activation.derivative(jnp.zeros(())) == at_zero
    assert activation.derivative(u).max() == (1 if name == "relu" else at_zero)


def test_the_forward_pass_is_that_of_the_layer_and_keeps_the_dtype():
    params = make_params([4, 6, 3], jnp.bfloat16)
    x = jnp.ones((2, 4), jnp.bfloat16)
    outputs, intermediates = mlp_forward(params, x, TANH)
    model = nn.MLP([6, 3], activation=jnp.tanh, dtype=jnp.bfloat16)
    variables = {"params": {f"Dense_{i}": layer for i, layer in enumerate(params)}}
    np.testing.assert_array_equal(outputs, model.apply(variables, x))
    gradients = mlp_backward(params, intermediates, outputs, TANH, weight_penalty=jnp.float32(0.1))
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("bfloat16")}


def test_the_gradient_of_cross_entropy():
    logits = jnp.log(jnp.array([[0.1, 0.3, 0.6], [0.3, 0.2, 0.5], [0.3, 0.2, 0.5]]))
    gradient = cross_entropy_gradient(logits, jnp.array([0, 2, 3]))
    np.testing.assert_allclose(gradient[:2], [[-0.9, 0.3, 0.6], [0.3, 0.2, -0.5]], atol=1e-6)
    assert np.isnan(gradient[2]).all()  # as the loss is


PARAMS = make_params([4, 6, 3], jnp.float32)
KERNEL, BIAS = PARAMS[1].values()


@pytest.mark.parametrize(
    ("params", "x", "message"),
    [
        ([], jnp.ones((2, 4)), "params: expected at least one layer, got none"),
        (PARAMS, jnp.ones(4), r"x: expected floating \[batch, in\], got float32\[4\]"),
        (PARAMS, jnp.ones((2, 4), int), r"x: expected floating \[batch, in\], got int32\[2, 4\]"),
        (PARAMS, jnp.ones((2, 5)), r"params\[0\]\['kernel'\]: expected \[5, out\], got \[4, 6\]"),
        (PARAMS[::-1], jnp.ones((2, 6)), r"params\[1\]\['kernel'\]: expected \[3, out\], got \[4, 6\]"),
        ([{"kernel": KERNEL, "bias": BIAS[:1]}], jnp.ones((2, 6)), r"params\[0\]\['bias'\]: expected \[3\], got \[1\]"),
        ([{"kernel": KERNEL}], jnp.ones((2, 6)), r"params\[0\]: expected 'kernel' and 'bias', got \['kernel'\]"),
        (PARAMS, jnp.ones((2, 4), jnp.bfloat16), "expected the dtype of x, bfloat16, got float32"),
    ],
)
def test_what_does_not_fit_is_named(params, x, message):
    with pytest.raises(ValueError, match=message):
        mlp_forward(params, x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o, i: mlp_backward(PARAMS, i, o[:1]), r"output_gradient: expected .*\[2, 3\], got float32\[1, 3\]"),
        (lambda o, i: mlp_backward(PARAMS[:1], i, o), r"intermediates: .* layer of 1 .*, got \[2, 2\]"),
        (lambda o, i: mlp_backward([], Intermediates([], []), o), r"intermediates: .* layer of 0 \(1 or more\)"),
        (lambda o, i: cross_entropy_gradient(o, o), r"labels: expected integers \[2\], got float32\[2, 3\]"),
        (lambda o, i: cross_entropy_gradient(o, jnp.zeros(1, int)), r"labels: expected integers \[2\], got int32\[1\]"),
        (lambda o, i: cross_entropy_gradient(jnp.ones((2, 3), int), jnp.zeros(2, int)), "logits: expected floating"),
        (lambda o, i: squared_loss_gradient(o, o[:, :1]), r"targets: expected .*\[2, 3\], got float32\[2, 1\]"),
        (lambda o, i: squared_loss_gradient(jnp.ones(3, int), jnp.ones(3, int)), "outputs: expected a floating dtype"),
    ],
)
def test_wrong_gradients_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(*mlp_forward(PARAMS, jnp.ones((2, 4))))
