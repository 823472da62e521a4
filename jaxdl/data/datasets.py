"""Data sets by name."""

import os
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdl.data.downloads import download as download_file
from jaxdl.data.errors import DatasetUnavailable
from jaxdl.data.image_files import read_cifar10, read_digits, read_mnist
from jaxdl.data.splits import parse_split
from jaxdl.data.table_files import read_airfoil, read_breast_cancer, read_diabetes, read_kaggle_house, read_wine
from jaxdl.data.text_files import read_fra_eng, read_pydoc, read_text_file


class RemoteFile(NamedTuple):
    """A published file: its path below the data directory, its address and its checksum (md5, sha1 or sha256).

    A file `unpacked` below the data directory, of what is in it, serves as well.
    """

    path: str
    url: str
    checksum: str
    unpacked: str = ""


class Dataset(NamedTuple):
    """The files that each split needs, the function that reads them: `(split, files) -> arrays`, and what serves, as
    code, where they cannot be had.
    """

    files: Mapping[str, Sequence[RemoteFile]]
    read: Callable[[str, Sequence[Path]], dict[str, np.ndarray]]
    alternative: str = "load('digits')"


def _mnist_files(name: str, address: str, md5s: Mapping[str, tuple[str, str]]) -> dict[str, list[RemoteFile]]:
    return {
        split: [
            RemoteFile(f"{name}/{file}", f"{address}{file}", md5)
            for file, md5 in zip(
                (f"{stem}-images-idx3-ubyte.gz", f"{stem}-labels-idx1-ubyte.gz"), md5s[split], strict=True
            )
        ]
        for split, stem in (("train", "train"), ("test", "t10k"))
    }


_CIFAR10 = RemoteFile(
    "cifar10/cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c32a1d4ab5d03f1284b67883e8d87530",
)
_D2L = "http://d2l-data.s3-accelerate.amazonaws.com/"
_KAGGLE_HOUSE = {
    split: [RemoteFile(f"kaggle_house/{split}.csv", f"{_D2L}kaggle_house_pred_{split}.csv", sha1)]
    for split, sha1 in (
        ("train", "585e9cc93e70b39160e7921475f9bcd7d31219ce"),
        ("test", "fa19780a7b011d9b009e8bff8e99922a8ee2eb90"),
    )
}
_AIRFOIL = RemoteFile(
    "airfoil/airfoil_self_noise.dat",
    f"{_D2L}airfoil_self_noise.dat",
    "76e5be1548fd8222e5074cf0faae75edff8cf93f",
)
_TIME_MACHINE = RemoteFile(
    "timemachine/timemachine.txt", f"{_D2L}timemachine.txt", "090b5e7e70c295757f55df93cb0a180b9691891a"
)
_TINY_SHAKESPEARE = RemoteFile(
    "tinyshakespeare/input.txt",
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)
_FRA_ENG = RemoteFile(
    "fra-eng/fra-eng.zip",
    f"{_D2L}fra-eng.zip",
    "94646ad1522d915e7b0f9296181140edcf86a4f5",
    unpacked="fra-eng/fra.txt",
)
_EMBEDDED = {"train": (), "test": ()}
_DATASETS = {
    "digits": Dataset(_EMBEDDED, read_digits),
    "mnist": Dataset(
        _mnist_files(
            "mnist",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            {
                "train": ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432"),
                "test": ("9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c"),
            },
        ),
        read_mnist,
    ),
    "fashion_mnist": Dataset(
        _mnist_files(
            "fashion_mnist",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            {
                "train": ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"),
                "test": ("bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"),
            },
        ),
        read_mnist,
    ),
    "cifar10": Dataset({"train": (_CIFAR10,), "test": (_CIFAR10,)}, read_cifar10),
    "breast_cancer": Dataset(_EMBEDDED, read_breast_cancer),
    "wine": Dataset(_EMBEDDED, read_wine),
    "diabetes": Dataset(_EMBEDDED, read_diabetes),
    "airfoil": Dataset({"train": (_AIRFOIL,)}, read_airfoil, alternative="load('diabetes')"),
    "kaggle_house": Dataset(_KAGGLE_HOUSE, read_kaggle_house, alternative="load('diabetes')"),
    "pydoc": Dataset(_EMBEDDED, read_pydoc),
    "time_machine": Dataset({"train": (_TIME_MACHINE,)}, read_text_file, alternative="load('pydoc')"),
    "tiny_shakespeare": Dataset({"train": (_TINY_SHAKESPEARE,)}, read_text_file, alternative="load('pydoc')"),
    "fra_eng": Dataset({"train": (_FRA_ENG,)}, read_fra_eng, alternative="number_words(10_000)"),
}


def list_datasets() -> list[str]:
    """The names that `load` knows."""
    return sorted(_DATASETS)


