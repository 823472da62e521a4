"""The matrix product, XLA's and the kernel's by the same cases, against NumPy in float64."""

from dataclasses import replace
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreter import needs_pallas, run_interpreted

from jaxdl.kernels import aot, configs
from jaxdl.kernels.configs import MatmulConfig
from jaxdl.kernels.matmul import matmul
from jaxdl.kernels.mosaic import interpret

SMALL = MatmulConfig(tile_m=64, tile_n=64, tile_k=64, num_stages=2, grid_tile_width=2)
PAIRS = replace(SMALL, cluster_size=2)
LARGE = MatmulConfig(tile_m=64, tile_n=256, tile_k=64, num_stages=4, cluster_size=2)
IMPLEMENTATIONS = ("xla", pytest.param("pallas", marks=needs_pallas))

# Shapes of a and b, as stored, and the options. A block's tiles are 128 by 64, summed over 64 at a time.
CASES = {
    "one number": ((1, 1), (1, 1), {}),
    "bias, gelu, several tiles for a pair of blocks": (
        (129, 63), (63, 130), {"bias": True, "activation": "gelu", "config": PAIRS}
    ),
    "a transposed, batch, relu": ((3, 65, 1), (3, 65, 9), {"transpose_a": True, "activation": "relu"}),
    "b transposed, a ring of one place": (
        (3, 200), (70, 200), {"transpose_b": True, "out_dtype": "float32", "config": replace(SMALL, num_stages=1)}
    ),
    "both transposed, b shared, float16": (
        (2, 70, 63), (129, 70),
        {"transpose_a": True, "transpose_b": True, "bias": True, "activation": "silu", "dtype": "float16"},
    ),
    "tall and thin, b shared, two leading axes": ((1, 5, 27, 8), (8, 1), {"bias": True}),
}  # fmt: skip


def arrays(a_shape, b_shape, bias=False, dtype="bfloat16", **options):
    """Operands, bias and the gradient of the result, and the options that are left."""
    rng = np.random.default_rng(hash((a_shape, b_shape)) % 2**32)
    m = a_shape[-1 if options.get("transpose_a") else -2]
    n = b_shape[-2 if options.get("transpose_b") else -1]
    shapes = a_shape, b_shape, (n,), (*a_shape[:-2], m, n)
    a, b, c, d = (jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes)
    return (a, b, c if bias else None, d), options


def activate(name, x):
    """The activation and its slope."""
    if name == "relu":
        return np.maximum(x, 0), x > 0
    if name == "gelu":
        c = np.sqrt(2 / np.pi)
        t = np.tanh(c * (x + 0.044715 * x**3))
        return x * (1 + t) / 2, (1 + t) / 2 + x / 2 * (1 - t**2) * c * (1 + 3 * 0.044715 * x**2)
    if name == "silu":
        s = 1 / (1 + np.exp(-x))
        return x * s, s * (1 + x * (1 - s))
    return x, np.ones_like(x)


def by_numpy(a, b, bias, d, activation=None, transpose_a=False, transpose_b=False, out_dtype=None):
    """The result and the gradients in float64, and of each the sum of the sizes of what was added up."""
    a, b, d = (np.asarray(x, np.float64) for x in (a, b, d))
    shift = 0 if bias is None else np.asarray(bias, np.float64)

    def turn(x, turned):
        return x.swapaxes(-1, -2) if turned else x

    a, b = turn(a, transpose_a), turn(b, transpose_b)
    result, slope = activate(activation, a @ b + shift)
    d = d * slope

    def all_four(a, b, d, result):
        d_b = a.swapaxes(-1, -2) @ d
        d_b = d_b if b.ndim > 2 else d_b.reshape(-1, *b.shape).sum(0)
        d_bias = None if bias is None else d.reshape(-1, d.shape[-1]).sum(0)
        return result, turn(d @ b.swapaxes(-1, -2), transpose_a), turn(d_b, transpose_b), d_bias

    sizes = abs(a), abs(b), abs(d)
    return all_four(a, b, d, result), all_four(*sizes, sizes[0] @ sizes[1] + abs(shift))


def with_gradients(a, b, bias, d, multiprocessors=2, **options):
    """The result and the gradients; few multiprocessors, so that each has several tiles."""
    with mock.patch("jaxdl.kernels.mosaic.num_multiprocessors", return_value=multiprocessors):
        result, pull = jax.vjp(lambda a, b, bias: matmul(a, b, bias=bias, **options), a, b, bias)
        return result, *pull(d.astype(result.dtype))


