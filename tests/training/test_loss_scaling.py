"""Loss scaling changes no gradient, survives overflow, and makes float16 train as float32 does."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import largest_gap, loss_fn, make_batch, make_params, make_state

from jaxdl import nn
from jaxdl.data import DeviceData, load, resize
from jaxdl.training import (
    accumulate,
    all_reduce,
    evaluate,
    fit,
    init_state,
    jit_step,
    make_step,
    sum_gradients,
    supervised,
)
from jaxdl.training.loss_scaling import loss_scaling, scaled_sum_gradients, with_loss_scale
from jaxdl.vision import LeNet


def weighted_loss_fn(params, model_state, batch, key):
    """The shared problem; each example's loss is multiplied by `batch["weight"]`, so an infinite one overflows."""
    mean, aux = loss_fn(params, model_state, batch, key)
    return mean._replace(total=mean.total * batch["weight"].max()), aux


def weighted_batch(weight=1.0, seed=0):
    return make_batch(seed) | {"weight": jnp.ones(64).at[-1].set(weight)}


def scaled_step(loss_fn=weighted_loss_fn, optimizer=None, wrap=lambda grad_fn: grad_fn, **options):
    grad_fn = wrap(scaled_sum_gradients(loss_fn))
    return loss_scaling(make_step(grad_fn, optimizer or optax.sgd(0.1), skip_nonfinite=True), **options)


def scale_of(state):
    return float(state.model_state["loss_scale"]["scale"])


@pytest.mark.parametrize("scale", [2.0**15, 1000.0, 2.0**-24], ids=["power", "any", "small"])
def test_scaled_gradients_equal_unscaled_ones(x64, scale):
    state = with_loss_scale(make_state(optax.sgd(0.1), {"other": jnp.ones(2)}), scale)
    args = (make_batch(), jax.random.key(0))
    want, _ = sum_gradients(loss_fn)(state.params, {}, *args)
    got, model_state = scaled_sum_gradients(loss_fn)(state.params, state.model_state, *args)
    assert (
        largest_gap(got.grads, want.grads) < 1e-12 < largest_gap(want.grads, jax.tree.map(jnp.zeros_like, want.grads))
    )
    assert largest_gap((got.loss, got.metrics), (want.loss, want.metrics)) == 0
    assert jax.tree.structure(got) == jax.tree.structure(want)
    assert largest_gap(model_state, state.model_state) == 0


def test_the_loss_function_sees_its_own_collections_only():
    def counting_loss_fn(params, model_state, batch, key):
        assert set(model_state) == {"n"}
        mean, (metrics, _) = loss_fn(params, model_state, batch, key)
        return mean, (metrics, {"n": model_state["n"] + 1})

    state = with_loss_scale(make_state(optax.sgd(0.1), {"n": jnp.zeros(())}), 8.0)
    grad_fn = accumulate(scaled_sum_gradients(counting_loss_fn), 4)
    _, model_state = grad_fn(state.params, state.model_state, make_batch(), jax.random.key(0))
    assert (model_state["n"], model_state["loss_scale"]["scale"]) == (4, 8)


def test_merging_devices_keeps_the_types_of_the_collection():
    state = with_loss_scale(make_state(optax.sgd(0.1)))
    grad_fn = all_reduce(scaled_sum_gradients(loss_fn), "data")
    over_devices = jax.vmap(grad_fn, axis_name="data", in_axes=(None, None, 0, None))
    per_device = jax.tree.map(lambda x: x.reshape(8, 8, *x.shape[1:]), make_batch())
    _, model_state = jax.eval_shape(over_devices, state.params, state.model_state, per_device, state.key)
    types = jax.tree.map(lambda x: x.dtype, state.model_state)
    assert jax.tree.map(lambda x: x.dtype, model_state) == types


def test_what_underflows_in_float16_survives_when_scaled():
    model = nn.MLP([16, 3], dtype=jnp.float16)
    model_loss_fn, _ = supervised(model, "x", loss=lambda y, batch: 1e-7 * nn.cross_entropy(y, batch["y"]), scores={})
    state = with_loss_scale(make_state(optax.sgd(0.1)), 2.0**22)
    batch, key = make_batch(), jax.random.key(0)
    params = model.init(key, batch["x"])["params"]
    lost, _ = jax.jit(sum_gradients(model_loss_fn))(params, {}, batch, key)
    kept, _ = jax.jit(scaled_sum_gradients(model_loss_fn))(params, state.model_state, batch, key)
    exact_loss_fn, _ = supervised(
        nn.MLP([16, 3]), "x", loss=lambda y, batch: 1e-7 * nn.cross_entropy(y, batch["y"]), scores={}
    )
    exact, _ = jax.jit(sum_gradients(exact_loss_fn))(params, {}, batch, key)
    assert {g.dtype for g in jax.tree.leaves(kept.grads)} == {jnp.dtype("float32")}

    def error(sums):
        return max(
            float(jnp.linalg.norm(g - e) / jnp.linalg.norm(e))
            for g, e in zip(jax.tree.leaves(sums.grads), jax.tree.leaves(exact.grads), strict=True)
        )

    assert error(kept) < 0.01  # a few roundings of 2^-11 each
    assert error(lost) > 0.5


