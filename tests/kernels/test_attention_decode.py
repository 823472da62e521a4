"""The decode kernel: in the interpreter with race detection, lowered, and compiled for an H100."""

from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreter import needs_pallas, run_interpreted

from jaxdl.kernels import attention, configs
from jaxdl.kernels.attention_case import make_case
from jaxdl.kernels.configs import DecodeConfig

SMALL = DecodeConfig(block_kv=64, num_splits=3, num_stages=2)

CASES = {  # kv_len, (heads, kv_heads), depths, dtype, configuration, options
    "lengths, more splits than tiles": (
        129, (4, 2), (64, 64), "bfloat16", SMALL,
        {"key_value_seq_lengths": np.array([129, 0, 1]), "is_causal": True},
    ),
    "a ring that goes round, 2 splits": (
        700, (3, 1), (128, 64), "float16", DecodeConfig(64, 2, 2),
        {"softcap": 2.0, "key_value_seq_lengths": np.array([700, 333]), "query_seq_lengths": np.array([1, 1])},
    ),
    "window, negative scale": (
        400, (2, 2), (64, 128), "bfloat16", SMALL,
        {"local_window_size": (202, 5), "scale": -0.3, "key_value_seq_lengths": np.array([390, 260, 100])},
    ),
    "more heads than a tile has rows, one key": (1, (70, 1), (64, 64), "bfloat16", DecodeConfig(), {}),
    "depth 256, padding for a query": (
        63, (1, 1), (256, 256), "bfloat16", DecodeConfig(64, 1, 1), {"query_seq_lengths": np.array([1, 0])}
    ),
}  # fmt: skip


def arrays(kv_len, heads, depths, dtype, options):
    rng = np.random.default_rng(0)
    batch = max((len(x) for x in options.values() if isinstance(x, np.ndarray)), default=1)
    shapes = (batch, 1, heads[0], depths[0]), (batch, kv_len, heads[1], depths[0]), (batch, kv_len, heads[1], depths[1])
    return [np.array(jnp.asarray(rng.standard_normal(shape), dtype)) for shape in shapes]


def decoded(query, key, value, lengths=(None, None), config=SMALL, **options):
    from jaxdl.kernels.attention_decode import decode

    case = make_case(query, key, value, query_seq_lengths=lengths[0], key_value_seq_lengths=lengths[1], **options)
    return decode(query, key, value, case.extras, case.form, config)


def interpreted(function, q, k, v, options, **more):
    rest = {name: x for name, x in options.items() if not isinstance(x, np.ndarray)}
    lengths = options.get("query_seq_lengths"), options.get("key_value_seq_lengths")
    return run_interpreted(function, q, k, v, lengths, **rest, **more)


def assert_right(q, k, v, options, output, residual):
    """Weights and output are rounded to half precision once each; sums and scores are float32."""
    given = {name: jnp.asarray(x) if isinstance(x, np.ndarray) else x for name, x in options.items()}
    wide = [jnp.asarray(x, jnp.float64) for x in (q, k, v)]
    expected, logs = attention(*wide, implementation="reference", return_residual=True, **given)
    assert (output.dtype, residual.dtype) == (v.dtype, np.float32)
    lost = float(jnp.finfo(v.dtype).eps) * np.abs(np.asarray(v, np.float64)).max()
    np.testing.assert_allclose(output.astype(np.float64), expected, rtol=0, atol=lost)
    assert not np.isnan(residual).any()
    np.testing.assert_allclose(residual.transpose(0, 2, 1), logs, rtol=1e-5, atol=1e-5)


@needs_pallas
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_reference(name, x64):
    *sizes, config, options = CASES[name]
    q, k, v = arrays(*sizes, options)
    output, residual = interpreted(decoded, q, k, v, options, config=config)
    assert_right(q, k, v, options, output, residual)


@needs_pallas
def test_what_lies_behind_the_length_is_not_read(x64):
    """Nor is it multiplied by a weight of zero, which would let NaN through, where it fills whole tiles."""
    q, k, v = arrays(400, (2, 1), (64, 64), "bfloat16", {})
    k[:, 192:] = v[:, 192:] = np.nan
    options = {"key_value_seq_lengths": np.array([192])}
    output, residual = interpreted(decoded, q, k, v, options)
    assert_right(q, k[:, :192], v[:, :192], {}, output, residual)


def mapped(q, k, v, lengths, **options):
    return jax.vmap(lambda q, k, v, n: decoded(q, k, v, (None, n), **options))(q, k, v, lengths)


