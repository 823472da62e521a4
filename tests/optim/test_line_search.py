"""Line searches: exact on a quadratic, Armijo's condition, ends of the interval, what is not downhill."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from jaxdl import optim

CURVATURE = np.array([0.2, 1.0, 4.0])


def quadratic(x):
    return jnp.sum(jnp.asarray(CURVATURE) * x**2) / 2


def test_bisection_is_exact_on_a_quadratic(x64):
    """`g g / (g H g)`, the rate of steepest descent."""
    x = jnp.array([1.0, -2.0, 3.0])
    g = jax.grad(quadratic)(x)
    rate = optim.bisection_line_search(quadratic, x, -g, upper=10.0)
    assert float(rate) == pytest.approx(float(g @ g / (g @ (CURVATURE * g))), rel=1e-12)


def test_bisection_is_scipys(x64):

    def function(x):
        return jnp.logaddexp(x["a"], -2 * x["a"]) + x["b"] ** 4

    x, d = {"a": jnp.array(-1.0), "b": jnp.array(0.5)}, {"a": jnp.array(1.0), "b": jnp.array(-0.4)}
    slope = jax.jit(jax.grad(lambda t: function({name: x[name] + t * d[name] for name in x})))
    expected = brentq(lambda t: float(slope(t)), 0, 3, xtol=1e-14)
    assert float(optim.bisection_line_search(function, x, d, upper=3.0)) == pytest.approx(expected, abs=1e-12)


def test_the_ends_of_the_interval(x64):
    x = jnp.array([1.0, -2.0, 3.0])
    g = jax.grad(quadratic)(x)
    assert optim.bisection_line_search(quadratic, x, -g, upper=0.1) == 0.1  # still falling
    assert optim.bisection_line_search(quadratic, x, g) < 1e-14  # uphill


@settings(max_examples=15, deadline=None)
@given(start=st.lists(st.floats(-5, 5), min_size=3, max_size=3), initial=st.floats(0.01, 100))
def test_backtracking_takes_the_first_rate_that_falls_enough(start, initial):
    with jax.enable_x64(True):
        x = jnp.array(start)
        g = jax.grad(quadratic)(x)
        if np.linalg.norm(g) < 1e-6:
            return
        rate = float(SEARCH(x, -g, initial))

        def enough(t):
            return quadratic(x - t * g) <= quadratic(x) - 0.3 * t * g @ g

        assert enough(rate)
        assert rate == initial or not enough(rate / 0.6)
        assert np.log(rate / initial) / np.log(0.6) == pytest.approx(round(np.log(rate / initial) / np.log(0.6)))


SEARCH = jax.jit(lambda x, d, t: optim.backtracking_line_search(quadratic, x, d, t, shrink=0.6, slope=0.3))


def test_steepest_descent_with_a_search_converges(x64):
    """A rate that is far too long for `sgd` is cut to one that falls at each step."""

    def step(x, _):
        g = jax.grad(quadratic)(x)
        x = x - optim.backtracking_line_search(quadratic, x, -g, 100.0) * g
        return x, quadratic(x)

    _, values = jax.lax.scan(step, jnp.array([1.0, -2.0, 3.0]), None, length=100)
    assert np.all(np.diff(values) <= 0)
    assert values[-1] < 1e-6


def test_no_rate_where_none_will_do(x64):
    x = jnp.array([1.0, -2.0, 3.0])
    g = jax.grad(quadratic)(x)
    assert optim.backtracking_line_search(quadratic, x, g) == 0  # uphill
    assert optim.backtracking_line_search(quadratic, 0 * x, 0 * x) == 0
    assert optim.backtracking_line_search(quadratic, x, -g, 1e6, max_shrinks=2) == 0
    assert (
        optim.backtracking_line_search(lambda x: jnp.where(x > 1, jnp.nan, -x), jnp.array(0.0), jnp.array(1.0), 4.0)
        == 1
    )


def test_bad_arguments_are_refused():
    x = jnp.ones(3)
    with pytest.raises(ValueError, match="upper: expected a finite number above 0, got 0"):
        optim.bisection_line_search(quadratic, x, x, upper=0.0)
    with pytest.raises(ValueError, match="num_halvings: expected an integer of at least 1, got 0"):
        optim.bisection_line_search(quadratic, x, x, num_halvings=0)
    for search in (optim.bisection_line_search, optim.backtracking_line_search):
        with pytest.raises(ValueError, match=r"direction: expected shape \[3\], got \[\]$"):
            search(quadratic, x, jnp.ones(()))
        with pytest.raises(ValueError, match="params: expected real floating arrays, got int32"):
            search(quadratic, jnp.arange(3), x)
    for name, value in (("shrink", 1.0), ("slope", 0.0)):
        with pytest.raises(ValueError, match=rf"{name}: expected a number in \(0, 1\), got {value}"):
            optim.backtracking_line_search(quadratic, x, x, **{name: value})


def test_minus_infinity_is_no_fall():
    assert optim.backtracking_line_search(jnp.log, jnp.array(1.0), jnp.array(-1.0)) == 0.5
