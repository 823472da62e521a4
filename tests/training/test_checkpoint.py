"""Checkpoints: every kind of leaf comes back bit for bit, every kind of damage is found, and nothing good is lost."""

import os
import shutil
import signal
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxdl.training import checkpoint_format
from jaxdl.training.checkpoint import Checkpointer, CheckpointError, CheckpointWarning, sigterm_flag


class State(NamedTuple):
    params: dict
    opt_state: Any
    step: jax.Array
    key: jax.Array


def make_state(seed, size=40):
    params = {"dense": {"kernel": np.random.default_rng(seed).normal(size=(size, 30)).astype(np.float32)}, "empty": {}}
    params = jax.tree.map(jnp.asarray, params)
    return State(params, optax.adam(0.1).init(params), jnp.asarray(seed, jnp.int32), jax.random.key(seed))


def bits(tree):
    """Type, shape and bytes of every leaf, and the structure."""
    leaves = [jax.random.key_data(x) if isinstance(x, jax.Array) and is_key(x) else x for x in jax.tree.leaves(tree)]
    return [(str(x.dtype), x.shape, np.asarray(x).tobytes()) for x in leaves], jax.tree.structure(tree)


def is_key(x):
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def save_steps(directory, steps, metrics=None, **options):
    with Checkpointer(directory, **options) as checkpointer:
        for i, step in enumerate(steps):
            metric = None if metrics is None else metrics[i]
            checkpointer.save(make_state(step), step=step, extra={"batch": step}, metric=metric)
    return checkpointer


def names(directory):
    return sorted(path.name for path in directory.iterdir())


EVERY_KIND = {
    "bfloat16": jnp.asarray([1.5, -2, np.nan, np.inf], jnp.bfloat16),
    "float16": jnp.asarray([[1e-7, 65504]], jnp.float16),
    "float32": jnp.asarray([-0.0, 1e-45]),
    "complex64": jnp.asarray(1 + 2j),
    "float8": jnp.asarray([0.5, 2], jnp.float8_e4m3fn),
    "int4": jnp.asarray([-8, 7, 1], jnp.int4),
    "int32": jnp.asarray(-7),
    "uint8": jnp.asarray([0, 255], jnp.uint8),
    "bool": jnp.asarray([True, False]),
    "numpy": np.asfortranarray(np.arange(6.0, dtype=np.float32).reshape(2, 3)),
    "size 0": jnp.zeros((0, 3), jnp.bfloat16),
    "odd/name.0": [jnp.ones(2), (), {}, None, optax.EmptyState()],
    "key": jax.random.key(1),
    "rbg keys": jax.random.split(jax.random.key(2, impl="rbg"), 3),
    "no keys": jax.random.split(jax.random.key(1), 0),
}


@pytest.mark.parametrize("template", [EVERY_KIND, jax.eval_shape(lambda: EVERY_KIND)], ids=["arrays", "shapes"])
def test_every_kind_of_leaf_comes_back_bit_for_bit(tmp_path, template):
    extra = {"epoch": 3, "history": [{"loss": 0.1, "lr": float("nan")}], "text": "é\n", "none": None}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(EVERY_KIND, step=5, extra=extra)
        restored = checkpointer.restore(template)
    assert restored is not None
    assert restored.step == 5
    assert repr(restored.extra) == repr(extra)
    assert bits(restored.state) == bits(EVERY_KIND)
    for leaf in jax.tree.leaves(restored.state):
        assert isinstance(leaf, jax.Array)
        assert not leaf.committed
        assert leaf.devices() == {jax.devices()[0]}
    # The same numbers come out of the restored keys.
    assert jax.random.uniform(restored.state["rbg keys"][2]) == jax.random.uniform(EVERY_KIND["rbg keys"][2])


@pytest.mark.usefixtures("x64")
def test_float64(tmp_path):
    state = {"jax": jnp.asarray([np.pi]), "number": 3, "numpy": np.float64(0.1)}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(state, step=1, extra={})
        restored = checkpointer.restore(state)
        assert restored is not None
        assert bits(restored.state) == bits(jax.tree.map(jnp.array, state))
        assert restored.state["jax"].dtype == jnp.float64
        with jax.enable_x64(False):
            numpy_only = checkpointer.restore(state | {"jax": np.array([np.pi])})
            assert numpy_only is not None
            assert bits(numpy_only.state) == bits(jax.tree.map(np.array, state))  # narrowed by no one
            with pytest.raises(CheckpointError, match=r"expected \['jax'\] float32\[1\], found \['jax'\] float64\[1\]"):
                checkpointer.restore(state | {"jax": jnp.asarray([1.0])})


