"""Settings for training on a CPU: what they change is counted, in processes of their own, where JAX has not started."""

import json
import os
import platform
import subprocess
import sys

import jax
import jaxlib
import pytest

from jaxdl import cpu

HAS_ONEDNN = jaxlib.__version__.startswith("0.12.") and platform.machine() == "x86_64"


def run(script, **environment):
    """The JSON that a script prints last; conftest's settings of XLA are left out."""
    plain = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")
    kept = {name: value for name, value in os.environ.items() if name not in plain}
    done = subprocess.run(
        [sys.executable, "-c", script], env=kept | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


FAULTS = """
import json, resource
from jaxdl import cpu
if {tuned}: cpu.tune()
import jax, jax.numpy as jnp
x = jnp.ones((2**24,))
twice = jax.jit(lambda x: x * 2)  # 64 MiB

def faults(calls):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(calls):
        twice(x).block_until_ready()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(48)
print(json.dumps(faults(16)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept():
    pages = 16 * 2**26 // os.sysconf("SC_PAGE_SIZE")
    if run(FAULTS.format(tuned=False)) < 0.9 * pages:
        pytest.skip("pages are not cleared one by one here")  # they are huge, or another allocator is loaded
    assert run(FAULTS.format(tuned=True)) < 0.5 * pages


CONVOLUTIONS = """
import json
from functools import partial
from jaxdl import cpu
cpu.tune()
import jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
from jaxdl.nn.convolution import convolution

def value_and_gradients(options, x, kernel):
    y, transpose = jax.vjp(partial(convolution, **options), x, kernel)
    return y, *transpose(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

errors, counts = [], []
for x_shape, kernel_shape, options in {cases}:
    keys = jax.random.split(jax.random.key(0))
    x, kernel = jax.random.normal(keys[0], x_shape), jax.random.normal(keys[1], kernel_shape)
    compiled = jax.jit(partial(value_and_gradients, options))
    exact, single = compiled(x, kernel), compiled(x.astype(jnp.float32), kernel.astype(jnp.float32))
    errors.append(max(float(abs(a - b).max(initial=0) / (1 + abs(b).max(initial=0))) for a, b in zip(single, exact)))
    text = compiled.lower(x.astype(jnp.float32), kernel.astype(jnp.float32)).compile().as_text()
    counts.append(text.count('custom_call_target="__onednn$convolution"'))
print(json.dumps([errors, counts]))
"""
CASES = [  # and how many of output, gradient of x and gradient of the kernel are oneDNN's
    ((2, 12, 12, 16), (3, 3, 16, 16), {}, 2),
    ((2, 12, 12, 16), (3, 3, 16, 16), {"strides": 2, "padding": 1}, 1),
    ((2, 12, 11, 16), (3, 5, 16, 9), {"kernel_dilation": 2, "padding": ((3, 0), (1, 4))}, 2),
    ((1, 6, 6, 16), (3, 3, 16, 16), {"strides": 2, "input_dilation": 2, "padding": 2}, 0),
    ((0, 12, 12, 16), (3, 3, 16, 16), {}, 0),
    ((1, 12, 12, 32), (3, 3, 16, 32), {"feature_group_count": 2}, 3),
    ((1, 12, 12, 33), (3, 3, 1, 33), {"feature_group_count": 33}, 2),
    ((2, 12, 12, 6), (5, 5, 6, 16), {}, 2),
    ((2, 3, 3, 128), (3, 3, 128, 16), {"padding": 1}, 1),
    ((2, 12, 12, 16), (1, 1, 16, 8), {"strides": 2}, 1),
]


@pytest.mark.optimized
def test_convolutions_by_onednn_are_those_of_float64():
    errors, counts = run(CONVOLUTIONS.format(cases=[case[:3] for case in CASES]))
    assert max(errors) < 1e-5
    assert counts == [case[3] if HAS_ONEDNN else 0 for case in CASES]


FLAGS = "import json, os; from jaxdl import cpu; cpu.tune(); print(json.dumps(os.environ.get('XLA_FLAGS')))"


def test_flags_of_the_user_stay():
    mine = "--xla_cpu_experimental_onednn_custom_call=false"
    assert run(FLAGS, XLA_FLAGS=mine) == mine
    flags = run(FLAGS, XLA_FLAGS="--xla_cpu_enable_fast_math=false") or ""
    assert flags.startswith("--xla_cpu_enable_fast_math=false")
    assert (cpu.CONVOLUTIONS_BY_ONEDNN in flags) == HAS_ONEDNN


def test_scripts_are_tuned_by_their_flags():
    script = "import json; from jaxdl import cpu, experiment; experiment.parse_flags(experiment.RunConfig, []); "
    assert run(script + "print(json.dumps(cpu.convolutions_by_onednn()))") == HAS_ONEDNN


def test_too_late_is_an_error_that_says_so():
    before = jax.config.jax_num_cpu_devices
    jax.devices()
    assert cpu.started()
    with pytest.raises(RuntimeError, match="tune: expected to be called before JAX's first computation"):
        cpu.tune()
    assert jax.config.jax_num_cpu_devices == before