def run(implementation, function, *xs, **options):
    config = options.pop("config", SMALL)
    if implementation == "pallas":
        return run_interpreted(function, *xs, implementation="pallas", config=config, **options)
    return jax.jit(lambda *xs: function(*xs, implementation=implementation, **options))(*xs)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients(implementation, case):
    a_shape, b_shape, options = CASES[case]
    xs, options = arrays(a_shape, b_shape, **options)
    results = run(implementation, with_gradients, *xs, **options)
    options.pop("config", None)
    expected, sizes = by_numpy(*xs, **options)
    eps = float(jnp.finfo(xs[0].dtype).eps)
    dtypes = [options.get("out_dtype", xs[0].dtype), *(x.dtype for x in xs[:3] if x is not None)]
    for result, want, size, dtype in zip(results, expected, sizes, [*dtypes, None], strict=False):
        if want is None:
            assert result is None
            continue
        assert result.dtype == dtype
        assert result.shape == want.shape
        # Rounded: the result, the gradient by the product, and what went into gelu and silu; sums are in float32.
        assert np.all(abs(np.asarray(result, np.float64) - want) <= 3 * eps * size + 1e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_vmap_is_the_product_of_each(implementation):
    rng = np.random.default_rng(0)
    a, b, bias = (jnp.asarray(rng.standard_normal(shape), jnp.bfloat16) for shape in ((3, 2, 70, 9), (9, 33), (3, 33)))
    results = run(implementation, mapped, a, b, bias)
    for result, x, shift in zip(results, a, bias, strict=True):
        want = np.asarray(x, np.float64) @ np.asarray(b, np.float64) + np.asarray(shift, np.float64)
        np.testing.assert_allclose(np.asarray(result, np.float64), want, rtol=2**-8, atol=1e-6)


def mapped(a, b, bias, **options):
    """Over the first axis of a, as it is and transposed, and of the bias; b serves all."""
    results = jax.vmap(lambda a, bias: matmul(a, b, bias=bias, **options))(a, bias)
    of_turned = jax.vmap(lambda a, bias: matmul(a, b, bias=bias, transpose_a=True, **options))
    return jnp.where(results == of_turned(a.swapaxes(-1, -2), bias), results, jnp.nan)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes_of_xla(x64, dtype):
    a, b = jnp.ones((1, 4100), dtype), jnp.ones((4100, 1), dtype)
    assert matmul(a, b).dtype == dtype
    assert matmul(a, b, out_dtype="float32") == 4100  # a sum in bfloat16 would stop at 256, in float16 at 2048
    with_little = matmul(a[:, :1], b[:1], bias=jnp.full(1, 1e-9), out_dtype="float64")
    assert (with_little.item() == 1 + 1e-9) == (dtype == "float64")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_empty_axes(implementation):
    for a_shape, b_shape in [((0, 3), (3, 2)), ((2, 3), (3, 0)), ((0, 2, 3), (0, 3, 2)), ((2, 0), (0, 3))]:
        xs, _ = arrays(a_shape, b_shape, bias=True)
        result, d_a, d_b, d_bias = run(implementation, with_gradients, *xs, activation="relu")
        assert result.shape == xs[3].shape
        assert (d_a.shape, d_b.shape, d_bias.shape) == tuple(x.shape for x in xs[:3])
        np.testing.assert_array_equal(result, np.broadcast_to(np.maximum(xs[2], 0), result.shape))


def test_forward_mode_is_xlas():
    a = jnp.ones((2, 3))
    value, slope = jax.jvp(lambda a: matmul(a, a, transpose_b=True, implementation="xla"), (a,), (a,))
    np.testing.assert_array_equal(slope, 2 * value)


@needs_pallas
def test_forward_mode_of_the_kernel_is_refused():
    with pytest.raises(TypeError, match="'pallas' has no forward mode; 'xla' has"):
        run_interpreted(forward_mode, jnp.ones((2, 3), jnp.bfloat16))


@needs_pallas
def test_second_derivatives_of_the_kernel_are_refused():
    a = jax.ShapeDtypeStruct((4, 4), jnp.bfloat16)

    def slope(a):
        return jax.grad(lambda a: jnp.sum(matmul(a, a, implementation="pallas").astype("float32") ** 2))(a)

    with interpret(), pytest.raises(TypeError, match="'pallas' of matmul has first derivatives only; 'xla' has all"):
        jax.eval_shape(jax.grad(lambda a: jnp.sum(slope(a).astype("float32"))), a)


@needs_pallas
@pytest.mark.parametrize("axes", [(0, 0), (0, None)])
def test_no_products_at_all(axes):
    a, b = jnp.zeros((0, 4, 5), jnp.bfloat16), jnp.zeros((0, 5, 3) if axes[1] == 0 else (5, 3), jnp.bfloat16)
    with interpret():
        product, pull = jax.vjp(jax.vmap(lambda a, b: matmul(a, b, implementation="pallas"), axes), a, b)
        d_a, d_b = pull(product)
    assert (product.shape, d_a.shape, d_b.shape) == ((0, 4, 3), a.shape, b.shape)


def forward_mode(a):
    return jax.jvp(lambda a: matmul(a, a, transpose_b=True, implementation="pallas"), (a,), (a,))


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        ((3,), (3, 3), {}, r"a: expected a floating array of at least 2 axes, got float32\[3\]"),
        ((3, 3), (3,), {}, r"b: expected a floating array of at least 2 axes, got float32\[3\]"),
        ((2, 3), (2, 3), {}, r"b: expected sums over 3 as of a \[2, 3\], got \[2, 3\]"),
        ((3, 2), (3, 2), {"transpose_b": True, "transpose_a": True}, "over 3 as of transposed a .* transposed "),
        ((2, 2, 3), (1, 3, 3), {}, r"b: expected 2 axes or the leading axes of a \[2, 2, 3\], got \[1, 3, 3\]"),
        ((2, 3), (2, 3, 3), {}, "b: expected 2 axes or the leading"),
        ((2, 3), (3, 4), {"bias": jnp.ones((1, 4))}, r"bias: expected floating \[4\], got float32\[1, 4\]"),
        ((2, 3), (3, 4), {"bias": jnp.ones(4, int)}, r"bias: expected floating \[4\], got int32\[4\]"),
        ((2, 3), (3, 4), {"activation": "tanh"}, "activation: expected None or one of relu, gelu, silu; got 'tanh'"),
        ((2, 3), (3, 4), {"out_dtype": int}, "out_dtype: expected a floating dtype, got <class 'int'>"),
        ((2, 3), (3, 4), {"out_dtype": "wide"}, "out_dtype: expected a floating dtype, got 'wide'"),
        ((2, 3), (3, 4), {"activation": ["relu"]}, r"activation: expected None or one of .*; got \['relu'\]"),
        ((2, 3), (3, 4), {"config": 128}, "config: expected a MatmulConfig, got 128"),
        ((2, 3), (3, 4), {"config": SMALL}, "config: only the implementation 'pallas' takes one"),
        ((2, 3), (3, 4), {"implementation": "cutlass"}, "implementation: .* one of xla, pallas; got 'cutlass'"),
        ((2, 3), (3, 4), {"implementation": "pallas"}, "the kernel multiplies bfloat16 and float16, got float32"),
    ],
)
def test_errors(a, b, options, message):
    with pytest.raises(ValueError, match=message):
        matmul(jnp.ones(a), jnp.ones(b), **options)


