"""Entropies against the checklist's numbers (C30), SciPy and scikit-learn, and the theorems about them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from jaxdl.probability import (
    conditional_entropy,
    cross_entropy,
    entropy,
    joint_entropy,
    kl_divergence,
    mutual_information,
    self_information,
)

JOINT = [[0.1, 0.5], [0.1, 0.3]]
WITH_ZEROS = np.array([[0.5, 0.0, 0.1], [0.0, 0.0, 0.4]])


def random_joint(seed, shape=(3, 4), zeros=False):
    rng = np.random.default_rng(seed)
    joint = rng.exponential(size=shape) * ((rng.random(shape) < 0.6) if zeros else 1)
    joint[0, 0] += 0.1
    return joint / joint.sum()


def test_the_chapters_numbers(x64):
    """C30, in bits but for the cross-entropy."""
    assert float(self_information(1 / 64, unit="bits")) == 6
    assert float(entropy([0.1, 0.5, 0.1, 0.3], unit="bits")) == pytest.approx(1.685475, abs=5e-7)
    assert float(joint_entropy(JOINT, unit="bits")) == pytest.approx(1.685475, abs=5e-7)
    labels, predictions = np.eye(3)[[0, 2]], [[0.3, 0.6, 0.1], [0.2, 0.3, 0.5]]
    assert float(cross_entropy(labels, predictions).mean()) == pytest.approx(0.94856, abs=5e-7)


def test_four_events_carry_0_2_5_7_and_225_6_bits(x64):
    """22.11: a certain event, two fair coins, a card, a whole deck in order."""
    events = [1, 1 / 4, 1 / 52, 1 / math.factorial(52)]
    np.testing.assert_allclose(self_information(events, unit="bits"), [0, 2, 5.70044, 225.581003], atol=5e-6)


def test_what_the_books_tables_would_have_to_be(x64):
    """Its conditional entropy is of numbers that sum to 1.1, its mutual information of margins of other tables."""
    with pytest.raises(ValueError, match=r"joint: expected a sum of 1 over the last 2 axes, got 1\.1"):
        conditional_entropy([[0.1, 0.5], [0.2, 0.3]])
    # H(Y | X) of the proper table by hand: rows of weight 0.6 and 0.4, split 1 : 5 and 1 : 3.
    by_hand = 0.6 * scipy.stats.entropy([1, 5], base=2) + 0.4 * scipy.stats.entropy([1, 3], base=2)
    assert float(conditional_entropy(JOINT, unit="bits")) == pytest.approx(by_hand, abs=1e-12)
    expected = scipy.stats.entropy([0.2, 0.8], base=2) - by_hand
    assert float(mutual_information(JOINT, unit="bits")) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("unit", ["nats", "bits"])
def test_scipy_and_scikit_learn_agree(x64, unit):
    base = {"nats": math.e, "bits": 2}[unit]
    p, q = random_joint(0, (2, 5), zeros=True), random_joint(1, (2, 5))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    np.testing.assert_allclose(entropy(p, unit=unit), scipy.stats.entropy(p, base=base, axis=1), rtol=1e-12)
    np.testing.assert_allclose(kl_divergence(p, q, unit=unit), scipy.stats.entropy(p, q, base=base, axis=1), rtol=1e-12)
    counts = np.array([[3, 0, 5], [1, 7, 2]])
    expected = mutual_info_score(None, None, contingency=counts) / math.log(base)
    assert float(mutual_information(counts / counts.sum(), unit=unit)) == pytest.approx(expected, rel=1e-12)


@jax.jit
def quantities(joint):
    x, y = joint.sum(1), joint.sum(0)
    product = x[:, None] * y[None, :]
    return {
        "h_x": entropy(x),
        "h_y": entropy(y),
        "h_xy": joint_entropy(joint),
        "h_y_given_x": conditional_entropy(joint),
        "h_x_given_y": conditional_entropy(joint.T),
        "mutual": mutual_information(joint),
        "mutual, other way round": mutual_information(joint.T),
        "divergence from independence": kl_divergence(joint.ravel(), product.ravel()),
        "mutual of independent": mutual_information(product),
    }


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shape=st.sampled_from([(1, 1), (1, 4), (3, 4)]), zeros=st.booleans())
def test_the_theorems(seed, shape, zeros):
    with jax.enable_x64(True):
        value = {name: float(number) for name, number in quantities(random_joint(seed, shape, zeros)).items()}
    h_x, h_y, h_xy, mutual = (value[name] for name in ("h_x", "h_y", "h_xy", "mutual"))
    assert h_xy == pytest.approx(h_x + value["h_y_given_x"], abs=1e-12)  # the chain rule
    assert h_xy == pytest.approx(h_y + value["h_x_given_y"], abs=1e-12)
    assert -1e-12 <= h_x <= math.log(shape[0]) + 1e-12
    assert max(h_x, h_y) - 1e-12 <= h_xy <= h_x + h_y + 1e-12
    assert mutual == pytest.approx(h_x + h_y - h_xy, abs=1e-12)
    assert mutual == pytest.approx(value["mutual, other way round"], abs=1e-12)
    assert mutual == pytest.approx(value["divergence from independence"], abs=1e-12)
    assert value["mutual of independent"] == pytest.approx(0, abs=1e-12)


@jax.jit
def before_and_after_a_channel(joint, p, q, channel):
    """Mutual information and divergence; the entropy that divergence adds to, and their sum."""
    information = mutual_information(joint), mutual_information(joint @ channel)
    divergence = kl_divergence(p, q), kl_divergence(p @ channel, q @ channel)
    return information, divergence, (entropy(p), cross_entropy(p, q))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), zeros=st.booleans())
def test_processing_data_adds_no_information(seed, zeros):
    """X to Y to Z: `I(X, Z) <= I(X, Y)`, and a divergence shrinks through a channel."""
    with jax.enable_x64(True):
        channel = random_joint(seed + 1, (4, 2))
        p, q = random_joint(seed, (1, 4), zeros)[0], random_joint(seed + 2, (1, 4))[0]
        joint = random_joint(seed, (3, 4), zeros)
        results = before_and_after_a_channel(joint, p, q, channel / channel.sum(1, keepdims=True))
    (information, processed), (divergence, shrunk), (h_p, cross) = np.asarray(results)
    assert processed <= information + 1e-12
    assert -1e-12 <= shrunk <= divergence + 1e-12
    assert cross == pytest.approx(h_p + divergence, abs=1e-12)


def test_impossible_outcomes_add_nothing():
    assert float(entropy([1.0, 0.0])) == 0
    assert float(kl_divergence([0.5, 0.5, 0.0], [0.25, 0.25, 0.5])) == pytest.approx(math.log(2))
    assert float(kl_divergence([0.5, 0.5, 0.0], [0.5, 0.5, 0.0])) == 0
    assert float(kl_divergence([0.5, 0.5], [1.0, 0.0])) == math.inf
    assert float(cross_entropy([0.5, 0.5], [1.0, 0.0])) == math.inf
    assert float(conditional_entropy(WITH_ZEROS)) == pytest.approx(
        0.6 * scipy.stats.entropy([5, 1]), rel=1e-6
    )  # the second row leaves no doubt
    assert float(mutual_information([[0.5, 0.0], [0.0, 0.5]], unit="bits")) == 1
    assert float(self_information(0.0)) == math.inf


def test_gradients_at_impossible_outcomes(x64):
    """Those of a table without the impossible outcomes, and 0 in their places."""
    p, q = jnp.array([0.2, 0.0, 0.8]), jnp.array([0.5, 0.0, 0.5])
    np.testing.assert_allclose(jax.grad(entropy)(p), [-math.log(0.2) - 1, 0, -math.log(0.8) - 1], rtol=1e-12)
    to_p, to_q = jax.grad(kl_divergence, (0, 1))(p, q)
    np.testing.assert_allclose(to_p, [math.log(0.4) + 1, 0, math.log(1.6) + 1], rtol=1e-12)
    np.testing.assert_allclose(to_q, [-0.4, 0, -1.6], rtol=1e-12)
    for function in (joint_entropy, conditional_entropy, mutual_information):
        first_and_second = jax.jit(lambda joint, f=function: (jax.grad(f)(joint), jax.hessian(f)(joint)))
        for derivative in first_and_second(jnp.asarray(WITH_ZEROS)):
            assert np.isfinite(derivative).all(), function


def test_the_gradient_survives_a_softmax_that_has_underflowed():
    """In float32 the third probability is 0; float64, where it is not, knows the gradient."""
    logits = np.array([0.0, 1.0, -200.0])

    def entropy_of_softmax(logits):
        return entropy(jax.nn.softmax(logits))

    float32 = jax.grad(entropy_of_softmax)(jnp.asarray(logits, jnp.float32))
    assert float(jax.nn.softmax(jnp.asarray(logits, jnp.float32))[2]) == 0
    with jax.enable_x64(True):
        float64 = jax.grad(entropy_of_softmax)(jnp.asarray(logits))
    np.testing.assert_allclose(float32, float64, atol=1e-6)
    assert np.abs(float64).max() > 0.1


def test_a_nan_is_not_hidden():
    assert np.isnan(jax.jit(entropy)(jnp.array([0.5, jnp.nan, 0.5])))


def test_batches_and_transformations():
    p = jnp.array([[0.1, 0.9], [0.5, 0.5], [1.0, 0.0]])
    one_by_one = jnp.stack([entropy(row) for row in p])
    for many in (entropy(p), jax.vmap(entropy)(p), jax.jit(entropy)(p)):
        np.testing.assert_array_equal(many, one_by_one)
    joints = np.stack([WITH_ZEROS, WITH_ZEROS[:, ::-1]])
    assert mutual_information(joints).shape == (2,)
    assert entropy(np.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize(
    ("given_dtype", "dtype"), [("float64", "float64"), ("float32", "float32"), ("int32", "float64")]
)
def test_dtypes(x64, given_dtype, dtype):
    assert entropy(np.array([1, 0], given_dtype)).dtype == dtype
    assert entropy(jnp.array([0.3, 0.7], jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (entropy, ([0.5, 0.6],), r"p: expected a sum of 1 over the last axis, got 1\.1"),
        (entropy, ([0.5, 0.499],), r"p: expected a sum of 1 over the last axis, got 0\.999"),
        (entropy, ([1.5, -0.5],), r"p: expected probabilities of at least 0, got -0\.5"),
        (entropy, ([math.nan, 1],), "p: expected probabilities of at least 0, got nan"),
        (entropy, ([],), r"p: expected \[\.\.\., outcomes\] with at least one outcome, got shape \[0\]"),
        (entropy, (1.0,), r"got shape \[\]"),
        (entropy, ([1.0 + 0j],), "p: expected real numbers, got complex64"),
        (entropy, (JOINT,), r"over the last axis, got 0\.4"),
        (joint_entropy, ([0.5, 0.5],), r"joint: expected \[\.\.\., outcomes, outcomes\]"),
        (mutual_information, ([[0.5], [0.6]],), r"joint: expected a sum of 1 over the last 2 axes, got 1\.1"),
        (kl_divergence, ([0.5, 0.5], [1.0]), r"q: expected the shape of p \[2\], got \[1\]"),
        (cross_entropy, ([0.5, 0.5], [[0.5, 0.5]]), r"q: expected the shape of p \[2\], got \[1, 2\]"),
        (cross_entropy, ([0.5, 0.5], [0.5, 0.6]), "q: expected a sum of 1"),
        (self_information, (1.5,), r"p: expected probabilities in \[0, 1\], got 1\.5"),
    ],
)
def test_what_is_no_distribution_is_an_error(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


def test_an_unknown_unit_is_an_error():
    with pytest.raises(ValueError, match="unit: expected 'nats' or 'bits', got 'hartleys'"):
        entropy([1.0], unit="hartleys")
