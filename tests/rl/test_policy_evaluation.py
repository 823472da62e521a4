"""Policy evaluation against published tables, closed forms, a loop in NumPy, and the contraction's bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.rl import action_values, policy_evaluation, policy_evaluation_exact

# FrozenLake 4 x 4 that does not slip, discount 0.95: checklist C22.
LAKE_UNIFORM = [
    *(0.007767, 0.006868, 0.014283, 0.006461),
    *(0.010302, 0, 0.032526, 0),
    *(0.025307, 0.070947, 0.12267, 0),
    *(0, 0.150747, 0.413032, 0),
]
LAKE_BEST = [
    *(0.773781, 0.814506, 0.857375, 0.814506),
    *(0.814506, 0, 0.9025, 0),
    *(0.857375, 0.9025, 0.95, 0),
    *(0, 0.95, 1, 0),
]
LAKE_BEST_ACTIONS = [1, 2, 1, 0, 1, 0, 1, 0, 2, 1, 1, 0, 0, 2, 2, 0]
LAKE_SLIPPERY_BEST = [
    *(0.180472, 0.154757, 0.153477, 0.132548),
    *(0.208967, 0, 0.176431, 0),
    *(0.270457, 0.374652, 0.403673, 0),
    *(0, 0.50898, 0.723674, 0),
]
# Sutton and Barto (2018), example 3.5 and figure 3.2: 5 x 5, uniform policy, discount 0.9.
SUTTON_BARTO = [
    *(3.3, 8.8, 4.4, 5.3, 1.5),
    *(1.5, 3.0, 2.3, 1.9, 0.5),
    *(0.1, 0.7, 0.7, 0.4, -0.4),
    *(-1.0, -0.4, -0.4, -0.6, -1.2),
    *(-1.9, -1.3, -1.2, -1.4, -2.0),
]


def frozen_lake(slippery=False):
    """Transition and reward as gymnasium has them; the reward is averaged over the next states."""
    gymnasium = pytest.importorskip("gymnasium")
    outcomes = gymnasium.make("FrozenLake-v1", is_slippery=slippery).unwrapped.P
    transition, reward = np.zeros((16, 4, 16)), np.zeros((16, 4))
    for state in range(16):
        for action in range(4):
            for probability, next_state, r, _ in outcomes[state][action]:
                transition[state, action, next_state] += probability
                reward[state, action] += probability * r
    return transition, reward


def grid_world():
    transition, reward = np.zeros((25, 4, 25)), np.zeros((25, 4))
    for state in range(25):
        for action, (down, right) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)]):
            y, x = state // 5 + down, state % 5 + right
            inside = 0 <= y < 5 and 0 <= x < 5
            goes_to, r = (5 * y + x, 0) if inside else (state, -1)
            goes_to, r = {1: (21, 10), 3: (13, 5)}.get(state, (goes_to, r))
            transition[state, action, goes_to], reward[state, action] = 1, r
    return transition, reward


def random_process(seed, num_states=5, num_actions=3):
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.ones(num_states), (num_states, num_actions))
    return transition, rng.normal(size=(num_states, num_actions)), rng.dirichlet(np.ones(num_actions), num_states)


def both(transition, reward, policy, discount):
    """The values found both ways, which agree to 1e-10."""
    exact = policy_evaluation_exact(transition, reward, policy, discount)
    found = policy_evaluation(transition, reward, policy, discount, tolerance=1e-13)
    assert exact.dtype == found.values.dtype == jnp.float64
    np.testing.assert_allclose(found.values, exact, rtol=0, atol=1e-10)
    return exact


def test_frozen_lake(x64):
    process = frozen_lake()
    np.testing.assert_allclose(both(*process, np.full((16, 4), 0.25), 0.95), LAKE_UNIFORM, atol=5e-7)
    best = both(*process, np.eye(4)[LAKE_BEST_ACTIONS], 0.95)
    np.testing.assert_allclose(best, LAKE_BEST, atol=5e-7)
    q_values = action_values(*process, best, 0.95)
    np.testing.assert_allclose(q_values[0], [0.735092, 0.773781, 0.773781, 0.735092], atol=5e-7)
    np.testing.assert_allclose(q_values[14], [0.9025, 0.95, 1.0, 0.9025], atol=5e-7)


def test_value_iteration_with_action_values(x64):
    """The room's arrays serve D2L 17.2: V_1 and V_2 of the lake, and the values of the slippery one."""
    process = frozen_lake()
    values = np.zeros(16)
    for expected in ({14: 1.0}, {10: 0.95, 13: 0.95, 14: 1.0}):
        values = np.asarray(action_values(*process, values, 0.95).max(1))
        assert {int(state): values[state] for state in np.flatnonzero(values)} == pytest.approx(expected)
    process, values = frozen_lake(slippery=True), np.zeros(16)
    sweep = jax.jit(lambda values: action_values(*process, values, 0.95).max(1))
    for _ in range(400):
        values = sweep(values)
    np.testing.assert_allclose(values, LAKE_SLIPPERY_BEST, atol=5e-7)
    greedy = np.eye(4)[np.asarray(action_values(*process, values, 0.95).argmax(1))]
    np.testing.assert_allclose(both(*process, greedy, 0.95), values, atol=1e-7)


