"""With PyTorch's weights, PyTorch's outputs, states and all gradients: to 1e-10 in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.nn import torch_weights
from jaxdl.nn.recurrent import GRU, LSTM, RNN

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[bench]'")

BATCH, TIME, INPUTS, HIDDEN = 3, 5, 4, 6
LENGTHS = [3, 5, 1]
LAYERS = {
    "rnn": (RNN, torch.nn.RNN, {}, {}),
    "relu": (RNN, torch.nn.RNN, {"activation": "relu"}, {"nonlinearity": "relu"}),
    "gru": (GRU, torch.nn.GRU, {}, {}),
    "lstm": (LSTM, torch.nn.LSTM, {}, {}),
}


def theirs(layer, inputs, lengths, state):
    """Outputs, states, and gradients by name of weights, inputs and initial state."""
    layer.zero_grad()
    inputs = torch.tensor(inputs, requires_grad=True)
    state = [torch.tensor(part, requires_grad=True) for part in state]
    packed = inputs
    if lengths is not None:
        packed = torch.nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    outputs, last = layer(packed, tuple(state) if len(state) == 2 else state[0])
    if lengths is not None:
        outputs = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=TIME)[0]
    results = [outputs, *(last if isinstance(last, tuple) else (last,))]
    sum((torch.sin(x) * torch.tensor(np.cos(np.arange(x.numel())).reshape(x.shape))).sum() for x in results).backward()
    gradients = {name: weight.grad.numpy() for name, weight in layer.named_parameters()}
    return [x.detach().numpy() for x in results], gradients, [x.grad.numpy() for x in (inputs, *state)]


def ours(layer, variables, inputs, lengths, state):
    """The same from JAX; gradients of weights as a tree."""

    def loss(variables, inputs, state):
        outputs, last = layer.apply(variables, inputs, lengths, state)
        results = jax.tree.leaves((outputs, last))
        weights = [jnp.cos(jnp.arange(x.size)).reshape(x.shape) for x in results]
        return sum((jnp.sin(x) * w).sum() for x, w in zip(results, weights, strict=True)), results

    gradients, results = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(variables, inputs, state)
    return results, gradients[0], jax.tree.leaves(gradients[1:])


@pytest.mark.parametrize("implementation", ["xla", "factors"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "padded"])
@pytest.mark.parametrize(("num_layers", "bidirectional"), [(1, False), (2, True)], ids=["one", "stacked both ways"])
@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients(x64, name, num_layers, bidirectional, lengths, implementation):
    our_class, their_class, our_fields, their_fields = LAYERS[name]
    torch.manual_seed(0)
    their_layer = their_class(
        INPUTS, HIDDEN, num_layers, bidirectional=bidirectional, batch_first=True, **their_fields
    ).double()
    layer = our_class(HIDDEN, num_layers, bidirectional, implementation=implementation, **our_fields)
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(BATCH, TIME, INPUTS))
    states = 2 if name == "lstm" else 1
    state = [rng.normal(size=(num_layers * (1 + bidirectional), BATCH, HIDDEN)) for _ in range(states)]

    def converted(arrays):
        like = jax.eval_shape(layer.init, jax.random.key(0), jnp.asarray(inputs))
        return torch_weights.convert(arrays, like, {"": ""}, dtype=jnp.float64)

    weights = {name: weight.detach().numpy() for name, weight in their_layer.named_parameters()}
    want = theirs(their_layer, inputs, lengths, state)
    initial = tuple(map(jnp.asarray, state)) if states == 2 else jnp.asarray(state[0])
    got = ours(layer, converted(weights), jnp.asarray(inputs), lengths, initial)
    want = want[0], converted(want[1]), want[2]
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), got, want)