@needs_pallas
def test_vmap_is_the_attention_of_each(x64):
    q, k, v = (np.stack([x, x[:, ::-1] * 0.5]) for x in arrays(70, (2, 1), (64, 64), "bfloat16", {}))
    lengths = np.array([[70], [30]])
    outputs, residuals = run_interpreted(mapped, q, k, v, lengths)
    for *xs, length, output, residual in zip(q, k, v, lengths, outputs, residuals, strict=True):
        assert_right(*xs, {"key_value_seq_lengths": length}, output, residual)


def with_bug(q, k, v, lengths, bug, **options):
    """The kernel without one of its fences or waits, or with values copied over those that are still to be read."""
    from jax.experimental.pallas import mosaic_gpu as plgpu

    from jaxdl.kernels.attention_hopper_decode import _Block

    if bug != "values too early":
        with mock.patch.object(plgpu, bug):
            return decoded(q, k, v, lengths, **options)
    keys, values = _Block.copy_keys, _Block.copy_values

    def first(index):
        """Whether it is the first round of the ring, which is right."""
        return isinstance(index, int)

    with mock.patch.multiple(
        _Block,
        copy_keys=lambda block, index: (keys(block, index), first(index) or values(block, index)),
        copy_values=lambda block, index: first(index) and values(block, index),
    ):
        return decoded(q, k, v, lengths, **options)


@needs_pallas
@pytest.mark.parametrize("bug", ["commit_smem", "barrier_wait", "wait_smem_to_gmem", "values too early"])
def test_the_race_detector_sees_a_missing_fence_or_wait(bug):
    q, k, v = arrays(300, (1, 1), (64, 128), "bfloat16", {})
    with pytest.raises(Exception, match="RACE DETECTED"):
        interpreted(with_bug, q, k, v, {}, bug=bug, config=DecodeConfig(64, 1, 2))


@needs_pallas
def test_splits_fill_the_device_and_are_few():
    from jaxdl.kernels.attention_decode import splits

    assert splits(work=128, tiles=64, places=132) == 1  # it is full
    assert splits(work=10_000, tiles=1000, places=132) == 1
    assert splits(work=1, tiles=64, places=132) == 64  # a tile each
    assert splits(work=8, tiles=1, places=132) == 1
    assert splits(work=8, tiles=1024, places=264) == 32
    assert splits(work=140, tiles=512, places=132) > 1  # or 8 of them would run alone


@needs_pallas
def test_what_the_kernel_does_not_do_is_said():
    from jaxdl.kernels.attention_decode import refusal

    x, two = (jax.ShapeDtypeStruct((1, n, 2, 64), jnp.bfloat16) for n in (1, 2))
    assert refusal(*make_case(x, two, two, is_causal=True, softcap=1.0)[3:]) is None
    assert "one query, got 2" in refusal(*make_case(two, two, two)[3:])
    assert "no bias" in refusal(*make_case(x, two, two, jnp.zeros((1, 1, 1, 2)))[3:])


def abstract(kv_len, depth, group=4, batch=4):
    """Arguments of `decoded`."""
    array = partial(jax.ShapeDtypeStruct, dtype=jnp.bfloat16)
    lengths = jax.ShapeDtypeStruct((batch,), jnp.int32)
    cache = array((batch, kv_len, 8, depth))
    return array((batch, 1, 8 * group, depth)), cache, cache, (lengths, lengths)


def shipped():
    """Every configuration of the tables with the depths that it serves."""
    rows = {row for table in configs.TABLES.values() for row in table.decode}
    return sorted({(depth, row.config) for row in rows for depth in (64, 128, 256) if depth <= row.depth}, key=repr)


WINDOW = {"local_window_size": (500, 0), "softcap": 30.0}


@needs_pallas
@pytest.mark.parametrize(("depth", "config"), shipped(), ids=repr)
def test_lowers_for_cuda(depth, config):
    for kv_len, group, options in ((8192, 4, {}), (1001, 70, WINDOW), (1, 1, {})):
        function = jax.jit(lambda *xs, options=options: decoded(*xs, config=config, **options))
        function.trace(*abstract(kv_len, depth, group)).lower(lowering_platforms=("cuda",))


@pytest.mark.aot
@pytest.mark.parametrize(("depth", "config"), shipped(), ids=repr)
@pytest.mark.parametrize("options", [{}, WINDOW], ids=["plain", "window"])
def test_compiles_for_an_h100_without_spills(depth, config, options):
    from jaxdl.kernels import aot

    if reason := aot.refusal():
        pytest.skip(reason)
    from jaxdl.kernels.attention_decode import shared_memory

    (resources,) = aot.compile_for_h100(lambda *xs: decoded(*xs, config=config, **options), *abstract(8192, depth))
    assert resources.problem is None
    assert resources.shared_memory <= shared_memory(depth, depth, config)
