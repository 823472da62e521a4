"""Every optimiser ends near least squares, on both tables; with a target shuffled apart it does not."""

import os
from pathlib import Path

import ch12_airfoil as example
import numpy as np
import pytest

REAL = Path(os.environ.get("JAXDL_TEST_DATA") or Path(__file__).parents[2] / "../shared/data")


def test_the_embedded_table(tmp_path, capsys):
    figures = example.main(example.Config(num_seeds=1, plot=tmp_path / "new" / "a.png"))
    best = figures["least squares"]
    printed = capsys.readouterr().out
    for name in example.recipes("diabetes"):
        assert best - 1e-6 < figures[name] < best + 0.03, name
        assert f"{figures[name]:.4f}" in printed
    assert figures["covered"] == pytest.approx(1 - np.exp(-1), abs=0.002)
    assert (tmp_path / "new" / "a.png").stat().st_size > 30_000


@pytest.mark.skipif(
    not (REAL / "airfoil/airfoil_self_noise.dat").is_file(),
    reason="needs the airfoil data: set JAXDL_TEST_DATA to a folder that has airfoil/airfoil_self_noise.dat",
)
def test_the_losses_of_the_book(monkeypatch):
    """0.242 to 0.254 for all optimisers of D2L 12.5 to 12.10; a pair shuffled apart learns only to predict the mean."""
    monkeypatch.setenv("JAXDL_DATA", str(REAL))
    arrays = example.standardised("airfoil")
    assert arrays["x"].shape == (1500, 5)
    for name, recipe in example.recipes("airfoil").items():
        losses = example.train(recipe, arrays, [0]).losses
        assert 0.2415 < losses[-1] < 0.2545, name
        assert losses[0] == pytest.approx(0.5, abs=0.01)
    recipe = example.recipes("airfoil")["Adam"]
    shuffled = arrays | {"y": np.random.default_rng(0).permutation(arrays["y"])}
    losses = example.train(recipe, shuffled, [0]).losses
    assert losses[-1] > 0.49


def test_no_repetition_is_refused():
    with pytest.raises(ValueError, match="num_seeds: expected at least 1, got 0"):
        example.Config(num_seeds=0)
