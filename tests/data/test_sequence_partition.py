"""Every batch is made of stretches of the corpus; in evaluation every token but the first is a target once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl import training
from jaxdl.data import overlapping_windows, random_partition, sequential_partition

PARTITIONS = [random_partition, sequential_partition]
shapes = given(
    batch_size=st.integers(1, 4), num_steps=st.integers(1, 5), extra=st.integers(0, 40), seed=st.integers(0, 3)
)


def numbered(length):
    """A corpus whose tokens are their positions, so that a token tells where it is from."""
    return np.arange(1, length + 1)


def all_of(data, epoch):
    """The batches of an epoch, stacked: by name `[batches, batch, ...]`."""
    batches = list(data.batches(epoch))
    assert len(batches) == len(data)
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}


def test_windows():
    windows = overlapping_windows(np.arange(10), 3)
    assert windows.tolist() == [[i, i + 1, i + 2, i + 3] for i in range(7)]
    with pytest.raises(ValueError, match="read-only"):
        windows[0, 0] = 1
    series = overlapping_windows(np.zeros(1000, np.float32), 4)  # D2L 9.1: 996 windows of four features and a label
    assert (series.shape, series.dtype) == ((996, 5), np.float32)
    assert overlapping_windows([1, 2], 1).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("sequence", "num_steps", "message"),
    [
        ([1, 2], 2, "num_steps: expected fewer than the 2 elements of the sequence, got 2"),
        ([], 1, "num_steps: expected fewer than the 0 elements of the sequence, got 1"),
        ([1, 2], 0, "num_steps: expected at least 1, got 0"),
        ([[1, 2]], 1, r"sequence: expected \[length\], got \[1, 2\]"),
    ],
)
def test_windows_that_cannot_be(sequence, num_steps, message):
    with pytest.raises(ValueError, match=message):
        overlapping_windows(sequence, num_steps)


@settings(deadline=None)
@shapes
@pytest.mark.parametrize("partition", PARTITIONS)
def test_training_blocks_are_full_and_do_not_overlap(partition, batch_size, num_steps, extra, seed):
    corpus = numbered(num_steps * (batch_size + 1) + extra)
    data = partition(corpus, batch_size, num_steps, train=True, seed=seed)
    offsets = set()
    for epoch in range(4):
        arrays = all_of(data, epoch)
        tokens = arrays["tokens"]
        assert tokens.shape == (len(data), batch_size, num_steps + 1)
        assert tokens.dtype == np.int32
        np.testing.assert_array_equal(np.diff(tokens), 1)  # each row a stretch of the corpus, none beyond its end
        assert tokens.max() <= len(corpus)
        targets = tokens[..., 1:].ravel()
        assert len(set(targets)) == targets.size
        offsets.add(int(tokens[..., 0].min()) - 1)
    assert offsets <= set(range(num_steps)) or partition is random_partition  # its first block may be left out
    assert len(corpus) - 1 - targets.size < num_steps * (batch_size + 1)  # what is left out


@settings(deadline=None)
@shapes
@pytest.mark.parametrize("partition", PARTITIONS)
def test_in_evaluation_every_token_but_the_first_is_a_target_once(partition, batch_size, num_steps, extra, seed):
    corpus = numbered(2 + extra)
    arrays = all_of(partition(corpus, batch_size, num_steps, train=False, seed=seed), 0)
    tokens, length, mask = arrays["tokens"], arrays["length"], arrays["mask"]
    assert (length.dtype, mask.dtype) == (np.int32, np.float32)
    valid = np.arange(num_steps) < length[..., None]
    np.testing.assert_array_equal(np.sort(tokens[..., 1:][valid]), corpus[1:])
    np.testing.assert_array_equal(tokens[..., :-1][valid] + 1, tokens[..., 1:][valid])
    assert (tokens[..., 1:][~valid] == 0).all()
    np.testing.assert_array_equal(mask, length > 0)


@settings(deadline=None)
@shapes
@pytest.mark.parametrize("train", [True, False])
def test_a_row_goes_on_where_it_ended(train, batch_size, num_steps, extra, seed):
    corpus = numbered(num_steps * (batch_size + 1) + extra)
    arrays = all_of(sequential_partition(corpus, batch_size, num_steps, train=train, seed=seed), 1)
    tokens, following = arrays["tokens"][:-1], arrays["tokens"][1:]
    goes_on = np.ones(following.shape[:2], bool) if train else arrays["mask"][1:] > 0
    np.testing.assert_array_equal(tokens[goes_on][:, -1], following[goes_on][:, 0])
    assert arrays["is_first"].dtype == bool
    assert arrays["is_first"].tolist() == [[i == 0] * batch_size for i in range(len(arrays["tokens"]))]


def test_the_books_sequences():
    """First edition, 8.3.4: 0 to 34, batches of two, five steps. Two stretches of three blocks, whatever the offset."""
    data = sequential_partition(np.arange(35), 2, 5, train=True)
    assert len(data) == 3
    first, second, _ = (batch["tokens"] for batch in data.batches(0))
    offset = first[0, 0]
    assert first.tolist() == [list(range(offset, offset + 6)), list(range(offset + 15, offset + 21))]
    assert second.tolist() == [list(range(offset + 5, offset + 11)), list(range(offset + 20, offset + 26))]
    assert len(random_partition(np.arange(35), 2, 5, train=True)) == 3


@pytest.mark.parametrize("partition", PARTITIONS)
def test_epochs_differ_and_repeat(partition):
    data = partition(numbered(500), 4, 7, train=True, seed=5)
    first, again = all_of(data, 0), all_of(data, 0)
    np.testing.assert_array_equal(first["tokens"], again["tokens"])
    assert any((first["tokens"] != all_of(data, epoch)["tokens"]).any() for epoch in range(1, 20))
    offsets = {int(all_of(data, epoch)["tokens"].min() - 1) % 7 for epoch in range(60)}
    assert offsets == set(range(7))  # each is missed with a probability of 1e-4
    reseeded = [all_of(partition(numbered(500), 4, 7, train=True, seed=seed), 0) for seed in range(20)]
    assert any((first["tokens"] != other["tokens"]).any() for other in reseeded)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("partition", PARTITIONS)
def test_a_tail_and_chunks_are_those_of_the_epoch(partition, train):
    data = partition(numbered(100), 3, 4, train=train)
    whole = all_of(data, 2)
    for name, array in whole.items():
        np.testing.assert_array_equal(np.stack([batch[name] for batch in data.batches(2, 3)]), array[3:])
        chunks = [chunk[name] for chunk in data.chunks(2, 1, 3)]
        assert max(len(chunk) for chunk in chunks) == 3
        np.testing.assert_array_equal(np.concatenate(chunks), array[1:])
    assert list(data.batches(0, len(data))) == list(data.chunks(0, len(data), 2)) == []


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"corpus": np.ones(10, int)}, "corpus: expected at least 12 tokens for batch_size 2 and num_steps 4, got 10"),
        ({"corpus": []}, r"corpus: expected integers \[tokens\], got float64\[0\]"),
        ({"corpus": np.zeros(0, int)}, "corpus: expected at least 12 tokens .* got 0"),
        ({"corpus": np.zeros(0, int), "train": False}, "corpus: expected at least 2 tokens .* got 0"),
        ({"corpus": [1], "train": False}, "corpus: expected at least 2 tokens .* got 1"),
        ({"corpus": np.ones(20)}, r"corpus: expected integers \[tokens\], got float64\[20\]"),
        ({"corpus": np.ones((20, 1), int)}, r"corpus: expected integers \[tokens\], got int64\[20, 1\]"),
        ({"corpus": [-1] * 20}, "corpus: expected token numbers from 0 on, got -1 to -1"),
        ({"corpus": [2**31] * 20}, "corpus: expected token numbers from 0 on, got 2147483648"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"num_steps": 0}, "num_steps: expected at least 1, got 0"),
        ({"seed": -1}, "seed: expected 0 or more, got -1"),
    ],
)
def test_what_cannot_be_cut_is_refused(partition, fields, message):
    with pytest.raises(ValueError, match=message):
        partition(**{"corpus": np.ones(20, int), "batch_size": 2, "num_steps": 4, "train": True, **fields})


def test_positions_are_checked():
    data = random_partition(np.ones(20, int), 2, 4, train=True)
    for arguments, message in (((-1,), "epoch: expected"), ((0, 3), "start: expected 0 to 2"), ((0, -1), "start")):
        with pytest.raises(ValueError, match=message):
            data.batches(*arguments)
    with pytest.raises(ValueError, match="size: expected at least 1, got 0"):
        data.chunks(0, 0, 0)


@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_fit_takes_them(steps_per_call):
    """A table of bigrams learns that each token is followed by the next one."""
    corpus = np.tile(np.arange(4), 60)

    def nll(params, batch):
        log_p = jnp.take(params, batch["tokens"][:, :-1], axis=0)
        log_p = optax.softmax_cross_entropy_with_integer_labels(log_p, batch["tokens"][:, 1:])
        return training.Mean.of(log_p.mean(1), batch.get("mask"))

    def loss_fn(params, model_state, batch, key):
        return nll(params["logits"], batch), ({}, model_state)

    optimizer = optax.sgd(20.0)
    state = training.init_state(lambda key: {"params": {"logits": jnp.zeros((4, 4))}}, optimizer, jax.random.key(0))
    step = training.jit_step(
        training.make_step(training.sum_gradients(loss_fn), optimizer), steps_per_call=steps_per_call
    )
    data = random_partition(corpus, 4, 5, train=True)
    _, history = training.fit(step, state, data, epochs=3, progress=False)
    assert history.rows[0]["train_loss"] > history.rows[-1]["train_loss"]
    assert history.rows[-1]["train_loss"] < 0.2
