"""Batch normalisation against PyTorch's numbers, the formula, one large batch, and its own conventions."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.nn.batch_norm import BatchNorm, batch_norm

# x is [batch 2, width 2, features 2]; the loss is (y * arange(1, 9)).sum(). Computed by torch.nn.BatchNorm1d (momentum
# 0.1, epsilon 1e-5) in float64.
X = np.array([[[1.0, -2.0], [3.0, 0.5]], [[-1.0, 4.0], [0.0, 1.5]]])
PARAMS = {"scale": np.array([1.5, -0.5]), "bias": np.array([0.25, 2.0])}
STATS = {"mean": np.array([0.5, -1.0]), "var": np.array([2.0, 3.0])}
TORCH = {
    True: {
        "y": [
            [[0.503545696886196, 2.697485078425401], [2.531911271975762, 2.1162475130709]],
            [[-1.524819878203371, 1.302514921574599], [-0.510637090658588, 1.8837524869291]],
        ],
        "dx": [
            [[-2.839712732373988, 0.16965967383408], [0.811337884798467, 0.14452412537658]],
            [[-0.405666624277745, 0.29533037844952], [2.434041471853266, -0.609514177660181]],
        ],
        "scale": [-4.732853008542322, 6.509860731970407],
        "bias": [16.0, 20.0],
        "mean": [0.525, -0.8],
        "var": [2.091666666666667, 3.316666666666667],
    },
    False: {
        "y": [
            [[0.780328760069668, 2.288674653470792], [2.901643800348338, 1.566988019793813]],
            [[-1.340986280209003, 0.556626732646043], [-0.280328760069668, 1.278313366323022]],
        ],
        "dx": [
            [[1.060657520139336, -0.577349306941583], [3.181972560418006, -1.154698613883166]],
            [[5.303287600696677, -1.732047920824748], [7.424602640975348, -2.309397227766331]],
        ],
        "scale": [-2.121315040278671, 31.176862574845465],
        "bias": [16.0, 20.0],
        "mean": [0.5, -1.0],
        "var": [2.0, 3.0],
    },
}


def as_arrays(tree):
    return jax.tree.map(jnp.asarray, tree)


@pytest.mark.parametrize("train", [True, False], ids=["training", "evaluation"])
def test_values_gradients_and_statistics_are_torchs(x64, train):
    def loss(x, params):
        y, state = BatchNorm().apply(
            {"params": params, "batch_stats": as_arrays(STATS)}, x, train=train, mutable=["batch_stats"]
        )
        return (y * jnp.arange(1.0, 9).reshape(y.shape)).sum(), (y, state["batch_stats"])

    (dx, dparams), (y, stats) = jax.grad(loss, argnums=(0, 1), has_aux=True)(jnp.asarray(X), as_arrays(PARAMS))
    want = {name: np.asarray(value) for name, value in TORCH[train].items()}
    if train:  # torch keeps the variance that divides by n - 1; there are 4 values a feature
        want["var"] = 0.9 * STATS["var"] + (want["var"] - 0.9 * STATS["var"]) * 3 / 4
    for name, got in {"y": y, "dx": dx, **dparams, **stats}.items():
        np.testing.assert_allclose(got, want[name], rtol=1e-12, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("shape", [(6, 3), (2, 4, 5, 3)], ids=["dense", "images"])
def test_it_takes_the_place_of_flaxs(shape, train):
    """The same parameters and statistics by the same names, and the same outputs to float32's rounding."""
    x = jax.random.normal(jax.random.key(0), shape) + 1
    ours, theirs = BatchNorm(momentum=0.8), flax.linen.BatchNorm(use_running_average=not train, momentum=0.8)
    variables = theirs.init(jax.random.key(1), x)
    assert jax.tree.structure(ours.init(jax.random.key(1), x)) == jax.tree.structure(variables)
    got, got_state = ours.apply(variables, x, train=train, mutable=["batch_stats"])
    want, want_state = theirs.apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(got, want, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got_state, want_state)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), got_state["batch_stats"], variables["batch_stats"])
    assert moved == {"mean": train, "var": train}


