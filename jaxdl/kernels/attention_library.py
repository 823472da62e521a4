"""Attention by `jax.nn.dot_product_attention`, as far as it can do what `attention` promises."""

import jax
import jax.numpy as jnp

from jaxdl.kernels.attention_case import Case, visible


def refusal_xla(case: Case, return_residual: bool) -> str | None:
    """Why it cannot do a case; None where it can."""
    form = case.form
    if form.softcap is not None:
        return "jax.nn.dot_product_attention has no softcap"
    if form.dropout_rate:
        return "jax.nn.dot_product_attention has no dropout"
    if return_residual:
        return "the residual of jax.nn.dot_product_attention has no gradient"
    if form.dtype == jnp.float64:
        return "jax.nn.dot_product_attention computes its softmax in float32"
    if form.v_depth != form.depth:
        return f"jax.nn.dot_product_attention wants one depth for keys and values, got {form.depth} and {form.v_depth}"
    if 0 in (form.batch, form.q_len, form.kv_len):
        return "an array is empty"
    return None


def attend_xla(case: Case) -> tuple[jax.Array, None]:
    """The mask of a case is written out, because `jax.nn` aligns causal masks and windows with the first key."""
    form, extras = case.form, case.extras
    seen = visible(form, extras, (0, form.q_len), (0, form.kv_len))
    bias = extras.bias
    if bias is not None:  # `jax.nn` writes 0.7 finfo.min where nothing is seen; a bias below that would let it in
        seen = _and_finite(seen, bias)
        bias = jnp.maximum(bias.astype(form.wide), jnp.finfo(form.wide).min / 4)
    output = jax.nn.dot_product_attention(
        case.query, case.key, case.value, bias, seen, scale=form.scale, implementation="xla"
    )
    return _with_empty_rows(case, seen, output), None


def refusal_cudnn(case: Case, return_residual: bool) -> str | None:
    """Why it cannot do a case; None where it can."""
    form, extras = case.form, case.extras
    if jax.default_backend() not in ("gpu", "cuda"):
        return f"cuDNN needs an NVIDIA GPU, the default backend is {jax.default_backend()!r}"
    if form.dtype not in (jnp.bfloat16, jnp.float16):
        return f"cuDNN needs bfloat16 or float16, got {form.dtype}"
    if form.depth > 256 or form.depth % 8:
        return f"cuDNN needs a depth of at most 256 that 8 divides, got {form.depth}"
    if extras.query_segments is not None:
        return "segment ids would be a dense mask there"
    if form.window not in ((None, None), (None, 0)):
        return "local windows have not been verified there"
    if form.window == (None, 0) and form.q_len != form.kv_len:
        return f"its causal mask is aligned with the first key, and q_len {form.q_len} is not kv_len {form.kv_len}"
    return refusal_xla(case, return_residual)


def attend_cudnn(case: Case) -> tuple[jax.Array, None]:
    """Lengths and causality go to cuDNN as they are, so that no mask is made; the rows that see nothing are ours."""
    form, extras = case.form, case.extras
    lengths = {"query_seq_lengths": extras.query_lengths, "key_value_seq_lengths": extras.key_lengths}
    lengths = {name: x.astype(jnp.int32) for name, x in lengths.items() if x is not None}
    output = jax.nn.dot_product_attention(
        case.query, case.key, case.value, extras.bias, extras.mask, scale=form.scale,
        is_causal=form.window == (None, 0), implementation="cudnn", **lengths,
    )  # fmt: skip
    may_be_empty = extras.mask is not None or lengths
    seen = visible(form, extras, (0, form.q_len), (0, form.kv_len)) if may_be_empty else None
    if extras.bias is not None:
        seen = _and_finite(seen, extras.bias)
    return _with_empty_rows(case, seen, output), None


def _and_finite(seen: jax.Array | None, bias: jax.Array) -> jax.Array:
    """A bias of -inf hides, too."""
    finite = bias > -jnp.inf
    return finite if seen is None else seen & finite


def _with_empty_rows(case: Case, seen: jax.Array | None, output: jax.Array) -> jax.Array:
    if seen is None:
        return output
    form = case.form
    some = jnp.broadcast_to(seen.any(-1), (form.batch, form.heads, form.q_len)).transpose(0, 2, 1)
    return jnp.where(some[..., None], output, 0)