def test_errors_of_dtypes_and_device(x64):
    def ones(dtype):
        return jnp.ones((3, 3), dtype)

    with pytest.raises(ValueError, match="a: expected a floating array of at least 2 axes, got int32"):
        matmul(ones("int32"), ones("int32"))
    with pytest.raises(ValueError, match="b: expected the dtype float32 of a, got float16"):
        matmul(ones("float32"), ones("float16"))
    with pytest.raises(ValueError, match="writes bfloat16, float16 and float32, not float64"):
        matmul(ones("float16"), ones("float16"), out_dtype="float64", implementation="pallas")
    reason = "need an NVIDIA GPU" if jax.__version_info__ >= (0, 11) else "need jax 0.11"
    with pytest.raises(ValueError, match=f"'pallas' cannot do this product: .*{reason}"):
        matmul(ones("float16"), ones("float16"), implementation="pallas")


# By what is left out: a race, or where the simulator counts phases and copies.
FOUND = {
    "commit_smem": "RACE DETECTED",
    "barrier_wait": "RACE DETECTED|in _barrier_arrive",
    "wait_smem_to_gmem": "in kernel_thread_finished",
}


def with_bug(*xs, without, **options):
    """The kernel without one of its fences or waits."""
    from jax.experimental.pallas import mosaic_gpu as plgpu

    with mock.patch.object(plgpu, without, return_value=None):
        return with_gradients(*xs, **options)[0]


