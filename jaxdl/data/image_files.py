"""The image data sets in the formats in which they are published.

All of them give `image`, float32 `[examples, height, width, channels]` in [0, 1], and `label`, int32 `[examples]`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxdl.data.archives import read_members
from jaxdl.data.errors import DataError
from jaxdl.data.idx import read_idx

_NUM_CLASSES = 10
_DIGITS_TRAIN = 1437
_CIFAR_BATCH = 10_000
_CIFAR_RECORD = 1 + 3 * 32 * 32  # the label, then the planes of red, green and blue


def read_digits(split: str, files: Sequence[Path]) -> dict[str, np.ndarray]:
    """scikit-learn's handwritten digits, 8x8x1, in 17 grey levels.

    They are ordered by writer, so one fixed permutation (of NumPy's legacy generator, whose stream is frozen, seed 0)
    puts 1,437 into "train" and 360 into "test".

    Raises:
      ImportError: if scikit-learn is not installed.
    """
    del files  # the data ships with scikit-learn
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the data set 'digits' needs scikit-learn: pip install -e '.[examples]'") from error
    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    order = np.random.RandomState(0).permutation(len(labels))
    order = order[:_DIGITS_TRAIN] if split == "train" else order[_DIGITS_TRAIN:]
    image = (pixels[order] / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    return {"image": image, "label": labels[order].astype(np.int32)}


def read_mnist(split: str, files: Sequence[Path]) -> dict[str, np.ndarray]:
    """MNIST, 28x28x1, and what is published in its format, such as Fashion-MNIST.

    Args:
      split: not used; the files are those of the split.
      files: the IDX files of the images and of the labels.

    Raises:
      DataError: if a file is malformed, or the two do not belong together.
    """
    del split
    image_file, label_file = files
    images, labels = read_idx(image_file), read_idx(label_file)
    for file, array, shape in ((image_file, images, (28, 28)), (label_file, labels, ())):
        if array.dtype != np.uint8 or array.shape[1:] != shape:
            expected = f"uint8 [examples{', 28, 28' if shape else ''}]"
            raise DataError(file, "header", expected, f"{array.dtype} {list(array.shape)}")
    if len(images) != len(labels):
        raise DataError(label_file, "header", f"{len(images)} labels, as there are images", f"{len(labels)}")
    _check_labels(label_file, labels)
    return {"image": images[..., None] / np.float32(255), "label": labels.astype(np.int32)}


def read_cifar10(split: str, files: Sequence[Path]) -> dict[str, np.ndarray]:
    """CIFAR-10, 32x32x3, from its binary version (Krizhevsky, 2009), read without extracting the archive.

    Args:
      split: "train" (50,000 examples in five members of the archive) or "test" (10,000 in one).
      files: the archive.

    Raises:
      DataError: if the archive is malformed, or a record has a label above 9.
    """
    (archive,) = files
    stems = [f"data_batch_{number}" for number in range(1, 6)] if split == "train" else ["test_batch"]
    names = [f"cifar-10-batches-bin/{stem}.bin" for stem in stems]
    contents = read_members(archive, dict.fromkeys(names, _CIFAR_BATCH * _CIFAR_RECORD))
    records = np.frombuffer(b"".join(contents[name] for name in names), np.uint8).reshape(-1, _CIFAR_RECORD)
    labels = records[:, 0]
    _check_labels(archive, labels)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return {"image": np.ascontiguousarray(images) / np.float32(255), "label": labels.astype(np.int32)}


def _check_labels(file: Path, labels: np.ndarray) -> None:
    wrong = np.flatnonzero(labels >= _NUM_CLASSES)
    if wrong.size:
        raise DataError(file, f"record {wrong[0]}", "a label from 0 to 9", f"{labels[wrong[0]]}")