def test_sharded_arrays_restore_as_if_they_had_not_been(tmp_path):
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    state = make_state(3)
    spread = jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, PartitionSpec())), state)
    spread.params["dense"]["kernel"] = jax.device_put(
        state.params["dense"]["kernel"], NamedSharding(mesh, PartitionSpec("a", "b"))
    )
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(spread, step=1, extra={})
        restored = checkpointer.restore(spread)
    assert restored is not None
    assert bits(restored.state) == bits(state)
    assert restored.state.params["dense"]["kernel"].devices() == {jax.devices()[0]}


@pytest.mark.parametrize("state", [{}, {"empty": jnp.zeros((2, 0))}, jnp.ones(3)], ids=["nothing", "size 0", "leaf"])
def test_unusual_trees(tmp_path, state):
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(state, step=0, extra={})
        restored = checkpointer.restore(state)
    assert restored is not None
    assert bits(restored.state) == bits(state)


def test_the_state_may_be_donated_after_save(tmp_path, monkeypatch):
    may_write = threading.Event()
    write = checkpoint_format.write
    monkeypatch.setattr(checkpoint_format, "write", lambda *args: (may_write.wait(60), write(*args)))
    state = {"jax": jnp.arange(100_000.0), "numpy": np.arange(10)}
    expected = bits(jax.tree.map(np.array, state))
    extra = {"list": [1]}
    overwrite = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(state, step=1, extra=extra)
        assert names(tmp_path) == []  # save() did not wait for the disk
        overwrite(state["jax"])
        assert state["jax"].is_deleted()
        state["numpy"][:] = -1
        extra["list"].append(2)
        may_write.set()
        restored = checkpointer.restore({"jax": np.zeros(100_000, np.float32), "numpy": np.zeros(10, int)})
    assert restored is not None
    assert bits(jax.tree.map(np.array, restored.state)) == expected
    assert restored.extra == {"list": [1]}


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoints")
    save_steps(directory, [1, 2])
    return directory


def files_of(folder):
    return sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: -path.stat().st_size)


def flip_a_bit(path, position):
    data = bytearray(path.read_bytes())
    data[int(position * (len(data) - 1))] ^= 1
    path.write_bytes(data)


def assert_set_aside(directory, reason=""):
    """The newest checkpoint (2) is reported and set aside; the one before it (1) is used, now and from now on."""
    with Checkpointer(directory) as checkpointer:
        with pytest.warns(CheckpointWarning, match=rf"(?s)2 is damaged.*{reason}.*2\.damaged.*1 is used"):
            restored = checkpointer.restore(make_state(0))
        assert restored is not None
        assert (restored.step, restored.extra) == (1, {"batch": 1})
        assert bits(restored.state) == bits(make_state(1))
        assert names(directory) == ["1", "2.damaged"]
        assert checkpointer.latest_step == 1
        checkpointer.save(make_state(2), step=2, extra={"batch": 2})
        restored = checkpointer.restore(make_state(0))
        assert restored is not None
        assert restored.step == 2


@pytest.mark.parametrize("damage", ["removed", "truncated", "emptied"])
def test_each_file_damaged(two_checkpoints, tmp_path, damage):
    files = [path.relative_to(two_checkpoints) for path in files_of(two_checkpoints / "2")]
    assert len(files) > 3
    for number, file in enumerate(files):
        directory = tmp_path / str(number)
        shutil.copytree(two_checkpoints, directory)
        if damage == "removed":
            (directory / file).unlink()
        else:
            data = (directory / file).read_bytes()
            (directory / file).write_bytes(data[:-1] if damage == "truncated" else b"")
        assert_set_aside(directory)


@pytest.mark.parametrize("position", [0.1, 0.5, 0.9])
def test_a_bit_flipped_in_the_largest_data_file(two_checkpoints, tmp_path, position):
    directory = shutil.copytree(two_checkpoints, tmp_path / "copy")
    largest = files_of(directory / "2")[0]
    assert largest.stat().st_size > 1000
    flip_a_bit(largest, position)
    assert_set_aside(directory)


