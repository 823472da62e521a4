"""The matrix product with what usually follows it: a bias and an activation."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from jaxdl.kernels import configs, mosaic
from jaxdl.kernels.configs import MatmulConfig
from jaxdl.kernels.manual_axes import vary_alike
from jaxdl.kernels.reverse_only import first_order, reverse_only

IMPLEMENTATIONS = ("xla", "pallas")


def _gelu(x: jax.Array) -> jax.Array:
    """The approximation with tanh, by the sigmoid of twice its argument: the device's own tanh has 11 bits."""
    return x * jax.nn.sigmoid(2 * (2 / math.pi) ** 0.5 * (x + 0.044715 * x**3))


ACTIVATIONS: Mapping[str | None, Callable[[jax.Array], jax.Array]] = {
    None: lambda x: x,
    "relu": jax.nn.relu,
    "gelu": _gelu,
    "silu": jax.nn.silu,
}


@dataclass(frozen=True)
class Form:
    """What is asked, but for the arrays."""

    transpose_a: bool
    transpose_b: bool
    activation: str | None
    out_dtype: Any
    config: MatmulConfig | None  # None: the table's, by the sizes of each product

    def sizes(self, a: Any, b: Any) -> tuple[int, int, int]:
        """The lengths m, n and k of `[m, k] @ [k, n]`."""
        m, k = a.shape[-2:][::-1] if self.transpose_a else a.shape[-2:]
        return m, b.shape[-2 if self.transpose_b else -1], k


def matmul(
    a: jax.Array,
    b: jax.Array,
    *,
    bias: jax.Array | None = None,
    activation: str | None = None,
    transpose_a: bool = False,
    transpose_b: bool = False,
    out_dtype: Any = None,
    implementation: str | None = None,
    config: MatmulConfig | None = None,
) -> jax.Array:
    """`activation(a @ b + bias)`.

    Args:
      a: floating `[..., m, k]`.
      b: of the dtype of `a`, `[..., k, n]` with the same leading axes, or `[k, n]`, which serves them all.
      bias: floating `[n]`.
      activation: None, "relu", "gelu" (the approximation with tanh, as `jax.nn.gelu`; PyTorch's default is the exact
        one) or "silu".
      transpose_a: `a` comes as `[..., k, m]`.
      transpose_b: `b` comes as `[..., n, k]`.
      out_dtype: floating; None is the dtype of `a`.
      implementation: None picks "xla" on every device: the kernel has been simulated, and compiled for an H100, but has
        not yet run on one. A name is taken or refused, never replaced:

        | name | dtypes | gradients | |
        |---|---|---|---|
        | `"xla"` | floating | all, forward mode too | `lax.dot_general`; bias and activation are XLA's to fuse |
        | `"pallas"` | bfloat16, float16; results also float32 | reverse mode, once | one kernel for Hopper |
      config: sizes of the tiles of "pallas", its gradients' too; None takes the table's.

    Returns:
      `[..., m, n]` in `out_dtype`. Sums, bias and activation are in float32, or in float64 where `a` is. Gradients have
      the dtypes of the arguments. Those of "pallas" are products of 16-bit arrays too: the gradient by `a @ b` is
      rounded to the dtype of `a`, and gelu and silu are differentiated at `a @ b + bias` in `out_dtype`. Where an axis
      is empty no kernel runs; without `k` the product is zeros.

    Raises:
      ValueError: if shapes or dtypes do not fit, an option is unknown, or the named implementation cannot do the case,
        with the reason.
      TypeError: if forward mode (`jax.jvp`) or a second derivative meets "pallas".

    >>> matmul(jnp.ones((1, 3)), jnp.ones((2, 3)), transpose_b=True, bias=jnp.array([-1.0, -4.0]), activation="relu")
    Array([[2., 0.]], dtype=float32)
    """
    form = _check(a, b, bias, Form(bool(transpose_a), bool(transpose_b), activation, out_dtype or a.dtype, config))
    name = "xla" if implementation is None else implementation
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"implementation: expected None or one of {', '.join(IMPLEMENTATIONS)}; got {name!r}")
    if name == "pallas":
        if reason := _refusal(a, form):
            raise ValueError(f"implementation: 'pallas' cannot do this product: {reason}")
        return _pallas(a, b, bias, form)
    if config is not None:
        raise ValueError("config: only the implementation 'pallas' takes one, got it with 'xla'")
    return _xla(a, b, bias, form)


