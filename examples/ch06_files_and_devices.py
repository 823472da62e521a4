"""How numbers get to a disk and to a device (D2L 6.6 and 6.7), in JAX's terms.

    python examples/ch06_files_and_devices.py
    python examples/ch06_files_and_devices.py --folder runs/files

Parameters go to a safetensors file, which other frameworks read and which runs no code when it is loaded; a whole
training state goes to a checkpoint, which notices damage. Placement over several devices is in
`ch13_data_parallel.py`. It takes about 4 s on two cores of an AMD EPYC; a saved model gives the same bits, and so does
a step of training from a saved state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.flax import load_file, save_file

from jaxdl import experiment, nn, training

Figures = dict[str, float]


@dataclass(frozen=True)
class Config:
    """Saves, loads, damages and places the numbers of a small model."""

    seed: int = 0
    """Of every random number."""
    folder: Path | None = None
    """Where the files go, new or empty; default: a new folder under runs."""

    def __post_init__(self) -> None:
        if self.folder is not None and self.folder.exists() and any(self.folder.iterdir()):
            raise ValueError(f"folder: expected a new or empty one, got {self.folder}")


# 6.6 Files


def arrays(folder: Path) -> Figures:
    """A file holds named arrays, so a list gets its positions for names; `flatten_dict` names what is nested."""
    x = jnp.arange(4.0)
    pair = [x, jnp.zeros(4)]
    save_file({"x": x}, folder / "array.safetensors")
    save_file({str(i): array for i, array in enumerate(pair)}, folder / "list.safetensors")
    save_file({"x": x, "y": pair[1]}, folder / "dict.safetensors")
    named = load_file(folder / "list.safetensors")
    loaded = [named[str(i)] for i in range(len(named))]  # by number: sorted as text, "10" comes before "2"
    array, dictionary = load_file(folder / "array.safetensors")["x"], load_file(folder / "dict.safetensors")
    print(f"an array {array}, a list {[a.tolist() for a in loaded]}, a dict of {sorted(dictionary)}")
    same = same_bits((x, pair, {"x": x, "y": pair[1]}), (array, loaded, dictionary))
    return {"arrays_come_back": same}


def parameters(folder: Path, key: jax.Array) -> Figures:
    """Parameters are such named arrays; the model is code, made again from its hyperparameters."""
    data_key, init_key = jax.random.split(key)
    x = jax.random.normal(data_key, (2, 20))
    params: Any = nn.MLP([256, 10]).init(init_key, x)["params"]
    path = folder / "params.safetensors"
    save_file(cast(dict[str, jax.Array], flatten_dict(params, sep="/")), path)
    clone = unflatten_dict(load_file(path), sep="/")
    outputs = [nn.MLP([256, 10]).apply({"params": p}, x) for p in (params, clone)]
    print(f"{sorted(load_file(path))} in {path.stat().st_size:,} bytes; a clone gives the same bits: ", end="")
    print(same_bits(*outputs))

    content = path.read_bytes()
    path.with_name("truncated.safetensors").write_bytes(content[:-1000])
    truncated = error_of(lambda: load_file(path.with_name("truncated.safetensors")))
    print(f"without its last 1,000 bytes: {truncated}")
    path.with_name("flipped.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    flipped = unflatten_dict(load_file(path.with_name("flipped.safetensors")), sep="/")
    print(f"with one bit flipped it loads without a word; the same bits: {same_bits(params, flipped)}")
    return {
        "clone_is_identical": same_bits(*outputs),
        "truncated_file_is_an_error": truncated.startswith("SafetensorError"),
        "flipped_bit_passes": not same_bits(params, flipped),
    }


def whole_state(folder: Path, key: jax.Array) -> Figures:
    """To go on training takes more than parameters: Adam's moments, the step and the key; a checkpoint has them all."""
    model, optimizer = nn.MLP([256, 10]), optax.adam(1e-3)
    data_key, state_key = jax.random.split(key)
    batch = {"x": jax.random.normal(data_key, (32, 20)), "label": jnp.arange(32) % 10}
    loss_fn, _ = training.supervised(
        model, "x", loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]), scores={}
    )
    step = jax.jit(training.make_step(training.sum_gradients(loss_fn), optimizer))
    fresh = training.init_state(lambda key: model.init(key, batch["x"]), optimizer, state_key)
    state, _ = step(fresh, batch)
    with training.Checkpointer(folder / "checkpoints") as checkpointer:
        checkpointer.save(state, step=1, extra={"note": "after one step"})
        restored = checkpointer.restore(fresh)  # a template: structure, shapes and dtypes
        assert restored is not None
        numbers, moments = (nn.parameter_count({"params": tree}) for tree in (state.params, state.opt_state))
        print(f"checkpoint of step {restored.step}: {numbers:,} parameters, {moments:,} numbers of Adam's;")
        goes_on = same_bits(step(state, batch)[0], step(restored.state, batch)[0])
        print(f"the next step from it gives the same bits: {goes_on}")

        largest = max(checkpointer.directory.rglob("*"), key=lambda path: path.stat().st_size)
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)
        damaged = error_of(lambda: checkpointer.restore(fresh))
    print(f"with one bit flipped: {damaged}")
    return {
        "restored_state_is_identical": same_bits(state, restored.state),
        "next_step_is_identical": goes_on,
        "damaged_checkpoint_is_an_error": damaged.startswith("CheckpointError"),
    }