def test_any_bit_flipped_in_the_description(two_checkpoints, tmp_path):
    reference = (two_checkpoints / "2" / "description.json").read_text()
    for word in ("step", '2, "extra', "batch", ".params", "float32", "40, 30", "metrics", "format", "files", "digest"):
        directory = shutil.copytree(two_checkpoints, tmp_path / "copy")
        flip_a_bit(directory / "2" / "description.json", reference.index(word) / (len(reference) - 1))
        assert_set_aside(directory)
        shutil.rmtree(directory)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: (x.view(np.uint8) ^ 1).view(x.dtype) if x.ndim else x,
        lambda x: x.astype(np.float64) if x.dtype == np.float32 else x,
        lambda x: x.reshape(x.shape[::-1]),
    ],
    ids=["bits", "dtype", "shape"],
)
def test_whatever_orbax_gets_wrong_in_silence_is_found(two_checkpoints, monkeypatch, change):
    orbax_restore = orbax.checkpoint.Checkpointer.restore
    monkeypatch.setattr(
        orbax.checkpoint.Checkpointer, "restore", lambda *a, **k: jax.tree.map(change, orbax_restore(*a, **k))
    )
    with Checkpointer(two_checkpoints) as checkpointer, pytest.raises(CheckpointError, match=r"(?s)digest.*digest"):
        checkpointer.restore(make_state(0))


def test_all_damaged_is_an_error_every_time(two_checkpoints, tmp_path):
    directory = shutil.copytree(two_checkpoints, tmp_path / "copy")
    (directory / "1" / "description.json").write_text("{}")
    flip_a_bit(files_of(directory / "2")[0], 0.5)
    for _ in range(2):
        with Checkpointer(directory) as checkpointer, pytest.raises(CheckpointError) as raised:
            checkpointer.restore(make_state(0))
        assert f"{directory / '1'}: KeyError" in str(raised.value)
        assert f"{directory / '2'}: " in str(raised.value)
    assert names(directory) == ["1", "2"]


def test_a_second_damaged_checkpoint_of_the_same_step_gets_its_own_name(two_checkpoints, tmp_path):
    directory = shutil.copytree(two_checkpoints, tmp_path / "copy")
    (directory / "2.damaged").mkdir()
    (directory / "2" / "description.json").unlink()
    with Checkpointer(directory) as checkpointer, pytest.warns(CheckpointWarning, match=r"2\.damaged-2"):
        checkpointer.restore(make_state(0))
    assert names(directory) == ["1", "2.damaged", "2.damaged-2"]


def test_an_empty_directory_restores_nothing(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "7").write_text("a file, not a checkpoint")
    with Checkpointer(tmp_path, best="loss") as checkpointer:
        assert checkpointer.restore(make_state(0)) is None
        assert checkpointer.restore_best(make_state(0)) is None
        assert checkpointer.latest_step is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: make_state(0, size=41),
            r"expected \.params\['dense'\]\['kernel'\] float32\[41,30\], found .* float32\[40,30\]",
        ),
        (
            lambda state: state._replace(step=jnp.asarray(0.0)),
            r"expected \.step float32\[\], found \.step int32\[\]",
        ),
        (
            lambda state: state._replace(params=state.params | {"a": jnp.ones(2)}),
            r"expected \.params\['a'\] float32\[2\], found \.params\['dense'\]\['kernel'\]",
        ),
        (
            lambda state: state._replace(key=jax.random.key(0, impl="rbg")),
            r"expected \.key key<rbg>\[\], found \.key key<threefry2x32>\[\]",
        ),
        (lambda state: state._replace(key=None), r"expected nothing, found \.key key<threefry2x32>\[\]"),
    ],
    ids=["shape", "dtype", "missing", "key", "unexpected"],
)
def test_another_model_is_an_error_that_names_the_first_leaf(two_checkpoints, change, message):
    with Checkpointer(two_checkpoints) as checkpointer, pytest.raises(CheckpointError, match=message):
        checkpointer.restore(change(make_state(0)))
    assert names(two_checkpoints) == ["1", "2"]  # nothing is set aside: it is not damage


