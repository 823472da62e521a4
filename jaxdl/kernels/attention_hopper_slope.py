"""What the two backward kernels of attention on Hopper share: their inputs, a tile's gradients, the ring of copies.

With x the products of queries and keys, and for each query its residual (the logarithm of the sum of its exponentials)
and its row sum (of output times gradient, less the residual's gradient), a tile of queries and keys has

    weights = exp(scores(x) - residual)
    d_weights = d_output @ value.T
    d_scores = weights * (d_weights - row_sum)

which the first kernel multiplies by the keys, and the second, transposed, by the queries. The products x and d_weights
are started together, so that the exponentials are computed while the tensor cores are at the second.

The file imports Mosaic GPU; `jaxdl.kernels` imports it when a kernel is asked for.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxdl.kernels import mosaic
from jaxdl.kernels.attention_case import Form

LOG2_E = math.log2(math.e)
WARPGROUPS = 2  # that compute; a third copies
HIDDEN = -1e18  # a capped score whose weight is 0 and whose square is finite


class Inputs(NamedTuple):
    """A kernel's arrays, or the references to them inside; lengths are whole tiles. None where not given."""

    query: Any  # [batch, q_len, heads, depth]
    key: Any  # [batch, kv_len, kv_heads, depth]
    value: Any  # [batch, kv_len, kv_heads, v_depth]
    d_output: Any  # [batch, q_len, heads, v_depth]
    residual: Any  # float32 [batch, heads, q_len], to the base 2; inf where a query sees nothing: its weights are 0
    row_sums: Any  # float32 [batch, heads, q_len]
    query_lengths: Any = None  # int32 [batch]
    key_lengths: Any = None  # int32 [batch]
    query_segments: Any = None  # int32 [batch, q_len]
    key_segments: Any = None  # int32 [batch, kv_len]

    def lengths(self, example: Any) -> dict[str, Any]:
        """An example's lengths, by the names that `attention_hopper_tiles` gives them."""
        arrays = {"query_length": self.query_lengths, "key_length": self.key_lengths}
        return {name: None if x is None else x[example] for name, x in arrays.items()}


class Tile(NamedTuple):
    """What belongs to a tile besides its products, each read when it is needed: registers are short.

    Those of queries are broadcast to the tile.
    """

    residual: Callable[[], jax.Array]
    row_sums: Callable[[], jax.Array]
    seen: Callable[[], jax.Array | None]  # which scores count; None: all


def tile_gradients(
    form: Form,
    tile: Tile,
    x_factors: tuple[Any, Any],
    d_weight_factors: tuple[Any, Any] | None,
    in_turn: bool = False,
) -> tuple[jax.Array, jax.Array | None]:
    """The weights of a tile and the gradients of its `scale * x`, ready to be multiplied again.

    Args:
      form: of the whole attention.
      tile: what belongs to it.
      x_factors: references a, b in shared memory; x is `a @ b.T`.
      d_weight_factors: those of d_weights; None if no gradients are wanted.
      in_turn: start the second product after the exponentials: slower, with half of the registers for products.
    """
    if in_turn or d_weight_factors is None:
        weights, slope = _softmax(form, tile, _product(*x_factors))
        rounded = weights.astype(form.dtype)
        if d_weight_factors is None:
            return rounded, None
        weights = weights if slope is None else weights * slope
        return rounded, (weights * _product(*d_weight_factors, start=-tile.row_sums())).astype(form.dtype)

    def multiply(*sums: Any) -> tuple[jax.Array, jax.Array]:
        for total, (a, b) in zip(sums, (x_factors, d_weight_factors), strict=True):
            plgpu.wgmma(total, a, b.transpose((1, 0)))
        residual = tile.residual()  # while the tensor cores work
        x = plgpu.wgmma_accumulator_load(sums[0], wait_n=1)
        weights, slope = _softmax(form, tile._replace(residual=lambda: residual), x)
        rounded = weights.astype(form.dtype)
        weights = weights if slope is None else weights * slope
        row_sums = tile.row_sums()
        d_scores = weights * (plgpu.wgmma_accumulator_load(sums[1], wait_n=0) - row_sums)
        return rounded, d_scores.astype(form.dtype)

    shape = x_factors[0].shape[0], x_factors[1].shape[0]
    return pl.run_scoped(multiply, *[plgpu.WGMMAAccumulatorRef(shape, jnp.float32)] * 2)


