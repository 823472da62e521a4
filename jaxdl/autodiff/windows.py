"""Rules of convolution and pooling."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives

from jaxdl.autodiff.rules import LinearMap, register_linear, register_rule

Array = jax.Array


@register_rule("conv_general_dilated")
def _convolution(
    x: Array,
    w: Array,
    *,
    output: Array,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: Any,
    feature_group_count: int,
    batch_group_count: int,
    precision: Any,
    **params: Any,
) -> list[LinearMap]:
    """Both adjoints are convolutions.

    `y[n, o, p] = sum over i, k of x[n, i, stride p + dilation k - low] w[o, i, k]`, where x may be dilated with zeros.
    So x_bar is y_bar, dilated by the stride, convolved with the flipped kernel, whose channels change places; and
    w_bar is x convolved with y_bar as the kernel, where batch and channels change places.
    """
    x_spec, w_spec, y_spec = dimension_numbers
    groups = max(feature_group_count, batch_group_count)  # one of them is 1
    sizes = [[array.shape[axis] for axis in spec[2:]] for array, spec in ((x, x_spec), (w, w_spec), (output, y_spec))]
    x_spans, w_spans, y_spans = (
        [dilation * (size - 1) + 1 if size else 0 for size, dilation in zip(size, dilations, strict=True)]
        for size, dilations in zip(sizes, (lhs_dilation, rhs_dilation, window_strides), strict=True)
    )
    lows = [low for low, _ in padding]

    def convolve(left: Array, right: Array) -> Array:
        return primitives.conv_general_dilated_p.bind(
            left,
            right,
            window_strides=window_strides,
            padding=padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            batch_group_count=batch_group_count,
            precision=precision,
            **params,
        )

    def pull_x(g: Array) -> Array:
        flipped = _regroup(lax.rev(w, w_spec[2:]), groups, w_spec[0], w_spec[1])
        adjoint = lax.conv_general_dilated(
            g,
            flipped,
            window_strides=lhs_dilation,
            padding=[
                (w_span - 1 - low, x_span + low - y_span)
                for low, x_span, w_span, y_span in zip(lows, x_spans, w_spans, y_spans, strict=True)
            ],
            lhs_dilation=window_strides,
            rhs_dilation=rhs_dilation,
            dimension_numbers=lax.ConvDimensionNumbers(y_spec, _swapped(w_spec), x_spec),
            feature_group_count=groups,
            precision=precision,
        )
        if batch_group_count > 1:
            adjoint = _regroup(adjoint, batch_group_count, x_spec[1], x_spec[0])
        return adjoint.astype(x.dtype)

    def pull_w(g: Array) -> Array:
        return lax.conv_general_dilated(
            x,
            g,
            window_strides=rhs_dilation,
            padding=[
                (low, w_span - 1 + y_span - x_span - low)
                for low, x_span, w_span, y_span in zip(lows, x_spans, w_spans, y_spans, strict=True)
            ],
            lhs_dilation=lhs_dilation,
            rhs_dilation=window_strides,
            dimension_numbers=lax.ConvDimensionNumbers(_swapped(x_spec), _swapped(y_spec), _swapped(w_spec)),
            feature_group_count=batch_group_count,
            batch_group_count=feature_group_count,
            precision=precision,
        ).astype(w.dtype)

    return [LinearMap(lambda t: convolve(t, w), pull_x), LinearMap(lambda t: convolve(x, t), pull_w)]


def _swapped(spec: Sequence[int]) -> tuple[int, ...]:
    """Batch and channels, or output and input channels, in each other's place."""
    return (spec[1], spec[0], *spec[2:])


def _regroup(array: Array, groups: int, source: int, target: int) -> Array:
    """Takes the groups, which are the slower part of axis `source`, to be the slower part of axis `target`."""
    shape = array.shape
    split = array.reshape(*shape[:source], groups, shape[source] // groups, *shape[source + 1 :])
    return lax.collapse(jnp.moveaxis(split, source, target), target, target + 2)


def _pull_window_sum(
    adjoint: Array,
    x: Array,
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> Array:
    """As for a convolution with ones: each element gets the adjoints of the windows that it is in."""
    around = []
    for size, n, window, stride, (low, _), base, dilation in zip(
        x.shape, adjoint.shape, window_dimensions, window_strides, padding, base_dilation, window_dilation, strict=True
    ):
        x_span, y_span = base * (size - 1) + 1, stride * (n - 1) + 1
        around.append((dilation * (window - 1) - low, x_span + low - y_span, stride - 1))
    return primitives.reduce_window_sum_p.bind(
        lax.pad(adjoint, jnp.zeros((), x.dtype), around),
        window_dimensions=tuple(window_dimensions),
        window_strides=tuple(base_dilation),
        padding=((0, 0),) * x.ndim,
        base_dilation=(1,) * x.ndim,
        window_dilation=tuple(window_dilation),
    )


register_linear("reduce_window_sum", _pull_window_sum)


def _gather(change: Array, x: Array, comparison: Any, windows: dict[str, Any]) -> Array:
    """In each window, the change of the element that the comparison of x selects."""
    return primitives.select_and_gather_add_p.bind(change, x, select_prim=comparison, **windows)


def _scatter(adjoint: Array, x: Array, comparison: Any, windows: dict[str, Any]) -> Array:
    """The transposed: to the element that is selected in each window, the adjoint of the window."""
    base = windows["base_dilation"]
    if any(dilation != 1 for dilation in windows["window_dilation"]):
        raise NotImplementedError("reverse mode of pooling by maximum over dilated windows; JAX has none either")
    if any(dilation != 1 for dilation in base):
        low = -jnp.inf if comparison is primitives.ge_p else jnp.inf
        x = lax.pad(x, jnp.array(low, x.dtype), [(0, 0, dilation - 1) for dilation in base])
    keys = ("window_dimensions", "window_strides", "padding")
    result = primitives.select_and_scatter_add_p.bind(
        adjoint, x, select_prim=comparison, **{key: windows[key] for key in keys}
    )
    return lax.slice(result, (0,) * x.ndim, x.shape, base)


def _register_pooling(name: str, comparison: Any) -> None:
    @register_rule(name)
    def rule(x: Array, *, output: Array, **windows: Any) -> LinearMap:
        return LinearMap(lambda t: _gather(t, x, comparison, windows), lambda g: _scatter(g, x, comparison, windows))


_register_pooling("reduce_window_max", primitives.ge_p)
_register_pooling("reduce_window_min", primitives.le_p)


@register_rule("select_and_gather_add")
def _select_and_gather(
    change: Array, x: Array, *, output: Array, select_prim: Any, **windows: Any
) -> list[LinearMap | None]:
    by_change = LinearMap(lambda t: _gather(t, x, select_prim, windows), lambda g: _scatter(g, x, select_prim, windows))
    return [by_change, None]  # a small change of x selects the same elements


@register_rule("select_and_scatter_add")
def _select_and_scatter(
    adjoint: Array, x: Array, *, output: Array, select_prim: Any, **windows: Any
) -> list[LinearMap | None]:
    ones = (1,) * x.ndim
    windows |= {"base_dilation": ones, "window_dilation": ones}
    by_adjoint = LinearMap(
        lambda t: _scatter(t, x, select_prim, windows), lambda g: _gather(g, x, select_prim, windows)
    )
    return [by_adjoint, None]
