"""Every rule against JAX's own derivatives: forward, reverse, and both over reverse, in float64."""

import derivative_cases as cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl import autodiff
from jaxdl.autodiff.interpreter import RULES


def draw(case, seed):
    """Arguments, tangents and, of the shapes of the output, adjoints."""
    rng = np.random.default_rng(seed)
    if case.ties:
        args = tuple(rng.integers(-1, 2, shape).astype(float) for shape in case.shapes)
    else:
        args = tuple(rng.uniform(case.low, case.high, shape) for shape in case.shapes)
    tangents = tuple(rng.normal(size=shape) for shape in case.shapes)
    output = jax.eval_shape(case.function, *args)
    adjoints = [rng.normal(size=leaf.shape) for leaf in jax.tree.leaves(output)]
    return args, tangents, adjoints


def floating(function):
    """The function with a list of its floating outputs."""

    def leaves(*args):
        outputs = jax.tree.leaves(function(*args))
        return [y for y in outputs if jnp.issubdtype(jnp.result_type(y), jnp.floating)]

    return leaves


def derivatives(engine, function, args, tangents, adjoints):
    """By one engine: forward, reverse, forward over reverse, reverse over reverse."""
    f = floating(function)

    def reverse(*args):
        output, pull = engine.vjp(f, *args)
        return pull([g.astype(y.dtype) for g, y in zip(adjoints, output, strict=False)])

    return {
        "forward": engine.jvp(f, args, tangents),
        "reverse": reverse(*args),
        "forward over reverse": engine.jvp(reverse, args, tangents)[1],
        "reverse over reverse": engine.vjp(reverse, *args)[1](tangents),
    }


@pytest.mark.parametrize("name", cases.ALL)
def test_agrees_with_jax(name):
    case = cases.ALL[name]

    @jax.jit
    def both(*data):
        return tuple(derivatives(engine, case.function, *data) for engine in (autodiff, jax))

    @given(seed=st.integers(0, 2**32 - 1))
    @settings(max_examples=5, deadline=None)
    def agree(seed):
        ours, expected = both(*draw(case, seed))
        for mode in expected:
            assert jax.tree.structure(ours[mode]) == jax.tree.structure(expected[mode])
            for left, right in zip(*map(jax.tree.leaves, (ours[mode], expected[mode])), strict=True):
                assert left.dtype == right.dtype
                rtol = 1e-9 if left.dtype == jnp.float64 else 1e-5  # some cases convert to float32 inside
                np.testing.assert_allclose(left, right, rtol=rtol, atol=rtol, err_msg=mode)

    with jax.enable_x64(True):
        agree()


