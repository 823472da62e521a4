"""Losses and scores against hand-computed values, float64 NumPy and SciPy, and PyTorch's conventions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.special import expit, log_softmax

from jaxdl.nn import absolute_error, accuracy, binary_cross_entropy, cross_entropy, huber_loss, squared_error

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(4, 3, 5)) * 3
LABELS = RNG.integers(0, 5, (4, 3))


def test_the_books_example():
    probabilities = jnp.array([[0.1, 0.3, 0.6], [0.3, 0.2, 0.5]])
    loss = cross_entropy(jnp.log(probabilities), jnp.array([0, 2]))
    assert float(loss.mean()) == pytest.approx(1.497866, abs=5e-7)  # D2L 4.4
    np.testing.assert_array_equal(accuracy(probabilities, jnp.array([0, 2])), [0, 1])


def test_large_logits_keep_their_digits():
    """Labels as integers and as probabilities; log(1 + 1/e) is the loss of logits one apart, wherever they are."""
    for label in (jnp.array(0), jnp.array([1.0, 0.0])):
        assert float(cross_entropy(jnp.array([1e6, 1e6 - 1]), label)) == pytest.approx(np.log1p(np.exp(-1)), rel=1e-6)


def test_against_scipy_in_float64(x64):
    want = -np.take_along_axis(log_softmax(LOGITS, -1), LABELS[..., None], -1)[..., 0]
    np.testing.assert_allclose(cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS)), want, rtol=1e-13)
    soft = RNG.dirichlet(np.ones(5), (4, 3))
    want = -(soft * log_softmax(LOGITS, -1)).sum(-1)
    np.testing.assert_allclose(cross_entropy(jnp.asarray(LOGITS), jnp.asarray(soft)), want, rtol=1e-13)


@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_label_smoothing_is_a_mixture_with_the_uniform_label(x64, smoothing):
    mixed = (1 - smoothing) * np.eye(5)[LABELS] + smoothing / 5
    want = -(mixed * log_softmax(LOGITS, -1)).sum(-1)
    for labels in (jnp.asarray(LABELS), jnp.asarray(np.eye(5)[LABELS])):
        loss = cross_entropy(jnp.asarray(LOGITS), labels, label_smoothing=smoothing)
        np.testing.assert_allclose(loss, want, rtol=1e-13)


def test_the_gradient_is_softmax_minus_label(x64):
    gradient = jax.grad(lambda z: cross_entropy(z, jnp.asarray(LABELS)).sum())(jnp.asarray(LOGITS))
    np.testing.assert_allclose(gradient, np.exp(log_softmax(LOGITS, -1)) - np.eye(5)[LABELS], atol=1e-14)


def test_large_logits_do_not_overflow_and_half_precision_is_summed_in_float32():
    loss = cross_entropy(jnp.array([[1e4, 0.0], [0.0, 1e4]]), jnp.array([0, 0]))
    np.testing.assert_array_equal(loss, [0, 1e4])
    loss = cross_entropy(jnp.array([[3.0, 1.0]], jnp.float16), jnp.array([1]))
    assert loss.dtype == jnp.float32
    assert float(loss[0]) == pytest.approx(2.126928, abs=1e-5)


def test_a_label_that_is_no_class_is_nan_not_another_class():
    loss = cross_entropy(jnp.zeros((3, 4)), jnp.array([-1, 4, 0]))
    np.testing.assert_array_equal(jnp.isnan(loss), [True, True, False])


def test_labels_of_8_bits_beside_more_classes_than_they_count():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 300)))
    labels = np.array([5, -1, 127], np.int8)
    expected = cross_entropy(logits, jnp.asarray(labels, jnp.int32))
    np.testing.assert_array_equal(cross_entropy(logits, jnp.asarray(labels)), expected)
    assert jnp.isnan(expected).tolist() == [False, True, False]


def test_accuracy_takes_the_first_of_equal_scores_and_works_on_no_examples():
    np.testing.assert_array_equal(accuracy(jnp.zeros((2, 3)), jnp.array([0, 1])), [1, 0])
    assert accuracy(jnp.zeros((0, 3)), jnp.zeros(0, jnp.int32)).shape == (0,)
    assert cross_entropy(jnp.zeros((0, 3)), jnp.zeros(0, jnp.int32)).shape == (0,)


@pytest.mark.parametrize(
    ("function", "logits", "labels", "message"),
    [
        (cross_entropy, jnp.zeros((2, 3), jnp.int32), jnp.zeros(2, jnp.int32), "logits: expected floating"),
        (cross_entropy, jnp.zeros(()), jnp.zeros((), jnp.int32), "logits: expected floating"),
        (cross_entropy, jnp.zeros((2, 3)), jnp.zeros((2, 1), jnp.int32), r"labels: expected integers of shape \[2\]"),
        (cross_entropy, jnp.zeros((2, 3)), jnp.zeros(2), r"labels: expected probabilities of shape \[2, 3\]"),
        (cross_entropy, jnp.zeros((2, 3)), jnp.zeros(2, bool), "labels: expected integers or floating"),
        (accuracy, jnp.zeros((2, 3)), jnp.zeros(3, jnp.int32), "labels: expected the shape of logits"),
        (accuracy, jnp.zeros((2, 3)), jnp.zeros(2), "labels: expected integers, got float32"),
    ],
)
def test_wrong_shapes_and_dtypes_are_named(function, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        function(logits, labels)


def test_label_smoothing_is_a_share():
    with pytest.raises(ValueError, match=r"label_smoothing: expected a number in \[0, 1\], got 1.5"):
        cross_entropy(jnp.zeros((1, 2)), jnp.zeros(1, jnp.int32), label_smoothing=1.5)


def test_huber_is_its_formula(x64):
    residuals, delta = np.linspace(-4, 4, 33), 1.5
    want = np.where(abs(residuals) <= delta, residuals**2 / 2, delta * (abs(residuals) - delta / 2))
    targets = RNG.normal(size=33)
    np.testing.assert_allclose(huber_loss(jnp.asarray(targets + residuals), jnp.asarray(targets), delta=delta), want)
    assert huber_loss(jnp.ones(2, jnp.bfloat16), jnp.zeros(2)).dtype == jnp.float32
    slope = jax.grad(lambda r: huber_loss(r, jnp.zeros(()), delta=delta))(jnp.asarray(10.0))
    assert float(slope) == delta  # an outlier pulls no harder than that


@pytest.mark.parametrize(
    ("arguments", "delta", "message"),
    [
        ((jnp.ones(3), jnp.ones((3, 1))), 1.0, r"targets: expected the shape of predictions \[3\], got \[3, 1\]"),
        ((jnp.ones(3, jnp.int32), jnp.ones(3)), 1.0, "predictions: expected a floating dtype, got int32"),
        ((jnp.ones(3), jnp.ones(3)), 0.0, "delta: expected a positive number, got 0.0"),
    ],
)
def test_huber_refuses(arguments, delta, message):
    with pytest.raises(ValueError, match=message):
        huber_loss(*arguments, delta=delta)


@pytest.mark.parametrize(
    ("loss", "formula"), [(squared_error, lambda r: r**2 / 2), (absolute_error, abs)], ids=["squared", "absolute"]
)
def test_regression_losses_are_their_formulas(x64, loss, formula):
    targets, predictions = RNG.normal(size=(2, 5, 3))
    got = loss(jnp.asarray(predictions), jnp.asarray(targets))
    np.testing.assert_allclose(got, formula(predictions - targets), rtol=1e-15)
    assert loss(jnp.ones((0, 1)), jnp.ones((0, 1))).shape == (0, 1)
    assert loss(jnp.ones(2, jnp.bfloat16), jnp.zeros(2, jnp.int32)).dtype == jnp.float32
    with pytest.raises(ValueError, match=r"targets: expected the shape of predictions \[4, 1\], got \[4\]"):
        loss(jnp.ones((4, 1)), jnp.ones(4))
    with pytest.raises(ValueError, match="predictions: expected a floating dtype, got int32"):
        loss(jnp.ones(3, jnp.int32), jnp.ones(3))


def test_the_slope_of_the_absolute_error_is_the_sign():
    slopes = jax.grad(lambda p: absolute_error(p, jnp.zeros(3)).sum())(jnp.array([-2.0, 0.0, 0.5]))
    assert slopes.tolist() == [-1, 1, 1]  # 1 at zero, as the docstring says


def test_binary_cross_entropy_is_the_bernoulli_likelihood(x64):
    logits = RNG.normal(size=7) * 3
    labels = RNG.integers(0, 2, 7)
    want = -scipy.stats.bernoulli.logpmf(labels, expit(logits))
    np.testing.assert_allclose(binary_cross_entropy(jnp.asarray(logits), jnp.asarray(labels)), want, rtol=1e-12)
    # Of two classes it is the cross-entropy of the softmax over (0, logit).
    pair = jnp.stack([jnp.zeros(7), jnp.asarray(logits)], axis=-1)
    np.testing.assert_allclose(cross_entropy(pair, jnp.asarray(labels)), want, rtol=1e-12)


def test_binary_cross_entropy_takes_probabilities_and_any_logit(x64):
    p = jnp.asarray(0.3)
    entropy = -(0.3 * np.log(0.3) + 0.7 * np.log(0.7))
    np.testing.assert_allclose(binary_cross_entropy(jnp.log(p / (1 - p)), p), entropy, rtol=1e-12)
    loss, slope = jax.value_and_grad(binary_cross_entropy)(jnp.asarray(-1e4), jnp.asarray(1.0))
    assert (float(loss), float(slope)) == (1e4, -1)
    with pytest.raises(ValueError, match=r"labels: expected the shape of logits \[2\], got \[2, 1\]"):
        binary_cross_entropy(jnp.zeros(2), jnp.zeros((2, 1)))
