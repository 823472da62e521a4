"""Ids of few bits are the ids they are, also beside a vocabulary that such a type does not hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxdl import nn as layers
from jaxdl.nlp import RNNLanguageModel
from jaxdl.nlp.token_ids import check_lengths, embed, widen


@pytest.mark.parametrize("vocab_size", [256, 300])
def test_narrow_ids_are_wide_ids(vocab_size):
    """As a uint8 a vocabulary of 256 is 0, and one of 300 is 44."""
    table = nn.Embed(vocab_size, 1)
    variables = {"params": {"embedding": jnp.arange(float(vocab_size))[:, None]}}
    wide = np.array([[0, 43, 44, 127, 200, 255]], np.int32)
    expected = table.apply(variables, wide)
    bound = table.bind(variables)
    np.testing.assert_array_equal(embed(bound, jnp.asarray(wide, jnp.uint8)), expected)
    np.testing.assert_array_equal(embed(bound, jnp.asarray(wide[:, :4], jnp.int8)), expected[:, :4])
    one_hot = RNNLanguageModel(vocab_size, layers.RNN(2))
    shapes = jax.eval_shape(one_hot.init, jax.random.key(0), wide)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes)
    logits = one_hot.apply(variables, wide)[0]
    assert np.isfinite(logits).all()
    np.testing.assert_array_equal(one_hot.apply(variables, jnp.asarray(wide, jnp.uint8))[0], logits)


def test_negative_ids_of_few_bits_are_still_outside():
    table = nn.Embed(300, 2)
    bound = table.bind({"params": {"embedding": jnp.ones((300, 2))}})
    assert np.isnan(embed(bound, jnp.array([[-1, -128]], jnp.int8))).all()
    assert widen(np.array([255], np.uint8)).dtype == jnp.int32


def test_lengths():
    found = check_lengths("lengths", [0, 2], 2, 300)
    np.testing.assert_array_equal(found, [0, 2])
    assert check_lengths("lengths", np.array([255], np.uint8), 1, 300).dtype == jnp.int32
    with pytest.raises(ValueError, match=r"source_length: expected integers \[2\], got int64\[1\]"):
        check_lengths("source_length", [1], 2, 3)
    with pytest.raises(ValueError, match=r"source_length: expected numbers in \[1, 3\], the padded size; got 4"):
        check_lengths("source_length", [1, 4], 2, 3, least=1)
