"""Dropout narrows the gap between training and test; each of the runs keeps its own record."""

import ch05_dropout
import pytest

TINY = {"train_split": "train[:64]", "eval_split": "test[:100]", "epochs": 2, "hidden": (16,), "num_seeds": 1}


@pytest.mark.slow
def test_dropout_helps(tmp_path, monkeypatch):
    """Over 10 seeds the test loss was 0.188 without (standard deviation 0.010) and 0.150 with (0.015)."""
    monkeypatch.chdir(tmp_path)
    row = ch05_dropout.main(ch05_dropout.Config())
    assert row["dropout/gap"] < row["plain/gap"] - 0.005
    assert row["dropout/test_loss"] < row["plain/test_loss"] - 0.005
    assert row["dropout/test_accuracy"] > row["plain/test_accuracy"]
    assert row["plain/train_loss"] < 0.02  # it did learn its examples by heart


def test_every_run_keeps_its_own_record_and_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fields = TINY | {"checkpoint_dir": tmp_path / "ck", "log_dir": tmp_path / "log", "seed": 3}
    ch05_dropout.main(ch05_dropout.Config(**fields, plot=tmp_path / "new" / "d.png"))
    names = {"plain_seed_3", "dropout_seed_3"}
    assert {p.name for p in (tmp_path / "ck").iterdir()} == {p.name for p in (tmp_path / "log").iterdir()} == names
    assert (tmp_path / "new" / "d.png").stat().st_size > 10_000
    (folder,) = (tmp_path / "runs").iterdir()
    for name in names:
        assert (tmp_path / "ck" / name / "8").is_dir()
        assert {p.name for p in (folder / name).iterdir()} == {"curve.png", "history.csv"}

    row = ch05_dropout.main(ch05_dropout.Config(**fields | {"epochs": 3}, resume=True))
    assert (tmp_path / "ck" / "dropout_seed_3" / "12").is_dir()
    assert f"{row['dropout/test_loss']:.4f}" in capsys.readouterr().out


def test_noise_is_in_the_training_of_one_network_and_in_no_evaluation(tmp_path):
    """Networks that hardly move: without dropout, the loss in training is the loss evaluated on the same examples."""
    config = ch05_dropout.Config(**TINY | {"epochs": 1, "learning_rate": 1e-6, "accumulate": 2})
    differences = {}
    for rate in (0.0, 0.9):
        (figures,), (history,) = ch05_dropout.train(f"rate {rate}", rate, config, tmp_path)
        differences[rate] = history["train_loss"][0] - figures["train_loss"]
    assert abs(differences[0.0]) < 1e-4
    assert differences[0.9] > 0.05


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden": ()}, r"hidden: expected one or more widths of at least 1, got \(\)"),
        ({"dropout_rate": 0.0}, "dropout_rate: expected a number between 0 and 1, got 0.0"),
        ({"dropout_rate": 1.0}, "dropout_rate: expected a number between 0 and 1, got 1.0"),
        ({"num_seeds": 0}, "num_seeds: expected at least 1, got 0"),
    ],
)
def test_what_compares_nothing_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ch05_dropout.Config(**fields)
