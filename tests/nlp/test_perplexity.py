"""Perplexity: its bounds, and that batches merge."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from jaxdl.nlp import Perplexity, perplexity
from jaxdl.training import merge_metrics


def test_its_bounds():
    labels = jnp.array([0, 3, 27])
    assert perplexity(nn.cross_entropy(jnp.zeros((3, 28)), labels)) == pytest.approx(28, rel=1e-6)
    assert perplexity(nn.cross_entropy(jnp.eye(28)[labels] * 1e3, labels)) == 1
    assert perplexity(-jnp.log(jnp.array([0.5, 0.125]))) == pytest.approx(4, rel=1e-6)


def test_batches_merge_and_masks_count():
    losses = np.random.default_rng(0).exponential(size=(2, 5))
    mask = np.array([[1, 1, 1, 1, 0], [1, 0, 0, 0, 0]])
    parts = [Perplexity.of(jnp.asarray(losses[i]), jnp.asarray(mask[i])) for i in range(2)]
    expected = np.exp(losses[mask == 1].mean())
    assert merge_metrics(*parts).compute() == pytest.approx(expected, rel=1e-6)
    assert perplexity(jnp.asarray(losses), jnp.asarray(mask)) == pytest.approx(expected, rel=1e-6)
    assert not np.isclose(np.mean([part.compute() for part in parts]), expected, rtol=1e-2)


def test_sums_of_the_host_stay_float64():
    value = Perplexity(np.float64(1e8 + 0.25), np.float64(1e8)).compute()
    assert isinstance(value, np.float64)
    assert value == np.exp((1e8 + 0.25) / 1e8)


def test_bad_input():
    assert np.isnan(perplexity(jnp.zeros(0)))
    with pytest.raises(ValueError, match="mask: expected the shape of values"):
        perplexity(jnp.zeros((2, 3)), jnp.ones(2))
    with pytest.raises(ValueError, match="values: expected a floating dtype"):
        perplexity(jnp.zeros(3, int))
