"""What is asked of attention: its arguments, checked once, and which query sees which key."""

import operator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer


@dataclass(frozen=True)
class Form:
    """What is known when a program is traced."""

    batch: int
    q_len: int
    kv_len: int
    heads: int
    kv_heads: int
    depth: int
    v_depth: int
    dtype: Any
    scale: float
    window: tuple[int | None, int | None]  # how far to the left and to the right; None: without end
    softcap: float | None
    dropout_rate: float

    @property
    def wide(self) -> Any:
        """The dtype of scores and sums."""
        return jnp.promote_types(self.dtype, jnp.float32)


class Extras(NamedTuple):
    """The optional arrays; None where not given. Bias and mask have four axes, each full or 1."""

    bias: Any = None
    mask: Any = None
    query_lengths: Any = None
    key_lengths: Any = None
    query_segments: Any = None
    key_segments: Any = None
    dropout_key: Any = None


class Case(NamedTuple):
    """One call of attention."""

    query: jax.Array
    key: jax.Array
    value: jax.Array
    extras: Extras
    form: Form


def make_case(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    query_seq_lengths: Any = None,
    key_value_seq_lengths: Any = None,
    local_window_size: int | tuple[int, int] | None = None,
    softcap: float | None = None,
    query_segment_ids: Any = None,
    key_value_segment_ids: Any = None,
    dropout_rate: float = 0.0,
    dropout_key: Any = None,
) -> Case:
    """Checks the arguments of `attention` against each other; raises ValueError."""
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x.ndim != 4 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"{name}: expected floating [batch, length, heads, depth], got {x.dtype}{list(x.shape)}")
    (batch, q_len, heads, depth), (_, kv_len, kv_heads, _), v_depth = query.shape, key.shape, value.shape[-1]
    if key.dtype != query.dtype or value.dtype != query.dtype:
        raise ValueError(f"query, key, value: expected one dtype, got {query.dtype}, {key.dtype}, {value.dtype}")
    if key.shape != (batch, kv_len, kv_heads, depth):
        raise ValueError(
            f"key: expected the batch {batch} and the depth {depth} of query {list(query.shape)}, got {list(key.shape)}"
        )
    if value.shape[:3] != key.shape[:3]:
        raise ValueError(f"value: expected {list(key.shape[:3])} of key and a depth, got {list(value.shape)}")
    if not kv_heads or not heads or heads % kv_heads:
        raise ValueError(f"key: expected a number of heads that divides the {heads} of query, got {kv_heads}")
    if depth == 0:
        raise ValueError(f"query: expected a depth of at least 1, got {list(query.shape)}")

    full = (batch, heads, q_len, kv_len)
    for name, x, kind in (("bias", bias, jnp.floating), ("mask", mask, jnp.bool_)):
        if x is None:
            continue
        fits = x.ndim == 4 and all(n in (1, m) for n, m in zip(x.shape, full, strict=True))
        if not fits or not jnp.issubdtype(x.dtype, kind):
            what = ("floating" if kind is jnp.floating else "boolean") + f" {list(full)}, or 1 for any of these"
            raise ValueError(f"{name}: expected {what}; got {x.dtype}{list(x.shape)}")
    if (query_segment_ids is None) != (key_value_segment_ids is None):
        raise ValueError("query_segment_ids, key_value_segment_ids: expected both or none")
    for name, x, shape in (
        ("query_seq_lengths", query_seq_lengths, (batch,)),
        ("key_value_seq_lengths", key_value_seq_lengths, (batch,)),
        ("query_segment_ids", query_segment_ids, (batch, q_len)),
        ("key_value_segment_ids", key_value_segment_ids, (batch, kv_len)),
    ):
        if x is not None and (x.shape != shape or not jnp.issubdtype(x.dtype, jnp.integer)):
            raise ValueError(f"{name}: expected integer {list(shape)}, got {x.dtype}{list(x.shape)}")

    if softcap is not None and not 0 < softcap < float("inf"):
        raise ValueError(f"softcap: expected a positive number, got {softcap}")
    if not 0 <= dropout_rate < 1:
        raise ValueError(f"dropout_rate: expected a number in [0, 1), got {dropout_rate}")
    if dropout_rate and dropout_key is None:
        raise ValueError(f"dropout_key: a dropout_rate of {dropout_rate} needs one")
    if scale is not None and jnp.shape(scale):
        raise ValueError(f"scale: expected one number, got {list(jnp.shape(scale))}")
    scale, softcap, dropout_rate = (_number(x) for x in (scale, softcap, dropout_rate))
    left, right = _window(local_window_size, q_len + kv_len)
    form = Form(
        batch, q_len, kv_len, heads, kv_heads, depth, v_depth, jax.dtypes.canonicalize_dtype(query.dtype),
        scale=depth**-0.5 if scale is None else scale,
        window=(left, 0 if is_causal else right),
        softcap=softcap,
        dropout_rate=dropout_rate,
    )  # fmt: skip
    extras = Extras(
        bias, mask, query_seq_lengths, key_value_seq_lengths, query_segment_ids, key_value_segment_ids,
        dropout_key if dropout_rate else None,
    )  # fmt: skip
    return Case(query, key, value, extras, form)


