"""The strategies agree, and the numbers of D2L 13.5 come out."""

import ch13_data_parallel
import jax
import jax.numpy as jnp
import pytest

from jaxdl import nn


def test_all_strategies_agree_and_learn(capsys):
    config = ch13_data_parallel.Config(epochs=3, batch_size=128, train_split="train[:512]")
    figures = ch13_data_parallel.main(config)
    names = [name for name in figures if name.endswith("accuracy")]
    assert len(names) == 4
    accuracies = [figures[name] for name in names]
    assert max(accuracies) - min(accuracies) < 0.03
    assert min(accuracies) > 0.2  # chance is 0.1; the full run is in the script's docstring
    for name, value in figures.items():
        if name.endswith("difference"):
            assert value < 1e-6, name
    output = capsys.readouterr().out
    assert "a batch (4, 5) splits into 2 x (2, 5)" in output
    assert "all-reduce of [[1.0, 1.0], [2.0, 2.0]]: every device ends with [3.0, 3.0]" in output


def test_the_network_is_the_books():
    variables = jax.eval_shape(ch13_data_parallel.WideLeNet().init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    sizes = [9 * 20 + 20, 25 * 20 * 50 + 50, 800 * 128 + 128, 128 * 10 + 10]
    assert nn.parameter_count(variables) == sum(sizes)


def test_a_batch_that_the_devices_do_not_divide_is_said():
    with pytest.raises(ValueError, match="does not divide over 8 devices"):
        ch13_data_parallel.main(ch13_data_parallel.Config(epochs=1, batch_size=100, train_split="train[:200]"))


@pytest.mark.slow
def test_resnet_with_synchronised_normalisation():
    """As every strategy normalises over the whole batch, one step moves all of them to the same place."""
    config = ch13_data_parallel.Config(
        model="resnet18", epochs=1, batch_size=16, train_split="train[:16]", learning_rate=0.01
    )
    figures = ch13_data_parallel.main(config)
    assert max(value for name, value in figures.items() if name.endswith("difference")) < 1e-3
