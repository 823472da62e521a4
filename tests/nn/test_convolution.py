"""Every formulation of the convolution is XLA's, with its gradients; only a CPU takes any other than XLA's."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.nn.convolution import XLA_IN_ORDER, choose, convolution
from jaxdl.nn.convolution_formulations import FORMS
from jaxdl.nn.convolution_window import make_window

CASES = {  # the rows of the table: shapes of the image and the kernel, options
    "grouped": ((2, 6, 6, 32), (3, 3, 16, 32), {"feature_group_count": 2}),
    "depthwise": ((2, 5, 5, 33), (3, 3, 1, 66), {"feature_group_count": 33}),
    "one pixel": ((2, 5, 4, 3), (1, 1, 3, 4), {"strides": 2}),
    "one channel": ((2, 9, 8, 1), (5, 5, 1, 6), {"padding": 2}),
    "few channels": ((2, 9, 8, 6), (5, 5, 6, 4), {"padding": ((1, 0), (2, 1))}),
    "small image": ((2, 5, 4, 128), (3, 3, 128, 8), {"padding": 1}),
    "many channels": ((1, 20, 20, 32), (3, 3, 32, 8), {}),
    "strided": ((1, 12, 12, 1), (7, 7, 1, 4), {"strides": 2, "padding": 3}),
}
XLAS = {"many channels", "strided"}


def lax_convolution(x, kernel, strides=1, padding="SAME", kernel_dilation=1, input_dilation=1, feature_group_count=1):
    """XLA's, called without the library's help."""

    def pair(value):
        return (value, value) if isinstance(value, int) else tuple(value)

    if not isinstance(padding, str):
        padding = [pair(side) for side in pair(padding)]
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        pair(strides),
        padding,
        lhs_dilation=pair(input_dilation),
        rhs_dilation=pair(kernel_dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=feature_group_count,
    )


def arrays(x_shape, kernel_shape, dtype=jnp.float64):
    keys = jax.random.split(jax.random.key(0))
    return [
        jax.random.normal(key, shape).astype(dtype) for key, shape in zip(keys, (x_shape, kernel_shape), strict=True)
    ]


def value_and_gradients(fn, x, kernel):
    y, transpose = jax.vjp(fn, x, kernel)
    return y, *transpose(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))


def assert_equal(got, want, tolerance=1e-10):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max(initial=0)))


@st.composite
def problems(draw):
    """An implementation or None, shapes that fit each other, and options that implementation can do."""
    implementation = draw(st.sampled_from([None, *FORMS]))
    numbers = partial(st.integers, 1)
    groups = draw(numbers(3)) if implementation not in ("toeplitz", "four_columns") else 1
    size = (1, 1) if implementation == "matmul" else (draw(numbers(4)), draw(numbers(4)))
    options = {
        "strides": draw(st.one_of(numbers(3), st.tuples(numbers(3), numbers(3)))),
        "kernel_dilation": draw(st.one_of(numbers(2), st.tuples(numbers(2), numbers(3)))),
        "input_dilation": draw(numbers(2)),
        "feature_group_count": groups,
    }
    spans = [(k - 1) * 3 + 1 for k in size]  # an image at least as large fits with any of the dilations
    image = [span + draw(st.integers(0, 4)) for span in spans]
    side = st.integers(0, 3)
    numbers_or_pairs = st.one_of(side, st.tuples(side, st.tuples(side, side)))
    named = st.sampled_from(["SAME", "VALID"])
    options["padding"] = draw(named | numbers_or_pairs if options["input_dilation"] == 1 else numbers_or_pairs)
    channels, features = draw(numbers(3)), draw(numbers(3))
    shapes = (draw(st.integers(0, 2)), *image, groups * channels), (*size, channels, groups * features)
    return implementation, *shapes, options


@settings(max_examples=40, deadline=None)
@given(problems())
def test_value_and_both_gradients_are_xlas(problem):
    implementation, x_shape, kernel_shape, options = problem
    with jax.enable_x64(True):
        args = arrays(x_shape, kernel_shape)
        ours = partial(convolution, implementation=implementation, **options)
        compare = jax.jit(
            lambda *args: [value_and_gradients(fn, *args) for fn in (ours, partial(lax_convolution, **options))]
        )
        assert_equal(*compare(*args))


@pytest.mark.parametrize("implementation", [name for name in FORMS if name != "matmul"])
def test_a_form_named_does_every_option(x64, implementation):
    options = {"strides": (1, 2), "padding": ((2, 0), (1, 3)), "kernel_dilation": (3, 2), "input_dilation": (2, 1)}
    args = arrays((2, 5, 7, 2), (2, 3, 2, 3))
    got = value_and_gradients(partial(convolution, implementation=implementation, **options), *args)
    assert_equal(got, value_and_gradients(partial(lax_convolution, **options), *args))


@pytest.mark.parametrize("case", CASES)
def test_what_the_table_picks_is_xlas_in_reverse_and_in_forward_mode(x64, case):
    *shapes, options = CASES[case]
    args = arrays(*shapes)

    @partial(jax.jit, static_argnums=0)
    def everything(fn, x, kernel):
        fn = partial(fn, **options)
        along_both = jax.jvp(fn, (x, kernel), (jnp.sin(x), jnp.cos(kernel)))
        along_x = jax.jvp(lambda x: fn(x, kernel), (x,), (jnp.sin(x),))
        return value_and_gradients(fn, x, kernel), along_both, along_x

    assert_equal(everything(convolution, *args), everything(lax_convolution, *args))


def test_second_derivatives(x64):
    x, kernel = arrays((1, 5, 5, 1), (3, 3, 1, 2))

    def penalised(fn, x, kernel):
        return (jax.grad(lambda x: (fn(x, kernel) ** 3).sum())(x) ** 2).sum()

    got, want = (jax.grad(partial(penalised, fn), (0, 1))(x, kernel) for fn in (convolution, lax_convolution))
    assert_equal(got, want)
    hessian = jax.hessian(lambda kernel: (convolution(x, kernel) ** 2).sum())(kernel)
    assert_equal(hessian, jax.hessian(lambda kernel: (lax_convolution(x, kernel) ** 2).sum())(kernel))


@pytest.mark.parametrize("wrap", ["vmap", "vmap of kernels", "pmap", "shard_map", "remat", "scan"])
@pytest.mark.parametrize("case", ["few channels", "grouped"])
def test_transformations(x64, case, wrap):
    *shapes, options = CASES[case]
    x, kernel = arrays(*shapes)
    xs, kernels = jnp.stack([x, x + 1]), jnp.stack([kernel, kernel * 2])
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec

    def loss(fn, xs, kernels):
        fn = partial(fn, **options)
        mapped = {
            "vmap": lambda: jax.vmap(fn, (0, None))(xs, kernel * kernels[0]),
            "vmap of kernels": lambda: jax.vmap(fn)(xs, kernels),
            "pmap": lambda: jax.pmap(fn, in_axes=(0, None))(xs, kernel * kernels[0]),
            "shard_map": lambda: jax.shard_map(
                jax.vmap(fn, (0, None)), mesh=mesh, in_specs=(spec("data"), spec()), out_specs=spec("data")
            )(xs, kernel * kernels[0]),
            "remat": lambda: jax.checkpoint(fn)(xs[0], kernels[0]),
            "scan": lambda: jax.lax.scan(lambda c, a: (c, fn(*a)), 0, (xs, kernels))[1],
        }[wrap]()
        return (mapped**2).sum()

    grads = [jax.grad(partial(loss, fn), (0, 1))(xs, kernels) for fn in (convolution, lax_convolution)]
    assert_equal(*grads)


@pytest.mark.parametrize("implementation", [None, *FORMS])
def test_bfloat16_sums_in_float32(implementation):
    """400 products of 1 with 1: bfloat16 alone stops counting at 256."""
    kernel = (1, 1, 400, 2) if implementation == "matmul" else (10, 10, 4, 2)
    x = jnp.ones((1, 10, 10, kernel[2]), jnp.bfloat16)
    y = convolution(x, jnp.ones(kernel, jnp.bfloat16), padding="VALID", implementation=implementation)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y[0, 0, 0].astype(jnp.float32), [400, 400])


def operations(lowered):
    names = re.findall(r"stablehlo\.(\w+)", lowered)
    return {name for name in names if name not in {"case", "return", "constant", "broadcast_in_dim"}}


@pytest.mark.parametrize("case", CASES)
def test_only_a_cpu_takes_a_special_path(case):
    *shapes, options = CASES[case]
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]

    def lowered(fn, platform):
        traced = jax.jit(lambda *args: value_and_gradients(partial(fn, **options), *args)).trace(*args)
        return operations(traced.lower(lowering_platforms=(platform,)).as_text())

    for platform in ("cuda", "tpu"):
        assert lowered(convolution, platform) == lowered(lax_convolution, platform)
    special = lowered(convolution, "cpu") - lowered(lax_convolution, "cpu")
    special -= {"transpose", "optimization_barrier", "reshape", "reverse"}  # they bring XLA's own into native order
    assert bool(special) == (case not in XLAS)


@pytest.mark.parametrize(
    ("x", "kernel", "options", "convolutions"),
    [
        (*CASES["grouped"], 3),
        (*CASES["depthwise"], 3),
        (*CASES["one channel"], 3),
        (*CASES["few channels"], 3),
        (*CASES["small image"], 2),  # its gradient of x is one product
        (*CASES["many channels"], 3),
        (*CASES["strided"], 3),
        ((1, 5, 5), (3, 5, 4), {"kernel_dilation": 2, "padding": 3}, 3),
    ],
)
def test_gradients_are_convolutions_in_native_order(x, kernel, options, convolutions):
    """In the body of a loop XLA on a CPU runs any other order a hundred times slower."""
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (x, kernel)]
    gradients = jax.grad(lambda *args: (convolution(*args, **options) ** 2).sum(), (0, 1))
    orders = re.findall(r"dim_numbers = (\S.*?), window", jax.jit(gradients).lower(*args).as_text())
    native = re.compile(r"\[b, ([01, ]+), f\]x\[\1, i, o\]->\[b, \1, f\]")
    assert len(orders) == convolutions
    assert all(native.fullmatch(order) for order in orders), orders


@pytest.mark.parametrize(("image", "channels", "padding"), [((6, 6), 1, 2), ((8, 20), 6, 0)])
def test_a_form_whose_kernel_is_larger_than_its_image_is_left_to_xla(image, channels, padding):
    """XLA exchanges them, and then takes up to 70 times as long: four shifted copies in a row, or taps over rows."""
    for more, wins in ((0, False), (1, True)):  # one row more suffices
        shape = (image[0] + more, image[1])
        window = make_window(shape, (5, 5), padding=padding)
        assert (choose((8, *shape, channels), (5, 5, channels, 8), window, jnp.float32) != XLA_IN_ORDER) == wins


@pytest.mark.parametrize(("pixels", "taps", "onednn", "wins"), [(6, 3, 0, 1), (7, 3, 0, 0), (6, 5, 0, 0), (6, 3, 1, 0)])
def test_patches_are_for_tiny_images_and_kernels(monkeypatch, pixels, taps, onednn, wins):
    monkeypatch.setattr("jaxdl.cpu.convolutions_by_onednn", lambda: bool(onednn))
    window = make_window((pixels, pixels), (taps, taps), padding="SAME")
    choice = choose((8, pixels, pixels, 128), (taps, taps, 128, 8), window, jnp.float32)
    assert choice.input_gradient == ("im2col" if wins else "xla_for_x")


def test_zeros_between_groups_are_for_few_channels():
    """Their products grow with the square of the channels."""
    window = make_window((6, 6), (3, 3), groups=8)
    assert choose((8, 6, 6, 128), (3, 3, 16, 8), window, jnp.float32).output == "block_diagonal"
    assert choose((8, 6, 6, 136), (3, 3, 17, 8), window, jnp.float32) == XLA_IN_ORDER


@pytest.mark.parametrize("case", [case for case in CASES if case != "one pixel"])
def test_under_onednn_the_output_is_its(monkeypatch, case):
    """No form is worth its compile time then; what oneDNN does not compute well is the gradient of the kernel."""
    x, kernel, options = CASES[case]
    options = {name: value for name, value in options.items() if name != "feature_group_count"}
    window = make_window(x[1:3], kernel[:2], **{"padding": "SAME", **options}, groups=x[-1] // kernel[2])
    monkeypatch.setattr("jaxdl.cpu.convolutions_by_onednn", lambda: True)
    choice = choose(x, kernel, window, jnp.float32)
    assert choice.output == "xla"
    assert choice.kernel_gradient == ("xla_for_kernel" if case == "grouped" else "xla_cropped")
    assert choose(x, kernel, window, jnp.float64).kernel_gradient != "xla_cropped"


def test_no_form_is_made_of_a_large_kernel():
    """Of 2,000 x 2,000 taps no trace would come back, and with zeros between the groups they fill the memory."""
    for channels, groups in ((1, 1), (4, 1), (33, 33)):
        x = jax.ShapeDtypeStruct((1, 1000, 1000, channels), jnp.float32)
        kernel = jax.ShapeDtypeStruct((2000, 2000, channels // groups, channels), jnp.float32)
        fn = partial(convolution, feature_group_count=groups)
        assert "conv_general_dilated" in str(jax.make_jaxpr(fn)(x, kernel)).split("cond")[0]


def test_one_exported_program_holds_the_path_of_each_platform():
    *shapes, options = CASES["few channels"]
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    grad = jax.jit(jax.grad(lambda *args: convolution(*args, **options).sum()))
    exported = jax.export.export(grad, platforms=("cpu", "cuda"))(*args)
    x, kernel = arrays(*shapes, jnp.float32)
    assert_equal(
        exported.call(x, kernel), jax.grad(lambda *args: lax_convolution(*args, **options).sum())(x, kernel), 1e-5
    )


def test_residuals_are_the_arguments():
    """What a formulation makes of them is made again, so a scan of layers stacks no patches."""
    for case in ("one channel", "few channels", "small image", "grouped"):
        *shapes, options = CASES[case]
        _, transpose = jax.vjp(partial(convolution, **options), *arrays(*shapes, jnp.float32))
        kept = [leaf.shape for leaf in jax.tree.leaves(transpose)]
        assert sorted(shape for shape in kept if len(shape) == 4) == sorted(shapes)  # the others are constants


def test_other_numbers_of_axes_are_xlas(x64):
    for rank in (1, 3):
        x, kernel = arrays((2, *(5,) * rank, 4), (*(3,) * rank, 2, 6))
        got = convolution(x, kernel, strides=2, padding=1, feature_group_count=2)
        padded = np.pad(x, ((0, 0), *((1, 1),) * rank, (0, 0)))
        axes = tuple(range(1, rank + 1))
        seen = np.lib.stride_tricks.sliding_window_view(padded, (3,) * rank, axes)
        seen = seen[(slice(None), *(slice(None, None, 2),) * rank)]  # [b, *out, c, *taps]
        taps = "ijk"[:rank]
        halves = [
            np.einsum(f"b{'xyz'[:rank]}c{taps},{taps}co->b{'xyz'[:rank]}o", s, k)
            for s, k in zip(np.split(seen, 2, rank + 1), np.split(np.asarray(kernel), 2, -1), strict=True)
        ]
        np.testing.assert_allclose(got, np.concatenate(halves, -1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("x", "kernel", "options", "message"),
    [
        ((1, 4, 4, 2), (3, 3, 2), {}, r"x, kernel: expected .* as many axes, got \[1, 4, 4, 2\] and \[3, 3, 2\]"),
        ((1, 4, 4, 2), (3, 3, 3, 2), {}, "feature_group_count: 1 groups of 3 input channels do not fit x with 2"),
        ((1, 4, 4, 4), (3, 3, 2, 3), {"feature_group_count": 2}, "or do not divide 3 output channels"),
        ((1, 4, 4, 2), (3, 3, 2, 2), {"strides": 0}, "strides: expected a number or 2 numbers of at least 1, got 0"),
        ((1, 4, 4, 2), (3, 3, 2, 2), {"strides": (1, 1, 1)}, r"strides: expected a number or 2 .* got \(1, 1, 1\)"),
        ((1, 4, 4, 2), (3, 3, 2, 2), {"kernel_dilation": True}, "kernel_dilation: expected .* got True"),
        ((1, 4, 4, 2), (3, 3, 2, 2), {"padding": "same"}, "padding: expected 'SAME', 'VALID', .* got 'same'"),
        ((1, 4, 4, 2), (3, 3, 2, 2), {"padding": (1, (1, -1))}, r"padding: expected .* got \(1, \(1, -1\)\)"),
        ((1, 4, 4, 2), (3, 3, 2, 2), {"input_dilation": 2}, r"padding: 'SAME' is not defined with an input dilation"),
        ((1, 4, 4, 2), (3, 5, 2, 2), {"padding": "VALID"}, r"x: a window that spans \[3, 5\] pixels does not fit into"),
        (
            (1, 4, 4, 2),
            (3, 3, 2, 2),
            {"implementation": "fft"},
            "implementation: expected None or one of xla, .* 'fft'",
        ),
        (
            (1, 4, 4, 2),
            (3, 3, 2, 2),
            {"implementation": "matmul"},
            r"'matmul' cannot .* kernel of one pixel, got \[3, 3\]",
        ),
        ((1, 4, 2), (3, 2, 2), {"implementation": "toeplitz"}, "'toeplitz' cannot .* 2 spatial axes, got 1"),
        ((1, 4, 4, 4), (3, 3, 2, 2), {"implementation": "four_columns", "feature_group_count": 2}, "one .* got 2"),
    ],
)
def test_errors_name_the_argument(x, kernel, options, message):
    with pytest.raises(ValueError, match=message):
        convolution(jnp.zeros(x), jnp.zeros(kernel), **options)


def test_dtypes_must_be_one_and_floating():
    for dtypes in ((jnp.float32, jnp.bfloat16), (jnp.int32, jnp.int32)):
        with pytest.raises(ValueError, match="x, kernel: expected one floating dtype, got "):
            convolution(jnp.zeros((1, 4, 4, 2), dtypes[0]), jnp.zeros((3, 3, 2, 2), dtypes[1]))
