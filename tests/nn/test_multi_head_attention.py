"""The layer around attention: PyTorch's numbers, the book's shapes, the cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def test_equals_pytorch(x64):
    """`nn.MultiheadAttention` with copied weights, a mask and padding: outputs, weights and gradients."""
    torch = pytest.importorskip("torch")
    features, heads, lengths = 12, 3, np.array([5, 3])
    x, memory = normal(2, 4, features), normal(2, 5, features, seed=1)
    mask = np.random.default_rng(2).random((4, 5)) < 0.7
    mask[:, 0] = True
    theirs = torch.nn.MultiheadAttention(features, heads, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.tensor(np.asarray(normal(*parameter.shape, seed=parameter.numel()))))
    kernels, biases = (np.split(x.detach().numpy(), 3) for x in (theirs.in_proj_weight, theirs.in_proj_bias))
    params = {name: {"kernel": kernels[i].T, "bias": biases[i]} for i, name in enumerate(("query", "key", "value"))}
    params["out"] = {"kernel": theirs.out_proj.weight.detach().numpy().T, "bias": theirs.out_proj.bias.detach().numpy()}

    theirs_x = torch.tensor(np.asarray(x), requires_grad=True)
    theirs_memory = torch.tensor(np.asarray(memory), requires_grad=True)
    padding = torch.tensor(np.arange(5)[None] >= lengths[:, None])
    expected, weights = theirs(
        theirs_x, theirs_memory, theirs_memory, key_padding_mask=padding, attn_mask=torch.tensor(~mask),
        average_attn_weights=False,
    )  # fmt: skip
    (expected**2).sum().backward()

    layer = nn.MultiHeadAttention(heads, use_bias=True)

    def forward(params, x, memory):
        return layer.apply(
            {"params": params}, x, memory, mask=jnp.asarray(mask)[None, None], memory_lengths=jnp.asarray(lengths),
            mutable=["intermediates"],
        )  # fmt: skip

    output, state = forward(params, x, memory)
    np.testing.assert_allclose(output, expected.detach().numpy(), atol=1e-12)
    found = state["intermediates"]["attention_weights"][0]
    np.testing.assert_allclose(found, weights.detach().numpy(), atol=1e-12)
    grads = jax.grad(lambda *a: (forward(*a)[0] ** 2).sum(), argnums=(0, 1, 2))(params, x, memory)
    np.testing.assert_allclose(grads[1], theirs_x.grad.numpy(), atol=1e-10)
    np.testing.assert_allclose(grads[2], theirs_memory.grad.numpy(), atol=1e-10)
    ours = np.concatenate([grads[0][name]["kernel"].T for name in ("query", "key", "value")])
    np.testing.assert_allclose(ours, theirs.in_proj_weight.grad.numpy(), atol=1e-10)
    np.testing.assert_allclose(grads[0]["out"]["bias"], theirs.out_proj.bias.grad.numpy(), atol=1e-10)


def test_shapes_of_the_book():
    """D2L 11.5: hidden 100, 5 heads, no bias."""
    layer, x, y = nn.MultiHeadAttention(5), jnp.ones((2, 4, 100)), jnp.ones((2, 6, 100))
    output, variables = jax.eval_shape(
        lambda: layer.init_with_output(jax.random.key(0), x, y, memory_lengths=jnp.array([3, 2]))
    )
    assert output.shape == (2, 4, 100)
    assert nn.parameter_count(variables) == 4 * 100 * 100


def test_grouped_queries_are_repeated_keys_and_values(x64):
    x = normal(2, 5, 12)
    grouped, plain = nn.MultiHeadAttention(6, num_kv_heads=2), nn.MultiHeadAttention(6)
    params = grouped.init(jax.random.key(0), x)["params"]
    assert params["key"]["kernel"].shape == (12, 4)
    repeated = dict(params)
    for name in ("key", "value"):
        kernel = params[name]["kernel"].reshape(12, 2, 2)
        repeated[name] = {"kernel": jnp.repeat(kernel, 3, axis=1).reshape(12, 12)}
    ours = grouped.apply({"params": params}, x, is_causal=True)
    np.testing.assert_allclose(ours, plain.apply({"params": repeated}, x, is_causal=True), atol=1e-13)


@pytest.mark.parametrize("options", [{}, {"num_kv_heads": 1}, {"rotary": True}])
def test_the_cache_gives_what_the_whole_sequence_gives(options, x64, compilations):
    """Prompts of different lengths, their padding hidden by a mask; then one token of each after the other."""
    layer, x, lengths, size = nn.MultiHeadAttention(2, **options), normal(2, 7, 8), np.array([4, 2]), 7
    params = layer.init(jax.random.key(0), x)
    whole = layer.apply(params, x, is_causal=True)
    slots = jnp.arange(size)[None]
    mask = ((slots < lengths[:, None]) | (slots >= 4))[:, None, None]

    step = jax.jit(lambda cache, x, at: layer.apply(params, x, mask=mask, positions=at, cache=cache))
    empty = nn.KVCache.empty(2, size, options.get("num_kv_heads", 2), 4, x.dtype)
    got, cache = step(empty, x[:, :4], jnp.broadcast_to(jnp.arange(4), (2, 4)))
    np.testing.assert_allclose(got[0], whole[0, :4], atol=1e-13)
    np.testing.assert_allclose(got[1, :2], whole[1, :2], atol=1e-13)
    x, whole, rows = np.asarray(x), np.asarray(whole), np.arange(2)
    for turn in range(3):
        at = lengths + turn
        before = len(compilations)
        got, cache = step(cache, x[rows, at][:, None], at[:, None])
        assert turn == 0 or len(compilations) == before
        np.testing.assert_allclose(np.asarray(got)[:, 0], whole[rows, at], atol=1e-13)
    assert cache.end == size
    assert np.isnan(step(cache, x[:, :1], lengths[:, None])[0]).all()  # no room: not an answer from what is there


def test_one_product_for_queries_keys_and_values(x64):
    """The three kernels side by side give the same, with grouped heads, biases and a cache too."""
    fields = {"num_heads": 4, "num_kv_heads": 2, "use_bias": True}
    apart, fused = nn.MultiHeadAttention(**fields), nn.MultiHeadAttention(**fields, fused=True)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 3, 8)))
    shapes = jax.eval_shape(apart.init, jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)), shapes)
    names = ("query", "key", "value")
    joined = {leaf: jnp.concatenate([params[name][leaf] for name in names], -1) for leaf in ("kernel", "bias")}
    both = {"params": params}, {"params": {"query_key_value": joined, "out": params["out"]}}
    shape_of = jax.eval_shape(fused.init, jax.random.key(0), x)["params"]["query_key_value"]["kernel"].shape
    assert shape_of == joined["kernel"].shape == (8, 16)
    for options in ({"is_causal": True}, {"cache": nn.KVCache.empty(2, 5, 2, 2, jnp.float64)}):
        expected, found = (m.apply(v, x, **options) for m, v in zip((apart, fused), both, strict=True))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), found, expected)
    with pytest.raises(ValueError, match="memory: fused projections belong to attention of a sequence to itself"):
        fused.init(jax.random.key(0), x, x)


def test_a_cache_of_another_size():
    layer, x = nn.MultiHeadAttention(2), jnp.asarray(np.random.default_rng(0).standard_normal((1, 3, 4)), jnp.float32)
    params = layer.init(jax.random.key(0), x)
    _, cache = layer.apply(params, x[:, :2], cache=nn.KVCache.empty(1, 5, 2, 2))
    expected, _ = layer.apply(params, x[:, 2:], cache=cache)
    call = jax.jit(lambda cache: layer.apply(params, x[:, 2:], cache=cache))
    for size in (3, 5, 8):
        output, after = call(cache.resized(size))
        np.testing.assert_allclose(output, expected, atol=1e-6)
        assert after.key.shape == after.value.shape == (1, 2, size, 2)
        assert after.end == 3
    lost = cache.resized(1).resized(5)  # a token is gone for good
    assert np.isnan(call(lost)[0]).all()


def test_rotary_positions_are_the_slots_of_the_cache_by_default(x64):
    layer, x = nn.MultiHeadAttention(2, rotary=True), normal(2, 5, 8)
    params, cache = layer.init(jax.random.key(0), x), nn.KVCache.empty(2, 5, 2, 4, x.dtype)
    first, cache = layer.apply(params, x[:, :3], cache=cache)
    last, cache = layer.apply(params, x[:, 3:], cache=cache)
    whole = layer.apply(params, x, is_causal=True)
    np.testing.assert_allclose(jnp.concatenate([first, last], axis=1), whole, atol=1e-13)


def test_dropout_is_on_in_training_only():
    layer, x = nn.MultiHeadAttention(2, dropout_rate=0.5), normal(1, 6, 8).astype(jnp.float32)
    params = layer.init(jax.random.key(0), x)
    plain = layer.apply(params, x)
    draws = [layer.apply(params, x, train=True, rngs={"dropout": jax.random.key(i)}) for i in (1, 1, 2)]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).any()
    assert (draws[0] != plain).any()


def test_dtype():
    layer, x = nn.MultiHeadAttention(2, dtype=jnp.bfloat16), jnp.ones((1, 3, 4))
    params = layer.init(jax.random.key(0), x)
    assert layer.apply(params, x).dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}


ERRORS = {
    "num_heads: expected at least 1, got 0": lambda x: nn.MultiHeadAttention(0),
    "num_kv_heads: expected a divisor of 4 heads, got 3": lambda x: nn.MultiHeadAttention(4, num_kv_heads=3),
    "query, memory: expected .* got \\[\\] and None": lambda x: nn.MultiHeadAttention(2).init(
        jax.random.key(0), x[0, 0, 0]
    ),
    "num_heads: expected a divisor of 8 features, got 3": lambda x: nn.MultiHeadAttention(3).init(jax.random.key(0), x),
    "query, memory: expected": lambda x: nn.MultiHeadAttention(2).init(jax.random.key(0), x, x[:1]),
    r"mask: expected boolean \[2, 2, 5, 5\]": lambda x: nn.MultiHeadAttention(2).init(
        jax.random.key(0), x, mask=jnp.ones((5, 5), bool)
    ),
    r"positions: expected \[2, 5\]": lambda x: nn.MultiHeadAttention(2).init(
        jax.random.key(0), x, positions=jnp.arange(5)
    ),
    "memory: rotary positions": lambda x: nn.MultiHeadAttention(2, rotary=True).init(jax.random.key(0), x, x),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors(message):
    with pytest.raises(ValueError, match=message):
        ERRORS[message](jnp.ones((2, 5, 8)))


def test_more_tokens_than_the_cache_holds():
    layer, x = nn.MultiHeadAttention(2), jnp.ones((1, 3, 4))
    params, cache = layer.init(jax.random.key(0), x), nn.KVCache.empty(1, 2, 2, 2)
    with pytest.raises(ValueError, match=r"cache: expected \[1, 2, at least 3, 2\] .* got \[1, 2, 2, 2\]"):
        layer.apply(params, x, cache=cache)
    half = nn.KVCache.empty(1, 3, 2, 2, jnp.bfloat16)
    with pytest.raises(ValueError, match=r"cache: expected float32, the type of these tokens' keys, .* got bfloat16"):
        layer.apply(params, x, cache=half)
    with pytest.raises(ValueError, match=r"cache: expected .* an end \[\], got .* \[1\]"):
        layer.apply(params, x, cache=nn.KVCache.empty(1, 3, 2, 2)._replace(end=jnp.zeros(1, int)))
    with pytest.raises(ValueError, match="cache: expected no memory with it"):
        layer.apply(params, x, x, cache=cache)
    with pytest.raises(ValueError, match="cache: expected room for 2 tokens, got 2 slots with 1 taken"):
        layer.apply(params, x[:, :2], cache=cache._replace(end=jnp.int32(1)))


@pytest.mark.parametrize("mask", [np.ones((2, 3), bool), np.ones((2, 1, 3), bool), np.ones((1, 1, 2, 3))])
@pytest.mark.parametrize("tokens", [1, 2])
def test_a_mask_beside_a_cache_has_four_axes(tokens, mask):
    layer, x, cache = nn.MultiHeadAttention(2), jnp.ones((1, tokens, 4)), nn.KVCache.empty(1, 3, 2, 2)
    message = rf"mask: expected boolean \[1, 2, {tokens}, 3"
    with jax.numpy_rank_promotion("allow"), pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: layer.init(jax.random.key(0), x, mask=mask, cache=cache))
