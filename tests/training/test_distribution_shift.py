"""Importance weights against scikit-learn, true density ratios and the book's numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from jaxdl.training import covariate_shift_weights, label_shift_prior, label_shift_weights

BOOKS_CONFUSION = np.array([[0.9, 0.2], [0.1, 0.8]])


def samples(num_source=60, num_target=40, shift=0.5, features=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num_source, features)), rng.normal(shift, 1.5, size=(num_target, features))


@pytest.mark.parametrize("shift", [0.5, 20.0], ids=["overlapping", "apart"])
def test_the_classifier_is_scikit_learns(x64, shift):
    source, target = samples(shift=shift)
    weights = covariate_shift_weights(source * 100, target * 100, max_weight=math.inf, l2=1e-3)
    inputs = StandardScaler().fit_transform(np.concatenate([source, target]))
    model = LogisticRegression(C=1 / (1e-3 * 100), solver="newton-cholesky", tol=1e-12)
    model.fit(inputs, np.repeat([-1, 1], [60, 40]))
    want = np.exp(model.decision_function(inputs[:60])) * 60 / 40
    np.testing.assert_allclose(weights, want, rtol=1e-8)


@pytest.mark.parametrize(("num_source", "num_target"), [(2_000, 2_000), (2_000, 1_000)])
def test_the_weights_are_the_ratio_of_the_densities(num_source, num_target):
    """Whatever the sizes of the two samples; the ratio of these Gaussians is quadratic in x."""
    rng = np.random.default_rng(1)
    source, target = rng.normal(0.5, 0.5, (num_source, 1)), rng.normal(0, 0.3, (num_target, 1))
    with_square = [np.concatenate([x, x**2], axis=1) for x in (source, target)]
    weights = np.asarray(covariate_shift_weights(*with_square))
    truth = norm.pdf(source, 0, 0.3) / norm.pdf(source, 0.5, 0.5)
    assert np.abs(weights - truth[:, 0]).mean() < 0.1
    assert weights.mean() == pytest.approx(1, abs=0.05)
    weighted_mean = (weights * source[:, 0]).sum() / weights.sum()
    assert weighted_mean == pytest.approx(target.mean(), abs=0.03)  # the source's mean is 0.5, the target's 0


def test_without_a_shift_the_weights_are_about_one():
    source, _ = samples(1_000)
    target, _ = samples(1_000, seed=1)
    weights = covariate_shift_weights(source, target)
    assert float(weights.mean()) == pytest.approx(1, abs=0.01)
    assert weights.std() < 0.15  # sampling makes it 0.045 for one feature and sqrt(3) times that for three


@settings(max_examples=8, deadline=None)
@given(
    num_source=st.sampled_from([1, 7]), num_target=st.sampled_from([1, 5]), features=st.sampled_from([1, 3]),
    max_weight=st.sampled_from([0.5, 1e6]),
)  # fmt: skip
def test_weights_are_finite_positive_and_clipped(num_source, num_target, features, max_weight):
    source, target = samples(num_source, num_target, 50.0, features)
    weights = covariate_shift_weights(source.astype(np.float32), target.astype(np.float32), max_weight=max_weight)
    assert weights.shape == (num_source,)
    assert weights.dtype == jnp.float32
    assert ((weights >= 0) & (weights <= max_weight)).all()


def test_a_constant_feature_changes_nothing(x64):
    source, target = samples()
    constant = [np.concatenate([x, np.full((len(x), 1), 7.0)], axis=1) for x in (source, target)]
    np.testing.assert_allclose(covariate_shift_weights(*constant), covariate_shift_weights(source, target), rtol=1e-10)


def test_it_can_be_compiled_and_mapped():
    source, target = (jnp.stack([jnp.asarray(x), jnp.asarray(x) + 1]) for x in samples())
    mapped = jax.jit(jax.vmap(covariate_shift_weights))(source, target)
    np.testing.assert_allclose(mapped[1], covariate_shift_weights(source[1], target[1]), rtol=1e-4)


def test_the_books_label_shift():
    """D2L 4.7 by the checklist: C = [[.9, .2], [.1, .8]], mu = [.55, .45] gives p = [.5, .5]."""
    np.testing.assert_allclose(label_shift_prior(BOOKS_CONFUSION, [0.55, 0.45]), [0.5, 0.5], rtol=1e-15)


@settings(max_examples=20, deadline=None)
@given(classes=st.integers(1, 6), seed=st.integers(0, 5))
def test_the_prior_that_gave_the_mean_prediction_is_found(classes, seed):
    rng = np.random.default_rng(seed)
    confusion = 0.6 * np.eye(classes) + 0.4 * rng.dirichlet(np.ones(classes), classes).T
    prior = rng.dirichlet(np.ones(classes))
    estimated = label_shift_prior(confusion, confusion @ prior)
    np.testing.assert_allclose(estimated, prior, atol=1e-12)
    source_prior = rng.dirichlet(np.ones(classes))
    weights = label_shift_weights(source_prior, estimated)
    np.testing.assert_allclose(weights * source_prior, prior, atol=1e-12)
    assert (weights * source_prior).sum() == pytest.approx(1)  # the mean weight of the source's examples


def test_a_negative_share_becomes_none():
    prior = label_shift_prior(BOOKS_CONFUSION, [0.95, 0.05])  # solved: [15/14, -1/14]
    np.testing.assert_allclose(prior, [1, 0], rtol=1e-15)


def test_a_class_that_is_nowhere_weighs_nothing():
    np.testing.assert_array_equal(label_shift_weights([0.5, 0.5, 0], [0.25, 0.75, 0]), [0.5, 1.5, 0])


SOURCE, TARGET = samples(4, 4)
HALVES = np.full(2, 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: covariate_shift_weights(SOURCE[:, 0], TARGET), r"source: expected floating .* got float32\[4\]"),
        (lambda: covariate_shift_weights(SOURCE, TARGET.astype(int)), "target: expected floating .* got int32"),
        (lambda: covariate_shift_weights(SOURCE, TARGET[:, :2]), "target: expected 3 features like source, got 2"),
        (lambda: covariate_shift_weights(SOURCE[:0], TARGET), "source: expected at least one example and one feature"),
        (lambda: covariate_shift_weights(SOURCE[:, :0], TARGET), r"source: expected at least one .* got \[4, 0\]"),
        (lambda: covariate_shift_weights(SOURCE, TARGET, max_weight=0), "max_weight: expected a positive number"),
        (lambda: covariate_shift_weights(SOURCE, TARGET, l2=0), "l2: expected a positive number, got 0"),
        (lambda: label_shift_prior(BOOKS_CONFUSION[0], HALVES), r"confusion: expected \[classes, classes\], got \[2\]"),
        (lambda: label_shift_prior(np.ones((0, 0)), []), r"confusion: expected \[classes, classes\], got \[0, 0\]"),
        (lambda: label_shift_prior(BOOKS_CONFUSION.T, HALVES), "confusion: column 0: expected a sum of 1, got 1.1"),
        (
            lambda: label_shift_prior([[1.2, 0], [-0.2, 1]], HALVES),
            "expected numbers of at least 0, got -0.2",
        ),
        (lambda: label_shift_prior([[math.nan, 0], [0, 1]], HALVES), "expected numbers of at least 0, got nan"),
        (lambda: label_shift_prior(np.full((2, 2), 0.5), HALVES), r"condition number of at most 1e\+06, got"),
        (lambda: label_shift_prior(BOOKS_CONFUSION, [0.5]), r"mean_prediction: expected \[2\], got \[1\]"),
        (lambda: label_shift_prior(BOOKS_CONFUSION, [0.5, 0.6]), "mean_prediction: expected a sum of 1, got 1.1"),
        (lambda: label_shift_weights(HALVES, [1.0]), r"target_prior: expected \[2\], got \[1\]"),
        (lambda: label_shift_weights(0.5, HALVES), r"source_prior: expected \[classes\], got \[\]"),
        (lambda: label_shift_weights(HALVES, [1.5, -0.5]), "target_prior: expected numbers of at least 0, got -0.5"),
        (lambda: label_shift_weights([1, 0], HALVES), r"above 0 for each class of the target, got 0 for \[1\]"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