def _softmax(form: Form, tile: Tile, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """The weights, and the derivative of the scores by `scale * x`; None if that is 1.

    What does not count is hidden before the residual is read: that takes the fewest registers.
    """
    if form.softcap is None:
        scores = _hide(tile, x * float(form.scale * LOG2_E), -jnp.inf)
        return jnp.exp2(scores - tile.residual()), None
    capped = _hide(tile, jnp.tanh(x * float(form.scale / form.softcap)), HIDDEN)
    return jnp.exp2(capped * float(form.softcap * LOG2_E) - tile.residual()), 1 - capped * capped


def _hide(tile: Tile, scores: jax.Array, hidden: float) -> jax.Array:
    seen = tile.seen()
    return scores if seen is None else jnp.where(seen, scores, hidden)


def _product(a: Any, b: Any, start: jax.Array | None = None) -> Any:
    """`start + a @ b.T` of references in shared memory."""

    def multiply(total: Any) -> None:
        plgpu.wgmma(total, a, b.transpose((1, 0)))

    def multiplied(total: Any) -> jax.Array:
        multiply(total)
        return plgpu.wgmma_accumulator_load(total, wait_n=0)

    if start is not None and not mosaic.interpreting():  # it has no wgmma that adds to a value
        return pl.run_state(multiply)(plgpu.WGMMAAccumulatorRef.init(start))
    product = pl.run_scoped(multiplied, plgpu.WGMMAAccumulatorRef((a.shape[0], b.shape[0]), jnp.float32))
    return product if start is None else start + product


def accumulate(sums: Any, factors: Any) -> Any:
    """Adds a product `a @ b` to each sum that is not None, all in flight at once; see `mosaic.wgmma_into`."""
    pairs = [(total, ab) for total, ab in zip(sums, factors, strict=True) if total is not None]
    if mosaic.interpreting():
        results = [mosaic.wgmma_into(total, a, b) for total, (a, b) in pairs]
    else:

        def multiply(refs: Any) -> None:
            for ref, (_, (a, b)) in zip(refs, pairs, strict=True):
                plgpu.wgmma(ref, a, b)

        results = pl.run_state(multiply)(tuple(plgpu.WGMMAAccumulatorRef.init(total) for total, _ in pairs))
    rest = iter(results)
    return tuple(None if total is None else next(rest) for total in sums)


def zeros(rows: int, columns: int) -> jax.Array:
    """The start of a sum, in wgmma's registers."""
    return mosaic.in_layout(jnp.zeros((rows, columns), jnp.float32), plgpu.Layout.WGMMA)


def blocks(count: int, rows: int, columns: int, dtype: Any) -> Any:
    """Shared memory for blocks that wgmma takes."""
    return plgpu.SMEM((count, rows, columns), dtype, transforms=mosaic.tile_transforms(dtype, columns))


class Ring(NamedTuple):
    """Places in shared memory that one warpgroup fills and two others read, in turn."""

    places: int
    filled: Any  # barriers, one a place: the copies have arrived
    emptied: Any  # barriers, one a place: both readers are done

    def place(self, step: Any) -> Any:
        """Where the blocks of a step are."""
        return lax.rem(step, jnp.int32(self.places))

    def await_filled(self, step: Any) -> Any:
        """The place of a step, once its blocks are there."""
        place = self.place(step)
        plgpu.barrier_wait(self.filled.at[place])
        return afresh(place)

    def await_empty(self, step: Any) -> Any:
        """The place of a step, once it is free."""
        place = self.place(step)
        pl.when(step >= self.places)(lambda: plgpu.barrier_wait(self.emptied.at[place]))
        return place

    def drain(self, steps: Any) -> None:
        """Waits for the last readers, in the interpreter only: it wants every arrival to be waited for."""
        if mosaic.interpreting():
            first = jnp.maximum(steps - self.places, 0)
            lax.fori_loop(first, steps, lambda step, _: plgpu.barrier_wait(self.emptied.at[self.place(step)]), None)


def afresh(index: Any) -> jax.Array:
    """The index, with what is computed from it computed again in each turn of a loop.

    The compiler would move what does not change out of the loop: here the addresses of blocks for every instruction of
    wgmma, which take more registers than there are.
    """
    return lax.optimization_barrier(jnp.asarray(index, jnp.int32))
