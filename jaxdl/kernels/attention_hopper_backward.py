"""The gradients of attention on Hopper's tensor cores.

The scheme is FlashAttention-2's (Dao, 2023, algorithm 2), split in two kernels: one gives the gradient of the queries,
the other those of keys and values, and both compute the weights again from the residual. That is seven products of
blocks where one kernel would do with five, but each gradient is summed by one warpgroup in a fixed order, without
atomics: the same inputs give the same bits.

The file imports Mosaic GPU; `jaxdl.kernels` imports it when a kernel is asked for.
"""

import math

import jax
import jax.numpy as jnp

from jaxdl.kernels import attention_hopper_tiles as tiles
from jaxdl.kernels.attention_case import Extras, Form
from jaxdl.kernels.attention_hopper_dkv import key_value_gradients, keys_of_a_block
from jaxdl.kernels.attention_hopper_dq import query_gradient
from jaxdl.kernels.attention_hopper_slope import LOG2_E, WARPGROUPS, Inputs
from jaxdl.kernels.configs import AttentionBackwardConfig


def backward(
    query: jax.Array, key: jax.Array, value: jax.Array, extras: Extras, form: Form, output: jax.Array,
    residual: jax.Array, d_output: jax.Array, d_residual: jax.Array, config: AttentionBackwardConfig,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """The gradients of query, key and value.

    It lowers for any machine and runs on Hopper and in the interpreter. Queries that see nothing, and keys that nobody
    sees, have zeros.

    Args:
      query: bfloat16 or float16 `[batch, q_len, heads, depth]`; the depth is 64, 128 or 256.
      key: `[batch, kv_len, kv_heads, depth]`.
      value: `[batch, kv_len, kv_heads, v_depth]`; the depth is one of these too.
      extras: without bias, mask and dropout.
      form: of these shapes; no length is 0.
      output: of the forward kernel, `[batch, q_len, heads, v_depth]`.
      residual: of the forward kernel, float32 `[batch, heads, q_len]`.
      d_output: the gradient of the output.
      d_residual: the gradient of the residual.
      config: its blocks.

    Returns:
      In the shapes and the dtype of query, key and value.
    """
    row_sums = jnp.sum(output.astype(jnp.float32) * d_output.astype(jnp.float32), -1).transpose(0, 2, 1) - d_residual
    empty = residual == -jnp.inf
    q_block = math.lcm(WARPGROUPS * config.block_q_dq, config.block_q_dkv)
    kv_block = math.lcm(config.block_kv_dq, keys_of_a_block(form.depth, form.v_depth, config))
    residual = jnp.where(empty, jnp.inf, residual * LOG2_E)
    inputs = Inputs(
        query=tiles.pad(query, 1, q_block),
        key=tiles.pad(key, 1, kv_block),
        value=tiles.pad(value, 1, kv_block),
        d_output=tiles.pad(d_output, 1, q_block),
        residual=jnp.pad(residual, ((0, 0), (0, 0), (0, -form.q_len % q_block)), constant_values=jnp.inf),
        row_sums=tiles.pad(jnp.where(empty, 0, row_sums), 2, q_block),
    )
    if extras.query_lengths is not None:
        inputs = inputs._replace(query_lengths=extras.query_lengths.astype(jnp.int32))
    if extras.key_lengths is not None:
        inputs = inputs._replace(key_lengths=extras.key_lengths.astype(jnp.int32))
    if extras.query_segments is not None:
        inputs = inputs._replace(
            query_segments=tiles.pad(extras.query_segments.astype(jnp.int32), 1, q_block),
            key_segments=tiles.pad(extras.key_segments.astype(jnp.int32), 1, kv_block),
        )
    d_query = query_gradient(inputs, form, config)
    d_key, d_value = key_value_gradients(inputs, form, config)
    return d_query[:, : form.q_len], d_key[:, : form.kv_len], d_value[:, : form.kv_len]
