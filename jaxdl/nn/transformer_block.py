"""The block that transformers repeat (Vaswani et al., 2017, section 3.1; Xiong et al., 2020, for norms first)."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from jaxdl.nn.dropout import Dropout
from jaxdl.nn.feed_forward import FeedForward
from jaxdl.nn.layer_norm import LayerNorm
from jaxdl.nn.multi_head_attention import KVCache, MultiHeadAttention

# Which parameters are split over the mesh axis "model" in tensor parallel training, for `parallel.ShardingRules`:
# layers that lead into heads or hidden units by their outputs, those that lead back by their inputs, so that each
# attention and each position-wise network needs one sum over the devices (Shoeybi et al., 2019, "Megatron-LM",
# section 3).
TENSOR_PARALLEL = {
    r"(query|key|value|hidden|gate)/kernel$": (None, "model"),
    r"(attention|feed_forward)/out/kernel$": ("model", None),
}
# The same where `RepeatedBlocks` stacks the parameters of its blocks: every array has one axis more, the first.
STACKED_TENSOR_PARALLEL = {pattern: (None, *axes) for pattern, axes in TENSOR_PARALLEL.items()}


class TransformerBlock(nn.Module):
    """Attention to itself, with `cross_attention` also to a memory, and a position-wise network, each with a residual.

    `pre_norm` chooses where the norms stand. First, `x + dropout(f(norm(x)))`, gradients reach every layer undivided
    and deep stacks train without warm-up; the stack then wants one more norm at its end. Last,
    `norm(x + dropout(f(x)))`, is the original's and the book's.

    Args:
      num_heads: of the attention.
      hidden_size: of the position-wise network.
      pre_norm: as above.
      cross_attention: whether a memory is attended to, between the two.
      dropout_rate: of what is added, of the attention weights and of the hidden layer, in training.
      num_kv_heads: as in `MultiHeadAttention`; so are `use_bias` (of the attention), `rotary` and `implementation`.
      use_bias: as in `MultiHeadAttention`.
      rotary: as in `MultiHeadAttention`.
      activation: of the position-wise network; so is `gated`, as in `FeedForward`.
      gated: as in `FeedForward`.
      norm: makes a norm, such as `LayerNorm`, `RMSNorm` or `partial(LayerNorm, epsilon=1e-12)`.
      dtype: the compute type.
      implementation: as in `MultiHeadAttention`.

    Raises:
      ValueError: as `MultiHeadAttention` and `FeedForward`; when called, if there is a memory without
        `cross_attention`, or none with it.
    """

    num_heads: int
    hidden_size: int
    pre_norm: bool = True
    cross_attention: bool = False
    dropout_rate: float = 0.0
    num_kv_heads: int | None = None
    use_bias: bool = True
    rotary: bool = False
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu
    gated: bool = False
    norm: Callable[..., nn.Module] = LayerNorm
    dtype: Any = None
    implementation: str | None = None

    def __post_init__(self) -> None:
        options: Any = {"dropout_rate": self.dropout_rate, "parent": None}  # to fail here and not at the first call
        MultiHeadAttention(self.num_heads, self.num_kv_heads, **options)
        FeedForward(self.hidden_size, **options)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array | None = None,
        mask: jax.Array | None = None,
        *,
        is_causal: bool = False,
        lengths: jax.Array | None = None,
        memory_lengths: jax.Array | None = None,
        positions: jax.Array | None = None,
        cache: KVCache | None = None,
        train: bool = False,
    ) -> Any:
        """Maps `[batch, length, features]` to the same shape; with a `cache` also returns the new one.

        Args:
          x: floating `[batch, length, features]`.
          memory: `[batch, memory_length, memory_features]`, with `cross_attention`.
          mask: boolean, broadcastable to `[batch, num_heads, length, length]` with four axes; True may be seen.
          is_causal: a token sees itself and what is before it.
          lengths: integer `[batch]`: tokens from there on are padding, seen by nobody.
          memory_lengths: the same of the memory.
          positions: integer `[batch, length]`, where the tokens stand; see `MultiHeadAttention`.
          cache: of the attention to itself, to decode with; see `MultiHeadAttention`.
          train: whether dropout is on.
        """
        if (memory is not None) != self.cross_attention:
            expected = "one, with cross_attention" if self.cross_attention else "none without cross_attention"
            raise ValueError(f"memory: expected {expected}, got {None if memory is None else list(memory.shape)}")

        caches = []

        def attend(x: jax.Array) -> jax.Array:
            layer = self._attention("attention", rotary=self.rotary)
            options: dict[str, Any] = {"is_causal": is_causal, "memory_lengths": lengths, "positions": positions}
            output = layer(x, mask=mask, **options, cache=cache, train=train)
            if cache is None:
                return output
            caches.append(output[1])
            return output[0]

        def attend_to_memory(x: jax.Array) -> jax.Array:
            return self._attention("cross_attention")(x, memory, memory_lengths=memory_lengths, train=train)

        def feed_forward(x: jax.Array) -> jax.Array:
            layer = FeedForward(
                self.hidden_size, activation=self.activation, gated=self.gated, dropout_rate=self.dropout_rate,
                dtype=self.dtype, name="feed_forward",
            )  # fmt: skip
            return layer(x, train)

        layers = {"attention": attend, "cross_attention": attend_to_memory, "feed_forward": feed_forward}
        if not self.cross_attention:
            del layers["cross_attention"]
        for name, layer in layers.items():
            norm = self.norm(dtype=self.dtype, name=f"{name}_norm")
            dropout = Dropout(self.dropout_rate)
            x = x + dropout(layer(norm(x)), train) if self.pre_norm else norm(x + dropout(layer(x), train))
        return x if cache is None else (x, caches[0])

    def _attention(self, name: str, *, rotary: bool = False) -> MultiHeadAttention:
        return MultiHeadAttention(
            self.num_heads, self.num_kv_heads, dropout_rate=self.dropout_rate, use_bias=self.use_bias, rotary=rotary,
            dtype=self.dtype, implementation=self.implementation, name=name,
        )  # fmt: skip
