"""The chapter's numbers (CHECKLIST 2.1): the script compares all of them, and a wrong one ends it."""

import ch02_arrays
import jax.numpy as jnp
import pytest


def test_the_script(capsys):
    numbers = ch02_arrays.main(ch02_arrays.Config())
    assert numbers["arange(12).size"] == 12
    assert numbers["a.sum()"] == 66
    assert numbers["is the donated x gone?"] == 1
    printed = capsys.readouterr().out
    for line in (
        "x ** y                                  [ 1.,  4., 16., 64.]",
        "concatenate((a, b), axis=0).shape       [6, 4]",
        "concatenate((a, b), axis=1).shape       [3, 8]",
        "a + b, shapes (3, 1) and (1, 2)         [[0, 1], [1, 2], [2, 3]]",
        "help(jnp.ones) begins: Create an array full of ones.",
    ):
        assert line in printed


def test_a_wrong_value_ends_it(monkeypatch):
    def wrong(config):
        """A sum."""
        yield "1 + 1", jnp.ones(1) + 1, [3]

    monkeypatch.setattr(ch02_arrays, "operations", wrong)
    with pytest.raises(AssertionError, match=r"1 \+ 1"):
        ch02_arrays.main(ch02_arrays.Config())
