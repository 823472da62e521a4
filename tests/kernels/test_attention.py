"""Every implementation of attention against loops over queries in NumPy, PyTorch, and each other."""

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import needs_pallas, run_interpreted

from jaxdl.kernels import attention, attention_blockwise, attention_weights, available_implementations

BATCH, Q_LEN, KV_LEN, HEADS, KV_HEADS, DEPTH, V_DEPTH = 2, 7, 11, 4, 2, 8, 8
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape)


CASES = {
    "plain": {},
    "scale": {"scale": 0.3},
    "causal": {"is_causal": True},
    "window": {"local_window_size": (3, 1)},
    "causal window": {"local_window_size": 2, "is_causal": True},
    "softcap": {"softcap": 0.7},
    "bias": {"bias": normal(1, HEADS, Q_LEN, KV_LEN)},
    "bias of keys": {"bias": normal(BATCH, 1, 1, KV_LEN), "is_causal": True},
    "bias of queries, softcap": {"bias": normal(1, HEADS, Q_LEN, 1), "softcap": 2.0},
    "mask": {"mask": RNG.random((BATCH, 1, Q_LEN, KV_LEN)) < 0.3},
    "mask of heads": {"mask": RNG.random((1, HEADS, 1, KV_LEN)) < 0.5},
    "lengths": {"query_seq_lengths": np.array([7, 3]), "key_value_seq_lengths": np.array([0, 5])},
    "segments": {
        "query_segment_ids": RNG.integers(0, 3, (BATCH, Q_LEN)),
        "key_value_segment_ids": RNG.integers(0, 4, (BATCH, KV_LEN)),
    },
}
IMPLEMENTATIONS = ("reference", "blockwise", "xla")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(attention_blockwise, "BLOCK", 4)


