"""The ring, and the bytes of each strategy written out, against the formulas."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P
from problems import largest_gap, loss_fn, make_batch, make_state

from jaxdl import training
from jaxdl.parallel import ShardingRules, communication_bytes, make_mesh, ring_all_reduce, shard_step

GRAD_FN = training.sum_gradients(loss_fn)
N = 8


def over_devices(fn, mesh, in_specs, out_specs):
    return jax.shard_map(fn, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def test_the_books_all_reduce():
    out = jax.pmap(partial(ring_all_reduce, axis_name="i"), axis_name="i")(jnp.array([[1.0, 1.0], [2.0, 2.0]]))
    np.testing.assert_array_equal(out, [[3, 3], [3, 3]])  # D2L 13.5


@given(st.sampled_from([1, 2, 5]), st.sampled_from([(), (1,), (3, 5), (8,), (0,)]))
@settings(deadline=None, max_examples=8)
def test_the_ring_is_psum(n, shape):
    x = np.random.default_rng(0).normal(size=(n, *shape)).astype(np.float32)
    ring = jax.vmap(partial(ring_all_reduce, axis_name="i"), axis_name="i")(x)
    np.testing.assert_allclose(ring, np.broadcast_to(x.sum(0), x.shape), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [2, 8])
def test_the_ring_sends_what_the_formula_says(n):
    mesh = make_mesh({"i": n})
    x = jax.ShapeDtypeStruct((n, 4096), jnp.float32)
    for reduce, name in ((ring_all_reduce, "ppermute"), (jax.lax.psum, "all_reduce")):
        fn = over_devices(lambda x, reduce=reduce: reduce(x[0], "i")[None], mesh, P("i"), P("i"))
        assert communication_bytes(fn, x) == {name: pytest.approx(2 * (n - 1) / n * 4096 * 4)}


def explicit_data_parallel(optimizer, mesh):
    """The step of `pmap_step` as a `shard_map`."""
    step = training.make_step(training.all_reduce(GRAD_FN, "data"), optimizer)
    return over_devices(step, mesh, (P(), P("data")), P())


def explicit_fully_sharded(optimizer, mesh):
    """Parameters and optimiser state live in slices of the first axis; gathered to compute, the gradients scattered."""

    def step(state, batch):
        gather = partial(jax.lax.all_gather, axis_name="data", axis=0, tiled=True)
        scatter = partial(jax.lax.psum_scatter, axis_name="data", scatter_dimension=0, tiled=True)
        sums, _ = GRAD_FN(jax.tree.map(gather, state.params), {}, batch, state.key)
        count = jax.lax.psum(sums.loss.count, "data")
        grads = jax.tree.map(lambda g: scatter(g) / count, sums.grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        return state._replace(params=optax.apply_updates(state.params, updates), opt_state=opt_state)

    state_specs = make_state(optimizer)._replace(
        params=P("data"), model_state=P(), opt_state=P("data"), step=P(), key=P()
    )
    return over_devices(step, mesh, (state_specs, P("data")), state_specs)


def wide_state(optimizer):
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(8, 16))), "v": jnp.asarray(rng.normal(size=(16, 8)))}
    return make_state(optimizer)._replace(params=params, opt_state=optimizer.init(params))


def wide_batch():
    batch = make_batch()
    return batch | {"x": jnp.concatenate([batch["x"], batch["x"][:, :3]], axis=1)}


def test_data_parallel_and_fully_sharded_send_the_same_and_end_the_same(x64):
    """2 (n-1)/n of the parameters' bytes: all-reduced, or gathered once and scattered once."""
    mesh, optimizer = make_mesh({"data": N}), optax.sgd(0.5, momentum=0.9)
    state, batch = wide_state(optimizer), wide_batch()
    param_bytes = sum(p.nbytes for p in jax.tree.leaves(state.params))
    sharded = shard_step(training.make_step(GRAD_FN, optimizer), mesh, ShardingRules(fully_sharded="data"))
    want, _ = sharded(sharded.place_state(state), sharded.place_batch(batch))

    step = explicit_data_parallel(optimizer, mesh)
    sent = communication_bytes(step, state, batch)
    scalars = 4 * 8 * 2 * (N - 1) / N  # loss and accuracy, totals and counts
    assert sent == {"all_reduce": pytest.approx(2 * (N - 1) / N * param_bytes + scalars)}
    assert largest_gap(jax.jit(step)(state, batch)[0].params, want.params) < 1e-12

    step = explicit_fully_sharded(optimizer, mesh)
    sent = communication_bytes(step, state, batch)
    count = 8 * 2 * (N - 1) / N
    assert sent["all_gather"] == pytest.approx((N - 1) / N * param_bytes)
    assert sent["reduce_scatter"] == pytest.approx((N - 1) / N * param_bytes)
    assert sent["all_reduce"] == pytest.approx(count)
    assert largest_gap(jax.jit(step)(state, batch).params, want.params) < 1e-12


