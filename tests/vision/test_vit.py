"""The vision transformer: the book's count and shapes, and what a patch is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from jaxdl.vision import ViT


def test_the_book_has_6457866_parameters():
    """D2L 11.8: ViT(96, 16, 512, 2048, 8 heads, 2 blocks), one channel, no biases in the attention."""
    images = jax.ShapeDtypeStruct((1, 96, 96, 1), jnp.float32)
    variables = jax.eval_shape(ViT().init, jax.random.key(0), images)
    assert nn.parameter_count(variables) == 6_457_866
    assert variables["params"]["positions"]["embedding"].shape == (37, 512)


def test_patches_are_read_row_by_row():
    """Pixels of one patch change that patch's token and no other, in the order of rows."""
    model = ViT(patch_size=2, features=8, hidden_size=8, num_heads=2, num_blocks=1)
    images = jnp.zeros((1, 4, 6, 1))
    variables = model.init(jax.random.key(0), images)

    def tokens(images):
        _, found = model.apply(
            variables,
            images,
            capture_intermediates=lambda module, _: module.name == "patches",
            mutable=["intermediates"],
        )
        return found["intermediates"]["patches"]["__call__"][0].reshape(-1, 8)

    changed = np.abs(tokens(images.at[0, 3, 2].set(1.0)) - tokens(images)).sum(-1) > 0
    np.testing.assert_array_equal(changed, [False, False, False, False, True, False])


def test_dtype_and_shape():
    model = ViT(5, patch_size=4, features=8, hidden_size=8, num_heads=2, dtype=jnp.bfloat16)
    images = jnp.ones((2, 8, 8, 3))
    variables = model.init(jax.random.key(0), images)
    logits = model.apply(variables, images, train=True, rngs={"dropout": jax.random.key(1)})
    assert logits.shape == (2, 5)
    assert logits.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("patch_size: expected at least 1", lambda: ViT(patch_size=0)),
        ("dropout_rate: expected a number in", lambda: ViT(dropout_rate=2.0)),
        ("images: expected whole patches of 16", lambda: ViT().init(jax.random.key(0), jnp.ones((1, 28, 28, 1)))),
        ("images: expected at least 16 x 16", lambda: ViT().init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))),
        (
            "num_heads: expected a divisor of 10",
            lambda: ViT(features=10).init(jax.random.key(0), jnp.ones((1, 16, 16, 1))),
        ),
    ],
)
def test_errors(message, call):
    with pytest.raises(ValueError, match=message):
        call()
