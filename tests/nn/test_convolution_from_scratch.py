"""Convolution from scratch: the book's numbers, loops against XLA, adjoints against autodiff."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.nn.convolution import convolution
from jaxdl.nn.convolution_from_scratch import (
    conv2d_im2col,
    conv2d_input_adjoint,
    conv2d_kernel_adjoint,
    conv2d_matmul,
    conv2d_naive,
    corr2d,
    strided_patches,
)

FORMS = [conv2d_naive, conv2d_matmul, conv2d_im2col]
IMAGE = np.arange(9.0).reshape(3, 3)
KERNEL = np.arange(4.0).reshape(2, 2)


def images(*planes):
    """Planes in the book's order, channels first, as one NHWC image."""
    return jnp.stack([jnp.asarray(plane) for plane in planes], -1)[None]


def test_corr2d_is_the_books():
    np.testing.assert_array_equal(corr2d(jnp.asarray(IMAGE), jnp.asarray(KERNEL)), [[19, 25], [37, 43]])


def test_an_edge_detector_sees_vertical_edges_only():
    x = jnp.ones((6, 8)).at[:, 2:6].set(0)
    kernel = jnp.array([[1.0, -1.0]])
    np.testing.assert_array_equal(corr2d(x, kernel), np.tile([0, 1, 0, 0, 0, -1, 0], (6, 1)))
    np.testing.assert_array_equal(corr2d(x.T, kernel), np.zeros((8, 5)))


def test_a_kernel_is_learned_from_its_output():
    """Ten steps of 0.03 on the sum of squares from zeros (D2L 7.2.4): losses and kernel to the digits given there."""
    x = jnp.ones((6, 8)).at[:, 2:6].set(0)
    target = corr2d(x, jnp.array([[1.0, -1.0]]))
    step = jax.jit(jax.value_and_grad(lambda kernel: ((corr2d(x, kernel) - target) ** 2).sum()))
    kernel, losses = jnp.zeros((1, 2)), []
    for _ in range(10):
        loss, gradient = step(kernel)
        losses.append(float(loss))
        kernel = kernel - 0.03 * gradient
    np.testing.assert_allclose(losses[:3], [12, 4.9152, 2.01327], rtol=1e-5)
    np.testing.assert_allclose(losses[-1], 0.00389, rtol=2e-3)
    np.testing.assert_allclose(kernel, [[0.98847, -0.98847]], atol=5e-6)


@pytest.mark.parametrize("form", FORMS)
def test_channels_are_the_books(form):
    """Two input channels, then three output channels of kernels K, K + 1 and K + 2 (D2L 7.4)."""
    x = images(IMAGE, IMAGE + 1)
    kernel = np.stack([KERNEL, KERNEL + 1], -1)[..., None]  # [2, 2, in 2, out 1]
    np.testing.assert_array_equal(form(x, jnp.asarray(kernel, x.dtype))[0, :, :, 0], [[56, 72], [104, 120]])
    kernels = jnp.asarray(np.concatenate([kernel, kernel + 1, kernel + 2], -1), x.dtype)
    want = [[[56, 72], [104, 120]], [[76, 100], [148, 172]], [[96, 128], [192, 224]]]
    np.testing.assert_array_equal(np.asarray(form(x, kernels))[0].transpose(2, 0, 1), want)


@pytest.mark.parametrize("form", FORMS)
def test_shapes_are_the_books(form):
    x = jnp.ones((1, 8, 8, 1))
    for size, options, want in [
        ((3, 3), {"padding": 1}, (8, 8)),
        ((5, 3), {"padding": (2, 1)}, (8, 8)),
        ((3, 3), {"padding": 1, "strides": 2}, (4, 4)),
        ((3, 5), {"padding": (0, 1), "strides": (3, 4)}, (2, 2)),
    ]:
        assert form(x, jnp.ones((*size, 1, 1)), **options).shape == (1, *want, 1)


def test_one_by_one_is_a_matrix_product():
    x, kernel = jax.random.normal(jax.random.key(0), (1, 3, 3, 3)), jax.random.normal(jax.random.key(1), (1, 1, 3, 2))
    for form in FORMS:
        np.testing.assert_allclose(form(x, kernel), jnp.tensordot(x, kernel[0, 0], 1), atol=1e-6)


