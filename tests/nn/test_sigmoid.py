"""The logistic function against scipy in float64, and its own limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxdl.nn.sigmoid import sigmoid


def test_float32_is_exact_to_three_units_in_the_last_place():
    x = np.concatenate([np.linspace(-87, 87, 20_001), np.linspace(-1e-3, 1e-3, 101)]).astype(np.float32)
    want = scipy.special.expit(x.astype(np.float64))
    np.testing.assert_allclose(sigmoid(jnp.asarray(x)), want, rtol=3 * np.finfo(np.float32).eps)


def test_limits_and_nan():
    x = jnp.array([-jnp.inf, -1e30, 0, 1e30, jnp.inf, jnp.nan], jnp.float32)
    np.testing.assert_allclose(sigmoid(x), [0, 0, 0.5, 1, 1, np.nan], atol=1e-37)
    np.testing.assert_allclose(jax.vmap(jax.grad(sigmoid))(x), [0, 0, 0.25, 0, 0, np.nan], atol=1e-37)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_dtype_and_derivatives_are_those_of_jax(dtype):
    x = jnp.linspace(-8, 8, 33).astype(dtype)
    for transform in (lambda f: f, lambda f: jax.vmap(jax.grad(f)), lambda f: jax.vmap(jax.grad(jax.grad(f)))):
        got, want = transform(sigmoid)(x), transform(jax.nn.sigmoid)(x)
        assert got.dtype == want.dtype == dtype
        np.testing.assert_allclose(*(a.astype(jnp.float32) for a in (got, want)), atol=4 * jnp.finfo(dtype).eps)


def test_float64_keeps_its_precision(x64):
    x = jnp.linspace(-8, 8, 33)
    np.testing.assert_allclose(sigmoid(x), scipy.special.expit(np.asarray(x)), rtol=1e-14)


def test_other_platforms_use_their_own():
    traced = jax.jit(jax.grad(lambda x: sigmoid(x).sum())).trace(jax.ShapeDtypeStruct((3,), jnp.float32))
    assert "bitcast_convert" not in traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "bitcast_convert" in traced.lower(lowering_platforms=("cpu",)).as_text()


def test_integers_are_refused():
    with pytest.raises(ValueError, match="x: expected a floating dtype, got int32"):
        sigmoid(jnp.arange(3))
