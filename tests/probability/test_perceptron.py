"""The perceptron against a loop in plain Python, scikit-learn, and Novikoff's bound."""

import math

import jax
import numpy as np
import pytest
import sklearn.linear_model
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.probability import Perceptron, mistake_bound

XOR = [[0, 0], [0, 1], [1, 0], [1, 1]], [-1, 1, 1, -1]


def separable(seed, num_examples=30, margin=0.1):
    """Points on both sides of a random line, none nearer to it than the margin; and the line, of length 1 in all."""
    rng = np.random.default_rng(seed)
    plane = rng.normal(size=3)
    plane /= np.linalg.norm(plane)
    x = rng.uniform(-2, 2, (20 * num_examples, 2))
    score = x @ plane[:2] + plane[2]
    kept = np.abs(score) > margin
    return x[kept][:num_examples], np.sign(score[kept])[:num_examples], plane


def by_hand(x, y, epochs):
    w, b, mistakes = np.zeros(x.shape[1]), 0.0, np.zeros(epochs, int)
    for epoch in range(epochs):
        for x_i, y_i in zip(x, y, strict=True):
            if y_i * (x_i @ w + b) <= 0:
                w, b, mistakes[epoch] = w + y_i * x_i, b + y_i, mistakes[epoch] + 1
    return w, b, mistakes


def test_it_is_the_textbooks_loop(x64):
    x, y, _ = separable(0)
    model = Perceptron.fit(x, y, epochs=20)
    w, b, mistakes = by_hand(x, y, 20)
    np.testing.assert_allclose(model.weights, w, rtol=1e-12)
    assert float(model.bias) == pytest.approx(b)
    np.testing.assert_array_equal(model.mistakes, mistakes)
    assert model.mistakes[-1] == 0
    np.testing.assert_array_equal(model.predict(x), y)


def test_scikit_learn_agrees(x64):
    x, y, _ = separable(1)
    reference = sklearn.linear_model.Perceptron(max_iter=50, tol=None, shuffle=False).fit(x, y)
    model = Perceptron.fit(x, y, epochs=50)
    scale = float(np.linalg.norm(model.weights)) / np.linalg.norm(reference.coef_)
    np.testing.assert_allclose(model.weights, reference.coef_[0] * scale, rtol=1e-9)
    assert float(model.bias) == pytest.approx(reference.intercept_[0] * scale)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), margin=st.sampled_from([0.05, 0.2]))
def test_mistakes_stay_within_the_bound(seed, margin):
    x, y, plane = separable(seed, margin=margin)
    bound = float(mistake_bound(x, y, plane[:2], plane[2]))
    radius = max(np.linalg.norm([*point, 1]) for point in x)
    gamma = min(y * (x @ plane[:2] + plane[2]))
    assert bound == pytest.approx((radius / gamma) ** 2, rel=1e-4)
    assert bound <= 9 / margin**2
    order = np.random.default_rng(seed).permutation(len(x))
    model = Perceptron.fit(x[order], y[order], epochs=200)
    assert int(model.mistakes.sum()) <= bound
    own = float(mistake_bound(x, y, model.weights, model.bias))
    assert (own < math.inf) == (int(model.mistakes[-1]) == 0)


def test_xor_never_converges():
    model = Perceptron.fit(*XOR, epochs=100)
    assert (model.mistakes > 0).all()
    assert (model.predict(XOR[0]) != np.array(XOR[1])).any()
    assert float(mistake_bound(*XOR, model.weights, model.bias)) == math.inf


def test_a_wider_margin_and_a_scaled_plane():
    x, y = [[0.0], [4.0]], [-1, 1]
    assert float(mistake_bound(x, y, [1.0], -2.0)) == pytest.approx(17 / (4 / 5))
    assert float(mistake_bound(x, y, [10.0], -20.0)) == pytest.approx(17 / (4 / 5))
    assert float(mistake_bound(x, y, [1.0], -3.0)) > 17 / (4 / 5)
    assert float(mistake_bound(x, y, [-1.0], 2.0)) == math.inf
    assert float(mistake_bound(x, y, [0.0], 0.0)) == math.inf


def test_inside_jit():
    x, y, _ = separable(2)
    compiled = jax.jit(lambda x, y: Perceptron.fit(x, y, epochs=5))(x, y)
    np.testing.assert_array_equal(compiled.mistakes, Perceptron.fit(x, y, epochs=5).mistakes)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: Perceptron.fit([[1.0]], [0], epochs=1), r"y: expected labels 1 and -1, got 0\.0"),
        (lambda: Perceptron.fit([[1.0]], [1, 1], epochs=1), r"y: expected \[1\] for x of shape \[1, 1\], got \[2\]"),
        (lambda: Perceptron.fit([1.0], [1], epochs=1), "x: expected an array of rank 2"),
        (lambda: Perceptron.fit(np.zeros((0, 2)), [], epochs=1), "x: expected at least one example, got none"),
        (lambda: Perceptron.fit([[1.0]], [1], epochs=0), "epochs: expected at least 1, got 0"),
        (lambda: Perceptron.fit([[1.0]], [1], epochs=1).predict([[1.0, 2.0]]), r"x: expected \[examples, 1\]"),
        (lambda: mistake_bound([[1.0]], [1], [1.0, 2.0], 0.0), r"weights: expected \[1\], got \[2\]"),
        (lambda: mistake_bound([[1.0]], [1], [1.0], [0.0]), "bias: expected an array of rank 0"),
    ],
)
def test_errors(function, message):
    with pytest.raises(ValueError, match=message):
        function()
