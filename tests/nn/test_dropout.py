"""Dropout: its values and its law, against Flax; a new mask each step, the trap of the book's section."""

import flax.errors
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import ListData
from scipy import stats

from jaxdl import training
from jaxdl.nn import Dropout, dropout

X = jnp.arange(16.0).reshape(2, 8)


class FlaxDropout(flax.linen.Module):
    """Flax's layer in the call convention of ours."""

    rate: float

    @flax.linen.compact
    def __call__(self, x, train=False):
        return flax.linen.Dropout(self.rate, name="layer")(x, deterministic=not train)


class OurDropout(flax.linen.Module):
    rate: float

    @flax.linen.compact
    def __call__(self, x, train=False):
        return Dropout(self.rate, name="layer")(x, train=train)


def apply(layer, x, seed=0, train=True):
    return layer.apply({}, x, train=train, rngs={"dropout": jax.random.key(seed)})


def test_the_books_example():
    key = jax.random.key(0)
    np.testing.assert_array_equal(dropout(X, 0, key), X)
    np.testing.assert_array_equal(dropout(X, 1, key), jnp.zeros_like(X))
    half = np.asarray(dropout(X, 0.5, key))
    assert np.all((half == 0) | (half == 2 * np.asarray(X)))
    assert 0 < (half != 0).sum() < 15
    np.testing.assert_array_equal(dropout(X, 0.5, key), half)
    assert not np.array_equal(dropout(X, 0.5, jax.random.key(1)), half)


@pytest.mark.parametrize("rate", [0.0, np.float64(0.3), 1.0])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_the_dtype_and_the_shape_are_kept(x64, rate, dtype):
    for shape in ((), (0, 3), (1,), (2, 3, 4)):
        out = dropout(jnp.ones(shape, dtype), rate, jax.random.key(0))
        assert (out.shape, out.dtype) == (shape, dtype)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_law_is_that_of_flax(rate):
    """Share kept, mean, variance and independence of 100,000 elements, within 4 standard errors; Flax's pass as well.

    With q = 1 - rate, an element is 1/q with probability q, else 0: variance rate / q. Neighbours, and the same element
    under another key, are kept together with probability q^2. Each layer has keys of its own.
    """
    q, n = 1 - rate, 100_000
    x = jnp.ones((200, n // 200))
    kept = {}
    for layer, seed in ((OurDropout(rate), 1), (FlaxDropout(rate), 2)):
        out = np.asarray(apply(layer, x, seed), np.float64)
        next_out = np.asarray(apply(layer, x, seed + 2), np.float64)
        mask, next_mask = out != 0, next_out != 0
        np.testing.assert_allclose(out[mask], 1 / q, rtol=1e-6)
        assert abs(mask.mean() - q) < 4 * np.sqrt(q * rate / n)
        assert abs(out.mean() - 1) < 4 * np.sqrt(rate / q / n)
        fourth = rate / q * (1 - 3 * q * rate) / q**2  # fourth central moment of an element
        assert abs(out.var() - rate / q) < 4 * np.sqrt((fourth - (rate / q) ** 2) / n) + 16 * rate / q / n
        for first, second in ((mask[:, :-1:2], mask[:, 1::2]), (mask[:-1:2], mask[1::2]), (mask, next_mask)):
            counts = np.bincount(2 * first.ravel() + second.ravel(), minlength=4)
            expected = first.size * np.array([rate * rate, rate * q, q * rate, q * q])
            assert stats.chisquare(counts, expected).pvalue > 1e-4
        kept[type(layer)] = mask.sum()
    ours, flaxs = kept.values()
    assert abs(ours - flaxs) < 4 * np.sqrt(2 * n * q * rate)


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
def test_values_and_gradients_are_those_of_flax_for_the_same_key(rate):
    x = jax.random.normal(jax.random.key(7), (5, 40))
    weights = jax.random.normal(jax.random.key(8), (5, 40))

    def value_and_gradient(layer):
        return jax.value_and_grad(lambda x: (apply(layer, x) * weights).sum())(x)

    for ours, flaxs in zip(value_and_gradient(OurDropout(rate)), value_and_gradient(FlaxDropout(rate)), strict=True):
        np.testing.assert_array_equal(ours, flaxs)


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_the_gradient_passes_the_same_mask_and_is_never_nan(rate):
    key = jax.random.key(0)
    gradient = jax.grad(lambda x: dropout(x, rate, key).sum())(X)  # X has a zero, which x / 0 would make NaN
    np.testing.assert_array_equal(gradient, dropout(jnp.ones_like(X), rate, key))


def test_the_layer_does_nothing_in_evaluation_and_needs_a_stream_in_training():
    np.testing.assert_array_equal(Dropout(0.5).apply({}, X), X)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, X, train=True), X)
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        Dropout(0.5).apply({}, X, train=True)
    assert Dropout(0.5).init(jax.random.key(0), X) == {}


def masks_of_steps(key_of_loss, steps=4):
    """What dropout kept in each step of `fit`: its loss is linear, so an SGD step moves the parameters by the mask."""

    def loss_fn(params, model_state, batch, key):
        losses = dropout(params, 0.5, key_of_loss(key))[None] * batch["x"]  # [1, 64]
        return training.Mean.of(losses.sum(1)), ({}, model_state)

    seen = [np.zeros(64)]
    optimizer = optax.sgd(1.0)
    state = training.init_state(lambda key: {"params": jnp.zeros(64)}, optimizer, jax.random.key(3))
    step = training.jit_step(training.make_step(training.sum_gradients(loss_fn), optimizer))
    training.fit(
        step,
        state,
        ListData([{"x": jnp.ones((1, 64))}]),
        epochs=steps,
        callbacks=[lambda state, history: bool(seen.append(np.asarray(state.params)))],
        progress=False,
    )
    return state, -np.diff(seen, axis=0) / 2


def test_fit_takes_another_mask_each_step():
    state, masks = masks_of_steps(lambda key: key)
    for step, mask in enumerate(masks):
        expected = dropout(jnp.ones(64), 0.5, jax.random.fold_in(state.key, step)) / 2
        np.testing.assert_array_equal(mask, expected)
    assert len(np.unique(masks, axis=0)) == 4


def test_a_key_that_does_not_change_drops_the_same_elements_for_ever():
    """The trap: half of the parameters are never trained."""
    _, masks = masks_of_steps(lambda key: jax.random.key(0))
    assert len(np.unique(masks, axis=0)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((jnp.arange(3), 0.5, jax.random.key(0)), "x: expected a floating dtype, got int32"),
        ((X, -0.1, jax.random.key(0)), r"rate: expected a number in \[0, 1\], got -0.1"),
        ((X, float("nan"), jax.random.key(0)), r"rate: expected a number in \[0, 1\], got nan"),
        ((X, 0.5, jax.random.PRNGKey(0)), "key: expected one typed key"),
        ((X, 0.5, jax.random.split(jax.random.key(0))), "key: expected one typed key"),
        ((X, 0.0, None), "key: expected one typed key"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        dropout(*arguments)


def test_a_wrong_rate_fails_at_construction():
    with pytest.raises(ValueError, match=r"rate: expected a number in \[0, 1\], got 1.5"):
        Dropout(1.5)