def primitives(jaxpr):
    """The names of all primitives in a jaxpr, at any depth."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for param in equation.params.values():
            for inner in param if isinstance(param, tuple) else (param,):
                if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                    yield from primitives(inner)


def test_every_rule_has_a_case():
    seen = set()
    with jax.enable_x64(True):
        for name, case in (cases.ALL | cases.REVERSE_ONLY).items():
            args, tangents, adjoints = draw(case, 0)
            seen.update(primitives(jax.make_jaxpr(case.function)(*args)))
            if name in cases.WINDOWS:
                first = jax.make_jaxpr(derivatives, static_argnums=(0, 1))
                seen.update(primitives(first(autodiff, case.function, args, tangents, adjoints)))
    # Only some versions of JAX, or only other transformations, write these.
    rare = {"add_any", "checkpoint", "closed_call", "core_call", "eval_jaxpr", "copy_p", "one_minus_square"}
    rare |= {"log2", "polynomial", "unstack", "stack", "tile"} if jax.__version_info__ < (0, 12) else {"copy"}
    assert set(RULES) - seen <= rare


def test_a_custom_vjp_is_called_in_reverse_mode_and_refused_in_forward_mode(x64):
    case = cases.REVERSE_ONLY["custom_vjp"]
    args, tangents, (adjoint,) = draw(case, 0)
    ours, expected = (engine.vjp(case.function, *args)[1](adjoint) for engine in (autodiff, jax))
    np.testing.assert_allclose(ours, expected, rtol=1e-12)

    def pulled(engine):
        return lambda *args: engine.vjp(case.function, *args)[1](adjoint)

    ours, expected = (engine.vjp(pulled(engine), *args)[1](tangents) for engine in (autodiff, jax))
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"forward mode through a function with jax.custom_vjp"):
        autodiff.jvp(case.function, args, tangents)


def test_where_low_meets_high_clamp_gives_all_to_high(x64):
    """JAX gives nothing to anyone where `high < low`; the value is `high`."""
    assert autodiff.grad(jax.lax.clamp, (0, 1, 2))(1.0, 0.0, -1.0) == (0, 0, 1)


@pytest.mark.parametrize("given", [{"push": True}, {"pull": True}])
def test_one_direction_is_enough(x64, monkeypatch, given):
    monkeypatch.setitem(RULES, "sin", None)

    @autodiff.register_rule("sin")
    def rule(x, *, output, **_):
        return autodiff.LinearMap(**{name: lambda change: change * jnp.cos(x) for name in given})

    with pytest.raises(ValueError, match="expected push, pull or both"):
        autodiff.LinearMap()
    x = jnp.arange(3.0)
    for mode in ("forward", "reverse"):
        np.testing.assert_allclose(autodiff.jacobian(jnp.sin, mode=mode)(x), jnp.diag(jnp.cos(x)), rtol=1e-12)


def test_one_direction_is_enough_with_several_outputs(x64, monkeypatch):
    """`top_k` also returns integers, which have neither tangent nor adjoint."""
    x = jnp.array([3.0, 1.0, 2.0])
    expected = jax.jacrev(lambda x: jax.lax.top_k(x, 2)[0])(x)

    def scattered(indices, adjoints):
        return jnp.zeros(3).at[indices].add(adjoints[0])

    for _ in range(2):
        for mode in ("forward", "reverse"):
            ours = autodiff.jacobian(lambda x: jax.lax.top_k(x, 2)[0], mode=mode)(x)
            np.testing.assert_array_equal(ours, expected)
        monkeypatch.setitem(RULES, "top_k", None)
        autodiff.register_rule("top_k")(
            lambda x, *, output, **_: autodiff.LinearMap(pull=lambda adjoints: scattered(output[1], adjoints))
        )


def test_an_unknown_primitive_is_named_and_can_be_registered(monkeypatch):
    def bessel(x):
        return jax.lax.bessel_i0e(x) * 2

    with pytest.raises(NotImplementedError, match=r"'bessel_i0e'. Register(.|\n)*@jaxdl.autodiff.register_rule"):
        autodiff.grad(bessel)(1.0)
    monkeypatch.setitem(RULES, "bessel_i0e", None)

    @autodiff.register_rule("bessel_i0e")
    def rule(x, *, output):
        return autodiff.LinearMap(lambda t: t * (jax.lax.bessel_i1e(x) - jnp.sign(x) * output))

    np.testing.assert_allclose(autodiff.grad(bessel)(1.0), jax.grad(bessel)(1.0), rtol=1e-6)


def test_a_rule_with_too_few_maps_is_an_error(monkeypatch):
    monkeypatch.setitem(RULES, "mul", None)
    autodiff.register_rule("mul")(lambda x, y, *, output, **_: [autodiff.LinearMap(lambda t: t * y)])
    with pytest.raises(ValueError, match="rule of 'mul': expected 2 maps, one for each input, got 1"):
        autodiff.grad(lambda x: x * x)(1.0)


def test_complex_numbers_are_refused():
    with pytest.raises(NotImplementedError, match="complex numbers"):
        autodiff.grad(lambda x: jnp.abs(jnp.exp(1j * x)))(1.0)


def test_reverse_mode_through_while_says_why_not():
    def doubled(x):
        return jax.lax.while_loop(lambda x: x < 10, lambda x: 2 * x, x)

    value, tangent = autodiff.jvp(doubled, (3.0,), (1.0,))
    assert (float(value), float(tangent)) == (12, 4)
    with pytest.raises(ValueError, match="values of every iteration"):
        autodiff.grad(doubled)(3.0)


def test_remat_computes_again_in_the_backward_pass():
    from jaxdl.training import count_flops

    def f(x):
        return jnp.tanh(x @ x).sum()

    x = jnp.ones((8, 8))
    plain, remat = (count_flops(autodiff.value_and_grad(g), x) for g in (f, jax.checkpoint(f)))
    assert remat >= plain + 2 * 8**3
    assert "optimization_barrier" in str(jax.make_jaxpr(autodiff.grad(jax.checkpoint(f)))(x))
