"""The layers: what stands behind a length changes nothing, blocks join, orders and dtypes are as promised."""

from functools import cache, partial

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from jaxdl.nn.recurrent import GRU, LSTM, RNN
from jaxdl.nn.recurrent_cells import CellWeights, LSTMState, gru_cell, lstm_cell, rnn_cell

LAYERS = {"rnn": RNN, "gru": GRU, "book's gru": partial(GRU, reset_after=False), "lstm": LSTM}
INPUTS, HIDDEN = 3, 4


def variables_of(layer, dtype=jnp.float32):
    variables = jax.jit(layer.init)(jax.random.key(0), jnp.zeros((1, 1, INPUTS)))
    return jax.tree.map(lambda x: x.astype(dtype), variables)


def random(shape, seed=1):
    return jax.random.normal(jax.random.key(seed), shape)


def assert_close(got, want, tolerance=1e-12):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), got, want)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_cell_in_a_loop(x64, name):
    """Two layers, both directions; the state has the layers first and the directions within."""
    layer = LAYERS[name](HIDDEN, 2, True)
    variables, inputs = variables_of(layer, jnp.float64), random((2, 3, INPUTS))
    outputs, state = layer.apply(variables, inputs)
    cell = {"rnn": rnn_cell, "gru": gru_cell, "book's gru": partial(gru_cell, reset_after=False), "lstm": lstm_cell}
    zeros = jnp.zeros((2, HIDDEN))
    x, last = list(inputs.swapaxes(0, 1)), []
    for module in ("layer_0", "layer_1"):
        sides = []
        for suffix, order in (("", 1), ("_reverse", -1)):
            weights = CellWeights(**variables["params"][module + suffix])
            s, hidden = LSTMState(zeros, zeros) if name == "lstm" else zeros, []
            for x_t in x[::order]:
                s = cell[name](x_t, s, weights)
                hidden.append(s.hidden if name == "lstm" else s)
            last.append(s)
            sides.append(hidden[::order])
        x = [jnp.concatenate(pair, -1) for pair in zip(*sides, strict=True)]
    assert_close(outputs, jnp.stack(x, 1))
    assert outputs.shape == (2, 3, 2 * HIDDEN)
    assert_close(state, jax.tree.map(lambda *parts: jnp.stack(parts), *last))


@cache
def gradient_of_one(name):
    """Gradients, outputs and states of a sum of losses, over as many steps and examples as there are."""
    layer = LAYERS[name](HIDDEN, 1, True)

    def loss(variables, inputs, lengths, weight):
        outputs, state = layer.apply(variables, inputs, lengths)
        total = (jnp.sin(outputs) * weight).sum() + sum(jnp.cos(x).sum() for x in jax.tree.leaves(state))
        return total, (outputs, state)

    return layer, jax.jit(jax.grad(loss, (0, 1), has_aux=True))


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(["rnn", "gru", "lstm"]),
    st.lists(st.integers(0, 3), min_size=3, max_size=3),
    st.sampled_from([0.0, 1e30, np.nan, np.inf]),
)
def test_padding_changes_nothing(name, lengths, garbage):
    """Outputs, state, loss and gradients of a padded batch are those of its examples alone, in both directions."""
    with jax.enable_x64(True):
        layer, gradient = gradient_of_one(name)
        variables = variables_of(layer, jnp.float64)
        inputs, weight = random((3, 4, INPUTS)), random((3, 4, 2 * HIDDEN), seed=2)
        padding = np.arange(4)[None] >= np.array(lengths)[:, None]
        padded = jnp.where(padding[..., None], garbage, inputs)
        got, (outputs, state) = gradient(variables, padded, jnp.array(lengths), weight)
        alone = [
            gradient(variables, inputs[i : i + 1, :n], jnp.array([n]), weight[i : i + 1, :n])
            for i, n in enumerate(lengths)
        ]
        assert_close(got[0], jax.tree.map(lambda *parts: sum(parts), *(result[0][0] for result in alone)))
        for i, (n, ((_, of_inputs), (outputs_alone, state_alone))) in enumerate(zip(lengths, alone, strict=True)):
            assert_close(outputs[i, :n], outputs_alone[0])
            assert_close(jax.tree.map(lambda x, i=i: x[:, i], state), jax.tree.map(lambda x: x[:, 0], state_alone))
            assert_close(got[1][i, :n], of_inputs[0])
        assert (np.asarray(outputs)[padding] == 0).all()
        assert (np.asarray(got[1])[padding] == 0).all()


