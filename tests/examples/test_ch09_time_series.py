"""Predictions of a noisy sine: near ones are good, far ones are not, and errors are those of the series itself."""

import ch09_time_series
import numpy as np
import pytest


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda **fields: ch09_time_series.main(ch09_time_series.Config(**fields))


def test_near_predictions_are_better_than_far_ones(run, tmp_path, capsys):
    figures = run()
    assert figures["step"] == 5 * 37
    errors = [figures[f"rmse_{k}"] for k in ch09_time_series.STEPS_AHEAD]
    assert 0.2 < errors[0] < 0.3  # the noise alone is 0.2
    assert errors[0] < figures["last_value_1"]
    assert errors[0] < errors[2] < errors[3]
    assert errors[3] > 1.5 * errors[0]
    assert figures["rmse_all"] > 0.6  # next to nothing is left of the sine, whose root mean square is 0.71
    assert figures["eval_loss"] == pytest.approx(errors[0] ** 2 / 2, rel=1e-4)  # one step ahead, on the same windows
    folder = min((tmp_path / "runs").iterdir())
    assert {path.name for path in folder.iterdir()} == {"curve.png", "predictions.png", "history.csv", "checkpoints"}
    assert "all the way" in capsys.readouterr().out


def test_a_shuffled_series_teaches_nothing(run, monkeypatch):
    def shuffled(*arguments, **fields):
        return np.random.default_rng(0).permutation(original(*arguments, **fields))

    original = ch09_time_series.noisy_sine
    monkeypatch.setattr(ch09_time_series, "noisy_sine", shuffled)
    assert run()["rmse_1"] > 0.63  # the standard deviation of the held-out values is 0.66


def test_the_shared_flags_are_honoured(run, tmp_path):
    fields = {"strategy": "shard", "accumulate": 2, "checkpoint_dir": tmp_path / "ck", "log_dir": tmp_path / "log"}
    fields |= {"train_split": "train[:160]", "eval_split": "train[160:400]", "plot": tmp_path / "curve.pdf"}
    run(epochs=1, precision="bfloat16", **fields)
    figures = run(epochs=2, precision="bfloat16", resume=True, **fields)
    assert figures["step"] == 20
    assert (tmp_path / "curve.pdf").is_file()
    assert list((tmp_path / "log").iterdir())


def test_predicting_ahead_feeds_predictions_back():
    """A Fibonacci model: the next value is the sum of the last two."""
    windows = np.array([[1.0, 1.0], [2.0, 3.0]], np.float32)
    ahead = ch09_time_series.predict_ahead(lambda x: x.sum(axis=1, keepdims=True), windows, 5)
    np.testing.assert_array_equal(ahead, [[2, 3, 5, 8, 13], [5, 8, 13, 21, 34]])
    golden = ch09_time_series.long_run_factor(lambda x: x.sum(axis=1, keepdims=True) + 7, 2)
    assert golden == pytest.approx((1 + np.sqrt(5)) / 2)


def test_errors_are_of_the_same_targets():
    arrays = ch09_time_series.windows_and_targets(np.arange(10.0, dtype=np.float32), 2)
    np.testing.assert_array_equal(arrays["x"][0], [0, 1])
    np.testing.assert_array_equal(arrays["y"][:, 0], np.arange(2, 10))
    constant = np.zeros((8, 3))  # predicts 0 at every distance
    curves = ch09_time_series.errors_by_distance(constant, arrays, np.array([4, 5]))
    np.testing.assert_allclose(curves["prediction"], [np.sqrt((36 + 49) / 2)] * 3)
    np.testing.assert_allclose(curves["last value"], [1, 2, 3])
    none = ch09_time_series.errors_by_distance(constant, arrays, np.array([0]))
    assert np.isnan(none["prediction"][1:]).all()


def test_flags_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="data: expected 'noisy_sine', got 'digits'"):
        ch09_time_series.Config(data="digits")
    with pytest.raises(ValueError, match="window: expected 1 to 9 values, got 10"):
        ch09_time_series.Config(num_values=10, window=10)
    with pytest.raises(ValueError, match=r"split: expected slices of 'train', got \['test'\]"):
        ch09_time_series.split_rows("test", 10)
    with pytest.raises(ValueError, match=r"split: expected at least one of 10 windows, got none in 'train\[10:\]'"):
        ch09_time_series.split_rows("train[10:]", 10)
