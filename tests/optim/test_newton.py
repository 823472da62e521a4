"""Newton's method and its diagonal: one step on a quadratic, the book's paths, what happens where H is not positive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import optim

rng = np.random.default_rng(0)
FACTOR = rng.normal(size=(4, 4))
MATRIX = FACTOR @ FACTOR.T + np.eye(4)
VECTOR = rng.normal(size=4)


def quadratic(x):
    return x @ jnp.asarray(MATRIX) @ x / 2 - jnp.asarray(VECTOR) @ x


def newton_path(function, x, num_steps, learning_rate=1.0):
    step = jax.jit(lambda x: optim.newton_step(function, x, learning_rate))
    for _ in range(num_steps):
        x = step(x)
    return x


def test_one_step_on_a_quadratic_is_enough(x64):
    x = optim.newton_step(quadratic, jnp.ones(4))
    np.testing.assert_allclose(x, np.linalg.solve(MATRIX, VECTOR), rtol=1e-10)
    half = optim.newton_step(quadratic, jnp.ones(4), 0.5)
    np.testing.assert_allclose(half, (1 + np.linalg.solve(MATRIX, VECTOR)) / 2, rtol=1e-10)


def test_the_paths_of_the_book(x64):
    """D2L 12.3.3.1, ten steps from 10; c = 0.5 and 0.15 pi. Where the curve bends down, Newton goes up."""

    def wave(x):
        return x * jnp.cos(0.15 * jnp.pi * x)

    assert float(newton_path(lambda x: jnp.cosh(0.5 * x), jnp.array(10.0), 10)) == pytest.approx(0, abs=6e-7)
    assert float(newton_path(wave, jnp.array(10.0), 10)) == pytest.approx(26.834133, abs=6e-7)
    assert float(newton_path(wave, jnp.array(10.0), 10, 0.5)) == pytest.approx(7.269860, abs=6e-7)


def test_convergence_is_quadratic(x64):
    """Each error is about the square of the one before (exp(x) - 2x: f''' / (2 f'') = 1/2 at its minimum)."""
    x, errors = jnp.array(0.0), []
    for _ in range(5):
        errors.append(abs(float(x) - np.log(2)))
        x = optim.newton_step(lambda x: jnp.exp(x) - 2 * x, x)
    np.testing.assert_allclose(np.array(errors[1:]) / np.array(errors[:-1]) ** 2, 0.5, atol=0.2)
    assert errors[-1] < 1e-6


def test_the_diagonal(x64):
    params = {"w": jnp.asarray(rng.normal(size=(2, 3))), "b": jnp.asarray(rng.normal(size=()))}

    def function(p):
        return jnp.sum(jnp.sin(p["w"]) ** 2 * p["b"]) + p["b"] ** 3

    diagonal = optim.hessian_diagonal(function, params)
    np.testing.assert_allclose(diagonal["w"], 2 * np.cos(2 * params["w"]) * params["b"], rtol=1e-10)
    np.testing.assert_allclose(diagonal["b"], 6 * params["b"], rtol=1e-10)
    np.testing.assert_allclose(optim.hessian_diagonal(quadratic, jnp.ones(4)), np.diag(MATRIX), rtol=1e-10)


def test_the_preconditioner_evens_scales_and_goes_downhill(x64):
    """Millimetres beside kilometres: one step on a separable quadratic; and downhill from a saddle."""
    scales = jnp.array([1e-6, 1.0, 1e6])
    x = optim.preconditioned_step(lambda x: jnp.sum(scales * (x - 1) ** 2), jnp.zeros(3), eps=0.0)
    np.testing.assert_allclose(x, 1, rtol=1e-10)

    def saddle(x):
        return x[0] ** 2 - x[1] ** 2

    x = optim.preconditioned_step(saddle, jnp.array([1.0, 0.1]), 0.5)
    np.testing.assert_allclose(x, [0.5, 0.15], rtol=1e-6)
    np.testing.assert_allclose(optim.newton_step(saddle, jnp.array([1.0, 0.1])), 0, atol=1e-12)  # to the saddle itself


def test_one_parameter_none_and_dtypes():
    assert optim.newton_step(lambda x: jnp.sum(x**2), jnp.ones((1, 1), jnp.float32)).shape == (1, 1)
    none = jnp.zeros((0,))
    for step in (optim.newton_step, optim.preconditioned_step, optim.hessian_diagonal):
        assert step(lambda x: jnp.sum(x**2), none).shape == (0,)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"function: expected a scalar, got shape \[4\]"):
        optim.newton_step(lambda x: x**2, jnp.ones(4))
    with pytest.raises(ValueError, match="learning_rate: expected a finite number of at least 0, got -1"):
        optim.newton_step(quadratic, jnp.ones(4), -1)
    with pytest.raises(ValueError, match="params: expected real floating arrays, got int32 in 'a'"):
        optim.hessian_diagonal(lambda p: p["a"] ** 2, {"a": 3})
    with pytest.raises(ValueError, match="eps: expected"):
        optim.preconditioned_step(quadratic, jnp.ones(4), eps=-1.0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_half_precision(dtype):
    step = optim.newton_step(lambda x: jnp.sum(x**2), jnp.ones(2, dtype))
    assert step.dtype == dtype
    np.testing.assert_array_equal(step.astype(jnp.float32), [0, 0])
