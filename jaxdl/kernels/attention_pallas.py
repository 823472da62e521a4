"""Attention by the Pallas kernels: what they can do, what goes into them, and how their gradients are joined."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxdl.kernels import attention_decode, configs, mosaic
from jaxdl.kernels.attention_case import Case, Extras, Form
from jaxdl.kernels.manual_axes import vary_alike
from jaxdl.kernels.reverse_only import first_order

LARGEST_GRID = 65_535  # blocks along CUDA's y and z; under `vmap` the mapped axis counts as examples, unchecked
DEPTHS = (64, 128, 256)  # that the kernels know; others are padded with zeros, which changes no score


def refusal(case: Case, return_residual: bool) -> str | None:
    """Why the kernels cannot do a case; None where they can. First what holds everywhere, then what does here."""
    form = case.form
    if form.dtype not in (jnp.bfloat16, jnp.float16):
        return f"the Pallas kernels take bfloat16 and float16, got {form.dtype}"
    if max(form.depth, form.v_depth) > DEPTHS[-1]:
        return f"the Pallas kernels take depths up to {DEPTHS[-1]}, got {form.depth} and {form.v_depth}"
    if form.dropout_rate:
        return "the Pallas kernels have no dropout"
    if max(form.batch, form.heads) > LARGEST_GRID:
        return f"a grid takes {LARGEST_GRID} examples and heads, got {form.batch} and {form.heads}"
    return mosaic.refusal()


def attend(case: Case) -> tuple[jax.Array, jax.Array]:
    """`attention` for a case that is not refused: the output and the residual.

    They are named "attention_output" and "attention_residual" for `jax.checkpoint_policies.save_only_these_names`: with
    both saved, a rematerialised layer does not run the forward kernel twice.
    """
    form = case.form
    if 0 in (form.batch, form.q_len, form.kv_len):
        shape = (form.batch, form.q_len, form.heads)
        return jnp.zeros((*shape, form.v_depth), form.dtype), jnp.full(shape, -jnp.inf, form.wide)
    depth, v_depth = (next(known for known in DEPTHS if known >= x) for x in (form.depth, form.v_depth))
    arrays = _widen(case.query, depth), _widen(case.key, depth), _widen(case.value, v_depth)
    padded = dataclasses.replace(form, depth=depth, v_depth=v_depth)
    *arrays, bias, extras = vary_alike(*arrays, _bias(case), case.extras._replace(bias=None, mask=None))
    output, residual = _attend(*arrays, bias, extras, padded)
    return output[..., : form.v_depth], residual.transpose(0, 2, 1)


def _bias(case: Case) -> jax.Array | None:
    """Bias and mask in one: the kernels know a mask as a bias of -inf."""
    form, bias, mask = case.form, case.extras.bias, case.extras.mask
    if mask is not None:
        bias = jnp.where(mask, jnp.zeros((), form.dtype) if bias is None else bias, -jnp.inf)
    if bias is not None and (bias.dtype.itemsize > 4 or max(form.depth, form.v_depth) > 128):
        bias = bias.astype(jnp.float32)  # 64 bits are unknown there; at the largest depth converting 16 takes registers
    return bias


def _widen(x: jax.Array, depth: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, depth - x.shape[-1])))


def _compute(query: Any, key: Any, value: Any, bias: Any, extras: Extras, form: Form) -> tuple[jax.Array, jax.Array]:
    """One query has a kernel of its own; that of the others would leave most of its tile empty."""
    from jaxdl.kernels import attention_hopper_forward

    case = Case(query, key, value, extras._replace(bias=bias), form)
    if attention_decode.refusal(case.extras, form) is None:
        output, residual = attention_decode.decode(*case, _config(configs.decode_config, case.extras, form))
    else:
        config = _config(configs.attention_config, case.extras, form)
        config = attention_hopper_forward.fitting(config, case.extras, form)
        _, outputs = vary_alike(query, attention_hopper_forward.forward(*case, config))
        output, residual = outputs
    return checkpoint_name(output, "attention_output"), checkpoint_name(residual, "attention_residual")


def _config(of: Any, extras: Extras, form: Form) -> Any:
    """The default for a case; `of` is a function of `configs`."""
    left, right = form.window
    is_masked = left is not None or form.softcap is not None or any(x is not None for x in extras)
    return of(max(form.depth, form.v_depth), form.q_len, form.kv_len, right is not None, is_masked)


_ONCE = "implementation: 'pallas' of attention has first derivatives only; 'reference' and 'xla' have all"


def _forward(query: Any, key: Any, value: Any, bias: Any, extras: Extras, form: Form) -> Any:
    if bias is not None:
        raise ValueError(
            "bias, mask: implementation 'pallas' of attention has no gradients with one of these, not of other "
            "arguments either; 'blockwise' and 'reference' have them"
        )
    query, key, value = first_order(_ONCE, (query, key, value))
    output, residual = _compute(query, key, value, bias, extras, form)  # the names are seen only outside of `_attend`
    return (output, residual), (query, key, value, extras, output, residual)


def _backward(form: Form, saved: Any, cotangents: Any) -> tuple[Any, ...]:
    from jaxdl.kernels import attention_hopper_backward

    query, key, value, extras, output, residual = saved
    query, key, value, d_output, d_residual = first_order(_ONCE, (query, key, value, *cotangents))
    config = _config(configs.attention_backward_config, extras, form)
    case = Case(query, key, value, extras, form)
    found = attention_hopper_backward.backward(*case, output, residual, d_output, d_residual, config)
    _, gradients = vary_alike(query, found)
    return *gradients, None, None


_attend = jax.custom_vjp(_compute, nondiff_argnums=(5,))
_attend.defvjp(_forward, _backward)
