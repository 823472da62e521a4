"""What holds for every optimiser: equal to Optax's and PyTorch's, dtypes, masks, zero gradients, shards, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from optimizer_cases import CASES

from jaxdl import optim, training
from jaxdl.parallel import ShardingRules, make_mesh

STEPS = 100
SHAPES = {"bias": (3,), "kernel": (4, 3), "scale": ()}
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def problem():
    """Parameters, curvatures and 100 noises, NumPy float64: the gradient of step t is `curvature * x + noise[t]`."""
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    curvature = {name: 10 ** rng.uniform(-2, 0.5, size=shape) for name, shape in SHAPES.items()}
    noise = {name: rng.normal(size=(STEPS, *shape)) for name, shape in SHAPES.items()}
    return params, curvature, noise


def run(optimizer, num_steps=STEPS):
    """The parameters after each step, by a scan."""
    params, curvature, noise = jax.tree.map(jnp.asarray, problem())

    def step(carry, noise):
        params, state = carry
        grads = jax.tree.map(lambda c, x, n: c * x + n, curvature, params, noise)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    noise = jax.tree.map(lambda n: n[:num_steps], noise)
    return jax.lax.scan(step, (params, optimizer.init(params)), noise)[1]


def assert_equal_paths(path, expected, rtol=1e-7):
    """To `rtol` of the largest number on the path."""
    for name in SHAPES:
        theirs = np.asarray(expected[name])
        assert np.ptp(theirs[:, ..., None], axis=0).max() > 1e-3, "nothing moved"
        np.testing.assert_allclose(path[name], theirs, rtol=rtol, atol=rtol * np.abs(theirs).max())


@pytest.mark.parametrize("case", [case for case in CASES if case.in_optax], ids=lambda case: case.name)
def test_it_is_optax(case, x64):
    """With a number and with a schedule."""
    rates = case.learning_rate, lambda step: case.learning_rate / (1 + 0.1 * step)
    ours, theirs = jax.jit(
        lambda: ([run(case.ours(rate)) for rate in rates], [run(case.in_optax(rate)) for rate in rates])
    )()
    for path, expected in zip(ours, theirs, strict=True):
        assert_equal_paths(path, expected)
    assert np.abs(ours[0]["kernel"] - ours[1]["kernel"]).max() > 1e-3


@pytest.mark.parametrize("case", [case for case in CASES if case.in_torch], ids=lambda case: case.name)
def test_it_is_pytorch(case, x64):
    torch = pytest.importorskip("torch")
    params, curvature, noise = problem()
    tensors = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in params.items()}
    optimizer, expected = case.in_torch(torch.optim, list(tensors.values())), []
    for t in range(STEPS):
        for name, x in tensors.items():
            x.grad = torch.tensor(curvature[name]) * x.detach() + torch.tensor(noise[name][t])
        optimizer.step()
        expected.append({name: x.detach().numpy().copy() for name, x in tensors.items()})
    expected = {name: np.stack([row[name] for row in expected]) for name in SHAPES}
    assert_equal_paths(jax.jit(lambda: run(case.ours(0.1)))(), expected)


@every_case
def test_dtypes_zeros_and_recompilation(case, x64, compilations):
    """Zero gradients of zeros, of no elements and of others in every dtype: no NaN, nothing moves but by decay."""
    params = {
        "double": jnp.ones((2, 3), jnp.float64),
        "single": jnp.ones((4,), jnp.float32),
        "half": jnp.ones((3, 2), jnp.bfloat16),
        "zero": jnp.zeros((3,), jnp.float16),
        "none": jnp.zeros((0, 4), jnp.float32),
        "scalar": jnp.asarray(2.0, jnp.float32),
    }
    optimizer, zeros = case.ours(0.5), jax.tree.map(jnp.zeros_like, params)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    dtypes = jax.tree.map(lambda leaf: leaf.dtype, state)
    assert all(leaf.dtype == jnp.int32 or leaf.dtype.itemsize >= 4 for leaf in jax.tree.leaves(state))
    updates, state = update(zeros, state, params)
    compiled = len(compilations)
    updates, state = update(zeros, state, params)
    assert len(compilations) == compiled > 0
    assert jax.tree.map(lambda leaf: leaf.dtype, state) == dtypes
    assert jax.tree.map(lambda leaf: leaf.dtype, updates) == jax.tree.map(lambda leaf: leaf.dtype, params)
    assert all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves((updates, state)))
    decays = "decay" in case.name or "adamw" in case.name
    assert np.any(updates["double"]) == decays
    assert not np.any(updates["zero"])


@every_case
def test_gradients_of_zeros_move_them(case):
    """A norm of 0 is no trap for layer-wise rates."""
    params = {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}
    optimizer = case.ours(0.5)
    updates, _ = jax.jit(optimizer.update)(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    for leaf in jax.tree.leaves(updates):
        assert np.all(np.asarray(leaf) < 0)
        assert np.isfinite(leaf).all()


@every_case
def test_it_can_be_masked(case):
    """Behind `optax.masked` the others pass through, and only the chosen have a state."""
    params, curvature, _ = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), problem())
    optimizer = case.ours(0.5)
    masked = optax.masked(optimizer, {"bias": False, "kernel": True, "scale": False})

    @jax.jit
    def both(params, grads):
        state, masked_state = optimizer.init(params), masked.init(params)
        return optimizer.update(grads, state, params)[0], masked.update(grads, masked_state, params)[0], masked_state

    updates, masked_updates, state = both(params, curvature)
    np.testing.assert_allclose(masked_updates["kernel"], updates["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(masked_updates["bias"], curvature["bias"])
    assert {leaf.shape for leaf in jax.tree.leaves(state)} <= {(), (4, 3)}


def test_the_state_lies_where_its_parameter_lies(x64):
    """Fully sharded over eight devices every optimiser does what it does on one; all in two compilations."""
    mesh, rules = make_mesh({"data": 8}), ShardingRules(fully_sharded="data")
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(rng.normal(size=(16, 3))), "bias": jnp.asarray(rng.normal(size=3))}
    grads = jax.tree.map(jnp.sin, params)
    optimizers = {case.name: case.ours(0.1) for case in CASES}

    def update(params, states, grads):
        return {name: o.update(grads, states[name], params) for name, o in optimizers.items()}

    states = {name: optimizer.init(params) for name, optimizer in optimizers.items()}
    expected = jax.jit(update)(params, states, grads)
    shardings = rules.shardings(
        training.TrainState(params, {}, states, jnp.zeros((), jnp.int32), jax.random.key(0)), mesh
    )
    split = NamedSharding(mesh, PartitionSpec("data", None))
    for path, sharding in jax.tree.leaves_with_path(shardings.opt_state):
        assert (sharding == split) == (path[-1] == jax.tree_util.DictKey("kernel")), path
    placed = jax.device_put((params, states, grads), (shardings.params, shardings.opt_state, shardings.params))
    results = jax.jit(update)(*placed)
    for (path, leaf), single in zip(jax.tree.leaves_with_path(results), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, single, rtol=1e-12, atol=1e-15)
        if path[-1] == jax.tree_util.DictKey("kernel"):
            assert leaf.sharding.is_equivalent_to(split, 2), path


@pytest.mark.parametrize(
    ("case", "argument"),
    [(case, argument) for case in CASES for argument in case.bad],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_bad_hyperparameter_is_refused(case, argument):
    with pytest.raises(ValueError, match=rf"^{argument}: expected a .*number .*, got {case.bad[argument]}"):
        case.ours(0.1, **{argument: case.bad[argument]})


@every_case
def test_a_bad_rate_is_refused(case):
    for rate in (-0.1, float("nan"), float("inf"), "0.1", None, True, jnp.ones(2)):
        with pytest.raises(
            ValueError, match=r"^learning_rate: expected a schedule or a finite number of at least 0, got"
        ):
            case.ours(rate)
    optimizer = case.ours(lambda step: jnp.ones(2))
    with pytest.raises(ValueError, match=r"learning_rate: expected a schedule that gives a scalar, got shape \[2\]"):
        jax.eval_shape(optimizer.update, jnp.ones(2), optimizer.init(jnp.ones(2)), jnp.ones(2))


@every_case
def test_parameters_and_gradients_that_do_not_fit_are_refused(case):
    optimizer = case.ours(0.1)
    with pytest.raises(ValueError, match="params: expected real floating arrays, got int32 in 'a/0'"):
        optimizer.init({"a": [jnp.arange(3)]})
    with pytest.raises(ValueError, match="got complex64"):
        optimizer.init(jnp.ones(2, jnp.complex64))
    params = {"a": jnp.ones((2, 3))}
    with pytest.raises(ValueError, match=r"updates: expected shape \[2, 3\], got \[3\] in 'a'"):
        optimizer.update({"a": jnp.ones(3)}, optimizer.init(params), params)


@pytest.mark.parametrize("name", ["sgd with decay", "adamw", "lars", "lamb"])
def test_methods_that_need_the_parameters_say_so(name):
    (case,) = (case for case in CASES if case.name == name)
    optimizer, params = case.ours(0.1), jnp.ones(2)
    with pytest.raises(ValueError, match=r"params: expected the parameters, as update\(updates, state, params\), for"):
        optimizer.update(params, optimizer.init(params))


def test_a_mask_is_a_prefix_of_booleans():
    params = {"a": {"b": jnp.ones(2), "c": jnp.ones(2)}, "d": jnp.ones(2)}
    optimizer = optim.sgd(1.0, weight_decay=0.5, mask={"a": True, "d": False})
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    assert updates["a"]["c"].tolist() == [-0.5, -0.5]
    assert updates["d"].tolist() == [0, 0]
    optimizer = optim.sgd(1.0, weight_decay=0.5, mask={"a": 1, "d": 0})
    with pytest.raises(ValueError, match="mask: expected booleans, got 1"):
        optimizer.update(params, optimizer.init(params), params)


def test_a_second_moment_in_bfloat16_forgets():
    """0.999 v rounds back to v in bfloat16 (8 bits); ours is kept in float32 and shrinks, Optax's does not."""
    x = jnp.ones(1, jnp.bfloat16)
    for optimizer, shrinks in ((optim.adam(0.1), True), (optax.scale_by_adam(), False)):
        _, state = optimizer.update(x, optimizer.init(x), x)
        _, later = optimizer.update(jnp.zeros_like(x), state, x)
        first, last = jax.tree.leaves(state)[-1], jax.tree.leaves(later)[-1]
        assert bool(last[0] < first[0]) is shrinks


