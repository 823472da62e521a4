"""Every schedule trains; a rate of zero and shuffled labels do not."""

import ch12_schedules as example
import jax.numpy as jnp
import numpy as np
import pytest

CONFIG = example.Config(epochs=10, learning_rate=0.2)


def test_it_trains_with_every_schedule(tmp_path, capsys):
    figures = example.main(
        example.Config(train_split="train[:256]", epochs=3, num_seeds=1, plot=tmp_path / "new" / "s.png")
    )
    names = example.schedules(CONFIG)
    assert {f"{name}/{what}" for name in names for what in ("loss", "accuracy", "least")} == set(figures)
    assert (tmp_path / "new" / "s.png").stat().st_size > 30_000
    assert f"{figures['cosine/accuracy']:.3f}" in capsys.readouterr().out


def test_it_learns_by_its_rate_and_its_labels():
    train, test = example.digits(CONFIG.train_split), example.digits("test")
    schedule = example.schedules(CONFIG)["cosine"]
    assert example.train(schedule, CONFIG, 0, train, test)[-1, 1] > 0.8
    still = example.train(lambda epoch: 0.0 * schedule(epoch), CONFIG, 0, train, test)
    assert np.ptp(still[:, 1]) == 0
    shuffled = train | {"label": jnp.asarray(np.random.default_rng(0).permutation(train["label"]))}
    assert example.train(schedule, CONFIG, 0, shuffled, test)[-1, 1] < 0.3


def test_every_schedule_starts_no_higher_than_the_rate():
    for epochs in (1, 21):
        for name, schedule in example.schedules(example.Config(epochs=epochs)).items():
            rates = np.asarray(schedule(np.arange(epochs)))
            assert rates.shape == (epochs,), name
            assert 0 <= rates.min() <= rates.max() <= 0.3 * (1 + 1e-6), name


def test_what_cannot_train_is_refused():
    with pytest.raises(ValueError, match="epochs: expected at least 1, got 0"):
        example.Config(epochs=0)
    with pytest.raises(ValueError, match="batch_size: expected at most 10, got 64"):
        example.main(example.Config(train_split="train[:10]"))
