"""Where each array of a training state lies on a mesh: data parallel, fully sharded, tensor parallel, or together."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdl.training import TrainState

Spec = tuple[str | None, ...]  # for each axis of an array, the mesh axis it is split over


@dataclass(frozen=True)
class ShardingRules:
    """Data parallel by default: the batch split, everything else replicated.

        ShardingRules()                                                   # data parallel
        ShardingRules(fully_sharded="data")                               # parameters and optimiser state split too
        ShardingRules(params={"Dense_0/kernel": (None, "model")})         # tensor parallel, by parameter path
        ShardingRules(logical={"mlp": "model"}, fully_sharded="data")     # by Linen's logical axes, and fully sharded

    Optimiser state follows its parameter. The collection `carry` is split like the batch; the rest of the model state
    is replicated.

    Args:
      batch: the mesh axes that the batch is split over.
      params: from a regular expression, searched in a parameter's path such as `Dense_0/kernel`, to the mesh axis for
        each axis of the array; the first that matches counts.
      logical: from a logical axis name (of `nn.with_logical_partitioning`) to a mesh axis; names not listed are
        replicated.
      fully_sharded: a mesh axis over which each parameter is split as well, along the largest axis that it divides and
        no rule has taken (Rajbhandari et al., 2020, "ZeRO", stage 3). A parameter with no such axis stays whole.
    """

    batch: tuple[str, ...] = ("data",)
    params: Mapping[str, Spec] = field(default_factory=dict)
    logical: Mapping[str, str] = field(default_factory=dict)
    fully_sharded: str | None = None

    def check(self, mesh: Mesh) -> None:
        """Makes sure that the mesh has every axis that is named.

        Raises:
          ValueError: listing those that it has not.
        """
        named = [*self.batch, *self.logical.values(), *(axis for spec in self.params.values() for axis in spec)]
        unknown = sorted({axis for axis in [*named, self.fully_sharded] if axis is not None} - set(mesh.axis_names))
        if unknown:
            raise ValueError(f"rules: the mesh has the axes {list(mesh.axis_names)}, not {unknown}")

    def shardings(self, state: TrainState, mesh: Mesh) -> TrainState:
        """The sharding of every leaf of a state.

        Args:
          state: of arrays, tracers or `jax.ShapeDtypeStruct`.
          mesh: has the axes that the rules name.

        Raises:
          ValueError: if a rule matches no parameter (all such are listed), or does not fit one that it matches.
        """
        specs, unused = {}, {*self.params, *self.logical}
        logical = jax.tree.leaves(nn.get_partition_spec(state.params), is_leaf=lambda x: isinstance(x, PartitionSpec))
        for (path, leaf), names in zip(jax.tree.leaves_with_path(state.params), logical, strict=True):
            spec, used = self._param_spec(_name(path), leaf.shape, tuple(names), mesh)
            specs[path] = (leaf.shape, spec)
            unused -= used
        if unused:
            raise ValueError(f"rules: nothing matches {sorted(unused)}; the parameters are {list(map(_name, specs))}")

        def of_leaf(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
            if path[:2] == _CARRY:
                spec = PartitionSpec(self.batch)
            else:  # a parameter, or what the optimiser keeps for one: its path ends in the parameter's
                matches = (specs.get(path[i:]) for i in range(len(path)))
                spec = next((spec for shape, spec in filter(None, matches) if shape == leaf.shape), PartitionSpec())
            return NamedSharding(mesh, spec)

        return jax.tree.map_with_path(of_leaf, state)

    def _param_spec(
        self, name: str, shape: tuple[int, ...], logical: tuple[str | None, ...], mesh: Mesh
    ) -> tuple[PartitionSpec, set[str]]:
        """The spec of a parameter, and the rules it comes from."""
        pattern = next((pattern for pattern in self.params if re.search(pattern, name)), None)
        if pattern is not None:
            used, axes = {pattern}, self.params[pattern]
        else:
            used = {axis for axis in logical if axis is not None and axis in self.logical}
            axes = tuple(self.logical.get(axis) if axis is not None else None for axis in logical)
        if len(axes) > len(shape):
            raise ValueError(f"rules: {pattern!r} gives {len(axes)} axes, but {name} has shape {list(shape)}")
        axes = [*axes, *[None] * (len(shape) - len(axes))]
        for i, axis in enumerate(axes):
            if axis is not None and shape[i] % mesh.shape[axis]:
                raise ValueError(
                    f"rules: axis {i} of {name} {list(shape)} does not divide over {axis!r} of size {mesh.shape[axis]}"
                )
        if self.fully_sharded is not None and self.fully_sharded not in axes:
            size = mesh.shape[self.fully_sharded]
            free = [i for i, axis in enumerate(axes) if axis is None and shape[i] and shape[i] % size == 0]
            if free:
                axes[max(free, key=lambda i: shape[i])] = self.fully_sharded
        return PartitionSpec(*axes), used


_CARRY = (jax.tree_util.GetAttrKey("model_state"), jax.tree_util.DictKey("carry"))


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
