"""A scan of blocks equals a loop over them, and remat changes nothing that can be seen from outside."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from jaxdl.nn.repeated_blocks import RepeatedBlocks, _group_size

NUM_BLOCKS = 6
NAMED = jax.checkpoint_policies.save_only_these_names("hidden")
CHOICES = {"none": "none", "full": "full", "sqrt": "sqrt", "policy": NAMED}


class Block(nn.Module):
    """Everything a block may hold: parameters with axis names, statistics, dropout, a mask, something sown."""

    dropout_rate: float = 0.5

    @nn.compact
    def __call__(self, x, mask, train=False):
        named = nn.with_logical_partitioning(nn.initializers.lecun_normal(), ("embed", "mlp"))
        h = nn.BatchNorm(use_running_average=not train, momentum=0.9, param_dtype=x.dtype)(x)
        h = checkpoint_name(nn.Dense(16, kernel_init=named, param_dtype=x.dtype)(h), "hidden")
        h = nn.Dropout(self.dropout_rate, deterministic=not train)(nn.tanh(h))
        h = nn.Dense(8, param_dtype=x.dtype)(h) * mask[:, None]
        self.sow("intermediates", "norm", jnp.square(h).sum())
        return x + h


class Model(nn.Module):
    """A stack with a layer before it, so that it is not the root of the variables."""

    remat: object

    @nn.compact
    def __call__(self, x, mask, train=False):
        x = nn.Dense(8, param_dtype=x.dtype)(x)
        return RepeatedBlocks(Block(), NUM_BLOCKS, remat=self.remat)(x, mask, train=train)


@pytest.fixture
def inputs(x64):
    x = jax.random.normal(jax.random.key(1), (5, 8), jnp.float64)
    return x, jnp.array([1.0, 1.0, 0.0, 0.5, 1.0])


def run(model, inputs):
    """The variables of a model, outputs and updates of a training call, and the gradients."""
    variables = nn.meta.unbox(model.init(jax.random.key(0), *inputs))

    def loss(params):
        y, updates = model.apply(
            variables | {"params": params},
            *inputs,
            train=True,
            rngs={"dropout": jax.random.key(3)},
            mutable=["batch_stats", "intermediates"],
        )
        return jnp.square(y).sum(), (y, updates)

    (_, (y, updates)), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    return {"variables": variables, "y": y, "updates": updates, "grads": grads}


def test_every_choice_gives_the_same(inputs):
    """Variables and initial values, outputs under dropout, statistics, what was sown, gradients; in float64."""
    runs = {name: jax.jit(run, static_argnums=0)(Model(remat), inputs) for name, remat in CHOICES.items()}
    plain = runs.pop("none")
    for choice, other in runs.items():
        assert jax.tree.structure(plain) == jax.tree.structure(other)
        assert jax.tree.all(jax.tree.map(np.array_equal, plain["variables"], other["variables"])), choice
        for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(plain), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13, err_msg=choice + jax.tree_util.keystr(path))
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(plain["grads"]["RepeatedBlocks_0"]))
    changes = jax.tree.map(
        lambda a, b: np.abs(a - b).min(), plain["updates"]["batch_stats"], plain["variables"]["batch_stats"]
    )
    assert all(change > 0 for change in jax.tree.leaves(changes))


def test_variables_are_those_of_the_block_with_a_leading_axis(inputs):
    alone = nn.meta.unbox(jax.eval_shape(Block().init, jax.random.key(0), *inputs))
    stacked = nn.meta.unbox(
        jax.jit(partial(RepeatedBlocks(Block(), NUM_BLOCKS).init, train=True))(jax.random.key(0), *inputs)
    )
    for collection in ("params", "batch_stats"):
        blocks = stacked[collection]["blocks"]
        assert jax.tree.map(jnp.shape, blocks) == jax.tree.map(lambda x: (NUM_BLOCKS, *x.shape), alone[collection])
    kernels = np.asarray(stacked["params"]["blocks"]["Dense_0"]["kernel"])
    assert len(np.unique(kernels)) == kernels.size  # every block has its own
    assert not stacked["batch_stats"]["blocks"]["BatchNorm_0"]["mean"].any()  # initialising is not training


def test_it_equals_a_loop_over_the_blocks(inputs):
    """In training, so that the statistics are those of each block's own input."""
    x, mask = inputs
    block, mutable = Block(dropout_rate=0.0), ["batch_stats", "intermediates"]
    model = RepeatedBlocks(block, NUM_BLOCKS)
    variables = nn.meta.unbox(jax.jit(model.init)(jax.random.key(0), x, mask))
    y, updates = model.apply(variables, x, mask, train=True, mutable=mutable)
    one_block = jax.jit(lambda variables, x: block.apply(variables, x, mask, train=True, mutable=mutable))
    for i in range(NUM_BLOCKS):
        x, want = one_block(take(variables, i), x)
        for a, b in zip(jax.tree.leaves(take(updates, i)), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(y, x, rtol=1e-12)


def take(variables, i):
    """The variables of block i alone."""
    return {name: jax.tree.map(lambda a: a[i], tree["blocks"]) for name, tree in variables.items()}


def test_dropout_differs_between_blocks_and_follows_the_key():
    class Drop(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            dropped = nn.Dropout(0.5, deterministic=not train)(jnp.ones_like(x))
            self.sow("intermediates", "mask", dropped)
            return x

    def masks(key, remat):
        model = RepeatedBlocks(Drop(), 4, remat=remat)
        _, updates = model.apply({}, jnp.ones(64), train=True, rngs={"dropout": key}, mutable=["intermediates"])
        return np.asarray(updates["intermediates"]["blocks"]["mask"][0])

    first = masks(jax.random.key(0), "none")
    assert len(np.unique(first, axis=0)) == 4
    np.testing.assert_array_equal(first, masks(jax.random.key(0), "sqrt"))
    assert (first != masks(jax.random.key(1), "none")).any()


def test_logical_axis_names_get_a_leading_one(inputs):
    model = RepeatedBlocks(Block(), NUM_BLOCKS, remat="sqrt")
    boxed = jax.jit(model.init)(jax.random.key(0), *inputs)
    specs = nn.get_partition_spec(boxed)["params"]["blocks"]
    assert specs["Dense_0"]["kernel"] == jax.sharding.PartitionSpec("layers", "embed", "mlp")
    want = model.apply(nn.meta.unbox(boxed), *inputs)
    mesh = jax.make_mesh((4,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh), nn.logical_axis_rules([("mlp", "model"), ("embed", None), ("layers", None)]):
        y, updates = jax.jit(partial(model.apply, mutable=["params"]))(boxed, *inputs)
    np.testing.assert_allclose(y, want, rtol=1e-12)
    assert nn.get_partition_spec(updates)["params"]["blocks"] == specs


@pytest.mark.parametrize(
    ("num_blocks", "size"), [(1, 1), (2, 1), (7, 1), (8, 2), (12, 3), (16, 4), (24, 4), (64, 8), (96, 8), (100, 10)]
)
def test_groups_are_of_the_divisor_nearest_to_the_root(num_blocks, size):
    assert _group_size(num_blocks) == size


def equations(jaxpr):
    """All equations, at any depth."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


@pytest.mark.parametrize(("num_blocks", "lengths"), [(12, [4, 3]), (5, [5, 1])])
def test_sqrt_scans_groups_and_the_blocks_inside(num_blocks, lengths):
    class Half(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return x / 2

    def jaxpr(remat):
        return jax.make_jaxpr(lambda x: RepeatedBlocks(Half(), num_blocks, remat=remat).apply({}, x))(1.0).jaxpr

    scans = [e.params["length"] for e in equations(jaxpr("sqrt")) if e.primitive.name == "scan"]
    assert scans == lengths
    assert [e.params["length"] for e in equations(jaxpr("full")) if e.primitive.name == "scan"] == [num_blocks]


def test_it_works_inside_itself_and_with_one_block():
    class Scale(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return x * self.param("scale", nn.initializers.normal(), (1,))

    model = RepeatedBlocks(RepeatedBlocks(Scale(), 3, remat="sqrt"), 2)
    variables = model.init(jax.random.key(0), jnp.ones(1))
    scales = variables["params"]["blocks"]["blocks"]["scale"]
    assert scales.shape == (2, 3, 1)
    np.testing.assert_allclose(model.apply(variables, jnp.ones(1)), scales.prod(keepdims=True)[0, 0], rtol=1e-6)
    one = RepeatedBlocks(Scale(), 1, remat="sqrt")
    variables = one.init(jax.random.key(0), jnp.ones(1))
    np.testing.assert_array_equal(one.apply(variables, jnp.ones(1)), variables["params"]["blocks"]["scale"][0])


def test_it_refuses():
    with pytest.raises(ValueError, match="num_blocks: expected at least 1, got 0"):
        RepeatedBlocks(Block(), 0)
    with pytest.raises(ValueError, match=r"remat: expected 'none', 'full', 'sqrt' or .*checkpoint_policies.*got 'all'"):
        RepeatedBlocks(Block(), 2, remat="all")
    x = jnp.ones((2, 8))
    with pytest.raises(ValueError, match=r"block: expected it to return float32\[2, 8\].*got float32\[2, 9\]"):
        RepeatedBlocks(Wider(1), 2).init(jax.random.key(0), x)
    variables = RepeatedBlocks(Wider(0), 3).init(jax.random.key(0), x)
    with pytest.raises(
        ValueError, match=r"params/Dense_0/bias: expected a leading axis of 4 blocks, got float32\[3, 8\]"
    ):
        RepeatedBlocks(Wider(0), 4).apply(variables, x)
    with pytest.raises(ValueError, match=r"block: expected it to return float32\[2, 8\].*got float32\[2, 9\]"):
        RepeatedBlocks(Wider(1), 2, remat="sqrt").init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"got bfloat16\[2, 8\]"):
        RepeatedBlocks(Wider(0, jnp.bfloat16), 2).init(jax.random.key(0), x)


class Wider(nn.Module):
    by: int
    dtype: object = jnp.float32

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(8 + self.by, dtype=self.dtype)(x)
