import numpy as np
import pytest
from scipy import stats

from jaxdl.data import noisy_sine


def test_a_sine_with_normal_noise():
    """D2L 9.1: x_t = sin(0.01 t) + 0.2 e_t, t from 1 on."""
    x = noisy_sine()
    assert (x.shape, x.dtype) == ((1000,), np.float32)
    errors = (x - np.sin(0.01 * np.arange(1, 1001))) / 0.2
    assert stats.kstest(errors, "norm").pvalue > 1e-3
    np.testing.assert_allclose(noisy_sine(3, noise=0), np.sin([0.01, 0.02, 0.03]), rtol=1e-6)
    assert (noisy_sine(5) == noisy_sine(7)[:5]).all()
    assert (noisy_sine(5) != noisy_sine(5, seed=1)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_steps": 0}, "num_steps: expected at least 1, got 0"),
        ({"noise": -1}, "noise: expected a standard deviation, 0 or more, got -1"),
        ({"noise": np.nan}, "noise: expected a standard deviation, 0 or more, got nan"),
        ({"seed": -1}, "seed: expected 0 or more, got -1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        noisy_sine(**arguments)