@pytest.mark.parametrize("name", LAYERS)
def test_the_padding_of_a_stack_changes_nothing(x64, name):
    """Two layers, the second sees zeros where the first was padded."""
    layer = LAYERS[name](HIDDEN, 2, True)
    variables, inputs = variables_of(layer, jnp.float64), random((2, 5, INPUTS))
    want = layer.apply(variables, inputs[1:, :2])
    got = layer.apply(variables, inputs.at[1, 2:].set(jnp.nan), np.array([5, 2]))
    assert_close(got[0][1:, :2], want[0])
    assert_close(jax.tree.map(lambda x: x[:, 1:], got[1]), want[1])


@pytest.mark.parametrize("name", LAYERS)
def test_a_state_carried_over_a_block_boundary_is_one_long_run(x64, name):
    """D2L 23.11; and the state of an example without steps is the one it had."""
    layer = LAYERS[name](HIDDEN, 2)
    variables, inputs = variables_of(layer, jnp.float64), random((2, 6, INPUTS))
    want = layer.apply(variables, inputs)
    first, state = layer.apply(variables, inputs[:, :2])
    second, state = layer.apply(variables, inputs[:, 2:], None, state)
    assert_close((jnp.concatenate([first, second], 1), state), want)
    _, same = layer.apply(variables, inputs, jnp.array([0, 6]), state)
    assert_close(jax.tree.map(lambda x: x[:, 0], same), jax.tree.map(lambda x: x[:, 0], state))


@pytest.mark.parametrize("name", LAYERS)
def test_time_major_is_batch_major(name):
    fields = {"hidden_size": HIDDEN, "num_layers": 2, "bidirectional": True}
    variables, inputs = variables_of(LAYERS[name](**fields)), random((2, 5, INPUTS))
    lengths = jnp.array([5, 3])
    outputs, state = LAYERS[name](**fields).apply(variables, inputs, lengths)
    swapped, same = LAYERS[name](**fields, time_major=True).apply(variables, inputs.swapaxes(0, 1), lengths)
    assert_close((swapped.swapaxes(0, 1), same), (outputs, state), 1e-6)


def test_parameters_have_plain_names_and_initial_values_of_pytorch():
    layer = LSTM(100, 2, True)
    params = variables_of(layer)["params"]
    assert list(params) == ["layer_0", "layer_0_reverse", "layer_1", "layer_1_reverse"]
    assert {name: x.shape for name, x in params["layer_1"].items()} == {
        "input_kernel": (200, 400),
        "recurrent_kernel": (100, 400),
        "input_bias": (400,),
        "recurrent_bias": (400,),
    }
    for leaf in jax.tree.leaves(params):
        assert leaf.dtype == jnp.float32
        assert 0.09 < jnp.abs(leaf).max() <= 0.1  # 1 / sqrt(100)
        assert abs(leaf.std() * np.sqrt(3) - 0.1) < 0.02


def test_initialisers_see_one_gate():
    layer = GRU(
        HIDDEN,
        kernel_init=flax.linen.initializers.ones,
        recurrent_init=flax.linen.initializers.orthogonal(),
        bias_init=flax.linen.initializers.zeros,
    )
    params = variables_of(layer)["params"]["layer_0"]
    for gate in jnp.split(params["recurrent_kernel"], 3, -1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(HIDDEN), atol=1e-6)
    assert (params["input_kernel"] == 1).all()
    assert (params["input_bias"] == 0).all()


