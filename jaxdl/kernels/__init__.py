"""Attention, in forms that agree.

`attention(query, key, value, ...)` has the argument names of `jax.nn.dot_product_attention` and picks a form by a rule
that its docstring states; `implementation=` forces one. `available_implementations` says which can do a case, and why
the others cannot; `attention_weights` gives what is drawn in heat maps.
"""

from jaxdl.kernels.attention import attention, attention_weights, available_implementations
from jaxdl.kernels.mosaic import interpret

__all__ = ["attention", "attention_weights", "available_implementations", "interpret"]
