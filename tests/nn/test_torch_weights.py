"""Weights of PyTorch give PyTorch's outputs here, and what does not fit is listed at once.

The golden outputs are PyTorch 2.13's (float64) for the same network with the same weights, a sine of the position.
"""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.flax
import safetensors.numpy

from jaxdl import nn
from jaxdl.nn import torch_weights

NAMES = {"Conv_0": "conv", "BatchNorm_0": "bn", "ConvTranspose_0": "up", "Dense_0": "fc", "Embed_0": "emb"}
SHAPES = {
    "conv.weight": (4, 1, 3, 3),
    "conv.bias": (4,),
    "bn.weight": (4,),
    "bn.bias": (4,),
    "bn.running_mean": (4,),
    "bn.running_var": (4,),
    "bn.num_batches_tracked": (),
    "up.weight": (4, 3, 2, 2),
    "up.bias": (3,),
    "fc.weight": (5, 72),
    "fc.bias": (5,),
    "emb.weight": (7, 5),
}
TORCH_OUTPUTS = [
    [-13.769978486952283, -14.04013046234218, -13.843946168357984, -12.895553791547787, -11.158808171127447],
    [-13.425167787284291, -12.042168016255882, -10.44274304462743, -8.653050298441501, -6.703433377111785],
]


class Net(flax.linen.Module):
    """A grouped convolution, a normalisation, a transposed convolution, a dense layer on its pixels, an embedding."""

    @flax.linen.compact
    def __call__(self, x, tokens):
        x = flax.linen.Conv(4, (3, 3), padding=1, feature_group_count=2)(x)
        x = flax.linen.relu(nn.BatchNorm()(x))
        x = flax.linen.ConvTranspose(3, (2, 2), (2, 2), "VALID", transpose_kernel=True)(x)
        return flax.linen.Dense(5)(jax.lax.collapse(x, 1)) + flax.linen.Embed(7, 5)(tokens)


def sine_state():
    state = {}
    for i, (name, shape) in enumerate(SHAPES.items()):
        array = np.sin(np.arange(np.prod(shape)) * 0.7 + i).reshape(shape)
        state[name] = np.abs(array) + 0.5 if "var" in name else array
    state["bn.num_batches_tracked"] = np.array(3)
    return state


def inputs():
    images = np.cos(np.arange(24.0)).reshape(2, 2, 2, 3).transpose(0, 2, 3, 1)  # NCHW to NHWC
    return jnp.asarray(images), jnp.array([1, 6])


def convert(state, **fields):
    like = jax.eval_shape(Net().init, jax.random.key(0), *inputs())
    return torch_weights.convert(state, like, **{"names": NAMES, "flattened": {"Dense_0": (4, 6)}, **fields})


def test_outputs_are_pytorchs(x64):
    variables = convert(sine_state(), dtype=jnp.float64)
    np.testing.assert_allclose(Net().apply(variables, *inputs()), TORCH_OUTPUTS, rtol=1e-12)


def test_the_order_of_a_flattened_image_matters(x64):
    variables = convert(sine_state(), dtype=jnp.float64, flattened={})
    assert np.abs(Net().apply(variables, *inputs()) - np.asarray(TORCH_OUTPUTS)).max() > 1


@pytest.mark.parametrize(
    ("flattened", "message"),
    [
        ({"layers_0": (4, 4)}, r"fc.weight: 18 inputs are no 4 x 4 pixels \(flattened\)"),
        ({"layers_1": (3, 3)}, "flattened: expected paths of dense layers of `like`, got layers_1"),
        ({"layers_0": (0, 3)}, r"flattened: expected \(height, width\) of at least 1 for 'layers_0', got \(0, 3\)"),
    ],
)
def test_a_flattened_image_that_cannot_be(flattened, message):
    model = flax.linen.Sequential([flax.linen.Dense(4)])
    like = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 18)))
    state = {"fc.weight": np.zeros((4, 18)), "fc.bias": np.zeros(4)}
    with pytest.raises(ValueError, match=message):
        torch_weights.convert(state, like, {"layers_0": "fc"}, flattened=flattened)


def test_the_dtype_is_the_models():
    assert {x.dtype for x in jax.tree.leaves(convert(sine_state()))} == {jnp.dtype("float32")}
    assert {x.dtype for x in jax.tree.leaves(convert(sine_state(), dtype=jnp.bfloat16))} == {jnp.dtype("bfloat16")}


def test_one_error_lists_all_that_does_not_fit():
    state = sine_state()
    del state["conv.bias"]
    state["head.weight"] = np.zeros(3)
    state["fc.weight"] = np.zeros((5, 71))
    names = {ours: torch for ours, torch in NAMES.items() if ours != "Embed_0"}
    with pytest.raises(ValueError, match="state: it does not fit") as error:
        convert(state, names=names)
    assert str(error.value).splitlines() == [
        "state: it does not fit the model",
        "  missing: conv.bias (for Conv_0/bias), no PyTorch name for params/Embed_0/embedding",
        "  unexpected: emb.weight, head.weight",
        "  of another shape: fc.weight: expected [72, 5] in our layout, got [71, 5]",
    ]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files(tmp_path, suffix):
    path, state = tmp_path / f"state{suffix}", sine_state()
    np.savez(path, **state) if suffix == ".npz" else safetensors.numpy.save_file(state, path)
    found = torch_weights.read(path)
    assert found.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype  # float64 stays, whatever JAX's default is
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=rf"path: .*state{suffix} cannot be read: "):
        torch_weights.read(path)


def test_bfloat16_files(tmp_path):
    safetensors.flax.save_file({"w": jnp.arange(3, dtype=jnp.bfloat16)}, tmp_path / "w.safetensors")
    found = torch_weights.read(tmp_path / "w.safetensors")["w"]
    assert (found.dtype, found.tolist()) == (jnp.bfloat16, [0, 1, 2])


def test_bfloat16_is_lost_in_npz_and_said_so(tmp_path):
    np.savez(tmp_path / "a.npz", w=jnp.ones(2, jnp.bfloat16))
    with pytest.raises(ValueError, match=r"w is no array of numbers .* no bfloat16"):
        torch_weights.read(tmp_path / "a.npz")


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "state.npz", w=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="cannot be read: Object arrays"):
        torch_weights.read(tmp_path / "state.npz")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("state.pth", ValueError, r"path: expected a .safetensors or .npz file, got 'state.pth'"),
        ("absent.npz", FileNotFoundError, "path: there is no file .*absent.npz"),
    ],
)
def test_other_files_are_refused(tmp_path, name, error, message):
    with pytest.raises(error, match=message):
        torch_weights.read(tmp_path / name)
