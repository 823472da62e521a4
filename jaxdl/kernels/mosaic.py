"""What every Pallas kernel here shares: where it may run, the interpreter, and what both understand.

The kernels are written for Hopper's tensor cores and copy engine with Pallas' Mosaic GPU backend. On other machines
they run in Pallas' interpreter, which simulates threads, memories and barriers and finds races between them. It lacks
some instructions and counts barriers more strictly than the device; what differs is in this file, and in the few lines
of a kernel that ask `interpreting()`. It does not know programs of 64 bits.

Mosaic GPU is imported when a kernel is built, not with `jaxdl`.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

OLDEST_JAX = (0, 11)
REGISTERS = (240, 24)  # in attention: of each thread of the two warpgroups that compute, and of the one that copies
SHARED_MEMORY_LIMIT = 232_448  # bytes that a block may have on an H100
H100_MULTIPROCESSORS = 132

_interpreter: Any = jax.make_user_context(None)  # part of the key of jit's cache


@contextmanager
def interpret(detect_races: bool = True) -> Iterator[None]:
    """Inside, Pallas kernels run anywhere, slowly, in an interpreter that simulates a GPU.

    For tests and lessons, on tiny arrays: seconds a call. Wait for results inside, so that errors are raised there:

        with interpret():
            product = matmul(a, b, implementation="pallas").block_until_ready()

    Args:
      detect_races: stop with an error where two threads, or a thread and a copy, touch memory in no defined order. It
        finds most missing waits and fences, not all. Registers are not counted.

    Raises:
      ImportError: if jax is too old for the kernels.

    Note: a simulated thread holds a thread of XLA's pool while it waits. On few cores some kernels need more than there
    are and hang: start Python with `XLA_FLAGS=--xla_force_host_platform_device_count=8`, which makes the pool larger.
    `jax.checkpoint` around a kernel cannot be differentiated here.
    """
    if reason := too_old():
        raise ImportError(f"interpret: {reason}")
    from jax._src.pallas.mosaic_gpu.interpret import interpret_pallas_call
    from jax.experimental.pallas import mosaic_gpu as plgpu

    try:
        params = plgpu.InterpretGPUParams(detect_races=detect_races)  # pyright: ignore[reportAttributeAccessIssue]
        with _interpreter(params):
            yield
    except BaseException:
        interpret_pallas_call.reset_gpu_interpret_mode_state()  # or the next kernel would meet this one's threads
        raise


def interpreting() -> bool:
    """Whether kernels are traced for the interpreter."""
    return _interpreter.value is not None


def refusal() -> str | None:
    """Why the kernels cannot run here; None where they can."""
    if reason := too_old():
        return reason
    if interpreting():
        return None
    device = jax.devices()[0]
    if device.platform != "gpu":
        return (
            f"the Pallas kernels need an NVIDIA GPU of compute capability 9.0 (H100, H200), the default device is "
            f"{device.device_kind!r}; `with jaxdl.kernels.interpret():` simulates one, slowly"
        )
    capability = str(getattr(device, "compute_capability", None))
    if capability != "9.0":
        return f"the Pallas kernels need compute capability 9.0 (H100, H200), {device.device_kind} has {capability}"
    return None


def num_multiprocessors() -> int:
    """Of the default device; those of an H100 where it is no GPU."""
    device = jax.devices()[0]
    return device.core_count if device.platform == "gpu" else H100_MULTIPROCESSORS


def too_old() -> str | None:
    """Why this version of JAX cannot build the kernels; None if it can."""
    if jax.__version_info__[:2] >= OLDEST_JAX:
        return None
    return f"the Pallas kernels need jax 0.11 or later, on Python 3.12 or later; this is jax {jax.__version__}"


def kernel(body: Callable[..., None], **options: Any) -> Callable[..., Any]:
    """`plgpu.kernel` with what all kernels have in common.

    Args:
      body: of references: the inputs, the outputs, the scratch memories.
      options: `out_type`, `scratch_types`, `grid`, `grid_names`, `num_threads`, `thread_name`.

    Raises:
      ValueError: if the scratch memories are more than an H100 has, which the interpreter would not notice.
    """
    from jax.experimental.pallas import mosaic_gpu as plgpu

    shared = [x for x in jax.tree.leaves(options["scratch_types"]) if getattr(x, "memory_space", None) == plgpu.SMEM]
    size = sum(math.prod(x.shape) * jnp.dtype(x.dtype).itemsize for x in shared)
    if size > SHARED_MEMORY_LIMIT:
        raise ValueError(f"config: expected blocks of at most {SHARED_MEMORY_LIMIT} bytes of shared memory, got {size}")
    params = plgpu.CompilerParams(approx_math=True, lowering_semantics=plgpu.LoweringSemantics.Warpgroup)
    run = plgpu.kernel(body, compiler_params=params, interpret=_interpreter.value, **options)
    if interpreting():
        return run

    def call(*operands: Any) -> Any:
        with jax.enable_x64(False):  # numbers in a kernel have 32 bits in every program
            return run(*operands)

    return call


def tile_transforms(dtype: Any, columns: int) -> tuple[Any, ...]:
    """The layout in shared memory that wgmma and the copy engine take: rows in tiles of 8, swizzled.

    Args:
      dtype: of the elements.
      columns: of the array's last axis; a row of it is 128, 64 or 32 bytes or a multiple of 128.
    """
    from jax.experimental.pallas import mosaic_gpu as plgpu

    row_bytes = columns * jnp.dtype(dtype).itemsize
    swizzle = 128 if row_bytes % 128 == 0 else row_bytes
    if swizzle not in (128, 64, 32):
        raise ValueError(f"columns: expected rows of 32, 64 or a multiple of 128 bytes, got {row_bytes}")
    return plgpu.TilingTransform((8, swizzle // jnp.dtype(dtype).itemsize)), plgpu.SwizzleTransform(swizzle)  # pyright: ignore[reportAbstractUsage]  # jax 0.12 types them so


def wgmma_into(accumulator: Any, a: Any, b: Any, during: Callable[[], None] | None = None) -> Any:
    """`accumulator + a @ b` for values in registers.

    On the device the accumulator stays where it is, and `during` runs while the tensor cores work. The interpreter has
    no wgmma with an operand in registers.

    Args:
      accumulator: float32 `[m, n]`.
      a: a value `[m, k]`.
      b: a reference `[k, n]` in shared memory.
      during: barriers to wait for meanwhile.
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import mosaic_gpu as plgpu

    if interpreting():
        total = accumulator + jnp.dot(a, b[...], preferred_element_type=jnp.float32)
        # It read as a thread, the copy that overwrites is the engine's: the interpreter wants a fence between them. On
        # the device a wait for wgmma, or every thread's arrival at a barrier, comes first, as in Pallas' pipelines.
        plgpu.commit_smem()
        if during is not None:
            during()
        return total

    def multiply(ref: Any) -> None:
        plgpu.wgmma(ref, a, b)
        if during is not None:
            during()

    return pl.run_state(multiply)(plgpu.ACC.init(accumulator))  # pyright: ignore[reportPrivateImportUsage]


def in_layout(x: jax.Array, layout: Any) -> jax.Array:
    """Gives a constant the register layout of the values that it will meet; the interpreter has no layouts."""
    from jax.experimental.pallas import mosaic_gpu as plgpu

    return x if interpreting() else plgpu.layout_cast(x, layout)


def iota(shape: tuple[int, ...], axis: int, layout: Any) -> jax.Array:
    """`lax.broadcasted_iota` in int32 and a register layout."""
    from jax.experimental.pallas import mosaic_gpu as plgpu

    if interpreting():
        return jax.lax.broadcasted_iota(jnp.int32, shape, axis)
    return plgpu.broadcasted_iota(jnp.int32, shape, axis, layout=layout)


def load(ref: Any, layout: Any) -> jax.Array:
    """Reads a reference in shared memory into registers of a layout."""
    from jax.experimental.pallas import mosaic_gpu as plgpu

    if not interpreting():
        return plgpu.load(ref, layout=layout)  # pyright: ignore[reportCallIssue]
    value = ref[...]
    plgpu.commit_smem()  # see `wgmma_into`
    return value
