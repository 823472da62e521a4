"""The backward kernels of attention: in the interpreter with race detection, lowered, and compiled for an H100."""

import dataclasses
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreter import needs_pallas, run_interpreted

from jaxdl.kernels import aot, attention_blockwise, attention_reference
from jaxdl.kernels.attention_case import make_case
from jaxdl.kernels.configs import AttentionBackwardConfig

pytestmark = needs_pallas

SMALL = AttentionBackwardConfig(64, 64, 64, 64, num_stages=2)
WIDE = AttentionBackwardConfig(64, 128, 128, 64, num_stages=1)
CASES = {  # dtype, (batch, q_len, kv_len, heads, kv_heads, depth, v_depth), options
    "shared heads": ("bfloat16", (1, 63, 257, 2, 1, 64, 64), {}),
    "causal, more keys": ("float16", (1, 129, 200, 2, 2, 64, 64), {"is_causal": True}),
    "causal, queries that see nothing": ("bfloat16", (1, 200, 129, 2, 1, 128, 128), {"is_causal": True}),
    "window, cap": ("float16", (1, 200, 190, 1, 1, 64, 64), {"local_window_size": (70, 9), "softcap": 0.7}),
    "segments": ("bfloat16", (2, 100, 65, 1, 1, 64, 128), {"segments": 3, "is_causal": True, "scale": -0.3}),
    "lengths": (
        "bfloat16", (3, 130, 129, 1, 1, 64, 64),
        {"query_seq_lengths": (130, 5, 64), "key_value_seq_lengths": (70, 129, 0)},
    ),
    "deep": ("bfloat16", (1, 65, 130, 2, 1, 256, 256), {"is_causal": True, "softcap": 2.0}),
    "one": ("float16", (1, 1, 1, 1, 1, 64, 64), {}),
}  # fmt: skip


def make(name):
    """The case of a name, and the gradients of its output and residual."""
    dtype, (batch, q_len, kv_len, heads, kv_heads, depth, v_depth), options = CASES[name]
    rng = np.random.default_rng(list(name.encode()))

    def normal(*shape, dtype=dtype):
        return jnp.asarray(rng.standard_normal(shape), dtype)

    query, key = normal(batch, q_len, heads, depth), normal(batch, kv_len, kv_heads, depth)
    value = normal(batch, kv_len, kv_heads, v_depth)
    options = {key: jnp.array(x) if "lengths" in key else x for key, x in options.items()}
    if kinds := options.pop("segments", None):
        for side, length in (("query", q_len), ("key_value", kv_len)):
            options[f"{side}_segment_ids"] = jnp.asarray(np.sort(rng.integers(0, kinds, (batch, length))))
    case = make_case(query, key, value, **options)
    return case, normal(batch, q_len, heads, v_depth), normal(batch, q_len, heads, dtype="float32")


def exact(case):
    """The case in float32."""
    floats = {name: getattr(case, name).astype(jnp.float32) for name in ("query", "key", "value")}
    return case._replace(**floats, form=dataclasses.replace(case.form, dtype=jnp.dtype("float32")))


def by_kernels(query, key, value, extras, output, residual, d_output, d_residual, form, config, without=None):
    from jaxdl.kernels.attention_hopper_backward import backward

    arrays = residual.transpose(0, 2, 1), d_output, d_residual.transpose(0, 2, 1)
    with mock.patch(without, BUGS[without]) if without else mock.MagicMock():
        return backward(query, key, value, extras, form, output, *arrays, config)


def interpreted(case, d_output, d_residual, config=SMALL, **kwargs):
    output, residual = attention_reference.attend(exact(case))
    arrays = output.astype(case.form.dtype), residual, d_output, d_residual
    return run_interpreted(by_kernels, *case[:4], *arrays, form=case.form, config=config, **kwargs)


def by_autodiff(attend, case, d_output, d_residual):
    def outputs(query, key, value):
        return attend(case._replace(query=query, key=key, value=value))

    return jax.jit(lambda *arrays: jax.vjp(outputs, *arrays)[1]((d_output, d_residual)))(*case[:3])


def largest_errors(case, gradients, d_output, d_residual):
    """What rounding output, weights, gradients of scores and the results to 16 bits may do to the gradients.

    To first order, by the sums that they go into; the cap's slope is at most 1.
    """
    form = case.form
    info = jnp.finfo(form.dtype)
    unit, least = float(info.eps) / 2, float(info.smallest_subnormal) / 2
    output, _ = attention_reference.attend(exact(case))
    weights = np.asarray(attention_reference.weights(exact(case)), np.float64)
    query, key, value, d_output, output = (np.asarray(x, np.float64) for x in (*case[:3], d_output, output))
    shared = form.heads // form.kv_heads
    key, value = key.repeat(shared, 2), value.repeat(shared, 2)
    row_sums = (output * d_output).sum(-1) - np.asarray(d_residual)
    d_scores = weights * (np.einsum("bqhd,bkhd->bhqk", d_output, value) - row_sums.transpose(0, 2, 1)[..., None])
    of_output = (unit * abs(output * d_output)).sum(-1).transpose(0, 2, 1)[..., None]
    of_scores = unit * abs(d_scores) + least + weights * of_output
    errors = (
        abs(form.scale) * np.einsum("bhqk,bkhd->bqhd", of_scores, abs(key)),
        abs(form.scale) * np.einsum("bhqk,bqhd->bkhd", of_scores, abs(query)),
        np.einsum("bhqk,bqhd->bkhd", unit * weights + least, abs(d_output)),
    )
    for error, gradient in zip(errors, gradients, strict=True):
        summed = error.reshape(*gradient.shape[:3], -1, error.shape[-1]).sum(3)
        yield 1.1 * (summed + unit * abs(np.asarray(gradient)) + least)  # 1.1: the higher orders, float32's rounding


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_the_reference(name):
    case, d_output, d_residual = make(name)
    expected = by_autodiff(attention_reference.attend, exact(case), d_output.astype(jnp.float32), d_residual)
    got = interpreted(case, d_output, d_residual)
    for array, mine, theirs, bound in zip(
        case[:3], got, expected, largest_errors(case, expected, d_output, d_residual), strict=True
    ):
        assert mine.shape == array.shape
        assert mine.dtype == array.dtype
        assert np.all(abs(np.asarray(mine, np.float32) - theirs) <= bound)


