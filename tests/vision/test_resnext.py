"""ResNeXt: the book's block (D2L 8.6), torchvision's network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from jaxdl.vision.resnext import ResNeXt, ResNeXtBlock


def test_the_books_block():
    block = ResNeXtBlock(32, group_width=16, bottleneck=1)
    out, variables = jax.eval_shape(block.init_with_output, jax.random.key(0), jnp.zeros((4, 96, 96, 32)))
    assert out.shape == (4, 96, 96, 32)
    assert nn.parameter_count(variables) == 6944
    assert variables["params"]["Conv_1"]["kernel"].shape == (3, 3, 16, 32)  # two groups, 16 channels wide


def test_the_second_group_does_not_see_the_first():
    block, x = ResNeXtBlock(8, group_width=4), jax.random.normal(jax.random.key(1), (1, 5, 5, 8))
    variables = block.init(jax.random.key(0), x)
    ones = jnp.eye(8).reshape(1, 1, 8, 8)
    for name in ("Conv_0", "Conv_2"):  # so that the 3 x 3 convolution stands alone
        variables["params"][name] = {"kernel": ones, "bias": jnp.zeros(8)}
    jacobian = jax.jit(jax.jacobian(lambda x: block.apply(variables, x).sum((0, 1, 2))))(x)  # [out, 1, h, w, in]
    reaches = np.abs(jacobian).max((1, 2, 3)) > 0
    np.testing.assert_array_equal(reaches, np.kron(np.eye(2), np.ones((4, 4))) > 0)


@pytest.mark.parametrize(
    ("features", "strides", "shape"), [(8, 1, (2, 5, 6, 8)), (8, 2, (2, 3, 3, 8)), (4, 1, (2, 5, 6, 4))]
)
def test_the_shortcut_is_normalised_where_it_has_a_convolution(features, strides, shape):
    block = ResNeXtBlock(features, group_width=4, strides=strides)
    out, variables = jax.eval_shape(block.init_with_output, jax.random.key(0), jnp.zeros((2, 5, 6, 8)))
    assert out.shape == shape
    assert ({"Conv_3", "BatchNorm_3"} <= variables["params"].keys()) == ((features, strides) != (8, 1))


def test_the_network_is_torchvisions_resnext50_32x4d():
    model = ResNeXt(1000, use_bias=False)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    assert nn.parameter_count(variables) == 25_028_904
    grouped = [variables["params"][f"ResNeXtBlock_{i}"]["Conv_1"]["kernel"].shape for i in (0, 3, 7, 13)]
    assert grouped == [(3, 3, width, 32 * width) for width in (4, 8, 16, 32)]
    blocks = [layer for layer in nn.layer_shapes(model, (1, 224, 224, 3)) if layer.kind == "ResNeXtBlock"]
    assert [blocks[i].output_shape[1:] for i in (2, 15)] == [(56, 56, 256), (7, 7, 2048)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNeXtBlock(0), "features: expected at least 1, got 0"),
        (lambda: ResNeXtBlock(32, bottleneck=0), "bottleneck: expected a positive number, got 0"),
        (lambda: ResNeXtBlock(24), "group_width: expected a divisor of the 24 channels .*, got 16"),
        (lambda: ResNeXtBlock(1, 1, 0.25), "group_width: expected a divisor of the 0 channels"),
        (lambda: ResNeXt(widths=(1, 2)), "widths: expected one for each of 4 stages, got 2"),
        (lambda: ResNeXt(stem="cifar"), "stem: expected 'imagenet' or 'small', got 'cifar'"),
        (
            lambda: ResNeXt(widths=(48, 512, 1024, 2048)),
            "cardinality: expected a divisor of the 24 channels .*, got 32",
        ),
    ],
)
def test_bad_fields_fail_at_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()
