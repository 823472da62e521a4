"""FLOPs against counts by hand and against XLA, through every kind of nesting."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.experimental import pallas as pl
from jax.sharding import PartitionSpec as P

from jaxdl import nlp, nn
from jaxdl.training.flops import count_flops
from jaxdl.vision import ViT

X = jnp.ones((4, 6))


def shape(*dims, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(dims, dtype)


def xla_flops(fn, *args):
    return jax.jit(fn).lower(*args).cost_analysis()["flops"]


BY_HAND = {
    "matrix product": (lambda x: x @ x.T, (shape(5, 7),), 2 * 5 * 5 * 7),
    "batched product": (
        lambda a, b: jnp.einsum("bmk,bkn->bmn", a, b),
        (shape(3, 5, 7), shape(3, 7, 2)),
        2 * 3 * 5 * 7 * 2,
    ),
    "contraction over two axes": (lambda a, b: jnp.tensordot(a, b), (shape(2, 3, 4), shape(3, 4, 5)), 2 * 2 * 12 * 5),
    "ragged product": (lax.ragged_dot, (shape(6, 3), shape(2, 3, 4), shape(2, dtype=jnp.int32)), 2 * 6 * 3 * 4),
    "elementwise": (lambda x: jnp.exp(x) * 2 + x, (X,), 3 * 24),
    "broadcast": (lambda x: x[:, None] * x[None], (shape(5),), 25),
    "reduction": (lambda x: x.sum(0), (X,), 24),
    "largest index": (lambda x: x.argmax(-1), (X,), 24),
    "cumulative sum": (lambda x: lax.cumsum(x, 0), (X,), 24),
    "maximum in windows": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 3), (2, 3), "VALID"),
        (X,),
        4 * 6,  # four windows of six
    ),
    "its gradient": (
        jax.grad(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 3), (2, 3), "VALID").sum()),
        (X,),
        4 * 6,
    ),
    "sort": (lambda x: jnp.sort(x, axis=0), (shape(8, 3),), 24 * 3),
    "largest four": (lambda x: lax.top_k(x, 4), (shape(3, 8),), 24 * 2),
    "scattered addition": (lambda x: x.at[jnp.array([1, 1, 2])].add(1.0, mode="drop"), (X,), 3 * 6),
    "Cholesky": (lambda a: lax.linalg.cholesky(a, symmetrize_input=False), (shape(2, 6, 6),), 2 * 6**3 // 3),
    "triangular solve": (
        lambda a, b: lax.linalg.triangular_solve(a, b, left_side=True),
        (shape(5, 5), shape(5, 3)),
        5 * 5 * 3,
    ),
    "LU": (lax.linalg.lu, (shape(6, 6),), 2 * 6**3 // 3),
    "LU of a tall matrix": (lax.linalg.lu, (shape(9, 6),), 9 * 36 - 6**3 // 3),
    "FFT": (jnp.fft.fft, (shape(3, 8, dtype=jnp.complex64),), 3 * 5 * 8 * 3),
    "real FFT": (jnp.fft.rfft, (shape(3, 8),), 3 * 5 * 8 * 3 // 2),
    "moves": (lambda x: jnp.concatenate([x.T[::-1], x.reshape(6, 4)]).astype(jnp.bfloat16)[2:5], (X,), 0),
    "selection": (lambda x: jnp.where(jnp.arange(6) < 3, x, 0.0), (X,), 0),
    "integers": (lambda n: (n * n + 1).sum(), (shape(9, dtype=jnp.int32),), 0),
    "random bits": (lambda key: jax.random.bits(key, (9,)), (jax.random.key(0),), 0),
    "nothing": (lambda x: x, (X,), 0),
    "an unused result": (lambda x: (x @ x.T, x)[1], (X,), 0),
}


@pytest.mark.parametrize(("fn", "args", "want"), BY_HAND.values(), ids=BY_HAND)
def test_counts_by_hand(fn, args, want):
    got = count_flops(fn, *args)
    assert got == want
    assert type(got) is int


def convolution(x, w, **options):
    return lax.conv_general_dilated(x, w, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)


CONVOLUTIONS = {
    "plain": ((3, 2, 4, 6), {}),
    "strides": ((3, 2, 4, 6), {"window_strides": (2, 3)}),
    "groups": ((3, 2, 2, 6), {"feature_group_count": 2}),
    "depthwise": ((3, 3, 1, 8), {"feature_group_count": 4}),
    "dilated filter": ((3, 2, 4, 6), {"rhs_dilation": (2, 3)}),
    "dilated input": ((3, 2, 4, 6), {"lhs_dilation": (2, 3)}),
    "all dilated": ((3, 2, 4, 6), {"lhs_dilation": (2, 2), "rhs_dilation": (1, 2), "window_strides": (2, 1)}),
    "batch groups": ((3, 2, 4, 6), {"batch_group_count": 2}),
}


@pytest.mark.parametrize(("filters", "options"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions_without_padding_agree_with_xla(filters, options):
    options = {"window_strides": (1, 1), "padding": [(0, 0), (0, 0)], **options}
    args = shape(2, 9, 8, 4), shape(*filters)
    assert count_flops(lambda x, w: convolution(x, w, **options), *args) == xla_flops(
        lambda x, w: convolution(x, w, **options), *args
    )


def test_padding_counts_as_data_and_a_convolution_with_its_gradients_costs_three():
    def same(x, w):
        return convolution(x, w, window_strides=(1, 1), padding="SAME")

    args = shape(2, 9, 9, 4), shape(3, 3, 4, 6)
    forward = 2 * (2 * 9 * 9 * 6) * (3 * 3 * 4)
    assert count_flops(same, *args) == forward > xla_flops(same, *args)

    def forward_and_gradients(x, w):
        y, pull = jax.vjp(same, x, w)
        return y, pull(y)

    assert count_flops(forward_and_gradients, *args) == 3 * forward


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (nn.LSTM(4, num_layers=2, bidirectional=True), [shape(2, 3, 4)]),
        (ViT(10, patch_size=2, features=8, hidden_size=8, num_heads=2, num_blocks=1), [shape(2, 4, 4, 1)]),
        (nlp.GPT(7, max_length=4, features=8, num_heads=2, num_blocks=1), [shape(2, 4, dtype=jnp.int32)]),
    ],
    ids=["LSTM", "ViT", "GPT"],
)
def test_our_models_use_no_primitive_without_a_rule(model, inputs):
    """Versions of JAX differ in theirs: 0.12 has `stack`, `unstack` and `polynomial`."""
    params = jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]

    def loss(params, *inputs):
        return sum(jnp.sum(y) for y in jax.tree.leaves(model.apply({"params": params}, *inputs)))

    forward, both = (count_flops(fn, params, *inputs) for fn in (loss, jax.value_and_grad(loss)))
    assert 2.3 * forward < both < 3.2 * forward


def test_a_polynomial_costs_a_product_and_a_sum_a_coefficient():
    def horner(x):
        return lax.polynomial(x, [1.0, 5.0, 2.0]) if hasattr(lax, "polynomial") else (2.0 * x + 5.0) * x + 1.0

    assert count_flops(horner, shape(3, 5)) == 2 * 2 * 15


def mlp(params, x):
    for w in params:
        x = jnp.tanh(x @ w)
    return x.sum()


def test_the_gradient_of_an_mlp_costs_three_forward_passes():
    params, x = [shape(7, 5), shape(5, 3)], shape(11, 7)
    first, second = 2 * 11 * 7 * 5, 2 * 11 * 5 * 3
    assert count_flops(mlp, params, x) == first + second + 11 * (5 + 3) + 11 * 3  # products, tanh, the sum
    products_only = dict.fromkeys(
        ["tanh", "one_minus_square", "mul", "sub", "add_any", "reduce_sum"], lambda equation: 0
    )
    assert count_flops(jax.value_and_grad(mlp, (0, 1)), params, x, rules=products_only) == 3 * (first + second)
    assert count_flops(jax.value_and_grad(mlp), params, x, rules=products_only) == 2 * first + 3 * second


def block(x, w):
    return jnp.tanh(x @ w), None


SCAN_ARGS = (shape(4, 6), shape(5, 6, 6))


def scanned(body):
    return lambda x, ws: lax.scan(body, x, ws)[0].sum()


def unrolled(x, ws):
    for i in range(5):
        x, _ = block(x, ws[i])
    return x.sum()


def test_a_scan_costs_as_much_as_its_unrolled_form():
    want = 5 * (2 * 4 * 36 + 24) + 24
    assert count_flops(scanned(block), *SCAN_ARGS) == count_flops(unrolled, *SCAN_ARGS) == want
    gradients = [count_flops(jax.value_and_grad(fn, (0, 1)), *SCAN_ARGS) for fn in (scanned(block), unrolled)]
    assert gradients[0] == pytest.approx(gradients[1], rel=0.15)  # they add up the gradients of ws differently
    assert min(gradients) > 3 * 5 * 2 * 4 * 36


def test_rematerialisation_costs_one_more_forward_pass():
    plain = count_flops(jax.grad(scanned(block)), *SCAN_ARGS)
    remat = count_flops(jax.grad(scanned(jax.checkpoint(block))), *SCAN_ARGS)
    assert remat - plain == 5 * (2 * 4 * 36 + 24)
    kept = jax.checkpoint(block, policy=jax.checkpoint_policies.dots_saveable)
    assert count_flops(jax.grad(scanned(kept)), *SCAN_ARGS) - plain == 5 * 24


@jax.custom_vjp
def doubled(x):
    return x + x


doubled.defvjp(lambda x: (x + x, None), lambda _, g: (g * 2,))


@jax.custom_jvp
def tripled(x):
    return x + x + x


tripled.defjvp(lambda primals, tangents: (tripled(*primals), 3 * tangents[0]))

NESTED = {
    "jit": (jax.jit(jax.jit(lambda x: x + 1)), 24),
    "checkpoint": (jax.checkpoint(lambda x: jnp.sin(x) + 1), 48),
    "custom_vjp": (doubled, 24),
    "gradient of custom_vjp": (jax.grad(lambda x: doubled(x).sum()), 24),
    "custom_jvp": (tripled, 48),
    "vmap": (jax.vmap(lambda x: x + 1), 24),
    "cond": (lambda x: lax.cond(True, lambda x: x + 1, lambda x: jnp.sin(x) * 2 + 1, x), 72),
    "switch": (lambda x: lax.switch(0, [lambda x: x, lambda x: x * 2 + 1, lambda x: x * 3], x), 48),
    "platform_dependent": (
        lambda x: lax.platform_dependent(x, cpu=lambda x: jnp.sin(x) * 2 + 1, default=lambda x: x + 1),
        24,
    ),
    "fori_loop of known length": (lambda x: lax.fori_loop(0, 10, lambda i, x: x + 1, x), 240),
}


@pytest.mark.parametrize(("fn", "want"), NESTED.values(), ids=NESTED)
def test_nesting(fn, want):
    assert count_flops(fn, X) == want


def test_a_while_needs_its_trips():
    def loop(x):
        return lax.while_loop(lambda x: x.sum() < 3, lambda x: x + 1, x)

    with pytest.raises(ValueError, match="while_trips: "):
        count_flops(loop, X)
    assert count_flops(loop, X, while_trips=10) == 10 * 24 + 11 * (24 + 1)
    with pytest.raises(ValueError, match="while_trips: expected at least 0, got -1"):
        count_flops(loop, X, while_trips=-1)


def test_shard_map_and_pmap_count_all_devices():
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    x = shape(8, 6)
    split = jax.shard_map(lambda x: x + 1, mesh=mesh, in_specs=P(("a", "b")), out_specs=P(("a", "b")))
    replicated = jax.shard_map(lambda x: x + 1, mesh=mesh, in_specs=P(), out_specs=P())
    one_axis = jax.shard_map(lambda x: x + 1, mesh=mesh, in_specs=P("a"), out_specs=P("a"), axis_names={"a"})
    summed = jax.shard_map(lambda x: lax.psum(x, "a"), mesh=mesh, in_specs=P("a"), out_specs=P())
    assert count_flops(split, x) == 48
    assert count_flops(replicated, x) == 8 * 48
    assert count_flops(one_axis, x) == 48
    assert count_flops(summed, x) == 8 * 24  # each device adds its half
    assert count_flops(jax.pmap(lambda x: x + 1), x) == 48


def kernel_call(cost_estimate=None):
    def kernel(x_ref, y_ref):
        y_ref[...] = x_ref[...] + 1

    return pl.pallas_call(kernel, out_shape=shape(8, 128), interpret=True, cost_estimate=cost_estimate)


def test_a_pallas_kernel_says_what_it_costs():
    x = shape(8, 128)
    estimate = pl.CostEstimate(flops=1000, transcendentals=24, bytes_accessed=0)
    assert count_flops(kernel_call(estimate), x) == 1024
    with pytest.raises(ValueError, match="Pallas kernel has no cost_estimate"):
        count_flops(kernel_call(), x)
    assert count_flops(kernel_call(), x, rules={"pallas_call": lambda equation: equation.outvars[0].aval.size}) == 1024


def test_an_unknown_primitive_is_named_and_can_be_given_a_rule():
    with pytest.raises(ValueError, match=r"no rule counts the primitive 'eigh'; pass rules=\{'eigh'"):
        count_flops(jnp.linalg.eigh, shape(6, 6))
    symmetrised = 2 * 36
    rules = {"eigh": lambda equation: 9 * equation.invars[0].aval.shape[-1] ** 3}
    assert count_flops(jnp.linalg.eigh, shape(6, 6), rules=rules) == 9 * 6**3 + symmetrised


def test_nothing_is_computed():
    def fails_when_run(x):
        return jax.pure_callback(lambda x: 1 / 0, shape(4, 6), x) + 1

    assert count_flops(fails_when_run, X, rules={"pure_callback": lambda equation: 0}) == 24
