"""The three fits of 3.1 to 3.5 find the plane, and the two that descend agree step for step."""

import ch03_linear_regression
import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda **fields: ch03_linear_regression.main(ch03_linear_regression.Config(vector_length=20, **fields))


def errors(figures, name):
    return np.array([figures[f"{name}_{parameter}"] for parameter in ("w1", "w2", "b")])


def test_the_books_three_epochs_leave_an_error_and_ten_do_not(run, tmp_path, capsys):
    """D2L 3.4, whose three epochs end at about (0.08, -0.16) and 0.21."""
    ten, three = run(), run(epochs=3)
    assert ten["step"] == 310
    for name in ("closed_form", "from_scratch", "concise"):
        assert abs(errors(ten, name)).max() < 1e-2
    # 93 steps of the average batch leave (1 - 0.03)^93 = 0.06 of the way from the start, (2, -3.4, 4.2).
    for name in ("from_scratch", "concise"):
        np.testing.assert_allclose(errors(three, name), 0.97**93 * np.array([2, -3.4, 4.2]), atol=0.06)
    assert abs(errors(ten, "closed_form")).max() < 5 * 0.01 / np.sqrt(1000)  # five standard errors
    for figures in (ten, three):  # the same start and the same batches, in float32
        np.testing.assert_allclose(errors(figures, "from_scratch"), errors(figures, "concise"), atol=5e-6)
    assert ten["eval_loss"] == pytest.approx(0.01**2 / 2, rel=0.2)  # the noise is what is left
    folder = min((tmp_path / "runs").iterdir())
    assert {path.name for path in folder.iterdir()} == {"curve.png", "fit.png", "history.csv", "checkpoints"}
    assert "20 additions" in capsys.readouterr().out


def test_shuffled_targets_teach_only_the_mean(run, monkeypatch):
    def shuffled(split, seed):
        arrays = original(split, seed)
        return arrays | {"y": np.random.default_rng(0).permutation(arrays["y"])}

    original = ch03_linear_regression.load_split
    monkeypatch.setattr(ch03_linear_regression, "load_split", shuffled)
    w1, w2, b = errors(run(), "concise")
    assert abs(w1) > 1.5
    assert abs(w2) > 2.5
    assert abs(b) < 0.5


def test_the_shared_flags_are_honoured(run, tmp_path):
    fields = {"strategy": "shard", "accumulate": 2, "checkpoint_dir": tmp_path / "ck", "log_dir": tmp_path / "log"}
    fields |= {"train_split": "train[:200]", "eval_split": "train[200:300]", "plot": tmp_path / "curve.pdf"}
    run(epochs=1, precision="bfloat16", **fields)
    row = run(epochs=2, precision="bfloat16", resume=True, **fields)
    assert row["step"] == 12
    # A prediction is rounded by up to 2^-8 of its size, at most 15, and moves a parameter by 0.03 of that a step.
    np.testing.assert_allclose(errors(row, "concise"), errors(row, "from_scratch"), atol=12 * 0.03 * 15 / 2**8)
    assert (errors(row, "concise") != errors(row, "from_scratch")).all()
    assert (tmp_path / "curve.pdf").is_file()
    assert list((tmp_path / "log").iterdir())


def test_the_scratch_loop_is_stochastic_gradient_descent(x64):
    """Against the update written out in NumPy, one batch at a time."""
    rng = np.random.default_rng(0)
    batches = {"x": rng.normal(size=(4, 8, 2)), "y": rng.normal(size=(4, 8, 1))}
    weights, bias = rng.normal(size=(2, 1)), np.zeros(1)
    start = {"weights": jnp.asarray(weights), "bias": jnp.asarray(bias)}
    params, (path, losses) = ch03_linear_regression.sgd_from_scratch(start, jax.tree.map(jnp.asarray, batches), 0.1)
    for i, (x, y) in enumerate(zip(*batches.values(), strict=True)):
        residuals = x @ weights + bias - y
        assert float(losses[i]) == pytest.approx((residuals**2).mean() / 2, rel=1e-12)
        weights, bias = weights - 0.1 * x.T @ residuals / 8, bias - 0.1 * residuals.mean(0)
        np.testing.assert_allclose(path["weights"][i], weights, rtol=1e-12)
    np.testing.assert_allclose(params["bias"], bias, rtol=1e-12)


def test_flags_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="data: expected 'linear_regression', whose weights are known, got 'digits'"):
        ch03_linear_regression.Config(data="digits")
    with pytest.raises(ValueError, match="vector_length: expected at least 1, got 0"):
        ch03_linear_regression.Config(vector_length=0)
    with pytest.raises(ValueError, match=r"split: expected slices of 'train', got \['test'\]"):
        ch03_linear_regression.load_split("train[:10]+test", 0)
