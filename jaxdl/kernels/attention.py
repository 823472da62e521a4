"""Scaled dot-product attention (Vaswani et al., 2017, "Attention Is All You Need", section 3.2.1)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
from jax.core import Tracer

from jaxdl.kernels import attention_blockwise, attention_library, attention_pallas, attention_reference
from jaxdl.kernels.attention_case import Case, make_case
from jaxdl.kernels.reverse_only import reverse_only

Implementation = Callable[[Case], tuple[jax.Array, Any]]  # the output and the residual

Refusal = Callable[[Case, bool], str | None]  # of a case and whether the residual is wanted

_IMPLEMENTATIONS: Mapping[str, tuple[Implementation, Refusal]] = {
    "reference": (attention_reference.attend, lambda case, return_residual: None),
    "blockwise": (attention_blockwise.attend, lambda case, return_residual: None),
    "xla": (attention_library.attend_xla, attention_library.refusal_xla),
    "cudnn": (attention_library.attend_cudnn, attention_library.refusal_cudnn),
    "pallas": (attention_pallas.attend, attention_pallas.refusal),
}
_OWN_GRADIENT = ("blockwise", "pallas")
DENSE_SCORES = 1 << 20  # of more scores than this a head and an example, None picks "blockwise"


def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    query_seq_lengths: jax.Array | None = None,
    key_value_seq_lengths: jax.Array | None = None,
    local_window_size: int | tuple[int, int] | None = None,
    softcap: float | None = None,
    query_segment_ids: jax.Array | None = None,
    key_value_segment_ids: jax.Array | None = None,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
    implementation: str | None = None,
    return_residual: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Averages `value` by the similarity of `query` and `key`: `softmax(softcap(scale query key^T) + bias) value`.

    A query sees a key if everything that is given lets it. Position i of the queries stands at position
    `i + kv_len - q_len` of the keys: the last query beside the last key (bottom-right; `jax.nn` aligns the first ones).

    Args:
      query: floating `[batch, q_len, heads, depth]`.
      key: `[batch, kv_len, kv_heads, depth]`; `kv_heads` divides `heads`, and each serves as many queries' heads.
      value: `[batch, kv_len, kv_heads, v_depth]`. All three have one dtype.
      bias: added to the scores, broadcastable to `[batch, heads, q_len, kv_len]`.
      mask: boolean, of such a shape; True may be seen.
      is_causal: a query sees no key behind its own position.
      scale: factor on the scores; default `depth ** -0.5`.
      query_seq_lengths: integer `[batch]`; queries from there on are padding, any finite numbers.
      key_value_seq_lengths: integer `[batch]`; keys and values from there on are padding, finite too. They do not move
        the alignment.
      local_window_size: how far a query sees to the left and to the right of its position; one number for both.
      softcap: bounds the scaled scores smoothly, `softcap * tanh(score / softcap)` (Gemma 2), before the bias.
      query_segment_ids: integer `[batch, q_len]`, with the next: a query sees the keys of its own segment.
      key_value_segment_ids: integer `[batch, kv_len]`.
      dropout_rate: share of the weights that become zero; the rest grow by `1 / (1 - rate)`. In [0, 1).
      dropout_key: needed where the rate is above 0.
      implementation: None picks "reference" up to a million scores a head and "blockwise" above, on every device. A
        name is taken or refused, never replaced:

        | name | memory | |
        |---|---|---|
        | `"reference"` | `q_len * kv_len` | dense; everything, forward mode too |
        | `"blockwise"` | `q_len + kv_len` | a scan over blocks with its own gradient: everything, reverse mode once |
        | `"xla"` | `q_len * kv_len` | `jax.nn.dot_product_attention`; see `available_implementations` |
        | `"cudnn"` | `q_len + kv_len` | the same on NVIDIA's library; see `available_implementations` |
        | `"pallas"` | `q_len + kv_len` | our kernels for Hopper; reverse mode once |

        The kernels of "pallas" take bfloat16 and float16, depths up to 256, and everything but dropout; with a bias, or
        a mask, which becomes one, they have no gradient. They need an NVIDIA GPU of compute capability 9.0 (H100, H200)
        or `jaxdl.kernels.interpret`. They are tested in the interpreter and compiled for an H100, but have not yet run
        on one, so None does not pick them. On the device the tanh of a softcap is the approximate one, with 11 bits.
        Under `jax.shard_map` over batch and heads they need no communication; a plain `jit` of sharded arrays gathers
        them.
      return_residual: also returns the logarithm of the sum of the exponentials of each row's scores, which merges
        attention over parts of the keys. It has a gradient.

    Returns:
      `[batch, q_len, heads, v_depth]` in the dtype of `value`; scores and softmax are at least float32. The residual is
      `[batch, q_len, heads]`, of their dtype. A query that sees nothing, padding for one, gets zeros and the residual
      -inf, and its gradients are zeros (PyTorch gives NaN, `jax.nn` an average of all values).

    Raises:
      ValueError: if shapes or dtypes do not fit, an option is out of its range, or the named implementation cannot do
        the case, with the reason; or if it has no gradient for the case and is differentiated.
      TypeError: in forward mode and for second derivatives, under "blockwise" and "pallas".
    """
    case = make_case(
        query, key, value, bias, mask, is_causal=is_causal, scale=scale, query_seq_lengths=query_seq_lengths,
        key_value_seq_lengths=key_value_seq_lengths, local_window_size=local_window_size, softcap=softcap,
        query_segment_ids=query_segment_ids, key_value_segment_ids=key_value_segment_ids, dropout_rate=dropout_rate,
        dropout_key=dropout_key,
    )  # fmt: skip
    name = implementation
    if name is None:
        name = "reference" if case.form.q_len * case.form.kv_len <= DENSE_SCORES else "blockwise"
    if name not in _IMPLEMENTATIONS:
        raise ValueError(f"implementation: expected None or one of {', '.join(_IMPLEMENTATIONS)}; got {name!r}")
    attend, refusal = _IMPLEMENTATIONS[name]
    if reason := refusal(case, return_residual):
        raise ValueError(f"implementation: {name!r} cannot do this attention: {reason}")
    if name in _OWN_GRADIENT:
        attend, case = _reverse_only(name, attend), _with_constant_scale(case)
    output, residual = attend(case)
    return (output, residual) if return_residual else output


