"""docs/parameter_groups.md: its code runs, and what it says about groups and freezing holds."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

from jaxdl import nn, training
from jaxdl.data import DeviceData

PAGE = (Path(__file__).parent.parent / "docs" / "parameter_groups.md").read_text()
HEAD = {"Dense_2/kernel", "Dense_2/bias"}


@pytest.fixture(scope="module")
def page():
    """The names that the page's code defines."""
    namespace = {"__name__": "parameter_groups"}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, namespace)
    return namespace


def named(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def moved(before, after):
    """The names of the arrays that are not bit for bit what they were."""
    before, after = named(before), named(after)
    assert before.keys() == after.keys()
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


def test_frozen_parameters_keep_their_bits_and_the_head_learns(page):
    assert page["sizes"] == {"body": 4, "head": 2}
    assert moved(page["trained"].params | {"Dense_2": 0}, page["state"].params | {"Dense_2": 0}) == set()
    assert moved(page["state"].params, page["tuned"].params) == HEAD
    assert page["history"].rows[-1]["eval_accuracy"] > 0.85


def test_where_all_is_frozen_nothing_is_learned(page):
    frozen = optax.multi_transform({"body": optax.set_to_zero(), "head": optax.set_to_zero()}, page["groups"])
    state = page["start"](frozen, 2, seed=1)
    after, history = page["train"](state, frozen, 2, "train[1397:]", epochs=3)
    assert moved(state.params, after.params) == set()
    assert len({row["eval_accuracy"] for row in history.rows}) == 1


def test_a_frozen_group_has_no_moments(page):
    shapes = sorted(np.shape(leaf) for leaf in jax.tree.leaves(page["tuned"].opt_state))
    assert shapes == [(), (2,), (2,), (64, 2), (64, 2)]  # Adam's count, and both moments of the head


def test_a_frozen_group_costs_no_gradient_unless_something_reads_it(page):
    batch = {"image": jnp.zeros((20, 8, 8, 1)), "label": jnp.zeros(20, jnp.int32)}
    loss_fn, _ = training.supervised(
        nn.MLP([128, 64, 2]), "image", loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]), scores={}
    )

    def flops(optimizer):
        step = training.make_step(training.sum_gradients(loss_fn), optimizer)
        return training.count_flops(step, page["start"](optimizer, 2, seed=0), batch)

    assert flops(page["frozen"]) / flops(optax.adam(1e-2)) == pytest.approx(0.35, abs=0.005)
    assert flops(optax.chain(optax.clip_by_global_norm(1.0), page["frozen"])) > 0.9 * flops(optax.adam(1e-2))


def test_what_does_not_freeze(page):
    body = jnp.asarray(page["params"]["Dense_0"]["kernel"])
    np.testing.assert_allclose(page["decayed"]["Dense_0"]["kernel"], -1e-2 * 0.1 * body, rtol=1e-6)
    assert abs(body).max() > 0
    assert (page["passed"]["Dense_0"]["kernel"] == 1).all()
    assert (page["passed"]["Dense_2"]["kernel"] < 0).all()


def test_unfreezing_moves_everything_and_the_step_goes_on(page):
    assert moved(page["tuned"].params, page["unfrozen"].params) == set(named(page["tuned"].params))
    assert page["unfrozen"].step == page["tuned"].step + 60 == 120


def test_each_group_moves_by_its_own_rule(page, x64):
    """SGD and decay by hand: `p - rate * (g + decay * p)`, without the decay for biases."""
    rules = {"body": (0.01, 0.5), "head": (1.0, 0.1)}
    optimizer = optax.multi_transform(
        {
            label: optax.chain(optax.add_decayed_weights(decay, mask=nn.weight_mask), optax.sgd(rate))
            for label, (rate, decay) in rules.items()
        },
        page["groups"],
    )
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), page["params"])
    batch = {"image": jnp.asarray(rng.normal(size=(5, 8, 8, 1))), "label": jnp.array([0, 1, 1, 0, 1])}
    loss_fn, _ = training.supervised(
        nn.MLP([128, 64, 2]), "image", loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]), scores={}
    )
    grad_fn = training.sum_gradients(loss_fn)
    state = training.TrainState(params, {}, optimizer.init(params), jnp.zeros((), jnp.int32), jax.random.key(0))
    grads = named(jax.jit(grad_fn)(params, {}, batch, state.key)[0].grads)
    after, _ = jax.jit(training.make_step(grad_fn, optimizer))(state, batch)
    for name, p in named(params).items():
        rate, decay = rules["head" if name in HEAD else "body"]
        by_hand = p - rate * (grads[name] / 5 + decay * p * name.endswith("kernel"))
        np.testing.assert_allclose(named(after.params)[name], by_hand, rtol=1e-12, atol=1e-12)
        assert abs(grads[name]).max() > 0


def test_a_label_without_an_optimiser_is_refused(page):
    with pytest.raises(ValueError, match="no corresponding transformation"):
        optax.multi_transform({"head": optax.sgd(1.0)}, page["groups"]).init(page["params"])


def test_a_resumed_run_refuses_the_state_of_another_optimiser(page, tmp_path):
    with training.Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(page["tuned"], step=60, extra={})
        with pytest.raises(training.CheckpointError, match="does not fit the template"):
            checkpointer.restore(page["unfrozen"])


@pytest.mark.parametrize("fixed", [True, False])
def test_batch_statistics_move_unless_the_body_is_called_as_in_evaluation(page, fixed):
    class Body(linen.Module):
        @linen.compact
        def __call__(self, x, train=False):
            return nn.BatchNorm()(linen.Dense(4)(x), train=train)

    class Plain(page["FineTuned"]):
        def __call__(self, x, train=False):
            return self.head(self.body(x, train=train))

    model = (page["FineTuned"] if fixed else Plain)(Body(), linen.Dense(2))
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(8, 3)).astype(np.float32), "label": np.arange(8) % 2}
    loss_fn, _ = training.supervised(
        model, "x", loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]), scores={}
    )
    optimizer = optax.multi_transform(
        {"body": optax.set_to_zero(), "head": optax.adam(1e-2)},
        lambda params: jax.tree_util.tree_map_with_path(lambda path, leaf: path[0].key, params),
    )
    state = training.init_state(lambda key: model.init(key, arrays["x"]), optimizer, jax.random.key(0))
    step = training.jit_step(training.make_step(training.sum_gradients(loss_fn), optimizer))
    after, _ = training.fit(step, state, DeviceData(arrays, 4, train=True), epochs=2, progress=False)
    assert moved(state.params, after.params) == {"head/bias", "head/kernel"}
    names = {f"batch_stats/body/BatchNorm_0/{name}" for name in ("mean", "var")}
    assert moved(state.model_state, after.model_state) == (set() if fixed else names)
