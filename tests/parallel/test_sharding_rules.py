"""Where the rules put each array, and what a device then holds."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P
from problems import largest_gap, make_state

from jaxdl import nn, training
from jaxdl.parallel import ShardingRules, make_mesh, shard_step

MESH = make_mesh({"data": 4, "model": 2})


class Annotated(linen.Module):
    """Two dense layers whose parameters name their logical axes."""

    logical: bool = True

    @linen.compact
    def __call__(self, x, train=False):
        def init(*names):
            normal = linen.initializers.normal(0.5)
            return linen.with_logical_partitioning(normal, names) if self.logical else normal

        x = linen.Dense(16, kernel_init=init("embed", "mlp"), use_bias=False)(x)
        return linen.Dense(8, kernel_init=init("mlp", "embed"), use_bias=False)(jnp.tanh(x))


def specs(state, rules):
    shardings = rules.shardings(state, MESH)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.spec
        for path, leaf in jax.tree.leaves_with_path(shardings)
    }


def state_of(model, optimizer, seed=0):
    return training.init_state(lambda key: model.init(key, jnp.ones((1, 8))), optimizer, jax.random.key(seed))


def test_optimiser_state_follows_its_parameter():
    state = state_of(Annotated(logical=False), optax.adam(0.1))
    rules = ShardingRules(params={"Dense_0/kernel": (None, "model")}, fully_sharded="data")
    found = specs(state, rules)
    assert found["params/Dense_0/kernel"] == P("data", "model")
    assert found["params/Dense_1/kernel"] == P("data", None)  # the largest axis
    for moment in ("mu", "nu"):
        assert found[f"opt_state/0/{moment}/Dense_0/kernel"] == P("data", "model")
    assert {found["opt_state/0/count"], found["step"], found["key"]} == {P()}


def test_fully_sharded_takes_the_largest_axis_and_the_step_keeps_the_layout():
    state = state_of(Annotated(logical=False), optax.sgd(0.1))
    found = specs(state, ShardingRules(fully_sharded="data"))
    assert found["params/Dense_0/kernel"] == P(None, "data")  # [8, 16]
    assert found["params/Dense_1/kernel"] == P("data", None)  # [16, 8]

    def resetting(state, batch):  # its new parameters come from nowhere, so nothing but the rules says where they lie
        return state._replace(params=jax.tree.map(jnp.zeros_like, state.params)), {}

    compiled = shard_step(resetting, MESH, ShardingRules(fully_sharded="data"))
    end, _ = compiled(compiled.place_state(state), compiled.place_batch({"x": np.ones((8, 1), np.float32)}))
    assert end.params["Dense_0"]["kernel"].sharding.spec == P(None, "data")


def test_factored_optimiser_state_of_another_shape_is_replicated():
    state = state_of(Annotated(logical=False), optax.adafactor(0.1, min_dim_size_to_factor=2))
    found = specs(state, ShardingRules(params={"Dense_0/kernel": (None, "model")}))
    assert found["params/Dense_0/kernel"] == P(None, "model")
    assert {spec for name, spec in found.items() if "v_row" in name or "v_col" in name} == {P()}


def test_carry_is_split_like_the_batch_and_the_rest_of_the_model_state_is_replicated():
    state = make_state(optax.sgd(0.1), {"carry": {"h": jnp.ones((8, 3))}, "batch_stats": {"mean": jnp.ones(8)}})
    found = specs(state, ShardingRules(fully_sharded="data"))
    assert found["model_state/carry/h"] == P(("data",))
    assert found["model_state/batch_stats/mean"] == P()


def test_an_array_that_does_not_divide_stays_whole():
    state = make_state(optax.sgd(0.1))  # w [5, 7], v [7, 3]
    assert specs(state, ShardingRules(fully_sharded="data"))["params/w"] == P(None, None)


@pytest.mark.parametrize("rules", [{"mlp": "model"}, {"mlp": "model", "embed": "data"}], ids=["tensor", "both"])
def test_logical_axes_give_the_same_parameters_as_one_device(x64, rules):
    optimizer = optax.adam(0.1)
    rng = np.random.default_rng(0)
    batch = {"x": rng.normal(size=(16, 8)), "y": rng.integers(0, 8, 16)}

    def build(model):
        return training.supervised(model, "x", loss=lambda z, b: nn.cross_entropy(z, b["y"]), scores={})[0]

    plain, annotated = Annotated(logical=False), Annotated()
    step = training.jit_step(training.make_step(training.sum_gradients(build(plain)), optimizer))
    want, _ = step(step.place_state(state_of(plain, optimizer)), step.place_batch(batch))
    sharded = shard_step(
        training.make_step(training.sum_gradients(build(annotated)), optimizer),
        MESH,
        ShardingRules(logical=rules, fully_sharded="data"),
    )
    state = sharded.place_state(state_of(annotated, optimizer))
    kernel = state.params["Dense_0"]["kernel"].value
    assert kernel.sharding.spec[1] == "model"
    assert kernel.addressable_shards[0].data.size == kernel.size / 8
    got, _ = sharded(state, sharded.place_batch(batch))
    assert largest_gap(linen.unbox(got.params), want.params) < 1e-6  # Linen's parameters are float32
    assert got.params["Dense_0"]["kernel"].value.sharding.spec == kernel.sharding.spec  # the step keeps the layout


@pytest.mark.parametrize("num_devices", [1, 2, 8])
def test_fully_sharded_parameters_and_optimiser_state_fall_as_one_over_n(num_devices):
    """By the compiled step's own account of its arguments, on one device."""
    optimizer = optax.adam(1e-3)
    model = nn.MLP([256, 256, 10])
    loss_fn, _ = training.supervised(model, "x", loss=lambda z, b: nn.cross_entropy(z, b["y"]), scores={})
    state = training.init_state(lambda key: model.init(key, jnp.ones((1, 64))), optimizer, jax.random.key(0))
    mesh = make_mesh({"data": num_devices})
    compiled = shard_step(
        training.make_step(training.sum_gradients(loss_fn), optimizer), mesh, ShardingRules(fully_sharded="data")
    )
    batch = compiled.place_batch({"x": np.ones((8, 64), np.float32), "y": np.zeros(8, np.int32)})
    analysis = compiled.call.lower(compiled.place_state(state), batch).compile().memory_analysis()
    batch_bytes = 8 * 65 * 4 / num_devices
    whole = 3 * 4 * nn.parameter_count({"params": state.params})  # parameters and two moments, float32
    assert analysis.argument_size_in_bytes - batch_bytes == pytest.approx(whole / num_devices, rel=0.1)
    assert analysis.alias_size_in_bytes == pytest.approx(whole / num_devices, rel=0.1)  # the memory is taken over