def test_rates_may_be_traced():
    """Under `vmap`, and as a hyperparameter in the state."""
    curve = jax.vmap(lambda rate: optim.trajectory(jax.grad(jnp.square), optim.adam(rate), jnp.array(1.0), 3))
    rates = jnp.array([0.1, 0.2])
    np.testing.assert_allclose(curve(rates)[:, 1], 1 - rates, rtol=1e-6)
    optimizer = optax.inject_hyperparams(optim.rmsprop)(learning_rate=0.1)
    state = optimizer.init(jnp.ones(2))
    state.hyperparams["learning_rate"] = jnp.asarray(0.0)
    updates, _ = jax.jit(optimizer.update)(jnp.ones(2), state, jnp.ones(2))
    assert not np.any(updates)


def test_integer_gradients_are_refused():
    """They would make every update round to zero."""
    for optimizer in (optim.sgd(0.1), optim.momentum(0.1), optim.adam(0.1), optim.adagrad(0.1)):
        state = optimizer.init(jnp.ones(2))
        with pytest.raises(ValueError, match="updates: expected real floating arrays, got int"):
            optimizer.update(np.array([1, 2]), state, jnp.ones(2))


def test_adam_goes_on_where_its_counter_stops():
    optimizer = optim.adam(0.1)
    state = optimizer.init(jnp.ones(()))._replace(step=jnp.int32(2**31 - 1))
    assert optimizer.update(jnp.ones(()), state)[0] < -0.01
