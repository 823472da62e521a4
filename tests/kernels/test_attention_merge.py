"""Merging attention over parts of the keys: against attention over all of them."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from jaxdl.kernels import attention
from jaxdl.kernels.attention_merge import merge_attention


def cases(dtype=jnp.float64):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal((2, n, heads, 4)), dtype) for n, heads in ((3, 4), (10, 2), (10, 2))]


def in_parts(query, key, value, cuts):
    parts = [attention(query, key[:, a:b], value[:, a:b], return_residual=True) for a, b in itertools.pairwise(cuts)]
    outputs, residuals = (jnp.stack(x) for x in zip(*parts, strict=True))
    return merge_attention(outputs, residuals)


def test_merged_parts_are_the_whole_and_so_is_their_gradient(x64):
    def with_gradient(merged, *arrays):
        def loss(*arrays):
            output, residual = merged(*arrays)
            return (output**2).sum() + jnp.sin(residual).sum(), (output, residual)

        return jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(*arrays)

    arrays = cases()
    expected = with_gradient(partial(attention, return_residual=True), *arrays)
    for cuts in ([0, 10], [0, 1, 4, 9, 10]):
        got = with_gradient(partial(in_parts, cuts=cuts), *arrays)
        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-13), got, expected)


def test_large_residuals_of_either_sign_neither_overflow_nor_vanish():
    outputs = jnp.array([[[1.0]], [[3.0]]])
    for shift in (-1e4, 1e4):
        output, residual = merge_attention(outputs, jnp.array([[shift], [shift]], jnp.float32))
        assert output.item() == 2
        assert residual.item() == np.float32(shift + np.log(2))
    output, residual = merge_attention(outputs, jnp.array([[-1e4], [1e4]], jnp.float32))
    assert (output.item(), residual.item()) == (3, 1e4)


def test_merging_merged_parts_is_merging_all_at_once(x64):
    rng = np.random.default_rng(1)
    outputs, residuals = jnp.asarray(rng.standard_normal((4, 5, 3))), jnp.asarray(rng.standard_normal((4, 5)) * 9)
    once = merge_attention(outputs, residuals)
    a, b = merge_attention(outputs[:3], residuals[:3]), (outputs[3], residuals[3])
    twice = merge_attention(*(jnp.stack(x) for x in zip(b, a, strict=True)))
    for got, want in zip(twice, once, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-14)


def test_a_part_without_keys_counts_for_nothing_and_none_gives_zeros():
    outputs = jnp.array([[[5.0, 5.0], [7.0, 7.0]], [[1.0, 2.0], [0.0, 0.0]]])
    residuals = jnp.array([[-jnp.inf, -jnp.inf], [3.0, -jnp.inf]])
    output, residual = merge_attention(outputs, residuals)
    np.testing.assert_array_equal(output, [[1, 2], [0, 0]])
    np.testing.assert_array_equal(residual, [3, -np.inf])


def test_its_gradient_is_that_of_finite_differences(x64):
    rng = np.random.default_rng(2)
    arrays = jnp.asarray(rng.standard_normal((3, 2, 2))), jnp.asarray(rng.standard_normal((3, 2)))
    jax.test_util.check_grads(jax.jit(merge_attention), arrays, order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)


def test_the_gradient_of_empty_parts_is_zero_not_nan():
    outputs, residuals = jnp.ones((2, 3, 4)), jnp.full((2, 3), -jnp.inf).at[0, 0].set(1.0)
    gradients = jax.grad(lambda *x: merge_attention(*x)[0].sum(), (0, 1))(outputs, residuals)
    np.testing.assert_array_equal(gradients[0], jnp.zeros((2, 3, 4)).at[0, 0].set(1.0))
    np.testing.assert_array_equal(gradients[1], jnp.zeros((2, 3)))


def test_sums_are_float32_and_the_dtypes_stay():
    many = 4096
    outputs = jnp.full((many, 1, 1), 1.0, jnp.bfloat16).at[0].set(2.0)
    output, residual = merge_attention(outputs, jnp.zeros((many, 1), jnp.float32))
    assert (output.dtype, residual.dtype) == (jnp.bfloat16, jnp.float32)
    assert output.item() == 1  # a sum in bfloat16 would stop at 256
    assert residual.item() == pytest.approx(np.log(many), rel=1e-6)


@pytest.mark.parametrize(
    ("outputs", "residuals", "message"),
    [
        ((2, 3, 4), (2, 4), r"outputs, residuals: expected .* got \[2, 3, 4\] and \[2, 4\]"),
        ((3,), (), r"got \[3\] and \[\]"),
        ((0, 3, 4), (0, 3), "at least one part"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(outputs, residuals, message):
    with pytest.raises(ValueError, match=message):
        merge_attention(jnp.zeros(outputs), jnp.zeros(residuals))


def test_whole_numbers_are_refused():
    with pytest.raises(ValueError, match="residuals: expected floating numbers, got int32"):
        merge_attention(jnp.zeros((2, 3, 4)), jnp.zeros((2, 3), jnp.int32))
