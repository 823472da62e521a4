"""The common flags."""

import dataclasses
import json
import sys

import jax.numpy as jnp
import optax
import pytest
from problems import ListData, largest_gap, loss_fn, make_batch, make_params, make_state

from jaxdl import experiment
from jaxdl.training import make_step, sum_gradients

STEP = make_step(sum_gradients(loss_fn), optax.sgd(0.1))


def test_flags_become_a_config(capsys):
    config = experiment.parse_flags(experiment.RunConfig, ["--batch-size", "32", "--resume", "--checkpoint-dir", "d"])
    assert (config.batch_size, config.resume, str(config.checkpoint_dir)) == (32, True, "d")
    with pytest.raises(SystemExit) as stop:
        experiment.parse_flags(experiment.RunConfig, ["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(experiment.RunConfig):
        assert "--" + field.name.replace("_", "-") in text


@pytest.mark.parametrize(
    "arguments",
    [["--batchsize", "3"], ["--strategy", "tpu"], ["--epochs", "many"], ["--epochs", "0"], ["--resume"]],
)
def test_wrong_flags_end_with_a_message_and_without_a_traceback(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        experiment.parse_flags(experiment.RunConfig, arguments)
    assert stop.value.code not in (0, None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"batch_size": 10, "accumulate": 3}, "accumulate: 3 micro-batches do not divide a batch of 10"),
        ({"learning_rate": 0.0}, "learning_rate: expected a positive number"),
        ({"resume": True}, "resume: expected checkpoint_dir"),
    ],
)
def test_contradictions_fail_at_construction(fields, message):
    with pytest.raises(ValueError, match=message):
        experiment.RunConfig(**fields)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_strategy_takes_the_same_step(x64, accumulate):
    optimizer = optax.adam(0.1)
    ends = {}
    for strategy in ("single", "pmap", "shard"):
        config = experiment.RunConfig(strategy=strategy, accumulate=accumulate)
        compiled = experiment.compile_step(experiment.make_step(loss_fn, optimizer, config), config)
        state = experiment.init_state(lambda key: {"params": make_params()}, optimizer, config)
        ends[strategy], metrics = compiled(compiled.place_state(state), compiled.place_batch(make_batch()))
        assert set(metrics) == {"loss", "accuracy"}
    assert largest_gap(ends["pmap"].params, ends["single"].params) < 1e-12
    assert largest_gap(ends["shard"].params, ends["single"].params) < 1e-12


def test_precision_names_the_dtype_and_float16_scales_the_loss():
    assert experiment.compute_dtype(experiment.RunConfig(precision="bfloat16")) == jnp.bfloat16
    config, optimizer = experiment.RunConfig(precision="float16"), optax.sgd(0.1)
    assert experiment.compute_dtype(config) == jnp.float16
    state = experiment.init_state(lambda key: {"params": make_params()}, optimizer, config)
    step = experiment.make_step(loss_fn, optimizer, config)
    state, metrics = step(state, make_batch())
    assert {"skipped", "loss_scale"} < set(metrics)
    config = experiment.RunConfig()
    plain = experiment.init_state(lambda key: {"params": make_params()}, optimizer, config)
    want, _ = experiment.make_step(loss_fn, optimizer, config)(plain, make_batch())
    assert largest_gap(state.params, want.params) < 1e-6
    assert "loss_scale" not in want.model_state


def test_a_run_leaves_its_record_and_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = ListData([make_batch(seed, 16) for seed in range(3)])
    compiled = experiment.compile_step(STEP, experiment.RunConfig())
    options = {"checkpoint_dir": tmp_path / "ck", "plot": tmp_path / "c.png", "log_dir": tmp_path / "tb"}
    config = experiment.RunConfig(epochs=2, **options)
    _, history = experiment.run("test", config, compiled, make_state(optax.sgd(0.1)), data, progress=False)
    assert history["step"] == [3, 6]
    assert (tmp_path / "c.png").exists()
    assert list((tmp_path / "tb").iterdir())
    assert str(tmp_path / "ck") in capsys.readouterr().out
    config = experiment.RunConfig(epochs=3, resume=True, **options)
    seen = []
    state, history = experiment.run(
        *("test", config, compiled, make_state(optax.sgd(0.1)), data),
        callbacks=[lambda state, history: seen.append(len(history))],
        progress=False,
        folder=tmp_path / "mine",
    )
    assert (history["step"], int(state.step)) == ([3, 6, 9], 9)
    assert seen == [3]  # one row more than before
    assert len(list((tmp_path / "runs").glob("test_*/history.csv"))) == 1
    assert (tmp_path / "mine" / "history.csv").exists()
    assert json.dumps(history.rows)


def test_without_tyro_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tyro", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxdl\[examples\]'"):
        experiment.parse_flags(experiment.RunConfig, [])
