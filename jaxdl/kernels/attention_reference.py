"""Dense attention, as the formula says it: all scores at once."""

import jax
import jax.numpy as jnp

from jaxdl.kernels.attention_case import Case, scores


def attend(case: Case) -> tuple[jax.Array, jax.Array]:
    """`attention` for any case: the output and the residual."""
    form = case.form
    weights, residual = _softmax(case)
    if form.dropout_rate:
        kept = jax.random.bernoulli(case.extras.dropout_key, 1 - form.dropout_rate, weights.shape)
        weights = jnp.where(kept, weights / (1 - form.dropout_rate), 0)
    values = case.value.transpose(0, 2, 1, 3)  # [batch, kv_heads, kv_len, v_depth]
    output = jnp.einsum("bkgqs,bksv->bkgqv", weights.astype(form.dtype), values, preferred_element_type=form.wide)
    output = output.transpose(0, 3, 1, 2, 4).reshape(form.batch, form.q_len, form.heads, form.v_depth)
    return output.astype(form.dtype), residual.transpose(0, 3, 1, 2).reshape(form.batch, form.q_len, form.heads)


def weights(case: Case) -> jax.Array:
    """`[batch, heads, q_len, kv_len]`: what the values are averaged with, before dropout."""
    form = case.form
    return _softmax(case)[0].reshape(form.batch, form.heads, form.q_len, form.kv_len)


def _softmax(case: Case) -> tuple[jax.Array, jax.Array]:
    """The softmax over the keys that are seen, `[batch, kv_heads, group, q_len, kv_len]`, and the log of its sums."""
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
    return x / jnp.where(empty, 1, total), residual[..., 0]
