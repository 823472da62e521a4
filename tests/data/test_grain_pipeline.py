import subprocess
import sys
import textwrap

import numpy as np
import pytest

from jaxdl.data import HostData, pipeline

ARRAYS = {"image": np.random.default_rng(0).random((10, 2, 2, 1), np.float32), "label": np.arange(10, dtype=np.int32)}


def jitter(example, rng):
    """Changes the example in place, as the documentation allows."""
    example["image"] += rng.normal(size=example["image"].shape).astype(np.float32)
    return example


def assert_equal(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            assert batch[name].dtype == other[name].dtype
            np.testing.assert_array_equal(batch[name], other[name])


class Squares:
    """A source of examples that are made when they are asked for."""

    def __len__(self):
        return 7

    def __getitem__(self, index):
        return {"x": np.full(3, index), "y": index**2}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_equals_host_data_without_a_transform(train, batch_size):
    data = pipeline(ARRAYS, batch_size, train=train, seed=2)
    host = HostData(ARRAYS, batch_size, train=train, seed=2)
    assert (len(data), data.num_examples) == (len(host), 10)
    for epoch, start in ((0, 0), (1, 0), (1, 1), (1, len(data))):
        assert_equal(data.batches(epoch, start), host.batches(epoch, start))


@pytest.mark.parametrize("train", [True, False])
def test_randomness_is_of_seed_epoch_and_example(train):
    data = pipeline(ARRAYS, 4, train=train, seed=2, transform=jitter)
    whole = list(data.batches(3))
    assert_equal(whole, data.batches(3))
    assert_equal(whole[1:], data.batches(3, 1))
    assert_equal(whole, pipeline(ARRAYS, 4, train=train, seed=2, transform=jitter).batches(3))
    for batch in whole:  # each example's noise, by its number
        for image, label in zip(batch["image"], batch["label"], strict=True):
            expected = jitter({"image": ARRAYS["image"][label].copy()}, np.random.default_rng((2, 3, label)))
            np.testing.assert_array_equal(image, expected["image"])
    for other in (data.batches(4), pipeline(ARRAYS, 4, train=train, seed=3, transform=jitter).batches(3)):
        assert (next(other)["image"] != whole[0]["image"]).all()


def test_a_transform_may_change_names_and_shapes():
    data = pipeline(ARRAYS, 5, train=False, transform=lambda example, rng: {"sum": example["image"].sum()})
    batches = list(data.batches(0))
    np.testing.assert_array_equal(np.concatenate([b["sum"] for b in batches]), ARRAYS["image"].sum((1, 2, 3)))
    assert batches[0].keys() == {"sum", "mask"}


def test_a_source_of_examples():
    batches = list(pipeline(Squares(), 4, train=False).batches(0))
    np.testing.assert_array_equal([b["y"] for b in batches], [[0, 1, 4, 9], [16, 25, 36, 0]])
    np.testing.assert_array_equal([b["mask"] for b in batches], [[1, 1, 1, 1], [1, 1, 1, 0]])
    assert batches[0]["x"].shape == (4, 3)


def test_a_mask_of_ones_own():
    data = pipeline({"x": np.arange(3), "mask": np.array([1, 0, 1])}, 4, train=False)
    np.testing.assert_array_equal(next(data.batches(0))["mask"], np.array([1, 0, 1, 0], np.float32))


def test_worker_processes_from_a_script(tmp_path):
    """The same batches from no workers and from two, an epoch left in the middle, and a clean exit."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import numpy as np
        from jaxdl.data import pipeline

        def jitter(example, rng):
            return {**example, "x": example["x"] + rng.normal()}

        if __name__ == "__main__":
            arrays = {"x": np.zeros((50, 3)), "label": np.arange(50)}
            here, there = (pipeline(arrays, 4, train=True, transform=jitter, num_workers=n) for n in (0, 2))
            pairs = list(zip(here.batches(1, 3), there.batches(1, 3), strict=True))
            assert len(pairs) == 9
            assert all(np.array_equal(a[name], b[name]) for a, b in pairs for name in ("x", "label"))
            assert all(type(b["x"]) is np.ndarray for _, b in pairs)
            unfinished = there.batches(0)
            batch = next(unfinished)
            print("done")
        """)
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n")
    # What Python's and Grain's pools print as they are torn down at exit is a race of theirs; nothing of it is ours.
    assert "Warning" not in done.stderr
    assert "grain_pipeline.py" not in done.stderr, done.stderr


def fail_at_six(example, rng):
    if example["label"] == 6:
        raise ZeroDivisionError("six")
    return example


def rename_six(example, rng):
    return {"six": 6} if example["label"] == 6 else {"x": 1}


def lengthen_six(example, rng):
    return {"x": np.zeros(6 if example["label"] == 6 else 5)}


@pytest.mark.parametrize(
    ("transform", "error", "match"),
    [
        (fail_at_six, ZeroDivisionError, "six"),
        (rename_six, ValueError, "expected the same names in a batch"),
        (lengthen_six, ValueError, "expected equal shapes of 'x'"),
    ],
)
def test_errors_in_examples_come_through(transform, error, match):
    batches = pipeline(ARRAYS, 5, train=False, transform=transform).batches(0)
    assert len(next(batches)["mask"]) == 5
    with pytest.raises(error, match=match):
        next(batches)


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_workers: expected at least 0, got -1"):
        pipeline(ARRAYS, 2, train=True, num_workers=-1)
    with pytest.raises(ValueError, match="batch_size: expected at most num_examples, 10"):
        pipeline(ARRAYS, 11, train=True)
    with pytest.raises(ValueError, match="equal leading axes"):
        pipeline({"x": np.zeros(2), "y": np.zeros(3)}, 2, train=True)
    data = pipeline(ARRAYS, 5, train=True)
    with pytest.raises(ValueError, match="start: expected 0 to 2"):
        data.batches(0, 3)
    with pytest.raises(ValueError, match="epoch: expected at least 0"):
        data.batches(-1)


def test_needs_grain(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[examples\]'"):
        pipeline(ARRAYS, 2, train=True)
