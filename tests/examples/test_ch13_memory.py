"""The example trains the same under each kind of rematerialisation and reports what each costs."""

import ch13_memory
import jax
import jax.numpy as jnp
import pytest


def test_two_kinds_learn_the_same_at_another_cost(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ch13_memory, "REMAT", {"none": "none", "sqrt": "sqrt"})
    monkeypatch.chdir(tmp_path)
    config = ch13_memory.Config(
        num_blocks=4, width=16, train_split="train[:512]", epochs=4, learning_rate=5e-3, plot=tmp_path / "new" / "m.png"
    )
    row = ch13_memory.main(config)
    assert row["none_accuracy"] == pytest.approx(row["sqrt_accuracy"], abs=0.01)
    assert row["none_accuracy"] > 0.3  # chance is 0.1
    assert row["largest_loss_gap"] < 1e-3  # of losses of about 2, in float32
    assert 1.3 < row["sqrt_flops"] / row["none_flops"] < 1.35
    assert row["sqrt_temporaries"] < row["none_temporaries"]
    assert config.plot.stat().st_size > 10_000
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if line.startswith("sqrt "))
    assert f"{row['sqrt_temporaries'] / 2**20:.1f} MiB" in line
    assert f"{row['sqrt_step_ms']:.1f}" in line
    assert printed.count("temporaries") == 2 + 1  # a report each, and the table


def test_the_precision_of_the_flag_reaches_every_block():
    model = ch13_memory.Classifier(2, 8, "none", jnp.bfloat16)
    outputs, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((3, 8, 8, 1)))
    assert outputs.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_checkpoints_go_where_the_flag_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ch13_memory, "REMAT", {"none": "none"})
    fields = {"num_blocks": 2, "width": 8, "train_split": "train[:128]", "checkpoint_dir": tmp_path / "ck"}
    ch13_memory.main(ch13_memory.Config(epochs=1, **fields))
    assert (tmp_path / "ck" / "none" / "1").is_dir()
    ch13_memory.main(ch13_memory.Config(epochs=2, resume=True, **fields))
    assert (tmp_path / "ck" / "none" / "2").is_dir()