@needs_pallas
@pytest.mark.parametrize("name", FOUND)
def test_the_race_detector_sees_a_missing_fence_or_wait(name):
    xs, options = arrays((129, 200), (200, 65))
    with pytest.raises(Exception, match=FOUND[name]):
        run("pallas", with_bug, *xs, without=name, **options)


@needs_pallas
@pytest.mark.parametrize(("rows", "columns", "width"), [(1, 1, 8), (5, 3, 2), (7, 17, 8), (32, 32, 8), (64, 64, 8)])
def test_tiles_come_once_each_and_near_each_other(rows, columns, width):
    from jaxdl.kernels.matmul_hopper import Tiles
    from jaxdl.kernels.mosaic import H100_MULTIPROCESSORS

    tiles = Tiles(2, rows, columns, width)
    batch, row, column = (np.asarray(x) for x in jax.vmap(tiles.at)(jnp.arange(tiles.count)))
    assert len({*zip(batch, row, column, strict=True)}) == tiles.count == 2 * rows * columns
    np.testing.assert_array_equal(batch, np.repeat([0, 1], rows * columns))
    row, column = row[: rows * columns], column[: rows * columns]
    shared = (np.diff(row) == 0) | (np.diff(column) == 0)
    assert shared.sum() >= (1 - 1 / min(width, columns)) * len(shared) - 1
    if columns == 64:  # what runs at the same time on an H100 reads fewer rows and columns than line by line
        at_once = H100_MULTIPROCESSORS
        read = [len({*row[i : i + at_once]}) + len({*column[i : i + at_once]}) for i in range(0, len(row), at_once)]
        assert max(read) <= 40 < 64 + 3


FORMS = [
    {},
    {"transpose_a": True, "bias": True, "activation": "gelu"},
    {"transpose_b": True, "activation": "silu", "out_dtype": "float32"},
    {"transpose_a": True, "transpose_b": True, "activation": "relu", "dtype": "float16"},
]


def shipped():
    return sorted({LARGE, *(row.config for table in configs.TABLES.values() for row in table.matmul)}, key=repr)


def abstract(m, n, k, dtype="bfloat16", bias=False, **options):
    """Shapes for `with_gradients`, and its options."""

    def array(*shape):
        return jax.ShapeDtypeStruct(shape, dtype)

    a = array(2, k, m) if options.get("transpose_a") else array(2, m, k)
    b = array(n, k) if options.get("transpose_b") else array(k, n)
    return (a, b, array(n) if bias else None, array(2, m, n)), options


def the_kernel(a, b, bias, d, **options):
    """Without asking for a GPU."""
    with mock.patch("jaxdl.kernels.mosaic.refusal", return_value=None):
        return with_gradients(a, b, bias, d, 132, implementation="pallas", **options)


@needs_pallas
@pytest.mark.parametrize("config", shipped(), ids=repr)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_lowers_for_cuda(config, form):
    xs, options = abstract(1000, 257, 129, **form)
    jax.jit(lambda *xs: the_kernel(*xs, config=config, **options)).trace(*xs).lower(lowering_platforms=("cuda",))


@needs_pallas
def test_shard_map_over_the_batch_sums_only_gradients_of_what_is_shared():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    batch, shared = jax.P("data"), jax.P()
    xs, options = abstract(128, 64, 64, bias=True, activation="silu")
    sharded = jax.shard_map(
        lambda *xs: the_kernel(*xs, **options),
        mesh=mesh,
        in_specs=(batch, shared, shared, batch),
        out_specs=(batch, batch, shared, shared),
    )
    text = jax.jit(sharded).trace(*xs).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("stablehlo.all_reduce") == 2
    assert "all_gather" not in text


@pytest.mark.aot
@pytest.mark.skipif(aot.refusal() is not None, reason=str(aot.refusal()))
@pytest.mark.parametrize("config", shipped(), ids=repr)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_compiles_for_an_h100_without_spilling(config, form):
    xs, options = abstract(1024, 512, 320, **form)
    kernels = aot.compile_for_h100(lambda *xs: the_kernel(*xs, config=config, **options), *xs)
    assert len(kernels) == 3
    assert [kernel.problem for kernel in kernels] == [None] * 3
