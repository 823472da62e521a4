"""Underfitting, overfitting and weight decay as 3.6 and 3.7 have them."""

import ch03_generalization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import nn
from jaxdl.data import polynomial_regression


@pytest.fixture(scope="module")
def decayed():
    return ch03_generalization.weight_decay(range(3))


def test_main_reports_and_draws(tmp_path, capsys):
    plot = tmp_path / "pictures" / "generalization.png"
    figures = ch03_generalization.main(ch03_generalization.Config(num_seeds=3, plot=plot))
    assert plot.is_file()
    low, right, high = (figures[f"degree_{degree}_valid"] for degree in (1, 3, 20))
    assert right == pytest.approx(0.1**2 / 2, rel=0.5)  # the noise
    assert low > 100 * right
    assert high > 100 * right
    # More degrees never fit the training examples worse; only the validation examples tell.
    assert figures["degree_20_train"] < figures["degree_3_train"] < figures["degree_1_train"] / 100
    assert figures["chosen_degree"] == 3
    assert "degrees that cross-validation chose: [3, 3, " in capsys.readouterr().out


def test_a_column_of_zeros_is_a_column_left_out():
    """What `errors_by_degree` does under vmap, one degree after the other on fewer columns."""
    x, y = polynomial_regression(60, seed=1)["x"][:, 1:6], polynomial_regression(60, seed=1)["y"]
    x = np.pad(x, ((0, 0), (0, 15)))  # degrees above 5 are too ill-conditioned to compare in float32
    train, valid = {"x": x[:40], "y": y[:40]}, {"x": x[40:], "y": y[40:]}
    errors = np.array(ch03_generalization.errors_by_degree(train, valid))
    for degree in range(1, 6):
        params = nn.least_squares(jnp.asarray(x[:40, :degree]), jnp.asarray(y[:40]))
        for error, part in zip(errors[:, degree - 1], (train, valid), strict=True):
            want = ch03_generalization.loss(params, {"x": part["x"][:, :degree], "y": part["y"]})
            assert error == pytest.approx(float(want), rel=1e-2)


def test_learning_curves_end_at_the_least_squares_of_their_degree():
    fits = ch03_generalization.polynomials(0)
    for i, degree in enumerate((1, 3)):
        for part in ("train", "valid"):
            assert fits[f"{part}_curves"][i, -1] == pytest.approx(fits[part][degree - 1], rel=1e-2)
    assert fits["valid_curves"][2, -1] > 10 * fits["valid_curves"][1, -1]


def test_decay_lowers_the_validation_loss_and_the_weights(decayed):
    """D2L 3.7, on each of three seeds."""
    for part in ("valid", "norm"):
        assert (decayed["decay"][part][:, -1] < 0.85 * decayed["none"][part][:, -1]).all()
    assert (decayed["decay"]["train"][:, -1] > decayed["none"]["train"][:, -1]).all()
    assert decayed["none"]["train"].shape == (3, 40)  # ten epochs of four batches


def test_the_l1_penalty_leaves_more_weights_near_zero(decayed):
    small = {name: curves["small"][:, -1] for name, curves in decayed.items()}
    assert (small["l1"] > small["decay"] + 0.2).all()
    assert (decayed["l1"]["valid"][:, -1] < decayed["none"]["valid"][:, -1]).all()


def test_for_plain_sgd_the_penalty_in_the_loss_and_the_decay_of_the_weights_are_one(x64):
    batches, train, valid, params = ch03_generalization.high_dimensional_problem(0)
    assert params[0].dtype == jnp.float64
    ends = {
        name: jax.jit(ch03_generalization.REGULARISERS[name])(batches, train, valid, params)[0]
        for name in ("decay", "l2")
    }
    weights, bias = map(np.asarray, params)
    for x, y in zip(np.asarray(batches["x"], np.float64), np.asarray(batches["y"], np.float64), strict=True):
        residuals = x @ weights + bias - y
        weights = (1 - 0.01 * 3) * weights - 0.01 * x.T @ residuals / 5  # the book's update
        bias = bias - 0.01 * residuals.mean(0)  # no decay
    for end in ends.values():
        np.testing.assert_allclose(end[0], weights, atol=1e-12)
        np.testing.assert_allclose(end[1], bias, atol=1e-12)


def test_for_adam_they_are_not_one(x64):
    problem = ch03_generalization.high_dimensional_problem(0)
    decay = optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(3.0, nn.weight_mask), optax.scale(-0.01))
    decoupled, _ = ch03_generalization.train_linear(*problem, optimizer=decay)
    coupled, _ = ch03_generalization.train_linear(
        *problem, optimizer=optax.adam(0.01), penalty=lambda params: 3 * nn.l2_penalty(params)
    )
    assert abs(decoupled[0] - coupled[0]).max() > 1e-3


@pytest.mark.parametrize(
    ("fields", "message"), [({"num_seeds": 0}, "num_seeds: .* at least 1"), ({"seed": -1}, "seed")]
)
def test_a_config_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        ch03_generalization.Config(**fields)
