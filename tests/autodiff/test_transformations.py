"""The transformations follow JAX's conventions, nest, compile and map; their errors say what was expected."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import autodiff


def bent(x):
    return jnp.sin(x) * jnp.exp(2 * x) / (1 + x * x)


def test_third_order_on_scalars_composes_with_jit_and_vmap(x64):
    xs = jnp.linspace(-1.0, 2.0, 5)
    ours = third = bent
    for _ in range(3):
        ours, third = autodiff.grad(ours), jax.grad(third)
    expected = jax.vmap(third)(xs)
    np.testing.assert_allclose(jax.jit(jax.vmap(ours))(xs), expected, rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(jax.jit(ours))(xs), expected, rtol=1e-12)
    np.testing.assert_allclose(ours(xs[1]), expected[1], rtol=1e-12)

    def along(f):
        return lambda x: autodiff.jvp(f, (x,), (1.0,))[1]

    np.testing.assert_allclose(along(along(along(bent)))(xs[3]), expected[3], rtol=1e-12)
    np.testing.assert_allclose(jax.grad(autodiff.grad(jax.grad(bent)))(xs[3]), expected[3], rtol=1e-12)


def tree_function(params, x, *, power):
    return ((params["w"] @ x) ** power).sum() + params["b"], {"largest": x.max()}


@pytest.mark.parametrize("argnums", [0, 1, -1, (0, 1), (1,)])
def test_grad_has_jax_argnums_aux_and_keywords(argnums):
    args = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.array(1.0)}, jnp.array([1.0, 2.0, -1.0])
    for name in ("grad", "value_and_grad"):
        ours, expected = (
            getattr(engine, name)(tree_function, argnums, has_aux=True)(*args, power=3) for engine in (autodiff, jax)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, expected)


def test_other_arguments_may_be_anything():
    assert float(autodiff.grad(lambda x, kind, n: x**n if kind == "power" else x)(3.0, "power", 2)) == 6


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_jacobians_of_trees(x64, mode):
    def f(p, x):
        return {"y": jnp.tanh(p["w"] @ x), "z": x.sum(), "constant": jnp.ones(2)}

    args = {"w": jnp.arange(6.0).reshape(2, 3) / 10, "unused": jnp.ones(2)}, jnp.array([1.0, 2.0, -1.0])
    for argnums in (0, (0, 1)):
        ours, expected = autodiff.jacobian(f, argnums, mode=mode)(*args), jax.jacrev(f, argnums)(*args)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15), ours, expected)


def test_hessian(x64):
    def f(p):
        return jnp.exp(p["a"] @ p["b"]) * p["b"].sum()

    p = {"a": jnp.array([0.1, 0.2]), "b": jnp.array([1.0, -2.0])}
    ours, expected = autodiff.hessian(f)(p), jax.hessian(f)(p)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), ours, expected)


def test_integers_have_float0(x64):
    def f(x, n):
        return x * n, n + 1

    args, zero = (jnp.arange(2.0), jnp.array(3)), np.zeros((), jax.dtypes.float0)
    ours, expected = (engine.jvp(f, args, (jnp.ones(2), zero)) for engine in (autodiff, jax))
    assert jax.tree.map(lambda x: x.dtype, ours) == jax.tree.map(lambda x: x.dtype, expected)
    ours, expected = (engine.vjp(f, *args)[1]((jnp.ones(2), zero)) for engine in (autodiff, jax))
    assert ours[1].dtype == expected[1].dtype == jax.dtypes.float0
    np.testing.assert_array_equal(ours[0], expected[0])


def test_what_nothing_depends_on_has_zero_derivative():
    gradient = autodiff.grad(lambda x, y: y * 2, (0, 1))(jnp.ones(()), jnp.ones(()))
    assert gradient == (0, 2)
    output, tangent = autodiff.jvp(lambda x: 3.0, (1.0,), (1.0,))
    assert (float(output), float(tangent)) == (3, 0)
    value, gradient = autodiff.value_and_grad(lambda x: 3.0)(1.0)
    assert (float(value), float(gradient)) == (3, 0)
    assert isinstance(value, jax.Array)


@pytest.mark.parametrize("size", [0, 1])
def test_small_arrays(size):
    x = jnp.ones(size)
    np.testing.assert_array_equal(autodiff.grad(lambda x: (x * x).sum())(x), 2 * x)
    assert autodiff.jacobian(jnp.sin)(x).shape == autodiff.jacobian(jnp.sin, mode="forward")(x).shape == (size, size)


def test_dtypes_are_kept():
    x = jnp.ones(3, jnp.bfloat16)
    assert autodiff.grad(lambda x: (x * 2.5).sum())(x).dtype == jnp.bfloat16
    assert autodiff.grad(lambda x, y: (x * y).sum())(x, jnp.ones(3)).dtype == jnp.bfloat16


def test_a_second_call_under_jit_does_not_compile_again(compilations):
    gradient = jax.jit(autodiff.grad(bent))
    gradient(jnp.array(1.0))
    before = len(compilations)
    gradient(jnp.array(2.0))
    assert len(compilations) == before


ERRORS = {
    "not a scalar": (lambda: autodiff.grad(jnp.sin)(jnp.ones(3)), r"f: expected a floating scalar .* float32\[3\]"),
    "an integer": (lambda: autodiff.grad(jnp.sin)(1), r"argument 0: expected a floating dtype .* int32\[\]"),
    "an integer leaf": (lambda: autodiff.grad(lambda p: p["n"] * 1.0)({"n": 1}), r"argument 0\['n'\]: expected a fl"),
    "no such argument": (lambda: autodiff.grad(jnp.sin, 1)(1.0), "argnums: expected the number of one of 1 pos"),
    "no aux": (lambda: autodiff.grad(jnp.sin, has_aux=True)(1.0), "has_aux: expected f to return a pair"),
    "another mode": (lambda: autodiff.jacobian(jnp.sin, mode="backward"), "mode: expected"),
    "integer output": (lambda: autodiff.jacobian(lambda x: x.astype(int))(1.0), "f: expected floating outputs"),
    "primals": (lambda: autodiff.jvp(jnp.sin, 1.0, (1.0,)), "primals: expected a tuple or a list"),
    "tangents": (lambda: autodiff.jvp(jnp.sin, (1.0,), 1.0), "tangents: expected a tuple or a list"),
    "another structure": (lambda: autodiff.jvp(jnp.sin, (1.0,), (1.0, 2.0)), "tangents: expected the structure"),
    "another shape": (lambda: autodiff.jvp(jnp.sin, (jnp.ones(2),), (jnp.ones(3),)), r"float32\[2\] for leaf 0, got"),
    "another dtype": (lambda: autodiff.vjp(jnp.sin, 1.0)[1](jnp.ones((), jnp.float16)), r"adjoint: .* float16\[\]"),
    "no adjoint": (lambda: autodiff.vjp(jnp.sin, 1.0)[1](None), r"adjoint: expected float32\[\] for leaf 0, got None"),
    "a list for an array": (lambda: autodiff.vjp(jnp.sin, jnp.ones(2))[1]([1.0, 1.0]), r"float32\[2\] for leaf 0, got"),
    "a tangent of an integer": (lambda: autodiff.jvp(jnp.abs, (1,), (1,)), "expected float0 or None for leaf 0"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        call()
