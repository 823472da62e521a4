"""The common flags."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import ListData, largest_gap, loss_fn, make_batch, make_params, make_state

from jaxdl import experiment, nn
from jaxdl.training import make_step, sum_gradients, supervised

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
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert arguments[0].removeprefix("--") in message
    assert "Traceback" not in message


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
    for strategy in ("single", "pmap", "shard", "fsdp"):
        config = experiment.RunConfig(strategy=strategy, accumulate=accumulate)
        compiled = experiment.compile_step(experiment.make_step(loss_fn, optimizer, config), config)
        state = experiment.init_state(lambda key: {"params": make_params()}, optimizer, config)
        ends[strategy], metrics = compiled(compiled.place_state(state), compiled.place_batch(make_batch()))
        assert set(metrics) == {"loss", "accuracy"}
    for strategy, end in ends.items():
        assert largest_gap(end.params, ends["single"].params) < 1e-12, strategy


def test_fsdp_and_tensor_split_the_parameters_of_a_transformer_and_take_the_step_of_one_device(x64):
    model = nn.TransformerBlock(num_heads=2, hidden_size=16)
    x = np.random.default_rng(0).normal(size=(8, 3, 8))
    variables = jax.tree.map(lambda p: p.astype(jnp.float64), jax.jit(model.init)(jax.random.key(0), x))
    optimizer = optax.sgd(0.1, momentum=0.9)
    block_loss, _ = supervised(model, "x", loss=lambda y, batch: jnp.square(y).mean((1, 2)), scores={})
    ends = {}
    for strategy in ("single", "fsdp", "tensor"):
        config = experiment.RunConfig(strategy=strategy)
        step = experiment.make_step(block_loss, optimizer, config)
        compiled = experiment.compile_step(step, config, tensor_parallel=nn.TENSOR_PARALLEL)
        state = experiment.init_state(lambda key: variables, optimizer, config)
        ends[strategy], _ = compiled(compiled.place_state(state), compiled.place_batch({"x": x}))
        assert largest_gap(ends[strategy].params, ends["single"].params) < 1e-12, strategy
    assert largest_gap(ends["single"].params, variables["params"]) > 1e-4

    def parts(strategy, layer):
        momentum = ends[strategy].opt_state[0].trace
        kernels = (tree["feed_forward"][layer]["kernel"] for tree in (ends[strategy].params, momentum))
        return [kernel.addressable_shards[0].data.shape for kernel in kernels]

    assert parts("single", "hidden") == [(8, 16)] * 2
    assert parts("fsdp", "hidden") == [(8, 2)] * 2  # over eight devices
    assert parts("tensor", "hidden") == [(8, 8)] * 2  # over two
    assert parts("tensor", "out") == [(8, 8)] * 2


def test_tensor_needs_rules_and_pairs(monkeypatch):
    config = experiment.RunConfig(strategy="tensor")
    step = experiment.make_step(loss_fn, optax.sgd(0.1), config)
    with pytest.raises(ValueError, match="no rules for 'tensor'"):
        experiment.compile_step(step, config)
    monkeypatch.setattr(jax, "device_count", lambda: 3)
    with pytest.raises(ValueError, match="even number, got 3"):
        experiment.compile_step(step, config, tensor_parallel=nn.TENSOR_PARALLEL)


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
    elsewhere = experiment.RunConfig(epochs=1, resume=True, checkpoint_dir=tmp_path / "empty", plot=tmp_path / "d.png")
    experiment.run("test", elsewhere, compiled, make_state(optax.sgd(0.1)), data, progress=False, folder=tmp_path / "e")
    assert f"resume: no checkpoint in {tmp_path / 'empty'}" in capsys.readouterr().out
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
    with pytest.raises(ImportError, match=r"pip install -e '\.\[examples\]'"):
        experiment.parse_flags(experiment.RunConfig, [])
