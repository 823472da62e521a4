"""What the strategies refuse, and that they do so before compiling."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import loss_fn, make_batch, make_params, make_state

from jaxdl.parallel import ShardingRules, make_mesh, pmap_step, shard_step
from jaxdl.training import Mean, accumulate, all_reduce, make_step, sum_gradients

OPTIMIZER = optax.adam(0.1)
GRAD_FN = sum_gradients(loss_fn)
STEP = make_step(GRAD_FN, OPTIMIZER)


def call(compiled, state=None):
    state = compiled.place_state(state or make_state(OPTIMIZER))
    return compiled(state, compiled.place_batch(make_batch()))


@pytest.mark.parametrize(
    "grad_fn",
    [GRAD_FN, accumulate(GRAD_FN, 2), all_reduce(GRAD_FN, "data")],
    ids=["plain", "accumulated", "over another axis"],
)
def test_pmap_refuses_a_step_without_a_reduction(grad_fn):
    axis_name = "data" if grad_fn is not None and "all_reduce" not in grad_fn.__qualname__ else "devices"
    if axis_name == "devices":
        with pytest.raises(NameError, match="data"):
            call(pmap_step(make_step(grad_fn, OPTIMIZER), axis_name=axis_name))
        return
    with pytest.raises(ValueError, match=r"step: output \[0\].params\['v'\] differs between devices.*all_reduce"):
        call(pmap_step(make_step(grad_fn, OPTIMIZER)))


def test_pmap_refuses_what_is_only_partly_reduced():
    def forgets_the_metric(params, model_state, batch, key):
        sums, model_state = GRAD_FN(params, model_state, batch, key)
        return jax.lax.psum(sums._replace(metrics={}), "data")._replace(metrics=sums.metrics), model_state

    def forgets_the_model_state(params, model_state, batch, key):
        sums, _ = GRAD_FN(params, model_state, batch, key)
        return jax.lax.psum(sums, "data"), {"seen": model_state["seen"] + batch["x"].sum()}

    def inside_a_scan(params, model_state, batch, key):
        def body(carry, x):
            return carry + x.sum() * jnp.where(carry > 0, 1.0, 0.0), jax.lax.psum(x, "data")

        total, _ = jax.lax.scan(body, 1.0, batch["x"])
        sums, model_state = all_reduce(GRAD_FN, "data")(params, model_state, batch, key)
        return sums, {"seen": total}

    def through_two_carries(params, model_state, batch, key):
        def body(carry, x):
            old, older = carry
            return (jax.lax.psum(x, "data").sum() * 0 + x.sum(), older + old), None  # `older` differs from turn two on

        (_, total), _ = jax.lax.scan(body, (0.0, 0.0), batch["x"])
        sums, model_state = all_reduce(GRAD_FN, "data")(params, model_state, batch, key)
        return sums, {"seen": total}

    def a_device_number(params, model_state, batch, key):
        sums, model_state = all_reduce(GRAD_FN, "data")(params, model_state, batch, key)
        return sums, {"seen": model_state["seen"] + jax.lax.axis_index("data")}

    def a_neighbours_value(params, model_state, batch, key):
        sums, model_state = all_reduce(GRAD_FN, "data")(params, model_state, batch, key)
        mine = batch["x"].sum()
        return sums, {"seen": jax.lax.ppermute(mine, "data", [(i, (i + 1) % 8) for i in range(8)])}

    cases = [
        (through_two_carries, r"\[0\].model_state\['seen'\]"),
        (a_device_number, r"\[0\].model_state\['seen'\]"),
        (a_neighbours_value, r"\[0\].model_state\['seen'\]"),
        (forgets_the_metric, r"\[1\]\['accuracy'\].total"),
        (forgets_the_model_state, r"\[0\].model_state\['seen'\]"),
        (inside_a_scan, r"\[0\].model_state\['seen'\]"),
    ]
    for grad_fn, where in cases:
        state = make_state(OPTIMIZER, {"seen": jnp.zeros(())})
        with pytest.raises(ValueError, match=f"step: output {where} differs between devices"):
            call(pmap_step(make_step(grad_fn, OPTIMIZER)), state)


def test_pmap_accepts_reductions_wherever_they_stand():
    """Inside jit, scan, cond and remat, of loss, statistics and metrics."""

    def loss(params, model_state, batch, key):
        mean = jax.jit(lambda x: jax.lax.pmean(x.mean(), "data"))(batch["x"])

        def body(carry, x):
            return carry + jax.lax.psum(x.sum(), "data"), None

        total, _ = jax.lax.scan(jax.checkpoint(body), mean, batch["x"])
        largest = jax.lax.cond(mean > 0, lambda x: jax.lax.pmax(x.max(), "data"), lambda x: mean, batch["x"])
        own, (metrics, _) = loss_fn(params, model_state, batch, key)
        return own, (metrics, {"mean": mean, "total": total, "largest": largest})

    def reduced(params, model_state, batch, key):
        sums, model_state = sum_gradients(loss)(params, model_state, batch, key)
        return jax.lax.psum(sums, "data"), model_state

    start = make_state(OPTIMIZER, {"mean": jnp.zeros(()), "total": jnp.zeros(()), "largest": jnp.zeros(())})
    state, _ = call(pmap_step(make_step(reduced, OPTIMIZER)), start)
    x = np.asarray(make_batch()["x"])
    assert float(state.model_state["mean"]) == pytest.approx(x.mean(), rel=1e-4)
    assert float(state.model_state["total"]) == pytest.approx(x.mean() + x.sum(), rel=1e-4)


def test_pmap_refuses_per_example_state():
    with pytest.raises(ValueError, match="cannot split the per-example state 'carry'"):
        call(
            pmap_step(make_step(all_reduce(GRAD_FN, "data"), OPTIMIZER)), make_state(OPTIMIZER, {"carry": jnp.ones(64)})
        )


@pytest.mark.parametrize(
    "build",
    [
        lambda **options: pmap_step(make_step(all_reduce(GRAD_FN, "data"), OPTIMIZER), **options),
        lambda **options: shard_step(STEP, make_mesh({"data": 8}), **options),
    ],
    ids=["pmap", "shard"],
)
def test_a_batch_that_the_devices_do_not_divide(build, compilations):
    batch = {name: np.asarray(x) for name, x in make_batch(0, 60).items()}
    compilations.clear()
    with pytest.raises(ValueError, match=r"batch\['x'\]: axis 0 of shape \[60, 5\] does not divide over 8 devices"):
        build().place_batch(batch)
    stack = {name: np.stack([x] * 2) for name, x in batch.items()}
    with pytest.raises(ValueError, match=r"batch\['x'\]: axis 1 of shape \[2, 60, 5\] does not divide over 8 devices"):
        build(steps_per_call=2).place_batch(stack)
    assert not compilations


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"data": 9}, r"a mesh of {'data': 9} needs 9 devices, there are 8"),
        ({"data": 3, "model": 4}, "needs 12 devices"),
        ({"data": 0}, "axes: expected sizes of at least 1"),
        ({"data": -1, "model": -1}, "one of them perhaps -1"),
        ({}, "axes: expected sizes"),
        ({"data": -1, "model": 16}, "needs 16 devices"),
    ],
)
def test_meshes_that_cannot_be(axes, message):
    with pytest.raises(ValueError, match=message):
        make_mesh(axes)


def test_meshes_take_what_is_left_and_the_devices_named():
    assert dict(make_mesh({"data": -1, "model": 2}).shape) == {"data": 4, "model": 2}
    mesh = make_mesh({"data": 2}, jax.devices()[5:])
    assert list(mesh.devices) == jax.devices()[5:7]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (ShardingRules(batch=("dat",)), r"the mesh has the axes \['data', 'model'\], not \['dat'\]"),
        (ShardingRules(params={"w": (None, "modle")}), r"not \['modle'\]"),
        (ShardingRules(fully_sharded="fsdp", logical={"mlp": "tensor"}), r"not \['fsdp', 'tensor'\]"),
    ],
)
def test_rules_that_name_unknown_axes(rules, message):
    with pytest.raises(ValueError, match=message):
        shard_step(STEP, make_mesh({"data": 4, "model": 2}), rules)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            ShardingRules(params={"kernel": ("model",), "w": ("data", "model")}, logical={"mlp": "model"}),
            r"nothing matches \['kernel', 'mlp'\]; the parameters are \['v', 'w'\]",
        ),
        (ShardingRules(params={"w": (None, "model")}), r"axis 1 of w \[5, 7\] does not divide over 'model' of size 2"),
        (ShardingRules(params={"w": (None, None, "model")}), r"'w' gives 3 axes, but w has shape \[5, 7\]"),
    ],
)
def test_rules_that_do_not_fit_the_parameters(rules, message):
    params = make_params()
    if "w" in rules.params and rules.params["w"] == ("data", "model"):
        params["w"] = jnp.zeros((8, 8))
    state = make_state(OPTIMIZER)._replace(params=params, opt_state=OPTIMIZER.init(params))
    with pytest.raises(ValueError, match=message):
        shard_step(STEP, make_mesh({"data": 4, "model": 2}), rules).place_state(state)


def test_an_error_in_the_loss_comes_through():
    def wrong(params, model_state, batch, key):
        return Mean(params["w"].sum(), jnp.ones(())) if batch["x"].shape[0] == 0 else 1 / 0

    with pytest.raises(ZeroDivisionError):
        call(shard_step(make_step(sum_gradients(wrong), OPTIMIZER), make_mesh({"data": 8})))


@pytest.mark.parametrize("reduced", [False, True])
def test_pmap_looks_into_while(reduced):
    def counts(params, model_state, batch, key):
        def body(carry):
            index = jax.lax.axis_index("data")
            return carry[0] + 1, carry[1] + (jax.lax.psum(index, "data") if reduced else index)

        _, total = jax.lax.while_loop(lambda carry: carry[0] < 3, body, (0, 0))
        sums, _ = all_reduce(GRAD_FN, "data")(params, model_state, batch, key)
        return sums, {"seen": total}

    step = pmap_step(make_step(counts, OPTIMIZER))
    state = make_state(OPTIMIZER)._replace(model_state={"seen": jnp.int32(0)})
    if reduced:
        assert call(step, state)[0].model_state["seen"] == 3 * sum(range(jax.device_count()))
    else:
        with pytest.raises(ValueError, match=r"model_state\['seen'\] differs between devices"):
            call(step, state)
