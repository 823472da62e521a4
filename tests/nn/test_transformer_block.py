"""The transformer block against PyTorch's encoder and decoder layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn

FEATURES, HEADS, HIDDEN = 12, 3, 20


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def randomize(torch, module):
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.copy_(torch.tensor(np.asarray(normal(*parameter.shape, seed=i))))


def of_attention(theirs):
    kernels, biases = (np.split(x.detach().numpy(), 3) for x in (theirs.in_proj_weight, theirs.in_proj_bias))
    params = {name: {"kernel": kernels[i].T, "bias": biases[i]} for i, name in enumerate(("query", "key", "value"))}
    return params | {"out": of_dense(theirs.out_proj)}


def of_dense(theirs):
    return {"kernel": theirs.weight.detach().numpy().T, "bias": theirs.bias.detach().numpy()}


def of_norm(theirs):
    return {"scale": theirs.weight.detach().numpy(), "bias": theirs.bias.detach().numpy()}


@pytest.mark.parametrize("cross_attention", [False, True])
@pytest.mark.parametrize("pre_norm", [False, True])
def test_equals_pytorch(pre_norm, cross_attention, x64):
    """`nn.TransformerEncoderLayer` and, causal and with a memory, `nn.TransformerDecoderLayer`; padding in both."""
    torch = pytest.importorskip("torch")
    kind = torch.nn.TransformerDecoderLayer if cross_attention else torch.nn.TransformerEncoderLayer
    theirs = kind(
        FEATURES, HEADS, HIDDEN, dropout=0.0, activation="gelu", batch_first=True, norm_first=pre_norm,
        dtype=torch.float64,
    )  # fmt: skip
    randomize(torch, theirs)
    x, memory = normal(2, 5, FEATURES, seed=50), normal(2, 4, FEATURES, seed=51)
    lengths, memory_lengths = np.array([5, 3]), np.array([2, 4])
    padding = torch.tensor(np.arange(5)[None] >= lengths[:, None])
    theirs_x = torch.tensor(np.asarray(x), requires_grad=True)
    params = {
        "attention": of_attention(theirs.self_attn),
        "attention_norm": of_norm(theirs.norm1),
        "feed_forward": {"hidden": of_dense(theirs.linear1), "out": of_dense(theirs.linear2)},
        "feed_forward_norm": of_norm(theirs.norm3 if cross_attention else theirs.norm2),
    }
    options = {"lengths": jnp.asarray(lengths)}
    if cross_attention:
        params |= {
            "cross_attention": of_attention(theirs.multihead_attn),
            "cross_attention_norm": of_norm(theirs.norm2),
        }
        options |= {"memory": memory, "memory_lengths": jnp.asarray(memory_lengths), "is_causal": True}
        memory_padding = torch.tensor(np.arange(4)[None] >= memory_lengths[:, None])
        future = torch.tensor(np.triu(np.ones((5, 5), bool), 1))
        expected = theirs(
            theirs_x, torch.tensor(np.asarray(memory)), tgt_mask=future, tgt_key_padding_mask=padding,
            memory_key_padding_mask=memory_padding,
        )  # fmt: skip
    else:
        expected = theirs(theirs_x, src_key_padding_mask=padding)
    along = np.asarray(normal(2, 5, FEATURES, seed=52))
    (expected * torch.tensor(along)).sum().backward()

    block = nn.TransformerBlock(
        HEADS, HIDDEN, pre_norm, cross_attention, activation=lambda x: jax.nn.gelu(x, approximate=False)
    )
    output, pull = jax.vjp(lambda params, x: block.apply({"params": params}, x, **options), params, x)
    np.testing.assert_allclose(output, expected.detach().numpy(), atol=1e-10)
    of_params, of_x = pull(jnp.asarray(along))
    np.testing.assert_allclose(of_x, theirs_x.grad.numpy(), atol=1e-10)
    theirs_grad = theirs.linear1.weight.grad.numpy().T
    np.testing.assert_allclose(of_params["feed_forward"]["hidden"]["kernel"], theirs_grad, atol=1e-10)
    theirs_grad = np.split(theirs.self_attn.in_proj_weight.grad.numpy(), 3)[1].T
    np.testing.assert_allclose(of_params["attention"]["key"]["kernel"], theirs_grad, atol=1e-10)


def test_without_positions_it_is_equivariant_to_permutations(x64):
    """23.12: a transformer sees a set; rotary positions make it a sequence."""
    x, order = normal(1, 6, FEATURES), np.array([3, 1, 5, 0, 4, 2])
    for rotary in (False, True):
        block = nn.TransformerBlock(3, HIDDEN, rotary=rotary)
        params = block.init(jax.random.key(0), x)
        difference = np.abs(block.apply(params, x)[:, order] - block.apply(params, x[:, order])).max()
        assert (difference > 1e-3) if rotary else (difference < 1e-12)


def test_repeats(x64):
    """A scan over stacked blocks gives what the blocks give one after the other."""
    x, block = normal(2, 4, FEATURES), nn.TransformerBlock(HEADS, HIDDEN)
    stack = nn.RepeatedBlocks(block, 3)
    variables = stack.init(jax.random.key(0), x)
    expected = x
    for i in range(3):
        of_block = jax.tree.map(lambda leaf, i=i: leaf[i], variables["params"]["blocks"])
        expected = block.apply({"params": of_block}, expected)
    np.testing.assert_allclose(stack.apply(variables, x), expected, atol=1e-12)


@pytest.mark.parametrize("remat", ["none", "sqrt"])
def test_repeats_what_is_causal_and_padded(remat, x64):
    """Arguments by name reach every block, recomputed or not."""
    x, options = normal(2, 5, FEATURES), {"is_causal": True, "lengths": jnp.array([5, 3])}
    block = nn.TransformerBlock(HEADS, HIDDEN)
    stack = nn.RepeatedBlocks(block, 4, remat)
    variables = stack.init(jax.random.key(0), x, **options)

    def one_by_one(variables, x):
        for i in range(4):
            of_block = jax.tree.map(lambda leaf, i=i: leaf[i], variables["params"]["blocks"])
            x = block.apply({"params": of_block}, x, **options)
        return x

    found, expected = (
        jax.jit(jax.value_and_grad(lambda v, f=f: (f(v, x) ** 2).sum()))(variables)
        for f in (lambda v, x: stack.apply(v, x, **options), one_by_one)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), found, expected)


def test_parameters_and_activations_stay_float32_under_x64(x64):
    x = jnp.ones((1, 4, FEATURES), jnp.float32)
    block = nn.TransformerBlock(HEADS, HIDDEN, norm=nn.RMSNorm)
    y, variables = nn.RepeatedBlocks(block, 2).init_with_output(jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves((y, variables))} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("num_heads: expected at least 1, got 0", {"num_heads": 0}),
        ("hidden_size: expected at least 1, got 0", {"hidden_size": 0}),
        ("num_kv_heads: expected a divisor", {"num_kv_heads": HEADS + 1}),
        (r"dropout_rate: expected a number in \[0, 1\), got 1.0", {"dropout_rate": 1.0}),
    ],
)
def test_errors_at_construction(message, fields):
    with pytest.raises(ValueError, match=message):
        nn.TransformerBlock(**{"num_heads": HEADS, "hidden_size": HIDDEN, **fields})


def test_errors():
    x = jnp.ones((1, 2, FEATURES))
    with pytest.raises(ValueError, match="memory: expected none without cross_attention"):
        nn.TransformerBlock(HEADS, HIDDEN).init(jax.random.key(0), x, x)
    with pytest.raises(ValueError, match="memory: expected one, with cross_attention, got None"):
        nn.TransformerBlock(HEADS, HIDDEN, cross_attention=True).init(jax.random.key(0), x)
