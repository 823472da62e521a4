"""The training contract: what merges, what is divided, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from problems import largest_gap, loss_fn, make_batch, make_params, make_state

from jaxdl.training import (
    Mean,
    accumulate,
    all_reduce,
    init_state,
    jit_step,
    make_step,
    merge_metrics,
    report_optimizer,
    sum_gradients,
)

GRAD_FN = sum_gradients(loss_fn)
STEPS = 5


def train(step, batch, optimizer):
    state = make_state(optimizer)
    for _ in range(STEPS):
        state, metrics = step(state, batch)
    return state.params, metrics


def pmapped(grad_fn, optimizer):
    step = make_step(all_reduce(grad_fn, "data"), optimizer)
    return jax.pmap(step, axis_name="data", in_axes=(None, 0), out_axes=None)


@pytest.mark.parametrize("optimizer", [optax.sgd(0.5, momentum=0.9), optax.adam(0.1)], ids=["momentum", "adam"])
def test_one_device_micro_batches_pmap_and_shards_end_at_the_same_parameters(x64, optimizer):
    batch = make_batch()
    per_device = jax.tree.map(lambda x: x.reshape(8, 8, *x.shape[1:]), batch)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    params, metrics = train(jax.jit(make_step(GRAD_FN, optimizer)), batch, optimizer)
    others = {
        "accumulate": train(jax.jit(make_step(accumulate(GRAD_FN, 4), optimizer)), batch, optimizer),
        "pmap": train(pmapped(GRAD_FN, optimizer), per_device, optimizer),
        "pmap of accumulate": train(pmapped(accumulate(GRAD_FN, 2), optimizer), per_device, optimizer),
        "sharded": train(jax.jit(make_step(accumulate(GRAD_FN, 2), optimizer)), sharded, optimizer),
    }
    gaps = {name: largest_gap((params, metrics), other) for name, other in others.items()}
    assert max(gaps.values()) < 1e-12, gaps
    assert largest_gap(params, make_params()) > 0.1  # it moved


def test_averaging_the_devices_averages_is_another_result(x64):
    """What the sums are for: with masks, the mean of per-device means is not the mean."""

    def averaged(params, model_state, batch, key):
        sums, model_state = GRAD_FN(params, model_state, batch, key)
        mean = sums._replace(
            grads=jax.tree.map(lambda g: g / sums.loss.count, sums.grads), loss=Mean(sums.loss.compute(), 1.0)
        )
        return jax.lax.pmean(mean, "data"), model_state

    optimizer = optax.sgd(0.5)
    batch = make_batch()
    per_device = jax.tree.map(lambda x: x.reshape(8, 8, *x.shape[1:]), batch)
    step = jax.pmap(make_step(averaged, optimizer), axis_name="data", in_axes=(None, 0), out_axes=None)
    params, _ = train(jax.jit(make_step(GRAD_FN, optimizer)), batch, optimizer)
    assert largest_gap(params, train(step, per_device, optimizer)[0]) > 1e-2


def test_the_gradient_is_that_of_the_masked_mean(x64):
    batch, params, lr = make_batch(), make_params(), 0.1

    def masked_mean(params):
        logits = jnp.tanh(batch["x"] @ params["w"]) @ params["v"]
        log_p = jax.nn.log_softmax(logits)[jnp.arange(64), batch["y"]]
        return -(log_p * batch["mask"]).sum() / batch["mask"].sum()

    state, metrics = make_step(GRAD_FN, optax.sgd(lr))(make_state(optax.sgd(lr)), batch)
    want = jax.tree.map(lambda p, g: p - lr * g, params, jax.grad(masked_mean)(params))
    assert largest_gap(state.params, want) < 1e-14
    assert float(metrics["loss"].compute()) == pytest.approx(float(masked_mean(params)), rel=1e-14)
    assert state.step == 1


@pytest.mark.parametrize("rest", [0, 3], ids=["full", "shorter"])
def test_many_steps_a_call_equal_as_many_calls(x64, rest):
    optimizer = optax.adam(0.1)
    batches = [make_batch(seed) for seed in range(8 - rest)]
    one, many = (jit_step(make_step(GRAD_FN, optimizer), steps_per_call=n) for n in (1, 8))
    state, losses = one.place_state(make_state(optimizer)), []
    for batch in batches:
        state, metrics = one(state, one.place_batch(batch))
        assert metrics["loss"].total.shape == (1,)
        losses.append(metrics["loss"].total[0])
    stack = {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
    stacked_state, metrics = many(many.place_state(make_state(optimizer)), many.place_batch(stack))
    assert metrics["loss"].total.shape == (len(batches),)
    np.testing.assert_allclose(metrics["loss"].total, jnp.stack(losses), rtol=1e-13)
    assert largest_gap(stacked_state.params, state.params) < 1e-13
    assert stacked_state.step == len(batches)


@pytest.mark.parametrize("steps_per_call", [1, 2])
def test_the_second_call_does_not_compile(compilations, steps_per_call):
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.inject_hyperparams(optax.adam)(learning_rate=0.1))
    step = make_step(accumulate(GRAD_FN, 2), optimizer, skip_nonfinite=True)
    compiled = jit_step(report_optimizer(step, "learning_rate"), steps_per_call=steps_per_call)
    batch = make_batch()
    if steps_per_call > 1:
        batch = jax.tree.map(lambda x: jnp.stack([x] * steps_per_call), batch)
    batch = compiled.place_batch(batch)
    state = compiled.place_state(make_state(optimizer)._replace(step=0, params=make_params()))
    state, _ = compiled(state, batch)
    before = len(compilations)
    assert before > 0
    compiled(state, compiled.place_batch(batch))
    assert len(compilations) == before


def test_placing_copies_so_the_state_stays_the_callers():
    optimizer = optax.sgd(0.1)
    compiled = jit_step(make_step(GRAD_FN, optimizer))
    state = make_state(optimizer)
    compiled(compiled.place_state(state), compiled.place_batch(make_batch()))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_keys_follow_the_step_and_only_the_step():
    def noisy_loss(params, model_state, batch, key):
        noise = jax.random.normal(key, ())
        return Mean(params["w"].sum() * 0 + noise, jnp.ones(())), ({}, model_state)

    optimizer = optax.sgd(0.1)
    step = make_step(sum_gradients(noisy_loss), optimizer)
    state = make_state(optimizer)
    draws = []
    for _ in range(3):
        state, metrics = step(state, make_batch())
        draws.append(float(metrics["loss"].total))
    assert len(set(draws)) == 3
    again, metrics = step(make_state(optimizer)._replace(step=jnp.int32(2)), make_batch())
    assert float(metrics["loss"].total) == draws[2]
    assert again.key == state.key


def test_a_batch_that_is_all_padding_changes_nothing():
    optimizer = optax.sgd(0.1)
    batch = make_batch() | {"mask": jnp.zeros(64)}
    state, metrics = make_step(GRAD_FN, optimizer)(make_state(optimizer), batch)
    assert largest_gap(state.params, make_params()) == 0
    assert metrics["loss"].count == 0


def test_skip_nonfinite_leaves_everything_but_the_step():
    def loss(params, model_state, batch, key):
        mean, (metrics, _) = loss_fn(params, model_state, batch, key)
        mean = mean._replace(total=mean.total * batch["scale"][0])
        return mean, (metrics, {"seen": model_state["seen"] + batch["scale"][0]})

    optimizer = optax.adam(0.1)
    step = jit_step(make_step(sum_gradients(loss), optimizer, skip_nonfinite=True))
    state = start = step.place_state(make_state(optimizer, {"seen": jnp.zeros(())}))
    bad, good = (make_batch() | {"scale": jnp.full(64, scale)} for scale in (jnp.inf, 1.0))
    state, metrics = step(jax.tree.map(jnp.copy, start), bad)
    assert largest_gap(state._replace(key=0, step=0), start._replace(key=0, step=0)) == 0
    assert state.step[()] == 1
    assert (metrics["skipped"].total[0], metrics["loss"].count[0], metrics["accuracy"].count[0]) == (1, 0, 0)
    state, metrics = step(state, good)
    assert (metrics["skipped"].total[0], metrics["loss"].count[0] > 0, float(state.model_state["seen"])) == (0, True, 1)
    assert largest_gap(state.params, start.params) > 0


def test_micro_batches_pass_the_model_state_on_and_get_their_own_keys():
    def counting_loss(params, model_state, batch, key):
        draw = jax.random.uniform(key, ())
        return Mean(params["w"].sum() + draw, jnp.ones(())), (
            {"draw2": Mean(draw**2, 1.0)},
            {"n": model_state["n"] + 1},
        )

    (sums, model_state) = accumulate(sum_gradients(counting_loss), 4)(
        make_params(), {"n": jnp.zeros(())}, make_batch(), jax.random.key(1)
    )
    assert model_state["n"] == 4
    draws = [jax.random.uniform(jax.random.fold_in(jax.random.key(1), i), ()) for i in range(4)]
    assert float(sums.metrics["draw2"].total) == pytest.approx(float(sum(d**2 for d in draws)), rel=1e-6)


def test_all_reduce_averages_model_state_but_not_what_belongs_to_the_examples():
    def loss(params, model_state, batch, key):
        own = batch["x"].mean()
        return Mean(own * params["w"].sum(), jnp.ones(())), ({}, {"batch_stats": own, "carry": own})

    grad_fn = all_reduce(sum_gradients(loss), "data")
    batch = {"x": jnp.arange(8.0).reshape(8, 1)}
    params = {"w": jnp.ones(2)}
    run = jax.vmap(grad_fn, axis_name="data", in_axes=(None, None, 0, None))
    sums, model_state = run(params, {"batch_stats": jnp.zeros(()), "carry": jnp.zeros(())}, batch, jax.random.key(0))
    np.testing.assert_allclose(model_state["batch_stats"], np.full(8, 3.5))
    np.testing.assert_allclose(model_state["carry"], np.arange(8.0))
    np.testing.assert_allclose(sums.grads["w"], np.full((8, 2), 28.0))


def test_all_reduce_gives_each_device_its_own_key():
    def loss(params, model_state, batch, key):
        draw = jax.random.uniform(key, ())
        return Mean(params["w"].sum() * 0, jnp.ones(())), ({}, {"carry": draw})  # carry is not averaged

    run = jax.vmap(all_reduce(sum_gradients(loss), "data"), axis_name="data", in_axes=(None, None, 0, None))
    _, model_state = run({"w": jnp.ones(2)}, {"carry": jnp.zeros(())}, {"x": jnp.zeros((4, 1))}, jax.random.key(0))
    want = [jax.random.uniform(jax.random.fold_in(jax.random.key(0), i), ()) for i in range(4)]
    np.testing.assert_array_equal(model_state["carry"], want)
    assert len(set(map(float, want))) == 4


def test_init_state_splits_the_variables_and_compiles_the_initialisation():
    class Model(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.BatchNorm(use_running_average=True)(linen.Dense(3)(x))

    optimizer = optax.adam(1e-3)
    state = init_state(lambda key: Model().init(key, jnp.ones((1, 4))), optimizer, jax.random.key(0))
    assert set(state.model_state) == {"batch_stats"}
    assert state.params["Dense_0"]["kernel"].shape == (4, 3)
    assert (state.step, state.step.dtype) == (0, jnp.int32)
    again = init_state(lambda key: Model().init(key, jnp.ones((1, 4))), optimizer, jax.random.key(0))
    assert largest_gap(again.params, state.params) == 0


@pytest.mark.parametrize("key", [0, np.zeros(2, np.uint32), jax.random.key(0)[None]], ids=["int", "raw", "stack"])
def test_init_state_wants_one_typed_key(key):
    with pytest.raises(ValueError, match="key: expected one typed key"):
        init_state(lambda key: {"params": {}}, optax.sgd(1.0), key)


def test_init_state_wants_params():
    with pytest.raises(ValueError, match=r"collection 'params', got \['weights'\]"):
        init_state(lambda key: {"weights": jnp.ones(2)}, optax.sgd(1.0), jax.random.key(0))


def test_a_loss_that_is_not_a_mean_is_refused():
    average = sum_gradients(lambda params, model_state, batch, key: (jnp.mean(params["w"]), ({}, {})))
    with pytest.raises(ValueError, match="loss_fn: expected a Mean"):
        average(make_params(), {}, {}, jax.random.key(0))
    vector = sum_gradients(lambda params, model_state, batch, key: (Mean(params["w"], 1.0), ({}, {})))
    with pytest.raises(ValueError, match="loss_fn: expected a Mean"):
        vector(make_params(), {}, {}, jax.random.key(0))


@pytest.mark.parametrize("name", ["loss", "skipped"])
def test_a_metric_cannot_take_the_steps_own_name(name):
    def loss(params, model_state, batch, key):
        mean, (_, model_state) = loss_fn(params, model_state, batch, key)
        return mean, ({name: mean}, model_state)

    with pytest.raises(ValueError, match=f"itself reports.*{name}"):
        make_step(sum_gradients(loss), optax.sgd(0.1))(make_state(optax.sgd(0.1)), make_batch())


def test_accumulate_refuses_what_it_cannot_split():
    with pytest.raises(ValueError, match="num_micro_batches: expected at least 1, got 0"):
        accumulate(GRAD_FN, 0)
    with pytest.raises(ValueError, match=r"batch\['x'\]: 64 examples do not divide into 5"):
        accumulate(GRAD_FN, 5)(make_params(), {}, make_batch(), jax.random.key(0))
    with pytest.raises(ValueError, match="'carry' cannot be split"):
        accumulate(GRAD_FN, 2)(make_params(), {"carry": jnp.ones(64)}, make_batch(), jax.random.key(0))


@pytest.mark.parametrize("steps_per_call", [1, 2])
def test_a_step_that_changes_the_types_of_the_state_is_named(steps_per_call):
    step = make_step(GRAD_FN, optax.sgd(0.1))

    def changing(state, batch):
        state, metrics = step(state, batch)
        return state._replace(params=state.params | {"w": state.params["w"].astype(jnp.bfloat16)}), metrics

    def growing(state, batch):
        state, metrics = step(state, batch)
        return state._replace(model_state={"new": jnp.ones(2)}), metrics

    batch = jax.tree.map(lambda x: jnp.stack([x] * 2), make_batch()) if steps_per_call == 2 else make_batch()
    with pytest.raises(ValueError, match=r"state\.params\['w'\] went in as float32\[5, 7\] and came out as bfloat16"):
        jit_step(changing, steps_per_call=steps_per_call)(make_state(optax.sgd(0.1)), batch)
    with pytest.raises(ValueError, match=r"model_state\['new'\] went in as nothing and came out as float32\[2\]"):
        jit_step(growing, steps_per_call=steps_per_call)(make_state(optax.sgd(0.1)), batch)


def test_steps_per_call_is_at_least_one():
    with pytest.raises(ValueError, match="steps_per_call: expected at least 1, got 0"):
        jit_step(make_step(GRAD_FN, optax.sgd(0.1)), steps_per_call=0)


def test_merging_is_addition():
    assert merge_metrics({"a": Mean(1.0, 2.0)}, {"a": Mean(3.0, 4.0)}) == {"a": Mean(4.0, 6.0)}


def test_a_step_may_give_python_numbers():
    def step(state, batch):
        return state._replace(model_state={"a": 1.0}), {"loss": Mean(jnp.ones(()), jnp.ones(()))}

    compiled = jit_step(step)
    state = compiled.place_state(make_state(optax.sgd(0.1))._replace(model_state={"a": 1.0}))
    assert compiled(state, make_batch())[0].model_state == {"a": 1.0}
