"""Recurrent layers: stacked, in one direction or both, over padded batches (D2L 9.4 to 10.4, 23.11)."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax.core import Tracer

from jaxdl.nn.dropout import dropout
from jaxdl.nn.recurrent_cells import CellWeights, LSTMState
from jaxdl.nn.recurrent_formulations import (
    FORMULATIONS,
    GRU_CELL,
    GRU_RESET_BEFORE_CELL,
    LSTM_CELL,
    RNN_CELLS,
    Cell,
    State,
    recurrence,
)

Initializer = Callable[..., Any]


class _Recurrent(nn.Module):
    """What the three layers have in common; `RNN` describes it."""

    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    dropout_rate: float = 0.0
    time_major: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Initializer | None = None
    recurrent_init: Initializer | None = None
    bias_init: Initializer | None = None
    implementation: str | None = None

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 <= self.dropout_rate <= 1:
            raise ValueError(f"dropout_rate: expected a number in [0, 1], got {self.dropout_rate}")
        if self.dropout_rate > 0 and self.num_layers == 1:
            raise ValueError(f"dropout_rate: it acts between layers; expected 0 for one layer, got {self.dropout_rate}")
        if self.implementation is not None and self.implementation not in FORMULATIONS:
            known = ", ".join(FORMULATIONS)
            raise ValueError(f"implementation: expected None or one of {known}; got {self.implementation!r}")
        super().__post_init__()

    def _cell(self) -> Cell:
        raise NotImplementedError

    @nn.compact
    def __call__(
        self, inputs: jax.Array, lengths: Any = None, initial_state: Any = None, *, train: bool = False
    ) -> tuple[jax.Array, Any]:
        """Runs all layers over time.

        Args:
          inputs: floating `[batch, time, in]`; `[time, batch, in]` if `time_major`.
          lengths: integers `[batch]`, how many steps of each example are valid, in `[0, time]`; None: all. What stands
            behind them changes nothing, not even NaN. Traced lengths (an argument of `jit`) cannot be checked: one
            above `time` counts as `time`, a negative one as 0.
          initial_state: `[num_layers * directions, batch, hidden_size]`, for an `LSTM` two of these as an `LSTMState`;
            None: zeros. Within a layer the forward direction comes first.
          train: drop elements between layers; needs `rngs={"dropout": key}`.

        Returns:
          The outputs of the last layer, `[batch, time, directions * hidden_size]`, zero behind the lengths; and the
          state of all layers in the form of `initial_state`: that after the last valid step, or after the first in the
          backward direction, which begins at the last valid step. An example of length 0 keeps its initial state.
        """
        if inputs.ndim != 3 or not jnp.issubdtype(inputs.dtype, jnp.floating):
            axes = "[time, batch, in]" if self.time_major else "[batch, time, in]"
            raise ValueError(f"inputs: expected floating {axes}, got {inputs.dtype}{list(inputs.shape)}")
        x = inputs if self.time_major else inputs.swapaxes(0, 1)  # [time, batch, in]
        directions = 2 if self.bidirectional else 1
        valid = None if lengths is None else _valid(lengths, *x.shape[:2])
        initial = self._initial(initial_state, (self.num_layers * directions, x.shape[1], self.hidden_size))
        last: list[State] = []
        for layer in range(self.num_layers):
            if train and layer > 0 and self.dropout_rate > 0:
                x = dropout(x, self.dropout_rate, self.make_rng("dropout"))
            outputs = []
            for reverse in (False, True)[:directions]:
                state = None if initial is None else tuple(part[len(last)] for part in initial)
                y, state = self._direction(_zeros_behind(valid, x), valid, state, layer, reverse)
                outputs.append(y)
                last.append(state)
            x = jnp.concatenate(outputs, -1) if self.bidirectional else outputs[0]
        x = _zeros_behind(valid, x)
        parts = [jnp.stack(part) for part in zip(*last, strict=True)]  # [num_layers * directions, batch, hidden] each
        return x if self.time_major else x.swapaxes(0, 1), LSTMState(*parts) if len(parts) == 2 else parts[0]

    def _direction(
        self, x: jax.Array, valid: jax.Array | None, state: State | None, layer: int, reverse: bool
    ) -> tuple[jax.Array, State]:
        """One layer in one direction over `[time, batch, in]`; None is the state of zeros."""
        cell = self._cell()
        name = f"layer_{layer}_reverse" if reverse else f"layer_{layer}"  # PyTorch's suffix, but for an l
        inits = self.kernel_init, self.recurrent_init, self.bias_init
        weights = _Weights(cell.gates, self.hidden_size, self.param_dtype, *inits, name=name)(x.shape[-1])
        x, *kernels = promote_dtype(x, *weights[:2], dtype=self.dtype)
        wide = jnp.promote_types(x.dtype, jnp.float32)
        weights = CellWeights(*kernels, *(bias.astype(wide) for bias in weights[2:]))
        zeros = jnp.zeros_like(x, wide, shape=(x.shape[1], self.hidden_size))
        state = (zeros,) * cell.states if state is None else tuple(part.astype(wide) for part in state)
        hidden, state = recurrence(cell, x, valid, state, weights, reverse=reverse, implementation=self.implementation)
        return hidden.astype(x.dtype), state

    def _initial(self, state: Any, shape: tuple[int, int, int]) -> State | None:
        """The parts of the state, checked."""
        if state is None:
            return None
        if self._cell().states == 2:
            parts, names = state, [f"initial_state.{name}" for name in LSTMState._fields]
            if not isinstance(state, tuple) or len(state) != 2:
                raise ValueError(f"initial_state: expected an LSTMState of two arrays, got {type(state).__name__}")
        else:
            parts, names = (state,), ["initial_state"]
            if isinstance(state, tuple | list):
                raise ValueError(f"initial_state: expected one array, got a {type(state).__name__}")
        for name, part in zip(names, parts, strict=True):
            if part.shape != shape or not jnp.issubdtype(part.dtype, jnp.floating):
                raise ValueError(f"{name}: expected floating {list(shape)}, got {part.dtype}{list(part.shape)}")
        return parts


class RNN(_Recurrent):
    """Recurrent layers of `rnn_cell` (Elman, 1990; D2L 9.4 to 9.6, 10.3, 10.4); PyTorch's `nn.RNN`.

    The parameters of each layer and direction, in the modules `layer_0`, `layer_0_reverse`, `layer_1` ..., are
    `input_kernel` `[in, gates * hidden_size]`, `recurrent_kernel` `[hidden_size, gates * hidden_size]`, `input_bias`
    and `recurrent_bias` `[gates * hidden_size]`; here there is one gate. `nn.torch_weights` takes over PyTorch's.

    Args:
      hidden_size: width of the state.
      num_layers: each runs over the outputs of the one before.
      bidirectional: each layer also runs from the end to the beginning, with weights of its own; its outputs stand
        behind those of the forward direction.
      dropout_rate: of the outputs of all layers but the last, in training.
      time_major: inputs and outputs are `[time, batch, ...]`, which saves two transposes. Lengths and states are as
        ever.
      dtype: of the matrix products and the outputs; the default is the widest of inputs and parameters. Gates and
        states are float32 at least, because a state adds up many small steps.
      param_dtype: of the parameters.
      kernel_init: initialiser of each gate's `[in, hidden_size]`. None, as for the next two: uniform on
        `±1 / sqrt(hidden_size)`, which is PyTorch's.
      recurrent_init: of each gate's `[hidden_size, hidden_size]`, such as `orthogonal()`.
      bias_init: of each gate's two biases `[hidden_size]`.
      implementation: a formulation of `jaxdl.nn.recurrent_formulations`; None lets its table choose. Values and
        derivatives are the same.
      activation: `"tanh"` or `"relu"`.

    Raises:
      ValueError: at construction, if a number or a name is not as above, or one layer has a `dropout_rate` (PyTorch
        warns); when called, if inputs, lengths or initial state are not as described there.
    """

    activation: str = "tanh"

    def __post_init__(self) -> None:
        if self.activation not in RNN_CELLS:
            raise ValueError(f"activation: expected one of {', '.join(RNN_CELLS)}; got {self.activation!r}")
        super().__post_init__()

    def _cell(self) -> Cell:
        return RNN_CELLS[self.activation]


class GRU(_Recurrent):
    """Recurrent layers of `gru_cell`, gated recurrent units (Cho et al., 2014; D2L 10.2); PyTorch's `nn.GRU`.

    Parameters are those of `RNN` with three gates in the order reset, update, candidate.

    Args:
      hidden_size: as in `RNN`, and so are all other fields but the last.
      num_layers: as in `RNN`.
      bidirectional: as in `RNN`.
      dropout_rate: as in `RNN`.
      time_major: as in `RNN`.
      dtype: as in `RNN`.
      param_dtype: as in `RNN`.
      kernel_init: as in `RNN`.
      recurrent_init: as in `RNN`.
      bias_init: as in `RNN`.
      implementation: as in `RNN`.
      reset_after: apply the reset gate after the product with the recurrent kernel, as PyTorch, cuDNN and Flax do; the
        book and the paper apply it before, which takes two products a step in turn and has the formulation `"xla"`
        alone.

    Raises:
      ValueError: as `RNN`; and at construction, if the formulation cannot do `reset_after=False`.
    """

    reset_after: bool = True

    def __post_init__(self) -> None:
        if self.implementation not in (None, "xla") and not self.reset_after:
            raise ValueError(f"implementation: {self.implementation!r} cannot do reset_after=False; expected 'xla'")
        super().__post_init__()

    def _cell(self) -> Cell:
        return GRU_CELL if self.reset_after else GRU_RESET_BEFORE_CELL


class LSTM(_Recurrent):
    """Recurrent layers of `lstm_cell`, long short-term memory (Hochreiter and Schmidhuber, 1997; D2L 10.1); `nn.LSTM`.

    Parameters are those of `RNN` with four gates in the order input, forget, input node, output. The state is an
    `LSTMState` of `hidden` and `cell`, `[num_layers * directions, batch, hidden_size]` each.

    Args:
      hidden_size: as in `RNN`, and so are all other fields.
      num_layers: as in `RNN`.
      bidirectional: as in `RNN`.
      dropout_rate: as in `RNN`.
      time_major: as in `RNN`.
      dtype: as in `RNN`.
      param_dtype: as in `RNN`.
      kernel_init: as in `RNN`.
      recurrent_init: as in `RNN`.
      bias_init: as in `RNN`.
      implementation: as in `RNN`.

    Raises:
      ValueError: as `RNN`.
    """

    def _cell(self) -> Cell:
        return LSTM_CELL


class _Weights(nn.Module):
    """The parameters of one layer in one direction."""

    gates: int
    hidden_size: int
    param_dtype: Any
    kernel_init: Initializer | None
    recurrent_init: Initializer | None
    bias_init: Initializer | None

    @nn.compact
    def __call__(self, input_size: int) -> CellWeights:
        def param(name: str, init: Initializer | None, *leading: int) -> jax.Array:
            return self.param(name, self._of_gates(init), (*leading, self.gates * self.hidden_size), self.param_dtype)

        return CellWeights(
            param("input_kernel", self.kernel_init, input_size),
            param("recurrent_kernel", self.recurrent_init, self.hidden_size),
            param("input_bias", self.bias_init),
            param("recurrent_bias", self.bias_init),
        )

    def _of_gates(self, init: Initializer | None) -> Initializer:
        """Draws gate by gate, so that an initialiser sees the fans of one gate."""

        def draw(key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
            if init is None:
                bound = self.hidden_size**-0.5
                return jax.random.uniform(key, shape, dtype, -bound, bound)
            keys = jax.random.split(key, self.gates)
            return jnp.concatenate([init(key, (*shape[:-1], self.hidden_size), dtype) for key in keys], -1)

        return draw


def _valid(lengths: Any, time: int, batch: int) -> jax.Array:
    """Which steps are valid, boolean `[time, batch, 1]`."""
    lengths = lengths if isinstance(lengths, jax.Array) else np.asarray(lengths)
    if lengths.shape != (batch,) or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths: expected integers [{batch}], got {lengths.dtype}{list(lengths.shape)}")
    if not isinstance(lengths, Tracer):
        values = np.asarray(lengths)
        if outside := values[(values < 0) | (values > time)].tolist():
            raise ValueError(f"lengths: expected numbers in [0, {time}], the padded size; got {outside[0]}")
    return (jnp.arange(time)[:, None] < jnp.asarray(lengths)[None, :])[..., None]


def _zeros_behind(valid: jax.Array | None, x: jax.Array) -> jax.Array:
    return x if valid is None else jnp.where(valid, x, 0)
