"""Variance-preserving initialisers (D2L 5.4), by the names the field uses.

With `n_in` and `n_out` the fan-in and fan-out of a kernel `[..., in, out]` (receptive field included):

- Xavier (Glorot and Bengio, 2010, equations 12 and 16): variance `2 / (n_in + n_out)`, keeps linear and tanh layers.
- Kaiming (He et al., 2015, equation 10): variance `2 / n_in`, keeps ReLU layers.

Each is `(key, shape, dtype) -> array`, to pass as `kernel_init` of a Linen layer. The uniform forms draw from
`[-sqrt(3 variance), sqrt(3 variance)]`. The normal forms are not truncated (Flax's `kaiming_normal` is).
"""

from jax.nn.initializers import Initializer, variance_scaling


def xavier_uniform() -> Initializer:
    """Uniform on `±sqrt(6 / (n_in + n_out))`; 784 x 256: ±0.0759555."""
    return variance_scaling(1.0, "fan_avg", "uniform")


def xavier_normal() -> Initializer:
    """Normal with standard deviation `sqrt(2 / (n_in + n_out))`; 784 x 256: 0.0438529."""
    return variance_scaling(1.0, "fan_avg", "normal")


def kaiming_uniform() -> Initializer:
    """Uniform on `±sqrt(6 / n_in)`."""
    return variance_scaling(2.0, "fan_in", "uniform")


def kaiming_normal() -> Initializer:
    """Normal with standard deviation `sqrt(2 / n_in)`."""
    return variance_scaling(2.0, "fan_in", "normal")
