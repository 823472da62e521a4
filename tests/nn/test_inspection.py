"""Tables of parameters and shapes, without computing anything."""

import jax
import jax.numpy as jnp
from flax import linen

from jaxdl import nn


class Net(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.BatchNorm(use_running_average=not train)(linen.Dense(3)(x))
        return nn.MLP([2])(x)


def test_layer_shapes_in_order_the_model_last():
    layers = nn.layer_shapes(Net(), (5, 4), train=True)
    assert [(layer.path, layer.kind, layer.input_shape, layer.output_shape) for layer in layers] == [
        ("Dense_0", "Dense", (5, 4), (5, 3)),
        ("BatchNorm_0", "BatchNorm", (5, 3), (5, 3)),
        ("MLP_0/Dense_0", "Dense", (5, 3), (5, 2)),
        ("MLP_0", "MLP", (5, 3), (5, 2)),
        ("", "Net", (5, 4), (5, 2)),
    ]


def test_nothing_is_computed():
    assert nn.layer_shapes(nn.MLP([2]), (10**9, 10**6))[-1].output_shape == (10**9, 2)


def test_the_parameter_table_adds_up():
    variables = jax.eval_shape(Net().init, jax.random.key(0), jnp.zeros((1, 4)))
    lines = [line.split() for line in nn.parameter_table(variables).splitlines()]
    assert ["params/Dense_0/kernel", "[4,", "3]", "float32", "12"] in lines
    assert ["batch_stats/BatchNorm_0/mean", "[3]", "float32", "3"] in lines
    assert ["total", "params", "29"] in lines  # 4*3+3, 2*3, 3*2+2
    assert ["total", "batch_stats", "6"] in lines
    assert nn.parameter_count(variables) == 29
    assert nn.parameter_table({}) == "no variables"