def _check(a: Any, b: Any, bias: Any, form: Form) -> Form:
    for name, x in (("a", a), ("b", b)):
        if x.ndim < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"{name}: expected a floating array of at least 2 axes, got {x.dtype}{list(x.shape)}")
    if a.dtype != b.dtype:
        raise ValueError(f"b: expected the dtype {a.dtype} of a, got {b.dtype}")
    if b.ndim > 2 and b.shape[:-2] != a.shape[:-2]:
        raise ValueError(f"b: expected 2 axes or the leading axes of a {list(a.shape)}, got {list(b.shape)}")
    _, n, k = form.sizes(a, b)
    if b.shape[-1 if form.transpose_b else -2] != k:
        names = ["transposed " * flag for flag in (form.transpose_a, form.transpose_b)]
        raise ValueError(f"b: expected sums over {k} as of {names[0]}a {list(a.shape)}, got {names[1]}{list(b.shape)}")
    if bias is not None and (bias.shape != (n,) or not jnp.issubdtype(bias.dtype, jnp.floating)):
        raise ValueError(f"bias: expected floating [{n}], got {bias.dtype}{list(bias.shape)}")
    if form.activation is not None and form.activation not in tuple(ACTIVATIONS):
        names = ", ".join(name for name in ACTIVATIONS if name)
        raise ValueError(f"activation: expected None or one of {names}; got {form.activation!r}")
    try:
        out_dtype = jnp.dtype(form.out_dtype)
    except TypeError:
        out_dtype = None
    if out_dtype is None or not jnp.issubdtype(out_dtype, jnp.floating):
        raise ValueError(f"out_dtype: expected a floating dtype, got {form.out_dtype!r}")
    if form.config is not None and not isinstance(form.config, MatmulConfig):
        raise ValueError(f"config: expected a MatmulConfig, got {form.config!r}")
    return replace(form, out_dtype=out_dtype)


def _refusal(a: jax.Array, form: Form) -> str | None:
    if a.dtype not in (jnp.bfloat16, jnp.float16):
        return f"the kernel multiplies bfloat16 and float16, got {a.dtype}"
    if form.out_dtype not in (jnp.bfloat16, jnp.float16, jnp.float32):
        return f"the kernel writes bfloat16, float16 and float32, not {form.out_dtype}"
    return mosaic.refusal()


def _xla(a: jax.Array, b: jax.Array, bias: jax.Array | None, form: Form) -> jax.Array:
    wide = jnp.promote_types(a.dtype, jnp.float32)
    summed = ((a.ndim - 1 - form.transpose_a,), (b.ndim - 2 + form.transpose_b,))
    shared = tuple(range(b.ndim - 2))  # of the leading axes; those that b lacks stay in front all the same
    x = jax.lax.dot_general(a, b, (summed, (shared, shared)), preferred_element_type=wide)
    if bias is not None:
        x = x + jnp.broadcast_to(bias.astype(wide), x.shape)
    return ACTIVATIONS[form.activation](x).astype(form.out_dtype)


def _pallas(a: jax.Array, b: jax.Array, bias: jax.Array | None, form: Form) -> jax.Array:
    m, n, k = form.sizes(a, b)
    leading = a.shape[:-2]
    if 0 in (*leading, m, n, k):
        return _xla(a, b, bias, form)  # nothing to multiply
    if b.ndim == 2 and not form.transpose_a:
        a = a.reshape(-1, k)  # one tall matrix
    a, b = (x.reshape(-1, *x.shape[-2:]) for x in (a, b))
    product = reverse_only(
        lambda a, b, bias: _product(a, b, bias, form), "implementation: 'pallas' has no forward mode; 'xla' has"
    )
    return product(*vary_alike(a, b, bias)).reshape(*leading, m, n)


_ONCE = "implementation: 'pallas' of matmul has first derivatives only; 'xla' has all"


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _product(a: jax.Array, b: jax.Array, bias: jax.Array | None, form: Form) -> jax.Array:
    """The kernel for `[batch or 1, ...]`, with its gradient."""
    return _launch(a, b, None if bias is None else bias[None], form)[0]


