"""Softmax against scipy, `jax.nn` and the definition, where that still works; the gradient by hand against autodiff."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.nn import cross_entropy, log_softmax, log_sum_exp, softmax, softmax_regression_gradient

OURS = [log_sum_exp, log_softmax, softmax]
SCIPY = [scipy.special.logsumexp, scipy.special.log_softmax, scipy.special.softmax]
JAX = [partial(jax.nn.logsumexp, axis=-1), jax.nn.log_softmax, jax.nn.softmax]
RNG = np.random.default_rng(0)


def naive_softmax(logits):
    exponentials = jnp.exp(logits)
    return exponentials / exponentials.sum(-1, keepdims=True)


@pytest.mark.parametrize(("ours", "theirs"), [*zip(OURS, SCIPY, strict=True)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_against_scipy_in_float64(x64, ours, theirs, axis):
    logits = RNG.normal(size=(3, 4, 5)) * 30
    np.testing.assert_allclose(ours(jnp.asarray(logits), axis), theirs(logits, axis=axis), rtol=1e-13)


def test_the_definition_overflows_outside_90_and_this_does_not():
    assert jnp.exp(jnp.float32(100)) == jnp.inf
    np.testing.assert_array_equal(jnp.isfinite(jnp.exp(jnp.array([88.0, 90.0]))), [True, False])
    np.testing.assert_array_equal(jnp.exp(jnp.array([-80.0, -110.0])) > 0, [True, False])
    for logits in (jnp.array([90.0, 40.0]), jnp.array([-110.0, -110.0])):
        assert jnp.isnan(naive_softmax(logits)).any()
        want = scipy.special.softmax(np.asarray(logits, np.float64))
        np.testing.assert_allclose(softmax(logits), want, rtol=1e-6)
    inside = jnp.array([80.0, 79.0, 75.0])
    np.testing.assert_allclose(softmax(inside), naive_softmax(inside), rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("largest", [1e4, -1e4])
def test_logits_of_any_size(dtype, largest):
    logits = jnp.array([[largest, 0, 0.0], [largest, largest, largest]], dtype)
    for ours, theirs in zip(OURS, SCIPY, strict=True):
        result = ours(logits)
        assert result.dtype == jnp.float32
        np.testing.assert_allclose(result, theirs(np.asarray(logits, np.float64), axis=-1), rtol=1e-6)


def test_minus_infinity_excludes_an_entry_and_its_gradient_is_zero():
    logits = jnp.array([1.0, -jnp.inf, 2.0])
    np.testing.assert_allclose(softmax(logits)[jnp.array([0, 2])], softmax(logits[jnp.array([0, 2])]), rtol=1e-6)
    assert softmax(logits)[1] == 0
    assert log_softmax(logits)[1] == -jnp.inf
    for function in (log_sum_exp, lambda z: log_softmax(z)[0], lambda z: softmax(z)[0]):
        gradient = jax.grad(function)(logits)
        assert jnp.isfinite(gradient).all()
        assert gradient[1] == 0


@pytest.mark.parametrize("row", [[-jnp.inf, -jnp.inf], [jnp.inf, 0.0], [jnp.nan, 0.0]])
@pytest.mark.parametrize(("ours", "theirs"), [*zip(OURS, JAX, strict=True)])
def test_what_is_no_distribution_is_what_jax_makes_of_it(ours, theirs, row):
    np.testing.assert_array_equal(ours(jnp.array(row)), theirs(jnp.array(row)))


@settings(max_examples=10, deadline=None)
@given(shape=st.sampled_from([(1,), (5,), (3, 4), (0, 3)]), scale=st.sampled_from([0.1, 10.0, 1e4]))
def test_properties(shape, scale):
    with jax.enable_x64(True):
        logits = jnp.asarray(RNG.normal(size=shape) * scale)
        np.testing.assert_allclose(softmax(logits).sum(-1), np.ones(shape[:-1]), rtol=1e-14)
        np.testing.assert_allclose(jnp.exp(log_softmax(logits)), softmax(logits), rtol=1e-12)
        np.testing.assert_allclose(log_softmax(logits), logits - log_sum_exp(logits)[..., None], atol=1e-11)
        np.testing.assert_allclose(softmax(logits + 1000), softmax(logits), rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize(("ours", "theirs"), [*zip(OURS, JAX, strict=True)])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_derivatives_are_those_of_jax(x64, ours, theirs, scale):
    logits = jnp.asarray(RNG.normal(size=(3, 4)) * scale)
    weights = jnp.asarray(RNG.normal(size=ours(logits).shape))
    for derivative in (jax.grad, jax.hessian):
        mine, other = (derivative(lambda z, f=f: (f(z) * weights).sum())(logits) for f in (ours, theirs))
        np.testing.assert_allclose(mine, other, atol=1e-14)


def test_cross_entropy_and_entropy_in_nats():
    """D2L 4.1 and 4.4: what is picked, its surprisal, and a nat in bits."""
    probabilities, labels = jnp.array([[0.1, 0.3, 0.6], [0.3, 0.2, 0.5]]), jnp.array([0, 2])
    picked = probabilities[jnp.arange(2), labels]
    np.testing.assert_allclose(picked, [0.1, 0.5])
    log_probabilities = log_softmax(jnp.log(probabilities))
    assert float(-log_probabilities[jnp.arange(2), labels].mean()) == pytest.approx(1.497866, abs=5e-7)
    entropy = cross_entropy(log_probabilities, probabilities)  # of a distribution with itself
    np.testing.assert_allclose(entropy, scipy.stats.entropy(probabilities, axis=-1), rtol=1e-6)
    bits = scipy.stats.entropy(probabilities, axis=-1, base=2)
    np.testing.assert_allclose(bits / entropy, 1.44, atol=0.005)


def problem(batch=7, features=5, classes=3):
    x, weights, bias = (jnp.asarray(RNG.normal(size=s)) for s in ((batch, features), (features, classes), (classes,)))
    return x, jnp.asarray(RNG.integers(0, classes, batch)), weights, bias


@pytest.mark.parametrize("batch", [1, 7])
def test_the_gradient_by_hand_is_autodiffs(x64, batch):
    x, labels, weights, bias = problem(batch)

    def loss(weights, bias):
        return cross_entropy(x @ weights + bias[None], labels).mean()

    by_hand = softmax_regression_gradient(x, labels, weights, bias)
    for mine, other in zip(by_hand, jax.grad(loss, argnums=(0, 1))(weights, bias), strict=True):
        assert mine.dtype == jnp.float64
        np.testing.assert_allclose(mine, other, atol=1e-12, rtol=0)


def test_a_label_that_is_no_class_makes_the_gradient_nan():
    x, _, weights, bias = problem(batch=2)
    for label in (-1, 3):
        gradients = softmax_regression_gradient(x, jnp.array([0, label]), weights, bias)
        assert all(bool(jnp.isnan(gradient).all()) for gradient in gradients)


@pytest.mark.parametrize("function", OURS)
@pytest.mark.parametrize(
    ("logits", "axis", "message"),
    [
        (jnp.zeros((2, 3), jnp.int32), -1, "logits: expected a floating dtype, got int32"),
        (jnp.zeros((2, 3)), 2, r"logits: expected an axis 2, got \[2, 3\]"),
        (jnp.zeros(()), -1, r"logits: expected an axis -1, got \[\]"),
        (jnp.zeros((2, 0)), -1, r"logits: expected at least one entry along axis -1, got \[2, 0\]"),
    ],
)
def test_wrong_logits_are_named(function, logits, axis, message):
    with pytest.raises(ValueError, match=message):
        function(logits, axis)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("features", jnp.zeros(5), r"features: expected floating with 2 axes, got float32\[5\]"),
        ("features", jnp.zeros((7, 4)), r"weights: expected shape \[4, 3\], got \[5, 3\]"),
        ("features", jnp.zeros((0, 5)), "features: expected at least one example"),
        ("weights", jnp.zeros((5, 3), jnp.int32), "weights: expected floating with 2 axes, got int32"),
        ("labels", jnp.zeros(6, jnp.int32), r"labels: expected integers of shape \[7\], got int32\[6\]"),
        ("labels", jnp.zeros(7), r"labels: expected integers of shape \[7\], got float32"),
        ("bias", jnp.zeros(4), r"bias: expected shape \[3\], got \[4\]"),
    ],
)
def test_wrong_arguments_of_the_gradient_are_named(name, value, message):
    arguments = dict(zip(("features", "labels", "weights", "bias"), problem(), strict=True)) | {name: value}
    with pytest.raises(ValueError, match=message):
        softmax_regression_gradient(**arguments)
