"""Builder's guide: the numbers of D2L 6.1 to 6.5, and what the modules refuse."""

import ch06_builders_guide as guide
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from flax.errors import ModifyScopeVariableError
from scipy import stats

from jaxdl import nn

EPS = np.finfo(np.float32).eps


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    plot = tmp_path_factory.mktemp("guide") / "deeper" / "weights.png"
    figures = guide.main(guide.Config(plot=plot))
    assert plot.stat().st_size > 10_000
    return figures


def test_modules(figures):
    assert figures["sequential_gap"] == 0
    assert figures["fixed_hidden_parameters"] == 20 * 20 + 20  # shared, so not twice; the fixed 400 not at all
    assert figures["halved_l1_norm"] == 7 / 8
    assert figures["halved_slope"] == 1 / 8
    assert np.isfinite(figures["chimera_output"])


def test_parameters(figures):
    assert figures["parameters"] == 4 * 8 + 8 + 8 + 1
    assert abs(figures["norm_gap"]) < 10 * EPS
    assert figures["loss_decrease"] > 0
    assert figures["tied_parameters"] == 40 + 72 + 9
    assert figures["tied_gradient_gap"] < 10 * EPS


def test_initialisers(figures):
    variances = {
        "normal(0.01)": 0.01**2,
        "lecun_normal (default)": 1 / 256,
        "xavier_uniform": 2 / 512,
        "two_sided_uniform (ours)": (10**3 - 5**3) / 30,  # half of the mean square on [5, 10]
    }
    for name, variance in variances.items():
        # five standard errors: of 65,536 weights, and of 65,536 outputs in 256 independent groups
        assert figures[f"output_std of {name}"] == pytest.approx(np.sqrt(256 * variance), rel=5 / 256)
    assert 0.5 * np.sqrt(6 / 12) < figures["xavier_bound"] <= np.sqrt(6 / 12) * (1 + EPS)
    assert figures["second_layer"] == 42
    assert figures["zero_share"] == pytest.approx(0.5, abs=5 * 0.5 / 256)
    assert figures["unit_spread"] == 0
    assert figures["edited"] == 42


def test_lazy_shapes_and_custom_layers(figures):
    assert (figures["first_kernel_rows"], figures["first_kernel_columns"]) == (20, 256)
    assert figures["huge_parameters"] == 20 * 10**6 + 10**6 + 10**12 + 10**6
    assert figures["centred_first"] == -2
    assert figures["custom_dense_gap"] < 10 * EPS
    assert figures["custom_parameters"] == 64 * 8 + 8 + 8 + 1
    assert (figures["calls_before"], figures["calls"]) == (0, 1)


@pytest.mark.parametrize("seed", range(3))
def test_the_law_of_the_books_initialiser(seed):
    weights = np.asarray(guide.two_sided_uniform(jax.random.key(seed), (200, 200)))
    error = np.sqrt(1 / 4 * 3 / 4 / weights.size)
    for low, high in ((5, 10), (-10, -5)):
        part = weights[(low <= weights) & (weights <= high)]
        assert part.size / weights.size == pytest.approx(1 / 4, abs=5 * error)
        assert stats.kstest(part, stats.uniform(low, 5).cdf).pvalue > 1e-3
    assert np.mean(weights == 0) == pytest.approx(1 / 2, abs=5 * 2 * error)
    assert set(np.unique(weights[abs(weights) < 5])) == {0}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_books_initialiser_is_one_that_linen_takes(dtype):
    dense = linen.Dense(3, kernel_init=guide.two_sided_uniform, param_dtype=dtype)
    kernel = dense.init(jax.random.key(0), jnp.ones((1, 4)))["params"]["kernel"]
    assert (kernel.shape, kernel.dtype) == ((4, 3), dtype)


def test_halving_stops_at_the_first_small_enough_power_of_two():
    x = jnp.array([0.3, -0.7])
    assert (guide.halve_until_small(x) == x).all()  # sums to exactly 1
    assert (guide.halve_until_small(x * 1.001) == x * 1.001 / 2).all()
    assert guide.halve_until_small(jnp.zeros(0)).shape == (0,)
    for bad in (jnp.nan, jnp.inf):  # it ends
        assert jnp.isnan(guide.halve_until_small(jnp.array([bad]))).all()


def test_a_loop_that_carries_its_input_has_no_reverse_mode():
    def halve(x):
        return jax.lax.while_loop(lambda x: jnp.abs(x).sum() > 1, lambda x: x / 2, x).sum()

    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
        jax.grad(halve)(jnp.array([3.0, 4.0]))


def test_the_fixed_weights_get_no_gradient_and_differ_by_key():
    model, x = guide.FixedHiddenMLP(), jnp.ones((2, 20))
    variables, other = (model.init(jax.random.key(seed), x) for seed in (0, 1))
    assert (variables["constants"]["kernel"] != other["constants"]["kernel"]).any()
    grads = jax.grad(lambda params: model.apply(variables | {"params": params}, x))(variables["params"])
    assert nn.parameter_count({"params": grads}) == 420
    assert any(jnp.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def test_the_tied_gradient_is_a_sum_in_float64(x64):
    params, tied, untied = guide.tied_gradients(jax.random.key(1), jnp.ones((2, 4)) * 0.5)
    assert sorted(params) == ["layers_0", "layers_2", "layers_6"]
    for name in ("kernel", "bias"):
        first, second = untied["layers_2"][name], untied["layers_4"][name]
        np.testing.assert_allclose(tied["layers_2"][name], first + second, rtol=1e-12, atol=1e-14)
        assert abs(first).max() > 0
        assert abs(second).max() > 0


def test_a_collection_that_is_not_mutable_refuses_to_change():
    model = guide.CallCounter()
    variables = model.init(jax.random.key(0), jnp.ones(2))
    with pytest.raises(ModifyScopeVariableError):
        model.apply(variables, jnp.ones(2))