def test_a_later_format_is_not_damage(two_checkpoints, tmp_path, monkeypatch):
    directory = shutil.copytree(two_checkpoints, tmp_path / "copy")
    monkeypatch.setattr(checkpoint_format, "_FORMAT", 0)
    with Checkpointer(directory) as checkpointer, pytest.raises(CheckpointError, match="format 0, found 1"):
        checkpointer.restore(make_state(0))
    assert names(directory) == ["1", "2"]


@pytest.mark.parametrize("below", ["a regular file", "/proc"])
def test_a_directory_that_cannot_be_written_is_an_error_at_once(tmp_path, below):
    if below == "/proc" and not os.path.isdir(below):
        pytest.skip("this system has no /proc")
    (tmp_path / "a regular file").touch()
    with pytest.raises(CheckpointError, match=r"directory: cannot write checkpoints to .*checkpoints"):
        Checkpointer(tmp_path / below / "checkpoints")


@pytest.mark.parametrize("options", [{"every": 0}, {"keep": 0}, {"best": "loss", "best_mode": "least"}])
def test_bad_options(tmp_path, options):
    with pytest.raises(ValueError, match=f"{list(options)[-1]}: expected"):
        Checkpointer(tmp_path, **options)


def test_bad_values_to_save(tmp_path):
    with Checkpointer(tmp_path) as checkpointer:
        with pytest.raises(ValueError, match=r"\['name'\]: expected an array of native numbers"):
            checkpointer.save({"name": "LeNet"}, step=1, extra={})
        with pytest.raises(ValueError, match=r"\['x'\]: expected an array of native numbers, got >f4"):
            checkpointer.save({"x": np.ones(2, ">f4")}, step=1, extra={})
        with pytest.raises(ValueError, match="extra: expected JSON values"):
            checkpointer.save({}, step=1, extra={"loss": np.float32(1)})
        with pytest.raises(ValueError, match="metric: expected None"):
            checkpointer.save({}, step=1, extra={}, metric=0.5)
        with pytest.raises(ValueError, match="best: expected the name of a metric"):
            checkpointer.restore_best({})
        checkpointer.save({}, step=1, extra={})  # none of these counts as a save


def test_the_newest_and_the_best_are_kept(tmp_path):
    metrics = [0.3, 0.9, float("nan"), 0.9, None, 0.5]
    checkpointer = save_steps(tmp_path, range(1, 7), metrics, keep=2, best="accuracy", best_mode="max")
    assert names(tmp_path) == ["2", "5", "6"]
    restored = checkpointer.restore_best(make_state(0))
    assert restored is not None
    assert restored.step == 2
    # Another object, as after a restart, knows it too; another metric's values do not count.
    again = save_steps(tmp_path, [7], [0.8], keep=1, best="accuracy", best_mode="max")
    assert names(tmp_path) == ["2", "7"]
    flip_a_bit(files_of(tmp_path / "2")[0], 0.5)
    with pytest.warns(CheckpointWarning, match="2 is damaged"):
        restored = again.restore_best(make_state(0))
    assert restored is not None
    assert restored.step == 7
    save_steps(tmp_path, [8, 9], [3, 2], keep=1, best="loss")
    assert names(tmp_path) == ["2.damaged", "9"]


def test_nothing_is_deleted_before_the_newer_save_is_complete(tmp_path, monkeypatch):
    save_steps(tmp_path, [1], keep=1)

    def fail(*args):
        (tmp_path / "2.tmp").mkdir()
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint_format, "write", fail)
    with pytest.raises(CheckpointError, match=r"saving step 2 to .* failed: OSError.*disk full"):
        save_steps(tmp_path, [2], keep=1)
    assert names(tmp_path) == ["1", "2.tmp"]
    monkeypatch.undo()
    save_steps(tmp_path, [2], keep=1)
    assert names(tmp_path) == ["2"]


