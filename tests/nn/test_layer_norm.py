"""Layer normalisation against PyTorch's numbers, the formula and Flax."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.nn.layer_norm import LayerNorm, layer_norm

# The loss is (y * arange(1, 9)).sum(). Computed by torch.nn.LayerNorm(4) (epsilon 1e-5) in float64.
X = np.array([[1.0, -2.0, 1.5, 8.0], [5.0, -6.0, 3.5, 16.0]])
PARAMS = {"scale": np.array([1.5, -0.5, 1.0, 2.0]), "bias": np.array([0.25, 2.0, 0.0, -1.0])}
TORCH = {
    "y": [
        [-0.21277386586297412, 2.5656125027214127, -0.17139772809739784, 2.222277288231079],
        [0.32206690323726006, 2.680631863907456, -0.14413380647452007, 1.9147058642625168],
    ],
    "dx": [
        [-0.10118730336575754, -0.051077686559301616, 0.18755048920198936, -0.035285499276930254],
        [0.03890557841209158, -0.09872636548297131, 0.1395211429406501, -0.07970035586977009],
    ],
    "scale": [-0.06829289978444958, -10.430032377775122, -1.5231298296138343, 18.103378033512225],
    "bias": [6.0, 8.0, 10.0, 12.0],
}


def test_value_and_gradients_are_torchs(x64):
    def loss(x, params):
        y = LayerNorm().apply({"params": params}, x)
        return (y * jnp.arange(1.0, 9).reshape(y.shape)).sum(), y

    (dx, dparams), y = jax.grad(loss, (0, 1), has_aux=True)(jnp.asarray(X), jax.tree.map(jnp.asarray, PARAMS))
    for name, got in {"y": y, "dx": dx, **dparams}.items():
        np.testing.assert_allclose(got, TORCH[name], rtol=1e-12, atol=1e-13, err_msg=name)


def test_it_takes_the_place_of_flaxs():
    x = jax.random.normal(jax.random.key(0), (2, 4, 5, 3)) + 1
    ours, theirs = LayerNorm(epsilon=1e-6), flax.linen.LayerNorm()
    variables = theirs.init(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(1), x), variables)
    np.testing.assert_allclose(ours.apply(variables, x), theirs.apply(variables, x), atol=1e-5)
    plain = LayerNorm(use_scale=False, use_bias=False)
    assert plain.init(jax.random.key(0), x) == {}
    np.testing.assert_allclose(plain.apply({}, x), layer_norm(x), atol=1e-6)


def test_the_pure_function_is_the_formula(x64):
    want = (X - X.mean(-1, keepdims=True)) / np.sqrt(X.var(-1, keepdims=True) + 0.01)
    np.testing.assert_allclose(layer_norm(jnp.asarray(X), epsilon=0.01), want, rtol=1e-12)
    vectors = [jnp.asarray(PARAMS[name]) for name in ("scale", "bias")]
    np.testing.assert_allclose(
        layer_norm(jnp.asarray(X), *vectors, 0.01), want * PARAMS["scale"] + PARAMS["bias"], rtol=1e-12
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_takes_statistics_in_float32(dtype):
    """300 values of 1000 add up to more than float16 holds, and 1000 + 1/8 is no number of either type."""
    x = jnp.full((2, 300), 1000.0).at[:, ::2].set(1008.0)
    y = layer_norm(x.astype(dtype))
    assert y.dtype == dtype
    np.testing.assert_allclose(y[0, :2].astype(jnp.float32), [1, -1], rtol=1e-2)
    layer = LayerNorm(dtype=dtype)
    y, variables = layer.init_with_output(jax.random.key(0), x)
    assert y.dtype == dtype
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert LayerNorm().apply(variables, x.astype(dtype)).dtype == jnp.float32


def test_edges():
    assert layer_norm(jnp.ones((0, 3))).shape == (0, 3)
    value, gradient = jax.value_and_grad(lambda x: layer_norm(x).sum())(jnp.array([3.0]))  # one feature: no variance
    assert (float(value), float(gradient[0])) == (0, 0)
    far = 10_000 + jnp.arange(4.0)
    np.testing.assert_allclose(layer_norm(far), layer_norm(jnp.arange(4.0)), atol=1e-3)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="epsilon: expected a number of at least 0, got -1"):
        LayerNorm(epsilon=-1)
    for x in (jnp.float32(1), jnp.ones((2, 0)), jnp.ones((2, 3), jnp.int32)):
        for call in (layer_norm, lambda x: LayerNorm().init(jax.random.key(0), x)):
            with pytest.raises(
                ValueError, match=r"x: expected floating \[..., features\] with at least one feature, got"
            ):
                call(x)
    for name in ("scale", "bias"):
        with pytest.raises(ValueError, match=rf"{name}: expected shape \[3\], got \[1\]"):
            layer_norm(jnp.ones((2, 3)), **{name: jnp.ones(1)})
