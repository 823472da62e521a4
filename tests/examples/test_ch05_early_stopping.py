"""Right labels are fitted first, early stopping keeps that state; with random labels alone there is none to keep."""

import ch05_early_stopping
import numpy as np
import pytest


def test_right_labels_come_first_and_early_stopping_keeps_them(tmp_path):
    config = ch05_early_stopping.Config(num_seeds=2, plot=tmp_path / "pictures" / "curves.png")
    runs = ch05_early_stopping.repetitions(config)
    for run in runs:  # on each seed
        figures = ch05_early_stopping.summary(run)
        assert figures["wrong labels fitted when 0.9 of the right are"] < 0.1
        assert figures["wrong labels fitted at the end"] > 0.7
        best, stopped, end = (
            figures[f"test accuracy, {name}"] for name in ("best epoch", "early stopping", "at the end")
        )
        assert best - 0.06 < stopped
        assert end + 0.1 < stopped  # the worst of ten seeds: 0.109
        assert run["stop"] < 20
        assert run["test"][run["stop"] - 1] == stopped  # the stopped training is the first part of the other
        early = slice(0, 5)
        medians = {name: np.median(losses[early], axis=1) for name, losses in run["loss"].items()}  # [epochs]
        assert (medians["right"] < medians["wrong"]).all()


def test_random_labels_teach_nothing_that_could_be_kept(tmp_path, capsys):
    config = ch05_early_stopping.Config(
        label_noise=1.0, num_seeds=2, epochs=10, plot=tmp_path / "pictures" / "curves.png"
    )
    figures = ch05_early_stopping.main(config)
    assert config.plot.is_file()
    assert figures["test accuracy, best epoch"] < 0.25
    assert figures["test accuracy, early stopping"] < 0.25
    assert np.isnan(figures["wrong labels fitted when 0.9 of the right are"])
    assert "epochs until early stopping" in capsys.readouterr().out


def test_the_share_of_wrong_labels_is_what_was_asked():
    """A random class is the right one in a tenth of the cases."""
    train, valid, wrong = ch05_early_stopping.noisy_digits(0.4, seed=0)
    assert wrong.mean() == pytest.approx(0.36, abs=5 * np.sqrt(0.36 * 0.64 / 1200))
    assert train["image"].shape == (1200, 8, 8, 1)
    assert len(valid["label"]) == 237
    assert train["label"].dtype == np.int32


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label_noise": 0.0}, r"label_noise: expected a share in \(0, 1\], got 0.0"),
        ({"epochs": 0}, "epochs: expected at least 1, got 0"),
        ({"num_seeds": 0}, "num_seeds: expected at least 1, got 0"),
    ],
)
def test_a_config_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        ch05_early_stopping.Config(**fields)
