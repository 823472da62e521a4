"""How sure an accuracy measured on a test set is (D2L 4.6)."""

import math
from statistics import NormalDist


def hoeffding_sample_size(error: float, confidence: float = 0.95) -> int:
    """Test examples that are always enough for an accuracy that is `error` too high at most (Hoeffding, 1963).

    The smallest n with `exp(-2 n error^2) <= 1 - confidence`. It holds for one model, chosen before it saw the test
    examples, whatever its accuracy.

    Args:
      error: above 0, as a share: 0.01 is one percentage point.
      confidence: probability of being right, above 0 and below 1. For an error in both directions pass
        `(1 + confidence) / 2`.

    Raises:
      ValueError: if an argument is out of range.

    >>> hoeffding_sample_size(0.01)
    14979
    """
    if not error > 0:
        raise ValueError(f"error: expected a positive number, got {error}")
    _check_confidence(confidence)
    return math.ceil(-math.log(1 - confidence) / (2 * error**2))


def accuracy_interval(accuracy: float, num_examples: int, confidence: float = 0.95) -> tuple[float, float]:
    """Where the true accuracy lies, given the one measured on a test set (Wilson, 1927).

    Inverts the normal approximation, so it stays in [0, 1] and keeps a width where the accuracy is 0 or 1. At an
    accuracy of 0.5, the worst case, it is `± z sqrt(0.25 / n)` for large n, with z standard deviations for the
    confidence: ±0.01 at one takes 2,500 examples, at two 10,000.

    Args:
      accuracy: share of right answers, in [0, 1].
      num_examples: how many examples it was measured on.
      confidence: above 0 and below 1.

    Returns:
      The lower and the upper end.

    Raises:
      ValueError: if an argument is out of range.

    >>> low, high = accuracy_interval(0.96, 360)
    >>> f"{low:.3f} to {high:.3f}"
    '0.934 to 0.976'
    """
    if not 0 <= accuracy <= 1:
        raise ValueError(f"accuracy: expected a share in [0, 1], got {accuracy}")
    if num_examples < 1:
        raise ValueError(f"num_examples: expected at least 1, got {num_examples}")
    _check_confidence(confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    scale = 1 + z**2 / num_examples
    centre = (accuracy + z**2 / (2 * num_examples)) / scale
    radius = z / scale * math.sqrt(accuracy * (1 - accuracy) / num_examples + (z / (2 * num_examples)) ** 2)
    return max(0.0, centre - radius), min(1.0, centre + radius)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number above 0 and below 1, got {confidence}")