def test_dropout_acts_between_layers_in_training_only():
    layer, plain = RNN(HIDDEN, 2, dropout_rate=0.5), RNN(HIDDEN, 2)
    variables, inputs = variables_of(plain), random((2, 3, INPUTS))
    want, state = plain.apply(variables, inputs)
    assert_close(layer.apply(variables, inputs), (want, state), 0)  # needs no key
    got, dropped = layer.apply(variables, inputs, train=True, rngs={"dropout": jax.random.key(0)})
    assert_close(dropped[0], state[0], 0)
    assert jnp.abs(got - want).max() > 1e-3
    other, _ = layer.apply(variables, inputs, train=True, rngs={"dropout": jax.random.key(1)})
    assert jnp.abs(got - other).max() > 1e-3
    everything = RNN(HIDDEN, 2, dropout_rate=1.0)
    got, _ = everything.apply(variables, inputs, train=True, rngs={"dropout": jax.random.key(0)})
    assert_close(got, plain.apply(variables, jnp.zeros_like(inputs))[0] * 0 + got[:1], 1e-6)  # the inputs are gone


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_half_precision_multiplies_in_half_and_remembers_in_float32(name):
    layer = LAYERS[name](HIDDEN, 1, True, dtype=jnp.bfloat16)
    variables, inputs = variables_of(layer), random((2, 4, INPUTS))
    outputs, state = layer.apply(variables, inputs, jnp.array([4, 2]))
    assert outputs.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype(jnp.float32)}
    gradient = jax.grad(lambda v: layer.apply(v, inputs)[0].astype(jnp.float32).sum())(variables)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(jnp.float32)}
    exact, _ = LAYERS[name](HIDDEN, 1, True).apply(variables, inputs, jnp.array([4, 2]))
    np.testing.assert_allclose(outputs.astype(jnp.float32), exact, atol=4 * 2**-8)  # a few roundings to 8 bits
    _, other = layer.apply(variables, inputs, jnp.array([4, 2]), state)  # a state fits the next block as it is
    assert jax.tree.map(lambda x: x.dtype, other) == jax.tree.map(lambda x: x.dtype, state)


