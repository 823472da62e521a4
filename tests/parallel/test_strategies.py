"""Every strategy computes what one device computes."""

from functools import partial
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import largest_gap, loss_fn, make_batch, make_state

from jaxdl import nn, training
from jaxdl.parallel import ShardingRules, make_mesh, pmap_step, shard_step
from jaxdl.vision import LeNet

DATA, DATA_MODEL = {"data": 8}, {"data": 4, "model": 2}


def strategies(tensor):
    """Each strategy, `(grad_fn, optimizer, **options) -> CompiledStep`; `tensor` are the rules of the model."""

    def single(grad_fn, optimizer, **options):
        return training.jit_step(training.make_step(grad_fn, optimizer), **options)

    def pmap(grad_fn, optimizer, **options):
        return pmap_step(training.make_step(training.all_reduce(grad_fn, "data"), optimizer), **options)

    def shard(axes, **rules):
        def compiled(grad_fn, optimizer, **options):
            step = training.make_step(grad_fn, optimizer)
            return shard_step(step, make_mesh(axes), ShardingRules(**rules), **options)

        return compiled

    return {
        "single": single,
        "pmap": pmap,
        "data parallel": shard(DATA),
        "fully sharded": shard(DATA, fully_sharded="data"),
        "tensor": shard(DATA_MODEL, params=tensor),
        "fully sharded and tensor": shard(DATA_MODEL, params=tensor, fully_sharded="data"),
    }


def run(compiled, state, batch, steps=2):
    state, batch = compiled.place_state(state), compiled.place_batch(batch)
    for _ in range(steps):
        state, metrics = compiled(state, batch)
    return state, metrics


TENSOR = {"^w$": (None, "model"), "^v$": ("model", None)}


