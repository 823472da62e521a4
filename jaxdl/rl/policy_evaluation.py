"""The values of a policy in a Markov decision process that is known (D2L 17.1 and 17.2).

States and actions are numbers, and the process is arrays:

- transition `[states, actions, next_states]`: the probability of each next state.
- reward `[states, actions]`: the expected one. Where it also depends on the next state, it is
  `(transition * reward_of_next).sum(-1)`.
- discount: of the next step's reward, at least 0 and below 1.
- policy `[states, actions]`: the probability of each action; `jax.nn.one_hot(actions, num_actions)` for a policy that
  always takes the same.

The end of an episode is a state that leads only to itself, with reward 0. An expected return is the value of a state,
`[states]`, or of an action in a state, `[states, actions]`; the reward of the first step is not discounted.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdl.rl.checks import check_values, distribution, real_array


class PolicyValues(NamedTuple):
    """What `policy_evaluation` found, and how sure it is.

    Attributes:
      values: `[states]`.
      num_sweeps: int32, how often all values were updated.
      change: the largest of a value in the last sweep; above the tolerance if `max_sweeps` came first.
      error_bound: no value is further from the true one than this, but for rounding.
    """

    values: jax.Array
    num_sweeps: jax.Array
    change: jax.Array
    error_bound: jax.Array


def action_values(transition: ArrayLike, reward: ArrayLike, values: ArrayLike, discount: ArrayLike) -> jax.Array:
    """`Q(s, a) = r(s, a) + discount * sum_s' P(s' | s, a) V(s')` (D2L 17.2): an action's reward and what follows it.

    With the values of a policy these are its action values; their maximum over actions is a sweep of value iteration.

    Args:
      transition: `[states, actions, next_states]`.
      reward: `[states, actions]`.
      values: `[states]`.
      discount: a scalar, at least 0 and below 1.

    Returns:
      `[states, actions]`, float32 or float64.

    Raises:
      ValueError: if shapes do not fit, or known numbers are not finite, not probabilities or out of range.
    """
    transition, reward, discount = _process(transition, reward, discount)
    values = real_array("values", values, "states")
    if values.shape != transition.shape[:1]:
        raise ValueError(f"values: expected {list(transition.shape[:1])}, got shape {list(values.shape)}")
    return reward + discount * _dot(transition, values)


def policy_evaluation(
    transition: ArrayLike,
    reward: ArrayLike,
    policy: ArrayLike,
    discount: ArrayLike,
    *,
    tolerance: float = 1e-6,
    max_sweeps: int = 10_000,
) -> PolicyValues:
    """The values of a policy, by sweeps `V <- r + discount * P V` over all states at once, from zeros (D2L 17.2).

    P and r are the policy's average over actions. A sweep brings any two value functions closer by the factor
    `discount`, in the largest difference; so after a sweep that changed no value by more than `change`, none is
    further than `discount / (1 - discount) * change` from the true one.

    Args:
      transition: `[states, actions, next_states]`.
      reward: `[states, actions]`.
      policy: `[states, actions]`.
      discount: a scalar, at least 0 and below 1.
      tolerance: it stops after the first sweep that changes no value by more. At 0 it goes on until the values stand
        still, which rounding may prevent.
      max_sweeps: or after so many.

    Returns:
      The values and how far they may be off; it is for the caller to look at `error_bound`.

    Raises:
      ValueError: if shapes do not fit, known numbers are not finite, not probabilities or out of range, `tolerance` is
        negative, or `max_sweeps` below 1.

    Note: the loop has no gradient in reverse mode; `policy_evaluation_exact` has.

    >>> policy_evaluation([[[1.0]]], [[1.0]], [[1.0]], 0.5).values.round(4)  # 1 + 1/2 + 1/4 + ...
    Array([2.], dtype=float32)
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance: expected at least 0, got {tolerance}")
    if max_sweeps < 1:
        raise ValueError(f"max_sweeps: expected at least 1, got {max_sweeps}")
    transition, reward, discount = _process(transition, reward, discount)
    return _sweep(*_chain(transition, reward, policy), discount, tolerance, max_sweeps)


def policy_evaluation_exact(
    transition: ArrayLike, reward: ArrayLike, policy: ArrayLike, discount: ArrayLike
) -> jax.Array:
    """The values of a policy by solving `(I - discount * P) V = r`, at a cost of states^3.

    Args:
      transition: `[states, actions, next_states]`.
      reward: `[states, actions]`.
      policy: `[states, actions]`.
      discount: a scalar, at least 0 and below 1.

    Returns:
      `[states]`, float32 or float64.

    Raises:
      ValueError: if shapes do not fit, or known numbers are not finite, not probabilities or out of range.

    >>> policy_evaluation_exact([[[1.0]]], [[1.0]], [[1.0]], 0.5)
    Array([2.], dtype=float32)
    """
    transition, reward, discount = _process(transition, reward, discount)
    transition, reward = _chain(transition, reward, policy)
    return jnp.linalg.solve(jnp.eye(len(reward), dtype=transition.dtype) - discount * transition, reward)


@jax.jit
def _sweep(
    transition: jax.Array, reward: jax.Array, discount: jax.Array, tolerance: ArrayLike, max_sweeps: ArrayLike
) -> PolicyValues:
    """Compiled once for each number of states: transition `[states, next_states]`, reward `[states]`."""

    def goes_on(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        _, num_sweeps, change = carry
        return (change > tolerance) & (num_sweeps < max_sweeps)

    def sweep(carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        values, num_sweeps, _ = carry
        updated = reward + discount * _dot(transition, values)
        return updated, num_sweeps + 1, jnp.abs(updated - values).max()

    start = (jnp.zeros_like(reward), jnp.zeros((), jnp.int32), jnp.full((), jnp.inf, reward.dtype))
    values, num_sweeps, change = jax.lax.while_loop(goes_on, sweep, start)
    return PolicyValues(values, num_sweeps, change, discount / (1 - discount) * change)


def _dot(transition: jax.Array, values: jax.Array) -> jax.Array:
    """The expectation of the next value; in full precision, which accelerators leave by default."""
    return jnp.dot(transition, values, precision=jax.lax.Precision.HIGHEST)


def _process(transition: ArrayLike, reward: ArrayLike, discount: ArrayLike) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The arrays of a Markov decision process in one dtype."""
    transition = distribution("transition", transition, "states", "actions", "next_states")
    reward = real_array("reward", reward, "states", "actions")
    if transition.shape[0] != transition.shape[2]:
        raise ValueError(f"transition: expected as many next_states as states, got shape {list(transition.shape)}")
    if reward.shape != transition.shape[:2]:
        raise ValueError(f"reward: expected {list(transition.shape[:2])}, got shape {list(reward.shape)}")
    discount = real_array("discount", discount)
    check_values("discount", discount, lambda values: (values >= 0) & (values < 1), "a number of [0, 1)")
    dtype = jnp.result_type(transition, reward)
    return transition.astype(dtype), reward.astype(dtype), discount.astype(dtype)


def _chain(transition: jax.Array, reward: jax.Array, policy: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """What a policy makes of a process: transition `[states, next_states]` and reward `[states]`."""
    policy = distribution("policy", policy, "states", "actions").astype(reward.dtype)
    if policy.shape != reward.shape:
        raise ValueError(f"policy: expected {list(reward.shape)}, got shape {list(policy.shape)}")
    averaged = jnp.einsum("sa,san->sn", policy, transition, precision=jax.lax.Precision.HIGHEST)
    return averaged, (policy * reward).sum(1)
