"""Design spaces: what is drawn keeps the rules, costs are counted, the distribution function is SciPy's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxdl import nn
from jaxdl.vision.anynet import AnyNet
from jaxdl.vision.design_space import AnyNetSpace, error_edf, multiply_adds, sample_anynet
from jaxdl.vision.regnet import RegNetX

STAGE_FIELDS = ("depths", "widths", "group_widths", "bottlenecks")


def draw(space, n=300):
    rng = np.random.default_rng(0)
    return [sample_anynet(rng, space) for _ in range(n)]


def test_seventeen_numbers_describe_a_network():
    model = sample_anynet(np.random.default_rng(0), AnyNetSpace())
    assert 1 + sum(len(getattr(model, name)) for name in STAGE_FIELDS) == 17


def test_draws_stay_in_range_and_reach_its_ends():
    models = draw(AnyNetSpace())
    values = {name: {v for model in models for v in getattr(model, name)} for name in STAGE_FIELDS}
    assert values["depths"] == {*range(1, 17)}
    assert values["bottlenecks"] == {1.0, 0.5, 0.25}
    assert values["group_widths"] >= {1, 2, 4, 8, 16, 32}  # and a few that were too wide for their stage
    assert min(values["widths"]) == 8
    assert 900 < max(values["widths"]) <= 1024
    shallow = np.mean([depth <= 4 for model in models for depth in model.depths])
    assert shallow == pytest.approx(np.log(5) / np.log(17), abs=0.05)  # log-uniform: 1,200 draws


def test_each_rule_holds_once_it_is_on():
    rules = {
        "share_bottleneck": lambda model: len({*model.bottlenecks}) == 1,
        "share_group_width": lambda model: len({*model.group_widths}) == 1,
        "widths_increase": lambda model: sorted(model.widths) == [*model.widths],
        "depths_increase": lambda model: sorted(model.depths) == [*model.depths],
    }
    narrow = {"max_width": 64, "group_widths": (1, 2)}  # so that no group is wider than its convolution
    for name, holds in rules.items():
        assert all(map(holds, draw(AnyNetSpace(**narrow, **{name: True}), 50))), name
        assert not all(map(holds, draw(AnyNetSpace(**narrow), 50))), name


def test_equal_seeds_draw_equal_networks():
    first, again = (sample_anynet(np.random.default_rng(3), AnyNetSpace(), 7, use_bias=False) for _ in range(2))
    assert all(getattr(first, name) == getattr(again, name) for name in STAGE_FIELDS)
    assert (first.num_classes, first.use_bias) == (7, False)


def test_cost_is_what_the_layers_do():
    """Against the shapes of all kernels and outputs of a drawn network."""
    model = sample_anynet(np.random.default_rng(1), AnyNetSpace(max_depth=3, max_width=64))
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 33, 33, 3)))["params"]
    want = 0
    for layer in nn.layer_shapes(model, (1, 33, 33, 3)):
        if layer.kind in ("Conv", "Dense"):
            kernel = params
            for name in layer.path.split("/"):
                kernel = kernel[name]
            want += np.prod(layer.output_shape[:-1]) * kernel["kernel"].size
    assert multiply_adds(model, 33, 3) == want


def test_cost_is_the_published_one():
    """In the paper RegNetX-400MF and 3.2GF are named after it."""
    for rule, cost in (((22, 24, 24.48, 2.54, 16), 400e6), ((25, 88, 26.31, 2.25, 48), 3.2e9)):
        assert multiply_adds(RegNetX(1000, *rule).anynet(), 224, 3) == pytest.approx(cost, rel=0.01)
    assert multiply_adds(AnyNet(depths=(1,), widths=(16,), group_widths=(8,), bottlenecks=(1,)), 1, 1) > 0


def test_the_distribution_function_is_scipys():
    errors = np.random.default_rng(0).integers(0, 10, 40) / 10  # with ties
    thresholds = np.linspace(-0.1, 1.1, 121).reshape(11, 11)
    want = scipy.stats.ecdf(errors).cdf.evaluate(thresholds)
    np.testing.assert_array_equal(error_edf(errors, thresholds), want)
    assert error_edf([0.25], 0.25) == 1.0


@pytest.mark.parametrize("errors", [[], [[0.1]], [0.1, np.nan]])
def test_errors_without_a_distribution_are_refused(errors):
    with pytest.raises(ValueError, match=r"errors: expected \[networks\], one or more finite numbers"):
        error_edf(errors, 0.5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_stages": 0}, "num_stages: expected at least 1, got 0"),
        ({"max_width": 100}, "max_width: expected a multiple of 8, got 100"),
        ({"bottlenecks": ()}, r"bottlenecks: expected one or more positive numbers, got \[\]"),
        ({"group_widths": (0,)}, r"group_widths: expected one or more numbers of at least 1, got \[0\]"),
    ],
)
def test_bad_spaces_fail_at_construction(fields, message):
    with pytest.raises(ValueError, match=message):
        AnyNetSpace(**fields)
    assert dataclasses.replace(AnyNetSpace(), max_depth=2).max_depth == 2
