"""Looking at a model without running it: parameter tables and layer shapes, by `eval_shape`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


class LayerShape(NamedTuple):
    """One call of a layer: its path in the model, its class, the shapes that went in and came out."""

    path: str
    kind: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


def layer_shapes(
    model: nn.Module, input_shape: Sequence[int], *, dtype: Any = jnp.float32, **kwargs: Any
) -> list[LayerShape]:
    """The input and output shape of each layer, in order of completion, the model itself last. Nothing is computed.

    Args:
      model: a Linen module that takes one array.
      input_shape: of that array, the batch axis included.
      dtype: of that array.
      kwargs: passed on to the model's call.
    """
    layers: list[LayerShape] = []

    def record(next_call: Any, args: Any, call_kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = next_call(*args, **call_kwargs)
        if context.method_name == "__call__" and args and hasattr(args[0], "shape") and hasattr(output, "shape"):
            module = context.module
            layers.append(LayerShape("/".join(module.path), type(module).__name__, args[0].shape, output.shape))
        return output

    def run(key: jax.Array, x: jax.Array) -> Any:
        with nn.intercept_methods(record):
            return model.init_with_output(key, x, **kwargs)[0]

    jax.eval_shape(run, jax.random.key(0), jax.ShapeDtypeStruct(tuple(input_shape), dtype))
    return layers


def parameter_count(variables: Mapping[str, Any]) -> int:
    """How many numbers the collection `params` holds; arrays or `eval_shape` results."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables["params"]))


def parameter_table(variables: Mapping[str, Any]) -> str:
    """A table of every variable: path, shape, dtype and how many numbers, with a total for each collection.

    Args:
      variables: from `model.init`, or `jax.eval_shape` of it.
    """
    lines = []
    for collection, tree in variables.items():
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        for path, leaf in leaves:
            name = jax.tree_util.keystr((jax.tree_util.DictKey(collection), *path), simple=True, separator="/")
            lines.append((name, str(list(leaf.shape)), str(leaf.dtype), f"{int(np.prod(leaf.shape)):,}"))
        lines.append((f"total {collection}", "", "", f"{sum(int(np.prod(leaf.shape)) for _, leaf in leaves):,}"))
    if not lines:
        return "no variables"
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {dtype:<{widths[2]}}  {count:>{widths[3]}}"
        for name, shape, dtype, count in lines
    )