@pytest.fixture(scope="module")
def widened():
    """A step whose hidden width divides over the devices; the one in `problems` has 7 units on purpose."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        params = {"w": jnp.asarray(rng.normal(size=(5, 8))), "v": jnp.asarray(rng.normal(size=(8, 3)))}
        yield params


@pytest.mark.parametrize("num_micro_batches", [1, 4], ids=["whole", "accumulated"])
@pytest.mark.parametrize("optimizer", [optax.sgd(0.5, momentum=0.9), optax.adam(0.1)], ids=["momentum", "adam"])
def test_masked_batches_give_the_same_parameters_and_metrics(widened, num_micro_batches, optimizer):
    with jax.enable_x64(True):
        grad_fn = training.accumulate(training.sum_gradients(loss_fn), num_micro_batches)
        state = make_state(optimizer)._replace(params=widened, opt_state=optimizer.init(widened))
        results = {
            name: run(strategy(grad_fn, optimizer), state, make_batch())
            for name, strategy in strategies(TENSOR).items()
        }
        single_state, single_metrics = results["single"]
        for name, (end, metrics) in results.items():
            assert largest_gap((end.params, end.opt_state), (single_state.params, single_state.opt_state)) < 1e-12, name
            assert largest_gap(metrics, single_metrics) < 1e-12, name
            assert end.step == 2
        assert largest_gap(single_state.params, widened) > 0.1


def test_lenet_in_float64(x64):
    model, optimizer = LeNet(pool=linen.avg_pool, activation=jnp.tanh), optax.sgd(0.1, momentum=0.9)
    model_loss, _ = training.supervised(
        model, "image", loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]), scores={}
    )
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.random((16, 12, 12, 1)),
        "label": rng.integers(0, 10, 16).astype(np.int32),
        "mask": (rng.random(16) < 0.6).astype(np.float64),
    }
    variables = jax.tree.map(lambda p: p.astype(jnp.float64), model.init(jax.random.key(0), batch["image"][:1]))
    state = training.init_state(lambda key: variables, optimizer, jax.random.key(0))
    tensor = {"Dense_0/kernel": (None, "model"), "Dense_1/kernel": ("model", None)}
    chosen = ("single", "pmap", "data parallel", "fully sharded and tensor")
    results = {
        name: run(strategies(tensor)[name](training.sum_gradients(model_loss), optimizer), state, batch, steps=1)
        for name in chosen
    }
    for name in chosen[1:]:
        assert largest_gap(results[name][0].params, results["single"][0].params) < 1e-12, name


@pytest.mark.parametrize("name", ["pmap", "fully sharded"])
def test_many_steps_a_call_under_every_strategy(widened, name):
    with jax.enable_x64(True):
        optimizer = optax.adam(0.1)
        state = make_state(optimizer)._replace(params=widened, opt_state=optimizer.init(widened))
        stack = {key: np.stack([make_batch(seed)[key] for seed in range(3)]) for key in make_batch()}
        strategy = strategies(TENSOR)[name]
        end, metrics = run(
            strategy(training.sum_gradients(loss_fn), optimizer, steps_per_call=3), state, stack, steps=1
        )
        single = strategies(TENSOR)["single"](training.sum_gradients(loss_fn), optimizer)
        want = single.place_state(state)
        for seed in range(3):
            want, last = single(want, make_batch(seed))
        assert metrics["loss"].total.shape == (3,)
        assert float(metrics["loss"].total[2]) == pytest.approx(float(last["loss"].total[0]), rel=1e-13)
        assert largest_gap(end.params, want.params) < 1e-12


@pytest.mark.parametrize("name", ["pmap", "data parallel", "fully sharded and tensor"])
def test_the_second_call_does_not_compile(compilations, widened, name):
    with jax.enable_x64(True):
        optimizer = optax.adam(0.1)
        compiled = strategies(TENSOR)[name](training.sum_gradients(loss_fn), optimizer)
        state = make_state(optimizer)._replace(params=widened, opt_state=optimizer.init(widened))
        state, batch = compiled.place_state(state), compiled.place_batch(make_batch())
        state, _ = compiled(state, batch)
        before = len(compilations)
        state, _ = compiled(state, batch)
        compiled(state, batch)
        assert len(compilations) == before > 0


class Dropping(linen.Module):
    """Draws a dropout mask over its input."""

    @linen.compact
    def __call__(self, x, train=False):
        scale = self.param("scale", linen.initializers.ones, (1, 1))
        return linen.Dropout(0.5, deterministic=not train)(x) * scale


def test_dropout_masks_do_not_depend_on_the_number_of_devices_when_sharded():
    drop_loss, _ = training.supervised(
        Dropping(), "x", loss=lambda out, batch: (out * batch["weight"]).sum(-1), scores={}
    )
    rng = np.random.default_rng(0)
    batch = {name: rng.normal(size=(16, 5)).astype(np.float32) for name in ("x", "weight")}
    optimizer = optax.sgd(1.0)
    state = training.init_state(lambda key: Dropping().init(key, batch["x"]), optimizer, jax.random.key(3))
    step = training.make_step(training.sum_gradients(drop_loss), optimizer)
    losses = {
        n: float(run(shard_step(step, make_mesh({"data": n})), state, batch, steps=1)[1]["loss"].total[0])
        for n in (1, 2, 8)
    }
    assert losses[2] == pytest.approx(losses[1], rel=1e-5)
    assert losses[8] == pytest.approx(losses[1], rel=1e-5)
    reduced = training.make_step(training.all_reduce(training.sum_gradients(drop_loss), "data"), optimizer)
    pmapped = float(run(pmap_step(reduced), state, batch, steps=1)[1]["loss"].total[0])
    assert abs(pmapped - losses[1]) > 1e-2  # other masks: the device's index is folded into the key


def test_a_checkpoint_written_under_one_strategy_restores_under_another(tmp_path, widened):
    with jax.enable_x64(True):
        optimizer = optax.adam(0.1)
        grad_fn = training.sum_gradients(loss_fn)
        built = {name: strategy(grad_fn, optimizer) for name, strategy in strategies(TENSOR).items()}
        start = make_state(optimizer)._replace(params=widened, opt_state=optimizer.init(widened))
        want, _ = run(built["single"], start, make_batch(), steps=4)
        state = start
        order = ["pmap", "fully sharded", "single", "fully sharded and tensor"]
        for i, name in enumerate(order):  # one step under each, handed over by checkpoint
            state, _ = run(built[name], state, make_batch(), steps=1)
            assert {leaf.shape for leaf in jax.tree.leaves(state.params)} == {(5, 8), (8, 3)}  # no device axis
            with training.Checkpointer(tmp_path / str(i)) as checkpointer:
                checkpointer.save(state, step=i + 1, extra={})
                checkpointer.wait()
                state = checkpointer.restore(start).state
        assert largest_gap(state.params, want.params) < 1e-12


@pytest.mark.parametrize("name", ["pmap", "data parallel", "fully sharded and tensor"])
def test_fit_and_exact_evaluation_are_the_same_under_every_strategy(tmp_path, widened, name):
    from problems import eval_fn

    from jaxdl.data import DeviceData

    with jax.enable_x64(True):
        optimizer = optax.adam(0.1)
        start = make_state(optimizer)._replace(params=widened, opt_state=optimizer.init(widened))
        arrays = {key: np.asarray(x) for key, x in make_batch(0, 50).items()}
        rows = {}
        for strategy in ("single", name):
            with training.Checkpointer(tmp_path / strategy) as checkpointer:
                _, history = training.fit(
                    strategies(TENSOR)[strategy](training.sum_gradients(loss_fn), optimizer),
                    start,
                    DeviceData(arrays, 16, train=True),
                    epochs=2,
                    eval_fn=eval_fn,
                    eval_data=DeviceData(arrays, 7, train=False),
                    checkpointer=checkpointer,
                    progress=False,
                )
            rows[strategy] = history.rows
        for a, b in zip(rows["single"], rows[name], strict=True):
            for key in ("train_loss", "train_accuracy", "eval_loss", "eval_accuracy"):
                assert a[key] == pytest.approx(b[key], rel=1e-12), key


class AttentionBlock(linen.Module):
    """Pre-norm attention over the real tokens, then two dense layers: the shape of a transformer block."""

    @linen.compact
    def __call__(self, x, real, train=False):
        h = linen.LayerNorm()(x)
        query, key, value = (linen.Dense(8, name=name)(h) for name in ("query", "key", "value"))
        scores = jnp.where(real[:, None, :], query @ key.swapaxes(1, 2) / 8**0.5, -1e9)
        x = x + linen.Dense(8, name="out")(jax.nn.softmax(scores) @ value)
        return x + linen.Dense(8, name="down")(linen.gelu(linen.Dense(16, name="up")(linen.LayerNorm()(x))))


class Stack(linen.Module):
    """Four such blocks and a head on the mean of the real tokens."""

    remat: Any = "none"

    @linen.compact
    def __call__(self, tokens, train=False):
        real = tokens[..., 0] > 0
        x = nn.RepeatedBlocks(AttentionBlock(), num_blocks=4, remat=self.remat)(linen.Dense(8)(tokens), real)
        return linen.Dense(3)((x * real[..., None]).sum(1) / real.sum(1, keepdims=True))


def test_a_transformer_like_stack_under_every_strategy_and_remat(x64):
    optimizer = optax.sgd(0.5, momentum=0.9)
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 6, 32)  # uneven: padded tokens are 0, and whole examples are masked
    batch = {
        "tokens": (1 + rng.random((32, 5, 4))) * (np.arange(5) < lengths[:, None])[..., None],
        "label": rng.integers(0, 3, 32).astype(np.int32),
        "mask": (rng.random(32) < np.linspace(0.1, 1, 32)).astype(np.float64),
    }
    variables = Stack().init(jax.random.key(0), batch["tokens"][:1])
    variables = jax.tree.map(lambda p: p.astype(jnp.float64), variables)
    state = training.init_state(lambda key: variables, optimizer, jax.random.key(0))
    tensor = {"up/kernel": (None, None, "model"), "down/kernel": (None, "model", None)}
    names = jax.checkpoint_policies.dots_with_no_batch_dims_saveable

    def end(strategy, remat="none", num_micro_batches=1):
        model_loss, _ = training.supervised(
            Stack(remat), "tokens", loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]), scores={}
        )
        grad_fn = training.accumulate(training.sum_gradients(model_loss), num_micro_batches)
        return run(strategies(tensor)[strategy](grad_fn, optimizer), state, batch, steps=1)[0].params

    want = end("single")
    combinations = [
        ("single", "full", 1),
        ("single", "sqrt", 4),
        ("single", names, 1),
        ("pmap", "sqrt", 2),
        ("data parallel", names, 1),
        ("fully sharded", "full", 2),
        ("tensor", "none", 1),
        ("fully sharded and tensor", "sqrt", 1),
    ]
    for combination in combinations:
        assert largest_gap(end(*combination), want) < 1e-12, combination
    assert largest_gap(want, state.params) > 1e-3


class NormalisedBlock(linen.Module):
    """A residual block with batch normalisation."""

    axis_name: str | None = None

    @linen.compact
    def __call__(self, images, train=False):
        norm = partial(nn.BatchNorm, axis_name=self.axis_name)
        x = linen.relu(norm()(linen.Conv(4, (3, 3), use_bias=False)(images), train))
        x = linen.relu(x + norm()(linen.Conv(4, (3, 3), use_bias=False)(x), train))
        return linen.Dense(3)(x.mean((1, 2)))


@pytest.mark.parametrize("name", ["pmap", "data parallel", "fully sharded"])
def test_synchronised_batch_norm_is_that_of_the_whole_batch(x64, name):
    optimizer = optax.sgd(0.5, momentum=0.9)
    rng = np.random.default_rng(0)
    batch = {"image": rng.normal(size=(16, 6, 6, 2)), "label": rng.integers(0, 3, 16).astype(np.int32)}
    variables = NormalisedBlock().init(jax.random.key(0), batch["image"][:1])
    variables = jax.tree.map(lambda p: p.astype(jnp.float64), variables)
    state = training.init_state(lambda key: variables, optimizer, jax.random.key(0))

    def end(strategy):
        model_loss, _ = training.supervised(
            NormalisedBlock("data" if strategy == "pmap" else None),
            "image",
            loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]),
            scores={},
        )
        return run(strategies({})[strategy](training.sum_gradients(model_loss), optimizer), state, batch, steps=2)[0]

    got, want = end(name), end("single")
    assert largest_gap((got.params, got.model_state), (want.params, want.model_state)) < 1e-12
    assert largest_gap(want.model_state, state.model_state) > 0.1