def test_the_grid_world_of_sutton_and_barto(x64):
    values = both(*grid_world(), np.full((25, 4), 0.25), 0.9)
    np.testing.assert_allclose(values, SUTTON_BARTO, atol=0.05 + 1e-6)  # printed to one decimal


@pytest.mark.parametrize(("discount", "probability"), [(0.9, 1.0), (0.9, 0.3), (0.0, 0.5)])
def test_a_chain_in_closed_form(x64, discount, probability):
    """One action moves on with some probability, else stays; 1 for reaching the end, n steps away.

    `V_n = q^n / discount` with `q = discount * p / (1 - discount * (1 - p))`: a geometric number of tries a step.
    """
    num_states = 5
    transition, reward = np.zeros((num_states, 1, num_states)), np.zeros((num_states, 1))
    transition[0, 0, 0] = 1
    for state in range(1, num_states):
        transition[state, 0, state - 1], transition[state, 0, state] = probability, 1 - probability
    reward[1] = probability
    per_discount = probability / (1 - discount * (1 - probability))
    expected = [0, *(per_discount * (discount * per_discount) ** n for n in range(num_states - 1))]
    np.testing.assert_allclose(both(transition, reward, np.ones((num_states, 1)), discount), expected, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), discount=st.sampled_from([0.0, 0.5, 0.95]))
def test_bellmans_equation_and_the_loop(seed, discount):
    with jax.enable_x64(True):
        transition, reward, policy = random_process(seed)
        values = both(transition, reward, policy, discount)
        q_values = action_values(transition, reward, values, discount)
        np.testing.assert_allclose((policy * q_values).sum(1), values, atol=1e-12)
        by_hand = np.zeros(5)
        for _ in range(7):
            by_hand = np.array(
                [
                    sum(policy[s, a] * (reward[s, a] + discount * transition[s, a] @ by_hand) for a in range(3))
                    for s in range(5)
                ]
            )
        found = policy_evaluation(transition, reward, policy, discount, tolerance=0, max_sweeps=7)
        np.testing.assert_allclose(found.values, by_hand, atol=1e-13)
        assert int(found.num_sweeps) == (2 if discount == 0 else 7)  # the second changes nothing


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), discount=st.sampled_from([0.5, 0.95]), num_sweeps=st.sampled_from([1, 4, 20]))
def test_the_error_stays_within_the_bound(seed, discount, num_sweeps):
    with jax.enable_x64(True):
        transition, reward, policy = random_process(seed)
        exact = policy_evaluation_exact(transition, reward, policy, discount)
        found = policy_evaluation(transition, reward, policy, discount, tolerance=0, max_sweeps=num_sweeps)
        assert float(jnp.abs(found.values - exact).max()) <= float(found.error_bound) + 1e-12
        # And the change shrinks by the discount at least: the first sweep changes as much as the largest reward.
        first = np.abs((policy * reward).sum(1)).max()
        assert float(found.change) <= discount ** (num_sweeps - 1) * first + 1e-12


def test_the_bound_is_reached():
    """One state, reward 1, discount 1/2: V_k = 2 - 2^(1-k), so the error is 2^(1-k), and so is the change."""
    one = np.ones((1, 1, 1)), np.ones((1, 1)), np.ones((1, 1))
    found = policy_evaluation(*one, 0.5, tolerance=0.01)
    assert [x.item() for x in found] == [2 - 2**-7, 8, 2**-7, 2**-7]
    stopped = policy_evaluation(*one, 0.5, tolerance=0.01, max_sweeps=3)
    assert [x.item() for x in stopped] == [1.75, 3, 0.25, 0.25]


