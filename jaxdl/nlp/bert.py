"""A transformer that only encodes (Devlin et al., 2019, "BERT"; D2L 15.8), and sentences as vectors."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdl.nlp.token_ids import check_form, check_tokens, embed, without_padding
from jaxdl.nn.dropout import Dropout
from jaxdl.nn.layer_norm import LayerNorm
from jaxdl.nn.positions import LearnedPositions
from jaxdl.nn.transformer_block import TransformerBlock


class BERTEncoder(nn.Module):
    """Embeds tokens, segments and positions, and lets every token see every other: blocks with norms last, exact GELU.

    The defaults are BERT base. `load_bert` makes one with trained weights.

    Differences: the book has no norm after the embeddings; the paper has no dropout on the hidden layer of the
    position-wise networks. The paper's pooler and its two heads are no part of this.

    Args:
      vocab_size: number of tokens.
      max_length: tokens of a text at most; there are as many learned positions.
      features: of a token.
      num_heads: of each block.
      num_blocks: how many.
      hidden_size: of the position-wise networks; the default is `4 * features`.
      num_segments: how many a text may have, such as the two of a pair of sentences.
      dropout_rate: of the embedded tokens and inside the blocks, in training.
      epsilon: of the norms.
      dtype: the compute type.
      implementation: of the attention, see `jaxdl.kernels.attention`.

    Raises:
      ValueError: at construction, if a size is below 1 or `num_heads` does not divide `features`; when called, if the
        shapes or dtypes do not fit, or there are more than `max_length` tokens. (Ids and segments out of range
        give NaN.)
    """

    vocab_size: int
    max_length: int = 512
    features: int = 768
    num_heads: int = 12
    num_blocks: int = 12
    hidden_size: int | None = None
    num_segments: int = 2
    dropout_rate: float = 0.1
    epsilon: float = 1e-12
    dtype: Any = None
    implementation: str | None = None

    def __post_init__(self) -> None:
        for name in ("vocab_size", "max_length", "features", "num_heads", "num_blocks", "hidden_size", "num_segments"):
            if (size := getattr(self, name)) is not None and size < 1:
                raise ValueError(f"{name}: expected at least 1, got {size}")
        if self.features % self.num_heads:
            raise ValueError(f"num_heads: expected a divisor of {self.features} features, got {self.num_heads}")
        TransformerBlock(self.num_heads, 1, dropout_rate=self.dropout_rate, parent=None)  # which judges the rate
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        segments: jax.Array | None = None,
        lengths: jax.Array | None = None,
        train: bool = False,
    ) -> jax.Array:
        """Encodes tokens.

        Args:
          tokens: integers `[batch, time]`.
          segments: integers `[batch, time]`, of each token; None is 0.
          lengths: integers `[batch]`: tokens from there on are padding, any ids. They change nothing before them, and
            what is returned for them means nothing.
          train: whether dropout is on; needs `rngs={"dropout": key}`.

        Returns:
          `[batch, time, features]`.
        """
        tokens, segment_ids = self._checked(tokens, segments, lengths)
        normal = nn.initializers.normal(0.02)
        table = partial(nn.Embed, features=self.features, embedding_init=normal, dtype=self.dtype)
        x = embed(table(self.vocab_size, name="tokens"), tokens)
        x = x + embed(table(self.num_segments, name="segments"), segment_ids)
        x = LearnedPositions(self.max_length, name="positions")(x)
        norm = partial(LayerNorm, epsilon=self.epsilon)
        x = Dropout(self.dropout_rate)(norm(dtype=self.dtype, name="norm")(x), train)
        for i in range(self.num_blocks):
            block = TransformerBlock(
                self.num_heads,
                self.hidden_size or 4 * self.features,
                pre_norm=False,
                dropout_rate=self.dropout_rate,
                activation=partial(jax.nn.gelu, approximate=False),
                norm=norm,
                dtype=self.dtype,
                implementation=self.implementation,
                name=f"block_{i}",
            )
            x = block(x, lengths=lengths, train=train)
        return x

    def _checked(self, tokens: Any, segments: Any, lengths: Any) -> tuple[Any, Any]:
        """Tokens and segments, with zeros for padding."""
        check_form("tokens", tokens)
        segments = jnp.zeros_like(tokens) if segments is None else segments
        if tokens.shape[1] > self.max_length:
            raise ValueError(f"tokens: expected at most {self.max_length} a text, got {list(tokens.shape)}")
        for name, x, shape in (("segments", segments, tokens.shape), ("lengths", lengths, tokens.shape[:1])):
            if x is not None and (x.shape != shape or not jnp.issubdtype(x.dtype, jnp.integer)):
                raise ValueError(f"{name}: expected integers {list(shape)}, got {x.dtype}{list(x.shape)}")
        tokens = check_tokens("tokens", tokens, self.vocab_size, lengths)
        return tokens, segments if lengths is None else without_padding(segments, lengths)


def sentence_embedding(encoded: jax.Array, lengths: jax.Array) -> jax.Array:
    """The mean of a sentence's tokens, at length 1 (Reimers and Gurevych, 2019, "Sentence-BERT").

    The inner product of two is their cosine similarity.

    Args:
      encoded: floating `[batch, time, features]`, from `BERTEncoder`.
      lengths: integers `[batch]`: tokens from there on are padding.

    Returns:
      `[batch, features]` in the dtype of `encoded`, computed in float32 at least; zeros for a sentence without tokens.

    Raises:
      ValueError: if the shapes or dtypes do not fit.
    """
    if encoded.ndim != 3 or not jnp.issubdtype(encoded.dtype, jnp.floating):
        raise ValueError(
            f"encoded: expected floating [batch, time, features], got {encoded.dtype}{list(encoded.shape)}"
        )
    if lengths.shape != encoded.shape[:1] or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(
            f"lengths: expected integers {list(encoded.shape[:1])}, got {lengths.dtype}{list(lengths.shape)}"
        )
    inside = jnp.arange(encoded.shape[1])[None, :, None] < lengths[:, None, None]
    x = jnp.where(inside, encoded.astype(jnp.promote_types(encoded.dtype, jnp.float32)), 0)
    total = x.sum(1)  # as good as the mean: its length goes away
    square = jnp.square(total).sum(-1, keepdims=True)
    return (total / jnp.sqrt(jnp.where(square > 0, square, 1))).astype(encoded.dtype)
