"""The common flags."""

import dataclasses
import json
import sys

import jax.numpy as jnp
import optax
import pytest
from problems import ListData, loss_fn, make_batch, make_state

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


@pytest.mark.parametrize("strategy", ["pmap", "shard"])
def test_a_strategy_that_does_not_exist_yet_raises(strategy):
    with pytest.raises(ValueError, match=f"'{strategy}' does not exist yet"):
        experiment.compile_step(STEP, experiment.RunConfig(strategy=strategy))


def test_precision_names_the_dtype():
    assert experiment.compute_dtype(experiment.RunConfig(precision="bfloat16")) == jnp.bfloat16
    with pytest.raises(ValueError, match="float16 needs loss scaling"):
        experiment.compute_dtype(experiment.RunConfig(precision="float16"))


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
    state, history = experiment.run("test", config, compiled, make_state(optax.sgd(0.1)), data, progress=False)
    assert (history["step"], int(state.step)) == ([3, 6, 9], 9)
    assert len(list((tmp_path / "runs").glob("test_*/history.csv"))) == 2
    assert json.dumps(history.rows)


def test_without_tyro_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tyro", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxdl\[examples\]'"):
        experiment.parse_flags(experiment.RunConfig, [])
