"""Kernel regression, masked softmax, additive attention, and the small layers of a transformer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxdl import nn

KERNELS = {
    nn.gaussian_kernel: lambda d: np.exp(-(d**2) / 2),
    nn.boxcar_kernel: lambda d: np.abs(d) < 1,
    nn.constant_kernel: lambda d: d == d,
    nn.epanechikov_kernel: lambda d: np.maximum(1 - np.abs(d), 0),
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("width", [0.5, 2.0])
def test_kernel_regression_one_query_at_a_time(kernel, width, x64):
    rng = np.random.default_rng(0)
    key, value, query = np.sort(rng.random(40) * 5), rng.standard_normal(40), np.arange(0, 5, 0.5)
    estimate, weights = nn.kernel_regression(*map(jnp.asarray, (query, key, value)), kernel, width)
    for i, q in enumerate(query):
        similarity = KERNELS[kernel]((q - key) / width).astype(float)
        np.testing.assert_allclose(weights[i], similarity / similarity.sum(), atol=1e-12)
        np.testing.assert_allclose(estimate[i], similarity @ value / similarity.sum(), atol=1e-12)


def test_kernel_regression_of_several_features_and_of_nothing(x64):
    key = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    estimate, weights = nn.kernel_regression(key[:1], key, jnp.eye(2))
    np.testing.assert_allclose(weights, [[1 / (1 + np.exp(-12.5)), np.exp(-12.5) / (1 + np.exp(-12.5))]], rtol=1e-12)
    np.testing.assert_allclose(estimate, weights)
    far, weights = nn.kernel_regression(key + 10, key, jnp.ones(2), nn.boxcar_kernel)
    assert not far.any()
    assert not weights.any()


@pytest.mark.parametrize("features", [(), (2,)])
def test_gradients_of_kernel_regression_where_a_query_is_a_key(features, x64):
    """The distance has a kink there, the Gaussian kernel of it has none."""
    rng = np.random.default_rng(0)
    x, value = (jnp.asarray(rng.standard_normal((4, *shape))) for shape in (features, ()))
    jax.test_util.check_grads(
        lambda query, key, width: nn.kernel_regression(query, key, value, width=width)[0],
        (x, x, 0.7), 1, ["rev"], 1e-6, 1e-6,
    )  # fmt: skip
    width = jax.jit(jax.grad(lambda width: nn.kernel_regression(x, x, value, width=width)[0].sum()))
    assert np.isfinite(width(0.7))


def test_masked_softmax():
    """D2L 11.3: one length an example, or one a row; what is masked is exactly zero."""
    scores = jnp.asarray(np.random.default_rng(0).standard_normal((2, 2, 4)), jnp.float32)
    weights = nn.masked_softmax(scores, jnp.array([2, 3]))
    np.testing.assert_allclose(weights[0, :, :2], scipy.special.softmax(scores[0, :, :2], -1), rtol=1e-5)
    np.testing.assert_allclose(weights[1, :, :3], scipy.special.softmax(scores[1, :, :3], -1), rtol=1e-5)
    assert not weights[0, :, 2:].any()
    per_row = nn.masked_softmax(scores, jnp.array([[1, 3], [2, 0]]))
    np.testing.assert_array_equal(per_row[0, 0], [1, 0, 0, 0])
    np.testing.assert_array_equal(per_row[1, 1], np.zeros(4))
    by_mask = nn.masked_softmax(scores, mask=jnp.arange(4)[None, None] < jnp.array([2, 3])[:, None, None])
    np.testing.assert_array_equal(by_mask, weights)
    grads = jax.grad(lambda x: nn.masked_softmax(x, jnp.array([0, 4]))[..., 0].sum())(scores)
    assert np.isfinite(grads).all()
    assert not grads[0].any()


def test_additive_attention_term_by_term(x64):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.standard_normal(s)) for s in ((2, 1, 20), (2, 10, 2), (2, 10, 4)))
    layer, lengths = nn.AdditiveAttention(8), jnp.array([2, 6])
    params = layer.init(jax.random.key(0), q, k, v)["params"]
    pooled, weights = layer.apply({"params": params}, q, k, v, lengths)
    assert pooled.shape == (2, 1, 4)
    for b in range(2):
        n = int(lengths[b])
        hidden = np.tanh(q[b, 0:1] @ params["query"]["kernel"] + k[b, :n] @ params["key"]["kernel"])
        expected = scipy.special.softmax(hidden @ params["score"]["kernel"][:, 0])
        np.testing.assert_allclose(weights[b, 0, :n], expected, atol=1e-12)
        assert not weights[b, 0, n:].any()
        np.testing.assert_allclose(pooled[b, 0], expected @ v[b, :n], atol=1e-12)


def test_additive_attention_computes_in_its_dtype():
    x = jnp.ones((1, 2, 3))
    (pooled, weights), variables = nn.AdditiveAttention(4, dtype=jnp.bfloat16).init_with_output(
        jax.random.key(0), x, x, x
    )
    assert pooled.dtype == weights.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


def test_feed_forward_and_rms_norm(x64):
    array = np.random.default_rng(0).standard_normal((2, 3, 4))
    x = jnp.asarray(array)
    layer = nn.FeedForward(4, 8)
    params = layer.init(jax.random.key(0), x)["params"]
    expected = np.maximum(x @ params["hidden"]["kernel"], 0) @ params["out"]["kernel"]
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, atol=1e-12)  # [2, 3, 8]; biases are zero

    gated = nn.FeedForward(5, activation=jax.nn.silu, gated=True, use_bias=False)
    params = gated.init(jax.random.key(0), x)["params"]
    hidden, gate = x @ params["hidden"]["kernel"], x @ params["gate"]["kernel"]
    expected = (hidden * scipy.special.expit(hidden) * gate) @ params["out"]["kernel"]
    np.testing.assert_allclose(gated.apply({"params": params}, x), expected, atol=1e-12)

    norm = nn.RMSNorm()
    got = norm.apply({"params": {"scale": jnp.arange(4.0)}}, x)
    np.testing.assert_allclose(
        got, array / np.sqrt((array**2).mean(-1, keepdims=True) + 1e-6) * np.arange(4), atol=1e-12
    )
    assert norm.apply({"params": {"scale": jnp.ones(4, jnp.float32)}}, x.astype(jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("query, key: expected", lambda x: nn.kernel_regression(x, x[0], x)),
        ("value: expected 3", lambda x: nn.kernel_regression(x[0, :, 0], x[0, :, 0], x[0, 0])),
        ("width: expected a positive", lambda x: nn.kernel_regression(x[0], x[0], x[0], width=0.0)),
        ("lengths: expected integer", lambda x: nn.masked_softmax(x, jnp.ones(2))),
        ("mask: expected boolean", lambda x: nn.masked_softmax(x, mask=jnp.ones((3, 4), bool))),
        ("hidden_size: expected at least 1", lambda x: nn.AdditiveAttention(0)),
        ("value: expected 3 of them", lambda x: nn.AdditiveAttention(2).init(jax.random.key(0), x, x, x[:, :2])),
        ("hidden_size: expected at least 1", lambda x: nn.FeedForward(0)),
        ("epsilon: expected at least 0", lambda x: nn.RMSNorm(-1.0)),
        ("epsilon: expected at least 0", lambda x: nn.RMSNorm(float("nan"))),
        (r"dropout_rate: expected a number in \[0, 1\]", lambda x: nn.FeedForward(2, dropout_rate=-1.0)),
        (r"dropout_rate: expected a number in \[0, 1\]", lambda x: nn.AdditiveAttention(2, 1.5)),
        ("x: expected floating", lambda x: nn.RMSNorm().init(jax.random.key(0), jnp.ones((2, 0)))),
    ],
)
def test_errors(message, call):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((2, 3, 4)))
