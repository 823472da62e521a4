"""AnyNet: the book's RegNetX-32 in its terms (D2L 8.8), widths that fit their groups."""

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import nn
from jaxdl.vision.anynet import AnyNet, compatible_widths
from jaxdl.vision.resnext import ResNeXtBlock

BOOK = AnyNet(depths=(4, 6), widths=(32, 80), group_widths=(16, 16), bottlenecks=(1, 1))


def test_shapes_and_parameters_are_the_books():
    layers = nn.layer_shapes(BOOK, (1, 96, 96, 1))
    assert layers[1].output_shape == (1, 48, 48, 32)  # of the stem
    blocks = [layer.output_shape[1:] for layer in layers if layer.kind == "ResNeXtBlock"]
    assert blocks == [(24, 24, 32)] * 4 + [(12, 12, 80)] * 6
    assert layers[-1].output_shape == (1, 10)
    variables = jax.eval_shape(BOOK.init, jax.random.key(0), jnp.zeros((1, 96, 96, 1)))
    assert nn.parameter_count(variables) == 179_290


def test_each_stage_has_its_own_fields():
    model = AnyNet(stem_width=8, depths=(1, 2), widths=(16, 32), group_widths=(4, 8), bottlenecks=(1, 0.5))
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 1)))["params"]
    kernels = [params[f"ResNeXtBlock_{i}"]["Conv_1"]["kernel"].shape for i in range(3)]
    assert kernels == [(3, 3, 4, 16), (3, 3, 8, 16), (3, 3, 8, 16)]


@given(
    st.lists(
        st.tuples(st.integers(1, 1024), st.integers(1, 64), st.sampled_from((1.0, 0.5, 0.25))), min_size=1, max_size=4
    )
)
def test_compatible_widths_fit_and_stay_close(stages):
    widths, group_widths, bottlenecks = zip(*stages, strict=True)
    new_widths, new_group_widths = compatible_widths(widths, group_widths, bottlenecks)
    for width, group_width, bottleneck in zip(new_widths, new_group_widths, bottlenecks, strict=True):
        ResNeXtBlock(width, group_width, bottleneck)  # raises if they do not fit
    for old, new, group_width, bottleneck in zip(widths, new_widths, new_group_widths, bottlenecks, strict=True):
        assert abs(old - new) <= max(0.5 * group_width / bottleneck + 0.5 / bottleneck, 1 / bottleneck)
    assert compatible_widths(new_widths, new_group_widths, bottlenecks) == (new_widths, new_group_widths)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stem_width": 0}, "stem_width: expected at least 1, got 0"),
        ({"depths": (1, 1, 1, 0)}, r"depths: expected one or more numbers of at least 1, got \[1, 1, 1, 0\]"),
        ({"widths": (32, 64)}, "widths: expected one for each of 4 stages, got 2"),
        ({"bottlenecks": (1, 1)}, "bottlenecks: expected one for each of 4 stages, got 2"),
        ({"group_widths": (16, 16, 16, 24)}, "group_width: expected a divisor of the 256 channels .*, got 24"),
        ({"bottlenecks": (1, 1, 1, -1)}, "bottleneck: expected a positive number, got -1"),
    ],
)
def test_bad_fields_fail_at_construction(fields, message):
    with pytest.raises(ValueError, match=message):
        AnyNet(**fields)
