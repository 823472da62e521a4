"""How to choose an action from estimates of what each is worth: epsilon-greedy and softmax exploration (D2L 17.3).

Each function is for one state; `jax.vmap` lifts it to many, with keys, or with epsilons or temperatures of their own.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdl.rl.checks import check_values, real_array


def epsilon_greedy_probabilities(q_values: ArrayLike, epsilon: ArrayLike) -> jax.Array:
    """With probability `epsilon` any action, the best one too, else the best; equally good ones share its probability.

    Args:
      q_values: `[actions]`, the estimated action values of a state.
      epsilon: a scalar in [0, 1]; 0 is greedy, 1 uniform.

    Returns:
      `[actions]`, float32 or float64.

    Raises:
      ValueError: if the shapes do not fit, or known numbers are not finite or out of range.

    Note: D2L takes the first of equally good actions, so an agent that knows nothing yet goes the same way whenever it
    is greedy.

    >>> epsilon_greedy_probabilities([0.0, 2.0, 2.0, 1.0], 0.5)
    Array([0.125, 0.375, 0.375, 0.125], dtype=float32)
    """
    q_values = real_array("q_values", q_values, "actions")
    epsilon = real_array("epsilon", epsilon).astype(q_values.dtype)
    check_values("epsilon", epsilon, lambda values: (values >= 0) & (values <= 1), "a number of [0, 1]")
    return _epsilon_greedy_probabilities(q_values, epsilon)


def softmax_exploration_probabilities(q_values: ArrayLike, temperature: ArrayLike) -> jax.Array:
    """`exp(q / temperature)`, normalised: the better an action seems, the likelier it is.

    Args:
      q_values: `[actions]`, the estimated action values of a state.
      temperature: a positive scalar in the unit of the values; towards 0 it is greedy, and equally good actions share
        the probability; towards infinity it is uniform.

    Returns:
      `[actions]`, float32 or float64. A low temperature does not overflow: only differences from the best are divided.

    Raises:
      ValueError: if the shapes do not fit, or known numbers are not finite or out of range.

    >>> (100 * softmax_exploration_probabilities(jnp.log(jnp.array([1.0, 3.0])), 0.5)).round()  # 1^2 to 3^2
    Array([10., 90.], dtype=float32)
    """
    return jax.nn.softmax(_softmax_logits(q_values, temperature))


def epsilon_greedy(key: jax.Array, q_values: ArrayLike, epsilon: ArrayLike) -> jax.Array:
    """Draws an action with `epsilon_greedy_probabilities`.

    Args:
      key: a typed key, `jax.random.key(seed)`.
      q_values: `[actions]`.
      epsilon: a scalar in [0, 1].

    Returns:
      The action, an int32 scalar.

    Raises:
      ValueError: if the key is not one typed key, the shapes do not fit, or known numbers are not finite or out of
        range.
    """
    _check_key(key)
    return jax.random.categorical(key, jnp.log(epsilon_greedy_probabilities(q_values, epsilon))).astype(jnp.int32)


def softmax_exploration(key: jax.Array, q_values: ArrayLike, temperature: ArrayLike) -> jax.Array:
    """Draws an action with `softmax_exploration_probabilities`.

    Args:
      key: a typed key, `jax.random.key(seed)`.
      q_values: `[actions]`.
      temperature: a positive scalar.

    Returns:
      The action, an int32 scalar.

    Raises:
      ValueError: if the key is not one typed key, the shapes do not fit, or known numbers are not finite or out of
        range.
    """
    _check_key(key)
    return jax.random.categorical(key, _softmax_logits(q_values, temperature)).astype(jnp.int32)


@jax.jit
def _epsilon_greedy_probabilities(q_values: jax.Array, epsilon: jax.Array) -> jax.Array:
    best = (q_values == q_values.max()).astype(q_values.dtype)
    return (1 - epsilon) * best / best.sum() + epsilon / len(q_values)


def _softmax_logits(q_values: ArrayLike, temperature: ArrayLike) -> jax.Array:
    """The best action's is 0: the difference comes before the division, which could overflow."""
    q_values = real_array("q_values", q_values, "actions")
    temperature = real_array("temperature", temperature).astype(q_values.dtype)
    smallest = np.finfo(q_values.dtype).tiny  # below it XLA takes a number for 0
    check_values("temperature", temperature, lambda values: values >= smallest, "a positive number")
    return (q_values - q_values.max()) / temperature


def _check_key(key: jax.Array) -> None:
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()):
        raise ValueError(f"key: expected one typed key such as jax.random.key(0), got {key!r}")
