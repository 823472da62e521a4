"""The training loop: what it runs, when it looks, what it reports, how it stops."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import ListData, eval_fn, largest_gap, loss_fn, make_batch, make_params, make_state

from jaxdl.data.device_data import DeviceData
from jaxdl.training import (
    Checkpointer,
    EarlyStopping,
    History,
    NonFiniteLoss,
    evaluate,
    fit,
    jit_step,
    make_step,
    sum_gradients,
)
from jaxdl.training import fit as fit_function

OPTIMIZER = optax.adam(0.05)
STEP = make_step(sum_gradients(loss_fn), OPTIMIZER)
ONE, FOUR = jit_step(STEP), jit_step(STEP, steps_per_call=4)
BATCHES = [make_batch(seed, 16) for seed in range(6)]


def untimed(history):
    return [{k: v for k, v in row.items() if k not in ("examples_per_second", "seconds")} for row in history.rows]


def loop(steps):
    """The plain loop that `fit` must equal."""
    state, means = ONE.place_state(make_state(OPTIMIZER)), []
    for i in range(steps):
        state, metrics = ONE(state, BATCHES[i % len(BATCHES)])
        means.append((float(metrics["loss"].total[0]), float(metrics["loss"].count[0])))
    return state, means


@pytest.mark.parametrize("compiled", [ONE, FOUR], ids=["1 step a call", "4 steps a call"])
@pytest.mark.parametrize("length", [{"epochs": 2}, {"steps": 9}], ids=["epochs", "steps"])
def test_fit_is_the_plain_loop(compiled, length):
    start = make_state(OPTIMIZER)
    state, history = fit(compiled, start, ListData(BATCHES), **length, progress=False)
    steps = length.get("steps", 12)
    want, means = loop(steps)
    assert largest_gap(state.params, want.params) < 1e-6
    assert state.step == steps
    assert history["step"] == [6, steps]
    assert history["epoch"] == [1, steps / 6]
    for row, part in zip(history.rows, (means[:6], means[6:]), strict=True):
        total, count = np.sum(part, axis=0)
        assert row["train_loss"] == pytest.approx(total / count, rel=1e-6)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(start))


def test_batches_gathered_inside_the_scan_are_those_gathered_before_it():
    data = DeviceData({name: np.asarray(x) for name, x in make_batch(0, 50).items()}, 8, train=True)
    one, many = (fit(step, make_state(OPTIMIZER), data, steps=10, progress=False)[0] for step in (ONE, FOUR))
    assert largest_gap(one.params, many.params) < 1e-6
    assert one.step == many.step == 10  # six batches an epoch: stacks of 4, 2, 4 and none left over


def test_rows_and_evaluations_come_when_asked():
    data, eval_data = ListData(BATCHES), DeviceData({k: v[:13] for k, v in BATCHES[0].items()}, 4, train=False)
    _, history = fit(
        ONE,
        make_state(OPTIMIZER),
        data,
        steps=10,
        log_every=2,
        eval_fn=eval_fn,
        eval_data=eval_data,
        eval_every=4,
        progress=False,
    )
    assert history["step"] == [2, 4, 6, 8, 10]
    assert [row["step"] for row in history.rows if "eval_loss" in row] == [4, 8, 10]
    assert history.columns[:4] == ["epoch", "step", "train_loss", "train_accuracy"]


def test_evaluation_is_exact_over_a_ragged_end_and_compiles_once(compilations):
    state = make_state(OPTIMIZER)
    arrays = {name: np.asarray(x[:13]) for name, x in make_batch(3).items()}
    whole = evaluate(eval_fn, state, DeviceData(arrays, 13, train=False))
    for batch_size in (4, 5, 64):
        parts = evaluate(eval_fn, state, DeviceData(arrays, batch_size, train=False))
        assert parts == pytest.approx(whole, rel=1e-6)
    before = len(compilations)
    evaluate(eval_fn, state, DeviceData(arrays, 4, train=False))
    assert len(compilations) == before


def test_nothing_compiles_after_the_first_epoch(compilations):
    seen = []
    data = DeviceData({name: np.asarray(x) for name, x in make_batch(0, 50).items()}, 8, train=True)

    def count(state, history):
        seen.append(len(compilations))

    fresh = jit_step(STEP, steps_per_call=4)
    fit(fresh, make_state(OPTIMIZER), data, epochs=3, callbacks=[count], progress=False)
    assert seen[0] > 0
    assert seen[0] == seen[2]


def test_the_device_is_looked_at_ten_times_a_second_at_most(monkeypatch):
    """Between two looks no device array becomes a host value; the clock is ours, 4 ms a step."""
    now, fetches = [0.0], []
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    device_get = jax.device_get
    monkeypatch.setattr("jax.device_get", lambda tree: fetches.append(now[0]) or device_get(tree))
    array_type = type(jnp.ones(1))
    value, conversions = array_type._value, []
    monkeypatch.setattr(array_type, "_value", property(lambda x: conversions.append(1) or value.fget(x)))

    def ticking(state, batch):
        now[0] += 0.004
        return ONE.call(state, batch)

    compiled = type(ONE)(1, ONE.place_state, ONE.place_batch, ticking)
    _, history = fit(compiled, make_state(OPTIMIZER), ListData(BATCHES * 48), epochs=1, progress=True)
    assert len(history) == 1
    assert len(fetches) == 12  # 288 steps of 4 ms are 1.15 s: eleven looks, and one for the row
    assert all(later - earlier > 0.09 for earlier, later in itertools.pairwise(fetches[:-1]))
    assert len(conversions) <= 4 * 288 + 1  # two sums of loss and of accuracy a step, and the first step number


@pytest.mark.parametrize("compiled", [ONE, FOUR], ids=["1 step a call", "4 steps a call"])
def test_a_nonfinite_loss_stops_with_its_step_and_saves_nothing_of_it(tmp_path, compiled):
    bad = [*BATCHES[:5], BATCHES[5] | {"x": BATCHES[5]["x"].at[0].set(jnp.nan), "mask": jnp.ones(16)}]
    with Checkpointer(tmp_path, every=1) as checkpointer:
        with pytest.raises(NonFiniteLoss, match="step 6 is nan") as caught:
            fit(compiled, make_state(OPTIMIZER), ListData(bad), epochs=1, checkpointer=checkpointer, progress=False)
        assert caught.value.step == 6
        assert math.isnan(caught.value.value)
        restored = checkpointer.restore(make_state(OPTIMIZER))
    assert restored is not None
    assert restored.step == (5 if compiled is ONE else 4)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(restored.state.params))


def test_a_resumed_run_has_the_parameters_and_the_history_of_an_uninterrupted_one(tmp_path):
    data, eval_data = ListData(BATCHES), DeviceData(BATCHES[0], 4, train=False)
    options = {"eval_fn": eval_fn, "eval_data": eval_data, "progress": False, "epochs": 3}
    state, history = fit(ONE, make_state(OPTIMIZER), data, **options)

    class Interrupted(Exception):
        pass

    def interrupting(epoch, start=0):
        for i, batch in enumerate(BATCHES[start:], start):
            if (epoch, i) == (1, 4):
                raise Interrupted
            yield batch

    broken = ListData(BATCHES)
    broken.batches = interrupting
    with Checkpointer(tmp_path, every=3) as checkpointer, pytest.raises(Interrupted):
        fit(ONE, make_state(OPTIMIZER), broken, checkpointer=checkpointer, **options)
    with Checkpointer(tmp_path, every=3) as checkpointer:
        assert checkpointer.latest_step == 9
        resumed, resumed_history = fit(
            ONE, make_state(OPTIMIZER), data, checkpointer=checkpointer, resume=True, **options
        )
        assert largest_gap(resumed.params, state.params) == 0
        assert resumed.step == 18
        assert untimed(resumed_history) == untimed(history)
        again, _ = fit(ONE, make_state(OPTIMIZER), data, checkpointer=checkpointer, resume=True, **options)
        assert again.step == 18  # nothing was left to do


def test_a_run_that_starts_from_a_trained_state_counts_on_also_when_resumed(tmp_path):
    trained, _ = fit(ONE, make_state(OPTIMIZER), ListData(BATCHES), steps=5, progress=False)
    options = {"progress": False, "log_every": 2}
    with Checkpointer(tmp_path) as checkpointer:
        fit(ONE, trained, ListData(BATCHES), steps=2, checkpointer=checkpointer, **options)
        assert checkpointer.latest_step == 7
        state, history = fit(
            ONE, make_state(OPTIMIZER), ListData(BATCHES), steps=4, checkpointer=checkpointer, resume=True, **options
        )
    assert history["step"] == [7, 9]
    assert history["epoch"] == [2 / 6, 4 / 6]
    whole, _ = fit(ONE, trained, ListData(BATCHES), steps=4, **options)
    assert largest_gap(state.params, whole.params) == 0
    assert state.step == whole.step == 9


def test_early_stopping_ends_the_run_and_stays_ended(tmp_path):
    data, eval_data = ListData(BATCHES[:1]), DeviceData(BATCHES[0], 16, train=False)
    stop = EarlyStopping("eval_loss", patience=2)
    options = {"eval_fn": eval_fn, "eval_data": eval_data, "epochs": 50, "progress": False, "callbacks": [stop]}
    unlearning = jit_step(make_step(sum_gradients(loss_fn), optax.sgd(-1.0)))
    with Checkpointer(tmp_path) as checkpointer:
        _, history = fit(unlearning, make_state(optax.sgd(-1.0)), data, checkpointer=checkpointer, **options)
        assert len(history) == 3
        _, resumed = fit(
            unlearning, make_state(optax.sgd(-1.0)), data, checkpointer=checkpointer, resume=True, **options
        )
        assert len(resumed) == 3


@pytest.mark.parametrize(
    ("mode", "values", "stopped"),
    [
        ("min", [3.0, 2.0, 2.0, 2.0], True),
        ("min", [3.0, 2.0, 2.5, 1.9], False),
        ("max", [0.5, 0.6, 0.6, 0.6], True),
        ("min", [3.0, 2.0, 1.97, 1.96], True),  # less than min_delta better
        ("min", [3.0], False),
        ("min", [3.0, math.nan, math.nan], True),
    ],
)
def test_early_stopping_decides_from_the_history(mode, values, stopped):
    stop = EarlyStopping("eval_x", patience=2, min_delta=0.05, mode=mode)
    history = History([{"step": i, "eval_x": value} for i, value in enumerate(values)])
    assert stop(make_state(OPTIMIZER), history) is stopped


def test_early_stopping_waits_for_the_first_evaluation_and_names_a_missing_metric():
    stop = EarlyStopping("eval_x")
    assert stop(make_state(OPTIMIZER), History([{"train_loss": 1.0}])) is False
    with pytest.raises(KeyError, match="no column 'eval_x' in the history; it has eval_loss"):
        stop(make_state(OPTIMIZER), History([{"eval_loss": 1.0}]))
    with pytest.raises(ValueError, match="patience: expected at least 1, got 0"):
        EarlyStopping(patience=0)
    with pytest.raises(ValueError, match="min_delta: expected 0 or more, got -1"):
        EarlyStopping(min_delta=-1)


def test_the_best_checkpoint_is_kept(tmp_path):
    eval_data = DeviceData(BATCHES[0], 16, train=False)
    with Checkpointer(tmp_path, keep=1, best="eval_accuracy", best_mode="max") as checkpointer:
        _, history = fit(
            ONE,
            make_state(OPTIMIZER),
            ListData(BATCHES[:2]),
            epochs=6,
            eval_fn=eval_fn,
            eval_data=eval_data,
            checkpointer=checkpointer,
            progress=False,
        )
        best = checkpointer.restore_best(make_state(OPTIMIZER))
    assert best is not None
    assert best.step == history.best("eval_accuracy", "max")["step"]
    figures = evaluate(eval_fn, best.state, eval_data)
    assert figures["accuracy"] == pytest.approx(max(history["eval_accuracy"]))


def test_a_new_run_does_not_mix_with_an_old_one(tmp_path):
    with Checkpointer(tmp_path) as checkpointer:
        fit(ONE, make_state(OPTIMIZER), ListData(BATCHES), epochs=1, checkpointer=checkpointer, progress=False)
        with pytest.raises(ValueError, match="already holds a run, up to step 6; resume it, or choose an empty"):
            fit(ONE, make_state(OPTIMIZER), ListData(BATCHES), epochs=1, checkpointer=checkpointer, progress=False)
        with pytest.raises(ValueError, match="5 batches an epoch, but the checkpoint of step 6 was made with 6"):
            fit(
                ONE,
                make_state(OPTIMIZER),
                ListData(BATCHES[:5]),
                epochs=1,
                checkpointer=checkpointer,
                resume=True,
                progress=False,
            )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either epochs or steps, got epochs=None and steps=None"),
        ({"epochs": 1, "steps": 1}, "either epochs or steps"),
        ({"epochs": -1}, "epochs: expected 0 or more, got -1"),
        ({"epochs": 1, "eval_fn": eval_fn}, "eval_fn and eval_data go together"),
        ({"epochs": 1, "resume": True}, "resume: expected a checkpointer"),
        ({"epochs": 1, "log_every": 0}, "log_every: expected at least 1, got 0"),
        ({"epochs": 1, "eval_every": 0}, "eval_every: expected at least 1, got 0"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fit_function(ONE, make_state(OPTIMIZER), ListData(BATCHES), **options)


def test_data_without_batches_is_refused():
    with pytest.raises(ValueError, match="data: expected at least one batch"):
        fit(ONE, make_state(OPTIMIZER), ListData([]), epochs=1)


def test_data_that_gives_less_than_its_length_is_refused_not_waited_for():
    short = ListData(BATCHES)
    short.batches = lambda epoch, start=0: iter(BATCHES[start:4])
    with pytest.raises(ValueError, match="data: expected 6 batches in epoch 0, got 4"):
        fit(ONE, make_state(OPTIMIZER), short, epochs=1, progress=False)


def test_the_best_metric_is_asked_for_once_there_is_an_evaluation(tmp_path):
    options = {"eval_fn": eval_fn, "eval_data": DeviceData(BATCHES[0], 16, train=False), "progress": False}
    with Checkpointer(tmp_path / "a", best="eval_loss") as checkpointer:
        fit(ONE, make_state(OPTIMIZER), ListData(BATCHES), epochs=1, log_every=2, checkpointer=checkpointer, **options)
        assert checkpointer.restore_best(make_state(OPTIMIZER)).step == 6
    with (
        Checkpointer(tmp_path / "b", best="eval_los") as checkpointer,
        pytest.raises(KeyError, match=r"no column 'eval_los' in the history; it has .*eval_loss"),
    ):
        fit(ONE, make_state(OPTIMIZER), ListData(BATCHES), epochs=1, checkpointer=checkpointer, **options)


def test_zero_epochs_return_the_state_as_it_was():
    state, history = fit(ONE, make_state(OPTIMIZER), ListData(BATCHES), epochs=0, progress=False)
    assert largest_gap(state.params, make_params()) == 0
    assert len(history) == 0


def test_plain_lines_without_a_terminal(capsys):
    fit(ONE, make_state(OPTIMIZER), ListData(BATCHES), epochs=2, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].split() == ["epoch", "step", "train_loss", "train_accuracy", "examples_per_second", "seconds"]
    assert [line.split()[:2] for line in lines[1:]] == [["1", "6"], ["2", "12"]]


def test_more_batches_than_the_length_are_an_error():
    class TooMany(ListData):
        def __len__(self):
            return 3

    with pytest.raises(ValueError, match="data: expected 3 batches in epoch 0, got more"):
        fit(ONE, make_state(OPTIMIZER), TooMany(BATCHES), epochs=4, progress=False)


def test_what_waits_for_an_evaluation_is_refused_without_one(tmp_path):
    state, data = make_state(OPTIMIZER), ListData(BATCHES)
    with Checkpointer(tmp_path, best="train_loss") as best, pytest.raises(ValueError, match=r"'train_loss'.* eval_fn"):
        fit(ONE, state, data, epochs=1, checkpointer=best, progress=False)
    with pytest.raises(ValueError, match=r"callbacks: EarlyStopping.* eval_fn"):
        fit(ONE, state, data, epochs=1, callbacks=[EarlyStopping()], progress=False)