def test_an_overflow_skips_the_update_halves_the_scale_and_training_recovers():
    model, optimizer = nn.MLP([16, 3], dtype=jnp.float16), optax.adam(0.02)
    model_loss_fn, _ = supervised(model, "x", loss=lambda y, batch: nn.cross_entropy(y, batch["y"]), scores={})
    step = jit_step(scaled_step(model_loss_fn, optimizer))
    good = make_batch()
    planted = good | {"x": good["x"] * 500}  # gradients of about 1e4: finite, but not 2^10 times as large
    state = with_loss_scale(init_state(lambda key: model.init(key, good["x"]), optimizer, jax.random.key(0)), 2.0**10)
    state = step.place_state(state)
    state, metrics = step(state, good)
    first = float(metrics["loss"].total[0])
    assert (metrics["skipped"].total[0], scale_of(state)) == (0, 2.0**10)

    before = jax.tree.map(jnp.copy, state)
    state, metrics = step(state, planted)
    assert (metrics["skipped"].total[0], metrics["loss_scale"].total[0], scale_of(state)) == (1, 2.0**10, 2.0**9)
    assert largest_gap((state.params, state.opt_state), (before.params, before.opt_state)) == 0

    for _ in range(20):  # the scale falls until the planted batch fits
        state, metrics = step(state, planted)
        if metrics["skipped"].total[0] == 0:
            break
    assert metrics["skipped"].total[0] == 0
    assert 2.0**-10 < scale_of(state) < 2.0**9
    assert np.isfinite(metrics["loss"].total[0])
    assert largest_gap(state.params, before.params) > 0
    for _ in range(60):
        state, metrics = step(state, good)
    assert metrics["skipped"].total[0] == 0
    assert metrics["loss"].total[0] < 0.7 * first


def test_the_scale_over_time():
    """It doubles after each `growth_interval` good steps, a skipped step halves it and starts the count again."""
    step = jit_step(scaled_step(growth_interval=3, max_scale=32.0), steps_per_call=13)
    weights = [1, jnp.inf, *[1] * 11]
    batches = [weighted_batch(weight, seed) for seed, weight in enumerate(weights)]
    stack = {name: jnp.stack([batch[name] for batch in batches]) for name in batches[0]}
    state = step.place_state(with_loss_scale(make_state(optax.sgd(0.1)), 8.0))
    state, metrics = step(state, step.place_batch(stack))
    assert metrics["loss_scale"].total.tolist() == [8, 8, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32]
    assert metrics["loss_scale"].count.tolist() == [1] * 13
    assert metrics["skipped"].total.tolist() == [0, 1, *[0] * 11]
    assert (scale_of(state), float(state.model_state["loss_scale"]["good_steps"])) == (32, 2)


def test_the_scale_stays_within_its_bounds():
    state = with_loss_scale(make_state(optax.sgd(0.1)), 8.0)
    for weight, want in ((1.0, [12, 12]), (jnp.inf, [4, 4])):
        step, scales, last = scaled_step(growth_interval=1, factor=3.0, min_scale=4.0, max_scale=12.0), [], state
        step = jax.jit(step)
        for _ in range(2):
            last, _ = step(last, weighted_batch(weight))
            scales.append(scale_of(last))
        assert scales == want


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("weight", [1.0, np.inf], ids=["good", "overflow on one device"])
def test_pmap_and_accumulate_give_the_state_of_one_device(x64, weight, micro_batches):
    optimizer, batch = optax.sgd(0.5, momentum=0.9), weighted_batch(weight)
    state = with_loss_scale(make_state(optimizer))
    want, want_metrics = jax.jit(scaled_step(optimizer=optimizer, growth_interval=1))(state, batch)
    step = scaled_step(
        optimizer=optimizer,
        wrap=lambda grad_fn: all_reduce(accumulate(grad_fn, micro_batches), "data"),
        growth_interval=1,
    )
    pmapped = jax.pmap(step, axis_name="data", in_axes=(None, 0), out_axes=None)
    got, metrics = pmapped(state, jax.tree.map(lambda x: x.reshape(8, 8, *x.shape[1:]), batch))
    types = jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), got) == types
    assert largest_gap(got.model_state, want.model_state) == 0
    assert scale_of(got) == (2.0**16 if weight == 1 else 2.0**14)
    assert largest_gap((got.params, metrics), (want.params, want_metrics)) < 1e-12
    assert (largest_gap(got.params, state.params) > 0.01) == (weight == 1)


