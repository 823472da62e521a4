"""LeNet: its shapes (D2L 7.6), its parameters, what it refuses."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from jaxdl.vision import LeNet


def test_shapes_and_parameters_are_the_books():
    layers = [layer for layer in nn.layer_shapes(LeNet(), (1, 28, 28, 1)) if layer.path]
    assert [(layer.input_shape, layer.output_shape) for layer in layers] == [
        ((1, 28, 28, 1), (1, 28, 28, 6)),
        ((1, 14, 14, 6), (1, 10, 10, 16)),  # 14: after the first pooling
        ((1, 400), (1, 120)),  # 400 = 5 * 5 * 16, after the second
        ((1, 120), (1, 84)),
        ((1, 84), (1, 10)),
    ]
    variables = jax.eval_shape(LeNet().init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    assert nn.parameter_count(variables) == 61_706


@pytest.mark.parametrize("recipe", ["modern", "book"])
def test_it_is_the_formula(x64, recipe):
    """Against convolution and pooling written as loops over windows in NumPy."""
    fields = {"activation": jax.nn.sigmoid, "pool": flax.linen.avg_pool} if recipe == "book" else {}
    sigma = (lambda x: 1 / (1 + np.exp(-x))) if recipe == "book" else (lambda x: np.maximum(x, 0))
    reduce = np.mean if recipe == "book" else np.max
    model = LeNet(3, **fields)
    images = jax.random.normal(jax.random.key(1), (2, 12, 14, 2))
    variables = jax.tree.map(lambda p: p.astype(jnp.float64), model.init(jax.random.key(0), images))
    layers = jax.tree.map(np.asarray, variables["params"])

    def conv(x, layer):
        windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(1, 2))  # [b, h, w, c, 5, 5]
        return np.einsum("bhwcij,ijco->bhwo", windows, layer["kernel"]) + layer["bias"]

    def pool(x):
        b, h, w, c = x.shape
        return reduce(reduce(x.reshape(b, h // 2, 2, w // 2, 2, c), axis=4), axis=2)

    x = np.pad(np.asarray(images), ((0, 0), (2, 2), (2, 2), (0, 0)))
    x = pool(sigma(conv(x, layers["Conv_0"])))
    x = conv(x, layers["Conv_1"])
    x = pool(sigma(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2])).reshape(2, -1)
    for name in ("Dense_0", "Dense_1"):
        x = sigma(x @ layers[name]["kernel"] + layers[name]["bias"])
    want = x @ layers["Dense_2"]["kernel"] + layers["Dense_2"]["bias"]
    np.testing.assert_allclose(model.apply(variables, images), want, rtol=1e-10)


def test_half_precision_computes_in_half_and_keeps_parameters_in_float32():
    out, variables = jax.eval_shape(
        LeNet(dtype=jnp.bfloat16).init_with_output, jax.random.key(0), jnp.zeros((0, 28, 28, 3))
    )
    assert (out.shape, out.dtype) == ((0, 10), jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="num_classes: expected at least 1, got 0"):
        LeNet(0)
    for shape in ((28, 28, 1), (1, 8, 8, 1)):
        with pytest.raises(ValueError, match=r"images: expected \[batch, height, width, channels\], at least 12 x 12"):
            jax.eval_shape(LeNet().init, jax.random.key(0), jnp.zeros(shape))
