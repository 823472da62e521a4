"""Dense attention, as the formula says it: all scores at once."""

import jax
import jax.numpy as jnp

from jaxdl.kernels.attention_case import Case, scores


def attend(case: Case) -> tuple[jax.Array, jax.Array]:
    """`attention` for any case: the output and the residual."""
    form = case.form
    exponentials, total, residual = _softmax(case)
    if form.dropout_rate:
        kept = jax.random.bernoulli(case.extras.dropout_key, 1 - form.dropout_rate, exponentials.shape)
        exponentials = jnp.where(kept, exponentials / (1 - form.dropout_rate), 0)
    values = case.value.transpose(0, 2, 1, 3)  # [batch, kv_heads, kv_len, v_depth]
    # Divided by the total only at the end: as float16 the weights of very many keys would be subnormal, and round.
    output = jnp.einsum("bkgqs,bksv->bkgqv", exponentials.astype(form.dtype), values, preferred_element_type=form.wide)
    output = (output / total).transpose(0, 3, 1, 2, 4).reshape(form.batch, form.q_len, form.heads, form.v_depth)
    return output.astype(form.dtype), residual.transpose(0, 3, 1, 2).reshape(form.batch, form.q_len, form.heads)


def weights(case: Case) -> jax.Array:
    """`[batch, heads, q_len, kv_len]`: what the values are averaged with, before dropout."""
    form = case.form
    exponentials, total, _ = _softmax(case)
    return (exponentials / total).reshape(form.batch, form.heads, form.q_len, form.kv_len)


def _softmax(case: Case) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of each row of scores `[batch, kv_heads, group, q_len, kv_len]` the parts of its softmax.

    The exponentials of scores less the largest, at most 1; their sum, 1 where nothing is seen, `[..., q_len, 1]`; the
    logarithm of the sum of the exponentials of the scores themselves `[..., q_len]`.
    """
    form = case.form
    grouped = (form.batch, form.q_len, form.kv_heads, form.heads // form.kv_heads, form.depth)
    query = case.query.reshape(grouped).transpose(0, 2, 3, 1, 4)
    key = case.key.transpose(0, 2, 1, 3)
    x = scores(form, case.extras, query, key, (0, form.q_len), (0, form.kv_len))
    largest = jax.lax.stop_gradient(jnp.max(x, -1, keepdims=True, initial=-jnp.inf))
    largest = jnp.where(largest == -jnp.inf, 0, largest)  # an empty row: exp(-inf - 0) is 0, exp(-inf + inf) is NaN
    x = jnp.exp(x - largest)
    total = x.sum(-1, keepdims=True)
    empty = total == 0
    residual = jnp.where(empty, -jnp.inf, largest + jnp.log(jnp.where(empty, 1, total)))
    return x, jnp.where(empty, 1, total), residual[..., 0]
