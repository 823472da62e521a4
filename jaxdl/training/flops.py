"""How much arithmetic a function does, counted in its jaxpr.

XLA's own `cost_analysis` counts the body of a scan once, whatever its length.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Rule = Callable[[Any], int]  # an equation of a jaxpr -> its floating-point operations


def count_flops(
    fn: Callable[..., Any], *args: Any, while_trips: int | None = None, rules: Mapping[str, Rule] | None = None
) -> int:
    """Counts the floating-point operations of `fn(*args)`, as traced; nothing is computed.

    A multiplication, an addition, a comparison of two floating-point numbers, an exponential: one each, complex numbers
    too. Moving, selecting, converting and drawing random bits are free, and so is integer arithmetic. What no output
    depends on is not counted, such as the loss where only its gradient is asked for.

    - matrix product: `2 b m n k`; convolution: 2 x outputs x taps of a filter, with the padding counted as if it were
      data, and without the zeros that a dilation of the input inserts (the gradient of a strided convolution).
    - elementwise: the size of the output; reduction: of the input; cumulative sums: of the output; windows and
      scattered additions: of the windows and of the updates; sort along n: `ceil(log2 n)` comparisons an element.
    - Cholesky: `n^3 / 3`; triangular solve: `n^2` a column; LU: `2 n^3 / 3`; FFT: `5 n log2 n`, half of it
      between real and complex.
    - scan: the body times the length; `cond`: the dearest branch, of `platform_dependent` the default; `while`: refused
      unless `while_trips` is given.
    - `shard_map` and `pmap`: the sum over all devices, so replicated work counts once a device; a `psum` counts as a
      reduction, the other communication nothing.
    - `remat`: what is computed again is counted again. Rematerialised code that XLA merges or removes still counts.
    - a Pallas kernel: its `cost_estimate`.

    Args:
      fn: the function, compiled (`jax.jit`) or not. Of a gradient, pass `jax.grad(loss)` or `jax.value_and_grad(loss)`.
      args: its arguments: arrays, `jax.ShapeDtypeStruct`, or pytrees of these. For keywords and static arguments use
        a lambda or `functools.partial`.
      while_trips: how often the body of every `while` runs.
      rules: how to count further primitives, or these differently: name -> function of the equation. An equation has
        `invars` and `outvars` with `.aval.shape`, and `params`.

    Raises:
      ValueError: for a `while` without `while_trips`, a Pallas kernel without an estimate, and a primitive that has no
        rule; all three name what to pass.

    >>> x = jnp.ones((4, 3))
    >>> count_flops(lambda x: jnp.tanh(x @ x.T).sum(), x)  # 2 * 4 * 4 * 3 + 16 + 16
    128
    """
    if while_trips is not None and while_trips < 0:
        raise ValueError(f"while_trips: expected at least 0, got {while_trips}")
    return _count(jax.make_jaxpr(fn)(*args), while_trips, rules or {})


def _count(jaxpr: Any, while_trips: int | None, rules: Mapping[str, Rule]) -> int:
    def count(jaxpr: Any) -> int:
        jaxpr = getattr(jaxpr, "jaxpr", jaxpr)  # closed or open
        needed, total = {id(var) for var in jaxpr.outvars}, 0
        for equation in reversed(jaxpr.eqns):
            if equation.effects or any(id(var) in needed for var in equation.outvars):
                needed.update(map(id, equation.invars))
                total += cost(equation)
        return total

    def cost(equation: Any) -> int:
        name, params = equation.primitive.name, equation.params
        if name in rules:
            return int(rules[name](equation))
        if name in CALLS:
            return count(params["jaxpr" if "jaxpr" in params else "call_jaxpr"])
        if name == "scan":
            return params["length"] * count(params["jaxpr"])
        if name == "cond":
            branches = params["branches"]
            return count(branches[-1]) if params.get("branches_platforms") else max(map(count, branches))
        if name == "while":
            if while_trips is None:
                raise ValueError("while_trips: a `while` runs until its condition fails; pass how often to count it")
            return while_trips * count(params["body_jaxpr"]) + (while_trips + 1) * count(params["cond_jaxpr"])
        if name == "shard_map":
            mesh = params["mesh"].shape
            return math.prod(mesh[axis] for axis in params["newly_manual_axes"]) * count(params["jaxpr"])
        if not any(map(_is_floating, (*equation.invars, *equation.outvars))):
            return 0
        if name not in RULES:
            raise ValueError(f"no rule counts the primitive {name!r}; pass rules={{{name!r}: lambda equation: ...}}")
        return RULES[name](equation)

    return count(jaxpr)


CALLS = {"jit", "closed_call", "eval_jaxpr", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call"}


def _size(var: Any) -> int:
    return math.prod(var.aval.shape)


def _is_floating(var: Any) -> bool:
    return jnp.issubdtype(getattr(var.aval, "dtype", jnp.int32), jnp.inexact)


def _matrix_product(equation: Any) -> int:
    """Every element of the left operand meets every free (not contracted, batch or group) position of the right one."""
    lhs, rhs = equation.invars[:2]
    numbers, groups = equation.params.get("dimension_numbers"), ()
    if numbers is None:  # ragged: each row meets the matrix of its group only
        ragged = equation.params["ragged_dot_dimension_numbers"]
        numbers, groups = ragged.dot_dimension_numbers, ragged.rhs_group_dimensions
    (_, contracted), (_, batch) = numbers
    free = set(range(len(rhs.aval.shape))) - {*contracted, *batch, *groups}
    return 2 * _size(lhs) * math.prod(rhs.aval.shape[axis] for axis in free)


def _convolution(equation: Any) -> int:
    """Output positions and filter taps that meet, axis by axis; a tap on an inserted zero meets nothing."""
    params, numbers = equation.params, equation.params["dimension_numbers"]
    filters, output = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
    pairs = output[numbers.out_spec[0]] * output[numbers.out_spec[1]] * filters[numbers.rhs_spec[1]]
    for i, (stride, (low, _)) in enumerate(zip(params["window_strides"], params["padding"], strict=True)):
        positions = np.arange(output[numbers.out_spec[2 + i]])[:, None] * stride - low
        taps = np.arange(filters[numbers.rhs_spec[2 + i]]) * params["rhs_dilation"][i]
        pairs *= int(((positions + taps) % params["lhs_dilation"][i] == 0).sum())
    return 2 * pairs


def _windows(pooled: Any, equation: Any) -> int:
    return _size(pooled) * math.prod(equation.params["window_dimensions"])


def _sort(equation: Any) -> int:
    keys = equation.invars[0]
    return _size(keys) * _ceil_log2(keys.aval.shape[equation.params["dimension"]])


def _lu(equation: Any) -> int:
    *batch, m, n = equation.invars[0].aval.shape
    return math.prod(batch) * min(m, n) ** 2 * (3 * max(m, n) - min(m, n)) // 3


def _fft(equation: Any) -> int:
    (source,), (result,) = equation.invars, equation.outvars
    real = not all(jnp.issubdtype(var.aval.dtype, jnp.complexfloating) for var in (source, result))
    size = max(_size(source), _size(result))  # of a real transform: its real side
    return 5 * size * _ceil_log2(math.prod(equation.params["fft_lengths"])) // (2 if real else 1)


def _kernel(equation: Any) -> int:
    estimate = equation.params.get("cost_estimate")
    if estimate is None:
        raise ValueError(
            "a Pallas kernel has no cost_estimate; give it one, or pass rules={'pallas_call': lambda equation: ...}"
        )
    return int(estimate.flops + estimate.transcendentals)


def _ceil_log2(n: int) -> int:
    return (n - 1).bit_length() if n > 0 else 0


def _all(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: Mapping[str, Rule] = {
    **_all(
        """
        all_gather all_gather_invariant all_to_all axis_index bitcast_convert_type broadcast_in_dim complex concatenate
        conj convert_element_type copy copy_p create_token debug_callback debug_print device_put dynamic_slice
        dynamic_update_slice empty empty2 gather imag iota layout_constraint name optimization_barrier pad pbroadcast
        ppermute pvary random_bits real reduce_precision reshape reshard rev rng_uniform scatter select_n
        sharding_constraint slice split squeeze stack stop_gradient tie tile transpose unstack zeros_like
        """,
        lambda equation: 0,
    ),
    **_all(
        """
        abs acos acosh add add_any asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp cos cosh
        cumlogsumexp cummax cummin cumprod cumsum digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt
        igamma igammac integer_pow is_finite le le_to lgamma log log1p log2 logistic lt lt_to max min mul ne neg
        nextafter one_minus_square polygamma pow regularized_incomplete_beta rem round rsqrt sign sin sinh sqrt square
        sub tan tanh zeta
        """,
        lambda equation: _size(equation.outvars[0]),
    ),
    **_all(
        """
        argmax argmin pmax pmin psum psum_invariant reduce reduce_max reduce_min reduce_prod reduce_scatter reduce_sum
        """,
        lambda equation: _size(equation.invars[0]),
    ),
    **_all("dot_general ragged_dot_general", _matrix_product),
    **_all(
        "reduce_window reduce_window_max reduce_window_min reduce_window_sum select_and_gather_add",
        lambda equation: _windows(equation.outvars[0], equation),
    ),
    "select_and_scatter_add": lambda equation: _windows(equation.invars[0], equation),
    **_all("scatter-add scatter-sub scatter-mul scatter-min scatter-max", lambda equation: _size(equation.invars[2])),
    "conv_general_dilated": _convolution,
    "sort": _sort,
    "top_k": lambda equation: _size(equation.invars[0]) * max(1, _ceil_log2(equation.params["k"])),
    "polynomial": lambda equation: 2 * (len(equation.invars) - 2) * _size(equation.outvars[0]),  # Horner's rule
    "cholesky": lambda equation: _size(equation.invars[0]) * equation.invars[0].aval.shape[-1] // 3,
    "triangular_solve": lambda equation: _size(equation.invars[1]) * equation.invars[0].aval.shape[-1],
    "lu": _lu,
    "fft": _fft,
    "pallas_call": _kernel,
}
