"""What tells a transformer where a token stands: added, learned, rotated, or as a bias on the scores (D2L 11.6)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def sinusoidal_positions(positions: jax.Array | int, features: int, base: float = 10_000.0) -> jax.Array:
    """Sines and cosines of rising wavelengths (Vaswani et al., 2017, section 3.5).

    `P[i, 2j] = sin(i / base^(2j / features))`, `P[i, 2j + 1] = cos(i / base^(2j / features))`. The code of `i + d` is
    that of `i` rotated, in each pair, by an angle that depends on d alone.

    Args:
      positions: integers `[...]`, or a number n for 0 to n - 1.
      features: even.
      base: the longest wavelength is `2 pi base`.

    Returns:
      float32 `[..., features]`, float64 under x64.

    Raises:
      ValueError: if `features` is odd or below 2.
    """
    sine, cosine = _waves(positions, features, base)
    return jnp.stack([sine, cosine], -1).reshape(*sine.shape[:-1], features)


def rotary_positions(x: jax.Array, positions: jax.Array | None = None, base: float = 10_000.0) -> jax.Array:
    """Rotates pairs of features by an angle that grows with the position (Su et al., 2021, "RoFormer").

    Of queries and keys rotated so, the inner product depends on their distance alone. The pair of feature j is
    `j + depth / 2` (GPT-NeoX, Llama; the paper pairs neighbours, which is a permutation of the features).

    Args:
      x: queries or keys, floating `[batch, length, heads, depth]`; the depth is even.
      positions: integer `[batch, length]` or `[length]`; the default counts from 0.
      base: the longest wavelength is `2 pi base`.

    Returns:
      The shape and dtype of `x`; the angles are float32 at least.

    Raises:
      ValueError: if the shapes do not fit or the depth is odd.
    """
    if x.ndim != 4 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x: expected floating [batch, length, heads, depth], got {x.dtype}{list(x.shape)}")
    if positions is None:
        positions = jnp.arange(x.shape[1])
    if positions.shape not in (x.shape[:2], x.shape[1:2]):
        raise ValueError(
            f"positions: expected {list(x.shape[:2])} or {list(x.shape[1:2])}, got {list(positions.shape)}"
        )
    sine, cosine = (wave[..., None, :] for wave in _waves(positions, x.shape[-1], base))
    if sine.ndim == 3:
        sine, cosine = sine[None], cosine[None]
    first, second = jnp.split(x.astype(jnp.promote_types(x.dtype, jnp.float32)), 2, -1)
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1).astype(x.dtype)


def relative_position_bias(q_len: int, kv_len: int, num_heads: int) -> jax.Array:
    """A penalty on the scores that grows with the distance (Press et al., 2022, "ALiBi"); nothing is learned.

    Head h of n has the slope `2^(-8 (h + 1) / n)`. The last query stands beside the last key, as in `attention`.

    Args:
      q_len: number of queries.
      kv_len: number of keys.
      num_heads: n.

    Returns:
      float `[1, num_heads, q_len, kv_len]`, `-slope |i - j|`: the `bias` of `jaxdl.kernels.attention`.

    Raises:
      ValueError: if a length is negative or `num_heads` below 1.
    """
    if min(q_len, kv_len) < 0 or num_heads < 1:
        raise ValueError(
            f"q_len, kv_len, num_heads: expected lengths and at least one head, got {q_len}, {kv_len}, {num_heads}"
        )
    slopes = 2.0 ** (-8 * jnp.arange(1, num_heads + 1) / num_heads)
    distance = jnp.abs(jnp.arange(q_len)[:, None] + kv_len - q_len - jnp.arange(kv_len)[None])
    return -slopes[None, :, None, None] * distance[None, None]


class LearnedPositions(nn.Module):
    """One vector for each position, added to the tokens (BERT, GPT-2, ViT).

    Args:
      max_length: how many positions there are.
      embedding_init: initialiser of the table.

    Raises:
      ValueError: at construction, if `max_length` is below 1; when called, if `x` is longer.
    """

    max_length: int
    embedding_init: Any = nn.initializers.normal(0.02)

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise ValueError(f"max_length: expected at least 1, got {self.max_length}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, positions: jax.Array | None = None) -> jax.Array:
        """Adds to `[batch, length, features]` the vectors of `positions` `[batch, length]`, by default 0, 1, ..."""
        if x.ndim != 3 or x.shape[1] > self.max_length:
            raise ValueError(f"x: expected [batch, at most {self.max_length}, features], got {list(x.shape)}")
        table = self.param("embedding", self.embedding_init, (self.max_length, x.shape[-1]), jnp.float32)
        if positions is None:
            return x + table[None, : x.shape[1]].astype(x.dtype)
        if positions.shape != x.shape[:2] or not jnp.issubdtype(positions.dtype, jnp.integer):
            got = f"{positions.dtype}{list(positions.shape)}"
            raise ValueError(f"positions: expected integer {list(x.shape[:2])}, got {got}")
        known = (positions >= 0) & (positions < self.max_length)
        added = jnp.where(known[..., None], table[positions], jnp.nan)
        return x + added.astype(x.dtype)


def _waves(positions: jax.Array | int, features: int, base: float) -> tuple[jax.Array, jax.Array]:
    """Sines and cosines `[..., features / 2]`."""
    if features < 2 or features % 2:
        raise ValueError(f"features: expected an even number of them, got {features}")
    positions = jnp.arange(positions) if isinstance(positions, int) else positions
    angles = positions[..., None] * base ** (-jnp.arange(0, features, 2) / features).reshape(
        (1,) * positions.ndim + (-1,)
    )
    return jnp.sin(angles), jnp.cos(angles)
