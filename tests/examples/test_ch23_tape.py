"""The tape's derivatives against differences, by hand and JAX's; it trains, and not on shuffled labels."""

import ch23_tape
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ch23_tape import Tensor


def test_every_operation_against_jax(x64):
    rng = np.random.default_rng(0)
    values = [rng.uniform(0.5, 2, shape) for shape in ((3, 4), (4,), (3, 1), (4, 2), ())]

    def tape(a, b, c, w, s):
        return (((a * b + c) @ w - s).relu().sum(axis=1) + (a * c).log().sum(axis=0).exp().sum(axis=1)).sum()

    def same(a, b, c, w, s):
        first = jnp.maximum((a * b[None] + c) @ w - s, 0).sum(1, keepdims=True)
        return (first + jnp.exp(jnp.log(a * c).sum(0, keepdims=True)).sum(1, keepdims=True)).sum()

    tensors = [Tensor(value) for value in values]
    output = tape(*tensors)
    output.backward()
    assert float(output.value) == pytest.approx(float(same(*values)), rel=1e-12)
    for tensor, expected in zip(tensors, jax.grad(same, range(5))(*values), strict=True):
        assert tensor.adjoint.shape == tensor.value.shape
        np.testing.assert_allclose(tensor.adjoint, expected, rtol=1e-12)


def test_uses_add_up_and_a_second_call_starts_anew():
    x = Tensor(np.array(3.0))
    y = x * x + x
    y.backward()
    y.backward()
    assert x.adjoint == 7


def test_a_long_chain_needs_no_recursion():
    x = y = Tensor(np.array(1.0))
    for _ in range(5000):
        y = y + x
    y.backward()
    assert x.adjoint == 5001


def test_gradients_by_hand_are_those_of_softmax_regression_in_the_second_layer(x64):
    """CHECKLIST 23.3: with Z the hidden layer, the gradient is Z^T (S - I_y) / m."""
    rng = np.random.default_rng(0)
    x, w1, w2 = rng.normal(size=(6, 5)), rng.normal(size=(5, 4)), rng.normal(size=(4, 3))
    one_hot = np.eye(3)[rng.integers(3, size=6)]
    hidden = np.maximum(x @ w1, 0)
    softmax = np.asarray(jax.nn.softmax(hidden @ w2))
    by_hand = ch23_tape.gradients_by_hand(x, one_hot, w1, w2)
    np.testing.assert_allclose(by_hand[1], hidden.T @ (softmax - one_hot) / 6, rtol=1e-12)
    tensors = Tensor(w1), Tensor(w2)
    ch23_tape.cross_entropy(ch23_tape.network(x, *tensors), one_hot).backward()
    for tensor, expected in zip(tensors, by_hand, strict=True):
        np.testing.assert_allclose(tensor.adjoint, expected, rtol=1e-12, atol=1e-15)


def test_it_learns_the_digits(tmp_path):
    config = ch23_tape.Config(epochs=8, plot=tmp_path / "curve.png")
    row = ch23_tape.main(config)
    assert row["eval_accuracy"] > 0.93
    assert row["gradient_difference"] < 1e-12
    assert config.plot.stat().st_size > 10_000


def test_shuffled_labels_teach_nothing(tmp_path, monkeypatch):
    def shuffled(split):
        x, labels = original(split)
        return x, np.random.default_rng(0).permutation(labels) if split == "train" else labels

    original = ch23_tape.digits
    monkeypatch.setattr(ch23_tape, "digits", shuffled)
    assert ch23_tape.main(ch23_tape.Config(epochs=8, plot=tmp_path / "curve.png"))["eval_accuracy"] < 0.3


def test_errors():
    with pytest.raises(ValueError, match="epochs: expected at least 1, got 0"):
        ch23_tape.Config(epochs=0)
