"""Files come back bit for bit, damage is noticed where the script says so, arrays go where they are put."""

import ch06_files_and_devices as files
import jax
import jax.numpy as jnp
import numpy as np
import pytest


def test_what_the_script_says_holds(tmp_path, capsys):
    figures = files.main(files.Config(folder=tmp_path / "new"))
    assert figures.pop("devices") == 8
    assert len(figures) == 9
    assert all(figures.values()), figures
    with pytest.raises(ValueError, match="folder: expected a new or empty one"):
        files.Config(folder=tmp_path / "new")
    output = capsys.readouterr().out
    assert "no GPU 0 here: taking the CPU" in output
    assert "file not fully covered" in output
    assert "every checkpoint is damaged" in output
    assert "Received incompatible devices" in output


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.float32([0.0]), np.float32([-0.0])),
        (np.float32([1.0]), np.float64([1.0])),
        (np.zeros((1, 2), np.float32), np.zeros((2, 1), np.float32)),
        ({"x": np.zeros(1)}, {"y": np.zeros(1)}),
        (jax.random.key(0), jax.random.key(1)),
    ],
)
def test_same_bits_sees_every_difference(a, b):
    assert files.same_bits(a, a)
    assert not files.same_bits(a, b)


def test_same_bits_takes_nan_as_equal_to_itself():
    assert files.same_bits(jnp.array([jnp.nan]), jnp.array([jnp.nan]))


def test_error_of_wants_an_error():
    assert files.error_of(lambda: int("x")).startswith("ValueError: invalid literal")
    with pytest.raises(AssertionError, match="got none"):
        files.error_of(lambda: None)


def test_try_gpu_falls_back_and_says_so(monkeypatch, capsys):
    cpu = jax.devices("cpu")[0]
    assert files.try_gpu(3) == cpu
    assert capsys.readouterr().out == "no GPU 3 here: taking the CPU\n"
    monkeypatch.setattr(jax, "devices", lambda kind: [f"{kind}:0"])
    assert files.try_gpu() == "gpu:0"
    assert files.try_gpu(1) == "cpu:0"
    assert capsys.readouterr().out == "no GPU 1 here: taking the CPU\n"