def test_initialisation_does_not_move_the_statistics():
    variables = BatchNorm(axis_name="data").init(jax.random.key(0), jnp.full((4, 2), 7.0), train=True)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], [0, 0])
    np.testing.assert_array_equal(variables["batch_stats"]["var"], [1, 1])


@pytest.mark.parametrize("mapped", [jax.pmap, jax.vmap], ids=["pmap", "vmap"])
def test_synchronised_over_devices_it_is_that_of_the_whole_batch(x64, mapped):
    keys = jax.random.split(jax.random.key(0), 2)
    x, weight = (jax.random.normal(key, (16, 3, 2)) * 2 + 1 for key in keys)
    x = x * jnp.arange(1.0, 17)[:, None, None]  # devices differ
    params, stats = as_arrays(PARAMS), as_arrays(STATS)

    def gradients(layer, x, weight, reduce=lambda x: x):
        def loss(x, params):
            y, state = layer.apply({"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"])
            return (jnp.sin(y) * weight).sum(), (y, state["batch_stats"])

        (dx, dparams), (y, new_stats) = jax.grad(loss, argnums=(0, 1), has_aux=True)(x, params)
        return (dx, y), (reduce(dparams), new_stats)

    want_examples, want_shared = gradients(BatchNorm(), x, weight)
    per_device = [a.reshape(8, 2, 3, 2) for a in (x, weight)]

    def on_devices(axis_name):
        layer = BatchNorm(axis_name=axis_name)
        return mapped(
            lambda x, weight: gradients(layer, x, weight, lambda g: jax.lax.psum(g, "data")), axis_name="data"
        )

    examples, shared = on_devices("data")(*per_device)
    for got, want in zip(examples, want_examples, strict=True):
        np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-12, atol=1e-12)
    for got, want in zip(jax.tree.leaves(shared), jax.tree.leaves(want_shared), strict=True):
        np.testing.assert_allclose(got, np.broadcast_to(want, got.shape), rtol=1e-12, atol=1e-12)
    alone, _ = on_devices(None)(*per_device)
    assert np.abs(alone[1].reshape(x.shape) - want_examples[1]).max() > 0.1


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("by", ["input", "argument"])
def test_half_precision_keeps_statistics_in_float32(dtype, by):
    """300 values of 1000 add up to more than float16 holds, and 1000 + 1/8 is no number of either type."""
    x = jnp.full((300, 2), 1000.0).at[::2].set(1008.0)
    layer = BatchNorm(momentum=0.0, dtype=dtype if by == "argument" else None)
    (y, state), variables = (
        layer.apply(layer.init(jax.random.key(0), x), x.astype(dtype), train=True, mutable=["batch_stats"]),
        layer.init(jax.random.key(0), x.astype(dtype)),
    )
    assert y.dtype == (dtype if by == "argument" else jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves((state, variables))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(state["batch_stats"]["mean"], 1004, rtol=1e-6)
    np.testing.assert_allclose(state["batch_stats"]["var"], 16, rtol=1e-6)
    np.testing.assert_allclose(y[:2].astype(jnp.float32), [[1, 1], [-1, -1]], rtol=1e-2)


@pytest.mark.parametrize("fed", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("made", [jnp.float64, jnp.float32])
def test_statistics_keep_the_type_they_were_made_with_so_a_scan_can_carry_them(x64, made, fed):
    layer, x = BatchNorm(), jnp.asarray(X)
    variables = layer.init(jax.random.key(0), x.astype(made))
    assert {leaf.dtype for leaf in variables["batch_stats"].values()} == {jnp.dtype(made)}

    def body(stats, _):
        variables_now = {**variables, "batch_stats": stats}
        y, state = layer.apply(variables_now, x.astype(fed), train=True, mutable=["batch_stats"])
        return state["batch_stats"], y

    stats, _ = jax.lax.scan(body, variables["batch_stats"], length=50)
    np.testing.assert_allclose(stats["mean"], X.reshape(4, 2).mean(0) * (1 - 0.9**50), rtol=1e-6)


def test_a_variance_small_beside_the_mean_is_not_lost():
    x = 1000 + jax.random.normal(jax.random.key(0), (4096, 1)) * 0.1
    exact = np.asarray(x, np.float64)
    layer = BatchNorm(epsilon=1e-9, momentum=0.0)
    y, state = layer.apply(layer.init(jax.random.key(0), x), x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(state["batch_stats"]["var"], exact.var(0), rtol=1e-4)
    assert abs(float(y.std()) - 1) < 1e-3


def test_one_value_a_feature_gives_the_bias_and_no_gradient():
    layer, x = BatchNorm(), jnp.array([[3.0, -5.0]])
    variables = {"params": as_arrays(PARAMS), "batch_stats": as_arrays(STATS)}
    y, dx = jax.value_and_grad(
        lambda x: (layer.apply(variables, x, train=True, mutable=["batch_stats"])[0] ** 2).sum()
    )(x)
    assert float(y) == pytest.approx(0.25**2 + 2.0**2)
    np.testing.assert_array_equal(dx, [[0, 0]])


def test_without_scale_or_bias():
    x = jnp.asarray(X, jnp.float32)
    plain = BatchNorm(use_scale=False, use_bias=False)
    variables = plain.init(jax.random.key(0), x)
    assert set(variables) == {"batch_stats"}
    y, _ = plain.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y.reshape(4, 2).mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(y.reshape(4, 2).std(0), 1, rtol=1e-4)
    shifted = BatchNorm(use_scale=False, bias_init=flax.linen.initializers.constant(3.0))
    scaled = BatchNorm(use_bias=False, scale_init=flax.linen.initializers.constant(3.0))
    for layer, want in ((shifted, y + 3), (scaled, y * 3)):
        got, _ = layer.apply(layer.init(jax.random.key(0), x), x, train=True, mutable=["batch_stats"])
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_the_pure_function_is_the_formula(x64):
    rng = np.random.default_rng(0)
    x, scale, bias, mean = rng.normal(size=(5, 4, 3)), *rng.normal(size=(3, 3))
    var = rng.random(3)
    args = as_arrays((scale, bias, mean, var))
    want = (x - mean) / np.sqrt(var + 0.01) * scale + bias
    np.testing.assert_allclose(batch_norm(jnp.asarray(x), *args, 0.01), want, rtol=1e-12, atol=1e-13)
    want = (x - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(batch_norm(jnp.asarray(x), None, None, *args[2:]), want, rtol=1e-12, atol=1e-13)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"momentum: expected a number in \[0, 1\], got 1.1"):
        BatchNorm(momentum=1.1)
    with pytest.raises(ValueError, match="epsilon: expected a number of at least 0, got -1"):
        BatchNorm(epsilon=-1)
    for x in (jnp.ones(3), jnp.ones((2, 3), jnp.int32)):
        with pytest.raises(ValueError, match=r"x: expected floating \[batch, ..., features\], got (float|int)32\["):
            BatchNorm().init(jax.random.key(0), x)
    variables = BatchNorm().init(jax.random.key(0), jnp.ones((0, 3)))
    assert BatchNorm().apply(variables, jnp.ones((0, 3))).shape == (0, 3)
    with pytest.raises(ValueError, match=r"x: an empty batch \[0, 3\] has no statistics"):
        BatchNorm().apply(variables, jnp.ones((0, 3)), train=True, mutable=["batch_stats"])
    vectors = {name: jnp.ones(3) for name in ("scale", "bias", "mean", "var")}
    for name in vectors:
        with pytest.raises(ValueError, match=rf"{name}: expected shape \[3\], got \[1\]"):
            batch_norm(jnp.ones((2, 3)), **{**vectors, name: jnp.ones(1)})
