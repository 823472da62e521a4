"""Sums that merge."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxdl.training import Mean, merge_metrics
from jaxdl.training.metrics import HostSums, compute_metrics


@given(
    hnp.arrays(np.float32, 12, elements=st.floats(-100, 100, width=32)),
    hnp.arrays(np.float32, 12, elements=st.sampled_from([0.0, 0.5, 1.0])),
)
@settings(deadline=None, max_examples=30)
def test_a_mean_is_the_weighted_average_however_it_is_split(values, mask):
    halves = [Mean.of(jnp.asarray(values[part]), jnp.asarray(mask[part])) for part in (slice(5), slice(5, None))]
    merged = merge_metrics(*halves)
    assert merged.count == mask.sum()
    if mask.sum():
        np.testing.assert_allclose(merged.compute(), np.average(values, weights=mask), rtol=1e-4, atol=1e-4)


def test_what_stands_in_the_padding_does_not_matter():
    values, mask = jnp.array([1.0, jnp.nan, jnp.inf, 3.0]), jnp.array([True, False, False, True])
    assert Mean.of(values, mask).compute() == 2
    assert Mean.of(values[:0]).count == 0


def test_half_precision_is_added_in_float32():
    ones = jnp.ones(4096, jnp.bfloat16)
    mean = Mean.of(ones + jnp.bfloat16(0.0078125), jnp.ones(4096, jnp.bfloat16))
    assert mean.total.dtype == jnp.float32
    assert float(mean.compute()) == 1.0078125


@pytest.mark.parametrize(
    ("values", "mask", "message"),
    [
        (jnp.ones((4, 3)), jnp.ones(4), r"mask: expected the shape of values \(4, 3\), got \(4,\)"),
        (jnp.ones(4, jnp.int32), None, "values: expected a floating dtype, got int32"),
    ],
)
def test_mean_refuses(values, mask, message):
    with pytest.raises(ValueError, match=message):
        Mean.of(values, mask)


def test_host_sums_count_beyond_float32():
    sums = HostSums(stacked=True)
    big = Mean(jnp.float32([2**24, 1.0]), jnp.float32([1.0, 1.0]))
    sums.push({"n": big})
    sums.push({"n": Mean(jnp.float32([1.0]), jnp.float32([1.0]))})
    assert len(sums.fetch()) == 2
    assert sums.compute() == {"n": (2**24 + 2) / 3}
    assert np.float32(2**24) + np.float32(1) == 2**24  # why they are float64


def test_host_sums_go_on_from_their_leaves():
    first, second = HostSums(stacked=False), HostSums(stacked=False)
    metrics = {"a": Mean(jnp.float32(3), jnp.float32(2)), "b": Mean(jnp.float32(5), jnp.float32(1))}
    first.push(metrics)
    first.fetch()
    second.carry_over(first.leaves())
    assert second.leaves() == first.leaves()  # also before the first step after a resume
    second.push(metrics)
    second.fetch()
    assert second.compute() == first.compute()
    assert second.leaves() == [2 * leaf for leaf in first.leaves()]
    second.clear()
    assert second.compute() == {}


def test_a_metric_may_compute_several_figures():
    class Pair(Mean):
        def compute(self):
            return {"half": self.total / 2, "double": self.total * 2}

    assert compute_metrics({"pair": Pair(2.0, 1.0)}) == {"pair/half": 1.0, "pair/double": 4.0}


def test_a_metric_that_is_no_scalar_is_named():
    with pytest.raises(ValueError, match=r"metric 'per_class': compute\(\) should give a scalar, got shape \(3,\)"):
        compute_metrics({"per_class": Mean(np.ones(3), np.ones(3))})


def test_nothing_counted_is_nan():
    assert np.isnan(compute_metrics({"m": Mean(np.float64(0), np.float64(0))})["m"])
