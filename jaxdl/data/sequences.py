"""A generated series to predict (D2L 9.1)."""

import math
import operator

import numpy as np


def noisy_sine(num_steps: int = 1000, *, noise: float = 0.2, seed: int = 0) -> np.ndarray:
    """`x_t = sin(0.01 t) + noise * e_t` for t = 1, 2 ..., with standard normal noise.

    `overlapping_windows(x, 4)` makes of it rows of four features and the label that follows.

    Args:
      num_steps: at least 1.
      noise: standard deviation of the noise.
      seed: of the noise, not negative.

    Returns:
      float32 `[num_steps]`, computed in float64 and rounded once.

    Raises:
      ValueError: if an argument is out of range.
    """
    if operator.index(num_steps) < 1:
        raise ValueError(f"num_steps: expected at least 1, got {num_steps}")
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise: expected a standard deviation, 0 or more, got {noise}")
    if operator.index(seed) < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}")
    errors = np.random.default_rng(seed).standard_normal(num_steps)
    return (np.sin(0.01 * np.arange(1, num_steps + 1)) + noise * errors).astype(np.float32)
