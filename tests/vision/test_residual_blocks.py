"""Bottleneck and pre-activation blocks and the networks made of them; the basic block is in test_resnet.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from jaxdl.vision.residual_blocks import BottleneckBlock, PreActResidualBlock
from jaxdl.vision.resnet import ResNet, resnet50


def random_variables(block, x):
    """Every parameter and statistic away from its initial value."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(block.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda v: rng.normal(size=v.shape), shapes)
    return jax.tree_util.tree_map_with_path(lambda path, v: v**2 + 0.5 if path[-1].key == "var" else v, variables)


def conv(x, layer, stride=1):
    """A convolution over windows in NumPy, padded to keep the size."""
    size = layer["kernel"].shape[0]
    x = np.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("bhwcij,ijco->bhwo", windows, layer["kernel"]) + layer.get("bias", 0.0)


def normalise(x, variables, name):
    params, stats = variables["params"][name], variables["batch_stats"][name]
    return (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * params["scale"] + params["bias"]


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize(("channels", "strides"), [(8, 1), (8, 2), (3, 1)])
def test_the_bottleneck_block_is_the_formula(x64, channels, strides, use_bias):
    block = BottleneckBlock(4, strides, expansion=2, use_bias=use_bias)
    x = jax.random.normal(jax.random.key(1), (2, 5, 6, channels))
    variables = random_variables(block, x)
    layers = variables["params"]
    y = np.maximum(normalise(conv(np.asarray(x), layers["Conv_0"]), variables, "BatchNorm_0"), 0)
    y = np.maximum(normalise(conv(y, layers["Conv_1"], strides), variables, "BatchNorm_1"), 0)  # the 3 x 3 one
    y = normalise(conv(y, layers["Conv_2"]), variables, "BatchNorm_2")
    shortcut = np.asarray(x)
    if (channels, strides) != (8, 1):
        shortcut = conv(shortcut, layers["Conv_3"], strides)
        shortcut = shortcut if use_bias else normalise(shortcut, variables, "BatchNorm_3")
    np.testing.assert_allclose(jax.jit(block.apply)(variables, x), np.maximum(y + shortcut, 0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("features", "strides"), [(3, 1), (3, 2), (4, 1)])
def test_the_pre_activation_block_is_the_formula(x64, features, strides):
    block, x = PreActResidualBlock(features, strides), jax.random.normal(jax.random.key(1), (2, 5, 6, 3))
    variables = random_variables(block, x)
    layers = variables["params"]
    activated = np.maximum(normalise(np.asarray(x), variables, "BatchNorm_0"), 0)
    y = conv(activated, layers["Conv_0"], strides)
    y = conv(np.maximum(normalise(y, variables, "BatchNorm_1"), 0), layers["Conv_1"])
    shortcut = np.asarray(x) if (features, strides) == (3, 1) else conv(activated, layers["Conv_2"], strides)
    np.testing.assert_allclose(jax.jit(block.apply)(variables, x), shortcut + y, rtol=1e-9, atol=1e-9)


def test_resnet50_is_torchvisions():
    model = resnet50(1000, use_bias=False)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    assert nn.parameter_count(variables) == 25_557_032
    blocks = [layer for layer in nn.layer_shapes(model, (1, 224, 224, 3)) if layer.kind == "BottleneckBlock"]
    stages = zip((3, 4, 6, 3), ((56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)), strict=True)
    assert [block.output_shape[1:] for block in blocks] == [shape for size, shape in stages for _ in range(size)]


def test_pre_activation_networks_are_activated_before_the_average():
    model = ResNet(block=PreActResidualBlock, stage_sizes=(1,), widths=(8,), stem="small")
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    assert {"BatchNorm_0", "BatchNorm_1"} <= variables["params"].keys()  # the stem's and the last
    dense = variables["params"]["Dense_0"]
    variables["params"]["Dense_0"] = {"kernel": jnp.eye(8, 10), "bias": dense["bias"]}
    averages = model.apply(variables, images)[:, :8]
    assert averages.min() >= 0  # what stands behind the last addition has both signs


@pytest.mark.parametrize("block", [BottleneckBlock, PreActResidualBlock])
def test_bad_blocks_are_named(block):
    for fields in ({"features": 0}, {"features": 4, "strides": 0}):
        with pytest.raises(ValueError, match=f"{[*fields][-1]}: expected at least 1, got 0"):
            block(**fields)
    with pytest.raises(ValueError, match=r"x: expected \[batch, height, width, channels\], got \[8, 8, 1\]"):
        jax.eval_shape(block(4).init, jax.random.key(0), jnp.zeros((8, 8, 1)))
