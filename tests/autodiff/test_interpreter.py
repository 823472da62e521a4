"""The worked example of the course, the cost of reverse mode, and whole models against JAX."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import autodiff, nn
from jaxdl.training import count_flops
from jaxdl.vision import LeNet, ResNet


def worked_example(x1, x2):
    v3, v4, v5 = jnp.log(x1), x1 * x2, jnp.sin(x2)
    v6 = v3 + v4
    return v6 - v5


def test_the_worked_example(x64):
    """CHECKLIST 23.1, at (2, 5)."""
    graph = autodiff.ComputationGraph.of(worked_example, 2.0, 5.0).with_tangents(1, 0)
    assert {node.name: float(node.tangent) for node in graph.nodes if node.name > "v2"} == {
        "v3": 0.5,
        "v4": 5,
        "v5": 0,
        "v6": 5.5,
        "v7": 5.5,
    }
    value, tangent = autodiff.jvp(worked_example, (2.0, 5.0), (1.0, 0.0))
    assert float(value) == pytest.approx(np.log(2) + 10 - np.sin(5), rel=1e-15)
    assert float(tangent) == 5.5
    by_x1, by_x2 = autodiff.grad(worked_example, (0, 1))(2.0, 5.0)
    assert float(by_x1) == 5.5
    assert float(by_x2) == 2 - np.cos(5)
    assert float(by_x2) == pytest.approx(1.716338, abs=1e-6)
    adjoints = [float(node.adjoint) for node in graph.with_adjoints().nodes]
    assert adjoints == [5.5, 2 - np.cos(5), 1, 1, -1, 1, 1]


def test_fan_out_adds():
    x = jnp.array(3.0)
    assert float(autodiff.grad(lambda x: x + x + x * x)(x)) == 2 + 2 * 3


COSTS = {
    "elementwise": lambda x: jnp.tanh(jnp.sin(x) * jnp.exp(x) / (2 + jnp.cos(x))).sum(),
    "matrix product": lambda x: jnp.tanh(jnp.outer(x, x) @ x).sum(),
    "softmax": lambda x: -jax.nn.log_softmax(jnp.outer(x, x)).mean(),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False).sum(),
    "convolution": lambda x: (jnp.convolve(x, x[:5]) ** 2).sum(),
    "scan": lambda x: jax.lax.scan(lambda h, a: (jnp.tanh(jnp.outer(h, h) @ h + a), None), x, jnp.ones((7, 1)))[
        0
    ].sum(),
    "sort": lambda x: (jnp.sort(x) * jnp.arange(1.0 * len(x))).sum(),
}


@pytest.mark.parametrize("name", COSTS)
def test_reverse_mode_costs_a_small_multiple_whatever_the_number_of_inputs(name):
    for n in (8, 64, 512):
        x = jnp.linspace(0.1, 1.0, n)
        assert count_flops(autodiff.value_and_grad(COSTS[name]), x) <= 5 * count_flops(COSTS[name], x)


def test_forward_mode_costs_a_pass_for_each_input():
    def by_forward_mode(x):
        return autodiff.jacobian(COSTS["matrix product"], mode="forward")(x)

    ratios = [count_flops(by_forward_mode, x) / count_flops(COSTS["matrix product"], x) for x in map(jnp.ones, (8, 64))]
    assert ratios[1] > 6 * ratios[0]


class LanguageModel(linen.Module):
    """An embedding, an LSTM and a dense layer; this library's own is still to come."""

    @linen.compact
    def __call__(self, tokens):
        x = linen.Embed(11, 6, param_dtype=float)(tokens)
        x = linen.RNN(linen.OptimizedLSTMCell(5, param_dtype=x.dtype))(x)  # its first carry too is of this dtype
        return linen.Dense(11)(x)


class TransformerBlock(linen.Module):
    """A causal pre-norm block with dropout; this library's own is still to come."""

    @linen.compact
    def __call__(self, x):
        mask = linen.make_causal_mask(x[..., 0])
        x = x + linen.MultiHeadDotProductAttention(num_heads=2)(linen.LayerNorm()(x), mask=mask)
        y = linen.gelu(linen.Dense(16)(linen.LayerNorm()(x)))
        y = linen.Dropout(0.3, deterministic=False)(y)
        return x + linen.Dense(x.shape[-1])(y)


