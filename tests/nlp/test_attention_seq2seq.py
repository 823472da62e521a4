"""Bahdanau attention: the book's shapes, the equations one token at a time, padding, decoding."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxdl import nn
from jaxdl.nlp import AttentionSeq2Seq, greedy_search, teacher_forcing, translate


def tokens(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(4, 10, shape))


@pytest.fixture(scope="module")
def small():
    model = AttentionSeq2Seq(10, 10, 4, 6, 2)
    source, lengths, target = tokens(3, 5), jnp.array([5, 2, 4]), tokens(3, 6, seed=1)
    return model, jax.jit(model.init)(jax.random.key(0), source, lengths, target), source, lengths, target


def test_shapes_of_the_book():
    """D2L 11.4: vocabulary 10, embeddings 8, 2 layers of 16, input (4, 7)."""
    model, x, lengths = AttentionSeq2Seq(10, 10, 8, 16, 2), jnp.ones((4, 7), jnp.int32), jnp.full(4, 7)

    def run():
        variables = model.init(jax.random.key(0), x, lengths, x)
        state = model.apply(variables, x, lengths, method="encode")
        return model.apply(variables, state, x, method="decode")

    logits, state = jax.eval_shape(run)
    assert logits.shape == (4, 7, 10)
    assert state.memory.shape == (4, 7, 16)
    assert state.recurrent.shape == (4, 2, 16)


def test_one_token_at_a_time(small):
    """The recurrence and the attention of the paper, step by step, from the parameters."""
    model, variables, source, lengths, target = small
    logits, found = model.apply(variables, source, lengths, target, mutable=["intermediates"])
    weights = found["intermediates"]["decoder"]["attention_weights"][0]
    assert weights.shape == (3, 6, 5)
    params = variables["params"]
    state = model.apply(variables, source, lengths, method="encode")
    gru, attention = nn.GRU(6, 2), params["decoder"]["attention"]
    hidden = state.recurrent
    for t in range(6):
        keys = np.asarray(state.memory @ attention["key"]["kernel"])
        query = np.asarray(hidden[:, -1] @ attention["query"]["kernel"])[:, None]
        scores = np.tanh(query + keys) @ np.asarray(attention["score"]["kernel"][:, 0])
        scores = np.where(np.arange(5)[None] < np.asarray(lengths)[:, None], scores, -np.inf)
        expected = scipy.special.softmax(scores, -1)
        np.testing.assert_allclose(weights[:, t], expected, atol=1e-5)
        context = np.einsum("bs,bsh->bh", expected, state.memory)
        embedded = params["target_embedding"]["embedding"][target[:, t]]
        x = jnp.concatenate([jnp.asarray(context), embedded], -1)[:, None]
        output, after = gru.apply({"params": params["decoder"]["recurrence"]}, x, initial_state=hidden.swapaxes(0, 1))
        hidden = after.swapaxes(0, 1)
        of_output = {name: np.asarray(leaf) for name, leaf in params["output"].items()}
        expected = np.asarray(output[:, 0]) @ of_output["kernel"] + of_output["bias"]
        np.testing.assert_allclose(logits[:, t], expected, atol=1e-5)


def test_padding_changes_nothing(small):
    model, variables, source, lengths, target = small
    other = jnp.where(jnp.arange(5)[None] < lengths[:, None], source, 2)
    assert (other != source).any()
    forward = jax.jit(lambda source: model.apply(variables, source, lengths, target))
    np.testing.assert_array_equal(forward(source), forward(other))


def test_decoding_and_loss(small):
    model, variables, source, lengths, target = small
    search = partial(greedy_search, max_length=6, eos_id=3)
    found = jax.jit(partial(translate, model, search=search))(variables, source, lengths, jnp.full(3, 2))
    inputs = jnp.concatenate([jnp.full((3, 1), 2), found.tokens[:, :-1]], 1)
    best = model.apply(variables, source, lengths, inputs).argmax(-1)
    inside = jnp.arange(6)[None] < found.lengths[:, None]
    np.testing.assert_array_equal(jnp.where(inside, best, 0), jnp.where(inside, found.tokens, 0))
    loss_fn, _ = teacher_forcing(model)
    batch = {"source": source, "source_length": lengths, "target": target, "target_length": jnp.array([5, 1, 3])}
    grads = jax.grad(lambda params: loss_fn(params, {}, batch, jax.random.key(0))[0].total)(variables["params"])
    assert all(leaf.any() for leaf in jax.tree.leaves(grads["decoder"]["attention"]))


def test_errors():
    with pytest.raises(ValueError, match="hidden_size: expected at least 1, got 0"):
        AttentionSeq2Seq(5, 5, hidden_size=0)
    with pytest.raises(ValueError, match="source: expected integers"):
        AttentionSeq2Seq(5, 5).init(jax.random.key(0), jnp.ones((1, 2)), jnp.ones(1, int), jnp.ones((1, 2), int))
    with pytest.raises(ValueError, match="target_inputs: expected 1 rows, as of the source, got 2"):
        AttentionSeq2Seq(5, 5).init(jax.random.key(0), jnp.ones((1, 2), int), jnp.ones(1, int), jnp.ones((2, 2), int))