@st.composite
def problems(draw):
    number = partial(st.integers, 1)
    groups = draw(number(3))
    options = {
        "strides": (draw(number(3)), draw(number(2))),
        "padding": draw(st.sampled_from(["SAME", "VALID", 0, 4, (1, (0, 2))])),  # 4: wider than the window
        "kernel_dilation": (draw(number(2)), draw(number(2))),
        "feature_group_count": groups,
    }
    size = draw(number(3)), draw(number(2))
    image = draw(st.integers(5, 7)), draw(st.integers(3, 6))
    return (2, *image, groups * draw(number(2))), size, groups * draw(number(2)), options


@settings(max_examples=15, deadline=None)
@given(problems())
def test_all_forms_and_both_adjoints_agree(problem):
    x_shape, size, features, options = problem
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = rng.normal(size=x_shape)
        kernel = rng.normal(size=(*size, x_shape[-1] // options["feature_group_count"], features))

        @jax.jit
        def compute(x, kernel):
            y, transpose = jax.vjp(partial(convolution, implementation="xla", **options), x, kernel)
            cotangent = jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
            ours = (
                conv2d_input_adjoint(cotangent, kernel, x.shape[1:3], **options),
                conv2d_kernel_adjoint(x, cotangent, kernel.shape[:2], **options),
            )
            return (
                y,
                conv2d_matmul(x, kernel, **options),
                conv2d_im2col(x, kernel, **options),
                transpose(cotangent),
                ours,
            )

        want, *got, gradients, adjoints = compute(x, kernel)
        for y in (conv2d_naive(x, kernel, **options), *got):
            np.testing.assert_allclose(y, want, rtol=1e-12, atol=1e-12)
        for ours, theirs in zip(adjoints, gradients, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_patches_are_a_view_and_their_product_the_convolution(x64):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 7, 6, 3)), rng.normal(size=(3, 2, 3, 4))
    patches = strided_patches(x, (3, 2), strides=2, kernel_dilation=(1, 2))
    assert np.shares_memory(patches, x)
    assert patches.shape == (2, 3, 2, 3, 2, 3)
    want = conv2d_naive(x, kernel, strides=2, kernel_dilation=(1, 2))
    np.testing.assert_allclose(np.einsum("bxyijc,ijco->bxyo", patches, kernel), want, rtol=1e-12, atol=1e-13)
    padded = strided_patches(x, (3, 3), padding="SAME")
    np.testing.assert_array_equal(padded[:, :, :, 1, 1], x)
    with pytest.raises(ValueError, match="read-only"):
        patches[0] = 0


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"x, kernel: expected \[height, width\] and \[h, w\], got \[3\] and \[2, 2\]"):
        corr2d(jnp.ones(3), jnp.ones((2, 2)))
    with pytest.raises(ValueError, match=r"a window that spans \[4, 1\] pixels does not fit into an image of \[3, 3\]"):
        corr2d(jnp.ones((3, 3)), jnp.ones((4, 1)))
    x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2))
    for form in FORMS:
        with pytest.raises(ValueError, match=r"x: expected \[batch, height, width, in\], got \[1, 4, 2\]"):
            form(x[:, 0], kernel[0])
        with pytest.raises(ValueError, match="1 groups of 1 input channels do not fit x with 2"):
            form(x, kernel[:, :, :1])
    with pytest.raises(ValueError, match=r"cotangent: expected \[batch, 2, 2, 2\], got \[1, 4, 4, 2\]"):
        conv2d_input_adjoint(x, kernel, (4, 4))
    with pytest.raises(ValueError, match=r"cotangent: expected \[batch, 2, 2, 2\], got \[1, 4, 4, 2\]"):
        conv2d_kernel_adjoint(x, x, (3, 3))
    with pytest.raises(ValueError, match=r"x: expected \[batch, height, width, channels\], got \[4, 4, 2\]"):
        strided_patches(np.ones((4, 4, 2)), (3, 3))
