"""Little padding, every example once in evaluation, and the same batches every time they are asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl import training
from jaxdl.data import LengthBuckets


def sentences(lengths, seed=0):
    """Padded sentences of random tokens from 1 on; `id` tells them apart."""
    lengths = np.asarray(lengths, np.int32)
    tokens = np.random.default_rng(seed).integers(1, 9, (len(lengths), max(lengths.max(initial=0), 1)))
    tokens *= np.arange(tokens.shape[1]) < lengths[:, None]
    return {"tokens": tokens.astype(np.int32), "length": lengths, "id": np.arange(len(lengths))}


def buckets(arrays, batch_size, boundaries, **options):
    return LengthBuckets(arrays, arrays["length"], batch_size, boundaries=boundaries, **options)


MIXED = sentences([3, 9, 1, 16, 4, 5, 8, 2, 12, 10, 7, 7, 3, 15, 4, 0])


def test_a_batch_is_cut_to_its_bucket():
    data = buckets(MIXED, 2, (4, 8, 16), train=False)
    shapes = [batch["tokens"].shape for batch in data.batches(0)]
    assert shapes == [(2, 4)] * 4 + [(2, 8)] * 2 + [(2, 16)] * 3
    for batch in data.batches(0):
        width = batch["tokens"].shape[1]
        assert (batch["length"] <= width).all()
        assert (width - batch["length"] <= {4: 4, 8: 3, 16: 7}[width]).all()  # the boundaries' distance bounds it
        valid = np.arange(width) < batch["length"][:, None]
        assert ((batch["tokens"] != 0) == valid).all()  # nothing real was cut away
        np.testing.assert_array_equal(batch["tokens"], MIXED["tokens"][batch["id"], :width])


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=30),
    batch_size=st.integers(1, 5),
    boundaries=st.sampled_from([(12,), (1, 12), (3, 6, 9, 12), (4, 20)]),
)
def test_in_evaluation_every_example_comes_once(lengths, batch_size, boundaries):
    data = LengthBuckets(
        {"id": np.arange(len(lengths))}, lengths, batch_size, boundaries=boundaries, sequences=(), train=False
    )
    batches = list(data.batches(0))
    assert len(batches) == len(data)
    ids, mask = (np.concatenate([batch[name] for batch in batches]) for name in ("id", "mask"))
    assert mask.dtype == np.float32
    assert sorted(ids[mask > 0]) == list(range(len(lengths)))
    assert {len(batch["id"]) for batch in batches} == {batch_size}


def test_training_shuffles_examples_and_buckets_by_seed_and_epoch():
    arrays = sentences(np.arange(200) % 12)
    data = buckets(arrays, 8, (4, 8, 12), train=True, seed=3)
    order = {}
    for epoch in (0, 1):
        batches = list(data.batches(epoch))
        assert (
            len(batches)
            == len(data)
            == sum(np.bincount([0 if n <= 4 else 1 if n <= 8 else 2 for n in arrays["length"]]) // 8)
        )
        assert "mask" not in batches[0]
        ids = np.concatenate([batch["id"] for batch in batches])
        assert len(set(ids)) == len(ids) > 200 - 3 * 8  # the ragged end of each bucket is dropped
        widths = [batch["tokens"].shape[1] for batch in batches]
        assert widths != sorted(widths)
        order[epoch] = ids.tolist()
        again = np.concatenate(
            [batch["id"] for batch in buckets(arrays, 8, (4, 8, 12), train=True, seed=3).batches(epoch)]
        )
        assert again.tolist() == order[epoch]
    assert order[0] != order[1]
    other = np.concatenate([batch["id"] for batch in buckets(arrays, 8, (4, 8, 12), train=True, seed=4).batches(0)])
    assert other.tolist() != order[0]


@pytest.mark.parametrize("train", [True, False])
def test_a_tail_and_chunks_are_those_of_the_epoch(train):
    data = buckets(sentences(np.arange(60) % 12), 4, (4, 8, 12), train=train)
    whole = list(data.batches(1))
    for got, want in zip(data.batches(1, 5), whole[5:], strict=True):
        np.testing.assert_array_equal(got["tokens"], want["tokens"])
    chunks = list(data.chunks(1, 2, 3))
    assert max(len(chunk["id"]) for chunk in chunks) <= 3
    unstacked = [{name: array[i] for name, array in chunk.items()} for chunk in chunks for i in range(len(chunk["id"]))]
    for got, want in zip(unstacked, whole[2:], strict=True):
        for name in want:
            np.testing.assert_array_equal(got[name], want[name])
    assert list(data.batches(0, len(data))) == []


def test_pairs_share_a_bucket_and_your_mask_counts():
    arrays = {
        "source": np.ones((4, 6), int),
        "target": np.ones((4, 7), int),
        "source_length": np.array([2, 5, 1, 2]),
        "target_length": np.array([1, 2, 2, 5]),
        "mask": np.array([1, 1, 0, 1]),
    }
    lengths = np.maximum(arrays["source_length"], arrays["target_length"] + 1)
    batches = list(LengthBuckets(arrays, lengths, 3, boundaries=(3, 6), train=False).batches(0))
    assert [(b["source"].shape, b["target"].shape, b["mask"].tolist()) for b in batches] == [
        ((3, 3), (3, 3), [1, 0, 0]),
        ((3, 6), (3, 6), [1, 1, 0]),
    ]


@pytest.mark.parametrize("steps_per_call", [1, 4])
def test_fit_takes_them_and_resumes_alike(steps_per_call):
    """It learns the mean length, whatever bucket a batch is of."""
    arrays = sentences(np.arange(64) % 8 + 1)

    def loss_fn(params, model_state, batch, key):
        seen = (batch["tokens"] != 0).sum(1)
        return training.Mean.of(0.5 * (params["mean"] - seen) ** 2), ({}, model_state)

    def eval_fn(params, model_state, batch):
        return {"loss": training.Mean.of((batch["tokens"] != 0).sum(1) * 1.0, batch["mask"])}

    optimizer = optax.sgd(0.05)
    state = training.init_state(lambda key: {"params": {"mean": jnp.zeros(())}}, optimizer, jax.random.key(0))
    step = training.make_step(training.sum_gradients(loss_fn), optimizer)
    step = training.jit_step(step, steps_per_call=steps_per_call)
    data = buckets(arrays, 4, (2, 4, 8), train=True)
    state, history = training.fit(
        step,
        state,
        data,
        epochs=10,
        eval_fn=eval_fn,
        eval_data=buckets(arrays, 5, (2, 4, 8), train=False),
        progress=False,
    )
    assert float(state.params["mean"]) == pytest.approx(4.5, abs=1)
    assert history.rows[-1]["eval_loss"] == 4.5
    assert int(state.step) == 160


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"boundaries": ()}, r"boundaries: expected increasing positive integers, got \[\]"),
        ({"boundaries": (4, 4)}, r"boundaries: expected increasing positive integers, got \[4, 4\]"),
        ({"boundaries": (0, 16)}, r"boundaries: expected increasing positive integers, got \[0, 16\]"),
        ({"boundaries": (8, 15)}, "lengths: expected 0 to 15, the last boundary, got 16 of example 3"),
        ({"lengths": [1.0] * 16}, r"lengths: expected integers \[16\], got float64\[16\]"),
        ({"lengths": [1] * 15}, r"lengths: expected integers \[16\], got int64\[15\]"),
        ({"lengths": [-1] * 16}, "lengths: expected 0 to 16, the last boundary, got -1 of example 0"),
        (
            {"lengths": [17] * 16, "boundaries": (20,)},
            "lengths: expected at most 16, the second axis of 'tokens', got 17",
        ),
        ({"sequences": ["words"]}, r"sequences: expected names of arrays \[examples, time, ...\], got 'words'"),
        ({"sequences": ["id"]}, r"sequences: expected names of arrays \[examples, time, ...\], got 'id'"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        (
            {"batch_size": 5, "boundaries": (1, 16)},
            "at least batch_size=5 examples in each bucket .* got 2 of length 0 to 1",
        ),
        ({"arrays": {}}, "arrays: expected at least one named array, got none"),
    ],
)
def test_what_makes_no_buckets_is_refused(fields, message):
    arguments = {"arrays": MIXED, "lengths": MIXED["length"], "batch_size": 2, "boundaries": (8, 16), "train": True}
    with pytest.raises(ValueError, match=message):
        LengthBuckets(**{**arguments, **fields})


def test_no_examples_are_an_error():
    with pytest.raises(ValueError, match="arrays: expected at least one example"):
        LengthBuckets({"id": np.zeros(0)}, np.zeros(0, int), 1, boundaries=(3,), sequences=(), train=False)


def test_positions_are_checked():
    data = buckets(MIXED, 2, (16,), train=True)
    for arguments, message in (((-1,), "epoch: expected"), ((0, 9), "start: expected 0 to 8"), ((0, -1), "start")):
        with pytest.raises(ValueError, match=message):
            list(data.batches(*arguments))
    with pytest.raises(ValueError, match="size: expected at least 1, got 0"):
        data.chunks(0, 0, 0)
