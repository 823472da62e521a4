"""The Pallas kernels of attention: in the interpreter with race detection, lowered, and compiled for an H100.

A call in the interpreter takes 1 to 3 seconds of a quiet machine, so each case has several features and odd sizes.
`test_attention_hopper_backward.py` has the gradients' kernels, `test_attention_decode.py` that of one query.
"""

from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreter import needs_pallas, run_interpreted
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdl.kernels import aot, attention, attention_decode, attention_pallas, available_implementations, interpret
from jaxdl.kernels.attention_case import make_case
from jaxdl.nlp import GPT, generate

LEAST = float(jnp.finfo(jnp.float32).min)
ROUNDING = {"bfloat16": 2.0**-9, "float16": 2.0**-12}  # what a 16-bit number may lose of 1
RNG = np.random.default_rng(7)


def sorted_ids(batch, length, kinds):
    return np.sort(RNG.integers(0, kinds, (batch, length), np.int32), axis=1)


def bias_of_keys():
    bias = RNG.standard_normal((1, 2, 1, 150)).astype(np.float32)
    bias[..., 100:] = LEAST  # as some models hide keys
    return bias


def bias_of_scores():
    bias = RNG.standard_normal((1, 2, 70, 130)).astype(np.float32)
    bias[:, :, 3] = -np.inf  # sees nothing
    bias[:, 0, 5] = LEAST  # sees all, alike
    return bias


CASES = {  # sizes, then options
    "plain": ({"q_len": 63, "kv_len": 300}, {}),
    "causal, groups": ({"q_len": 129, "kv_len": 200, "heads": (4, 2)}, {"is_causal": True, "scale": 0.3}),
    "more queries than keys": ({"q_len": 300, "kv_len": 129, "depths": (100, 30)}, {"is_causal": True}),
    "window": ({"q_len": 130, "kv_len": 600}, {"local_window_size": (400, 30)}),  # blocks seen whole lie between
    "causal window": ({"q_len": 200, "kv_len": 333}, {"local_window_size": 20, "is_causal": True}),
    "softcap": ({"q_len": 65, "kv_len": 1000, "dtype": "float16"}, {"softcap": 2.0, "is_causal": True}),
    "segments": (
        {"q_len": 130, "kv_len": 260, "batch": 2, "depths": (64, 128)},
        {"query_segment_ids": sorted_ids(2, 130, 3), "key_value_segment_ids": sorted_ids(2, 260, 4) + 1},
    ),
    "lengths": (
        {"q_len": 140, "kv_len": 270, "batch": 3},
        {
            "query_seq_lengths": np.array([140, 100, 0], np.int32),
            "key_value_seq_lengths": np.array([0, 130, 300], np.int32),
        },
    ),
    "bias": ({"q_len": 70, "kv_len": 130, "heads": (2, 1)}, {"bias": bias_of_scores(), "softcap": 3.0}),
    "bias of keys": ({"q_len": 70, "kv_len": 150, "heads": (2, 2)}, {"bias": bias_of_keys(), "scale": -0.2}),
    "mask": (
        {"q_len": 66, "kv_len": 70, "heads": (2, 2), "batch": 2},
        {"mask": RNG.random((2, 1, 66, 70)) > np.linspace(0, 1, 66)[:, None], "bias": bias_of_keys()[..., :70]},
    ),  # from queries that see all keys to some that see none
    "window and mask": (
        {"q_len": 63, "kv_len": 200, "heads": (3, 1), "depths": (128, 64)},
        {"mask": RNG.random((1, 3, 63, 1)) < 0.6, "local_window_size": (114, 151)},
    ),
    "one key": ({"q_len": 2, "kv_len": 1, "depths": (256, 256)}, {"scale": 0.0}),
    "one query": ({"q_len": 1, "kv_len": 129, "heads": (4, 2), "depths": (100, 64)}, {"is_causal": True}),
}


def inputs(q_len, kv_len, heads=(1, 1), depths=(64, 64), batch=1, dtype="bfloat16", seed=0):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return np.array(jnp.asarray(rng.standard_normal(shape), dtype))

    key = normal(batch, kv_len, heads[1], depths[0])
    return normal(batch, q_len, heads[0], depths[0]), key, normal(batch, kv_len, heads[1], depths[1])


def kernels(*arrays, **options):
    return attention(*arrays, implementation="pallas", **options)


def exact(function, *arrays):
    """In float64, by the implementation that `test_attention.py` checks against loops."""
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, function(*(jnp.asarray(x, jnp.float64) for x in arrays)))


