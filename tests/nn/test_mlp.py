"""The multilayer perceptron."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn


def test_the_books_mlp_has_203530_parameters():
    variables = jax.eval_shape(nn.MLP([256, 10]).init, jax.random.key(0), jnp.zeros((1, 28, 28)))
    assert nn.parameter_count(variables) == 203_530


def test_it_is_the_formula(x64):
    model = nn.MLP([7, 5, 3], activation=jnp.tanh)
    x = jax.random.normal(jax.random.key(1), (4, 2, 3))
    variables = jax.tree.map(lambda p: p.astype(jnp.float64), model.init(jax.random.key(0), x))
    h = np.asarray(x).reshape(4, 6)
    for i in range(3):
        layer = variables["params"][f"Dense_{i}"]
        h = h @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
        h = np.tanh(h) if i < 2 else h
    np.testing.assert_allclose(model.apply(variables, x), h, rtol=1e-12)


def test_dropout_only_when_training():
    model = nn.MLP([50, 2], dropout_rate=0.5)
    x = jnp.ones((3, 4))
    variables = model.init(jax.random.key(0), x)
    rngs = {"dropout": jax.random.key(1)}
    assert not jnp.array_equal(model.apply(variables, x, train=True, rngs=rngs), model.apply(variables, x))
    np.testing.assert_array_equal(model.apply(variables, x), nn.MLP([50, 2]).apply(variables, x))


@pytest.mark.parametrize("batch", [0, 1])
def test_edges_and_dtype(batch):
    model = nn.MLP([4, 2], dtype=jnp.bfloat16)
    out, variables = model.init_with_output(jax.random.key(0), jnp.ones((batch, 3)))
    assert (out.shape, out.dtype) == ((batch, 2), jnp.bfloat16)
    assert variables["params"]["Dense_0"]["kernel"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"features": []}, "features: expected one or more widths"),
        ({"features": [4, 0]}, r"features: .*got \[4, 0\]"),
        ({"features": [4], "dropout_rate": 1.5}, r"dropout_rate: expected a number in \[0, 1\], got 1.5"),
    ],
)
def test_bad_hyperparameters_fail_at_construction(fields, message):
    with pytest.raises(ValueError, match=message):
        nn.MLP(**fields)


def test_an_input_without_features_is_refused():
    with pytest.raises(ValueError, match=r"x: expected \[batch, ...\] with at least one axis of features, got \[3\]"):
        nn.MLP([2]).init(jax.random.key(0), jnp.ones(3))
