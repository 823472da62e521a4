"""Pooling is XLA's in value and gradient, ties and NaN included; the numbers are the book's."""

from functools import partial

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.nn.pooling import avg_pool, max_pool

DTYPES = [jnp.float32, jnp.float64, jnp.bfloat16]


def image(array):
    return jnp.asarray(array, jnp.float32)[None, :, :, None]


def test_numbers_are_the_books():
    x = image(np.arange(9).reshape(3, 3))
    np.testing.assert_array_equal(max_pool(x, (2, 2))[0, :, :, 0], [[4, 5], [7, 8]])
    np.testing.assert_array_equal(avg_pool(x, (2, 2))[0, :, :, 0], [[2, 3], [5, 6]])
    x = image(np.arange(16).reshape(4, 4))
    np.testing.assert_array_equal(max_pool(x, (3, 3), (3, 3))[0, :, :, 0], [[10]])
    np.testing.assert_array_equal(max_pool(x, (3, 3), (2, 2), 1)[0, :, :, 0], [[5, 7], [13, 15]])
    np.testing.assert_array_equal(max_pool(x, (2, 3), (2, 3), (0, 1))[0, :, :, 0], [[5, 7], [13, 15]])
    both = jnp.concatenate([x, x + 1], -1)
    np.testing.assert_array_equal(max_pool(both, (3, 3), (2, 2), 1)[0, :, :, 1], [[6, 8], [14, 16]])


@st.composite
def problems(draw):
    number = partial(st.integers, 1)
    window = draw(number(4)), draw(number(3))
    strides = draw(st.none() | st.just(window) | st.tuples(number(4), number(3)))
    side = st.integers(0, 2)
    padding = draw(st.sampled_from(["SAME", "VALID"]) | side | st.tuples(side, st.tuples(side, side)))
    shape = (draw(st.integers(0, 2)), draw(st.integers(4, 9)), draw(st.integers(3, 6)), draw(number(2)))
    return (
        shape,
        window,
        strides,
        padding,
        draw(st.sampled_from(DTYPES)),
        draw(st.sampled_from(["ties", "infinite", "nan"])),
    )


def pairs(padding):
    """As Flax wants it."""
    if isinstance(padding, str):
        return padding
    sides = (padding, padding) if isinstance(padding, int) else padding
    return tuple((side, side) if isinstance(side, int) else side for side in sides)


def values(shape, dtype, kind):
    """Whole numbers, of which many are equal."""
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 3, shape).astype(np.float64)
    if kind == "infinite":
        x[rng.random(shape) < 0.6] = -np.inf
        x[rng.random(shape) < 0.1] = np.inf
    if kind == "nan":
        x[rng.random(shape) < 0.15] = np.nan
    return jnp.asarray(x, dtype)


@settings(max_examples=40, deadline=None)
@given(problems())
def test_max_pool_and_its_gradient_are_xlas(problem):
    """Exactly: whole numbers, of which a window's gradients add up without rounding."""
    shape, window, strides, padding, dtype, kind = problem
    with jax.enable_x64(True):
        x = values(shape, dtype, kind)

        @jax.jit
        def compute(x):
            results = []
            for pool in (
                lambda x: flax.linen.max_pool(x, window, strides, pairs(padding)),
                partial(max_pool, window_shape=window, strides=strides, padding=padding),
                partial(max_pool, window_shape=window, strides=strides, padding=padding, implementation="taps"),
            ):
                y, transpose = jax.vjp(pool, x)
                cotangent = (jnp.arange(y.size) % 7 - 3).reshape(y.shape).astype(y.dtype)
                results.append((y, transpose(cotangent)[0]))
            return results

        want, *ours = compute(x)
        for got in ours:
            for a, b in zip(got, want, strict=True):
                assert a.dtype == dtype
                np.testing.assert_array_equal(a.astype(jnp.float64), b.astype(jnp.float64))


@settings(max_examples=20, deadline=None)
@given(problems(), st.booleans())
def test_avg_pool_and_its_gradient_are_flaxs(problem, count_include_pad):
    shape, window, strides, padding, dtype, _ = problem
    with jax.enable_x64(True):
        x = values(shape, dtype, "ties")

        @jax.jit
        def compute(x):
            results = []
            for pool in (
                lambda x: flax.linen.avg_pool(x, window, strides, pairs(padding), count_include_pad),
                lambda x: avg_pool(x, window, strides, padding, count_include_pad),
            ):
                y, transpose = jax.vjp(pool, x)
                results.append((y, transpose(jnp.cos(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype))[0]))
            return results

        tolerance = 8 * float(jnp.finfo(dtype).eps)
        want, got = compute(x)
        for a, b in zip(got, want, strict=True):
            assert a.dtype == dtype  # Flax answers in float32 where it leaves padding out
            np.testing.assert_allclose(a.astype(jnp.float64), b.astype(jnp.float64), rtol=tolerance, atol=2 * tolerance)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize(("value", "side"), [(1.0, 33), (40_000.0, 2)])
def test_half_precision_is_summed_in_float32(dtype, count_include_pad, value, side):
    """Ones would stop to count at 256, and four times 40,000 is no float16."""
    x = jnp.full((1, side, side, 1), value, dtype)
    pooled = avg_pool(x, (side, side), count_include_pad=count_include_pad)
    assert pooled.dtype == x.dtype
    np.testing.assert_array_equal(pooled.ravel(), x[0, 0, 0])


