"""A deep stack of equal blocks, by a scan over stacked parameters, and what its backward pass keeps in memory.

Chen et al., 2016, "Training deep nets with sublinear memory cost": of N blocks keep the input of every K-th and
compute the rest again.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
from flax import linen as nn
from flax.core import meta

Policy = Callable[..., Any]  # from `jax.checkpoint_policies`
REMAT_CHOICES = ("none", "full", "sqrt")


class RepeatedBlocks(nn.Module):
    """Applies `num_blocks` blocks of one kind, each with its own parameters, one after the other.

    The blocks run in a scan, so compile time does not grow with depth. Every variable is stored once, stacked, under
    `blocks`: `params["blocks"][...]` is what the block alone would have, with a leading axis `[num_blocks]` (named
    `layers` where the parameters carry logical axis names). Random numbers (dropout) differ from block to block.

    `remat` chooses what the forward pass keeps for the backward pass, out of N = `num_blocks`. It changes memory and
    time and nothing else: variables, initial values, outputs, gradients and dropout masks are the same.

    | `remat` | kept | computed again |
    |---|---|---|
    | `"none"` | all activations inside all blocks | nothing |
    | `"full"` | the input of every block, activations inside one block at a time | every block |
    | `"sqrt"` | the input of every group of about sqrt(N) blocks, activations inside one group | every block |
    | a policy | the input of every block and what the policy names | the rest |

    All but "none" pay at most one more forward pass, a third more arithmetic. In units of a block's input, with A of
    activations inside a block, "full" keeps N + A and "sqrt" sqrt(N) (1 + A): "sqrt" is the smaller of the two when N
    is much larger than A squared. On a CPU, XLA undoes remat in an unrolled stack; in a scan like this one it saves.

    Args:
      block: the block with its hyperparameters: a Linen module called as `block(x, *args, train=train, **kwargs)`,
        which returns an array of the shape and dtype of `x`. It is a template and holds no variables of its own.
      num_blocks: N.
      remat: as above. "sqrt" makes groups as large as the divisor of N that is nearest to sqrt(N), the smaller of two;
        a prime N gives groups of one block, which is "full". A policy is one of `jax.checkpoint_policies`, such
        as `save_only_these_names("attention")` with `checkpoint_name(x, "attention")` in the block.

    Raises:
      ValueError: at construction, if `num_blocks` is below 1 or `remat` is unknown; when called, if a block changes the
        shape or dtype of `x`, or the variables are those of another number of blocks.

    Note: data-dependent initialisers would see the input of the first block in every block, and
    `capture_intermediates` does not look inside (`sow` works: what the blocks sow comes back stacked).

    >>> from flax import linen
    >>> class Block(linen.Module):
    ...     @linen.compact
    ...     def __call__(self, x, train=False):
    ...         return x + linen.Dense(x.shape[-1])(x)
    >>> model = RepeatedBlocks(Block(), num_blocks=6, remat="sqrt")
    >>> variables = model.init(jax.random.key(0), jax.numpy.ones((2, 3)))
    >>> variables["params"]["blocks"]["Dense_0"]["kernel"].shape
    (6, 3, 3)
    """

    block: nn.Module
    num_blocks: int
    remat: str | Policy = "none"

    def __post_init__(self) -> None:
        if self.num_blocks < 1:
            raise ValueError(f"num_blocks: expected at least 1, got {self.num_blocks}")
        if not callable(self.remat) and self.remat not in REMAT_CHOICES:
            choices = ", ".join(map(repr, REMAT_CHOICES))
            raise ValueError(f"remat: expected {choices} or a jax.checkpoint_policies function, got {self.remat!r}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, *args: Any, train: bool = False, **kwargs: Any) -> jax.Array:
        """Maps `x` through all blocks.

        Args:
          x: what the first block takes, `[batch, ...]`.
          args: further arguments, the same for every block, such as an attention mask.
          train: passed on to the blocks.
          kwargs: further arguments by name, such as `is_causal=True` for a `TransformerBlock`.

        Returns:
          An array of the shape and dtype of `x`.
        """
        assert self.scope is not None
        block = self.block.clone(parent=None, name=None)
        keys = {name: jax.random.split(self.make_rng(name), self.num_blocks) for name in self.scope.rngs}
        stored = {name: tree["blocks"] for name, tree in self.variables.items() if "blocks" in tree}
        initializing = self.is_initializing() and not stored
        if initializing:
            stored = _name_axis(jax.vmap(lambda keys: block.init(keys, x, *args, train=train, **kwargs))(keys))
            for collection, tree in stored.items():
                self.put_variable(collection, "blocks", tree)
        self._check_stacked(stored)
        mutable = self.scope.mutable or []  # not False, for which `apply` returns no updates

        def one_block(x: jax.Array, stacked: Any) -> tuple[jax.Array, Any]:
            variables, keys = stacked
            y, updates = block.apply(variables, x, *args, train=train, rngs=keys, mutable=mutable, **kwargs)
            if _describe(y) != _describe(x):
                raise ValueError(f"block: expected it to return {_describe(x)} like its input, got {_describe(y)}")
            return y, updates

        x, updates = _scan(one_block, x, (_drop_axis_name(stored), keys), self.num_blocks, self.remat)
        if not initializing:
            for collection, tree in _name_axis(updates).items():
                self.put_variable(collection, "blocks", tree)
        return x

    def _check_stacked(self, stored: Mapping[str, Any]) -> None:
        for path, leaf in jax.tree_util.tree_leaves_with_path(stored):
            if leaf.shape[:1] != (self.num_blocks,):
                name = jax.tree_util.keystr(path, simple=True, separator="/")
                raise ValueError(f"{name}: expected a leading axis of {self.num_blocks} blocks, got {_describe(leaf)}")


Block = Callable[[jax.Array, Any], tuple[jax.Array, Any]]  # (x, its variables and keys) -> (x, updated variables)


def _scan(block: Block, x: jax.Array, stacked: Any, num_blocks: int, remat: str | Policy) -> tuple[jax.Array, Any]:
    """`jax.lax.scan(block, x, stacked)` that keeps for the backward pass what `remat` says."""
    checkpoint = partial(jax.checkpoint, prevent_cse=False)  # inside a scan nothing can be merged with anything
    if remat == "none":
        return jax.lax.scan(block, x, stacked, length=num_blocks)
    if remat != "sqrt":
        policy = remat if callable(remat) else None
        return jax.lax.scan(checkpoint(block, policy=policy), x, stacked, length=num_blocks)

    size = _group_size(num_blocks)
    num_groups = num_blocks // size

    @checkpoint
    def group(x: jax.Array, stacked: Any) -> tuple[jax.Array, Any]:
        return jax.lax.scan(block, x, stacked, length=size)

    groups = jax.tree.map(lambda a: a.reshape(num_groups, size, *a.shape[1:]), stacked)
    x, updates = jax.lax.scan(group, x, groups, length=num_groups)
    return x, jax.tree.map(lambda a: a.reshape(num_blocks, *a.shape[2:]), updates)


def _group_size(num_blocks: int) -> int:
    """The divisor nearest to the square root, the smaller of two."""
    divisors = [size for size in range(1, num_blocks + 1) if num_blocks % size == 0]
    return min(divisors, key=lambda size: abs(size - math.sqrt(num_blocks)))


def _name_axis(tree: Any) -> Any:
    """Tells Linen's partitioning metadata, where there is some, of the leading axis."""
    return meta.add_axis(tree, 0, {nn.PARTITION_NAME: "layers"})


def _drop_axis_name(tree: Any) -> Any:
    return meta.remove_axis(tree, 0, {nn.PARTITION_NAME: "layers"})


def _describe(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}" if hasattr(x, "shape") and hasattr(x, "dtype") else type(x).__name__