def test_a_failed_background_save_is_raised_at_the_next_occasion(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    with Checkpointer(tmp_path, every=1) as checkpointer:
        for occasion in (
            checkpointer.check,
            checkpointer.wait,
            lambda: checkpointer.restore(make_state(0)),
            lambda: checkpointer.save(make_state(2), step=2, extra={}),
            lambda: checkpointer.save(make_state(1), step=1, extra={}),
        ):
            monkeypatch.setattr(checkpoint_format, "write", fail)
            checkpointer.save(make_state(2), step=2, extra={})  # does not raise yet
            assert checkpointer._pending is not None
            checkpointer._pending.exception(60)
            monkeypatch.undo()
            with pytest.raises(CheckpointError, match=r"saving step 2 to .* failed: OSError.*disk full"):
                occasion()
            checkpointer.check()  # said once
            assert checkpointer.due(2, end_of_epoch=False)  # it is not on disk
        checkpointer.save(make_state(2), step=2, extra={})
    assert names(tmp_path) == ["2"]


def test_a_step_is_saved_once_and_never_below_another(tmp_path):
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(make_state(5), step=5, extra={})
        checkpointer.save(make_state(6), step=5, extra={})
        restored = checkpointer.restore(make_state(0))
        assert restored is not None
        assert bits(restored.state) == bits(make_state(5))
        with pytest.raises(CheckpointError, match=r"step: expected a step above 5, the newest checkpoint in .* got 4"):
            checkpointer.save(make_state(4), step=4, extra={})
    with Checkpointer(tmp_path) as checkpointer:  # another run
        with pytest.raises(CheckpointError, match=r"step: expected a step above 5, .* got 5"):
            checkpointer.save(make_state(0), step=5, extra={})
        checkpointer.restore(make_state(0))
        checkpointer.save(make_state(0), step=5, extra={})  # the same run resumed
    assert names(tmp_path) == ["5"]


def test_due(tmp_path):
    with Checkpointer(tmp_path / "epochs") as checkpointer:
        assert not checkpointer.due(3, end_of_epoch=False)
        assert checkpointer.due(3, end_of_epoch=True)
        checkpointer.save({}, step=3, extra={})
        assert not checkpointer.due(3, end_of_epoch=True)
    with Checkpointer(tmp_path / "steps", every=10) as checkpointer:
        saved = []
        for step in range(4, 50, 4):
            if checkpointer.due(step, end_of_epoch=step == 4):
                checkpointer.save({}, step=step, extra={})
                saved.append(step)
        assert saved == [12, 20, 32, 40]
    with Checkpointer(tmp_path / "steps", every=10) as checkpointer:
        checkpointer.restore({})
        assert not checkpointer.due(48, end_of_epoch=False)
        assert checkpointer.due(52, end_of_epoch=False)


def test_remains_of_a_killed_save_are_ignored_then_removed(two_checkpoints, tmp_path):
    directory = shutil.copytree(two_checkpoints, tmp_path / "copy")
    shutil.copytree(directory / "2", directory / "3.tmp")
    (directory / "3.tmp" / "description.json").unlink()
    shutil.copytree(directory / "2", directory / "0.tmp")  # of a deletion
    with Checkpointer(directory) as checkpointer:
        restored = checkpointer.restore(make_state(0))
        assert restored is not None
        assert restored.step == 2
        assert names(directory) == ["0.tmp", "1", "2", "3.tmp"]  # a reader removes nothing
        checkpointer.save(make_state(3), step=3, extra={})
    assert names(directory) == ["1", "2", "3"]


def test_sigterm_sets_a_flag_and_the_previous_handler_comes_back():
    calls = []

    def previous(signum, frame):
        calls.append(signum)

    before = signal.signal(signal.SIGTERM, previous)
    try:
        with sigterm_flag() as terminated:
            assert not terminated()
            signal.raise_signal(signal.SIGTERM)
            assert terminated()
        assert calls == []
        assert signal.getsignal(signal.SIGTERM) is previous
        with pytest.raises(RuntimeError, match="out"), sigterm_flag():
            raise RuntimeError("out")
        assert signal.getsignal(signal.SIGTERM) is previous
        with sigterm_flag() as terminated:
            assert not terminated()
            signal.raise_signal(signal.SIGTERM)
        assert calls == [signal.SIGTERM]  # nobody asked after it came, so it is passed on
    finally:
        signal.signal(signal.SIGTERM, before)


def test_sigterm_outside_the_main_thread():
    answers = []

    def run():
        with sigterm_flag() as terminated:
            answers.append(terminated())

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert answers == [False]
    assert signal.getsignal(signal.SIGTERM) is before
