import jax
import numpy as np
import pytest

from jaxdl.data import resize


def test_a_ramp_by_hand():
    """Bilinear, pixel centres aligned: two pixels become four at positions -1/4, 1/4, 3/4 and 5/4 of their distance."""
    resized = resize(np.array([0.0, 1.0], np.float64).reshape(1, 1, 2, 1), (1, 4))
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized.ravel(), [0, 0.25, 0.75, 1], atol=1e-6)


@pytest.mark.parametrize("size", [(28, 28), (4, 5)])
@pytest.mark.parametrize("num_images", [0, 1, 513])
def test_chunks_are_the_whole(size, num_images):
    images = np.random.default_rng(0).random((num_images, 8, 8, 2), np.float32) * 3 - 1
    resized = resize(images, size)
    assert type(resized) is np.ndarray
    assert resized.shape == (num_images, *size, 2)
    if num_images:
        whole = jax.image.resize(images, resized.shape, "bilinear")
        np.testing.assert_allclose(resized, np.clip(whole, images.min(), images.max()), atol=1e-6)
        assert resized.min() >= images.min()
        assert resized.max() <= images.max()


def test_clips_what_rounding_adds():
    images = np.full((1, 7, 7, 1), 0.1, np.float32)
    sizes = [(rows, columns) for rows in (3, 5, 9) for columns in (4, 11)]
    clipped = np.concatenate([resize(images, size).ravel() for size in sizes])
    plain = np.concatenate([jax.image.resize(images, (1, *size, 1), "bilinear").ravel() for size in sizes])
    assert (clipped == images[0, 0, 0, 0]).all()
    assert (plain != images[0, 0, 0, 0]).any()


@pytest.mark.parametrize(
    ("images", "size", "match"),
    [
        (np.zeros((2, 8, 8), np.float32), (4, 4), "images: expected floats"),
        (np.zeros((2, 8, 8, 1), np.uint8), (4, 4), "images: expected floats"),
        (np.zeros((2, 0, 8, 1), np.float32), (4, 4), "images: expected pixels"),
        (np.zeros((2, 8, 8, 1), np.float32), (4, 0), "size: expected"),
        (np.zeros((2, 8, 8, 1), np.float32), (4,), "size: expected"),
    ],
)
def test_errors(images, size, match):
    with pytest.raises(ValueError, match=match):
        resize(images, size)


def test_a_nan_stays_in_its_image():
    images = np.ones((2, 4, 4, 1), np.float32)
    images[1, 0, 0] = np.nan
    np.testing.assert_array_equal(resize(images, (2, 2))[0], np.ones((2, 2, 1)))