def test_tensor_parallel_sends_activations(x64):
    """The hidden layer split: the outputs are all-reduced forward; backward nothing, the input has no gradient."""
    mesh, optimizer = make_mesh({"model": N}), optax.sgd(0.5)
    state, batch = wide_state(optimizer), wide_batch()

    @partial(jax.custom_vjp, nondiff_argnums=())
    def all_reduce_forward(x):  # Megatron's g: the outputs are summed, their gradient is every device's already
        return jax.lax.psum(x, "model")

    all_reduce_forward.defvjp(lambda x: (all_reduce_forward(x), None), lambda _, g: (g,))

    def tensor_loss(params, model_state, batch, key):
        logits = all_reduce_forward(jnp.tanh(batch["x"] @ params["w"]) @ params["v"])
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
        return training.Mean.of(loss, batch["mask"]), ({}, model_state)

    specs = {"w": P(None, "model"), "v": P("model", None)}
    step = training.make_step(training.sum_gradients(tensor_loss), optimizer)
    state_specs = state._replace(params=specs, model_state=P(), opt_state=P(), step=P(), key=P())
    explicit = over_devices(step, mesh, (state_specs, P()), (state_specs, P()))
    sent = communication_bytes(explicit, state, batch)
    assert sent == {"all_reduce": pytest.approx(2 * (N - 1) / N * 64 * 8 * 8)}  # [64, 8] float64 outputs

    rules = ShardingRules(batch=(), params={"w": (None, "model"), "v": ("model", None)})
    sharded = shard_step(training.make_step(GRAD_FN, optimizer), mesh, rules)
    want, _ = sharded(sharded.place_state(state), sharded.place_batch(batch))
    assert largest_gap(jax.jit(explicit)(state, batch)[0].params, want.params) < 1e-12


def test_loops_count_their_turns_and_while_is_refused():
    mesh = make_mesh({"i": N})

    def scanned(x):
        return jax.lax.scan(lambda c, _: (jax.lax.psum(c, "i") / N, None), x, None, length=5)[0]

    def endless(x):
        return jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: jax.lax.psum(c, "i"), x)

    x = jax.ShapeDtypeStruct((N, 16), jnp.float32)
    one = 2 * (N - 1) / N * 16 * 4
    assert communication_bytes(over_devices(scanned, mesh, P("i"), P("i")), x) == {"all_reduce": pytest.approx(5 * one)}
    with pytest.raises(ValueError, match="a collective in a while loop"):
        communication_bytes(over_devices(endless, mesh, P("i"), P("i")), x)


def test_groups_and_branches():
    mesh, x = make_mesh({"i": N}), jax.ShapeDtypeStruct((N, 16), jnp.float32)
    pairs = [list(range(N))[i : i + 2] for i in range(0, N, 2)]

    def sent(fn):
        return communication_bytes(over_devices(fn, mesh, P("i"), P("i")), x)

    assert sent(lambda x: jax.lax.psum(x, "i", axis_index_groups=pairs)) == {"all_reduce": 64}  # 2 (2 - 1) / 2 of 64

    def either(other):
        return lambda x: jax.lax.cond(x.sum() > 0, lambda: jax.lax.psum(x, "i"), lambda: other(x))

    assert sent(either(lambda x: jax.lax.psum(2 * x, "i"))) == sent(lambda x: jax.lax.psum(x, "i"))
    with pytest.raises(ValueError, match="branches of a cond send different amounts"):
        sent(either(lambda x: x))
