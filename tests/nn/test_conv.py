"""Convolution layers take the place of Flax's; the transposed one is the book's and PyTorch's."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.nn.conv import Conv, ConvTranspose


@pytest.mark.parametrize(
    ("shape", "fields"),
    [
        ((2, 8, 9, 1), {"features": 6, "kernel_size": (5, 5)}),
        ((2, 8, 9, 4), {"features": 6, "kernel_size": (3, 2), "strides": (2, 1), "padding": ((1, 0), (2, 2))}),
        ((2, 8, 9, 4), {"features": 6, "kernel_size": [3, 3], "feature_group_count": 2, "use_bias": False}),
        ((2, 8, 9, 4), {"features": 6, "kernel_size": (3, 3), "padding": 1, "kernel_dilation": 2, "input_dilation": 2}),
        ((2, 8, 4), {"features": 6, "kernel_size": 3, "strides": 2, "padding": "VALID"}),
        ((8, 9, 4), {"features": 6, "kernel_size": (1, 1), "strides": 2}),  # one example
        ((2, 3, 8, 9, 4), {"features": 6, "kernel_size": (3, 3)}),  # two batch axes
        ((0, 8, 9, 4), {"features": 6, "kernel_size": (1, 1)}),
    ],
)
def test_it_takes_the_place_of_flaxs(x64, shape, fields):
    """Parameters by the same names with the same initial values, and the same outputs and gradients."""
    x = jax.random.normal(jax.random.key(0), shape)
    fields = {**fields, "param_dtype": jnp.float64, "bias_init": flax.linen.initializers.normal()}
    ours, theirs = Conv(**fields), flax.linen.Conv(**fields)
    variables = theirs.init(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(1), x), variables)

    def loss(layer, variables):
        y = layer.apply(variables, x)
        return (jnp.sin(y) * jnp.arange(y.size).reshape(y.shape)).sum(), y

    got, want = (jax.grad(lambda v, layer=layer: loss(layer, v), has_aux=True)(variables) for layer in (ours, theirs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), got, want)


def test_it_names_itself_as_flaxs_does():
    class Two(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x):
            return Conv(2, (3, 3))(Conv(2, (3, 3))(x))

    variables = jax.eval_shape(Two().init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
    assert set(variables["params"]) == {"Conv_0", "Conv_1"}


def test_half_precision_computes_in_half_and_keeps_parameters_in_float32():
    for layer in (Conv(4, (3, 3), dtype=jnp.bfloat16), ConvTranspose(4, (3, 3), dtype=jnp.bfloat16)):
        y, variables = layer.init_with_output(jax.random.key(0), jnp.ones((1, 5, 5, 2)))
        assert y.dtype == jnp.bfloat16
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def transposed(x, kernel, **fields):
    """One channel each."""
    layer = ConvTranspose(1, kernel.shape, use_bias=False, **fields)
    variables = {"params": {"kernel": jnp.asarray(kernel)[:, :, None, None]}}
    return layer.apply(variables, jnp.asarray(x)[None, :, :, None])[0, :, :, 0]


def test_transposed_convolution_is_the_books():
    x = np.arange(4.0).reshape(2, 2)
    np.testing.assert_array_equal(transposed(x, x), [[0, 0, 1], [0, 4, 6], [4, 12, 9]])
    np.testing.assert_array_equal(transposed(x, x, padding=1), [[4]])
    np.testing.assert_array_equal(transposed(x, x, strides=2), [[0, 0, 0, 1], [0, 0, 2, 3], [0, 2, 0, 3], [4, 6, 6, 9]])


def test_transposed_convolution_is_torchs():
    """torch.nn.functional.conv_transpose2d(x, w, stride=(2, 1), padding=(0, 1), dilation=(1, 2)), in NHWC."""
    x = jnp.array([[[[1.0, 0], [-2, 1]], [[3, 2], [0.5, -1]]]])
    weight = jnp.arange(-6.0, 6).reshape(2, 3, 1, 2) / 2  # [in, out, h, w]
    layer = ConvTranspose(3, (1, 2), strides=(2, 1), padding=(0, 1), kernel_dilation=(1, 2), use_bias=False)
    y = layer.apply({"params": {"kernel": weight.transpose(2, 3, 1, 0)}}, x)
    want = [[[[6, 5, 4], [-2.5, -1.5, -0.5]], [[0, 0, 0], [0, 0, 0]], [[-1.5, -2, -2.5], [-6.5, -1.5, 3.5]]]]
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("padding", [0, 2, (1, (0, 2)), 4])
def test_transposed_convolution_is_the_gradient_of_the_convolution(x64, padding):
    x = jax.random.normal(jax.random.key(0), (2, 9, 9, 3))
    conv = Conv(4, (3, 2), 2, padding, kernel_dilation=(1, 2), use_bias=False, param_dtype=jnp.float64)
    variables = conv.init(jax.random.key(1), x)
    y, transpose = jax.vjp(lambda x: conv.apply(variables, x), x)
    (want,) = transpose(y)
    back = ConvTranspose(3, (3, 2), 2, padding, kernel_dilation=(1, 2), use_bias=False)
    got = back.apply({"params": {"kernel": variables["params"]["kernel"].swapaxes(-1, -2).swapaxes(-1, -2)}}, y)
    np.testing.assert_allclose(got, want[:, : got.shape[1], : got.shape[2]], rtol=1e-12, atol=1e-12)
    assert (want[:, got.shape[1] :] == 0).all()  # pixels that the strides never reached


def test_transposed_convolution_has_flaxs_parameters():
    x = jnp.ones((2, 4, 4, 3))
    ours = ConvTranspose(5, (4, 4), strides=2, padding=1)
    theirs = flax.linen.ConvTranspose(5, (4, 4), strides=(2, 2), padding="SAME", transpose_kernel=True)
    variables = theirs.init(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(0), x), variables)
    np.testing.assert_allclose(ours.apply(variables, x), theirs.apply(variables, x), atol=1e-5)
    assert ours.apply(variables, x).shape == (2, 8, 8, 5)


@pytest.mark.parametrize("layer", [Conv, ConvTranspose])
@pytest.mark.parametrize("size", [(3, -1), (0, 3), (3.0, 3), (), 0])
def test_bad_kernel_sizes_fail_at_construction(layer, size):
    with pytest.raises(ValueError, match="kernel_size: expected a number of at least 1, or one for each axis"):
        layer(4, size)


def test_errors_name_the_argument():
    key, x = jax.random.key(0), jnp.ones((1, 4, 4, 3))
    for layer in (Conv, ConvTranspose):
        with pytest.raises(ValueError, match="features: expected at least 1, got 0"):
            layer(0, (3, 3))
        for bad in (x[0, 0], x.astype(jnp.int32)):
            with pytest.raises(ValueError, match=r"x: expected floating \[..., 2 spatial axes, channels\], got "):
                layer(2, (3, 3)).init(key, bad)
        with pytest.raises(ValueError, match="strides: expected a number or 2 numbers"):
            layer(2, (3, 3), strides=(1, 2, 3)).init(key, x)
    for groups in (0, 3):
        with pytest.raises(ValueError, match=rf"feature_group_count: expected a divisor of 4 features, got {groups}"):
            Conv(4, (3, 3), feature_group_count=groups)
    with pytest.raises(ValueError, match="feature_group_count: expected a divisor of the 3 input channels, got 2"):
        Conv(4, (3, 3), feature_group_count=2).init(key, x)
    with pytest.raises(ValueError, match=r"implementation: expected None or one of xla, .* got 'winograd'"):
        Conv(4, (3, 3), implementation="winograd")
    with pytest.raises(ValueError, match="'matmul' cannot do this convolution"):
        Conv(4, (3, 3), implementation="matmul").init(key, x)
    with pytest.raises(ValueError, match=r"padding: expected a number of at least 0, .* got 'SAME'"):
        ConvTranspose(4, (3, 3), padding="SAME").init(key, x)
    with pytest.raises(ValueError, match=r"padding: 3 leaves no pixel of an input of \[4, 4\]"):
        ConvTranspose(4, (3, 3), padding=3).init(key, x)
