"""The loss counts tokens, whatever stands in the padding."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

from jaxdl import nn
from jaxdl.data import random_partition
from jaxdl.nlp import GPT, RNNLanguageModel, next_token_prediction
from jaxdl.training import init_state, jit_step, make_step, sum_gradients

VOCAB = 4


class Bigrams(linen.Module):
    """A table of logits: the next token from the last alone."""

    @linen.compact
    def __call__(self, tokens, state=None, *, train=False):
        """Looks them up."""
        return self.param("table", linen.initializers.normal(1.0), (VOCAB, VOCAB))[tokens], state


def log_probabilities(params):
    table = np.asarray(params["table"], np.float64)
    return table - np.log(np.exp(table).sum(-1, keepdims=True))


def test_it_is_the_mean_over_tokens_of_minus_log_p():
    model = Bigrams()
    tokens = jnp.array([[0, 1, 2, 3], [3, 3, 0, 1]], jnp.int32)
    params = model.init(jax.random.key(0), tokens)["params"]
    loss_fn, eval_fn = next_token_prediction(model)
    loss, (metrics, model_state) = loss_fn(params, {}, {"tokens": tokens}, jax.random.key(0))
    table = log_probabilities(params)
    pairs = [(0, 1), (1, 2), (2, 3), (3, 3), (3, 0), (0, 1)]
    expected = -sum(table[pair] for pair in pairs)
    np.testing.assert_allclose(loss.total, expected, rtol=1e-6)
    assert loss.count == 6
    assert model_state == {}
    np.testing.assert_allclose(metrics["perplexity"].compute(), np.exp(expected / 6), rtol=1e-6)
    found = eval_fn(params, {}, {"tokens": tokens})
    np.testing.assert_allclose(found["loss"].compute(), expected / 6, rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 50])
def test_every_token_of_a_corpus_counts_once_whatever_the_batch(batch_size):
    corpus = np.random.default_rng(0).integers(0, VOCAB, 30)
    model = Bigrams()
    params = model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]
    eval_fn = jax.jit(next_token_prediction(model)[1])
    total = count = 0.0
    for batch in random_partition(corpus, batch_size, 4, train=False).batches(0):
        loss = eval_fn(params, {}, batch)["loss"]
        total, count = total + float(loss.total), count + float(loss.count)
    assert count == 29
    table = log_probabilities(params)
    np.testing.assert_allclose(total, -sum(table[pair] for pair in pairwise(corpus)), rtol=1e-5)


def test_padding_changes_no_loss_and_no_gradient():
    model, key = Bigrams(), jax.random.key(0)
    loss_fn, _ = next_token_prediction(model)
    tokens = np.array([[0, 1, 2], [2, 1, 0]], np.int32)
    params = model.init(key, tokens)["params"]
    gradients = jax.jit(sum_gradients(loss_fn))
    sums, _ = gradients(params, {}, {"tokens": tokens}, key)
    padded = np.array([[0, 1, 2, 3, 3], [2, 1, 0, 1, 1], [3, 3, 3, 3, 3]], np.int32)
    batch = {"tokens": padded, "length": np.array([2, 2, 4]), "mask": np.array([1.0, 1.0, 0.0], np.float32)}
    same, _ = gradients(params, {}, batch, key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), same, sums)


@pytest.mark.parametrize("model", [GPT(5, 4, 8, 2, 1), RNNLanguageModel(5, nn.GRU(6))], ids=["GPT", "GRU"])
def test_padding_may_be_no_token_at_all(model):
    tokens, key = np.array([[0, 1, 2, 3], [2, 1, 0, 4]], np.int32), jax.random.key(0)
    batch = {"tokens": tokens, "length": np.array([1, 3])}
    gradients = jax.jit(sum_gradients(next_token_prediction(model)[0]))
    params = model.init(key, tokens[:, :-1])["params"]
    expected, _ = gradients(params, {}, batch, key)
    padded = np.where(np.arange(4)[None] <= batch["length"][:, None], tokens, -1)
    found, _ = gradients(params, {}, batch | {"tokens": padded}, key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)


def test_errors():
    model = Bigrams()
    loss_fn, eval_fn = next_token_prediction(model)
    params = model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]
    for tokens, what in ((np.zeros((2, 1), np.int32), r"int32\[2, 1\]"), (np.zeros((2, 3)), r"float64\[2, 3\]")):
        with pytest.raises(ValueError, match=r"tokens: expected integers \[batch, num_steps \+ 1\] .* got " + what):
            eval_fn(params, {}, {"tokens": tokens})
    with pytest.raises(ValueError, match="tokens: expected"):
        loss_fn(params, {}, {"tokens": np.zeros(3, np.int32)}, jax.random.key(0))


def test_it_makes_a_step():
    model, optimizer = Bigrams(), optax.sgd(1.0)
    loss_fn, _ = next_token_prediction(model)
    state = init_state(lambda key: model.init(key, jnp.zeros((1, 2), jnp.int32)), optimizer, jax.random.key(0))
    step = jit_step(make_step(sum_gradients(loss_fn), optimizer))
    _, metrics = step(step.place_state(state), {"tokens": np.zeros((2, 4), np.int32)})
    assert set(metrics) == {"loss", "perplexity"}


def test_padding_does_not_reach_a_carried_state():
    model = RNNLanguageModel(7, nn.GRU(3), carry_state=True)
    tokens, length = jnp.array([[1, 2, 3, 0], [4, 5, 6, 1]]), jnp.array([2, 3])
    variables = model.init(jax.random.key(0), tokens[:, :-1])
    params = variables.pop("params")
    loss_fn, _ = next_token_prediction(model)
    got = loss_fn(params, variables, {"tokens": tokens, "length": length}, jax.random.key(0))[1][1]
    _, want = model.apply(
        {"params": params, **variables}, tokens[:, :-1], None, length, train=True, mutable=list(variables)
    )
    jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize("compiled", [jax.jit, lambda fn: fn], ids=["jit", "eager"])
def test_a_masked_row_may_hold_any_id(compiled):
    model = RNNLanguageModel(7, nn.GRU(3))
    tokens, mask = jnp.array([[1, 2, 3], [4, 5, 6]]), jnp.array([1, 0])
    params = model.init(jax.random.key(0), tokens)["params"]
    loss_fn, _ = next_token_prediction(model)

    def total(params, tokens):
        return loss_fn(params, {}, {"tokens": tokens, "mask": mask}, jax.random.key(0))[0].total

    gradient = compiled(jax.grad(total))
    jax.tree.map(np.testing.assert_array_equal, gradient(params, tokens.at[1].set(99)), gradient(params, tokens))


@pytest.mark.parametrize(
    ("extra", "match"),
    [
        ({"mask": np.array([1.0])}, r"mask: expected \[2\], got \[1\]"),
        ({"length": np.array([2])}, r"length: expected integers \[2\], got int64\[1\]"),
        ({"length": np.array([3, 2])}, r"length: expected numbers in \[0, 2\]"),
    ],
)
def test_masks_and_lengths_do_not_broadcast(extra, match):
    model = Bigrams()
    batch = {"tokens": jnp.array([[1, 2, 3], [3, 2, 1]]), **extra}
    params = model.init(jax.random.key(0), batch["tokens"])["params"]
    for call in next_token_prediction(model):
        with pytest.raises(ValueError, match=match):
            call(params, {}, batch, *([jax.random.key(0)] if call.__name__ == "loss_fn" else []))
