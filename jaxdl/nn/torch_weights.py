"""Weights that were trained in PyTorch, taken into Flax variables.

    state = torch_weights.read("resnet18.safetensors")
    like = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = torch_weights.convert(state, like, names={"Conv_0": "conv1", "BatchNorm_0": "bn1", ...})

`names` says which PyTorch module each of our modules is; `jaxdl.vision.torchvision_names(model)` knows it for the
models of torchvision. What a leaf is called tells the rest:

| ours                 | PyTorch        | layout                                                         |
|----------------------|----------------|----------------------------------------------------------------|
| `kernel`, dense      | `weight`       | `[out, in]` to `[in, out]`                                     |
| `kernel`, convolution| `weight`       | OIHW to HWIO; transposed convolutions IOHW to HWOI             |
| `embedding`          | `weight`       | as it is                                                       |
| `scale`, `bias`      | `weight`, `bias` | as they are                                                  |
| `mean`, `var`        | `running_mean`, `running_var` | as they are                                     |
| `input_kernel`, `recurrent_kernel` | `weight_ih_l*`, `weight_hh_l*` | `[out, in]` to `[in, out]`       |
| `input_bias`, `recurrent_bias` | `bias_ih_l*`, `bias_hh_l*` | as they are                                |

The layers of an RNN, GRU or LSTM (`layer_0`, `layer_0_reverse`) need no names of their own: {"LSTM_0": "lstm"}.

Where a dense layer follows a flattened image, PyTorch's inputs run over channels, height, width and ours over height,
width, channels: `flattened` reorders them.
"""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_TORCH_NAMES = {
    "kernel": "weight",
    "embedding": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
    "input_kernel": "weight_ih",
    "recurrent_kernel": "weight_hh",
    "input_bias": "bias_ih",
    "recurrent_bias": "bias_hh",
}
_RECURRENT = ("input_kernel", "recurrent_kernel", "input_bias", "recurrent_bias")


def read(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a state from a `.safetensors` or an `.npz` file; nothing is unpickled.

    Args:
      path: the file. From PyTorch: `safetensors.torch.save_file(model.state_dict(), path)`.

    Returns:
      The arrays by PyTorch's names, in the dtypes of the file.

    Raises:
      FileNotFoundError: if it is not there.
      ValueError: if the suffix is another one, or the file is damaged or needs unpickling.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".npz"):
        raise ValueError(f"path: expected a .safetensors or .npz file, got {path.name!r}")
    if not path.is_file():
        raise FileNotFoundError(f"path: there is no file {path}")
    try:
        if path.suffix == ".npz":
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                state = dict(arrays)
            for name, array in state.items():
                if not isinstance(array, np.ndarray) or array.dtype.kind == "V":
                    raise ValueError(f"{name} is no array of numbers (.npz keeps no bfloat16; .safetensors does)")
            return state
        from safetensors.flax import load_file  # of its readers only this one knows bfloat16 without PyTorch

        with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
            return {name: np.asarray(array) for name, array in load_file(path).items()}
    except Exception as error:  # each reader has errors of its own
        raise ValueError(f"path: {path} cannot be read: {error}") from error


def convert(
    state: Mapping[str, Any],
    like: Any,
    names: Mapping[str, str],
    *,
    flattened: Mapping[str, tuple[int, int]] | None = None,
    dtype: Any = None,
) -> Any:
    """Rearranges a PyTorch state into the variables of a Flax model.

    Args:
      state: arrays by PyTorch's names, from `read` or `{name: x.numpy() for name, x in model.state_dict().items()}`.
        `num_batches_tracked` is left out.
      like: variables of the model, or their shapes from `jax.eval_shape(model.init, key, inputs)`.
      names: of each of our modules, by its path in the variables ("ResidualBlock_0/Conv_0"), the name of PyTorch's
        ("layer1.0.conv1").
      flattened: of each dense layer after a flattened image, by its path, the height and width of that image.
      dtype: of all arrays; default: each as in `like`.

    Returns:
      The variables, in the structure of `like`.

    Raises:
      ValueError: one error that lists all that is missing, unexpected or of another shape.
    """
    flattened = flattened or {}
    missing, misshaped, used, reordered = [], [], set(), set()
    for module, size in flattened.items():
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"flattened: expected (height, width) of at least 1 for {module!r}, got {size}")

    def take(path: tuple[Any, ...], leaf: Any) -> Any:
        _, *modules, name = (str(entry.key) for entry in path)
        layer = modules.pop().replace("layer_", "_l", 1) if name in _RECURRENT and modules else ""  # "_l0_reverse"
        module = "/".join(modules)
        if module not in names or name not in _TORCH_NAMES:
            missing.append(f"no PyTorch name for {'/'.join(str(entry.key) for entry in path)}")
            return leaf
        theirs = _TORCH_NAMES[name] + layer
        key = f"{names[module]}.{theirs}" if names[module] else theirs
        used.add(key)
        if key not in state:
            missing.append(f"{key} (for {module}/{name})")
            return leaf
        array = np.asarray(state[key])
        if name.endswith("kernel") and array.ndim >= 2:
            if module in flattened and array.ndim == 2:
                reordered.add(module)
                height, width = flattened[module]
                fits = array.shape[::-1] == leaf.shape  # what does not is reported below
                if fits and array.shape[1] % (height * width):
                    misshaped.append(f"{key}: {array.shape[1]} inputs are no {height} x {width} pixels (flattened)")
                    return leaf
                array = _reorder(array, (height, width)) if fits else array
            array = array.transpose(*range(2, array.ndim), 1, 0)
        if array.shape != leaf.shape:
            misshaped.append(f"{key}: expected {list(leaf.shape)} in our layout, got {list(array.shape)}")
            return leaf
        return jnp.asarray(array, dtype or leaf.dtype)

    variables = jax.tree_util.tree_map_with_path(take, like)
    unexpected = [key for key in state if key not in used and not key.endswith("num_batches_tracked")]
    if not (missing or misshaped) and (unused := [module for module in flattened if module not in reordered]):
        raise ValueError(f"flattened: expected paths of dense layers of `like`, got {', '.join(unused)}")
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": misshaped}
    if any(problems.values()):
        lines = [f"{what}: {', '.join(keys)}" for what, keys in problems.items() if keys]
        raise ValueError("\n  ".join(["state: it does not fit the model", *lines]))
    return variables


def _reorder(weight: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Columns over (channels, height, width) to columns over (height, width, channels)."""
    height, width = size
    return weight.reshape(weight.shape[0], -1, height, width).transpose(0, 2, 3, 1).reshape(weight.shape)