def test_traced_lengths_beyond_the_padded_size_count_as_that_size():
    layer = GRU(HIDDEN)
    variables, inputs = variables_of(layer), random((2, 3, INPUTS))
    got = jax.jit(lambda n: layer.apply(variables, inputs, n))(jnp.array([9, -1]))
    assert_close(got, layer.apply(variables, inputs, [3, 0]), 1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_no_examples_no_steps_and_one_of_each(name):
    layer = LAYERS[name](HIDDEN, 1, True)
    variables = variables_of(layer)
    for batch, time in ((0, 3), (2, 0), (1, 1)):
        outputs, state = layer.apply(variables, jnp.ones((batch, time, INPUTS)), jnp.full(batch, time))
        assert outputs.shape == (batch, time, 2 * HIDDEN)
        assert {leaf.shape for leaf in jax.tree.leaves(state)} == {(2, batch, HIDDEN)}
        if time == 0:
            assert all((leaf == 0).all() for leaf in jax.tree.leaves(state))


def test_seeds_map_over_parameters():
    layer, inputs = LSTM(HIDDEN, 2), random((2, 3, INPUTS))
    many = jax.vmap(lambda key: layer.init(key, inputs))(jax.random.split(jax.random.key(0), 3))
    outputs, _ = jax.vmap(layer.apply, (0, None))(many, inputs)
    one = jax.tree.map(lambda x: x[1], many)
    assert_close(outputs[1], layer.apply(one, inputs)[0], 1e-6)


def test_an_lstm_learns_to_remember_what_it_saw():
    """Which of two symbols came first, after seven steps of noise, on examples it was not trained on."""
    layer = LSTM(8)

    def examples(seed, seen):
        label = jax.random.randint(jax.random.key(seed), (256,), 0, 2)
        return random((256, 8, 2), seed).at[:, 0].set(seen * jax.nn.one_hot(label, 2)), label

    def logits(params, inputs):
        return layer.apply({"params": params[0]}, inputs)[0][:, -1] @ params[1]

    @jax.jit
    def accuracy(seen):
        inputs, label = examples(1, seen)

        def loss(params):
            return -jax.nn.log_softmax(logits(params, inputs))[jnp.arange(256), label].mean()

        def step(params, _):
            return jax.tree.map(lambda p, g: p - 0.5 * g, params, jax.grad(loss)(params)), None

        start = layer.init(jax.random.key(0), inputs)["params"], random((8, 2)) / 3
        params, _ = jax.lax.scan(step, start, length=200)
        inputs, label = examples(2, seen)
        return (logits(params, inputs).argmax(-1) == label).mean()

    assert accuracy(2.0) > 0.95
    assert accuracy(0.0) < 0.65  # the symbol is hidden: chance


@pytest.mark.parametrize("layer", [RNN, GRU, LSTM])
def test_errors_name_the_argument(layer):
    for field in ("hidden_size", "num_layers"):
        with pytest.raises(ValueError, match=f"{field}: expected at least 1, got 0"):
            layer(**{"hidden_size": 2, field: 0})
    with pytest.raises(ValueError, match=r"dropout_rate: expected a number in \[0, 1\], got 1.5"):
        layer(2, 2, dropout_rate=1.5)
    with pytest.raises(ValueError, match=r"dropout_rate: it acts between layers; expected 0 for one layer, got 0.1"):
        layer(2, dropout_rate=0.1)
    with pytest.raises(ValueError, match="implementation: expected None or one of xla, factors; got 'cudnn'"):
        layer(2, implementation="cudnn")
    init = partial(layer(HIDDEN).init, jax.random.key(0))
    x = jnp.ones((2, 3, INPUTS))
    for bad in (x[0], x.astype(jnp.int32)):
        with pytest.raises(ValueError, match=r"inputs: expected floating \[batch, time, in\], got "):
            init(bad)
    with pytest.raises(ValueError, match=r"inputs: expected floating \[time, batch, in\], got float32\[3, 3\]"):
        layer(HIDDEN, time_major=True).init(jax.random.key(0), x[0])
    for bad in ([3], [3.0, 2.0], [[3, 3]]):
        with pytest.raises(ValueError, match=r"lengths: expected integers \[2\], got "):
            init(x, np.array(bad))
    for bad in (4, -1):
        with pytest.raises(ValueError, match=rf"lengths: expected numbers in \[0, 3\], the padded size; got {bad}"):
            init(x, jnp.array([bad, 1]))
    zeros = jnp.zeros((1, 2, HIDDEN))
    if layer is LSTM:
        with pytest.raises(ValueError, match="initial_state: expected an LSTMState of two arrays, got "):
            init(x, None, zeros)
        with pytest.raises(ValueError, match=r"initial_state.cell: expected floating \[1, 2, 4\], got float32\[2, 4\]"):
            init(x, None, LSTMState(zeros, zeros[0]))
    else:
        for bad in (zeros[:, :1], zeros.astype(jnp.int32)):
            with pytest.raises(ValueError, match=r"initial_state: expected floating \[1, 2, 4\], got "):
                init(x, None, bad)
        with pytest.raises(ValueError, match="initial_state: expected one array, got a tuple"):
            init(x, None, (zeros, zeros))


def test_errors_of_one_layer():
    with pytest.raises(ValueError, match="activation: expected one of tanh, relu; got 'sigmoid'"):
        RNN(2, activation="sigmoid")
    with pytest.raises(ValueError, match="implementation: 'factors' cannot do reset_after=False; expected 'xla'"):
        GRU(2, reset_after=False, implementation="factors")


@pytest.mark.parametrize("layer", [RNN, GRU, LSTM])
def test_under_shard_map(layer):
    """With its check of what varies over the mesh, which `jax.lax.scan` takes for the types of its carry."""
    model, x = layer(3), jax.random.normal(jax.random.key(0), (2, 4, 5))
    variables = model.init(jax.random.key(1), x)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def gradient(total):
        return jax.grad(lambda variables, x: total((model.apply(variables, x)[0] ** 2).sum()))

    specs = {"in_specs": (P(), P("data")), "out_specs": P()}
    over_devices = jax.shard_map(gradient(lambda loss: jax.lax.psum(loss, "data")), mesh=mesh, **specs)
    got, want = jax.jit(over_devices)(variables, x), jax.jit(gradient(lambda loss: loss))(variables, x)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), got, want)
