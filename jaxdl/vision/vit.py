"""Vision transformer (Dosovitskiy et al., 2021, "An image is worth 16x16 words"; D2L 11.8)."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdl.nn.dropout import Dropout
from jaxdl.nn.layer_norm import LayerNorm
from jaxdl.nn.positions import LearnedPositions
from jaxdl.nn.repeated_blocks import RepeatedBlocks
from jaxdl.nn.transformer_block import TransformerBlock
from jaxdl.vision.checks import check_counts, check_images, check_rate


class ViT(nn.Module):
    """Cuts an image into patches, and reads them like words.

    Each patch becomes a vector by one dense layer; a learned class token stands before them, learned positions are
    added, transformer blocks with norms first follow, and the class token's output is classified.

    Args:
      num_classes: width of the output.
      patch_size: height and width of a patch; it divides those of the image.
      features: of a token.
      hidden_size: of the blocks' position-wise networks.
      num_heads: of the blocks.
      num_blocks: how many.
      dropout_rate: inside the blocks, in training.
      embedding_dropout_rate: of the tokens before the first block.
      use_bias: whether the attention's projections have biases (the paper: yes; the book: no).
      remat: what the blocks keep for the backward pass, see `RepeatedBlocks`.
      dtype: the compute type.
      implementation: of the attention, see `jaxdl.kernels.attention`.

    Raises:
      ValueError: at construction, if a size is below 1 or `num_heads` does not divide `features`; when called, if the
        input is not floating `[batch, height, width, channels]` of whole patches, or has another number of patches than
        the parameters have positions for.
    """

    num_classes: int = 10
    patch_size: int = 16
    features: int = 512
    hidden_size: int = 2048
    num_heads: int = 8
    num_blocks: int = 2
    dropout_rate: float = 0.1
    embedding_dropout_rate: float = 0.1
    use_bias: bool = False
    remat: Any = "none"
    dtype: Any = None
    implementation: str | None = None

    def __post_init__(self) -> None:
        counts = ("num_classes", "patch_size", "features", "hidden_size", "num_heads", "num_blocks")
        check_counts(**{name: getattr(self, name) for name in counts})
        check_rate(dropout_rate=self.dropout_rate, embedding_dropout_rate=self.embedding_dropout_rate)
        if self.features % self.num_heads:
            raise ValueError(f"num_heads: expected a divisor of {self.features} features, got {self.num_heads}")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        check_images(images, self.patch_size)
        batch, height, width, _ = images.shape
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(f"images: expected whole patches of {self.patch_size} pixels, got {list(images.shape)}")
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(f"images: expected a floating dtype, got {images.dtype}")
        patch = (self.patch_size, self.patch_size)
        x = nn.Conv(self.features, patch, patch, padding="VALID", dtype=self.dtype, name="patches")(images)
        x = x.reshape(batch, x.shape[1] * x.shape[2], self.features)
        first = self.param("class_token", nn.initializers.zeros, (1, 1, self.features), jnp.float32)
        x = jnp.concatenate([jnp.broadcast_to(first, (batch, 1, self.features)).astype(x.dtype), x], 1)
        known: Any = self.get_variable("params", "positions")
        if known is not None and len(known["embedding"]) != x.shape[1]:
            patches = len(known["embedding"]) - 1
            raise ValueError(f"images: expected the {patches} patches of the parameters, got {list(images.shape)}")
        x = LearnedPositions(x.shape[1], name="positions")(x)
        x = Dropout(self.embedding_dropout_rate)(x, train)
        block = TransformerBlock(
            self.num_heads,
            self.hidden_size,
            dropout_rate=self.dropout_rate,
            use_bias=self.use_bias,
            activation=partial(jax.nn.gelu, approximate=False),
            dtype=self.dtype,
            implementation=self.implementation,
        )
        x = RepeatedBlocks(block, self.num_blocks, remat=self.remat, name="encoder")(x, train=train)
        x = LayerNorm(dtype=self.dtype, name="norm")(x[:, 0])
        return nn.Dense(self.num_classes, dtype=self.dtype, name="head")(x)
