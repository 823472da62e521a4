"""Multi-head attention as a layer (Vaswani et al., 2017, section 3.2.2; D2L 11.5), with grouped queries and a cache."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.core import Tracer

from jaxdl.kernels import attention, attention_weights
from jaxdl.nn.dense import Dense
from jaxdl.nn.positions import rotary_positions


class KVCache(NamedTuple):
    """The keys and values of the tokens so far; a new token takes the next slot, the same in all examples."""

    key: jax.Array  # [batch, kv_heads, size, head_size]
    value: jax.Array  # of the same shape
    end: jax.Array  # how many slots are taken, int32 []

    @classmethod
    def empty(cls, batch_size: int, size: int, kv_heads: int, head_size: int, dtype: Any = jnp.float32) -> "KVCache":
        """A cache for `size` tokens."""
        zeros = jnp.zeros((batch_size, kv_heads, size, head_size), dtype)
        return cls(zeros, zeros, jnp.zeros((), jnp.int32))

    def resized(self, size: int) -> "KVCache":
        """The first `size` slots, or all and empty ones behind. One that loses tokens has room for none any more."""
        key, value = (resize(x, size, axis=2) for x in (self.key, self.value))
        return KVCache(key, value, jnp.where(self.end <= size, self.end, jnp.iinfo(jnp.int32).max // 2))


def resize(x: jax.Array, size: int, *, axis: int, fill: Any = 0) -> jax.Array:
    """The first `size` elements of an axis, or all with `fill` behind."""
    kept = jax.lax.slice_in_dim(x, 0, min(size, x.shape[axis]), axis=axis)
    widths = [(0, size - kept.shape[axis] if i == axis else 0) for i in range(x.ndim)]
    return jnp.pad(kept, widths, constant_values=fill)


class MultiHeadAttention(nn.Module):
    """Projects to several heads, attends in each, and projects their outputs together.

    Args:
      num_heads: of the queries.
      num_kv_heads: of keys and values; it divides `num_heads` (Ainslie et al., 2023, "GQA"; 1 is multi-query). The
        default is as many.
      head_size: features of a head; the default is `features / num_heads`.
      dropout_rate: on the attention weights, in training.
      use_bias: whether the four projections have biases (PyTorch: yes; the book: no).
      rotary: turns queries and keys by their positions, see `rotary_positions`.
      kernel_init: initialiser of the four projections.
      dtype: the compute type.
      implementation: of `jaxdl.kernels.attention`.
      fused: makes queries, keys and values in one product, `query_key_value`, whose kernel is those of the three side
        by side (PyTorch's `in_proj_weight`, transposed). For attention of a sequence to itself.

    Raises:
      ValueError: at construction, if a number is below 1 or `num_kv_heads` does not divide `num_heads`; when called, if
        `num_heads` does not divide the features and no `head_size` is given, or the shapes do not fit.
    """

    num_heads: int
    num_kv_heads: int | None = None
    head_size: int | None = None
    dropout_rate: float = 0.0
    use_bias: bool = False
    rotary: bool = False
    kernel_init: Any = nn.initializers.xavier_uniform()
    dtype: Any = None
    implementation: str | None = None
    fused: bool = False

    def __post_init__(self) -> None:
        for name in ("num_heads", "num_kv_heads", "head_size"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise ValueError(f"{name}: expected at least 1, got {number}")
        if self.num_kv_heads and self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads: expected a divisor of {self.num_heads} heads, got {self.num_kv_heads}")
        if not 0 <= self.dropout_rate < 1:
            raise ValueError(f"dropout_rate: expected a number in [0, 1), got {self.dropout_rate}")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        query: jax.Array,
        memory: jax.Array | None = None,
        bias: jax.Array | None = None,
        mask: jax.Array | None = None,
        *,
        is_causal: bool = False,
        memory_lengths: jax.Array | None = None,
        positions: jax.Array | None = None,
        cache: KVCache | None = None,
        train: bool = False,
    ) -> Any:
        """Attends from `query` to `memory`, or to itself.

        Args:
          query: floating `[batch, q_len, features]`.
          memory: `[batch, kv_len, memory_features]`, keys and values in one; None is `query`.
          bias: as for `jaxdl.kernels.attention`; so is `mask`.
          mask: boolean, broadcastable to `[batch, num_heads, q_len, kv_len]` with four axes.
          is_causal: a token sees itself and what is before it.
          memory_lengths: integer `[batch]`: keys from there on are padding.
          positions: integer `[batch, q_len]`: where the tokens stand, for `rotary`; None is 0, 1, ... or, with a cache,
            its slots.
          cache: to decode with: keys and values are written into its next slots, and each token sees the slots up to
            its own, instead of `memory`. A `mask`, whose `kv_len` is the size of the cache, hides slots with padding.
            No room for all the tokens of a call is an error where `cache.end` is known; in compiled code they all get
            NaN.
          train: whether dropout is on.

        Returns:
          `[batch, q_len, features]`; with a `cache` also the new one. With the collection `intermediates` mutable the
          weights `[batch, heads, q_len, kv_len]` are sown there as `attention_weights`.
        """
        if query.ndim != 3 or (memory is not None and (memory.ndim != 3 or memory.shape[0] != query.shape[0])):
            shapes = f"{list(query.shape)} and {None if memory is None else list(memory.shape)}"
            raise ValueError(f"query, memory: expected [batch, length, features] of one batch, got {shapes}")
        features = query.shape[-1]
        if self.head_size is None and features % self.num_heads:
            raise ValueError(f"num_heads: expected a divisor of {features} features, got {self.num_heads}")
        if positions is not None and positions.shape != query.shape[:2]:
            raise ValueError(f"positions: expected {list(query.shape[:2])}, got {list(positions.shape)}")
        kv_heads, size = self.num_kv_heads or self.num_heads, self.head_size or features // self.num_heads

        source = query if memory is None else memory
        if self.fused:
            if memory is not None:
                raise ValueError("memory: fused projections belong to attention of a sequence to itself")
            heads = self._heads(query, self.num_heads + 2 * kv_heads, size, "query_key_value")
            q, k, v = jnp.split(heads, (self.num_heads, self.num_heads + kv_heads), axis=2)
        else:
            q = self._heads(query, self.num_heads, size, "query")
            k, v = (self._heads(source, kv_heads, size, name) for name in ("key", "value"))
        if self.rotary:
            if memory is not None:
                raise ValueError("memory: rotary positions belong to attention of a sequence to itself")
            if positions is None and cache is not None:
                positions = cache.end + jnp.arange(query.shape[1])
            q, k = rotary_positions(q, positions), rotary_positions(k, positions)
        if cache is not None:
            if memory is not None:
                raise ValueError("cache: expected no memory with it")
            if mask is not None:
                _check_mask(mask, (*query.shape[:1], self.num_heads, query.shape[1], cache.key.shape[2]))
            cache = _append(cache, k, v)
            k, v, is_causal = cache.key.swapaxes(1, 2), cache.value.swapaxes(1, 2), False
            if query.shape[1] == 1:  # it sees all so far, which a kernel for one query wants to know as a length
                taken = jnp.broadcast_to(cache.end, query.shape[:1])
                memory_lengths = taken if memory_lengths is None else jnp.minimum(memory_lengths, taken)
            else:
                seen = _seen(cache, query.shape[1])
                mask = seen if mask is None else seen & mask
        options: dict[str, Any] = {"is_causal": is_causal, "key_value_seq_lengths": memory_lengths}
        if self.is_mutable_collection("intermediates"):
            self.sow("intermediates", "attention_weights", attention_weights(q, k, bias, mask, **options))
        if train and self.dropout_rate:
            options |= {"dropout_rate": self.dropout_rate, "dropout_key": self.make_rng("dropout")}
        pooled: Any = attention(q, k, v, bias, mask, **options, implementation=self.implementation)
        pooled = pooled.reshape(*pooled.shape[:2], self.num_heads * size)
        output = self._dense(features, "out")(pooled)
        if cache is None:
            return output
        return jnp.where(cache.end <= k.shape[1], output, jnp.nan), cache

    def _heads(self, x: jax.Array, heads: int, size: int, name: str) -> jax.Array:
        return self._dense(heads * size, name)(x).reshape(*x.shape[:2], heads, size)

    def _dense(self, size: int, name: str) -> Dense:
        return Dense(size, use_bias=self.use_bias, kernel_init=self.kernel_init, dtype=self.dtype, name=name)


def _check_mask(mask: jax.Array, shape: tuple[int, ...]) -> None:
    """Before it meets the mask of the slots seen, which has four axes and would broadcast with fewer."""
    fits = mask.ndim == 4 and all(n in (1, m) for n, m in zip(mask.shape, shape, strict=True))
    if not fits or mask.dtype != bool:
        raise ValueError(f"mask: expected boolean {list(shape)} or 1 for an axis, got {mask.dtype}{list(mask.shape)}")


def _append(cache: KVCache, key: jax.Array, value: jax.Array) -> KVCache:
    """The cache with keys and values `[batch, length, kv_heads, head_size]`."""
    batch, length, heads, head_size = key.shape
    size = cache.key.shape[2]
    if cache.key.shape != (batch, heads, size, head_size) or length > size:
        expected = f"[{batch}, {heads}, at least {length}, {head_size}]"
        raise ValueError(f"cache: expected {expected} for these tokens, got {list(cache.key.shape)}")

    if cache.key.dtype != key.dtype or cache.value.dtype != key.dtype or jnp.shape(cache.end):
        got = f"{cache.key.dtype}, {cache.value.dtype} and {list(jnp.shape(cache.end))}"
        raise ValueError(f"cache: expected {key.dtype}, the type of these tokens' keys, and an end [], got {got}")
    if not isinstance(cache.end, Tracer) and int(cache.end) + length > size:
        raise ValueError(f"cache: expected room for {length} tokens, got {size} slots with {int(cache.end)} taken")

    def write(old: jax.Array, x: jax.Array) -> jax.Array:
        """In place, being one slot for all; a slot of each would scatter."""
        return jax.lax.dynamic_update_slice_in_dim(old, x.swapaxes(1, 2), cache.end, axis=2)

    return KVCache(write(cache.key, key), write(cache.value, value), cache.end + length)


def _seen(cache: KVCache, length: int) -> jax.Array:
    """Which slots the last tokens of a cache see: their own and those before, boolean `[1, 1, length, size]`."""
    own = cache.end - length + jnp.arange(length)
    return jnp.arange(cache.key.shape[2]).reshape(1, 1, 1, -1) <= own.reshape(1, 1, -1, 1)
