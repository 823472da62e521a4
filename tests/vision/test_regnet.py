"""RegNetX: published networks from the linear rule (Radosavovic et al., 2020, table 8 and figure 15), the book's."""

import jax
import jax.numpy as jnp
import pytest

from jaxdl import nn
from jaxdl.vision.regnet import RegNetX, quantized_linear_widths, regnetx_32

# RegNetX-200MF, 400MF, 800MF, 3.2GF: (depth, w_0, w_a, w_m, group width), depths, widths, torchvision's parameters.
# (torchvision rounds the last width of 400MF, 392, to 400; the paper to 384.)
PUBLISHED = [
    ((13, 24, 36.44, 2.49, 8), (1, 1, 4, 7), (24, 56, 152, 368), None),
    ((22, 24, 24.48, 2.54, 16), (1, 2, 7, 12), (32, 64, 160, 384), None),
    ((16, 56, 35.73, 2.28, 16), (1, 3, 7, 5), (64, 128, 288, 672), 7_259_656),
    ((25, 88, 26.31, 2.25, 48), (2, 6, 15, 2), (96, 192, 432, 1008), 15_296_552),
]


@pytest.mark.parametrize(("rule", "depths", "widths", "parameters"), PUBLISHED)
def test_published_networks(rule, depths, widths, parameters):
    model = RegNetX(1000, *rule, use_bias=False)
    assert (model.anynet().depths, model.anynet().widths) == (depths, widths)
    if parameters is not None:
        variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
        assert nn.parameter_count(variables) == parameters


def test_the_books_network():
    anynet = regnetx_32().anynet()
    assert (anynet.stem_width, anynet.depths, anynet.widths) == (32, (4, 6), (32, 80))
    assert (anynet.group_widths, anynet.bottlenecks) == ((16, 16), (1.0, 1.0))
    variables = jax.eval_shape(regnetx_32().init, jax.random.key(0), jnp.zeros((1, 96, 96, 1)))
    assert nn.parameter_count(variables) == 179_290


@pytest.mark.parametrize(("bottleneck", "group_width"), [(2.0, 3), (4.0, 6)])
def test_widths_fit_groups_where_blocks_are_wider_inside(bottleneck, group_width):
    network = RegNetX(bottleneck=bottleneck, group_width=group_width)
    images = jnp.zeros((1, 32, 32, 1))
    logits, _ = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), images))
    assert logits.shape == (1, 10)


def test_its_variables_are_those_of_its_anynet():
    model = RegNetX(7, 3, 16, 8, 2, 8, stem_width=8, axis_name="data", dtype=jnp.bfloat16, use_bias=False)
    images = jax.random.normal(jax.random.key(1), (2, 16, 16, 1))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    @jax.jit
    def run(key):
        want, anynet_variables = model.anynet().init_with_output(key, images)
        return model.apply(anynet_variables, images), want, anynet_variables

    logits, want, anynet_variables = run(jax.random.key(0))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, anynet_variables)
    assert (logits == want).all()
    assert (logits.shape, logits.dtype) == ((2, 7), jnp.bfloat16)
    assert model.anynet().axis_name == "data"


def test_without_slope_all_blocks_are_equal():
    assert quantized_linear_widths(3, 30, 0, 2) == [32, 32, 32]
    assert quantized_linear_widths(3, 30, 0, 2, multiple=1) == [30, 30, 30]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depth": 0}, "depth: expected at least 1, got 0"),
        ({"slope": -1}, "slope: expected at least 0, got -1"),
        ({"width_multiplier": 1}, "width_multiplier: expected a number above 1, got 1"),
        ({"group_width": 0}, "group_width: expected at least 1, got 0"),
        ({"bottleneck": 0}, "bottleneck: expected a positive number, got 0"),
        ({"num_classes": 0}, "num_classes: expected at least 1, got 0"),
    ],
)
def test_bad_fields_fail_at_construction(fields, message):
    with pytest.raises(ValueError, match=message):
        RegNetX(**fields)
