"""What the estimates of the pictures are worth, and that both pictures are drawn."""

import ch11_attention_pooling as example
import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "new" / "estimates.png"
    figures = example.main(example.Config(plot=path))
    assert path.stat().st_size > 50_000
    assert path.with_name("estimates_weights.png").stat().st_size > 20_000
    return figures


def test_the_average_of_everything_knows_no_more_than_the_mean(figures):
    """Its error is the spread of the function, 0.94, and that of a mean of 40 observations besides."""
    x = np.arange(0, 5, 0.1)
    spread = np.std(2 * np.sin(x) + x)
    assert spread < figures["constant"] < np.hypot(spread, 2 * np.hypot(spread, 1) / np.sqrt(40))


def test_which_kernel_and_which_width(figures):
    assert figures["Epanechikov"] < figures["boxcar"] < figures["Gaussian"] < figures["constant"]
    assert figures["Gaussian"] == pytest.approx(figures["width 1.0"], rel=1e-6)
    assert figures["width 0.5"] < figures["width 0.1"] < figures["width 1.0"]  # the narrow one follows the noise


def test_an_estimate_by_hand():
    """One query and two observations, at distances 0.5 and 1.5."""
    key, value = jnp.array([1.0, 3.0]), jnp.array([10.0, 20.0])
    pooled = example.pool(jnp.array([1.5]), key, value)
    near, far = np.exp(-(0.5**2) / 2), np.exp(-(1.5**2) / 2)
    np.testing.assert_allclose(pooled["Gaussian"][1], [[near / (near + far), far / (near + far)]], rtol=1e-5)
    expected = {"Gaussian": (10 * near + 20 * far) / (near + far), "boxcar": 10, "constant": 15, "Epanechikov": 10}
    assert {name: float(pooled[name][0][0]) for name in expected} == pytest.approx(expected, rel=1e-5)


def test_observations_are_in_order_and_new_for_every_key():
    first, second = (example.observe(jax.random.key(seed), 7) for seed in (0, 1))
    assert np.all(np.diff(first[0]) > 0)
    assert first[0].shape == first[1].shape == (7,)
    assert not np.isclose(first[1], second[1]).any()


def test_nothing_to_observe_is_refused():
    with pytest.raises(ValueError, match="num_observations: expected at least 1, got 0"):
        example.Config(num_observations=0)
