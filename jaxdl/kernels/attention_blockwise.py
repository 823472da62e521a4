"""Attention block by block, in memory that grows with the length and not with its square, on any backend.

Rabe and Staats, 2021, "Self-attention does not need O(n^2) memory"; the running softmax is Milakov and Gimelshein's
(2018), the gradient from the logarithms of the sums Dao et al.'s (2022, "FlashAttention", algorithm 4).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.kernels.attention_case import Case, Extras, Form, block, scores
from jaxdl.kernels.manual_axes import vary_alike
from jaxdl.kernels.reverse_only import first_order

BLOCK = 256  # queries, and keys, a block


def attend(case: Case) -> tuple[jax.Array, jax.Array]:
    """`attention` for any case: the output and the residual."""
    form = case.form
    if 0 in (form.batch, form.q_len, form.kv_len):
        shape = (form.batch, form.q_len, form.heads)
        return jnp.zeros((*shape, form.v_depth), form.dtype), jnp.full(shape, -jnp.inf, form.wide)
    floats = (case.query, case.key, case.value, case.extras.bias)
    return _attend(*vary_alike(*floats, case.extras._replace(bias=None)), form)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _attend(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None, extras: Extras, form: Form
) -> tuple[jax.Array, jax.Array]:
    output, largest, total = _pool(query, key, value, bias, extras, form)
    return output, largest + jnp.log(total)


def _pool(query: Any, key: Any, value: Any, bias: Any, extras: Extras, form: Form) -> tuple[jax.Array, ...]:
    """The output; of each row the largest score, and the sum of `exp(score - largest)`: -inf and 1 if it is empty."""
    parts = _cut(query, key, value, bias, extras, form)

    def of_rows(row: jax.Array) -> tuple[jax.Array, ...]:
        q = parts.query[row]

        def over(column: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            largest, total, output = carry
            x = parts.scores(q, row, column)
            largest, before = jnp.maximum(largest, x.max(-1)), largest
            base = jnp.where(largest == -jnp.inf, 0, largest)  # nothing seen yet
            weights = jnp.exp(x - base[..., None])
            shrink = jnp.exp(before - base)
            total = total * shrink + weights.sum(-1)
            weights = parts.dropout(weights, row, column).astype(form.dtype)
            pooled = jnp.einsum("bkgqs,bksv->bkgqv", weights, parts.value[column], preferred_element_type=form.wide)
            return largest, total, output * shrink[..., None] + pooled

        shape = q.shape[:-1]
        zeros = jnp.zeros(shape, form.wide)
        start: Any = zeros - jnp.inf, zeros, jnp.zeros((*shape, form.v_depth), form.wide)
        start, _ = vary_alike(start, q)
        largest, total, output = jax.lax.fori_loop(*parts.columns_seen(row), over, start)
        total = jnp.where(total == 0, 1, total)
        return (output / total[..., None]).astype(form.dtype), largest, total

    output, largest, total = jax.lax.map(of_rows, jnp.arange(parts.num_rows))
    return _join_rows(output, form), *(_join_rows(x[..., None], form)[..., 0] for x in (largest, total))


def _forward(query: Any, key: Any, value: Any, bias: Any, extras: Extras, form: Form) -> Any:
    output, largest, total = _pool(query, key, value, bias, extras, form)
    return (output, largest + jnp.log(total)), (query, key, value, bias, extras, output, largest, total)


def _backward(form: Form, saved: Any, cotangents: Any) -> tuple[Any, ...]:
    """The softmax's gradient, from weights that are computed again: `weights * (d_weights - sum_s weights d_weights)`.

    The sum over the keys of a row is the product of the output and its gradient (also under dropout); the gradient of
    the residual is the weights, so it joins that sum.
    """
    query, key, value, bias, extras, output, largest, total = saved
    message = "implementation: 'blockwise' of attention has first derivatives only; 'reference' and 'xla' have all"
    query, key, value, bias, *cotangents = first_order(message, (query, key, value, bias, *cotangents))
    d_output, d_residual = cotangents
    row_sums = jnp.sum(output.astype(form.wide) * d_output.astype(form.wide), -1) - d_residual
    parts = _cut(query, key, value, bias, extras, form)
    d_outputs = _cut_rows(d_output, form)
    row_sums = _cut_rows(row_sums[..., None], form)[..., 0]
    # Not the residual, which rounds the logarithm of the total away beside a largest score of -1e9. Of rows that see
    # nothing or only fill a block the largest is inf here, so that their weights exp(score - inf) are 0.
    largest = _cut_rows(jnp.where(largest == -jnp.inf, jnp.inf, largest)[..., None], form, fill=jnp.inf)
    totals = _cut_rows(total[..., None], form, fill=1)
    einsum = partial(jnp.einsum, preferred_element_type=form.wide)

    def of_columns(carry: tuple[Any, Any], column: jax.Array) -> tuple[tuple[Any, Any], tuple[jax.Array, jax.Array]]:
        k, v = parts.key[column], parts.value[column]

        def over(row: jax.Array, carry: tuple[Any, ...]) -> tuple[Any, ...]:
            d_query, d_bias, d_key, d_value = carry
            q, d_out = parts.query[row], d_outputs[row]
            x, slope = parts.scores_and_slope(q, row, column)
            weights = jnp.exp(x - largest[row]) / totals[row]
            d_weights = parts.dropout(einsum("bkgqv,bksv->bkgqs", d_out, v), row, column)
            dropped = parts.dropout(weights, row, column).astype(form.dtype)
            d_scores = weights * (d_weights - row_sums[row][..., None])
            if bias is not None:
                d_bias = parts.add_to_bias(d_bias, d_scores, row, column)
            d_scores = (d_scores * slope).astype(form.dtype)
            d_query = d_query.at[row].add(einsum("bkgqs,bksd->bkgqd", d_scores, k))
            d_key = d_key + einsum("bkgqs,bkgqd->bksd", d_scores, q)
            d_value = d_value + einsum("bkgqs,bkgqv->bksv", dropped, d_out)
            return d_query, d_bias, d_key, d_value

        first, last = parts.rows_that_see(column)
        start, _ = vary_alike((*carry, jnp.zeros(k.shape, form.wide), jnp.zeros(v.shape, form.wide)), k)
        d_query, d_bias, d_key, d_value = jax.lax.fori_loop(first, last, over, start)
        return (d_query, d_bias), (d_key, d_value)

    d_bias = None if bias is None else jnp.zeros(parts.extras.bias.shape, form.wide)
    start, _ = vary_alike((jnp.zeros(parts.query.shape, form.wide), d_bias), parts.query)
    (d_query, d_bias), (d_key, d_value) = jax.lax.scan(of_columns, start, jnp.arange(parts.num_columns))
    if bias is not None:
        d_bias = d_bias[:, :, : bias.shape[2], : bias.shape[3]].astype(bias.dtype)
    d_query = _join_rows(d_query, form).astype(form.dtype)
    return d_query, _join_columns(d_key, form), _join_columns(d_value, form), d_bias, None


_attend.defvjp(_forward, _backward)


class _Parts:
    """The arguments cut into blocks, and what the two passes do with a pair of blocks."""

    def __init__(self, query: jax.Array, key: jax.Array, value: jax.Array, extras: Extras, form: Form) -> None:
        self.query, self.key, self.value, self.extras, self.form = query, key, value, extras, form
        self.num_rows, self.num_columns = query.shape[0], key.shape[0]
        self.rows, self.columns = query.shape[-2], key.shape[-2]  # in a block

    def scores(self, q: jax.Array, row: Any, column: Any) -> jax.Array:
        rows, columns = (row * self.rows, self.rows), (column * self.columns, self.columns)
        return scores(self.form, self.extras, q, self.key[column], rows, columns)

    def scores_and_slope(self, q: jax.Array, row: Any, column: Any) -> tuple[jax.Array, Any]:
        """Also the derivative of a score by the product of query and key."""
        x = self.scores(q, row, column)
        if self.form.softcap is None:
            return x, self.form.scale
        raw = jnp.einsum("bkgqd,bksd->bkgqs", q, self.key[column], preferred_element_type=self.form.wide)
        return x, self.form.scale * (1 - jnp.tanh(raw * (self.form.scale / self.form.softcap)) ** 2)

    def dropout(self, x: jax.Array, row: Any, column: Any) -> jax.Array:
        rate = self.form.dropout_rate
        if not rate:
            return x
        key = jax.random.fold_in(self.extras.dropout_key, row * self.num_columns + column)
        return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)

    def add_to_bias(self, d_bias: jax.Array, d_scores: jax.Array, row: Any, column: Any) -> jax.Array:
        """Adds a block of gradients where it belongs, summed over the axes along which the bias is the same."""
        rows, columns = (row * self.rows, self.rows), (column * self.columns, self.columns)
        here = block(block(d_bias, 2, rows), 3, columns)
        batch, _, _, height, width = d_scores.shape
        d_scores = d_scores.reshape(batch, self.form.heads, height, width)
        shared = [axis for axis in range(4) if here.shape[axis] == 1]
        start = [0, 0, 0 if d_bias.shape[2] == 1 else rows[0], 0 if d_bias.shape[3] == 1 else columns[0]]
        return jax.lax.dynamic_update_slice(d_bias, here + d_scores.sum(shared, keepdims=True), start)

    def columns_seen(self, row: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The first block of keys that a block of queries may see, and the one after the last."""
        (left, right), shift = self.form.window, self.form.kv_len - self.form.q_len
        first, last = jnp.zeros_like(row), jnp.full_like(row, self.num_columns)
        if left is not None:
            first = jnp.maximum(first, (row * self.rows + shift - left) // self.columns)
        if right is not None:
            last = jnp.minimum(last, ((row + 1) * self.rows - 1 + shift + right) // self.columns + 1)
        return first, last

    def rows_that_see(self, column: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The first block of queries that may see a block of keys, and the one after the last."""
        (left, right), shift = self.form.window, self.form.kv_len - self.form.q_len
        first, last = jnp.zeros_like(column), jnp.full_like(column, self.num_rows)
        if right is not None:
            first = jnp.maximum(first, (column * self.columns - shift - right) // self.rows)
        if left is not None:
            last = jnp.minimum(last, ((column + 1) * self.columns - 1 - shift + left) // self.rows + 1)
        return first, last


def _cut(query: Any, key: Any, value: Any, bias: Any, extras: Extras, form: Form) -> _Parts:
    rows, columns = min(BLOCK, form.q_len), min(BLOCK, form.kv_len)

    def padded(x: Any, **sizes: int) -> Any:
        """The axes padded to whole blocks, unless they are 1 and serve all."""
        if x is None:
            return None
        axes = {"rows": (x.ndim == 4 and 2) or 1, "columns": x.ndim - 1}
        pads = [(0, 0)] * x.ndim
        for name, size in sizes.items():
            if x.shape[axes[name]] > 1:
                pads[axes[name]] = (0, -x.shape[axes[name]] % size)
        return jnp.pad(x, pads)

    extras = extras._replace(
        bias=padded(bias, rows=rows, columns=columns),
        mask=padded(extras.mask, rows=rows, columns=columns),
        query_segments=padded(extras.query_segments, rows=rows),
        key_segments=padded(extras.key_segments, columns=columns),
    )
    return _Parts(_cut_rows(query, form), _cut_columns(key, columns), _cut_columns(value, columns), extras, form)


def _cut_rows(x: jax.Array, form: Form, fill: float = 0) -> jax.Array:
    """`[batch, q_len, heads, d]` as `[blocks, batch, kv_heads, group, rows, d]`."""
    rows = min(BLOCK, form.q_len)
    x = jnp.pad(x, ((0, 0), (0, -form.q_len % rows), (0, 0), (0, 0)), constant_values=fill)
    x = x.reshape(form.batch, -1, rows, form.kv_heads, form.heads // form.kv_heads, x.shape[-1])
    return x.transpose(1, 0, 3, 4, 2, 5)


def _join_rows(x: jax.Array, form: Form) -> jax.Array:
    x = x.transpose(1, 0, 4, 2, 3, 5)  # [batch, blocks, rows, kv_heads, group, d]
    return x.reshape(form.batch, -1, form.heads, x.shape[-1])[:, : form.q_len]


def _cut_columns(x: jax.Array, columns: int) -> jax.Array:
    """`[batch, kv_len, kv_heads, d]` as `[blocks, batch, kv_heads, columns, d]`."""
    batch, length, heads, depth = x.shape
    x = jnp.pad(x, ((0, 0), (0, -length % columns), (0, 0), (0, 0)))
    return x.reshape(batch, -1, columns, heads, depth).transpose(1, 0, 3, 2, 4)


def _join_columns(x: jax.Array, form: Form) -> jax.Array:
    x = x.transpose(1, 0, 3, 2, 4)  # [batch, blocks, columns, kv_heads, d]
    return x.reshape(form.batch, -1, form.kv_heads, x.shape[-1])[:, : form.kv_len].astype(form.dtype)
