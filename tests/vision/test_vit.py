"""The vision transformer: the book's count and shapes, and what a patch is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

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
    variables = jax.jit(model.init)(jax.random.key(0), images)

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


def test_logits_are_those_of_the_equations(x64):
    """Against NumPy in float64 (Dosovitskiy et al., equations 1 to 4), every parameter at random."""
    model = ViT(5, patch_size=2, features=8, hidden_size=12, num_heads=2, num_blocks=2, use_bias=True)
    random = np.random.default_rng(0)
    images = random.normal(size=(3, 4, 6, 2))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), shapes)
    params = variables["params"]

    def dense(x, p):
        return x @ p["kernel"] + p["bias"]

    def norm(x, p):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]

    def attend(x, p):
        q, k, v = (dense(x, p[name]).reshape(3, 7, 2, 4) for name in ("query", "key", "value"))
        scores = np.einsum("bqhd,bkhd->bhqk", q, k) / 2
        return dense(np.einsum("bhqk,bkhd->bqhd", scipy.special.softmax(scores, -1), v).reshape(3, 7, 8), p["out"])

    def gelu(x):
        return x * scipy.stats.norm.cdf(x)

    patches = images.reshape(3, 2, 2, 3, 2, 2).swapaxes(2, 3).reshape(3, 6, 8)  # [batch, patches, pixels * channels]
    x = patches @ params["patches"]["kernel"].reshape(8, 8) + params["patches"]["bias"]
    x = np.concatenate([np.broadcast_to(params["class_token"], (3, 1, 8)), x], 1) + params["positions"]["embedding"]
    for i in range(2):
        p = jax.tree.map(lambda stacked, i=i: stacked[i], params["encoder"]["blocks"])
        x = x + attend(norm(x, p["attention_norm"]), p["attention"])
        hidden = gelu(dense(norm(x, p["feed_forward_norm"]), p["feed_forward"]["hidden"]))
        x = x + dense(hidden, p["feed_forward"]["out"])
    want = dense(norm(x[:, 0], params["norm"]), params["head"])
    np.testing.assert_allclose(model.apply(variables, images), want, rtol=1e-10)


def test_only_positions_tell_where_a_patch_is(x64):
    """Patches in another order give the same logits if their positions move along, and others if they stay."""
    model = ViT(5, patch_size=2, features=8, hidden_size=8, num_heads=2, num_blocks=1)
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 1))
    params = jax.jit(model.init)(jax.random.key(0), images)["params"]
    table = params["positions"]["embedding"]
    upside_down = images.reshape(2, 2, 2, 4, 1)[:, ::-1].reshape(images.shape)  # the two rows of patches
    moved = {**params, "positions": {"embedding": table[jnp.array([0, 3, 4, 1, 2])]}}
    want = model.apply({"params": params}, images)
    np.testing.assert_allclose(model.apply({"params": moved}, upside_down), want, rtol=1e-10)
    assert np.abs(model.apply({"params": params}, upside_down) - want).max() > 1e-4


def test_dtype_and_shape():
    model = ViT(5, patch_size=4, features=8, hidden_size=8, num_heads=2, dtype=jnp.bfloat16)
    images = jnp.ones((2, 8, 8, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    logits = model.apply(variables, images, train=True, rngs={"dropout": jax.random.key(1)})
    assert logits.shape == (2, 5)
    assert logits.dtype == jnp.bfloat16
    assert model.apply(variables, images[:0]).shape == (0, 5)
    with jax.enable_x64(True):
        shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("patch_size: expected at least 1", lambda: ViT(patch_size=0)),
        ("dropout_rate: expected a number in", lambda: ViT(dropout_rate=2.0)),
        ("images: expected whole patches of 16", lambda: ViT().init(jax.random.key(0), jnp.ones((1, 28, 28, 1)))),
        ("images: expected at least 16 x 16", lambda: ViT().init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))),
        ("num_heads: expected a divisor of 10", lambda: ViT(features=10)),
        (
            "images: expected a floating dtype, got uint8",
            lambda: ViT(patch_size=2).init(jax.random.key(0), jnp.ones((1, 8, 8, 1), jnp.uint8)),
        ),
    ],
)
def test_errors(message, call):
    with pytest.raises(ValueError, match=message):
        call()


def test_images_of_another_size_are_refused():
    model = ViT(5, patch_size=2, features=8, hidden_size=8, num_heads=2, num_blocks=1)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
    with pytest.raises(ValueError, match=r"images: expected the 4 patches of the parameters, got \[1, 4, 6, 1\]"):
        model.apply(variables, jnp.zeros((1, 4, 6, 1)))
