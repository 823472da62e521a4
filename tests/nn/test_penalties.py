"""Penalties and masks see the weights and leave the biases alone."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import nn


def test_the_penalties_are_the_norms_of_the_weights(x64):
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape) for shape in ((3, 4), (4, 2))]
    params = {
        f"layer{i}": {"kernel": jnp.asarray(w), "bias": 100 + jnp.zeros(w.shape[1])} for i, w in enumerate(weights)
    }
    np.testing.assert_allclose(nn.l2_penalty(params), sum(np.linalg.norm(w) ** 2 for w in weights) / 2, rtol=1e-14)
    np.testing.assert_allclose(nn.l1_penalty(params), sum(np.linalg.norm(w.ravel(), 1) for w in weights), rtol=1e-14)
    slopes = jax.grad(nn.l2_penalty)(params)
    for i, w in enumerate(weights):
        np.testing.assert_allclose(slopes[f"layer{i}"]["kernel"], w)
        assert not slopes[f"layer{i}"]["bias"].any()


def test_the_mask_of_a_real_model():
    class Model(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x):
            x = flax.linen.Embed(5, 4)(x)
            return nn.MLP([2])(nn.BatchNorm()(x))

    params = Model().init(jax.random.key(0), jnp.zeros(3, jnp.int32))["params"]
    assert nn.weight_mask(params) == {
        "Embed_0": {"embedding": True},
        "BatchNorm_0": {"scale": False, "bias": False},
        "MLP_0": {"Dense_0": {"kernel": True, "bias": False}},
    }


def test_masks_of_stacked_blocks():
    """Their biases and scales have an axis of blocks more, and are no weights for it."""

    class Block(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x, train=False):
            return flax.linen.Dense(4)(nn.LayerNorm()(x))

    model = nn.RepeatedBlocks(Block(), 3)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 4)))["params"]
    flat = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    assert {leaf.ndim for leaf in flat.values()} == {2, 3}
    for mask in (nn.weight_mask, nn.kernel_mask):
        kept = {jax.tree_util.keystr(path) for path, kept in jax.tree_util.tree_leaves_with_path(mask(params)) if kept}
        assert kept == {name for name, leaf in flat.items() if leaf.ndim == 3}


def test_masks_of_arrays_without_names():
    assert nn.weight_mask([jnp.ones((2, 2)), jnp.ones(2)]) == [True, False]
    assert nn.weight_mask(jnp.ones((2, 2))) is True
    assert nn.kernel_mask([jnp.ones((2, 2))]) == [False]


def test_for_sgd_the_penalty_is_decay_of_the_weights(x64):
    """w <- (1 - learning_rate * rate) w - learning_rate * gradient (D2L 3.7); biases feel no decay."""
    learning_rate, rate = 0.1, 3.0
    params = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([5.0, 6.0])}
    x = jnp.array([[0.5], [2.0]])

    def loss(params):
        return jnp.sum(jnp.square(x @ params["kernel"] + params["bias"][None]))

    def after_a_step(optimizer, loss):
        updates, _ = optimizer.update(jax.grad(loss)(params), optimizer.init(params), params)
        return optax.apply_updates(params, updates)

    decay = optax.chain(optax.add_decayed_weights(rate, mask=nn.weight_mask), optax.sgd(learning_rate))
    decayed = after_a_step(decay, loss)
    penalised = after_a_step(optax.sgd(learning_rate), lambda p: loss(p) + rate * nn.l2_penalty(p))
    gradient = jax.grad(loss)(params)
    want = {
        "kernel": (1 - learning_rate * rate) * params["kernel"] - learning_rate * gradient["kernel"],
        "bias": params["bias"] - learning_rate * gradient["bias"],
    }
    for name in params:
        np.testing.assert_allclose(decayed[name], want[name], rtol=1e-14)
        np.testing.assert_allclose(penalised[name], want[name], rtol=1e-14)


@pytest.mark.parametrize("penalty", [nn.l1_penalty, nn.l2_penalty])
def test_the_sum_is_exact_below_float32_and_needs_a_weight(penalty):
    halves = {"kernel": jnp.ones((64, 64), jnp.bfloat16)}
    assert penalty(halves).dtype == jnp.float32
    assert float(penalty(halves)) == (4096 if penalty is nn.l1_penalty else 2048)
    with pytest.raises(ValueError, match="params: expected at least one array of two or more axes, got none"):
        penalty({"bias": jnp.ones(3)})