def test_blocks_of_other_sizes_and_a_ring_of_one_place():
    """Against the blockwise implementation, twice: the bits do not depend on the order of the threads."""
    case, d_output, d_residual = make("causal, more keys")
    expected = by_autodiff(attention_blockwise.attend, exact(case), d_output.astype(jnp.float32), d_residual)
    first, second = (interpreted(case, d_output, d_residual, WIDE) for _ in range(2))
    bounds = largest_errors(case, expected, d_output, d_residual)
    for mine, again, theirs, bound in zip(first, second, expected, bounds, strict=True):
        assert np.all(abs(np.asarray(mine, np.float32) - theirs) <= bound)
        np.testing.assert_array_equal(mine, again)


def test_what_sees_nothing_has_no_gradient():
    case, d_output, d_residual = make("lengths")
    d_query, d_key, d_value = interpreted(case, d_output, d_residual)
    for example, (rows, columns) in enumerate(zip((130, 5, 0), (70, 129, 0), strict=True)):  # the last sees no key
        for gradient, length in ((d_query, rows), (d_key, columns), (d_value, columns)):
            assert np.all(gradient[example, length:] == 0)
            assert np.all(np.any(gradient[example, :length] != 0, (1, 2)))


# What a kernel may forget, by the name of the function that does it, and what it does then. The interpreter does not
# find a missing wait before shared memory that only wgmma reads is written over.
SLOPE = "jaxdl.kernels.attention_hopper_slope"
BUGS = {
    f"{SLOPE}.Ring.await_empty": lambda ring, step: ring.place(step),
    f"{SLOPE}.Ring.await_filled": lambda ring, step: ring.place(step),
    f"{SLOPE}.plgpu.commit_smem": lambda: None,
}


@pytest.mark.parametrize("without", BUGS)
def test_races_are_found(without):
    with pytest.raises(Exception, match="RACE DETECTED"):
        interpreted(*make("shared heads"), without=without)


def shapes(case, d_output, d_residual):
    """The arguments of `by_kernels` without their numbers."""
    residual = jax.ShapeDtypeStruct(d_residual.shape, d_residual.dtype)
    return *case[:4], d_output, residual, d_output, residual


@pytest.mark.parametrize("name", CASES)
def test_every_feature_lowers(name):
    """The rules of layouts and shapes, which the interpreter does not know."""
    made = make(name)
    function = partial(by_kernels, form=made[0].form, config=SMALL)
    jax.jit(function).trace(*shapes(*made)).lower(lowering_platforms=("cuda",))


FEATURES = {
    "full": {},
    "causal": {"is_causal": True},
    "window": {"local_window_size": (1000, 500)},
    "cap": {"is_causal": True, "softcap": 30.0},
    "segments, lengths": {"is_causal": True, "segments": True},
    "window, cap": {"local_window_size": (1000, 500), "softcap": 30.0},
    "all": {"local_window_size": (1000, 500), "softcap": 30.0, "segments": True},
}


@pytest.mark.aot
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("depth", [64, 128, 256])
def test_compiles_for_an_h100_without_spills(depth, features):
    if reason := aot.refusal():
        pytest.skip(reason)
    options = dict(FEATURES[features])
    query = jax.ShapeDtypeStruct((2, 8192, 2048 // depth, depth), jnp.bfloat16)
    key = jax.ShapeDtypeStruct((2, 8192, 2048 // depth // 2, depth), jnp.bfloat16)
    if options.pop("segments", False):
        lengths, ids = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((2,), (2, 8192)))
        options.update(query_seq_lengths=lengths, key_value_seq_lengths=lengths)
        options.update(query_segment_ids=ids, key_value_segment_ids=ids)
    case = make_case(query, key, key, **options)
    residual = jax.ShapeDtypeStruct(query.shape[:3], jnp.float32)
    kernels = aot.compile_for_h100(partial(by_kernels, form=case.form, config=SMALL), *shapes(case, query, residual))
    assert sorted(kernel.kernel.rsplit("_", 1)[0] for kernel in kernels) == ["attention_dkv", "attention_dq"]
    assert [kernel.problem for kernel in kernels] == [None, None]