def reference(q, k, v, options):
    options = {name: jnp.asarray(x) if isinstance(x, np.ndarray) else x for name, x in options.items()}
    return exact(lambda *x: attention(*x, implementation="reference", return_residual=True, **options), q, k, v)


@needs_pallas
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_reference(name):
    """Weights and output are rounded to 16 bits once each; scores and sums are float32."""
    sizes, options = CASES[name]
    q, k, v = inputs(**sizes)
    output, residual = run_interpreted(kernels, q, k, v, return_residual=True, **options)
    expected, logarithms = reference(q, k, v, options)
    assert (output.dtype, residual.dtype) == (v.dtype, np.float32)
    lost = 2 * ROUNDING[str(v.dtype)] * np.abs(v.astype(np.float64)).max()
    np.testing.assert_allclose(output.astype(np.float64), expected, rtol=0, atol=lost)
    np.testing.assert_array_equal(np.isneginf(residual), np.isneginf(logarithms))
    sees_something = logarithms > LEAST / 4  # the least numbers are only of that order
    np.testing.assert_allclose(residual[sees_something], logarithms[sees_something], rtol=1e-5, atol=1e-5)
    assert not output[np.isneginf(residual)].any()


@needs_pallas
def test_blocks_that_nobody_sees_are_not_touched():
    """A block that is visited and masked still multiplies its weights of zero by NaN."""
    q, k, v = inputs(q_len=128, kv_len=896)
    options = {"local_window_size": (300, 0), "key_value_seq_lengths": np.array([760], np.int32)}
    for x in (k, v):
        x[:, :384] = np.nan  # the window of the first query begins at 768 - 300, in the block of 384
        x[:, 768:] = np.nan  # the length ends in the block before
    output = run_interpreted(kernels, q, k, v, **options)
    assert np.isfinite(output.astype(np.float32)).all()
    for x in (k, v):
        x[:, 760:] = 0
    options["key_value_seq_lengths"] -= 384
    expected, _ = reference(q, k[:, 384:], v[:, 384:], options)
    np.testing.assert_allclose(output.astype(np.float64), expected, atol=2 * 2**-9 * 5)


def slopes(q, k, v):
    """Of output and residual, of two problems at once."""

    def scalar(q, k, v):
        options = {"is_causal": True, "key_value_seq_lengths": jnp.array([60]), "local_window_size": 40}
        output, residual = kernels(q, k, v, return_residual=True, **options)
        seen = residual > -jnp.inf
        return jnp.sum(jnp.sin(output.astype(jnp.float32))) + jnp.sum(jnp.where(seen, residual, 0) ** 2) / 10

    return jax.vmap(jax.grad(scalar, argnums=(0, 1, 2)))(q, k, v)


@needs_pallas
def test_gradients(monkeypatch):
    """The way to the kernels and back: padded depths, the residual, rows that see nothing, vmap."""
    problems = (inputs(70, 65, (2, 1), (40, 24), seed=seed) for seed in (1, 2))
    arrays = [np.stack(pair) for pair in zip(*problems, strict=True)]
    got = run_interpreted(slopes, *arrays)
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "kernels", lambda *x, **y: attention(*x, implementation="reference", **y))
        expected = exact(jax.jit(slopes), *arrays)
    for ours, theirs, x in zip(got, expected, arrays, strict=True):
        assert ours.dtype == x.dtype
        # Output, weights, the scores' gradients and the result are rounded, and 70 rows are summed.
        np.testing.assert_allclose(ours.astype(np.float64), theirs, rtol=0, atol=2**-7 * np.abs(theirs).max())


def without(q, k, v, *, name):
    """Runs the forward kernel with a part of it left out."""
    from jaxdl.kernels.attention_hopper_forward import _Block, plgpu

    wait, start, scratch = plgpu.barrier_wait, _Block.__init__, []

    def remember(block, *args):
        start(block, *args)
        scratch.append(block.scratch)

    def wait_for_others(barrier):
        if not any(barrier.ref is getattr(each, name) for each in scratch):
            wait(barrier)

    _Block.__init__ = remember
    if name == "commit":
        plgpu.commit_smem = lambda: None
    else:
        plgpu.barrier_wait = wait_for_others
    return kernels(q, k, v)


@needs_pallas
@pytest.mark.parametrize("name", ["commit", "value_ready", "key_free"])
def test_races_are_found(name):
    """The process ends with the error, and with it what `without` changed."""
    with pytest.raises(Exception, match="RACE DETECTED"):
        run_interpreted(without, *inputs(128, 1024), name=name)


