"""Signals and gradients in deep networks against the theory of wide layers, and starts from which nothing is learnt."""

import ch05_initialization as example
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

CONFIG = example.Config(width=64, depth=10, num_seeds=20, num_matrices=60, steps=200)


@pytest.fixture(scope="module")
def moments():
    with jax.enable_x64(True):
        return example.measure(CONFIG)


@pytest.mark.parametrize("initializer", example.INITIALIZERS)
@pytest.mark.parametrize("activation", example.ACTIVATIONS)
def test_a_layer_multiplies_signals_and_gradients_as_the_theory_says(moments, activation, initializer):
    """The factor's relative variance in one layer of n units is 2 / n without an activation, 5 / n with ReLU.

    Over all layers and networks that leaves a standard error of 2 % here, of which 4 are allowed. The theory is exact
    in the mean for linear and ReLU layers; tanh and sigmoid differ from infinitely wide ones in the order of 1 / n.
    """
    measured = example.layer_factors(moments[activation, initializer])
    assert measured.shape == (20, 2)
    expected = example.layer_factors(example.theory(activation, initializer, CONFIG))
    n, count = CONFIG.width, CONFIG.num_seeds * (CONFIG.depth - 1)
    tolerance = 4 * np.sqrt({"linear": 2, "ReLU": 5}.get(activation, 3) / n / count)
    tolerance += 0 if activation in ("linear", "ReLU") else 4 / n
    np.testing.assert_allclose(measured.mean(0), expected, rtol=tolerance)


def test_the_theory_of_the_book_and_of_he():
    """A weight variance of 1/n keeps linear layers, 2/n ReLU layers; 1/n halves those, 2/n doubles linear ones."""
    for activation, initializer, factor in (
        ("linear", "Xavier", 1.0),
        ("ReLU", "Xavier", 0.5),
        ("linear", "Kaiming", 2.0),
        ("ReLU", "Kaiming", 1.0),
        ("linear", "Gaussian (0.01)", 64e-4),
    ):
        signal, gradient = example.theory(activation, initializer, CONFIG)
        np.testing.assert_allclose(signal[1:] / signal[:-1], factor, rtol=1e-5)
        np.testing.assert_allclose(gradient[:-1] / gradient[1:], factor, rtol=1e-5)


def test_the_theory_of_tanh_is_the_integral(x64):
    """To the error of 100 quadrature points."""

    def expectation(f):
        return integrate.quad(lambda z: f(z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi), -10, 10)[0]

    signal, gradient = example.theory("tanh", "Kaiming", example.Config(width=8, depth=2))
    q = signal[0]
    assert q == pytest.approx(2)
    assert signal[1] == pytest.approx(2 * expectation(lambda z: np.tanh(np.sqrt(q) * z) ** 2), rel=1e-5)
    assert gradient[0] == pytest.approx(2 * expectation(lambda z: np.cosh(np.sqrt(q) * z) ** -4), rel=1e-5)


def test_what_is_measured_in_a_linear_network_are_products_of_its_weights(x64):
    weights = np.random.default_rng(0).normal(size=(3, 5, 5))
    key = jax.random.key(1)
    x, g = np.asarray(jax.random.rademacher(key, (2, 5), jnp.float64))
    u1, g2 = x @ weights[0], weights[2] @ g
    signal, gradient = example.propagate(jnp.asarray(weights), key, example.ACTIVATIONS["linear"])
    expected = [u1, u1 @ weights[1], u1 @ weights[1] @ weights[2]]
    np.testing.assert_allclose(signal, [(u**2).mean() for u in expected], rtol=1e-12)
    np.testing.assert_allclose(gradient, [((weights[1] @ g2) ** 2).mean(), (g2**2).mean(), 1], rtol=1e-12)


def test_products_of_gaussian_matrices_explode(x64):
    """exp((ln 2 + digamma(2)) / 2), with digamma(2) = 1 - Euler's constant.

    The logarithm of a factor has variance trigamma(2) / 4 = 0.161; ends that are not yet stationary shift the sum by
    about 1.
    """
    expected = np.exp((np.log(2) + 1 - np.euler_gamma) / 2)
    assert example.growth_of_products() == pytest.approx(expected)
    config, figures = example.Config(num_seeds=200, num_matrices=100), {}
    assert example.products_of_matrices(config, figures).shape == (200, 100)
    tolerance = 5 * np.sqrt(0.161 / (200 * 99)) + 1 / 99
    assert np.log(figures["products/growth"]) == pytest.approx(np.log(expected), abs=tolerance)
    assert 22 < np.log10(figures["products/norm"]) < 27  # 1.747^100 = 1e24


@pytest.mark.parametrize("name", ["tanh", "ReLU"])
def test_zero_weights_never_move(name):
    """A fixed point but for the output's bias: the hidden units are 0, and so is what comes back to them."""
    params, losses = example.descend(jax.nn.initializers.zeros, example.ACTIVATIONS[name], CONFIG)
    for layer in ("Dense_0", "Dense_1"):
        assert not np.any(params[layer]["kernel"])
    assert not np.any(params["Dense_0"]["bias"])
    bias = np.asarray(params["Dense_1"]["bias"])
    assert abs(bias[-1] - bias[0]) > 0.5  # the mean of x_1^2 - x_2 is 1
    assert losses[-1] > 2  # the variance is 3


@pytest.mark.parametrize(("value", "name"), [(0.5, "tanh"), (0.5, "ReLU"), (0.0, "sigmoid")])
def test_equal_units_move_together(x64, value, name):
    params, _ = example.descend(jax.nn.initializers.constant(value), example.ACTIVATIONS[name], CONFIG)
    kernel = np.asarray(params["Dense_0"]["kernel"])  # [steps, 2, 4]
    assert abs(kernel[-1] - kernel[0]).max() > 0.05
    np.testing.assert_allclose(kernel, np.broadcast_to(kernel[..., :1], kernel.shape), atol=1e-12)


def test_the_script_reports_and_draws(tmp_path, capsys):
    config = example.Config(width=16, depth=4, num_seeds=2, num_matrices=5, steps=150, plot=tmp_path / "new" / "i.png")
    figures = example.main(config)
    assert config.plot.stat().st_size > 20_000
    assert figures["all 0.5/difference"] < 1e-9 < 0.5 < figures["Xavier/difference"]
    assert figures["Xavier/loss"] < 1 < 1.5 < figures["all 0.5/loss"] < figures["all 0/loss"]
    assert figures["xavier/std"] == pytest.approx(0.0438529, rel=5 / np.sqrt(2 * 784 * 256))
    assert 0.9999 * 0.0759555 < figures["xavier/bound"] <= 0.0759556
    printed = capsys.readouterr().out
    assert f"{figures['ReLU/Kaiming/signal']:.4f}" in printed
    assert jnp.zeros(()).dtype == jnp.float32  # float64 stays inside


@pytest.mark.parametrize(("name", "least"), [("width", 1), ("depth", 2), ("num_seeds", 1), ("steps", 1)])
def test_what_cannot_be_measured_is_refused(name, least):
    with pytest.raises(ValueError, match=f"{name}: expected at least {least}, got {least - 1}"):
        example.Config(**{name: least - 1})
