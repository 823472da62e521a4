"""The lake has its known values, exploring beats greed, knowing users beats popularity, which beats chance."""

import math

import ch23_classic_pieces as example
import jax
import numpy as np
import pytest


def run(tmp_path, **fields):
    return example.main(example.Config(plot=tmp_path / "new" / "picture.png", **fields))


def test_it_finds_what_it_should(tmp_path, capsys):
    figures = run(tmp_path, num_runs=300, num_steps=300, num_users=200)
    assert figures["value_of_start"] == pytest.approx(0.007767, abs=figures["error_bound"])
    assert figures["error"] < figures["error_bound"] < 2e-5
    assert figures["regret_epsilon 0.1"] < 0.75 * figures["regret_greedy"]
    assert figures["regret_softmax, temperature 0.2"] < 0.75 * figures["regret_greedy"]
    # At first all arms are alike, so the regret is the mean maximum of ten normals, and varies by at most 1 + 0.344.
    keys = jax.random.split(jax.random.key(1), 300)
    first = np.asarray(example.train_many(keys, *example.AGENTS["greedy"], 300))[:, 0]
    assert first.mean() == pytest.approx(1.5388, abs=5 * math.sqrt(1.344 / 300))
    names = ["random", "popular", "had together", "true liking"]
    for score in ("hit_rate", "auc"):
        found = [figures[f"{score}_{name}"] for name in names]
        assert found == sorted(found)
    assert figures["auc_random"] == pytest.approx(0.5, abs=5 / math.sqrt(12 * 200))  # ranks are uniform: 5 errors
    chance = 10 / 280
    assert figures["hit_rate_random"] == pytest.approx(chance, abs=5 * math.sqrt(chance * (1 - chance) / 200))
    printed = capsys.readouterr().out
    assert "SFFF 0.0078 0.0069 0.0143 0.0065" in printed
    assert "among 280 candidates" in printed
    assert (tmp_path / "new" / "picture.png").stat().st_size > 10_000


def test_the_lake_is_gymnasiums():
    gymnasium = pytest.importorskip("gymnasium")
    outcomes = gymnasium.make("FrozenLake-v1", is_slippery=False).unwrapped.P
    transition, reward = example.frozen_lake()
    for state in range(16):
        for action in range(4):
            ((_, next_state, r, _),) = outcomes[state][action]
            assert transition[state, action].argmax() == next_state
            assert reward[state, action] == r


def test_errors():
    with pytest.raises(ValueError, match="num_runs: expected at least 1, got 0"):
        example.Config(num_runs=0)