def _reverse_only(name: str, attend: Implementation) -> Implementation:
    message = (
        f"implementation: {name!r} of attention has reverse mode only; 'reference' and 'xla' have forward mode, too "
        "(jvp, jacfwd, hessian, linearize)"
    )

    def checked(case: Case) -> tuple[jax.Array, jax.Array]:
        def of_floats(query: Any, key: Any, value: Any, bias: Any) -> tuple[jax.Array, jax.Array]:
            return attend(Case(query, key, value, case.extras._replace(bias=bias), case.form))

        return reverse_only(of_floats, message)(case.query, case.key, case.value, case.extras.bias)

    return checked


def _with_constant_scale(case: Case) -> Case:
    """For a gradient that takes the scale for a constant: one that is traced, say learned, joins the query."""
    scale = case.form.scale
    if not isinstance(scale, Tracer):
        return case
    query = (case.query.astype(case.form.wide) * scale).astype(case.form.dtype)
    return case._replace(query=query, form=replace(case.form, scale=1.0))


def available_implementations(*args: Any, return_residual: bool = False, **kwargs: Any) -> dict[str, str | None]:
    """Says of each implementation whether it can do a case.

    Args:
      args: as for `attention`; so are all others but `implementation`. Arrays may be `jax.ShapeDtypeStruct`.
      return_residual: as for `attention`.
      kwargs: as for `attention`.

    Returns:
      By name: None, or the reason why not.

    >>> x = jax.ShapeDtypeStruct((1, 4, 2, 8), "float32")
    >>> available_implementations(x, x, x, softcap=30.0)["xla"]
    'jax.nn.dot_product_attention has no softcap'
    """
    case = make_case(*args, **kwargs)
    return {name: refusal(case, return_residual) for name, (_, refusal) in _IMPLEMENTATIONS.items()}


def attention_weights(
    query: jax.Array, key: jax.Array, bias: jax.Array | None = None, mask: jax.Array | None = None, **options: Any
) -> jax.Array:
    """The weights with which `attention` averages, for pictures.

    Args:
      query: as for `attention`; so are `key`, `bias`, `mask` and the options, but for dropout and `implementation`.
      key: as for `attention`.
      bias: as for `attention`.
      mask: as for `attention`.
      options: as for `attention`.

    Returns:
      `[batch, heads, q_len, kv_len]`, at least float32. Rows sum to 1; those of queries that see nothing are zeros.
    """
    return attention_reference.weights(make_case(query, key, key, bias, mask, **options))
