"""Reinforcement learning (D2L 17): the values of a policy, and how to explore.

A Markov decision process that is known is a few arrays; `jaxdl/rl/policy_evaluation.py` says which, and all of the room
keeps to them. Choosing an action is a function of one state's action values and a key, lifted by `jax.vmap`.
"""

from jaxdl.rl.exploration import (
    epsilon_greedy,
    epsilon_greedy_probabilities,
    softmax_exploration,
    softmax_exploration_probabilities,
)
from jaxdl.rl.policy_evaluation import PolicyValues, action_values, policy_evaluation, policy_evaluation_exact

__all__ = [
    "PolicyValues",
    "action_values",
    "epsilon_greedy",
    "epsilon_greedy_probabilities",
    "policy_evaluation",
    "policy_evaluation_exact",
    "softmax_exploration",
    "softmax_exploration_probabilities",
]
