"""Attention and matrix products, in forms that agree: plain XLA, and Pallas kernels for NVIDIA's Hopper.

`attention(query, key, value, ...)` has the argument names of `jax.nn.dot_product_attention`; `matmul(a, b, ...)` adds a
bias and an activation. Each picks a form by a rule that its docstring states; `implementation=` forces one.
`available_implementations` says which can do an attention, and why the others cannot; `attention_weights` gives what is
drawn in heat maps; `merge_attention` joins attention over parts of the keys. The Pallas kernels run on an H100 or H200
and, slowly, anywhere inside `interpret()`; `configs` has their block sizes. `vector_add`, `window_sum` and
`tiled_matmul` are kernels to learn from, with functions that count what they load.
"""

from jaxdl.kernels.attention import attention, attention_weights, available_implementations
from jaxdl.kernels.attention_merge import merge_attention
from jaxdl.kernels.configs import MatmulConfig
from jaxdl.kernels.lessons import tiled_matmul, vector_add, window_sum
from jaxdl.kernels.load_costs import (
    blocked_matmul,
    cache_blocked_loads,
    lines_touched,
    tiled_matmul_loads,
    window_sum_loads,
)
from jaxdl.kernels.matmul import matmul
from jaxdl.kernels.mosaic import interpret

__all__ = [
    "MatmulConfig",
    "attention",
    "attention_weights",
    "available_implementations",
    "blocked_matmul",
    "cache_blocked_loads",
    "interpret",
    "lines_touched",
    "matmul",
    "merge_attention",
    "tiled_matmul",
    "tiled_matmul_loads",
    "vector_add",
    "window_sum",
    "window_sum_loads",
]
