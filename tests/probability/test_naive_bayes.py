"""Naive Bayes against scikit-learn, against Bayes' rule by hand, and on digits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.naive_bayes import BernoulliNB

from jaxdl.data import load
from jaxdl.probability import BernoulliNaiveBayes, posterior


def binary_digits(split):
    arrays = load("digits", split)
    return np.floor(arrays["image"].reshape(-1, 64) * 255 / 128), arrays["label"]


@pytest.mark.parametrize("smoothing", [1.0, 0.1])
def test_scikit_learn_agrees(x64, smoothing):
    rng = np.random.default_rng(0)
    features, labels = rng.random((50, 7)) < 0.4, rng.integers(0, 3, 50)
    ours = BernoulliNaiveBayes.fit(features, labels, 3, smoothing=smoothing)
    reference = BernoulliNB(alpha=smoothing).fit(features, labels)
    new = rng.random((20, 7)) < 0.5
    np.testing.assert_allclose(ours.log_prior, reference.class_log_prior_, rtol=1e-12)
    np.testing.assert_allclose(ours.log_one, reference.feature_log_prob_, rtol=1e-12)
    np.testing.assert_allclose(ours.log_joint(new), reference.predict_joint_log_proba(new), rtol=1e-12)
    np.testing.assert_allclose(ours.log_posterior(new), reference.predict_log_proba(new), atol=1e-12)
    np.testing.assert_array_equal(ours.predict(new), reference.predict(new))


def test_it_is_bayes_rule(x64):
    features, labels = [[0, 1], [1, 1], [1, 0]], [0, 0, 1]
    model = BernoulliNaiveBayes.fit(features, labels, 2)
    likelihood = [(1 - 2 / 4) * 3 / 4, (1 - 2 / 3) * 1 / 3]  # of (0, 1): (n + 1) / (n_y + 2)
    np.testing.assert_allclose(jnp.exp(model.log_posterior([[0, 1]]))[0], posterior([2 / 3, 1 / 3], likelihood))


def test_it_learns_digits_and_nothing_from_shuffled_labels():
    features, labels = binary_digits("train")
    test_features, test_labels = binary_digits("test")
    model = BernoulliNaiveBayes.fit(features, labels, 10)
    accuracy = float((model.predict(test_features) == test_labels).mean())
    reference = BernoulliNB().fit(features, labels).score(test_features, test_labels)
    assert accuracy == pytest.approx(reference, abs=1 / 360)  # float32 may decide one tie in another way
    assert accuracy > 0.8
    shuffled = np.random.default_rng(0).permutation(labels)
    model = BernoulliNaiveBayes.fit(features, shuffled, 10)
    assert float((model.predict(test_features) == test_labels).mean()) < 0.3


def test_logarithms_of_many_features_do_not_underflow():
    """22.9: 784 features of probability 0.1."""
    model = BernoulliNaiveBayes(jnp.zeros(1), jnp.full((1, 784), math.log(0.1)), jnp.zeros((1, 784)))
    assert float(model.log_joint(np.ones((1, 784)))[0, 0]) == pytest.approx(-1805.2267, abs=1e-3)


def test_a_class_without_examples_is_never_predicted():
    model = BernoulliNaiveBayes.fit([[0, 1], [1, 0]], [0, 2], 3)
    log_posterior = model.log_posterior([[0, 1], [1, 1]])
    assert (log_posterior[:, 1] == -math.inf).all()
    assert np.isfinite(log_posterior[:, [0, 2]]).all()
    assert model.predict([[0, 1], [1, 0]]).tolist() == [0, 2]


def test_it_is_a_pytree_and_compiles():
    model = BernoulliNaiveBayes.fit([[0, 1], [1, 0]], [0, 1], 2)
    predict = jax.jit(lambda model, features: model.predict(features))
    assert predict(model, jnp.array([[0, 1]])).tolist() == [0]
    refit = jax.jit(lambda x, y: BernoulliNaiveBayes.fit(x, y, 2))(jnp.array([[0, 1], [1, 0]]), jnp.array([0, 1]))
    np.testing.assert_allclose(refit.log_one, model.log_one, rtol=1e-6)
    assert model.predict(np.zeros((0, 2))).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0.5, 1]], [0], 2), r"features: expected zeros and ones, got 0\.5; choose a threshold"),
        (([0, 1], [0], 2), r"features: expected an array of rank 2, got shape \[2\]"),
        (([[0, 1]], [[0]], 2), r"labels: expected integers of shape \[1\], got int32\[1, 1\]"),
        (([[0, 1]], [0.0], 2), r"labels: expected integers of shape \[1\], got float32\[1\]"),
        (([[0, 1]], [2], 2), "labels: expected classes from 0 to 1, got 2"),
        (([[0, 1]], [-1], 2), "labels: expected classes from 0 to 1, got -1"),
        ((np.zeros((0, 2)), np.zeros(0, int), 2), "labels: expected at least one example, got none"),
    ],
)
def test_errors_of_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        BernoulliNaiveBayes.fit(*arguments)


def test_other_errors():
    with pytest.raises(ValueError, match=r"smoothing: expected a positive number, got 0\.0"):
        BernoulliNaiveBayes.fit([[0]], [0], 1, smoothing=0.0)
    with pytest.raises(ValueError, match=r"features: expected \[examples, 1\], got \[1, 2\]"):
        BernoulliNaiveBayes.fit([[0]], [0], 1).predict([[0, 1]])
