"""`DeviceData` and `HostData` share their meaning, so they share their tests."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.data import DeviceData, HostData, device_data

KINDS = pytest.mark.parametrize("kind", [DeviceData, HostData])


def make_arrays(num_examples):
    rng = np.random.default_rng(0)
    return {"image": rng.random((num_examples, 2, 3), np.float32), "label": np.arange(num_examples, dtype=np.int32)}


def assert_equal(batches, others):
    batches, others = list(batches), list(others)
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            assert batch[name].dtype == other[name].dtype
            np.testing.assert_array_equal(batch[name], other[name])


@settings(max_examples=20, deadline=None)
@given(
    num_examples=st.sampled_from([1, 6, 7]), batch_size=st.sampled_from([1, 3, 6]), train=st.booleans(), data=st.data()
)
def test_device_equals_host_and_any_start_is_the_tail(num_examples, batch_size, train, data):
    if train and batch_size > num_examples:
        return
    arrays = make_arrays(num_examples)
    seed, epoch = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
    device, host = (kind(arrays, batch_size, train=train, seed=seed) for kind in (DeviceData, HostData))
    assert device.num_examples == host.num_examples == num_examples
    assert len(device) == len(host) == len(list(host.batches(epoch)))
    start, size = data.draw(st.integers(0, len(device))), data.draw(st.integers(1, 3))
    tail = list(device.batches(epoch))[start:]
    assert_equal(tail, device.batches(epoch, start))
    assert_equal(tail, host.batches(epoch, start))
    chunks = list(device.chunks(epoch, start, size))
    assert_equal(chunks, host.chunks(epoch, start, size))
    assert all(chunk["label"].shape == (size, batch_size) for chunk in chunks[:-1])
    assert_equal(
        tail, [{name: x[i] for name, x in chunk.items()} for chunk in chunks for i in range(len(chunk["label"]))]
    )


@KINDS
@pytest.mark.parametrize(("num_examples", "batch_size", "length"), [(7, 3, 3), (6, 3, 2), (2, 5, 1), (1, 1, 1)])
def test_evaluation_sees_every_example_once_in_order(kind, num_examples, batch_size, length):
    arrays = make_arrays(num_examples)
    data = kind(arrays, batch_size, train=False)
    batches = list(data.batches(0))
    assert len(data) == len(batches) == length
    real = [np.asarray(batch["mask"]) == 1 for batch in batches]
    assert all(batch["mask"].dtype == np.float32 and batch["mask"].shape == (batch_size,) for batch in batches)
    for name in arrays:
        seen = np.concatenate([np.asarray(batch[name])[rows] for batch, rows in zip(batches, real, strict=True)])
        np.testing.assert_array_equal(seen, arrays[name])
    for batch in batches:  # padding is an example, whole
        np.testing.assert_array_equal(batch["image"], arrays["image"][np.asarray(batch["label"])])
    assert sum(rows.sum() for rows in real) == num_examples
    assert_equal(batches, data.batches(5))


@KINDS
def test_training_shuffles_by_seed_and_epoch_and_drops_the_end(kind):
    arrays = make_arrays(50)
    data = kind(arrays, 8, train=True, seed=1)
    epochs = [np.concatenate([np.asarray(batch["label"]) for batch in data.batches(epoch)]) for epoch in (0, 1, 0)]
    assert len(data) == 6
    assert all(len(np.unique(labels)) == 48 for labels in epochs)
    assert (epochs[0] == epochs[2]).all()
    assert (epochs[0] != epochs[1]).any()
    other = np.asarray(next(kind(arrays, 8, train=True, seed=2).batches(0))["label"])
    assert (other != epochs[0][:8]).any()
    assert (other != epochs[1][:8]).any()  # nor is the next epoch the next seed
    batch = next(data.batches(0))
    assert batch.keys() == arrays.keys()  # no mask
    np.testing.assert_array_equal(batch["image"], arrays["image"][np.asarray(batch["label"])])


@KINDS
def test_every_example_is_as_likely_in_every_place(kind):
    """400 epochs of 4 examples: each place sees each example 100 times, give or take five standard deviations."""
    data = kind({"x": np.arange(4)}, 4, train=True)
    order = np.array([np.asarray(next(data.batches(epoch))["x"]) for epoch in range(400)])
    counts = np.array([np.bincount(column, minlength=4) for column in order.T])
    assert np.abs(counts - 100).max() < 5 * np.sqrt(400 * 0.25 * 0.75)


@KINDS
def test_a_mask_of_ones_own(kind):
    arrays = {"x": np.arange(5), "mask": np.array([True, False, True, True, True])}
    batches = list(kind(arrays, 3, train=False).batches(0))
    np.testing.assert_array_equal([batch["mask"] for batch in batches], [[1, 0, 1], [1, 1, 0]])
    assert batches[0]["mask"].dtype == np.float32
    assert next(kind(arrays, 3, train=True).batches(0))["mask"].dtype == bool


def test_batches_do_not_alias_the_source():
    arrays = make_arrays(4)
    before = arrays["label"].copy()
    next(HostData(arrays, 4, train=False).batches(0))["label"][:] = -1
    np.testing.assert_array_equal(arrays["label"], before)


@pytest.mark.parametrize("train", [True, False])
def test_no_recompilation(train, monkeypatch):
    data = DeviceData(make_arrays(11), 2, train=train)
    list(data.chunks(0, 0, 3))
    list(data.batches(0))
    monkeypatch.setattr(device_data.jnp, "take", None)  # tracing again would call it
    for epoch in (1, 2):
        list(data.chunks(epoch, 0, 3))
        list(data.batches(epoch, 1))


def test_only_the_indices_travel():
    data = DeviceData(make_arrays(11), 2, train=False)
    with jax.transfer_guard("disallow"):  # what is put explicitly is allowed, and that is the indices
        for batch in data.batches(0):
            assert isinstance(batch["image"], jax.Array)


def test_device_types(x64):
    wide = {"x": np.ones(3), "y": np.arange(3) + 2**40}
    assert {str(v.dtype) for v in next(DeviceData(wide, 3, train=True).batches(0)).values()} == {"float64", "int64"}
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match="expected 'y' to fit int32, got values from 1099511627776"):
            DeviceData(wide, 3, train=True)
        wide["y"] -= 2**40
        batch = next(DeviceData(wide, 3, train=True).batches(0))
        assert {str(v.dtype) for v in batch.values()} == {"float32", "int32"}
        assert {str(v.dtype) for v in next(HostData(wide, 3, train=True).batches(0)).values()} == {"float64", "int64"}


def test_host_data_leaves_memory_maps_where_they_are(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(10))
    data = HostData({"x": np.load(tmp_path / "x.npy", mmap_mode="r")}, 4, train=False)
    np.testing.assert_array_equal(next(data.batches(0, 1))["x"], [4, 5, 6, 7])
    assert data._arrays["x"].base is not None


@KINDS
@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({}, "at least one named array"),
        ({"x": np.zeros((0, 2))}, "num_examples: expected at least 1"),
        ({"x": np.zeros(3), "y": np.zeros(4)}, r"equal leading axes, got shapes {'x': \(3,\), 'y': \(4,\)}"),
        ({"x": np.float32(1)}, "equal leading axes"),
        ({"x": np.zeros(3), "mask": np.zeros((3, 2))}, r"'mask' of shape \(3,\), got \(3, 2\)"),
    ],
)
def test_bad_arrays(kind, arrays, match):
    with pytest.raises(ValueError, match=match):
        kind(arrays, 2, train=False)


@pytest.mark.parametrize(("dtype", "name"), [("U", "<U1"), (np.dtypes.StringDType(), "StringDType")])
def test_arrays_that_are_not_numbers(dtype, name):
    with pytest.raises(ValueError, match=f"arrays: expected numbers, got 'x' of type {name}"):
        DeviceData({"x": np.array(["a", "b"], dtype)}, 1, train=True)


@KINDS
def test_bad_arguments(kind):
    arrays = make_arrays(5)
    for batch_size in (0, -1):
        with pytest.raises(ValueError, match="batch_size: expected at least 1"):
            kind(arrays, batch_size, train=False)
    with pytest.raises(ValueError, match="batch_size: expected at most num_examples, 5, in training, got 6"):
        kind(arrays, 6, train=True)
    with pytest.raises(ValueError, match="seed: expected at least 0"):
        kind(arrays, 2, train=True, seed=-1)
    data = kind(arrays, 2, train=True)
    assert list(data.batches(0, 2)) == []
    for start in (-1, 3):
        with pytest.raises(ValueError, match="start: expected 0 to 2"):
            data.batches(0, start)
        with pytest.raises(ValueError, match="start: expected 0 to 2"):
            data.chunks(0, start, 1)
    with pytest.raises(ValueError, match="epoch: expected at least 0"):
        data.batches(-1)
    with pytest.raises(ValueError, match="size: expected at least 1"):
        data.chunks(0, 0, 0)


@KINDS
@pytest.mark.parametrize("offset", [0, 4, 64])
def test_data_on_the_device_does_not_see_later_writes(kind, offset):
    """JAX shares the memory of an array that is aligned; `HostData` is a view, as documented."""
    buffer = np.zeros(256, np.uint8)
    start = -buffer.ctypes.data % 64 + offset
    x = buffer[start : start + 48].view(np.float32)
    data = kind({"x": x}, 12, train=False)
    x[:] = 7
    np.testing.assert_array_equal(next(data.batches(0))["x"], np.full(12, 7 * (kind is HostData)))


def test_arrays_without_numbers():
    empty = DeviceData({"x": np.zeros((5, 0), np.int64)}, 2, train=True)
    assert next(empty.batches(0))["x"].shape == (2, 0)
    with pytest.raises(ValueError, match="arrays: expected numbers, got 'k' of type key"):
        DeviceData({"k": jax.random.split(jax.random.key(0), 4)}, 2, train=True)