def _number(x: Any) -> Any:
    """As a Python float: a NumPy scalar would widen what it meets. What is traced stays so."""
    return x if x is None or isinstance(x, Tracer) else float(x)


def _window(size: Any, everything: int) -> tuple[int | None, int | None]:
    if size is None:
        return None, None
    try:
        sides = tuple(operator.index(side) for side in (size if isinstance(size, tuple | list) else (size, size)))
    except TypeError:
        sides = ()
    if len(sides) != 2 or min(sides) < 0:
        raise ValueError(f"local_window_size: expected a whole number of keys, or one for each side; got {size!r}")
    left, right = (None if side >= everything else side for side in sides)
    return left, right


def visible(form: Form, extras: Extras, rows: tuple[Any, int], columns: tuple[Any, int]) -> jax.Array | None:
    """Which keys the queries of a block see.

    Args:
      form: of the whole attention.
      extras: of the whole attention.
      rows: the first query of the block, which may be traced, and how many.
      columns: the first key, and how many. Keys beyond the last are seen by nobody.

    Returns:
      Boolean, broadcastable to `[batch, heads, rows, columns]`; None if everything is seen.
    """
    row = (rows[0] + jnp.arange(rows[1]))[:, None]
    column = (columns[0] + jnp.arange(columns[1]))[None]
    position = row + form.kv_len - form.q_len
    left, right = form.window
    seen = []
    if right is not None:
        seen.append((column <= position + right)[None, None])
    if left is not None:
        seen.append((column >= position - left)[None, None])
    if extras.query_lengths is not None:
        seen.append((row[None] < extras.query_lengths[:, None, None])[:, None])
    if extras.key_lengths is not None:
        seen.append((column[None] < extras.key_lengths[:, None, None])[:, None])
    if extras.query_segments is not None:
        of_rows = block(extras.query_segments, 1, rows)[:, None, :, None]
        of_columns = block(extras.key_segments, 1, columns)[:, None, None, :]
        seen.append(of_rows == of_columns)
    if extras.mask is not None:
        seen.append(block(block(extras.mask, 2, rows), 3, columns))
    if not isinstance(columns[0], int) or columns[0] + columns[1] > form.kv_len:
        seen.append((column < form.kv_len)[None, None])
    if not seen:
        return None
    result = seen[0]
    for each in seen[1:]:
        result = result & each
    return result


def block(x: jax.Array, axis: int, part: tuple[Any, int]) -> jax.Array:
    """Cuts a part (first, how many) out of an axis, or leaves it if its size is 1 and serves all."""
    first, count = part
    if x.shape[axis] == 1 or (isinstance(first, int) and first == 0 and count == x.shape[axis]):
        return x
    return jax.lax.dynamic_slice_in_dim(x, first, count, axis)


def by_group(x: jax.Array, form: Form) -> jax.Array:
    """`[batch, heads or 1, rows, columns]` as `[batch, kv_heads or 1, heads/kv_heads or 1, rows, columns]`."""
    if x.shape[1] == 1:
        return x[:, :, None]
    return x.reshape(x.shape[0], form.kv_heads, form.heads // form.kv_heads, *x.shape[2:])


def scores(
    form: Form, extras: Extras, query: jax.Array, key: jax.Array, rows: tuple[Any, int], columns: Any
) -> jax.Array:
    """The scores of a block, with the bias, -inf where a key is not seen.

    Args:
      form: of the whole attention.
      extras: of the whole attention.
      query: `[batch, kv_heads, group, rows, depth]`.
      key: `[batch, kv_heads, columns, depth]`.
      rows: as for `visible`.
      columns: as for `visible`.

    Returns:
      `[batch, kv_heads, group, rows, columns]` in the wide dtype.
    """
    x = jnp.einsum("bkgqd,bksd->bkgqs", query, key, preferred_element_type=form.wide) * form.scale
    if form.softcap is not None:
        x = form.softcap * jnp.tanh(x / form.softcap)
    if extras.bias is not None:
        x = x + by_group(block(block(extras.bias, 2, rows), 3, columns).astype(form.wide), form)
    seen = visible(form, extras, rows, columns)
    return x if seen is None else jnp.where(by_group(seen, form), x, -jnp.inf)
