"""The teaching kernels: against NumPy, with their races, and with as many loads as their cost models say."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreter import needs_pallas, run_interpreted

from jaxdl.kernels.lessons import tiled_matmul, vector_add, window_sum
from jaxdl.kernels.load_costs import tiled_matmul_loads, window_sum_loads


def normal(*shape, dtype=np.float32):
    return np.asarray(jnp.asarray(np.random.default_rng(len(shape)).standard_normal(shape), dtype))


def counted(*xs, kernel, **options):
    """The result, and how many numbers the kernel's programs copied from global memory."""
    from jax._src.pallas.mosaic_gpu.interpret.gpu_callbacks import AsyncCopyGmemToSmemTask

    copied, copy = [], AsyncCopyGmemToSmemTask.__call__

    def count(task, *args, **kwargs):
        copied.append(np.prod(task.src_access.shape))
        return copy(task, *args, **kwargs)

    def total(_):
        AsyncCopyGmemToSmemTask.__call__ = copy
        return np.int32(sum(copied))

    AsyncCopyGmemToSmemTask.__call__ = count  # until the result is there
    result = kernel(*xs, **options)
    return result, jax.pure_callback(total, jax.ShapeDtypeStruct((), np.int32), result)


@needs_pallas
def test_vector_add():
    x, y = normal(384), normal(384)[::-1]
    result, loads = run_interpreted(counted, x, y, kernel=vector_add)
    np.testing.assert_array_equal(result, x + y)
    assert loads == 2 * 384


@needs_pallas
@pytest.mark.parametrize("radius", [0, 6])
def test_window_sum(radius):
    n = 256
    x = normal(n + 2 * radius)
    result, loads = run_interpreted(counted, x, kernel=window_sum, radius=radius)
    expected = np.convolve(x.astype(np.float64), np.ones(2 * radius + 1), mode="valid")
    np.testing.assert_allclose(result, expected, atol=(2 * radius) * 2**-24 * np.abs(x).max() * (2 * radius + 1))
    assert loads == window_sum_loads(n, radius, block=128)


@needs_pallas
def test_tiled_matmul():
    m, k, n, tile_n = 128, 192, 256, 128
    a, b = normal(m, k, dtype="bfloat16"), normal(k, n, dtype="bfloat16")
    result, loads = run_interpreted(counted, a, b, kernel=tiled_matmul, tile_n=tile_n)
    a, b = a.astype(np.float64), b.astype(np.float64)
    assert result.dtype == np.float32
    assert np.all(np.abs(result - a @ b) <= k * 2**-24 * (np.abs(a) @ np.abs(b)))
    assert loads == tiled_matmul_loads(m, k, n, 64, tile_n)


def with_bug(*xs, kernel, bug):
    """The kernel without one of its fences or waits."""
    from jax.experimental.pallas import mosaic_gpu as plgpu

    with mock.patch.object(plgpu, bug):
        return kernel(*xs)


@needs_pallas
@pytest.mark.parametrize("bug", ["commit_smem", "barrier_wait"])
@pytest.mark.parametrize("kernel", [vector_add, tiled_matmul], ids=["vector_add", "tiled_matmul"])
def test_a_rule_that_is_broken_is_found(kernel, bug):
    xs = [normal(256)] * 2 if kernel is vector_add else [normal(128, 128, dtype="float16")] * 2
    with pytest.raises(Exception, match="RACE DETECTED"):
        run_interpreted(with_bug, *xs, kernel=kernel, bug=bug)


def abstract(*shape, dtype="float32"):
    return jax.ShapeDtypeStruct(shape, dtype)


PROGRAMS = {
    "vector_add": (vector_add, (abstract(1024), abstract(1024))),
    "window_sum": (lambda x: window_sum.__wrapped__(x, 6), (abstract(1024 + 12),)),
    "tiled_matmul": (tiled_matmul, (abstract(256, 256, dtype="bfloat16"), abstract(256, 512, dtype="bfloat16"))),
}


@needs_pallas
@pytest.mark.parametrize("name", PROGRAMS)
def test_lowers_for_cuda(name):
    function, arguments = PROGRAMS[name]
    function = getattr(function, "__wrapped__", function)  # without the question for a GPU
    jax.jit(lambda *xs: function(*xs)).trace(*arguments).lower(lowering_platforms=("cuda",))


@pytest.mark.aot
@pytest.mark.parametrize("name", PROGRAMS)
def test_compiles_for_an_h100_without_spills(name):
    from jaxdl.kernels import aot

    if reason := aot.refusal():
        pytest.skip(reason)
    function, arguments = PROGRAMS[name]
    function = getattr(function, "__wrapped__", function)
    (resources,) = aot.compile_for_h100(lambda *xs: function(*xs), *arguments)
    assert resources.problem is None


def test_without_a_gpu_or_the_interpreter_they_say_so():
    reason = "needs? an NVIDIA GPU" if jax.__version_info__ >= (0, 11) else "need jax 0.11"
    for function, xs in ((vector_add, (np.ones(128, np.float32),) * 2), (window_sum, (np.ones(128, np.float32), 0))):
        with pytest.raises(RuntimeError, match=rf"{function.__name__}: the Pallas kernels {reason}"):
            function(*xs)


@pytest.mark.parametrize(
    ("function", "arguments", "options", "message"),
    [
        (vector_add, [(100,), (100,)], {}, r"x: expected float32 \[n\], n a multiple of 128; got float32\[100\]"),
        (vector_add, [(0,), (0,)], {}, "x: expected"),
        (vector_add, [(128,), (256,)], {}, r"y: expected float32\[128\] as x, got float32\[256\]"),
        (window_sum, [(128,)], {"radius": 2}, r"x: expected float32 \[n \+ 4\], n a multiple of 128; got .*\[128\]"),
        (window_sum, [(130,)], {"radius": 1}, "radius: expected an even number from 0 to 64, got 1"),
        (window_sum, [(132,)], {"radius": 2.0}, "radius: expected an even number from 0 to 64, got 2.0"),
        (tiled_matmul, [(64, 64), (64, 128)], {}, r"a: expected bfloat16 or float16, .* \[64, 64\]; got float32\["),
        (tiled_matmul, [(64, 64), (64, 128)], {"tile_n": 32}, "tile_n: expected 64, 128 or 256, got 32"),
    ],
)
def test_errors(function, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        function.__wrapped__(*(np.ones(shape, np.float32) for shape in arguments), **options)


def test_matrices_that_do_not_fit_are_refused():
    a, b = np.ones((64, 64), jnp.bfloat16), np.ones((128, 128), jnp.bfloat16)
    with pytest.raises(ValueError, match=r"a, b: expected \[m, k\] and \[k, n\] of one dtype, got bfloat16\[64, 64\]"):
        tiled_matmul.__wrapped__(a, b)