@pytest.mark.parametrize("steps_per_call", [1, 2])
def test_the_second_call_does_not_compile(compilations, steps_per_call):
    step = jit_step(scaled_step(wrap=lambda grad_fn: accumulate(grad_fn, 2)), steps_per_call=steps_per_call)
    batch = weighted_batch()
    if steps_per_call > 1:
        batch = jax.tree.map(lambda x: jnp.stack([x] * steps_per_call), batch)
    batch = step.place_batch(batch)
    state, _ = step(step.place_state(with_loss_scale(make_state(optax.sgd(0.1)), 2)), batch)
    before = len(compilations)
    assert before > 0
    step(state, batch)
    assert len(compilations) == before


def test_errors_say_what_is_missing():
    optimizer = optax.sgd(0.1)
    state, batch = make_state(optimizer, {"n": jnp.ones(())}), weighted_batch()
    step = make_step(scaled_sum_gradients(weighted_loss_fn), optimizer, skip_nonfinite=True)
    for missing in (step, loss_scaling(step)):
        with pytest.raises(ValueError, match=r"collection 'loss_scale', which with_loss_scale.*got \['n'\]"):
            jax.eval_shape(missing, state, batch)
    state = with_loss_scale(state)
    plain = make_step(scaled_sum_gradients(weighted_loss_fn), optimizer)
    with pytest.raises(ValueError, match=r"reports 'skipped', from make_step.*got one that reports \['accuracy', 'l"):
        jax.eval_shape(loss_scaling(plain), state, batch)
    with pytest.raises(ValueError, match="metrics: loss scaling itself reports 'loss_scale'"):
        jax.eval_shape(loss_scaling(loss_scaling(step)), state, batch)
    average = scaled_sum_gradients(lambda params, model_state, batch, key: (jnp.mean(params["w"]), ({}, {})))
    with pytest.raises(ValueError, match="loss_fn: expected a Mean"):
        average(make_params(), state.model_state, {}, jax.random.key(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"growth_interval": 0}, "growth_interval: expected at least 1 step, got 0"),
        ({"factor": 1.0}, "factor: expected a finite number above 1, got 1.0"),
        ({"min_scale": 0.0}, "min_scale, max_scale: expected 0 < min <= max < inf, got 0.0"),
        ({"min_scale": 4.0, "max_scale": 2.0}, "min_scale, max_scale: .* got 4.0 and 2.0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        scaled_step(**options)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan])
def test_the_first_scale_is_positive_and_finite(scale):
    with pytest.raises(ValueError, match="scale: expected a positive finite number"):
        with_loss_scale(make_state(optax.sgd(0.1)), scale)


def digits_accuracy(precision, seeds=3, epochs=10, pixels=16):
    """Mean accuracy of LeNet trained in a precision, which a script reaches with XLA's optimisations on."""
    train, test = load("digits", "train"), load("digits", "test")
    for arrays in (train, test):
        arrays["image"] = resize(arrays["image"], (pixels, pixels))
    data, test_data = DeviceData(train, 64, train=True), DeviceData(test, 360, train=False)
    model = LeNet(dtype=jnp.dtype(precision))
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, epochs * len(data)))
    model_loss_fn, eval_fn = supervised(
        model,
        "image",
        loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]),
        scores={"accuracy": lambda logits, batch: nn.accuracy(logits, batch["label"])},
    )
    if precision == "float16":
        step = scaled_step(model_loss_fn, optimizer, growth_interval=50)
    else:
        step = make_step(sum_gradients(model_loss_fn), optimizer)
    step, accuracies = jit_step(step, steps_per_call=11), []
    for seed in range(seeds):
        state = init_state(lambda key: model.init(key, train["image"][:1]), optimizer, jax.random.key(seed))
        if precision == "float16":
            state = with_loss_scale(state)
        state, _ = fit(step, state, data, epochs=epochs, progress=False)
        accuracies.append(evaluate(eval_fn, state, test_data)["accuracy"])
    return float(np.mean(accuracies))


@pytest.mark.slow
@pytest.mark.optimized
def test_half_precision_reaches_the_accuracy_of_float32():
    plain = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")  # without optimisations half precision takes minutes
    environment = {name: value for name, value in os.environ.items() if name not in plain}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    accuracy = json.loads(done.stdout)
    assert accuracy["float32"] > 0.95
    assert accuracy["bfloat16"] >= accuracy["float32"] - 0.005, accuracy
    assert accuracy["float16"] >= accuracy["float32"] - 0.005, accuracy


if __name__ == "__main__":
    print(json.dumps({precision: digits_accuracy(precision) for precision in ("float32", "bfloat16", "float16")}))