def _forward(a: jax.Array, b: jax.Array, bias: jax.Array | None, form: Form) -> Any:
    """Keeps what the activation's derivative needs: the result of relu, what went into gelu and silu."""
    a, b, bias = first_order(_ONCE, (a, b, bias))
    keep_linear = form.activation in ("gelu", "silu")
    output, *linear = _launch(a, b, None if bias is None else bias[None], form, keep_linear)
    kept = linear[0] if linear else output if form.activation == "relu" else None
    return output, (a, b, bias, kept)


def _backward(form: Form, saved: Any, d_output: jax.Array) -> Any:
    a, b, bias, kept, d_output = first_order(_ONCE, (*saved, d_output))
    d_linear = d_output.astype(jnp.float32)
    if kept is not None:
        _, pull = jax.vjp(ACTIVATIONS[form.activation], kept.astype(jnp.float32))
        (d_linear,) = pull(d_linear)
    d_bias = None if bias is None else d_linear.sum((0, 1)).astype(bias.dtype)
    d = d_linear.astype(a.dtype)
    ta, tb = form.transpose_a, form.transpose_b
    of = partial(Form, activation=None, out_dtype=None, config=form.config)
    d_a = _product_for(a, b, d, of(tb, True)) if ta else _product_for(a, d, b, of(False, not tb))
    d_b = _product_for(b, d, a, of(True, ta)) if tb else _product_for(b, a, d, of(not ta, False))
    return d_a, d_b, d_bias


_product.defvjp(_forward, _backward)


def _product_for(x: jax.Array, left: jax.Array, right: jax.Array, form: Form) -> jax.Array:
    """A product that is the gradient of `x`, summed over the batch where one `x` has served it all."""
    if x.shape[0] == max(left.shape[0], right.shape[0]):
        return _launch(left, right, None, replace(form, out_dtype=x.dtype))[0]
    parts = _launch(left, right, None, replace(form, out_dtype=jnp.dtype(jnp.float32)))[0]
    return parts.sum(0, keepdims=True).astype(x.dtype)


def _launch(
    a: jax.Array, b: jax.Array, bias: jax.Array | None, form: Form, keep_linear: bool = False
) -> tuple[jax.Array, ...]:
    """The kernel; `jax.vmap` of it is the kernel on a larger batch.

    Args:
      a: `[batch or 1, ...]`.
      b: `[batch or 1, ...]`.
      bias: `[batch or 1, n]`.
      form: of the product.
      keep_linear: also return `a @ b + bias`.
    """
    from jaxdl.kernels import matmul_hopper

    @custom_vmap
    def run(a: jax.Array, b: jax.Array, bias: jax.Array | None) -> tuple[jax.Array, ...]:
        return matmul_hopper.multiply(
            a, b, bias, transpose_a=form.transpose_a, transpose_b=form.transpose_b, activation=form.activation,
            out_dtype=form.out_dtype, config=form.config or configs.matmul_config(*form.sizes(a, b)),
            keep_linear=keep_linear,
        )  # fmt: skip

    @run.def_vmap
    def _larger(axis_size: int, mapped: Any, *arrays: Any) -> Any:
        pairs = [*zip(arrays, mapped, strict=True)]
        batch = max(x.shape[int(is_mapped)] for x, is_mapped in pairs if x is not None)

        def merge(x: Any, is_mapped: bool) -> Any:
            if x is None or (not is_mapped and x.shape[0] == 1):
                return x  # serves all
            x = x if is_mapped else x[None]
            return jnp.broadcast_to(x, (axis_size, batch, *x.shape[2:])).reshape(axis_size * batch, *x.shape[2:])

        a, b, bias = (merge(*pair) for pair in pairs)
        if axis_size == 0:  # nothing to multiply
            m, n, _ = form.sizes(a, b)
            nothing = jnp.zeros((0, batch, m, n), form.out_dtype)
            return (nothing,) * (1 + keep_linear), (True,) * (1 + keep_linear)
        outputs = _launch(a, b, bias, form, keep_linear)
        return tuple(x.reshape(axis_size, batch, *x.shape[1:]) for x in outputs), (True,) * len(outputs)

    _, outputs = vary_alike(a, run(a, b, bias))
    return outputs
