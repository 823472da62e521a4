"""One checkpoint on disk: arrays written by Orbax, sealed by a digest of our own.

A checkpoint is a folder: `arrays/` is an Orbax PyTree checkpoint of the leaves, named by their position, and
`description.json` holds everything else: the tree, the caller's values, the size of every file, and a digest of all
that together with the bits of every leaf. Orbax alone restores a flipped bit without a word.
"""

import hashlib
import itertools
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_FORMAT = 1
_DESCRIPTION = "description.json"


class CheckpointError(ValueError):
    """A checkpoint cannot be written, or none of those on disk can be used."""


def describe(tree: Any) -> list[list[Any]]:
    """Returns `[path, dtype, shape]` of every leaf as JSON values.

    Args:
      tree: a pytree of arrays, numbers or `jax.ShapeDtypeStruct`.

    Raises:
      ValueError: if a leaf is none of these.
    """
    rows = []
    for path, leaf in jax.tree.leaves_with_path(tree):
        name = jax.tree_util.keystr(path)
        if _is_key(leaf):
            rows.append([name, f"key<{_key_impl(leaf)}>", list(leaf.shape)])
            continue
        dtype = np.dtype(leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype)
        if not (jnp.issubdtype(dtype, np.number) or dtype == np.dtype(bool)) or not dtype.isnative:
            raise ValueError(f"{name or 'state'}: expected an array of native numbers, got {dtype} ({type(leaf)})")
        rows.append([name, dtype.name, list(np.shape(leaf))])
    return rows


def copy_to_host(tree: Any) -> dict[str, np.ndarray]:
    """Returns copies of the leaves of a pytree, named by their position; those of size 0 are left out (Orbax has none).

    Args:
      tree: a pytree that `describe` accepts.
    """
    leaves = [jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in jax.tree.leaves(tree)]
    for leaf in leaves:
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()  # all transfers are under way before the first is waited for
    # np.asarray would be a view of a buffer that the next step, to which it is donated, overwrites.
    return {str(i): np.array(leaf, order="C") for i, leaf in enumerate(leaves) if np.size(leaf)}


def write(folder: Path, arrays: dict[str, np.ndarray], description: Mapping[str, Any]) -> None:
    """Writes a checkpoint and flushes it to the disk itself; moving it to its final name is the caller's part.

    Args:
      folder: a path where nothing is yet.
      arrays: what `copy_to_host` returned.
      description: JSON values, `tree` (from `describe`) among them.
    """
    folder.mkdir()
    if arrays:
        orbax, checkpointer = _orbax()
        checkpointer.save(folder / "arrays", args=orbax.args.PyTreeSave(arrays))
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    sealed = {**description, "format": _FORMAT, "files": sizes}
    sealed["digest"] = _digest(arrays, sealed)
    (folder / _DESCRIPTION).write_text(json.dumps(sealed))
    for path in (*folder.rglob("*"), folder):
        flush(path)


def read_description(folder: Path) -> dict[str, Any]:
    """Returns the description of a checkpoint, not verified; any exception means that it is damaged."""
    return json.loads((folder / _DESCRIPTION).read_bytes())


def read(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the arrays and the description of a checkpoint, verified; any exception means that it is damaged."""
    description = read_description(folder)
    for name, size in description["files"].items():
        found = (folder / name).stat().st_size
        if found != size:
            raise ValueError(f"{name}: expected {size} bytes, found {found}")
    arrays = {}
    names = [str(i) for i, (_, _, shape) in enumerate(description["tree"]) if math.prod(shape)]
    if names:
        orbax, checkpointer = _orbax()
        as_numpy = {name: orbax.RestoreArgs(restore_type=np.ndarray) for name in names}
        arrays = checkpointer.restore(folder / "arrays", args=orbax.args.PyTreeRestore(restore_args=as_numpy))
    if _digest(arrays, description) != description["digest"]:
        raise ValueError("the digest does not match: something has changed since it was saved")
    return arrays, description


def rebuild(template: Any, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> Any:
    """Returns the saved pytree in the structure of a template.

    Args:
      template: a pytree that `describe` accepts.
      arrays: from `read`, as is `description`.
      description: from `read`.

    Raises:
      CheckpointError: if the checkpoint holds another tree, naming the first leaf that differs.
    """
    if description["format"] != _FORMAT:
        raise CheckpointError(f"expected a checkpoint of format {_FORMAT}, found {description['format']}")
    for expected, found in itertools.zip_longest(describe(template), description["tree"]):
        if expected != found:
            raise CheckpointError(f"the first leaf that differs: expected {_show(expected)}, found {_show(found)}")
    leaves = [_from_host(leaf, arrays.get(str(i))) for i, leaf in enumerate(jax.tree.leaves(template))]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def flush(path: Path) -> None:
    """Forces a file, or the names in a folder, to the disk itself, so that a power cut does not undo it."""
    if os.name != "posix":  # elsewhere a folder cannot be opened; the digest finds what a power cut spoils
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some network file systems cannot flush a folder
            raise
    finally:
        os.close(descriptor)


def _from_host(like: Any, array: np.ndarray | None) -> Any:
    if array is None:  # of size 0
        return jnp.zeros(like.shape, like.dtype)
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.array(array), impl=_key_impl(like))
    on_device = jnp.array(array)
    return on_device if on_device.dtype == array.dtype else array  # without x64, JAX narrows 64-bit NumPy leaves


def _digest(arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> str:
    """Returns a digest of the description (but the digest in it) and of the type, shape and bytes of each array."""
    described = {name: value for name, value in description.items() if name != "digest"}
    digest = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=32)
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _key_impl(leaf: Any) -> str:
    names = []
    jax.eval_shape(lambda key: names.append(str(jax.random.key_impl(key))), leaf)  # takes ShapeDtypeStructs too
    return names[0]


def _show(row: list[Any] | None) -> str:
    if row is None:
        return "nothing"
    path, dtype, shape = row
    return f"{path or 'the state'} {dtype}[{','.join(map(str, shape))}]"


def _orbax() -> tuple[Any, Any]:
    import orbax.checkpoint  # here, because `import jaxdl.training` should not pay for it

    return orbax.checkpoint, orbax.checkpoint.Checkpointer(orbax.checkpoint.PyTreeCheckpointHandler())
