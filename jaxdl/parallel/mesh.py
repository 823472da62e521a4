"""Meshes: devices laid out along named axes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh


def make_mesh(axes: Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """Lays devices out along named axes.

    Args:
      axes: size of each axis by name, such as `{"data": 4, "model": 2}`; one size may be -1, for what is left.
      devices: default all; the first `product of the sizes` of them are used.

    Returns:
      A mesh with automatic axes: XLA decides how intermediate values are laid out.

    Raises:
      ValueError: if a size is neither -1 nor positive, or the mesh is larger than the devices.

    >>> make_mesh({"data": 1}).shape["data"]
    1
    """
    available = len(jax.devices() if devices is None else devices)
    sizes = dict(axes)
    if not sizes or any(size < 1 and size != -1 for size in sizes.values()) or list(sizes.values()).count(-1) > 1:
        raise ValueError(f"axes: expected sizes of at least 1 by name, one of them perhaps -1, got {sizes}")
    known = math.prod(size for size in sizes.values() if size != -1)
    sizes = {name: max(available // known, 1) if size == -1 else size for name, size in sizes.items()}
    needed = math.prod(sizes.values())
    if needed > available:
        raise ValueError(f"axes: a mesh of {sizes} needs {needed} devices, there are {available}")
    axis_types = (AxisType.Auto,) * len(sizes)
    if devices is None:  # the order of neighbours in the machine's network is JAX's to choose
        return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=axis_types)
    return Mesh(np.asarray(devices[:needed]).reshape(*sizes.values()), tuple(sizes), axis_types=axis_types)


def check_divisible(batch: Mapping[str, Any], num_parts: int, *, axis: int) -> None:
    """Makes sure that every array of a batch splits evenly.

    Raises:
      ValueError: naming the first that does not.
    """
    for name, x in batch.items():
        if np.ndim(x) <= axis or x.shape[axis] % num_parts:
            raise ValueError(
                f"batch[{name!r}]: axis {axis} of shape {list(np.shape(x))} does not divide over {num_parts} devices"
            )
