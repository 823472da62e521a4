"""The numbers of D2L 7.1 to 7.5, and units that see what the arithmetic of receptive fields says."""

import ch07_convolutions as example
import jax
import numpy as np
import optax
import pytest

from jaxdl import nn
from jaxdl.vision import LeNet


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "new"
    return example.main(example.Config(folder=folder, log_dir=folder / "log")), folder


def test_weights_of_dense_layers_and_convolutions(run):
    """7.1: a million units that see a million pixels; all offsets up to 1000; offsets up to 10."""
    figures, _ = run
    assert figures["parameters/dense"] == 10**12
    assert figures["parameters/translation"] == 4 * 10**6
    assert figures["parameters/locality"] == 4 * 10**2


def test_edges_of_the_bar(run):
    figures, _ = run
    found = nn.corr2d(example.edge_image(), example.EDGE)
    np.testing.assert_array_equal(found, [[0, 1, 0, 0, 0, -1, 0]] * 6)
    assert figures["edges/found"] == 12
    assert figures["edges/transposed"] == 0


def test_the_kernel_is_learned_as_computed_by_hand():
    """The error is 12 (1 - w)^2 for a kernel [w, -w], so a step of 0.03 leaves 0.64 of what is missing.

    Each of the 6 rows has 1 and -1; a step adds 0.03 * 2 * 6 * (1 - w) to w. The tolerance is some float32 roundings.
    """
    kernels, losses = example.learn_kernel()
    missing = 0.64 ** np.arange(11)
    np.testing.assert_allclose(kernels, np.outer(1 - missing, [1, -1]), atol=1e-6)
    np.testing.assert_allclose(losses, 12 * missing**2, rtol=1e-4)
    np.testing.assert_allclose(kernels[10], [0.98847, -0.98847], atol=5e-6)
    np.testing.assert_allclose(losses[[0, 1, 2, 9]], [12, 4.9152, 2.01327, 0.00389], atol=5e-6)


def test_sobels_kernel_is_found_from_digits_and_their_edges(run):
    """A quadratic with one minimum, at the kernel that made the edges, where the error is 0."""
    figures, folder = run
    assert figures["learned/sobel"] < 0.02
    assert figures["learned/eval_loss"] < 1e-4
    assert list((folder / "log").iterdir())


def change_of_the_kernel(folder, **flags):
    """What two steps of SGD add to the kernel; Adam, which the script takes, would hide the scale of a gradient."""
    states = []
    with pytest.MonkeyPatch.context() as patch:

        def record(name, config, step, state, *arguments, original=example.experiment.run, **named):
            states.append(jax.device_get(state.params))
            state, history = original(name, config, step, state, *arguments, **named)
            states.append(jax.device_get(state.params))
            return state, history

        patch.setattr(example.optax, "adam", optax.sgd)
        patch.setattr(example.experiment, "run", record)
        patch.setattr(example, "draw_images", lambda *arguments, **named: None)
        config = example.Config(train_split="train[:64]", epochs=1, learning_rate=0.1, **flags)
        example.learning_from_images(config, folder, {})
    start, end = (state["conv"]["kernel"] for state in states)
    return end - start


@pytest.fixture(scope="module")
def change_on_one_device(tmp_path_factory):
    return change_of_the_kernel(tmp_path_factory.mktemp("one"))


@pytest.mark.parametrize("flags", [{"strategy": "pmap"}, {"strategy": "shard", "accumulate": 2}, {"strategy": "fsdp"}])
def test_every_strategy_learns_the_same_kernel(tmp_path, change_on_one_device, flags):
    """Float32 sums of 32 x 36 terms in another order."""
    assert abs(change_on_one_device).max() > 0.01
    np.testing.assert_allclose(change_of_the_kernel(tmp_path, **flags), change_on_one_device, rtol=1e-4, atol=1e-6)


def test_padding_and_strides(run):
    """7.3, and by hand how many windows a corner is in."""
    figures, _ = run
    found = [[figures[f"{name}/{what}"] for what in ("height", "width", "corner", "centre")] for name in example.CASES]
    assert found == [[6, 6, 1, 9], [8, 8, 4, 9], [8, 8, 6, 15], [4, 4, 1, 4], [2, 2, 1, 2]]
    sizes = [tuple(map(example.output_size, (8, 8), *case)) for case in example.CASES.values()]
    assert sizes == [(6, 6), (8, 8), (8, 8), (4, 4), (2, 2)]


def test_channels(run, capsys):
    """7.4: the sums of [[56, 72], [104, 120]] and of the other two channels; "over 53 billion" operations."""
    figures, _ = run
    assert [figures[f"channels/{i}"] for i in range(3)] == [352, 496, 640]
    assert figures["channels/one_by_one"] < 1e-15
    assert figures["channels/flops"] == 2 * 256**2 * 5**2 * 128**2 > 53e9


def test_pooling(run):
    """7.5: the sums of [[4, 5], [7, 8]], [[2, 3], [5, 6]], [[10]] and twice [[5, 7], [13, 15]]."""
    figures, _ = run
    sums = [value for name, value in figures.items() if name.startswith("pooling/m")]
    assert sums == [24, 16, 10, 40, 40]
    shifts = [figures[f"pooling/shift/{size}"] for size in (1, 2, 4)]
    assert shifts == sorted(shifts, reverse=True)
    assert shifts[2] < 0.7 * shifts[0]


def test_receptive_fields(run):
    """LeNet, from its output back: pooling 2, convolution 6, pooling 12, convolution 16. No pixel outside is heard."""
    figures, _ = run
    assert [figures[f"field/{name}"] for name in example.LAYERS] == [16, 195, 150]
    for name in ("LeNet", "VGG-11"):
        assert figures[f"field/{name}/outside"] == 0
        assert figures[f"field/{name}/middle"] > 0.4  # evenly spread, it were 0.25
    assert figures["field/VGG-11/middle"] > figures["field/LeNet/middle"]  # the deeper, the more concentrated


def test_every_pixel_of_the_field_is_heard_where_nothing_is_dropped():
    gradient, centre = example.gradient_of_centre(
        LeNet(activation=jax.nn.sigmoid, pool=nn.avg_pool), "Conv_1", 28, seed=1
    )
    assert centre == 5
    rows, columns = np.nonzero(gradient)
    assert (rows.min(), rows.max(), len(rows)) == (8, 21, 14 * 14)  # 5 * 2 - 2 and 14 pixels on
    assert (columns.min(), columns.max()) == (8, 21)


def test_the_pictures_are_drawn(run):
    pictures = {path.name: path.stat().st_size for path in run[1].glob("*.png")}
    assert pictures.keys() == {
        *("edges.png", "learning.png", "learned_kernel.png", "curve.png"),
        *("padding.png", "pooling.png", "receptive_fields.png"),
    }
    assert min(pictures.values()) > 10_000


@pytest.mark.parametrize("digit", [-1, 360])
def test_a_digit_that_is_not_there_is_refused(digit):
    with pytest.raises(ValueError, match=f"digit: expected a number from 0 to 359, got {digit}"):
        example.main(example.Config(digit=digit))