def data_dir(directory: str | PathLike[str] | None = None) -> Path:
    """The folder of the data sets: `directory`, else the variable `JAXDL_DATA`, else the user's cache folder.

    Args:
      directory: a folder of your own; "~" is your home.

    Returns:
      The folder, which need not exist. The cache folder is `jaxdl` in `XDG_CACHE_HOME`, by default `~/.cache`.
    """
    if chosen := directory or os.environ.get("JAXDL_DATA"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxdl"


def load(
    name: str, split: str = "train", *, directory: str | PathLike[str] | None = None, download: bool = True
) -> dict[str, np.ndarray]:
    """Loads a data set, or a part of it, into memory.

    Files that are in the data directory already are used as they are; only the missing ones that the splits need are
    downloaded. An uncompressed file beside (the same name without ".gz") serves as well.

    Args:
      name: one of `list_datasets()`.
      split: "train" or "test" (some have "train" only, see below), with slices and sums as in TensorFlow Datasets:
        `"train[:80%]"`, `"test[8000:]"`, `"test[-100:]"`, `"train[:10%]+test"`. Percentages round to the nearest
        example; beyond the ends counts as in Python.
      directory: the data directory; see `data_dir`.
      download: whether missing files may be downloaded.

    Returns:
      Images (`digits` comes with scikit-learn): `image`, float32 `[examples, height, width, channels]` in [0, 1], and
      `label`, int32 `[examples]`.

      | name            | train  | test   | image       |
      |-----------------|--------|--------|-------------|
      | `digits`        | 1,437  | 360    | 8 x 8 x 1   |
      | `mnist`         | 60,000 | 10,000 | 28 x 28 x 1 |
      | `fashion_mnist` | 60,000 | 10,000 | 28 x 28 x 1 |
      | `cifar10`       | 50,000 | 10,000 | 32 x 32 x 3 |

      Tables (the first three come with scikit-learn), in the units in which they were measured: `x`, float32
      `[examples, features]`, with `label` as above or `y`, float32 `[examples, 1]`. `kaggle_house` gives its columns by
      name, as `read_csv_table` does.

      | name            | train  | test   | columns                                                  |
      |-----------------|--------|--------|----------------------------------------------------------|
      | `breast_cancer` | 455    | 114    | `x` 30, `label`: 0 malignant, 1 benign                   |
      | `wine`          | 142    | 36     | `x` 13, `label`: 3 cultivars                             |
      | `diabetes`      | 353    | 89     | `x` 10, `y`: progression after a year, 25 to 346         |
      | `airfoil`       | 1,503  |        | `x` 5, `y`: sound pressure level in dB                   |
      | `kaggle_house`  | 1,460  | 1,459  | 80, numbers and text; in train also `SalePrice`, dollars |

      Text: `text`, `[characters]`, an array of single characters, of which a split is a stretch; `"".join` makes one
      `str` of it. `pydoc` is Python's language reference, which comes with Python; its sizes, here about those of
      Python 3.11, differ by version. `fra_eng` has pairs of sentences as they are written, the short ones first.

      | name               | train     | test     | arrays                                |
      |--------------------|-----------|----------|---------------------------------------|
      | `pydoc`            | 340,000   | 33,000   | `text`; no paragraph is in both       |
      | `time_machine`     | 178,979   |          | `text`                                |
      | `tiny_shakespeare` | 1,115,394 |          | `text`                                |
      | `fra_eng`          | 167,130   |          | `english` and `french`, `StringDType` |

    Raises:
      ValueError: if the name or the split is unknown, the slice malformed, or splits with different columns are summed.
      DatasetUnavailable: if a file is missing and cannot or may not be downloaded.
      DataError: if a file is malformed.
      ImportError: if an embedded data set is asked for without scikit-learn.
    """
    if name not in _DATASETS:
        raise ValueError(f"name: expected one of {', '.join(list_datasets())}, got {name!r}")
    dataset, terms = _DATASETS[name], parse_split(split)
    for term in terms:
        if term.split not in dataset.files:
            raise ValueError(f"split: expected one of {', '.join(dataset.files)} for {name!r}, got {term.split!r}")
    folder, arrays = data_dir(directory), {}
    for used in dict.fromkeys(term.split for term in terms):
        files = [_obtain(file, folder, download, dataset.alternative) for file in dataset.files[used]]
        arrays[used] = dataset.read(used, files)
    columns = [set(part) for part in arrays.values()]
    if unshared := sorted(set.union(*columns) - set.intersection(*columns)):
        raise ValueError(f"split: expected splits with the same columns, but not all of {split!r} have {unshared}")
    parts = []
    for term in terms:
        num_examples = len(next(iter(arrays[term.split].values())))
        parts.append({key: array[term.resolve(num_examples)] for key, array in arrays[term.split].items()})
    return parts[0] if len(parts) == 1 else {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _obtain(file: RemoteFile, folder: Path, download: bool, alternative: str) -> Path:
    path = folder / file.path
    unpacked = path.with_suffix("") if path.suffix == ".gz" else folder / (file.unpacked or file.path)
    for present in (path, unpacked):
        if present.is_file():
            return present
    if not download:
        raise DatasetUnavailable(f"{path} is not there, and download=False", file.url, path, alternative)
    return download_file(file.url, path, file.checksum, alternative=alternative)
