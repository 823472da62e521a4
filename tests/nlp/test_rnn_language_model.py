"""The language model's values and its carried state, for every kind of cell."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import nn, training
from jaxdl.data import sequential_partition
from jaxdl.nlp.next_token_prediction import next_token_prediction
from jaxdl.nlp.rnn_language_model import RNNLanguageModel
from jaxdl.parallel import make_mesh, pmap_step, shard_step

VOCAB = 5
CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def make(cell="gru", hidden=4, num_layers=1, **fields):
    return RNNLanguageModel(VOCAB, CELLS[cell](hidden, num_layers), **fields)


def tokens_of(batch=2, time=6, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(0, VOCAB, (batch, time)), jnp.int32)


def initialise(model, tokens, seed=0):
    return jax.jit(model.init)(jax.random.key(seed), tokens)


@pytest.mark.parametrize(("cell", "embed_size"), [("rnn", None), ("lstm", 3)])
def test_reading_in_parts_is_reading_at_once(cell, embed_size):
    model, tokens = make(cell, embed_size=embed_size, num_layers=2), tokens_of()
    variables, apply = initialise(model, tokens), jax.jit(model.apply)
    logits, state = apply(variables, tokens)
    assert logits.shape == (2, 6, VOCAB)
    first, middle = apply(variables, tokens[:, :3])
    last, end = apply(variables, tokens[:, 3:], middle)
    np.testing.assert_allclose(jnp.concatenate([first, last], axis=1), logits, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), end, state)


def test_a_logit_depends_on_no_later_token():
    model, tokens = make(), tokens_of()
    variables, apply = initialise(model, tokens), jax.jit(model.apply)
    changed = tokens.at[:, 3].set((tokens[:, 3] + 1) % VOCAB)
    difference = abs(apply(variables, tokens)[0] - apply(variables, changed)[0]).max(axis=(0, 2))
    assert (difference[:3] == 0).all()
    assert (difference[3:] > 0).all()


def test_one_hot_is_the_recurrence_on_one_hot_vectors():
    model, tokens = make("rnn"), tokens_of()
    variables = initialise(model, tokens)
    recurrence = CELLS["rnn"](4)
    outputs, _ = recurrence.apply({"params": variables["params"]["recurrence"]}, jax.nn.one_hot(tokens, VOCAB))
    dense = variables["params"]["Dense_0"]
    expected = outputs @ dense["kernel"] + dense["bias"][None, None]
    np.testing.assert_allclose(model.apply(variables, tokens)[0], expected, rtol=1e-5, atol=1e-6)


class TestCarriedState:
    def batches(self):
        data = sequential_partition(np.arange(200) % VOCAB, 8, 4, train=True)
        return list(data.batches(0))

    def loss_and_variables(self, cell="gru"):
        model = make(cell, carry_state=True)
        batch = self.batches()[0]
        return model, jax.jit(next_token_prediction(model)[0]), initialise(model, batch["tokens"][:, :-1])

    @pytest.mark.parametrize("cell", ["gru", "lstm"])  # a state of one array, and of two
    def test_blocks_go_on_where_the_block_before_ended(self, cell):
        _, loss_fn, variables = self.loss_and_variables(cell)
        params, carry = variables["params"], {"carry": variables["carry"]}
        assert all((leaf == 0).all() and leaf.shape[0] == 8 for leaf in jax.tree.leaves(carry))
        first, second = self.batches()[:2]
        one, (_, carry) = loss_fn(params, carry, first, jax.random.key(0))
        two, (_, carry) = loss_fn(params, carry, second, jax.random.key(0))
        together = np.concatenate([first["tokens"], second["tokens"][:, 1:]], axis=1)
        whole, (_, end) = loss_fn(
            params, {"carry": variables["carry"]}, first | {"tokens": together}, jax.random.key(0)
        )
        np.testing.assert_allclose(one.total + two.total, whole.total, rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), carry, end)

    def test_no_gradient_flows_to_the_block_before(self):
        _, loss_fn, variables = self.loss_and_variables()
        params = variables["params"]
        first, second = self.batches()[:2]

        def of_both(params, earlier):
            _, (_, carry) = loss_fn(earlier, {"carry": variables["carry"]}, first, jax.random.key(0))
            return loss_fn(params, carry, second, jax.random.key(0))[0].total

        own, of_earlier = jax.jit(jax.grad(of_both, argnums=(0, 1)))(params, params)
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(of_earlier))
        assert any((leaf != 0).any() for leaf in jax.tree.leaves(own["recurrence"]))

    def test_it_starts_again_where_the_text_does(self):
        _, loss_fn, variables = self.loss_and_variables()
        params, zeros = variables["params"], {"carry": variables["carry"]}
        first, second = self.batches()[:2]
        _, (_, carry) = loss_fn(params, zeros, first, jax.random.key(0))
        again, _ = loss_fn(params, carry, first, jax.random.key(0))  # is_first is True in it
        fresh, _ = loss_fn(params, zeros, first, jax.random.key(0))
        np.testing.assert_array_equal(again.total, fresh.total)
        half = second | {"is_first": np.arange(8) < 4}
        _, (_, mixed) = loss_fn(params, carry, half, jax.random.key(0))
        _, (_, cold) = loss_fn(params, zeros, second, jax.random.key(0))
        _, (_, warm) = loss_fn(params, carry, second, jax.random.key(0))
        for m, c, w in zip(*map(jax.tree.leaves, (mixed, cold, warm)), strict=True):
            np.testing.assert_allclose(m, jnp.concatenate([c[:4], w[4:]]), rtol=1e-6)

    def test_evaluation_starts_from_zeros_and_takes_any_batch(self):
        model, loss_fn, variables = self.loss_and_variables()
        params, zeros = variables["params"], {"carry": variables["carry"]}
        _, (_, carry) = loss_fn(params, zeros, self.batches()[0], jax.random.key(0))
        eval_fn = jax.jit(next_token_prediction(model)[1])
        batch = {"tokens": tokens_of(3)}
        np.testing.assert_array_equal(eval_fn(params, carry, batch)["loss"], eval_fn(params, zeros, batch)["loss"])

    def test_it_trains_on_eight_devices(self):
        model, loss_fn, _ = self.loss_and_variables()
        data = sequential_partition(np.arange(200) % VOCAB, 8, 4, train=True)
        optimizer = optax.adam(0.05)
        state = training.init_state(
            lambda key: model.init(key, self.batches()[0]["tokens"][:, :-1]), optimizer, jax.random.key(0)
        )
        step = training.make_step(training.sum_gradients(loss_fn), optimizer)
        compiled = shard_step(step, make_mesh({"data": 8}))
        state, history = training.fit(compiled, state, data, epochs=15, progress=False)
        assert history.rows[-1]["train_perplexity"] < 1.2  # it counts to five, over and over
        (leaf,) = jax.tree.leaves(state.model_state["carry"])
        assert leaf.shape == (8, 1, 4)
        assert leaf.sharding.num_devices == 8
        assert not leaf.sharding.is_fully_replicated

    def test_micro_batches_and_pmap_refuse_it(self):
        model, loss_fn, _ = self.loss_and_variables()
        optimizer, batch = optax.sgd(0.1), self.batches()[0]
        gradients = training.sum_gradients(loss_fn)
        state = training.init_state(lambda key: model.init(key, batch["tokens"][:, :-1]), optimizer, jax.random.key(0))
        with pytest.raises(ValueError, match="'carry' cannot be split into micro-batches"):
            training.accumulate(gradients, 2)(state.params, state.model_state, batch, jax.random.key(0))
        compiled = pmap_step(training.make_step(training.all_reduce(gradients, "data"), optimizer))
        with pytest.raises(ValueError, match="pmap_step cannot split the per-example state 'carry'; use shard_step"):
            compiled(compiled.place_state(state), compiled.place_batch(batch))

    def test_errors(self):
        model, _, variables = self.loss_and_variables()
        with pytest.raises(ValueError, match="tokens: expected 8 rows, as in init; got 2"):
            model.apply(variables, tokens_of(), train=True, mutable=["carry"])
        with pytest.raises(ValueError, match=r"is_first: expected \[8\], got \[2\]"):
            model.apply(variables, tokens_of(8), is_first=jnp.ones(2, bool), train=True, mutable=["carry"])
        _, state = model.apply(variables, tokens_of(8))
        with pytest.raises(ValueError, match="state: expected None in training with carry_state=True"):
            model.apply(variables, tokens_of(8), state, train=True, mutable=["carry"])
        with pytest.raises(ValueError, match="carry: expected the state that init made"):
            model.apply({"params": variables["params"]}, tokens_of(8), train=True, mutable=["carry"])


def test_padding_behind_the_lengths_changes_no_state():
    model, tokens, lengths = make("lstm", num_layers=2), tokens_of(3), [6, 2, 0]
    variables, apply = initialise(model, tokens), jax.jit(model.apply)
    logits, state = apply(variables, tokens, None, jnp.array(lengths))
    whole, _ = apply(variables, tokens)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(logits[row, :length], whole[row, :length], rtol=1e-6)
        alone = model.apply(variables, tokens[row : row + 1, :length])[1]
        for batched, single in zip(jax.tree.leaves(state), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(batched[row], single[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("embed_size", [None, 3])
def test_an_id_outside_the_vocabulary_is_never_another_token(embed_size):
    model, tokens = make(embed_size=embed_size), tokens_of()
    variables, apply = initialise(model, tokens), jax.jit(model.apply)
    for wrong in (-1, VOCAB):
        bad = tokens.at[0, 2].set(wrong)
        with pytest.raises(ValueError, match=r"tokens: expected ids in \[0, 5\), got"):
            model.apply(variables, bad)
        logits, _ = apply(variables, bad)
        assert jnp.isfinite(logits[0, :2]).all()
        assert jnp.isnan(logits[0, 2:]).all()
        assert jnp.isfinite(logits[1]).all()


def test_errors_at_construction_and_of_shapes():
    with pytest.raises(ValueError, match="vocab_size: expected at least 1, got 0"):
        RNNLanguageModel(0, nn.RNN(4))
    with pytest.raises(ValueError, match="embed_size: expected at least 1, got 0"):
        make(embed_size=0)
    with pytest.raises(ValueError, match="recurrence: expected one direction"):
        RNNLanguageModel(VOCAB, nn.GRU(4, bidirectional=True))
    with pytest.raises(ValueError, match="recurrence: expected time_major=False"):
        RNNLanguageModel(VOCAB, nn.GRU(4, time_major=True))
    model = make()
    with pytest.raises(ValueError, match=r"tokens: expected integers \[batch, time\], got float32\[2, 6\]"):
        model.init(jax.random.key(0), jnp.zeros((2, 6)))
    with pytest.raises(ValueError, match=r"tokens: expected integers \[batch, time\], got int32\[6\]"):
        model.init(jax.random.key(0), jnp.zeros(6, jnp.int32))


def test_the_books_shapes():
    """D2L 9.5: RNNScratch(16, 32) and its language model; 28 symbols, a batch of 2, 100 steps of 16 inputs."""
    tokens = jnp.zeros((2, 100), jnp.int32)
    model = RNNLanguageModel(16, nn.RNN(32))
    (logits, state), _ = jax.eval_shape(lambda key: model.init_with_output(key, tokens), jax.random.key(0))
    assert logits.shape == (2, 100, 16)
    assert [leaf.shape for leaf in jax.tree.leaves(state)] == [(2, 1, 32)]


def test_padding_may_be_any_id():
    model = RNNLanguageModel(7, nn.GRU(3))
    variables = model.init(jax.random.key(0), jnp.array([[1, 2]]))
    got, _ = model.apply(variables, np.array([[1, 2], [3, -1]]), None, np.array([2, 1]))
    want, _ = model.apply(variables, np.array([[1, 2], [3, 0]]), None, np.array([2, 1]))
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_array_equal(got[1, 0], want[1, 0])
