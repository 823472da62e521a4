"""Images in arrays."""

from functools import partial

import jax
import numpy as np

_CHUNK = 512  # images on the device at a time


def resize(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes images bilinearly, with antialiasing when they shrink.

    Args:
      images: floating-point `[examples, height, width, channels]`.
      size: the new height and width.

    Returns:
      float32 `[examples, *size, channels]`, clipped to the range of `images`.

    Raises:
      ValueError: if `images` is not floating-point of rank 4, an image is empty, or `size` is not two positive numbers.
    """
    if images.ndim != 4 or not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"images: expected floats [examples, height, width, channels], got {images.dtype} {images.shape}"
        )
    if 0 in images.shape[1:]:
        raise ValueError(f"images: expected pixels and channels, got shape {images.shape}")
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size: expected a positive height and width, got {size}")
    height, width = size
    resized = np.empty((len(images), height, width, images.shape[-1]), np.float32)
    for first in range(0, len(images), _CHUNK):
        chunk = images[first : first + _CHUNK].astype(np.float32)
        resized[first : first + _CHUNK] = _resize(chunk, size=(height, width))
    if len(images):
        low, high = (bound.reduce(images, axis=None) for bound in (np.fmin, np.fmax))  # a NaN stays in its image
        np.clip(resized, low, high, out=resized)
    return resized


@partial(jax.jit, static_argnames="size")
def _resize(images: jax.Array, *, size: tuple[int, int]) -> jax.Array:
    return jax.image.resize(images, (len(images), *size, images.shape[-1]), "bilinear")
