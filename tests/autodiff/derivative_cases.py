"""A small function for every primitive that has a rule, with shapes and a range of values where it is smooth."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name


class Case(NamedTuple):
    function: object
    shapes: tuple  # of the floating arguments
    low: float = -2.0
    high: float = 2.0
    ties: bool = False  # small integers instead, where values meet


UNARY = {
    **{
        name: Case(getattr(jnp, name), ((3,),))
        for name in ("sin", "cos", "exp", "exp2", "expm1", "sinh", "cosh", "tanh")
    },
    **{name: Case(getattr(jnp, name), ((3,),)) for name in ("arctan", "arcsinh", "cbrt", "abs", "sign", "square")},
    **{name: Case(getattr(jnp, name), ((3,),)) for name in ("floor", "ceil", "round")},
    **{name: Case(getattr(jnp, name), ((3,),), -0.9, 0.9) for name in ("arcsin", "arccos", "arctanh", "tan")},
    **{name: Case(getattr(jnp, name), ((3,),), 0.2, 3.0) for name in ("log", "log1p", "log2", "sqrt")},
    **{name: Case(getattr(lax, name), ((3,),)) for name in ("logistic", "erf", "erfc", "neg")},
    **{name: Case(getattr(lax, name), ((3,),), 0.2, 3.0) for name in ("rsqrt", "lgamma", "digamma")},
    "arccosh": Case(jnp.arccosh, ((3,),), 1.2, 3.0),
    "erf_inv": Case(lax.erf_inv, ((3,),), -0.9, 0.9),
    "polygamma": Case(lambda x: lax.polygamma(1.0, x), ((),), 0.5, 3.0),
    "integer_pow": Case(lambda x: x**3 + x**-2 + lax.integer_pow(x, 0), ((3,),), 0.5, 2.0),
    "logistic of large": Case(lax.logistic, ((3,),), 15.0, 30.0),
    "copy": Case(lambda x: jnp.array(x, copy=True), ((3,),)),
    "reduce_precision": Case(lambda x: lax.reduce_precision(x, 11, 52), ((3,),)),
    "convert_element_type": Case(lambda x: x.astype(jnp.float32).astype(jnp.float64), ((3,),)),
    "to integers and back": Case(lambda x: x * x.astype(jnp.int32), ((3,),)),
    "stop_gradient": Case(lambda x: lax.stop_gradient(x * x) * x, ((4,),)),
    "bits": Case(lambda x: x * jax.random.uniform(jax.random.key(0), x.shape, x.dtype), ((4,),)),
}

BINARY = {
    **{name: Case(getattr(jnp, name), ((3,), (3,))) for name in ("add", "subtract", "multiply", "maximum", "minimum")},
    **{f"{name} of ties": Case(getattr(jnp, name), ((9,), (9,)), ties=True) for name in ("maximum", "minimum")},
    "div": Case(jnp.divide, ((3,), (3,)), 0.5, 2.0),
    "pow": Case(jnp.power, ((3,), (3,)), 0.5, 2.0),
    "pow of zero": Case(lambda x: jnp.power(0 * x, 3.0) + jnp.power(x, 0.0), ((3,),), 0.5, 2.0),
    "pow by integers": Case(lambda x: lax.pow(x, jnp.array([0, 1, 3])), ((3,),)),
    "atan2": Case(jnp.arctan2, ((3,), (3,)), 0.5, 2.0),
    "rem": Case(lax.rem, ((3,), (3,)), 0.5, 2.0),
    "a scalar among arrays": Case(
        lambda x, y: (lax.add(x, y) * lax.sub(y, x) / y, lax.max(x, y)), ((3,), ()), 0.5, 2.0
    ),
    "an axis of length 1": Case(lambda x, y: x * y[None] - y[None], ((2, 3), (3,))),
    "select_n": Case(lambda x, y: jnp.where(jnp.array([True, False, True]), x, y), ((3,), (3,))),
    "select_n of three": Case(lambda *xs: lax.select_n(jnp.array([2, 0, 1]), *xs), ((3,), (3,), (3,))),
    "select_n by a scalar": Case(lambda x, y: lax.select_n(x.sum() > 0, x, y), ((3,), (3,))),
    "clamp": Case(lambda x: lax.clamp(-0.5, x, 1.0), ((9,),)),
    "clamp of arrays": Case(lambda low, x, high: lax.clamp(low - 1, x * 2, high + 3), ((9,), (9,), (9,))),
}
if hasattr(lax, "polynomial"):  # since JAX 0.12
    BINARY["polynomial"] = Case(lambda x, a, b, c: lax.polynomial(x, [a, b, c]), ((3,), (3,), (), (3,)))

REDUCTIONS = {
    "reduce_sum": Case(lambda x: x.sum((0, 2)), ((2, 3, 2),)),
    "reduce_max": Case(lambda x: x.max(1), ((2, 5),)),
    "reduce_max of ties": Case(lambda x: x.max((0, 1)), ((2, 9, 2),), ties=True),
    "reduce_min of ties": Case(lambda x: x.min(0), ((9, 2),), ties=True),
    "reduce_prod": Case(lambda x: x.prod((0, 2)), ((2, 3, 2),)),
    "reduce_prod with zeros": Case(lambda x: x.prod(1), ((2, 4),), ties=True),
    "cumsum": Case(lambda x: lax.cumsum(x, 1) + lax.cumsum(x, 0, reverse=True), ((2, 3),)),
    "cumprod": Case(lambda x: lax.cumprod(x, 0) + lax.cumprod(x, 1, reverse=True), ((3, 2),), ties=True),
    "cummax": Case(lambda x: lax.cummax(x, 0) - lax.cummin(x, 0, reverse=True), ((5,),)),
    "cummax of ties": Case(lambda x: lax.cummax(x, 0) - 2 * lax.cummin(x, 0), ((6,),), ties=True),
    "cumlogsumexp": Case(lambda x: lax.cumlogsumexp(x, 0), ((5,),), -300.0, 300.0),
    "argmax": Case(lambda x: x * x.argmax(), ((5,),)),
    "logsumexp": Case(jax.nn.logsumexp, ((5,),), -300.0, 300.0),
    "softmax": Case(jax.nn.softmax, ((5,),)),
    "var": Case(lambda x: x.var(0), ((5, 2),)),
}

SHAPES = {
    "broadcast_in_dim": Case(lambda x: jnp.broadcast_to(x[:, None, :], (2, 4, 3)), ((2, 3),)),
    "broadcast of an axis of 1": Case(lambda x: lax.broadcast_in_dim(x, (4, 2, 3), (1, 2)), ((1, 3),)),
    "reshape": Case(lambda x: x.reshape(3, 2) * jnp.arange(6.0).reshape(3, 2), ((2, 3),)),
    "reshape in another order": Case(lambda x: lax.reshape(x, (6, 4), (2, 0, 1)), ((2, 3, 4),)),
    "squeeze": Case(lambda x: jnp.squeeze(x, 1), ((2, 1, 3),)),
    "transpose": Case(lambda x: lax.transpose(x, (2, 0, 1)), ((2, 3, 4),)),
    "rev": Case(lambda x: lax.rev(x, (1,)), ((2, 3),)),
    "slice": Case(lambda x: x[1:6:2, :2] + x[:3, 1:], ((7, 3),)),
    "concatenate": Case(lambda x, y: jnp.concatenate([x, y, x], 1), ((2, 3), (2, 1))),
    "stack": Case(lambda x, y: jnp.stack([x, y, x], 1), ((2, 3), (2, 3))),
    "split": Case(lambda x: jnp.split(x, [1, 3])[1] ** 2, ((6,),)),
    "unstack": Case(lambda x: jnp.unstack(x)[1] ** 2, ((3, 2),)),
    "pad": Case(lambda x, value: lax.pad(x, value, [(1, 2, 2), (-1, 1, 0)]), ((2, 3), ())),
    "tile": Case(lambda x: jnp.tile(x, (2, 1, 3)), ((2, 3),)),
    "optimization_barrier": Case(lambda x, y: lax.optimization_barrier((x, y, 3)), ((2,), ())),
    "name": Case(lambda x: checkpoint_name(x * x, "square"), ((2,),)),
    "nothing": Case(lambda x: x[:0].sum() + x, ((3,),)),
}


def conv(**options):
    """A convolution in NHWC, kernels HWIO, unless the options say otherwise."""
    options = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC"), **options}
    return lambda x, w: lax.conv_general_dilated(x, w, **options)


def pool(initial, combine, **options):
    options = {"window_dimensions": (1, 2, 3, 1), "window_strides": (1, 2, 1, 1), "padding": "VALID", **options}
    return lambda x: lax.reduce_window(x, initial, combine, **options)


LINEAR_ALGEBRA = {
    "dot_general": Case(jnp.matmul, ((2, 3), (3, 4))),
    "vectors": Case(jnp.vdot, ((3,), (3,))),
    "batched product": Case(lambda x, y: jnp.einsum("bqhd,bkhd->bhqk", x, y), ((2, 3, 2, 4), (2, 5, 2, 4))),
    "two contracted axes": Case(lambda x, y: jnp.einsum("abc,cbde->eda", x, y), ((2, 3, 4), (4, 3, 2, 5))),
    "outer product": Case(jnp.outer, ((2,), (3,))),
    "preferred type": Case(
        lambda x, y: lax.dot(x.astype(jnp.float32), y.astype(jnp.float32), preferred_element_type=jnp.float64),
        ((2, 3), (3, 2)),
    ),
    "solve": Case(lambda a, b: jnp.linalg.solve(a + 4 * jnp.eye(3), b), ((3, 3), (3, 2))),
    "inverse": Case(lambda a: jnp.linalg.inv(a + 4 * jnp.eye(3)), ((3, 3),)),
    "cholesky": Case(lambda x: jnp.linalg.cholesky(x @ x.T + 4 * jnp.eye(3)), ((3, 3),)),
    "log-determinant": Case(
        lambda x: jnp.log(jnp.diagonal(jnp.linalg.cholesky(x @ x.mT + 4 * jnp.eye(2)[None]), 0, 1, 2)), ((2, 2, 2),)
    ),
    **{
        f"triangular_solve {left} {lower} {trans} {unit}": Case(
            lambda a, b, left=left, lower=lower, trans=trans, unit=unit: lax.linalg.triangular_solve(
                a + 4 * jnp.eye(3), b, left_side=left, lower=lower, transpose_a=trans, unit_diagonal=unit
            ),
            ((3, 3), (3, 2) if left else (2, 3)),
        )
        for left, lower, trans, unit in [(1, 1, 0, 0), (1, 0, 1, 0), (0, 1, 1, 1), (0, 0, 0, 0)]
    },
}

WINDOWS = {
    "conv": Case(conv(), ((2, 5, 4, 3), (3, 2, 3, 2))),
    "conv, strides": Case(conv(window_strides=(2, 3), padding="VALID"), ((2, 7, 8, 3), (3, 2, 3, 2))),
    "conv, uneven padding": Case(conv(padding=((2, 0), (0, 3)), window_strides=(2, 1)), ((1, 5, 4, 1), (2, 3, 1, 2))),
    "conv, negative padding": Case(conv(padding=((-1, 0), (0, -1))), ((1, 5, 4, 1), (2, 2, 1, 2))),
    "conv, dilated": Case(
        conv(rhs_dilation=(2, 1), lhs_dilation=(1, 2), padding=((1, 2), (0, 1))), ((1, 6, 4, 2), (3, 2, 2, 2))
    ),
    "conv, groups": Case(conv(feature_group_count=2, window_strides=(1, 2)), ((2, 4, 4, 4), (3, 3, 2, 6))),
    "conv, depthwise": Case(conv(feature_group_count=3), ((2, 4, 4, 3), (3, 3, 1, 6))),
    "conv, batch groups": Case(conv(batch_group_count=2), ((4, 4, 4, 3), (3, 3, 3, 6))),
    "conv, NCHW": Case(conv(dimension_numbers=("NCHW", "OIHW", "NCHW")), ((2, 3, 4, 5), (2, 3, 3, 2))),
    "conv, 1-d": Case(
        lambda x, w: lax.conv_general_dilated(x, w, (2,), [(1, 1)], dimension_numbers=("NWC", "WIO", "NWC")),
        ((2, 6, 2), (3, 2, 3)),
    ),
    "average pooling": Case(pool(0.0, lax.add), ((2, 4, 5, 2),)),
    "average pooling, dilated": Case(
        pool(
            0.0,
            lax.add,
            padding=((0, 0), (1, 2), (2, 0), (0, 0)),
            base_dilation=(1, 2, 1, 1),
            window_dilation=(1, 1, 2, 1),
        ),
        ((1, 4, 5, 1),),
    ),
    "max pooling": Case(pool(-np.inf, lax.max), ((2, 4, 5, 2),)),
    "max pooling of ties": Case(pool(-np.inf, lax.max, padding="SAME"), ((1, 4, 5, 1),), ties=True),
    "min pooling": Case(pool(np.inf, lax.min, padding="SAME"), ((1, 4, 5, 1),)),
}

INDICES = np.array([[0, 2, 2], [4, 0, 2]])
INDEXING = {
    "gather": Case(lambda x: x[INDICES], ((5, 3),)),
    "gather of both axes": Case(lambda x: x[np.array([0, 3, 3]), np.array([1, 1, 0])], ((5, 3),)),
    "gather out of bounds": Case(lambda x: x.at[np.array([1, 7])].get(mode="fill", fill_value=9.0), ((5, 3),)),
    "take_along_axis": Case(lambda x: jnp.take_along_axis(x, INDICES, 1), ((2, 5),)),
    "scatter-add": Case(lambda x, u: x.at[INDICES].add(u), ((5, 3), (2, 3, 3))),
    "scatter": Case(lambda x, u: x.at[np.array([3, 0])].set(u), ((5, 3), (2, 3))),
    "scatter, twice to one place": Case(lambda x, u: x.at[np.array([3, 0, 3])].set(u), ((5,), (3,))),
    "scatter, dropped": Case(lambda x, u: x.at[np.array([3, 9])].set(u, mode="drop"), ((5,), (2,))),
    "batched scatter": Case(lambda x, u: jax.vmap(lambda a, b, i: a.at[i].add(b))(x, u, INDICES), ((2, 5), (2, 3))),
    "dynamic_slice": Case(lambda x: lax.dynamic_slice(x, (x.argmax() % 3, 1), (2, 2)), ((5, 3),)),
    "dynamic_update_slice": Case(lambda x, u: lax.dynamic_update_slice(x, u, (2, 1)), ((5, 3), (2, 2))),
    "sort": Case(lambda x: jnp.sort(x, 0), ((5, 2),)),
    "sort of pairs": Case(lambda x, y: lax.sort([x, y * y], dimension=1, num_keys=1), ((2, 5), (2, 5))),
    "sort by one of two": Case(lambda x: lax.sort([jnp.array([3, 1, 2]), x], num_keys=1)[1], ((3,),)),
    "top_k": Case(lambda x: lax.top_k(x, 3)[0], ((2, 5),)),
}


def scan_with_integers(x, w):
    """Constants, a carry of an integer and a float, slices, outputs."""

    def step(carry, now):
        i, h = carry
        h = jnp.tanh(w @ h + now) * (1 + 0.1 * i)
        return (i + 1, h), (i, h.sum(), now * 2)

    (i, h), (counts, sums, slices) = lax.scan(step, (0, jnp.ones(2)), x)
    return h * i, sums * counts, slices


def scan_that_makes_active(x):
    """The second carry depends on the argument from the third iteration on."""

    def step(carry, _):
        a, b, c = carry
        return (x * a, a * b, b + c), c

    return lax.scan(step, (jnp.ones(()), jnp.ones(()), jnp.ones(())), length=5)


@jax.custom_jvp
def clipped(x):
    return jnp.clip(x, -1, 1)


clipped.defjvp(lambda primals, tangents: (clipped(*primals), tangents[0] * jnp.cos(primals[0])))  # not the true one


@jax.custom_vjp
def flipped(x, n, y):
    return x * n * y, n


flipped.defvjp(
    lambda x, n, y: (flipped(x, n, y), (x, y)), lambda saved, g: (-g[0] * saved[1], None, g[0] * saved[0] ** 3)
)

CONTROL_FLOW = {
    "cond": Case(lambda x: lax.cond(x.sum() > 0, jnp.sin, lambda x: x**3, x), ((3,),)),
    "switch": Case(
        lambda x, y: lax.switch(
            (x > 0).sum(), [lambda x, y: (x, 1.0), lambda x, y: (y * x, 2.0), lambda x, y: (x, y.sum())], x, y
        ),
        ((2,), (2,)),
    ),
    "scan": Case(scan_with_integers, ((4, 2), (2, 2))),
    "scan, backwards": Case(lambda x: lax.scan(lambda h, a: (h * a, h + a), 1.0, x, reverse=True, unroll=2), ((4,),)),
    "scan, grown activity": Case(scan_that_makes_active, ((),)),
    "scan, nested": Case(
        lambda x: lax.scan(lambda h, a: lax.scan(lambda k, b: (k * jnp.sin(b + a), k), h, x), 1.0, x), ((3,),)
    ),
    "fori_loop": Case(lambda x: lax.fori_loop(0, 3, lambda i, h: jnp.sin(h) * i + h, x), ((2,),)),
    "while of integers": Case(lambda x: x * lax.while_loop(lambda i: i < 5, lambda i: i + 2, 0), ((2,),)),
    "map": Case(lambda x: lax.map(jnp.tanh, x), ((3, 2),)),
    "jit": Case(jax.jit(lambda x, y: (x * jax.jit(jnp.sin)(y), y)), ((3,), (3,))),
    "remat": Case(jax.checkpoint(lambda x: jnp.sin(jnp.sin(x) * x)), ((3,),)),
    "remat with a policy": Case(
        jax.checkpoint(lambda x: jnp.sin(x @ x), policy=jax.checkpoint_policies.dots_saveable), ((3, 3),)
    ),
    "custom_jvp": Case(lambda x: clipped(x) * 2, ((3,),)),
    "relu": Case(jax.nn.relu, ((4,),)),
    "gelu": Case(jax.nn.gelu, ((4,),)),
    "logaddexp": Case(jnp.logaddexp, ((4,), (4,))),
}
REVERSE_ONLY = {"custom_vjp": Case(lambda x, y: flipped(x, 3, y)[0], ((3,), (3,)))}

ALL = UNARY | BINARY | REDUCTIONS | SHAPES | LINEAR_ALGEBRA | WINDOWS | INDEXING | CONTROL_FLOW
