"""A recurrence over time in two formulations of the same values and derivatives, and the table that picks one.

Each is one `lax.scan` over time, of whatever length, and both have forward mode and higher derivatives. `"xla"` leaves
the derivative to JAX. `"factors"` knows that a step is elementwise but for its products, so that its derivative is a
handful of elementwise factors. The forward scan stores them, and with primes for tangents

    drive_t  = X'_t W_x + [X_t, H_(t-1)] [W'_x; W'_h] + b'             of all time steps at once
    state'_t = factors_t * (drive_t + H'_(t-1) W_h, state'_(t-1))      the only scan, and linear

JAX transposes this into the backward pass that one would write by hand: a reverse scan with one product and a few
multiplications a step. What it gives, the gradient of `drive`, gives those of all weights in one product over all time
steps; the transpose of a plain scan adds up a product for each step, and computes the factors again.

Processor time of a training step (benchmarks/cases.py; jax 0.12, two busy cores, ten steps a call), in ms:

| case | in, hidden, steps, batch | `"xla"` | `"factors"` | picked |
|---|---|---|---|---|
| `rnn_small` | 28, 32, 35, 32 | 0.31 | 0.27 | factors |
| `gru_small` | | 0.54 | 0.55 | factors |
| `lstm_small` | | 0.67 | 0.61 | factors |
| `lstm` | 28, 256, 64, 32 | 32 | 26 | factors |
| `rnn_large` | 650, 650, 35, 64 | 57 | 54 | factors |
| `gru_large` | | 173 | 146 | factors |
| `lstm_large` | | 236 | 190 | factors |
| any GRU with `reset_after=False` | | | | xla |

So one row decides: `"factors"` where the cell has them. That holds off the CPU too, where nothing was measured: it
stores no more than JAX would and leaves out one product with an accumulator of the size of the kernel for each step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxdl.nn.recurrent_cells import (
    CellWeights,
    from_hidden,
    from_input,
    gru_reset_after,
    gru_reset_before,
    lstm_gates,
    product,
)

State = tuple[jax.Array, ...]  # [batch, hidden] each; the first is the hidden state
FORMULATIONS = ("xla", "factors")


@dataclass(frozen=True)
class Derivative:
    """The derivative of a cell's step, in factors.

    Args:
      shared: of how many gates, the first ones, the step adds what comes from the input to what comes from the hidden
        state; of the others it keeps both apart.
      factors: `(projected, recurrent, state) -> (state, factors)`, the step with what its derivative is made of;
        `projected` is `from_input(inputs, weights)` and `recurrent` is `from_hidden(hidden, weights)`.
      tangent: `(factors, drive, recurrent_dot, state_dot) -> state_dot`, linear in the last three; `drive` has three
        parts: of the shared gates, of the others from the input, of the others from the hidden state.
    """

    shared: int
    factors: Callable[[jax.Array, jax.Array, State], tuple[State, Any]]
    tangent: Callable[[Any, Any, jax.Array, State], State]


@dataclass(frozen=True)
class Cell:
    """A kind of cell, as the formulations see it.

    Args:
      gates: how many it has.
      states: how many arrays its state is.
      step: `(projected, state, weights) -> state`, where `projected` is `from_input(inputs, weights)`.
      derivative: None if only `"xla"` does the cell.
    """

    gates: int
    states: int
    step: Callable[[jax.Array, State, CellWeights], State]
    derivative: Derivative | None = None


def recurrence(
    cell: Cell,
    inputs: jax.Array,
    valid: jax.Array | None,
    state: State,
    weights: CellWeights,
    *,
    reverse: bool = False,
    implementation: str | None = None,
) -> tuple[jax.Array, State]:
    """Runs a cell over time.

    Args:
      cell: what to run.
      inputs: `[time, batch, in]`.
      valid: boolean `[time, batch, 1]`; where False the state stays as it was. None: all are.
      state: to start from.
      weights: of the cell.
      reverse: run from the last step to the first.
      implementation: one of `FORMULATIONS`; None is `"factors"` where the cell has them.

    Returns:
      The hidden state after each step, `[time, batch, hidden]` in the order of the inputs, and the last state.

    Raises:
      ValueError: if the formulation cannot do the cell.
    """
    derivative = cell.derivative
    if implementation is None:
        implementation = "xla" if derivative is None else "factors"
    if derivative is None and implementation == "factors":
        raise ValueError("implementation: 'factors' cannot do a GRU with reset_after=False; expected 'xla'")
    if derivative is not None and derivative.shared == cell.gates:  # both biases are added at once, before the loop
        bias = weights.input_bias + weights.recurrent_bias
        weights = weights._replace(input_bias=bias, recurrent_bias=jnp.zeros_like(bias))
    if derivative is None or implementation == "xla":
        hidden, last, _ = _scan(cell.step, None, inputs, valid, state, weights, reverse)
        return hidden, last
    return _factors(inputs, valid, state, weights, cell.step, derivative, reverse)


def _scan(
    step: Callable[[jax.Array, State, CellWeights], State],
    derivative: Derivative | None,
    inputs: jax.Array,
    valid: jax.Array | None,
    state: State,
    weights: CellWeights,
    reverse: bool,
) -> tuple[jax.Array, State, Any]:
    """The hidden states after each step, the last state, and for a derivative the factors."""

    def one_step(state: State, x: tuple[jax.Array, jax.Array | None]) -> tuple[State, Any]:
        projected, valid = x
        factors = None
        if derivative is None:
            new = step(projected, state, weights)
        else:
            new, factors = derivative.factors(projected, from_hidden(state[0], weights), state)
        if valid is not None:
            new = _where(valid, new, state)
        return new, (new[0], factors)

    projected = from_input(inputs, weights)  # [time, batch, gates * hidden]
    last, (hidden, factors) = jax.lax.scan(one_step, state, (projected, valid), reverse=reverse)
    return hidden, last, factors


@partial(jax.custom_jvp, nondiff_argnums=(4, 5, 6))
def _factors(
    inputs: jax.Array,
    valid: jax.Array | None,
    state: State,
    weights: CellWeights,
    step: Callable[[jax.Array, State, CellWeights], State],
    derivative: Derivative,
    reverse: bool,
) -> tuple[jax.Array, State]:
    hidden, last, _ = _scan(step, None, inputs, valid, state, weights, reverse)
    return hidden, last


@partial(_factors.defjvp, symbolic_zeros=True)
def _factors_jvp(step: Any, derivative: Derivative, reverse: bool, primals: Any, tangents: Any) -> Any:
    inputs, valid, state, weights = primals
    inputs_dot, _, state_dot, weights_dot = tangents
    hidden, last, factors = _scan(step, derivative, inputs, valid, state, weights, reverse)
    first = state[0][None]
    before = jnp.concatenate([hidden, first])[1:] if reverse else jnp.concatenate([first, hidden])[:-1]

    total = partial(_sum_of_products, hidden)
    by_inputs = [(inputs_dot, weights.input_kernel)]
    by_kernels = [(inputs, weights_dot.input_kernel), (before, weights_dot.recurrent_kernel)]
    biases = [weights_dot.input_bias, weights_dot.recurrent_bias]
    width, size = weights.input_kernel.shape[1], derivative.shared * hidden.shape[-1]
    drive = total([by_inputs, by_kernels], biases, 0, size), None, None
    if size < width:
        of_input = total([by_inputs, by_kernels[:1]], biases[:1], size, width)
        drive = drive[0], of_input, total([by_kernels[1:]], biases[1:], size, width)

    def one_step(state_dot: State, x: tuple[Any, Any, jax.Array | None]) -> tuple[State, jax.Array]:
        drive, factors, valid = x
        recurrent_dot = product(state_dot[0], weights.recurrent_kernel, hidden.dtype)
        new = derivative.tangent(factors, drive, recurrent_dot, state_dot)
        if valid is not None:
            new = _where(valid, new, state_dot)
        return new, new[0]

    state_dot = tuple(jnp.zeros_like(hidden, shape=x.shape) if isinstance(x, SymbolicZero) else x for x in state_dot)
    last_dot, hidden_dot = jax.lax.scan(one_step, state_dot, (drive, factors, valid), reverse=reverse)
    return (hidden, last), (hidden_dot, last_dot)


def _sum_of_products(
    hidden: jax.Array, products: Sequence[Sequence[tuple[Any, Any]]], biases: Sequence[Any], start: int, stop: int
) -> jax.Array:
    """Adds up `x @ kernel`, in one product a group, and biases, of some columns; symbolic zeros are left out."""
    total = jnp.zeros((*hidden.shape[:2], stop - start), hidden.dtype)
    for group in products:
        pairs = [pair for pair in group if not any(isinstance(array, SymbolicZero) for array in pair)]
        if pairs:
            x = jnp.concatenate([x.astype(kernel.dtype) for x, kernel in pairs], -1)
            kernel = jnp.concatenate([kernel[:, start:stop] for _, kernel in pairs])
            total += product(x, kernel, hidden.dtype)
    for bias in biases:
        if not isinstance(bias, SymbolicZero):
            total += bias[None, None, start:stop]
    return total


def _where(valid: jax.Array, new: State, old: State) -> State:
    return tuple(jnp.where(valid, a, b) for a, b in zip(new, old, strict=True))


def _rnn(activation: Callable[[jax.Array], jax.Array], derivative: Callable[[jax.Array], jax.Array]) -> Cell:
    """`derivative` is that of the activation, from its value."""

    def step(projected: jax.Array, state: State, weights: CellWeights) -> State:
        return (activation(projected + from_hidden(state[0], weights)),)

    def factors(projected: jax.Array, recurrent: jax.Array, state: State) -> tuple[State, Any]:
        hidden = activation(projected + recurrent)
        return (hidden,), derivative(hidden)

    def tangent(factors: Any, drive: Any, recurrent_dot: jax.Array, state_dot: State) -> State:
        return (factors * (drive[0] + recurrent_dot),)

    return Cell(1, 1, step, Derivative(1, factors, tangent))


def _gru_step(projected: jax.Array, state: State, weights: CellWeights) -> State:
    return (gru_reset_after(projected, state[0], weights),)


def _gru_before_step(projected: jax.Array, state: State, weights: CellWeights) -> State:
    return (gru_reset_before(projected, state[0], weights),)


def _gru_factors(projected: jax.Array, recurrent: jax.Array, state: State) -> tuple[State, Any]:
    hidden, size = state[0], state[0].shape[-1]
    r, z = jnp.split(jax.nn.sigmoid(projected[:, : 2 * size] + recurrent[:, : 2 * size]), 2, -1)
    q = recurrent[:, 2 * size :]
    n = jnp.tanh(projected[:, 2 * size :] + r * q)
    by_n = (1 - z) * (1 - n * n)
    gates = jnp.concatenate([by_n * q * r * (1 - r), (hidden - n) * z * (1 - z)], -1)
    return (z * hidden + (1 - z) * n,), (gates, by_n, by_n * r, z)


def _gru_tangent(factors: Any, drive: Any, recurrent_dot: jax.Array, state_dot: State) -> State:
    by_gates, by_n, by_q, by_hidden = factors
    both, from_x, from_h = drive
    size = from_x.shape[-1]
    r, z = jnp.split(by_gates * (both + recurrent_dot[:, : 2 * size]), 2, -1)
    return (r + z + by_n * from_x + by_q * (from_h + recurrent_dot[:, 2 * size :]) + by_hidden * state_dot[0],)


def _lstm_step(projected: jax.Array, state: State, weights: CellWeights) -> State:
    return tuple(lstm_gates(projected + from_hidden(state[0], weights), state[1]))


def _lstm_factors(projected: jax.Array, recurrent: jax.Array, state: State) -> tuple[State, Any]:
    i, f, g, o = jnp.split(projected + recurrent, 4, -1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    cell = f * state[1] + i * g
    squashed = jnp.tanh(cell)
    gates = [g * i * (1 - i), state[1] * f * (1 - f), i * (1 - g * g), squashed * o * (1 - o)]
    return (o * squashed, cell), (jnp.concatenate(gates, -1), f, o * (1 - squashed * squashed))


def _lstm_tangent(factors: Any, drive: Any, recurrent_dot: jax.Array, state_dot: State) -> State:
    by_gates, by_cell, to_hidden = factors
    i, f, g, o = jnp.split(by_gates * (drive[0] + recurrent_dot), 4, -1)
    cell = by_cell * state_dot[1] + i + f + g
    return to_hidden * cell + o, cell


RNN_CELLS = {
    "tanh": _rnn(jnp.tanh, lambda hidden: 1 - hidden * hidden),
    "relu": _rnn(jax.nn.relu, lambda hidden: (hidden > 0).astype(hidden.dtype)),
}
GRU_CELL = Cell(3, 1, _gru_step, Derivative(2, _gru_factors, _gru_tangent))
GRU_RESET_BEFORE_CELL = Cell(3, 1, _gru_before_step)
LSTM_CELL = Cell(4, 2, _lstm_step, Derivative(4, _lstm_factors, _lstm_tangent))
