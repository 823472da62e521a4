"""The loss and the scores of translation: masked means, micro-batches and devices that add up, and that it learns."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

from jaxdl import training
from jaxdl.nlp import Seq2Seq, beam_search, bleu, greedy_search, teacher_forcing, translate

PAD, UNK, BOS, EOS = range(4)
VOCAB, TIME = 10, 5


def pairs(n, seed=0, shuffled=False):
    """The target is the source backwards; words are 4 to 9."""
    rng = np.random.default_rng(seed)
    source, target = np.zeros((n, TIME), np.int32), np.zeros((n, TIME + 1), np.int32)
    lengths = rng.integers(1, TIME, n).astype(np.int32)
    target[:, 0] = BOS
    for i, length in enumerate(lengths):
        words = rng.integers(4, VOCAB, length)
        source[i, : length + 1] = [*words, EOS]
        target[i, 1 : length + 2] = [*(rng.permutation(words) if shuffled else words[::-1]), EOS]
    return {"source": source, "source_length": lengths + 1, "target": target, "target_length": lengths + 1}


SIZES = {"embed_size": 8, "hidden_size": 8, "num_layers": 1}


def built(batch, dtype=jnp.float32):
    """Parameters are large, so that sentences differ."""
    model = Seq2Seq(VOCAB, VOCAB, dtype=dtype, **SIZES)
    arguments = jax.random.key(0), batch["source"], batch["source_length"], batch["target"][:, :-1]
    shapes = jax.eval_shape(model.init, *arguments)
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), dtype), shapes)


def as_jax(batch):
    return {name: jnp.asarray(array) for name, array in batch.items()}


def test_the_loss_is_the_masked_mean_of_the_tokens():
    batch = as_jax(pairs(6)) | {"mask": jnp.array([1, 1, 0, 1, 1, 0])}
    model, variables = built(batch)
    loss_fn, _ = teacher_forcing(model)
    logits = jax.jit(model.apply)(variables, batch["source"], batch["source_length"], batch["target"][:, :-1])
    probabilities = np.asarray(jax.nn.softmax(logits))
    losses, right = [], []
    for i in (0, 1, 3, 4):
        for t in range(int(batch["target_length"][i])):
            label = int(batch["target"][i, t + 1])
            losses.append(-np.log(probabilities[i, t, label]))
            right.append(probabilities[i, t].argmax() == label)
    loss, (metrics, _) = jax.jit(loss_fn)(variables["params"], {}, batch, jax.random.key(0))
    assert loss.count == len(losses)
    assert loss.compute() == pytest.approx(np.mean(losses), rel=1e-5)
    assert metrics["accuracy"].compute() == pytest.approx(np.mean(right))


def test_padding_changes_nothing_and_micro_batches_add_up(x64):
    batch = as_jax(pairs(8))
    model, variables = built(batch, jnp.float64)
    grad_fn = training.sum_gradients(teacher_forcing(model)[0])
    compiled, arguments = jax.jit(grad_fn), (variables["params"], {})
    expected = compiled(*arguments, batch, jax.random.key(0))
    other = batch | {
        name: jnp.where(
            jnp.arange(batch[name].shape[1])[None] >= batch[f"{name}_length"][:, None] + first, -1, batch[name]
        )
        for name, first in (("source", 0), ("target", 1))
    }
    assert not np.array_equal(other["target"], batch["target"])
    for found in (
        compiled(*arguments, other, jax.random.key(0)),
        jax.jit(training.accumulate(grad_fn, 4))(*arguments, batch, jax.random.key(0)),
    ):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), found, expected)


def test_what_evaluation_reports_is_what_greedy_search_finds():
    batch = as_jax(pairs(12))
    model, variables = built(batch)
    variables["params"]["output"]["bias"] += 5 * jax.nn.one_hot(EOS, VOCAB)  # so that some sentences end
    search = partial(greedy_search, max_length=TIME, eos_id=EOS)
    find = jax.jit(partial(translate, model, search=search))
    found = find(variables, batch["source"], batch["source_length"], batch["target"][:, 0])

    def words(tokens, length):
        return [int(token) for token in tokens[:length] if token != EOS]

    ours = [words(found.tokens[i], found.lengths[i]) for i in range(12)]
    theirs = [words(batch["target"][i, 1:], batch["target_length"][i]) for i in range(12)]
    assert len({tuple(sentence) for sentence in ours}) > 3
    assert len({len(sentence) for sentence in ours}) > 1
    eval_fn = jax.jit(teacher_forcing(model)[1])
    metrics = eval_fn(variables["params"], {}, batch | {"mask": jnp.ones(12)})
    assert metrics["bleu"].prediction_length == sum(map(len, ours))
    assert metrics["bleu"].reference_length == sum(map(len, theirs))
    assert metrics["exact_match"].total == sum(a == b for a, b in zip(ours, theirs, strict=True))
    for i in range(12):
        one = eval_fn(variables["params"], {}, batch | {"mask": jnp.eye(12)[i]})
        assert one["bleu"].compute() == pytest.approx(bleu(ours[i], theirs[i]), abs=1e-6)
        assert one["exact_match"].count == 1
        assert one["loss"].count == len(theirs[i]) + 1


def test_an_unknown_word_is_never_right():
    """A model that writes <unk> <eos> whatever it reads."""
    batch = as_jax(pairs(4)) | {
        "target": jnp.array([[BOS, UNK, EOS, PAD, PAD, PAD]] * 4),
        "target_length": jnp.full(4, 2),
    }
    model, variables = built(batch)
    variables = jax.tree.map(jnp.zeros_like, variables)

    class Unknown(Seq2Seq):
        def decode_step(self, state, tokens):
            logits, state = super().decode_step(state, tokens)
            return logits + jax.nn.one_hot(jnp.where(tokens == BOS, UNK, EOS), VOCAB), state

    model = Unknown(VOCAB, VOCAB, **SIZES)
    for unk_id, expected in ((UNK, 0), (None, 1)):
        metrics = jax.jit(teacher_forcing(model, unk_id=unk_id)[1])(variables["params"], {}, batch)
        assert metrics["exact_match"].compute() == metrics["bleu"].compute() == expected


def test_an_unknown_word_of_few_bits_is_never_right():
    """The mark in its place is -1, which a uint8 holds as 255: a word that this model always writes."""
    logits = jax.nn.one_hot(jnp.array([255]), 256)

    class Same(linen.Module):
        def __call__(self, source, source_length, target_inputs, train=False):
            return logits[:, None]

        def encode(self, source, source_length):
            return ()

        def decode_step(self, state, tokens):
            return logits, state

    batch = {"source": jnp.full((1, 1), 9), "target": jnp.array([[BOS, UNK]], jnp.uint8)}
    batch |= dict.fromkeys(["source_length", "target_length"], jnp.ones(1, int))
    for unk_id, target, expected in ((UNK, UNK, 0), (None, 255, 1)):
        _, eval_fn = teacher_forcing(Same(), unk_id=unk_id)
        metrics = jax.jit(eval_fn)({}, {}, batch | {"target": batch["target"].at[0, 1].set(target)})
        assert metrics["exact_match"].compute() == expected


@pytest.fixture(scope="module")
def trained():
    """Trains on pairs and scores others; one compilation for both tests."""
    model = Seq2Seq(VOCAB, VOCAB, embed_size=16, hidden_size=48, num_layers=1, bidirectional=True)
    loss_fn, eval_fn = teacher_forcing(model)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01))
    test, compiled_eval = pairs(200, 2), jax.jit(eval_fn)
    start = training.init_state(
        lambda key: model.init(key, test["source"], test["source_length"], test["target"][:, :-1]),
        optimizer,
        jax.random.key(0),
    )
    step = jax.jit(training.make_step(training.sum_gradients(loss_fn), optimizer))

    def train(shuffled):
        arrays, state = pairs(768, 1, shuffled), start
        for i in range(300):
            rows = np.arange(64 * i, 64 * (i + 1)) % 768
            state, _ = step(state, {name: array[rows] for name, array in arrays.items()})
        metrics = compiled_eval(state.params, {}, as_jax(test))
        return {name: float(metric.compute()) for name, metric in metrics.items()}, model, state

    return train


def test_it_learns_to_reverse_and_a_beam_translates(trained):
    scores, model, state = trained(shuffled=False)
    assert scores["exact_match"] > 0.8
    assert scores["bleu"] > 0.9
    batch = as_jax(pairs(50, 3))
    search = partial(beam_search, beam_size=3, max_length=TIME, eos_id=EOS)
    find = jax.jit(partial(translate, model, search=search))
    found = find({"params": state.params}, batch["source"], batch["source_length"], batch["target"][:, 0])
    assert np.mean(np.all(found.tokens[:, 0] == batch["target"][:, 1:], axis=1)) > 0.8


def test_shuffled_targets_teach_no_order(trained):
    scores, _, _ = trained(shuffled=True)
    assert scores["exact_match"] < 0.6  # a quarter has one word


def test_bad_input():
    batch = as_jax(pairs(4))
    model, variables = built(batch)
    loss_fn, eval_fn = teacher_forcing(model)
    for changed, message in (
        ({"target": batch["target"][:, :1]}, r"target: expected integers \[batch, time \+ 1\], .* got int32\[4, 1\]"),
        ({"target": batch["target"] * 1.0}, "target: expected integers"),
        ({"target_length": batch["target_length"][:3]}, r"target_length: expected integers \[4\], got int32\[3\]"),
    ):
        with pytest.raises(ValueError, match=message):
            loss_fn(variables["params"], {}, batch | changed, jax.random.key(0))
        with pytest.raises(ValueError, match=message):
            eval_fn(variables["params"], {}, batch | changed)
