"""One step of each recurrent network, from its equations (D2L 9.4, 10.1, 10.2).

| symbol of the book | here |
|---|---|
| `X_t`, `H_t`, `C_t` | `inputs` `[batch, in]`, `hidden` and `cell` `[batch, hidden]` |
| `W_x*`, of all gates | `input_kernel` `[in, gates * hidden]` |
| `W_h*`, of all gates | `recurrent_kernel` `[hidden, gates * hidden]` |
| `b_*`, of all gates | `input_bias + recurrent_bias`, `[gates * hidden]` each |

The kernels of the gates stand side by side, so that all gates are one matrix product. Their order is PyTorch's, and so
are the two biases, of which one would do except in the GRU: gradients and steps of SGD are then PyTorch's too.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype


class CellWeights(NamedTuple):
    """What a cell learns: `[in, gates * hidden]`, `[hidden, gates * hidden]`, `[gates * hidden]` twice."""

    input_kernel: jax.Array
    recurrent_kernel: jax.Array
    input_bias: jax.Array
    recurrent_bias: jax.Array


class LSTMState(NamedTuple):
    """What an LSTM remembers: `hidden`, which is also its output, and `cell`; one shape, `[..., batch, hidden]`."""

    hidden: jax.Array
    cell: jax.Array


def rnn_cell(
    inputs: jax.Array,
    hidden: jax.Array,
    weights: CellWeights,
    activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
) -> jax.Array:
    """`H_t = activation(X_t W_xh + H_(t-1) W_hh + b_h)` (D2L 9.4; Elman, 1990).

    Args:
      inputs: floating `[batch, in]`.
      hidden: `[batch, hidden]`, of the step before.
      weights: of 1 gate.
      activation: elementwise.

    Returns:
      `[batch, hidden]`, in the widest dtype of the arguments.

    Raises:
      ValueError: if the shapes do not fit.
    """
    inputs, (hidden,), weights = _prepare(inputs, (hidden,), weights, gates=1)
    return activation(from_input(inputs, weights) + from_hidden(hidden, weights))


def gru_cell(inputs: jax.Array, hidden: jax.Array, weights: CellWeights, *, reset_after: bool = True) -> jax.Array:
    """The gated recurrent unit (Cho et al., 2014; D2L 10.2), gates in the order R, Z, candidate.

        R = sigmoid(X W_xr + H W_hr + b_r)
        Z = sigmoid(X W_xz + H W_hz + b_z)
        N = tanh(X W_xn + b_xn + R * (H W_hn + b_hn))    reset_after, as in PyTorch, cuDNN and Flax
        N = tanh(X W_xn + b_xn + (R * H) W_hn + b_hn)    otherwise, as in the book and the paper
        H = Z * H + (1 - Z) * N

    Args:
      inputs: floating `[batch, in]`.
      hidden: `[batch, hidden]`, of the step before.
      weights: of 3 gates.
      reset_after: apply the reset gate after the product, which then is one for all gates.

    Returns:
      `[batch, hidden]`, in the widest dtype of the arguments.

    Raises:
      ValueError: if the shapes do not fit.
    """
    inputs, (hidden,), weights = _prepare(inputs, (hidden,), weights, gates=3)
    step = gru_reset_after if reset_after else gru_reset_before
    return step(from_input(inputs, weights), hidden, weights)


def lstm_cell(inputs: jax.Array, state: LSTMState, weights: CellWeights) -> LSTMState:
    """Long short-term memory (Hochreiter and Schmidhuber, 1997; D2L 10.1), gates in the order I, F, G, O.

        I = sigmoid(X W_xi + H W_hi + b_i), likewise the forget gate F and the output gate O
        G = tanh(X W_xg + H W_hg + b_g)     the book's input node
        C = F * C + I * G
        H = O * tanh(C)

    Args:
      inputs: floating `[batch, in]`.
      state: of the step before, `[batch, hidden]` each.
      weights: of 4 gates.

    Returns:
      The state of this step, in the widest dtype of the arguments.

    Raises:
      ValueError: if the shapes do not fit.
    """
    inputs, (hidden, cell), weights = _prepare(inputs, state, weights, gates=4)
    return lstm_gates(from_input(inputs, weights) + from_hidden(hidden, weights), cell)


def from_input(inputs: jax.Array, weights: CellWeights) -> jax.Array:
    """`X W_x + b`, of all gates and any number of leading axes."""
    return _affine(inputs, weights.input_kernel, weights.input_bias)


def from_hidden(hidden: jax.Array, weights: CellWeights) -> jax.Array:
    """`H W_h + b`, likewise."""
    return _affine(hidden, weights.recurrent_kernel, weights.recurrent_bias)


def gru_reset_after(projected: jax.Array, hidden: jax.Array, weights: CellWeights) -> jax.Array:
    """The GRU of PyTorch, from `from_input`."""
    x_r, x_z, x_n = jnp.split(projected, 3, -1)
    h_r, h_z, h_n = jnp.split(from_hidden(hidden, weights), 3, -1)
    reset, update = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
    candidate = jnp.tanh(x_n + reset * h_n)
    return update * hidden + (1 - update) * candidate


def gru_reset_before(projected: jax.Array, hidden: jax.Array, weights: CellWeights) -> jax.Array:
    """The GRU of the book, likewise: the candidate needs a second product, behind the first."""
    size = hidden.shape[-1]
    kernels = weights.recurrent_kernel[:, : 2 * size], weights.recurrent_kernel[:, 2 * size :]
    biases = weights.recurrent_bias[: 2 * size], weights.recurrent_bias[2 * size :]
    gates = jax.nn.sigmoid(projected[..., : 2 * size] + _affine(hidden, kernels[0], biases[0]))
    reset, update = jnp.split(gates, 2, -1)
    candidate = jnp.tanh(projected[..., 2 * size :] + _affine(reset * hidden, kernels[1], biases[1]))
    return update * hidden + (1 - update) * candidate


def lstm_gates(gates: jax.Array, cell: jax.Array) -> LSTMState:
    """The LSTM, from the sums that its four gates squash."""
    i, f, g, o = jnp.split(gates, 4, -1)
    cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    return LSTMState(jax.nn.sigmoid(o) * jnp.tanh(cell), cell)


def product(x: jax.Array, kernel: jax.Array, dtype: Any) -> jax.Array:
    """A matrix product in the dtype of the kernel; what it gives goes on in another, which is at least float32."""
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # of three axes the kernel's gradient takes 4 times as long
    return jnp.dot(rows.astype(kernel.dtype), kernel).astype(dtype).reshape(*x.shape[:-1], kernel.shape[-1])


def _affine(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    return product(x, kernel, bias.dtype) + bias.reshape((1,) * (x.ndim - 1) + bias.shape)


def _prepare(
    inputs: jax.Array, state: Sequence[jax.Array], weights: CellWeights, gates: int
) -> tuple[jax.Array, list[jax.Array], CellWeights]:
    """All in one dtype, if the shapes fit."""
    size = weights.recurrent_kernel.shape[0]
    wide = gates * size
    shapes = (inputs.shape[-1], wide), (size, wide), (wide,), (wide,)
    for name, array, expected in zip(CellWeights._fields, weights, shapes, strict=True):
        if array.shape != expected:
            raise ValueError(f"weights: expected {name} {list(expected)} for {gates} gates, got {list(array.shape)}")
    for name, array in zip(LSTMState._fields[: len(state)], state, strict=True):
        expected = (*inputs.shape[:-1], size)
        if array.shape != expected:
            raise ValueError(f"{name}: expected {list(expected)}, got {list(array.shape)}")
    inputs, *arrays = promote_dtype(inputs, *state, *weights)
    return inputs, arrays[: len(state)], CellWeights(*arrays[len(state) :])