def test_the_first_maximum_in_reading_order_takes_the_gradient():
    x = image([[1, 7, 7], [7, 7, 0], [0, 0, 0]])
    gradient = jax.grad(lambda x: max_pool(x, (3, 3)).sum())(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0, 1, 0], [0, 0, 0], [0, 0, 0]])


def test_nan_is_the_maximum_and_its_gradient_goes_where_the_docstring_says():
    def pool(values):
        y, gradient = jax.value_and_grad(lambda x: max_pool(x, (1, 4)).sum())(image([values]))
        return float(y), gradient[0, 0, :, 0].tolist()

    assert np.isnan(pool([5, np.nan, 1, 2])[0])
    assert pool([5, np.nan, 1, 2])[1] == [0, 0, 0, 1]  # the maximum behind the NaN
    assert pool([5, 1, 2, np.nan])[1] == [0, 0, 0, 1]


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_forward_mode_and_second_derivatives(x64, pool):
    x = jax.random.normal(jax.random.key(0), (1, 5, 4, 2))
    theirs = {max_pool: flax.linen.max_pool, avg_pool: flax.linen.avg_pool}[pool]
    tangent = jnp.cos(x)
    for options in ({}, {"implementation": "xla"}, {"implementation": "taps"})[: 1 if pool is avg_pool else 3]:
        got = jax.jvp(lambda x, options=options: pool(x, (2, 2), (2, 2), **options), (x,), (tangent,))
        want = jax.jvp(lambda x: theirs(x, (2, 2), (2, 2)), (x,), (tangent,))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), got, want)
    hessian = jax.hessian(lambda x: (pool(x, (2, 2), (2, 2)) ** 3).sum())(x)
    want = jax.jacfwd(jax.grad(lambda x: (theirs(x, (2, 2), (2, 2)) ** 3).sum()))(x)
    np.testing.assert_allclose(hessian, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_batch_axes_and_transformations(pool):
    x = jax.random.normal(jax.random.key(0), (2, 3, 6, 4, 2))
    fn = partial(pool, window_shape=(2, 2), strides=(2, 2))
    gradient = jax.grad(lambda x, fn: (fn(x) ** 2).sum())
    want = jnp.stack([jnp.stack([gradient(example, fn) for example in batch]) for batch in x])
    np.testing.assert_allclose(gradient(x, fn), want, rtol=1e-6)
    for mapped in (jax.vmap(fn), jax.pmap(fn), jax.checkpoint(fn), lambda x: jax.lax.map(fn, x)):
        np.testing.assert_allclose(gradient(x, mapped), want, rtol=1e-6)
    line = pool(x[0, 0], (2,), (2,))  # one spatial axis: height is a batch axis
    np.testing.assert_array_equal(line, pool(x[0, 0][None], (1, 2), (1, 2))[0])
    assert pool(jnp.ones((2, 4, 4, 4, 1)), (2, 2, 2), (2, 2, 2)).shape == (2, 2, 2, 2, 1)


def test_large_windows_are_xlas():
    x = jax.random.normal(jax.random.key(0), (1, 12, 12, 1))
    assert "reduce_window_max" in str(jax.make_jaxpr(lambda x: max_pool(x, (9, 9)))(x))
    assert "cond" not in str(jax.make_jaxpr(lambda x: max_pool(x, (9, 9)))(x))
    got = jax.jit(jax.grad(lambda x: max_pool(x, (12, 12), implementation="taps").sum()))(x)
    assert int(got.argmax()) == int(x.argmax())  # 144 pixels do not fit a signed byte


def test_only_a_cpu_takes_a_special_path():
    gradient = jax.jit(jax.grad(lambda x: max_pool(x, (2, 2), (2, 2)).sum()))
    traced = gradient.trace(jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32))
    for platform in ("cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert "select_and_scatter" in text
        assert "optimization_barrier" not in text
    assert "select_and_scatter" not in traced.lower(lowering_platforms=("cpu",)).as_text()


def test_errors_name_the_argument():
    x = jnp.ones((1, 4, 4, 2))
    for pool in (max_pool, avg_pool):
        for bad in (x[0, 0], x.astype(jnp.int32)):
            with pytest.raises(ValueError, match=r"x: expected floating \[..., 2 spatial axes, channels\], got "):
                pool(bad, (2, 2))
        with pytest.raises(ValueError, match="window_shape: expected a number or 2 numbers of at least 1"):
            pool(x, (2, 0))
        with pytest.raises(ValueError, match=r"strides: expected a number or 2 .* got \(2,\)"):
            pool(x, (2, 2), (2,))
        with pytest.raises(ValueError, match=r"padding: expected 'SAME', .* got 'same'"):
            pool(x, (2, 2), padding="same")
        with pytest.raises(
            ValueError, match=r"x: a window that spans \[5, 1\] pixels does not fit into an image of \[4, 4\]"
        ):
            pool(x, (5, 1))
    with pytest.raises(ValueError, match="implementation: expected None, 'xla' or 'taps', got 'fast'"):
        max_pool(x, (2, 2), implementation="fast")
