"""Paths of chapter 12 from every method, to the six digits of the checklist; and noisy ones against their theory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import optim


def parabola(x):
    return x**2


def wave(x):
    return x * jnp.cos(0.15 * jnp.pi * x)


def bowl(x):
    return x[0] ** 2 + 2 * x[1] ** 2


def ravine(x):
    return 0.1 * x[0] ** 2 + 2 * x[1] ** 2


PATHS = [
    (parabola, optim.sgd(0.2), 10.0, 10, 0.060466),
    (parabola, optim.sgd(0.05), 10.0, 10, 3.486784),
    (parabola, optim.sgd(1.1), 10.0, 10, 61.917364),
    (wave, optim.sgd(2.0), 10.0, 10, -1.528166),
    (bowl, optim.sgd(0.1), (-5.0, -2.0), 20, (-0.057646, -0.000073)),
    (ravine, optim.sgd(0.4), (-5.0, -2.0), 20, (-0.943467, -0.000073)),
    (ravine, optim.sgd(0.6), (-5.0, -2.0), 20, (-0.387814, -1673.365109)),
    (ravine, optim.momentum(0.6, 0.5), (-5.0, -2.0), 20, (0.007188, 0.002553)),
    (ravine, optim.momentum(0.6, 0.25), (-5.0, -2.0), 20, (-0.126340, -0.186632)),
    (ravine, optim.adagrad(0.4), (-5.0, -2.0), 20, (-2.382563, -0.158591)),
    (ravine, optim.adagrad(2.0), (-5.0, -2.0), 20, (-0.002295, 0.0)),
    (ravine, optim.rmsprop(0.4), (-5.0, -2.0), 20, (-0.010599, 0.0)),
]


@pytest.mark.parametrize(("function", "optimizer", "start", "num_steps", "end"), PATHS)
def test_the_paths_of_the_book(x64, function, optimizer, start, num_steps, end):
    path = optim.trajectory(jax.grad(function), optimizer, jnp.array(start), num_steps)
    assert path.shape == (num_steps + 1, *np.shape(start))
    np.testing.assert_array_equal(path[0], start)
    np.testing.assert_allclose(path[-1], end, atol=6e-7)


def gradient_with_noise(x, key):
    return jnp.array([2.0, 4.0]) * x + jax.random.normal(key, x.shape)


@pytest.mark.parametrize(
    ("schedule", "num_steps"),
    [
        (lambda step: 0.1, 50),
        (optim.exponential_decay(0.1, 0.1), 1000),
        (optim.polynomial_decay(0.1, 0.1, 0.5), 50),
    ],
    ids=["constant", "exponential", "polynomial"],
)
def test_noisy_gradients_on_a_quadratic(x64, schedule, num_steps):
    """The end of D2L 12.4's paths has a known mean and variance; 4 standard errors of 2000 paths are allowed.

    A step is `x <- (1 - rate c) x - rate noise`, so the mean is multiplied by `1 - rate c` and the variance by its
    square, plus `rate^2`.
    """
    num_paths, curvature = 2000, np.array([2.0, 4.0])
    mean, variance = np.array([-5.0, -2.0]), np.zeros(2)
    for step in range(num_steps):
        rate = float(schedule(step))
        mean, variance = (1 - rate * curvature) * mean, (1 - rate * curvature) ** 2 * variance + rate**2
    ends = jax.jit(
        jax.vmap(
            lambda key: optim.trajectory(
                gradient_with_noise, optim.sgd(schedule), jnp.array([-5.0, -2.0]), num_steps, key
            )[-1]
        )
    )(jax.random.split(jax.random.key(0), num_paths))
    np.testing.assert_allclose(ends.mean(0), mean, atol=4 * np.sqrt(variance.max() / num_paths))
    np.testing.assert_allclose(ends.var(0), variance, rtol=4 * np.sqrt(2 / num_paths))


def test_exponential_decay_stops_before_it_arrives(x64):
    """The sum of all its rates is finite: 0.1 / (1 - exp(-0.1)); that of the polynomial is not."""
    gradient = jax.grad(bowl)
    start = jnp.array([-5.0, -2.0])
    stuck = optim.trajectory(gradient, optim.sgd(optim.exponential_decay(0.1, 0.1)), start, 1000)[:, 0]
    free = optim.trajectory(gradient, optim.sgd(optim.polynomial_decay(0.1, 0.1)), start, 1000)[:, 0]
    rates = 0.1 * np.exp(-0.1 * np.arange(1000))
    assert stuck[-1] == pytest.approx(-5 * np.prod(1 - 2 * rates), rel=1e-12)
    assert stuck[-1] < -0.5 < free[100] < free[-1]


def test_pytrees_no_steps_and_keys():
    params = {"a": jnp.ones(2), "b": jnp.zeros((), jnp.bfloat16)}
    path = optim.trajectory(lambda p: p, optax.sgd(0.5), params, 0)
    assert path["a"].shape == (1, 2)
    assert path["b"].dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="num_steps: expected 0 or more, got -1"):
        optim.trajectory(lambda p: p, optax.sgd(0.5), params, -1)
    one, other = (
        optim.trajectory(gradient_with_noise, optax.sgd(0.5), jnp.ones(2), 3, jax.random.key(seed)) for seed in (0, 1)
    )
    assert len({float(x) for x in (one[1:] - one[:-1])[:, 0]}) == 3  # each step draws anew
    assert np.abs(one - other)[1:].min() > 0
