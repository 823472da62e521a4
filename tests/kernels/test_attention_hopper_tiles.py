"""Which blocks the kernels of attention visit, against a dense mask."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import needs_pallas

from jaxdl.kernels import attention_hopper_tiles as tiles
from jaxdl.kernels import interpret
from jaxdl.kernels.attention_case import Extras, Form, visible

FORM = Form(1, 1, 1, 1, 1, 64, 64, jnp.dtype("bfloat16"), 1.0, (None, None), None, 0.0)


def dense(form, query_length, key_length):
    """Who sees whom, `[q_len, kv_len]`."""
    position = np.arange(form.q_len)[:, None] + form.kv_len - form.q_len
    column, row = np.arange(form.kv_len)[None], np.arange(form.q_len)[:, None]
    left, right = form.window
    seen = np.ones((form.q_len, form.kv_len), bool)
    seen &= left is None or column >= position - left
    seen &= right is None or column <= position + right
    seen &= query_length is None or row < query_length
    return seen & (key_length is None or column < key_length)


sides = st.one_of(st.none(), st.integers(0, 30))
lengths = st.integers(1, 40)
some_length = st.one_of(st.none(), st.integers(0, 45))


def blocks_of(visit):
    """The blocks in the order of the runs, and those of them that need no mask."""
    order = [(block, run.masked) for run in visit.runs for block in range(int(run.start), int(run.stop))]
    assert [block for block, _ in order] == list(range(int(visit.first), int(visit.last)))
    return {block for block, _ in order}, {block for block, masked in order if not masked}


@settings(max_examples=300, deadline=None)
@given(lengths, lengths, sides, sides, some_length, some_length, st.sampled_from([4, 8]), st.sampled_from([2, 8]))
def test_blocks_of_keys(q_len, kv_len, left, right, query_length, key_length, rows, block):
    form = dataclasses.replace(FORM, q_len=q_len, kv_len=kv_len, window=(left, right))
    seen = dense(form, query_length, key_length)
    for row in range(0, q_len, rows):
        visit = tiles.key_blocks(form, row, rows, block, query_length=query_length, key_length=key_length)
        visited, whole = blocks_of(visit)
        real = seen[row : min(row + rows, q_len if query_length is None else query_length)]
        parts = {i: real[:, i * block : (i + 1) * block] for i in range(-(-kv_len // block))}
        needed = {i for i, part in parts.items() if part.any()}
        assert needed <= visited
        assert visited == needed or len(visited) <= 1  # where nobody sees anything, one block may be visited
        assert whole == {i for i in visited if parts[i].all() and parts[i].shape[1] == block and i in needed}


@settings(max_examples=300, deadline=None)
@given(lengths, lengths, sides, sides, some_length, some_length, st.sampled_from([4, 8]), st.sampled_from([2, 8]))
def test_blocks_of_queries(q_len, kv_len, left, right, query_length, key_length, columns, block):
    form = dataclasses.replace(FORM, q_len=q_len, kv_len=kv_len, window=(left, right))
    seen = dense(form, query_length, key_length)
    for column in range(0, kv_len, columns):
        visit = tiles.query_blocks(form, column, columns, block, query_length=query_length, key_length=key_length)
        visited, whole = blocks_of(visit)
        parts = {i: seen[i * block : (i + 1) * block, column : column + columns] for i in range(-(-q_len // block))}
        needed = {i for i, part in parts.items() if part.any()}
        assert needed <= visited
        assert visited == needed or len(visited) <= 1
        for i in whole:  # but for queries and keys that are padding, which others take care of
            rows = slice(i * block, min((i + 1) * block, q_len if query_length is None else query_length))
            keys = slice(column, min(column + columns, kv_len if key_length is None else key_length))
            assert seen[rows, keys].all()


@needs_pallas
@pytest.mark.parametrize("row_axis", [0, 1])
@pytest.mark.parametrize("window", [(None, None), (None, 0), (9, 3), (5, None)])
@pytest.mark.parametrize("key_length", [None, 50])
def test_scores_that_count(row_axis, window, key_length):
    form = dataclasses.replace(FORM, q_len=40, kv_len=60, window=window)
    rng = np.random.default_rng(0)
    of_rows, of_columns = jnp.asarray(rng.integers(0, 3, 40)), jnp.asarray(rng.integers(0, 3, 60))
    extras = Extras(
        key_lengths=None if key_length is None else jnp.array([key_length]),
        query_segments=of_rows[None], key_segments=of_columns[None],
    )  # fmt: skip
    with interpret():
        got = tiles.seen(
            form, 8, 32, (16, 32) if row_axis == 0 else (32, 16), row_axis=row_axis, key_length=key_length,
            row_segments=of_rows[8:24], column_segments=jnp.pad(of_columns[32:], (0, 4)),
        )  # fmt: skip
    expected = np.zeros((16, 32), bool)
    expected[:, :28] = np.broadcast_to(visible(form, extras, (8, 16), (32, 28))[0, 0], (16, 28))
    np.testing.assert_array_equal(got if row_axis == 0 else got.T, expected)