def attend_and_shapes(case):
    """What `attention` does once the case is made and not refused, and its arguments without their numbers."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), case[:4])
    return lambda *arrays: attention_pallas.attend(type(case)(*arrays, case.form)), shapes


@needs_pallas
@pytest.mark.parametrize("name", CASES)
def test_every_feature_lowers(name):
    """The rules of layouts and shapes, which the interpreter does not know. In a program of 64 bits, too."""
    sizes, options = CASES[name]
    attend, shapes = attend_and_shapes(make_case(*inputs(**sizes), **options))
    for wide in (False, True):
        with jax.enable_x64(wide):
            jax.jit(attend).trace(*shapes).lower(lowering_platforms=("cuda",))


def features(q_len, depth):
    ids, lengths = jax.ShapeDtypeStruct((2, q_len), jnp.int32), jax.ShapeDtypeStruct((2,), jnp.int32)
    by_lengths = {"query_seq_lengths": lengths, "key_value_seq_lengths": lengths}
    heads = 2048 // depth
    bias = jax.ShapeDtypeStruct((1, heads, q_len, q_len), jnp.float32)
    everything = {"query_segment_ids": ids, "key_value_segment_ids": ids, **by_lengths, "local_window_size": 1000}
    return {
        "full": {},
        "causal": {"is_causal": True},
        "window": {"local_window_size": (1000, 500)},
        "causal window, softcap": {"local_window_size": 1000, "is_causal": True, "softcap": 30.0},
        "segments": {"query_segment_ids": ids, "key_value_segment_ids": ids, "is_causal": True},
        "lengths": by_lengths,
        "causal lengths": {**by_lengths, "is_causal": True},
        "bias": {"bias": bias, "is_causal": True},
        "bias of 16 bits": {"bias": jax.ShapeDtypeStruct(bias.shape, jnp.bfloat16)},
        "all": {**everything, "bias": bias, "softcap": 30.0, "is_causal": True},
        "bias of keys": {"bias": jax.ShapeDtypeStruct((1, heads, 1, q_len), jnp.float32)},
    }


@pytest.mark.aot
@pytest.mark.parametrize("name", features(1, 64))
@pytest.mark.parametrize("depth", attention_pallas.DEPTHS)
def test_compiles_for_an_h100_without_spills(depth, name):
    if reason := aot.refusal():
        pytest.skip(reason)
    query, key = (jax.ShapeDtypeStruct((2, 4000, heads // depth, depth), jnp.bfloat16) for heads in (2048, 1024))
    attend, shapes = attend_and_shapes(make_case(query, key, key, **features(4000, depth)[name]))
    compiled = aot.compile_for_h100(attend, *shapes)
    assert [kernel.problem for kernel in compiled] == [None]


def gradient_by_shards(mesh, check_vma):
    """Of attention split over examples and heads; the lengths go with the examples."""
    split = PartitionSpec("data", None, "model", None)

    def attend(q, k, v, lengths):
        return attention_pallas.attend(make_case(q, k, v, is_causal=True, key_value_seq_lengths=lengths))[0]

    sharded = jax.shard_map(
        attend, mesh=mesh, in_specs=(split, split, split, PartitionSpec("data")), out_specs=split, check_vma=check_vma
    )
    gradient = jax.grad(lambda *x: sharded(*x).astype(jnp.float32).sum(), argnums=(0, 1, 2))
    x = jax.ShapeDtypeStruct((4, 256, 4, 64), jnp.bfloat16, sharding=NamedSharding(mesh, split))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    return gradient, (x, x, x, jax.ShapeDtypeStruct((4,), jnp.int32, sharding=rows))


COLLECTIVES = ("psum", "pmax", "all_gather", "all_to_all", "ppermute", "reduce_scatter")


@needs_pallas
@pytest.mark.parametrize("check_vma", [False, True])
def test_shards_of_examples_and_heads_need_no_communication(check_vma):
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    gradient, arrays = gradient_by_shards(mesh, check_vma)
    program = str(jax.make_jaxpr(gradient)(*arrays))
    assert program.count("attention_forward") >= 1
    assert not [name for name in COLLECTIVES if name in program]


@pytest.mark.aot
def test_shards_compile():
    if reason := aot.refusal():
        pytest.skip(reason)
    gradient, arrays = gradient_by_shards(Mesh(np.reshape(aot.h100_devices(4), (2, 2)), ("data", "model")), True)
    assert len(aot.compile_for_h100(gradient, *arrays)) == 3


def kernels_named(name, jaxpr):
    """How many calls of a kernel a program has."""
    count = 0
    for equation in jaxpr.eqns:
        if equation.params.get("name") == name:
            count += 1
            continue
        for part in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            part = getattr(part, "jaxpr", part)
            count += kernels_named(name, part) if hasattr(part, "eqns") else 0
    return count


@needs_pallas
def test_a_policy_saves_output_and_residual():
    """Then a rematerialised layer runs the forward kernel once, else twice."""
    q, k, v = inputs(10, 10)
    policy = jax.checkpoint_policies.save_only_these_names("attention_output", "attention_residual")
    counts = []
    for chosen in (None, policy):
        attend = jax.checkpoint(lambda q: attention_pallas.attend(make_case(q, k, v))[0], policy=chosen)
        loss = jax.value_and_grad(lambda q, attend=attend: attend(q).astype(jnp.float32).sum())
        counts.append(kernels_named("attention_forward", jax.make_jaxpr(loss)(q).jaxpr))
    assert counts == [2, 1]


def written(prompt, lengths, implementation):
    """Tokens that a GPT adds to prompts, their log probabilities, and how often the decode kernel was built."""
    model = GPT(11, 16, features=64, num_heads=1, num_blocks=1, dtype=jnp.bfloat16, implementation=implementation)
    variables = model.init(jax.random.key(0), prompt)
    variables = jax.tree.map(lambda p: 10 * p if p.ndim == 2 else p, variables)  # differences that rounding keeps
    with mock.patch.object(attention_decode, "decode", wraps=attention_decode.decode) as decode:
        found = generate(model, variables, prompt, lengths, max_new_tokens=4, eos_id=None)
    return *found, jnp.asarray(decode.call_count)


@needs_pallas
@pytest.mark.parametrize("lengths", [None, np.array([5, 2])], ids=["all alike", "of different lengths"])
def test_generate_writes_with_the_kernels(lengths):
    """Prompts of one length need no mask, so each token comes from the decode kernel."""
    prompt = np.random.default_rng(0).integers(0, 11, (2, 5)).astype(np.int32)
    tokens, _, scores, times = run_interpreted(written, prompt, lengths, implementation="pallas")
    expected, _, expected_scores, _ = jax.jit(partial(written, implementation="reference"))(prompt, lengths)
    np.testing.assert_array_equal(tokens, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=0.03, atol=0.03)  # bfloat16 over 4 tokens
    assert (times > 0) == (lengths is None)


@needs_pallas
@pytest.mark.parametrize("name", ["bias", "mask"])
def test_a_bias_or_a_mask_has_no_gradient(name):
    q, k, v = inputs(10, 10)
    given = {name: jnp.zeros((1, 1, 1, 10), q.dtype if name == "bias" else bool)}
    with interpret(), pytest.raises(ValueError, match=r"bias, mask: .*'pallas' of attention has no gradients"):
        jax.grad(lambda q: kernels(q, k, v, **given).astype(jnp.float32).sum())(q)


@needs_pallas
@pytest.mark.parametrize(("batch", "q_len", "kv_len"), [(0, 3, 3), (2, 0, 3), (2, 3, 0)])
def test_empty_arrays(batch, q_len, kv_len):
    with interpret():
        output, residual = kernels(*inputs(q_len, kv_len, batch=batch), return_residual=True)
    assert output.shape == (batch, q_len, 1, 64)
    assert not output.any()
    np.testing.assert_array_equal(residual, np.full((batch, q_len, 1), -np.inf, np.float32))


REFUSED = {
    "bfloat16 and float16, got float32": ((4, 4), {"dtype": "float32"}, {}),
    "depths up to 256, got 257 and 64": ((4, 4), {"depths": (257, 64)}, {}),
    "no dropout": ((4, 4), {}, {"dropout_rate": 0.5, "dropout_key": jax.random.key(0)}),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_the_kernels_cannot_do_is_refused_with_the_reason(reason):
    lengths, sizes, options = REFUSED[reason]
    arrays = inputs(*lengths, **sizes)
    assert reason in available_implementations(*arrays, **options)["pallas"]
    with pytest.raises(ValueError, match=f"implementation: 'pallas' cannot do this attention: .*{reason}"):
        kernels(*arrays, **options)


def test_a_machine_without_a_hopper_is_refused_outside_of_the_interpreter():
    arrays = inputs(4, 4)
    expected = "need jax 0.11" if jax.__version_info__ < (0, 11) else "compute capability 9.0"
    assert expected in available_implementations(*arrays)["pallas"]
    with pytest.raises(ValueError, match=expected):
        kernels(*arrays)
    if jax.__version_info__ >= (0, 11):
        with interpret():
            assert available_implementations(*arrays)["pallas"] is None
