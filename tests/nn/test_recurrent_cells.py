"""One step of each cell: numbers of the book's equations, and the identities that the chapters state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.nn.recurrent_cells import CellWeights, LSTMState, gru_cell, lstm_cell, rnn_cell

# D2L 9.5, 10.1 and 10.2 on these numbers: three steps of one example, from zeros, computed outside of this library.
X = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
W_X, W_H, B = [[0.1, 0.2], [0.3, 0.4]], [[0.5, -0.1], [0.2, 0.3]], [0.1, -0.1]
RNN_HIDDEN = [[0.197375, 0.099668], [0.476635, 0.300585], [0.663161, 0.494887]]
LSTM_HIDDEN = [[0.225791, 0.113086], [0.590702, 0.395006], [0.836665, 0.671009]]
LSTM_CELL = [[0.36511, 0.199465], [0.885544, 0.61871], [1.458655, 1.088365]]
GRU_BOOK = [[0.241761, 0.13838], [0.486383, 0.387307], [0.637116, 0.582819]]
GRU_TORCH = [[0.241761, 0.13838], [0.486883, 0.388676], [0.637654, 0.584278]]


def multiples(*factors):
    """Weights whose gates are multiples of one matrix, side by side."""
    kernels = (jnp.concatenate([k * jnp.array(w) for k in factors], -1) for w in (W_X, W_H, B))
    input_kernel, recurrent_kernel, bias = kernels
    return CellWeights(input_kernel, recurrent_kernel, bias, jnp.zeros_like(bias))


def run(step, state):
    states = []
    for x in X:
        state = step(jnp.array([x]), state)
        states.append(state)
    return states


def random_weights(gates, size=4, inputs=3):
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = (inputs, gates * size), (size, gates * size), (gates * size,), (gates * size,)
    return CellWeights(*(jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)))


def test_rnn_gives_the_books_numbers():
    states = run(lambda x, h: rnn_cell(x, h, multiples(1)), jnp.zeros((1, 2)))
    np.testing.assert_allclose(jnp.concatenate(states), RNN_HIDDEN, atol=1e-6)


def test_lstm_gives_the_books_numbers():
    weights = multiples(1, 2, 4, 3)  # the multiples 1, 2, 3, 4 are of I, F, O and the input node
    states = run(lambda x, s: lstm_cell(x, s, weights), LSTMState(jnp.zeros((1, 2)), jnp.zeros((1, 2))))
    np.testing.assert_allclose(jnp.concatenate([s.hidden for s in states]), LSTM_HIDDEN, atol=1e-6)
    np.testing.assert_allclose(jnp.concatenate([s.cell for s in states]), LSTM_CELL, atol=1e-6)


@pytest.mark.parametrize(("reset_after", "want"), [(False, GRU_BOOK), (True, GRU_TORCH)], ids=["book", "torch"])
def test_gru_gives_the_books_numbers(reset_after, want):
    weights = multiples(2, 1, 3)  # the multiples 1, 2, 3 are of Z, R and the candidate
    states = run(lambda x, h: gru_cell(x, h, weights, reset_after=reset_after), jnp.zeros((1, 2)))
    np.testing.assert_allclose(jnp.concatenate(states), want, atol=1e-6)


def test_two_products_are_one_of_the_concatenation():
    """D2L 9.4: `X W_xh + H W_hh = [X, H] [W_xh; W_hh]`."""
    shapes = (3, 1), (1, 4), (3, 4), (4, 4)
    x, w_xh, h, w_hh = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes))
    got = rnn_cell(x, h, CellWeights(w_xh, w_hh, jnp.zeros(4), jnp.zeros(4)), activation=lambda z: z)
    assert got.shape == (3, 4)
    want = np.concatenate([x, h], 1) @ np.concatenate([w_xh, w_hh], 0)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_fused_gates_are_four_separate_products(x64):
    """D2L 23.11 and 10.1, gate by gate in NumPy."""
    weights = random_weights(4)
    x, h, c = (np.array(jax.random.normal(jax.random.key(i), (2, n))) for i, n in ((1, 3), (2, 4), (3, 4)))
    got = lstm_cell(x, LSTMState(h, c), weights)

    def gate(k):
        columns = slice(4 * k, 4 * k + 4)
        w_x, w_h, b_x, b_h = (np.array(w)[..., columns] for w in weights)
        return x @ w_x + h @ w_h + b_x + b_h

    i, f, o = (1 / (1 + np.exp(-gate(k))) for k in (0, 1, 3))
    cell = f * c + i * np.tanh(gate(2))
    np.testing.assert_allclose(got.cell, cell, rtol=1e-12)
    np.testing.assert_allclose(got.hidden, o * np.tanh(cell), rtol=1e-12)


def test_both_biases_of_the_candidate_matter_only_if_the_reset_comes_after():
    weights = random_weights(3)
    x, h = jnp.ones((1, 3)), jnp.ones((1, 4))
    swapped = weights._replace(input_bias=weights.recurrent_bias, recurrent_bias=weights.input_bias)
    for reset_after in (True, False):
        difference = gru_cell(x, h, weights, reset_after=reset_after) - gru_cell(x, h, swapped, reset_after=reset_after)
        assert (jnp.abs(difference).max() > 1e-3) == reset_after


def test_dtypes_widen_and_one_example_needs_no_batch():
    weights = random_weights(1)
    got = rnn_cell(jnp.ones(3, jnp.bfloat16), jnp.ones(4), weights)
    assert (got.shape, got.dtype) == ((4,), jnp.float32)
    half = CellWeights(*(w.astype(jnp.bfloat16) for w in weights))
    assert rnn_cell(jnp.ones(3, jnp.bfloat16), jnp.ones(4, jnp.bfloat16), half).dtype == jnp.bfloat16


def test_errors_name_the_argument():
    x, h = jnp.ones((2, 3)), jnp.ones((2, 4))
    with pytest.raises(ValueError, match=r"weights: expected input_kernel \[3, 12\] for 3 gates, got \[3, 4\]"):
        gru_cell(x, h, random_weights(1))
    with pytest.raises(ValueError, match=r"weights: expected input_kernel \[5, 4\] for 1 gates, got \[3, 4\]"):
        rnn_cell(jnp.ones((2, 5)), h, random_weights(1))
    with pytest.raises(ValueError, match=r"hidden: expected \[2, 4\], got \[1, 4\]"):
        rnn_cell(x, h[:1], random_weights(1))
    with pytest.raises(ValueError, match=r"cell: expected \[2, 4\], got \[2, 3\]"):
        lstm_cell(x, LSTMState(h, h[:, :3]), random_weights(4))