def test_float32_is_as_good_as_its_rounding():
    transition, reward, policy = random_process(0)
    values = policy_evaluation(transition, reward, policy, 0.9)
    assert values.values.dtype == jnp.float32
    exact = np.linalg.solve(np.eye(5) - 0.9 * np.einsum("sa,san->sn", policy, transition), (policy * reward).sum(1))
    rounding = 16 * np.finfo(np.float32).eps * np.abs(exact).max() / (1 - 0.9)
    np.testing.assert_allclose(values.values, exact, atol=float(values.error_bound) + rounding)
    np.testing.assert_allclose(policy_evaluation_exact(transition, reward, policy, 0.9), exact, atol=rounding)


def test_half_precision_is_taken_to_float32():
    transition, reward, policy = (x.astype(np.float16) for x in random_process(0))
    values = policy_evaluation_exact(transition, reward, policy, 0.9)
    assert values.dtype == jnp.float32
    expected = policy_evaluation_exact(*(x.astype(np.float32) for x in (transition, reward, policy)), 0.9)
    np.testing.assert_array_equal(values, expected)


def test_many_at_once_and_gradients(x64):
    transition, reward, policy = random_process(1)
    discounts = jnp.array([0.1, 0.9])
    many = jax.jit(jax.vmap(lambda discount: policy_evaluation(transition, reward, policy, discount)))(discounts)
    for i, discount in enumerate(discounts):
        one = policy_evaluation(transition, reward, policy, discount)
        np.testing.assert_allclose(many.values[i], one.values, atol=1e-12)
        assert int(many.num_sweeps[i]) == int(one.num_sweeps)
    exact = lambda discount: policy_evaluation_exact(transition, reward, policy, discount).sum()  # noqa: E731
    slope = float(exact(0.5 + 1e-6) - exact(0.5 - 1e-6)) / 2e-6
    assert float(jax.grad(exact)(0.5)) == pytest.approx(slope, rel=1e-7)


def test_the_second_call_does_not_compile(compilations):
    transition, reward, policy = (jnp.asarray(x) for x in random_process(2, num_states=6))
    policy_evaluation(transition, reward, policy, 0.5)
    compilations.clear()
    policy_evaluation(transition, reward, policy, 0.6, tolerance=1e-3, max_sweeps=9)
    assert not compilations


T, R, P = np.full((2, 3, 2), 0.5), np.zeros((2, 3)), np.full((2, 3), 1 / 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (T[0], R, P, 0.9),
            r"transition: expected \[states, actions, next_states\], none of length 0, got shape \[3, 2",
        ),
        ((T[:, :, :1] * 2, R, P, 0.9), "transition: expected as many next_states as states"),
        ((T * 0.9, R, P, 0.9), "transition: expected a sum of 1 over next_states, the last axis, got 0.9"),
        ((T + np.array([0.6, -0.6]), R, P, 0.9), "transition: expected probabilities of at least 0, got -0.1"),
        ((T * np.nan, R, P, 0.9), "transition: expected finite numbers, got nan"),
        ((T, R[:, :2], P, 0.9), r"reward: expected \[2, 3\], got shape \[2, 2\]"),
        ((T, R[0], P, 0.9), r"reward: expected \[states, actions\]"),
        ((T, R + np.inf, P, 0.9), "reward: expected finite numbers, got inf"),
        ((T, R > 0, P, 0.9), "reward: expected real numbers, got bool"),
        ((T, R, P.T, 0.9), "policy: expected a sum of 1 over actions"),
        ((T, R, [[1.0], [1.0]], 0.9), r"policy: expected \[2, 3\], got shape \[2, 1\]"),
        ((T, R, [0, 1], 0.9), r"policy: expected \[states, actions\], none of length 0, got shape \[2\]"),
        ((T, R, P, 1.0), r"discount: expected a number of \[0, 1\), got 1.0"),
        ((T, R, P, -0.1), r"discount: expected a number of \[0, 1\), got -0.1"),
        ((T, R, P, [0.9]), r"discount: expected a scalar, got shape \[1\]"),
        ((np.zeros((0, 3, 0)), np.zeros((0, 3)), np.zeros((0, 3)), 0.9), "transition: .* none of length 0"),
    ],
)
def test_errors(arguments, message):
    for evaluate in (policy_evaluation, policy_evaluation_exact):
        with pytest.raises(ValueError, match=message):
            evaluate(*arguments)


def test_errors_of_the_rest():
    with pytest.raises(ValueError, match="tolerance: expected at least 0, got nan"):
        policy_evaluation(T, R, P, 0.9, tolerance=float("nan"))
    with pytest.raises(ValueError, match="max_sweeps: expected at least 1, got 0"):
        policy_evaluation(T, R, P, 0.9, max_sweeps=0)
    with pytest.raises(ValueError, match=r"values: expected \[2\], got shape \[3\]"):
        action_values(T, R, np.zeros(3), 0.9)
