"""The dense layer against Flax's."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (0, 2), (2, 1, 3)])
def test_equals_flax(leading, x64):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((*leading, 4)))
    ours, theirs = nn.Dense(5), flax.linen.Dense(5)
    variables = ours.init(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, variables, theirs.init(jax.random.key(0), x))

    def loss(layer):
        return lambda variables, x: jnp.sum(jnp.sin(layer.apply(variables, x)))

    np.testing.assert_allclose(ours.apply(variables, x), theirs.apply(variables, x), atol=1e-14)
    found, expected = (jax.grad(loss(layer), argnums=(0, 1))(variables, x) for layer in (ours, theirs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-13), found, expected)


def test_its_products_have_two_axes():
    """Also those of the gradient, which is what it is for."""
    layer, x = nn.Dense(5), jnp.ones((2, 3, 4))
    variables = layer.init(jax.random.key(0), x)
    jaxpr = jax.make_jaxpr(jax.grad(lambda v, x: layer.apply(v, x).sum(), argnums=(0, 1)))(variables, x)
    products = [eqn for eqn in jaxpr.jaxpr.eqns if eqn.primitive.name == "dot_general"]
    assert products
    assert all(var.aval.ndim == 2 for eqn in products for var in eqn.invars)
