"""The chapter's numbers (CHECKLIST 2.5)."""

import ch02_autodiff
import jax
import jax.numpy as jnp
import numpy as np
import pytest


def test_the_numbers_of_the_chapter():
    values = ch02_autodiff.gradients(jnp.arange(4.0))
    expected = [28, [0, 4, 8, 12], [1, 1, 1, 1], [0, 2, 4, 6], [0, 2, 4, 6], [0, 1, 4, 9]]
    for value, number in zip(values.values(), expected, strict=True):
        np.testing.assert_array_equal(value, number)


@pytest.mark.parametrize("a", [0.3, -0.3, 2.0, -700.0])
def test_control_flow_is_linear_in_pieces(a):
    value = ch02_autodiff.python_control_flow(a)
    assert float(jax.grad(ch02_autodiff.python_control_flow)(a)) == pytest.approx(value / a, rel=1e-6)
    assert float(jax.jit(ch02_autodiff.compiled_control_flow)(a)) == pytest.approx(value, rel=1e-6)


def test_the_script(tmp_path, capsys):
    config = ch02_autodiff.Config(seed=3, plot=tmp_path / "picture.png")
    row = ch02_autodiff.main(config)
    assert row["value"] == 28
    assert row["control_flow_error"] == pytest.approx(0, abs=1e-6)
    assert row["compiled_control_flow_error"] == pytest.approx(0, abs=1e-6)
    assert config.plot.stat().st_size > 10_000
    assert "[ 0.  4.  8. 12.]" in capsys.readouterr().out