# 6.7 Devices


def try_gpu(i: int = 0) -> Any:
    """The i-th GPU of all processes, or else the first CPU, which it says."""
    try:
        return jax.devices("gpu")[i]  # RuntimeError where there is no GPU at all
    except (RuntimeError, IndexError):
        print(f"no GPU {i} here: taking the CPU")
        return jax.devices("cpu")[0]


def devices(key: jax.Array) -> Figures:
    """JAX puts arrays on the first device by itself; computation follows its arguments, which must be together.

    The book's `try_all_gpus` is `jax.local_devices()`: all GPUs of this process or, without any, its CPU.
    """
    print(f"all: {jax.devices()}; of this process: {jax.local_devices()}")
    device = try_gpu()
    data_key, init_key = jax.random.split(key)
    x, model = jax.random.normal(data_key, (2, 20)), nn.MLP([256, 10])
    params = jax.device_put(model.init(init_key, x), device)  # a whole pytree at once
    outputs = jax.jit(model.apply)(params, jax.device_put(x, device))
    print(f"parameters on {device}, so the outputs are on {outputs.device}; np.asarray brings them to the host")
    figures = {"devices": jax.device_count(), "outputs_follow": outputs.device == device}
    if others := [other for other in (*jax.devices(), *jax.devices("cpu")) if other != device]:
        apart = error_of(lambda: model.apply(params, jax.device_put(x, others[0])))
        print(f"parameters on {device} and inputs on {others[0]}: {apart}")
        figures["apart_is_an_error"] = apart.startswith("ValueError")
    return figures


def same_bits(a: Any, b: Any) -> bool:
    """Whether two pytrees have the same structure, and arrays of the same dtype, shape and bits."""
    (a, structure), (b, other) = jax.tree.flatten(a), jax.tree.flatten(b)
    if structure != other:
        return False
    a, b = ([_to_host(leaf) for leaf in leaves] for leaves in (a, b))
    return all((x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes()) for x, y in zip(a, b, strict=True))


def _to_host(leaf: jax.Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)


def error_of(function: Callable[[], Any]) -> str:
    """The error that a call ends in.

    Raises:
      AssertionError: if it ends in none.
    """
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("expected an error, got none")


def main(config: Config) -> Figures:
    """Runs the parts in order, and returns their figures."""
    folder = config.folder or experiment.run_folder("ch06_files_and_devices")
    folder.mkdir(parents=True, exist_ok=True)
    key = jax.random.key(config.seed)
    print(f"6.6 Files, in {folder}")
    figures = arrays(folder) | parameters(folder, key) | whole_state(folder, key)
    print("\n6.7 Devices")
    return figures | devices(key)


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