def arguments(dtype=jnp.float64, q_len=Q_LEN, kv_len=KV_LEN):
    rng = np.random.default_rng(1)
    shapes = (
        (BATCH, q_len, HEADS, DEPTH),
        (BATCH, kv_len, KV_HEADS, DEPTH),
        (BATCH, kv_len, KV_HEADS, V_DEPTH),
    )
    return [jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def one_query_at_a_time(q, k, v, options):
    """The definition: for each query the keys that it sees, one after the other. Float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    batch, q_len, heads, depth = q.shape
    kv_len, group = k.shape[1], heads // k.shape[2]
    full = (batch, heads, q_len, kv_len)
    bias = np.broadcast_to(options.get("bias", np.zeros((1, 1, 1, 1))), full)
    mask = np.broadcast_to(options.get("mask", np.ones((1, 1, 1, 1), bool)), full)
    window = options.get("local_window_size")
    left, right = window if isinstance(window, tuple) else (window, window)
    output, residual = np.zeros((batch, q_len, heads, v.shape[-1])), np.full((batch, q_len, heads), -np.inf)
    for b in range(batch):
        for h in range(heads):
            for i in range(q_len):
                at = i + kv_len - q_len
                seen = []
                for j in range(kv_len):
                    if options.get("is_causal") and j > at:
                        continue
                    if window is not None and not at - left <= j <= at + right:
                        continue
                    if "query_seq_lengths" in options and i >= options["query_seq_lengths"][b]:
                        continue
                    if "key_value_seq_lengths" in options and j >= options["key_value_seq_lengths"][b]:
                        continue
                    if "query_segment_ids" in options and (
                        options["query_segment_ids"][b, i] != options["key_value_segment_ids"][b, j]
                    ):
                        continue
                    if mask[b, h, i, j]:
                        seen.append(j)
                if not seen:
                    continue
                x = k[b, seen, h // group] @ q[b, i, h] * options.get("scale", depth**-0.5)
                if "softcap" in options:
                    x = options["softcap"] * np.tanh(x / options["softcap"])
                x = x + bias[b, h, i, seen]
                weights = np.exp(x - x.max())
                output[b, i, h] = weights / weights.sum() @ v[b, seen, h // group]
                residual[b, i, h] = x.max() + np.log(weights.sum())
    return output, residual


def by_kernels(*arrays, **options):
    return attention(*arrays, implementation="pallas", return_residual=True, **options)


@pytest.mark.parametrize("implementation", [*IMPLEMENTATIONS, pytest.param("pallas", marks=needs_pallas)])
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_one_query_at_a_time(name, implementation, x64):
    options = CASES[name]
    if implementation == "pallas":  # weights and output are rounded to 8 bits; scores and sums are float32
        rounded = [np.asarray(x) for x in arguments(jnp.bfloat16)]
        found, (output, residual) = (
            run_interpreted(by_kernels, *rounded, **options),
            one_query_at_a_time(*rounded, options),
        )
        np.testing.assert_allclose(found[0].astype(np.float64), output, atol=2.0**-8 * np.abs(output).max() * 2)
        np.testing.assert_allclose(found[1], residual, rtol=1e-5, atol=1e-5)
        return
    q, k, v = arguments(jnp.float32 if implementation == "xla" else jnp.float64)
    arrays = {key: jnp.asarray(x) if isinstance(x, np.ndarray) else x for key, x in options.items()}
    if "bias" in arrays:
        arrays["bias"] = arrays["bias"].astype(q.dtype)
    wants_residual = implementation != "xla"
    if reason := available_implementations(q, k, v, return_residual=wants_residual, **arrays)[implementation]:
        assert "softcap" in reason
        assert "softcap" in options
        with pytest.raises(ValueError, match=r"cannot do this attention: .*softcap"):
            attention(q, k, v, implementation=implementation, **arrays)
        return
    got = attention(q, k, v, implementation=implementation, return_residual=wants_residual, **arrays)
    output, residual = one_query_at_a_time(q, k, v, options)
    if not wants_residual:
        np.testing.assert_allclose(got, output, atol=2e-6)
        return
    np.testing.assert_allclose(got[0], output, atol=1e-13)
    np.testing.assert_allclose(got[1], residual, atol=1e-13)


def gradients(implementation, options, with_residual=True):
    q, k, v = arguments()
    options = {key: jnp.asarray(x) if isinstance(x, np.ndarray) else x for key, x in options.items()}
    bias = options.pop("bias", jnp.zeros((1, 1, 1, 1)))
    rng = np.random.default_rng(2)
    along_output, along_residual = (
        rng.standard_normal((BATCH, Q_LEN, HEADS, V_DEPTH)),
        rng.standard_normal((BATCH, Q_LEN, HEADS)),
    )

    def scalar(q, k, v, bias):
        output, residual = attention(q, k, v, bias, implementation=implementation, return_residual=True, **options)
        total = jnp.sum(output * along_output)
        if with_residual:
            total += jnp.sum(jnp.where(jnp.isfinite(residual), residual, 0) * along_residual)
        return total

    return scalar, (q, k, v, bias)


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_the_reference_are_those_of_finite_differences(name, x64):
    scalar, arrays = gradients("reference", CASES[name])
    jax.test_util.check_grads(jax.jit(scalar), arrays, order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6, eps=1e-5)


@pytest.mark.parametrize("name", [*CASES, "dropped residual"])
def test_blockwise_has_the_gradients_of_the_reference(name, x64):
    options = CASES.get(name, {"is_causal": True})
    found = []
    for implementation in ("reference", "blockwise"):
        scalar, arrays = gradients(implementation, options, with_residual=name in CASES)
        found.append(jax.jit(jax.grad(scalar, argnums=(0, 1, 2, 3)))(*arrays))
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-12), *found)
    assert all(np.abs(x).max() > 1e-3 for x in found[0][:3])


@pytest.mark.parametrize("implementation", ["reference", "blockwise"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_equals_pytorch(implementation, is_causal, x64):
    torch = pytest.importorskip("torch")
    q, k, v = arguments(q_len=6, kv_len=6)
    mask = np.random.default_rng(3).random((BATCH, 1, 6, 6)) < 0.7
    mask[..., 0] = True
    along = np.random.default_rng(4).standard_normal((BATCH, 6, HEADS, V_DEPTH))

    theirs = [torch.tensor(np.asarray(x).transpose(0, 2, 1, 3), requires_grad=True) for x in (q, k, v)]
    theirs_mask = torch.tensor(mask & np.tril(np.ones((6, 6), bool)) if is_causal else mask)
    expected = torch.nn.functional.scaled_dot_product_attention(*theirs, attn_mask=theirs_mask, enable_gqa=True)
    expected.backward(torch.tensor(along.transpose(0, 2, 1, 3)))

    def attend(q, k, v):
        return attention(q, k, v, mask=jnp.asarray(mask), is_causal=is_causal, implementation=implementation)

    output, pull = jax.vjp(attend, q, k, v)
    np.testing.assert_allclose(output, expected.detach().numpy().transpose(0, 2, 1, 3), atol=1e-13)
    for ours, x in zip(pull(jnp.asarray(along)), theirs, strict=True):
        np.testing.assert_allclose(ours, x.grad.numpy().transpose(0, 2, 1, 3), atol=1e-12)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_what_sees_nothing_is_zero_and_so_are_its_gradients(implementation):
    q, k, v = arguments(jnp.float32)
    mask = jnp.ones((BATCH, 1, Q_LEN, KV_LEN), bool).at[0].set(False).at[1, 0, 2].set(False)

    def scalar(q, k, v):
        output = attention(q, k, v, mask=mask, implementation=implementation)
        return jnp.sum(output**2 + output), output

    grads, output = jax.grad(scalar, argnums=(0, 1, 2), has_aux=True)(q, k, v)
    assert not output[0].any()
    assert not output[1, 2].any()
    assert output[1, 1].any()
    assert all(np.isfinite(x).all() for x in grads)
    assert not any(x[0].any() for x in grads)
    assert not grads[0][1, 2].any()
    assert grads[1][1].any()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_bias_of_all_keys_changes_nothing(implementation):
    """Of whatever size: the sum of a row must not get lost beside it."""
    q, k, v = arguments(jnp.float32)

    def gradient(size):
        bias = jnp.full((1, 1, 1, KV_LEN), size)
        return jax.grad(lambda v: attention(0 * q, k, v, bias, implementation=implementation).sum())(v)

    np.testing.assert_allclose(gradient(-1e9), gradient(0.0), atol=1e-5)


@pytest.mark.parametrize(("dtype", "size"), [("float32", 100.0), ("float16", 12.0)])
def test_rows_that_fill_a_block_have_no_gradient(dtype, size):
    """Seven queries in blocks of four: a large bias of all of them reaches the eighth, which is nobody."""
    q, k, v = arguments(dtype)
    bias = jnp.full((1, 1, 1, KV_LEN), size)

    def gradients(implementation):
        def loss(*arrays):
            return jnp.sum(attention(*arrays, implementation=implementation).astype(jnp.float32) ** 2)

        return jax.grad(loss, argnums=(0, 1, 2, 3))(q, k, v, bias)

    for ours, expected in zip(gradients("blockwise"), gradients("reference"), strict=True):
        tolerance = 64 * float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("low", [-jnp.inf, float(jnp.finfo(jnp.float32).min)])
def test_the_lowest_bias_lets_nobody_see_what_the_mask_hides(implementation, low):
    q, k, v = arguments(jnp.float32)
    shown = jnp.arange(KV_LEN).reshape(1, 1, 1, KV_LEN) < 2
    bias = jnp.where(shown, low, 0.0)
    output = attention(q, k, v, bias, shown, implementation=implementation)
    np.testing.assert_array_equal(
        output, attention(q, k, v.at[:, 2:].set(1e3), bias, shown, implementation=implementation)
    )
    expected = jnp.zeros_like(output)
    if low > -jnp.inf:
        expected += jnp.repeat(v[:, :2].mean(1, keepdims=True), HEADS // KV_HEADS, 2)
    np.testing.assert_allclose(output, expected, atol=1e-6)
    hidden = attention(q, k, v, jnp.full_like(bias, -jnp.inf), implementation=implementation)
    assert not hidden.any()


def test_the_mean_of_very_many_values_in_float16():
    """Each weight is 2e-6, a subnormal number there."""
    q, k = jnp.zeros((1, 1, 1, 1), jnp.float16), jnp.zeros((1, 500_000, 1, 1), jnp.float16)
    assert attention(q, k, jnp.ones_like(k), implementation="reference") == 1


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_scale_can_be_learned(implementation):
    q, k, v = arguments(jnp.float32)

    def loss(scale):
        return jnp.sum(attention(q, k, v, scale=scale, implementation=implementation) ** 2)

    expected = (loss(0.31) - loss(0.29)) / 0.02
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(0.3), expected, rtol=1e-2)


@pytest.mark.parametrize("name", ["scale", "softcap", "dropout_rate"])
def test_numbers_of_numpy_widen_nothing(name, x64):
    q, k, v = arguments(jnp.float32)
    bias = jnp.zeros((1, 1, Q_LEN, KV_LEN), jnp.float32)
    options = {name: np.float64(0.5), "dropout_key": jax.random.key(0), "return_residual": True}
    for implementation in ("reference", "blockwise"):

        def outputs(q, bias, implementation=implementation):
            return attention(q, k, v, bias, implementation=implementation, **options)

        assert {x.dtype for x in outputs(q, bias)} == {jnp.dtype(jnp.float32)}
        assert {x.dtype for x in jax.grad(lambda *x: outputs(*x)[0].sum(), (0, 1))(q, bias)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.filterwarnings("error")
def test_arrays_and_whole_numbers_of_numpy(implementation):
    x, window = np.ones((1, 3, 2, 4)), (np.int64(1), 1)
    assert attention(x, x, x, local_window_size=window, implementation=implementation).dtype == jnp.float32


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@settings(max_examples=8, deadline=None)
@given(cut=st.integers(1, KV_LEN - 1), seed=st.integers(0, 100))
def test_causality(implementation, cut, seed):
    """Keys and values from `cut` on, replaced, change no earlier output; earlier outputs send them no gradient."""
    q, k, v = arguments(jnp.float32, q_len=KV_LEN)
    key = jax.random.key(seed)
    changed = [x.at[:, cut:].set(jax.random.normal(key, x[:, cut:].shape)) for x in (k, v)]
    attend = jax.jit(lambda q, k, v: attention(q, k, v, is_causal=True, implementation=implementation))
    np.testing.assert_array_equal(attend(q, k, v)[:, :cut], attend(q, *changed)[:, :cut])
    grads = jax.grad(lambda k, v: jnp.sum(attend(q, k, v)[:, :cut] ** 2), argnums=(0, 1))(k, v)
    assert not any(x[:, cut:].any() for x in grads)
    assert grads[1][:, :cut].any()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_padding_changes_nothing(implementation):
    q, k, v = arguments(jnp.float32)
    lengths = jnp.array([5, 9])

    def attend(q, k, v):
        return attention(q, k, v, key_value_seq_lengths=lengths, implementation=implementation)

    padding = jnp.arange(KV_LEN)[None, :, None, None] >= lengths[:, None, None, None]
    other = [jnp.where(padding, 1e3, x) for x in (k, v)]
    np.testing.assert_array_equal(attend(q, k, v), attend(q, *other))
    short = attention(q[:1], k[:1, :5], v[:1, :5], implementation=implementation)
    np.testing.assert_allclose(attend(q, k, v)[:1], short, atol=1e-6)
    grads = jax.grad(lambda k, v: jnp.sum(attend(q, k, v) ** 2), argnums=(0, 1))(*other)
    assert not any(jnp.where(padding, x, 0).any() for x in grads)


@pytest.mark.parametrize("implementation", ["reference", "blockwise"])
def test_dropout(implementation):
    """With the identity as value the output is the weights: those that stay are scaled, and the share is the rate."""
    length, rate = 24, 0.25
    q, k = (jax.random.normal(jax.random.key(i), (2, length, 3, 4)) for i in range(2))
    v = jnp.broadcast_to(jnp.eye(length)[None, :, None], (2, length, 3, length))
    attend = jax.jit(lambda key: attention(q, k, v, dropout_rate=rate, dropout_key=key, implementation=implementation))
    dropped, plain = attend(jax.random.key(2)), attention(q, k, v, implementation=implementation)
    stays = dropped != 0
    np.testing.assert_allclose(dropped[stays], plain[stays] / (1 - rate), rtol=1e-5)
    assert abs(1 - stays.mean() - rate) < 4 * (rate * (1 - rate) / stays.size) ** 0.5
    assert (attend(jax.random.key(2)) == dropped).all()
    assert (attend(jax.random.key(3)) != dropped).any()


def test_gradients_under_dropout_are_those_of_finite_differences(x64):
    q, k, v = arguments()
    for implementation in ("reference", "blockwise"):
        options = {"dropout_rate": 0.4, "dropout_key": jax.random.key(5), "softcap": 1.5}
        f = jax.jit(lambda *x, i=implementation, o=options: jnp.sum(jnp.sin(attention(*x, implementation=i, **o))))
        jax.test_util.check_grads(f, (q, k, v), order=1, modes=("rev",), atol=1e-6, rtol=1e-6, eps=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_dtype_and_vmap(implementation):
    q, k, v = arguments(jnp.float32)
    half = attention(*(x.astype(jnp.bfloat16) for x in (q, k, v)), implementation=implementation)
    whole = attention(q, k, v, implementation=implementation)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), whole, atol=4 * 2**-8)
    one_by_one = jax.vmap(lambda *x: attention(*(y[None] for y in x), implementation=implementation)[0])(q, k, v)
    np.testing.assert_allclose(one_by_one, whole, atol=1e-6)


@pytest.mark.parametrize("implementation", ["reference", "blockwise"])
@pytest.mark.parametrize(("batch", "q_len", "kv_len"), [(0, 3, 3), (2, 0, 3), (2, 3, 0), (1, 1, 1)])
def test_edges(implementation, batch, q_len, kv_len):
    q, k, v = (jnp.ones((batch, n, 2, 4)) for n in (q_len, kv_len, kv_len))
    output, residual = attention(q, k, v, is_causal=True, implementation=implementation, return_residual=True)
    assert output.shape == (batch, q_len, 2, 4)
    assert residual.shape == (batch, q_len, 2)
    np.testing.assert_array_equal(output, np.ones(output.shape) if kv_len else np.zeros(output.shape))


def test_long_sequences_are_done_blockwise():
    """None picks by the number of scores, and says so in its docstring."""

    def count(n):
        return str(jax.make_jaxpr(lambda x: attention(x, x, x))(jax.ShapeDtypeStruct((1, n, 1, 4), jnp.float32))).count(
            "custom_vjp_call"
        )

    assert count(1024) == 0
    assert count(1025) >= 1


def test_weights_are_what_the_values_are_averaged_with(x64):
    q, k, v = arguments()
    mask = jnp.asarray(CASES["mask"]["mask"])
    weights = attention_weights(q, k, mask=mask, is_causal=True)
    assert weights.shape == (BATCH, HEADS, Q_LEN, KV_LEN)
    pooled = jnp.einsum("bhts,bshv->bthv", weights, jnp.repeat(v, HEADS // KV_HEADS, 2))
    np.testing.assert_allclose(pooled, attention(q, k, v, mask=mask, is_causal=True), atol=1e-13)
    np.testing.assert_allclose(weights.sum(-1)[weights.sum(-1) > 0], 1, atol=1e-13)


BAD = {
    "query: expected floating": lambda q, k, v: attention(q[0], k, v),
    "query: expected floating .*int32": lambda q, k, v: attention(q.astype(jnp.int32), k, v),
    "expected one dtype": lambda q, k, v: attention(q, k, v.astype(jnp.bfloat16)),
    "key: expected the batch 2 and the depth 8": lambda q, k, v: attention(q, k[..., :4], v),
    "value: expected": lambda q, k, v: attention(q, k, v[:, 1:]),
    "divides the 4 of query, got 3": lambda q, k, v: attention(q, *(jnp.ones((BATCH, KV_LEN, 3, DEPTH)),) * 2),
    r"mask: expected boolean \[2, 4, 7, 11\]": lambda q, k, v: attention(q, k, v, mask=jnp.ones((7, 11), bool)),
    "mask: expected boolean": lambda q, k, v: attention(q, k, v, mask=jnp.ones((1, 1, 7, 11))),
    "bias: expected floating": lambda q, k, v: attention(q, k, v, jnp.ones((1, 3, 7, 11))),
    "expected both or none": lambda q, k, v: attention(q, k, v, query_segment_ids=jnp.ones((2, 7), int)),
    r"key_value_seq_lengths: expected integer \[2\]": lambda q, k, v: attention(
        q, k, v, key_value_seq_lengths=jnp.ones(3, int)
    ),
    "local_window_size: expected": lambda q, k, v: attention(q, k, v, local_window_size=-1),
    "local_window_size: expected .*; got 2.0": lambda q, k, v: attention(q, k, v, local_window_size=2.0),
    r"scale: expected one number, got \[4\]": lambda q, k, v: attention(q, k, v, scale=jnp.ones(4)),
    "softcap: expected a positive": lambda q, k, v: attention(q, k, v, softcap=0.0),
    "softcap: expected a positive number, got inf": lambda q, k, v: attention(q, k, v, softcap=float("inf")),
    r"dropout_rate: expected a number in \[0, 1\)": lambda q, k, v: attention(q, k, v, dropout_rate=1.0),
    "dropout_key: .* needs one": lambda q, k, v: attention(q, k, v, dropout_rate=0.5),
    "implementation: expected None or one of reference, blockwise, xla, cudnn, pallas": lambda q, k, v: attention(
        q, k, v, implementation="triton"
    ),
    "'xla' cannot do this attention: .* no dropout": lambda q, k, v: attention(
        q, k, v, dropout_rate=0.5, dropout_key=jax.random.key(0), implementation="xla"
    ),
    "'cudnn' cannot do this attention: cuDNN needs an NVIDIA GPU": lambda q, k, v: attention(
        q, k, v, implementation="cudnn"
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_errors(message):
    with pytest.raises(ValueError, match=message):
        BAD[message](*arguments(jnp.float32))


@pytest.mark.optimized
def test_memory_of_the_gradient_of_8192_tokens():
    """Dense attention takes 2.2 GB here. A plain sum would not do: XLA folds its constant gradient."""
    code = """
        import jax, jax.numpy as jnp
        from jaxdl.kernels import attention
        x = jax.ShapeDtypeStruct((1, 8192, 2, 64), jnp.float32)
        loss = lambda *x: jnp.sum(attention(*x, is_causal=True, implementation="blockwise") ** 2)
        compiled = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(x, x, x).compile()
        print(compiled.memory_analysis().temp_size_in_bytes)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64e6
