"""Gradient checks pass what is right, name what is wrong, and expect the error that there is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import autodiff
from jaxdl.autodiff import GradientError, check_gradients


@pytest.fixture
def arguments(x64):
    rng = np.random.default_rng(0)
    return {"kernel": rng.normal(size=(30, 20)), "bias": rng.normal(size=20)}, rng.normal(size=(5, 30))


def layer(product):
    return lambda params, x: {"y": jnp.tanh(product(x, params["kernel"]) + params["bias"][None]), "n": 3}


@pytest.mark.parametrize("engine", [jax, autodiff])
def test_right_derivatives_pass_to_third_order(arguments, engine):
    rows = check_gradients(layer(jnp.matmul), arguments, order=3, jvp=engine.jvp, vjp=engine.vjp)
    assert len(rows) == 3 * 3 * 2
    assert {row.leaf for row in rows} == {"args[0]['bias']", "args[0]['kernel']", "args[1]"}
    assert all(row.error < row.expected_error < 1e-6 for row in rows)


def wrong_product(factor):
    """A matrix product whose rule is off by a factor in one element of the kernel's gradient."""

    @jax.custom_vjp
    def product(x, kernel):
        return x @ kernel

    def pull(saved, g):
        x, kernel = saved
        return g @ kernel.T, (x.T @ g).at[3, 7].mul(factor)

    product.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), pull)
    return product


def test_one_percent_in_one_element_is_found_and_named(arguments):
    check_gradients(layer(wrong_product(1.0)), arguments, modes=["reverse"])
    with pytest.raises(GradientError, match=r"order 1, reverse mode, args\[0\]\['kernel'\].*Worst at index \[3, 7\]"):
        check_gradients(layer(wrong_product(1.01)), arguments, modes=["reverse"])


def test_a_wrong_forward_rule_is_found(arguments):
    @jax.custom_jvp
    def sine(x):
        return jnp.sin(x)

    sine.defjvp(lambda primals, tangents: (sine(*primals), tangents[0] * jnp.cos(primals[0]).at[2].mul(1.01)))
    with pytest.raises(GradientError, match=r"order 1, forward mode, args\[0\].*Worst at index \[2\]"):
        check_gradients(sine, [jnp.arange(1.0, 6.0)], modes=["forward"])


def test_a_wrong_rule_of_ours_is_found(arguments, monkeypatch):
    from jaxdl.autodiff.interpreter import RULES

    monkeypatch.setitem(RULES, "tanh", None)
    autodiff.rules.register_elementwise("tanh", lambda x, y: (1 - y * y) * 1.001)
    with pytest.raises(GradientError, match="order 1"):
        check_gradients(layer(jnp.matmul), arguments, jvp=autodiff.jvp, vjp=autodiff.vjp)
    check_gradients(layer(jnp.matmul), arguments)


def test_a_wrong_second_derivative_is_found(x64):
    @jax.custom_vjp
    def cube(x):
        return x**3

    @jax.custom_vjp
    def slope(x):
        return 3 * x**2

    slope.defvjp(lambda x: (3 * x**2, x), lambda x, g: (6.06 * x * g,))
    cube.defvjp(lambda x: (x**3, x), lambda x, g: (slope(x) * g,))
    check_gradients(cube, [jnp.array(1.5)], modes=["reverse"])
    with pytest.raises(GradientError, match="order 2"):
        check_gradients(cube, [jnp.array(1.5)], order=2, modes=["reverse"])


def test_a_derivative_that_is_not_a_number_is_found(x64):
    with pytest.raises(GradientError, match=r"Worst at index \[1\]"):
        check_gradients(lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0), [jnp.array([1.0, -1.0])], modes=["reverse"])


def test_the_error_is_quadratic_in_the_step(x64):
    """CHECKLIST 23.2."""
    errors = [check_gradients(jnp.exp, [jnp.array(1.0)], eps=eps)[0].error for eps in (1e-2, 5e-3, 2.5e-3)]
    np.testing.assert_allclose([errors[0] / errors[1], errors[1] / errors[2]], 4, rtol=1e-4)
    assert errors[0] == pytest.approx(np.e * 1e-4 / 6, rel=1e-4)


def test_float32_needs_a_larger_error_to_show():
    rows = check_gradients(lambda x: jnp.tanh(x).sum(), [jnp.linspace(-1, 1, 7)])
    assert all(row.error < row.expected_error < 0.01 for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 0}, "order: expected at least 1"),
        ({"modes": ()}, "modes: expected"),
        ({"modes": ["backward"]}, "modes: expected"),
        ({"eps": 0.0}, "eps: expected a positive step"),
        ({"args": [jnp.arange(3)]}, "args: expected a floating array"),
        ({"f": lambda x: x > 0}, "f: expected a floating output"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        check_gradients(**{"f": jnp.sin, "args": [jnp.ones(3)]} | options)
