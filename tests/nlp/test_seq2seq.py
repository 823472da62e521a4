"""The encoder and decoder: the book's shapes, padding that changes nothing, one step at a time, unknown ids."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from jaxdl.nlp import Seq2Seq

SIZES = {"embed_size": 8, "hidden_size": 16, "num_layers": 2}  # of D2L 10.7, with vocabularies of 10
SOURCE = jnp.array(np.random.default_rng(0).integers(1, 10, (4, 9)), jnp.int32)
TARGET = jnp.array(np.random.default_rng(1).integers(1, 10, (4, 9)), jnp.int32)
LENGTHS = jnp.array([9, 4, 1, 6], jnp.int32)
pytestmark = pytest.mark.usefixtures("x64")
KINDS = {"book": {}, "both ways": {"recurrence": nn.LSTM, "bidirectional": True, "num_layers": 1}}


@functools.cache
def built(**fields):
    model = Seq2Seq(10, 10, dtype=jnp.float64, **(SIZES | fields))
    return model, jax.jit(model.init)(jax.random.key(0), SOURCE, LENGTHS, TARGET)


@functools.cache
def compiled(model, **options):
    return jax.jit(functools.partial(model.apply, **options))


def test_the_books_shapes():
    model, variables = built()
    state = compiled(model, method="encode")(variables, SOURCE, LENGTHS)
    assert state.context.shape == (4, 16)
    assert state.recurrent.shape == (4, 2, 16)  # the batch first, as the searches want it
    logits, after = compiled(model, method="decode")(variables, state, TARGET)
    assert logits.shape == (4, 9, 10)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    np.testing.assert_allclose(compiled(model)(variables, SOURCE, LENGTHS, TARGET), logits, atol=1e-12)


def test_the_number_of_parameters_is_that_of_pytorchs_layers():
    _, variables = built()
    layer = [3 * 16 * (width + 16 + 2) for width in (8, 16, 8 + 16, 16)]  # weights and two biases of three gates
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == sum(layer) + 2 * 10 * 8 + 17 * 10


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_at_a_time_is_all_at_once(kind):
    model, variables = built(**KINDS[kind])
    logits = compiled(model)(variables, SOURCE, LENGTHS, TARGET)
    state = compiled(model, method="encode")(variables, SOURCE, LENGTHS)
    step = compiled(model, method="decode_step")
    for t in range(9):
        step_logits, state = step(variables, state, TARGET[:, t])
        np.testing.assert_allclose(step_logits, logits[:, t], atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_of_the_source_changes_nothing(kind):
    """Neither what stands behind the length, nor how much; in values and gradients."""
    model, variables = built(**KINDS[kind])

    @jax.jit
    @jax.value_and_grad
    def loss(variables, source, lengths, target):
        return jnp.sum(model.apply(variables, source, lengths, target) ** 2)

    expected = loss(variables, SOURCE, LENGTHS, TARGET)
    padding = jnp.arange(9)[None] >= LENGTHS[:, None]
    for source in (jnp.where(padding, 7, SOURCE), jnp.concatenate([SOURCE, jnp.full((4, 3), 5)], axis=1)):
        found = loss(variables, source, LENGTHS, TARGET)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), found, expected)
    logits = compiled(model)(variables, SOURCE, LENGTHS, TARGET)
    alone = compiled(model)(variables, SOURCE[1:2, :4], LENGTHS[1:2], TARGET[1:2])  # without padding
    np.testing.assert_allclose(alone[0], logits[1], atol=1e-12)


def test_it_sees_every_word_of_the_source_and_none_of_the_future():
    model, variables = built(**KINDS["both ways"])
    apply = compiled(model)
    logits = apply(variables, SOURCE, LENGTHS, TARGET)
    for t in range(4):
        changed = apply(variables, SOURCE.at[1, t].set((SOURCE[1, t] + 1) % 10), LENGTHS, TARGET)
        assert not np.allclose(changed[1], logits[1])
    later = apply(variables, SOURCE, LENGTHS, TARGET.at[:, 5].set((TARGET[:, 5] + 1) % 10))
    np.testing.assert_array_equal(later[:, :5], logits[:, :5])
    assert not np.allclose(later[:, 5], logits[:, 5])


def test_dropout_is_between_layers_and_only_in_training():
    model, variables = built()
    apply = compiled(model, train=True)
    first, second = (apply(variables, SOURCE, LENGTHS, TARGET, rngs={"dropout": jax.random.key(i)}) for i in range(2))
    assert not np.allclose(first, second)
    assert not np.allclose(first, compiled(model)(variables, SOURCE, LENGTHS, TARGET))
    model = Seq2Seq(10, 10, **(SIZES | {"num_layers": 1}))
    jax.eval_shape(lambda: model.init(jax.random.key(0), SOURCE, LENGTHS, TARGET, train=True))  # asks for no other key


def test_half_precision_is_of_the_computation_only():
    model = Seq2Seq(10, 10, bidirectional=True, dtype=jnp.bfloat16, **SIZES)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), SOURCE, LENGTHS, TARGET)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
    assert logits.dtype == jnp.bfloat16


def test_an_id_outside_the_vocabulary():
    model, variables = built()
    for wrong in (10, -1):
        with pytest.raises(ValueError, match=rf"source: expected ids in \[0, 10\), got .*{wrong}"):
            model.apply(variables, SOURCE.at[1, 2].set(wrong), LENGTHS, TARGET)
        with pytest.raises(ValueError, match=r"target_inputs: expected ids in \[0, 10\), got"):
            model.apply(variables, SOURCE, LENGTHS, TARGET.at[1, 2].set(wrong))
        logits = compiled(model)(variables, SOURCE.at[1, 2].set(wrong), LENGTHS, TARGET)
        assert np.isnan(logits[1]).all()
        assert np.isfinite(np.asarray(logits)[[0, 2, 3]]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((SOURCE[0], LENGTHS, TARGET), r"source: expected integers \[batch, time\], got int32\[9\]"),
        (
            (SOURCE.astype(jnp.float32), LENGTHS, TARGET),
            r"source: expected integers \[batch, time\], got float32\[4, 9\]",
        ),
        ((SOURCE, LENGTHS, TARGET[0]), r"target_inputs: expected integers \[batch, time\], got int32\[9\]"),
        ((SOURCE, LENGTHS[:3], TARGET), r"lengths: expected integers \[4\], got int32\[3\]"),
        ((SOURCE, LENGTHS[:, None], TARGET), r"lengths: expected integers \[4\], got int32\[4, 1\]"),
        ((SOURCE, LENGTHS + 1, TARGET), r"lengths: expected numbers in \[0, 9\]"),
        ((SOURCE, LENGTHS, TARGET[:3]), r"target_inputs: expected 4 rows, as of the source, got 3"),
    ],
)
def test_bad_input(arguments, message):
    model, variables = built()
    with pytest.raises(ValueError, match=message):
        model.apply(variables, *arguments)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source_vocab_size": 0}, "source_vocab_size: expected at least 1, got 0"),
        ({"num_layers": 0}, "num_layers: expected at least 1, got 0"),
        ({"dropout_rate": 1.5}, r"dropout_rate: expected a number in \[0, 1\], got 1.5"),
    ],
)
def test_bad_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        Seq2Seq(**({"source_vocab_size": 10, "target_vocab_size": 10} | fields))