class Layer(linen.Module):
    """To be repeated."""

    @linen.compact
    def __call__(self, x, train=False):
        return linen.tanh(linen.Dense(x.shape[-1])(x))


def normal(*shape):
    return jax.random.normal(jax.random.key(1), shape)


TOKENS = np.array([[1, 5, 2, 2], [0, 10, 3, 1]])
MODELS = {
    "LeNet": (LeNet(), (normal(2, 28, 28, 1),), {}),
    "LeNet of the book": (LeNet(activation=linen.sigmoid, pool=linen.avg_pool), (normal(2, 28, 28, 1),), {}),
    "MLP with dropout": (nn.MLP((7, 5, 3), dropout_rate=0.5), (normal(4, 6),), {"train": True}),
    "ResNet in training": (
        ResNet(10, stage_sizes=(1, 1), widths=(4, 8), stem="small"),
        (normal(2, 8, 8, 3),),
        {"train": True, "mutable": ["batch_stats"]},
    ),
    "language model": (LanguageModel(), (TOKENS,), {}),
    "transformer block": (TransformerBlock(), (normal(2, 4, 8),), {}),
    "rematerialised blocks": (nn.RepeatedBlocks(Layer(), 4, remat="sqrt"), (normal(3, 6),), {}),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_agree_with_jax(x64, name):
    """Gradients, and the derivative of the gradient along itself."""
    model, inputs, options = MODELS[name]
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(2)}
    variables = jax.jit(lambda *inputs: model.init(rngs, *inputs))(*inputs)
    variables, inputs = jax.tree.map(
        lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, (variables, inputs)
    )

    def loss(params):
        outputs = model.apply(variables | {"params": params}, *inputs, rngs=rngs, **options)
        logits = outputs[0] if "mutable" in options else outputs
        labels = jnp.zeros(logits.shape[:-1], jnp.int32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def both_orders(engine):
        gradient = engine.grad(loss)
        return lambda params: engine.jvp(gradient, (params,), (params,))

    @jax.jit
    def ours_and_expected(params):
        return both_orders(autodiff)(params), both_orders(jax)(params)

    ours, expected = ours_and_expected(variables["params"])
    for left, right in zip(*map(jax.tree.leaves, (ours, expected)), strict=True):
        assert left.dtype == jnp.float64
        scale = max(float(jnp.abs(right).max()), 1e-3)
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9 * scale)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected)) > 1e-3


def test_gradients_of_single_examples_agree_with_jax_to_second_order(x64):
    """`vmap` turns the convolutions into grouped ones, and writes reshapes that transpose."""

    def features(kernel, image):
        y = jax.lax.conv_general_dilated(
            image[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return (jnp.tanh(linen.max_pool(y, (2, 2), (2, 2))) ** 2).sum()

    def sharpness(engine):
        def square_norms(kernel):
            return (jax.vmap(engine.grad(features), (None, 0))(kernel, images.astype(float)) ** 2).sum()

        return engine.grad(square_norms)(kernel)

    kernel, images = normal(3, 3, 2, 3).astype(float), normal(4, 6, 6, 2)
    np.testing.assert_allclose(sharpness(autodiff), sharpness(jax), rtol=1e-9)


def test_it_trains(x64):
    """Ten steps by our gradient end where ten by JAX's do."""
    model, (x,), _ = MODELS["LeNet"]
    params = jax.jit(model.init)(jax.random.key(0), x)

    def trained(engine):
        def step(_, params):
            gradients = engine.grad(lambda p: optax.l2_loss(model.apply(p, x), jnp.eye(2, 10)).mean())(params)
            return jax.tree.map(lambda p, g: p - 0.1 * g.astype(p.dtype), params, gradients)

        return jax.lax.fori_loop(0, 10, step, params)

    ours, expected = jax.jit(lambda: (trained(autodiff), trained(jax)))()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), ours, expected)
