"""Variances and bounds of the initialisers (D2L 5.4)."""

import jax
import numpy as np
import pytest

from jaxdl import nn


@pytest.mark.parametrize(
    ("initializer", "variance", "bound"),
    [
        (nn.xavier_uniform(), 0.0438529**2, 0.0759555),
        (nn.xavier_normal(), 0.0438529**2, None),
        (nn.kaiming_uniform(), 2 / 784, np.sqrt(6 / 784)),
        (nn.kaiming_normal(), 2 / 784, None),
    ],
)
def test_a_dense_kernel_has_the_stated_variance(initializer, variance, bound):
    kernel = np.asarray(initializer(jax.random.key(0), (784, 256)))
    n = kernel.size
    assert kernel.var() == pytest.approx(
        variance, rel=5 * np.sqrt(2 / n)
    )  # five standard errors of a normal's variance
    assert abs(kernel.mean()) < 5 * np.sqrt(variance / n)
    if bound is not None:
        assert 0.999 * bound < abs(kernel).max() <= bound * (1 + 1e-6)
    else:
        assert abs(kernel).max() > 3.5 * np.sqrt(variance)  # not truncated


def test_the_fans_of_a_convolution_count_its_window():
    kernel = np.asarray(nn.kaiming_uniform()(jax.random.key(0), (5, 5, 6, 16)))
    assert 0.99 * np.sqrt(6 / 150) < abs(kernel).max() <= np.sqrt(6 / 150) * (1 + 1e-6)
