import gzip
import hashlib
import io
import os
import pickle
import struct
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets

from jaxdl.data import DataError, DatasetUnavailable, data_dir, datasets, list_datasets, load

REAL = Path(os.environ.get("JAXDL_TEST_DATA") or Path(__file__).parents[2] / "../shared/data")
needs_mnist = pytest.mark.skipif(
    not (REAL / "mnist/t10k-images-idx3-ubyte.gz").is_file(),
    reason="needs the MNIST test files: set JAXDL_TEST_DATA to a folder that has them in mnist/",
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """A data directory of our own, and no way out of the machine."""

    def refuse(url, path, checksum, alternative):
        raise DatasetUnavailable(f"{url}: no network in this test", url, path, alternative)

    monkeypatch.setattr(datasets, "download_file", refuse)
    monkeypatch.setenv("JAXDL_DATA", str(tmp_path))


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(folder, stem, num_examples=20, suffix=".gz"):
    images = (np.arange(num_examples * 784) % 256).astype(np.uint8).reshape(-1, 28, 28)
    labels = (np.arange(num_examples) % 10).astype(np.uint8)
    write_idx(folder / f"{stem}-images-idx3-ubyte{suffix}", images)
    write_idx(folder / f"{stem}-labels-idx1-ubyte{suffix}", labels)
    return images, labels


def check(arrays, shape, num_examples):
    assert list(arrays) == ["image", "label"]
    assert arrays["image"].shape == (num_examples, *shape)
    assert arrays["image"].dtype == np.float32
    assert arrays["label"].shape == (num_examples,)
    assert arrays["label"].dtype == np.int32
    if num_examples:
        assert (arrays["image"].min(), arrays["image"].max()) == (0, 1)
        assert (arrays["label"].min(), arrays["label"].max()) == (0, 9)


def test_digits():
    """Every example of scikit-learn's is in one split, once, with its label; the permutation is pinned."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    train, test = load("digits"), load("digits", "test")
    check(train, (8, 8, 1), 1437)
    check(test, (8, 8, 1), 360)
    counts = np.bincount(train["label"]) + np.bincount(test["label"])
    assert counts.tolist() == np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(test["label"]).tolist() == [31, 35, 39, 33, 44, 29, 40, 40, 28, 41]
    rows = [np.column_stack([x, y]) for x, y in ((pixels / 16, labels),)]
    rows += [np.column_stack([d["image"].reshape(-1, 64), d["label"]]) for d in (load("digits", "train+test"),)]
    assert sorted(map(tuple, rows[0])) == sorted(map(tuple, rows[1]))
    assert train["label"][:12].tolist() == [2, 8, 2, 6, 6, 7, 1, 9, 8, 5, 2, 8]


@pytest.mark.parametrize("split", ["train[:80%]", "train[80%:]", "test[-100:]", "test[5:5]", "train[:10%]+test"])
def test_slices_are_those_of_the_whole(split):
    train, test = load("digits"), load("digits", "test")
    expected = {
        "train[:80%]": train["image"][:1150],
        "train[80%:]": train["image"][1150:],
        "test[-100:]": test["image"][260:],
        "test[5:5]": test["image"][:0],
        "train[:10%]+test": np.concatenate([train["image"][:144], test["image"]]),
    }
    arrays = load("digits", split)
    np.testing.assert_array_equal(arrays["image"], expected[split])
    assert len(arrays["label"]) == len(expected[split])


def test_digits_need_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[examples\]'"):
        load("digits")


def test_tables_need_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"'wine' needs scikit-learn: pip install -e '\.\[examples\]'"):
        load("wine")


@needs_mnist
def test_real_mnist():
    """The published files: their checksums are those of our table, and what we read is what is known of them."""
    for file in datasets._DATASETS["mnist"].files["test"]:
        assert hashlib.md5((REAL / file.path).read_bytes()).hexdigest() == file.checksum
    test = load("mnist", "test", directory=REAL, download=False)
    check(test, (28, 28, 1), 10_000)
    assert np.bincount(test["label"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert test["label"][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    np.testing.assert_allclose(test["image"].mean(dtype=np.float64), 0.1325, atol=5e-5)
    np.testing.assert_allclose(test["image"].std(dtype=np.float64), 0.3105, atol=5e-5)
    rest = load("mnist", "test[8000:]", directory=REAL, download=False)
    np.testing.assert_array_equal(rest["image"], test["image"][8000:])


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_files_that_are_there_are_used(tmp_path, name, suffix):
    """Without their checksums, and without the files of the other split."""
    images, labels = write_mnist(tmp_path / name, "t10k", suffix=suffix)
    arrays = load(name, "test", download=False)
    check(arrays, (28, 28, 1), 20)
    np.testing.assert_array_equal(np.rint(arrays["image"][..., 0] * 255), images)
    np.testing.assert_array_equal(arrays["label"], labels)
    with pytest.raises(DatasetUnavailable, match="train-images"):
        load(name, "train", download=False)


def test_missing_files(tmp_path):
    with pytest.raises(DatasetUnavailable, match="not there, and download=False") as caught:
        load("mnist", "test", download=False)
    url = "https://storage.googleapis.com/cvdf-datasets/mnist/t10k-images-idx3-ubyte.gz"
    for part in (url, f"folder {tmp_path / 'mnist'} as t10k-images-idx3-ubyte.gz", "load('digits')"):
        assert part in str(caught.value)
    with pytest.raises(DatasetUnavailable, match="no network"):
        load("fashion_mnist", "test")
    assert os.listdir(tmp_path) == []


def test_only_the_files_that_are_needed_are_downloaded(tmp_path, monkeypatch):
    asked = []

    def serve(url, path, checksum, alternative):
        asked.append((url, checksum))
        images, labels = write_mnist(tmp_path / "elsewhere", "t10k")
        write_idx(path, images if "images" in url else labels)
        return path

    monkeypatch.setattr(datasets, "download_file", serve)
    check(load("fashion_mnist", "test[:10]+test[10:]", directory=tmp_path / "mine"), (28, 28, 1), 20)
    address = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    assert asked == [
        (f"{address}t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
        (f"{address}t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    ]


@pytest.mark.parametrize("fault", ["images", "labels", "count", "label", "type"])
def test_malformed_mnist(tmp_path, fault):
    images, labels = write_mnist(tmp_path / "mnist", "t10k")
    replaced = {
        "images": ("images-idx3", images[:, :27]),
        "labels": ("labels-idx1", labels[:, None]),
        "count": ("labels-idx1", labels[:19]),
        "label": ("labels-idx1", labels + 1),
    }
    if fault == "type":
        (tmp_path / "mnist/t10k-labels-idx1-ubyte.gz").write_bytes(b"\0\0\x09\1\0\0\0\x14" + labels.tobytes())
    else:
        name, array = replaced[fault]
        write_idx(tmp_path / f"mnist/t10k-{name}-ubyte.gz", array)
    where = "record 9: expected a label from 0 to 9, found 10" if fault == "label" else "header: expected"
    with pytest.raises(DataError, match=where) as caught:
        load("mnist", "test")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


CIFAR_NAMES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]


def write_cifar(path, names, fault=None):
    """Images whose pixel is a function of the example, the row, the column and the channel."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for number, name in enumerate(names):
            example = np.arange(10_000)[:, None, None, None] + number
            channel, row, column = np.arange(3)[:, None, None], np.arange(32)[:, None], np.arange(32)
            pixels = ((example % 7) * 20 + channel * 50 + row + column * (channel == 1)).astype(np.uint8)
            labels = ((np.arange(10_000) + number) % (10 + (fault == "label"))).astype(np.uint8)
            content = np.concatenate([labels[:, None], pixels.reshape(10_000, -1)], axis=1).tobytes()
            content = content[:-1] if fault == "size" else content
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.fixture(scope="module")
def cifar_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cifar")
    write_cifar(folder / "cifar10/cifar-10-binary.tar.gz", CIFAR_NAMES)
    return folder


def test_cifar10(cifar_folder):
    train = load("cifar10", "train", directory=cifar_folder)
    assert train["image"].shape == (50_000, 32, 32, 3)
    assert train["image"].dtype == np.float32
    assert train["label"].dtype == np.int32
    for batch, example in ((0, 0), (2, 5), (4, 9999)):  # row 3, column 4, and the channels apart
        pixel = np.array([0, 50 + 4, 100]) + (example + batch) % 7 * 20 + 3
        np.testing.assert_allclose(train["image"][batch * 10_000 + example, 3, 4] * 255, pixel, rtol=1e-6)
        assert train["label"][batch * 10_000 + example] == (example + batch) % 10
    test = load("cifar10", "test[-1:]", directory=cifar_folder)
    assert test["image"].shape == (1, 32, 32, 3)
    assert test["label"] == [(9999 + 5) % 10]


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ("label", "record 10: expected a label"),
        ("size", "test_batch.bin: expected 30730000 bytes"),
        ("none", "test_batch.bin"),
    ],
)
def test_malformed_cifar10(tmp_path, fault, match):
    names = ["data_batch_1.bin"] if fault == "none" else ["test_batch.bin"]
    write_cifar(tmp_path / "cifar10/cifar-10-binary.tar.gz", names, fault)
    with pytest.raises(DataError, match=match):
        load("cifar10", "test")


@pytest.mark.parametrize(
    ("name", "num_train", "num_test", "target"),
    [("breast_cancer", 455, 114, "label"), ("wine", 142, 36, "label"), ("diabetes", 353, 89, "y")],
)
def test_embedded_tables(name, num_train, num_test, target):
    """Every example of scikit-learn's is in one split, once, with its target, in the units of the measurement."""
    x, y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True, **({"scaled": False} if target == "y" else {}))
    train, test = load(name), load(name, "test")
    for arrays, num_examples in ((train, num_train), (test, num_test)):
        assert list(arrays) == ["x", target]
        assert arrays["x"].shape == (num_examples, x.shape[1])
        assert arrays["x"].dtype == np.float32
        assert arrays[target].shape == ((num_examples, 1) if target == "y" else (num_examples,))
        assert arrays[target].dtype == (np.float32 if target == "y" else np.int32)
        assert abs(arrays[target].mean() - y.mean()) < 0.25 * y.std()  # shuffled: wine comes ordered by its label
    both = load(name, "train+test")
    ours = np.column_stack([both["x"], both[target]]).astype(np.float32)
    theirs = np.column_stack([x, y]).astype(np.float32)
    assert sorted(map(tuple, ours)) == sorted(map(tuple, theirs))
    np.testing.assert_array_equal(load(name, "train[-3:]")["x"], train["x"][-3:])


def test_the_permutation_of_embedded_tables_is_pinned():
    assert load("wine")["label"][:12].tolist() == [0, 2, 1, 0, 1, 1, 0, 2, 1, 1, 2, 2]
    assert load("diabetes", "test")["y"][:6, 0].tolist() == [60.0, 72.0, 107.0, 54.0, 158.0, 152.0]


def write_airfoil(folder, text):
    (folder / "airfoil").mkdir()
    (folder / "airfoil/airfoil_self_noise.dat").write_bytes(text)


def test_airfoil(tmp_path):
    write_airfoil(tmp_path, b"800\t0\t0.3048\t71.3\t0.00266337\t126.201\r\n1000\t1.5\t0.3\t71\t0.002\t125\r\n")
    arrays = load("airfoil", download=False)
    np.testing.assert_allclose(
        arrays["x"], [[800, 0, 0.3048, 71.3, 0.00266337], [1000, 1.5, 0.3, 71, 0.002]], rtol=1e-7
    )
    np.testing.assert_allclose(arrays["y"], [[126.201], [125]], rtol=1e-7)
    assert (arrays["x"].dtype, arrays["y"].dtype) == (np.float32, np.float32)
    with pytest.raises(ValueError, match="split: expected one of train for 'airfoil', got 'test'"):
        load("airfoil", "test")


@pytest.mark.parametrize("text", [b"1\t2\t3\t4\t5\n", b"1\t2\t3\t4\t5\tNA\n", b"1\t2\tx\t4\t5\t6\n", b""])
def test_malformed_airfoil(tmp_path, text):
    write_airfoil(tmp_path, text)
    with pytest.raises(DataError, match=r"airfoil_self_noise.dat: (line 1|column \w+): expected"):
        load("airfoil")


def write_houses(folder, train=b"Id,Alley,SalePrice\n1,NA,2e5\n2,Pave,1e5\n", test=b"Id,Alley\n3,Grvl\n"):
    (folder / "kaggle_house").mkdir()
    (folder / "kaggle_house/train.csv").write_bytes(train)
    (folder / "kaggle_house/test.csv").write_bytes(test)


def test_kaggle_house(tmp_path):
    """A dict of columns, that slices and sums like arrays of images."""
    write_houses(tmp_path)
    train = load("kaggle_house", "train[1:]+train")
    assert {name: values.tolist() for name, values in train.items()} == {
        "Id": [2, 1, 2],
        "Alley": ["Pave", "", "Pave"],
        "SalePrice": [1e5, 2e5, 1e5],
    }
    assert list(load("kaggle_house", "test")) == ["Id", "Alley"]
    with pytest.raises(ValueError, match=r"same columns, but not all of 'train\+test' have \['SalePrice'\]"):
        load("kaggle_house", "train+test")


@pytest.mark.parametrize(
    "train", [b"Id,Alley\n1,NA\n", b"Id,SalePrice\n1,NA\n", b"Id,SalePrice\n1,much\n", b"SalePrice\n1\n"]
)
def test_malformed_kaggle_house(tmp_path, train):
    write_houses(tmp_path, train)
    with pytest.raises(DataError, match=r"train.csv: column (Id|SalePrice): expected a number in each row"):
        load("kaggle_house")


def test_missing_tables_suggest_a_table(tmp_path):
    """And where to get the file; one without a suffix is not taken for it."""
    (tmp_path / "kaggle_house").mkdir()
    (tmp_path / "kaggle_house/train").write_text("Id,SalePrice\n1,2\n")
    for options, match in (({}, "no network"), ({"download": False}, "not there")):
        with pytest.raises(DatasetUnavailable, match=match) as caught:
            load("kaggle_house", **options)
        assert "load('diabetes')" in str(caught.value)
        assert "http://d2l-data.s3-accelerate.amazonaws.com/kaggle_house_pred_train.csv" in str(caught.value)
        assert "as train.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [("airfoil", {"train": (1503, 2)}), ("kaggle_house", {"train": (1460, 81), "test": (1459, 80)})],
)
def test_real_tables(name, shapes):
    """The published files: their checksums are those of our table, and their size is what is known of them."""
    for split, (num_rows, num_columns) in shapes.items():
        (file,) = datasets._DATASETS[name].files[split]
        if not (REAL / file.path).is_file():
            pytest.skip(f"needs {file.path}: set JAXDL_TEST_DATA to a folder that has it")
        assert hashlib.sha1((REAL / file.path).read_bytes()).hexdigest() == file.checksum
        table = load(name, split, directory=REAL, download=False)
        assert len(table) == num_columns
        assert {len(values) for values in table.values()} == {num_rows}
    first = {key: values[0] for key, values in load(name, directory=REAL, download=False).items()}
    if name == "airfoil":
        np.testing.assert_allclose(first["x"], [800, 0, 0.3048, 71.3, 0.00266337], rtol=1e-6)
        assert first["y"] == pytest.approx(126.201)
    else:
        assert [first[key] for key in ("Id", "MSZoning", "Alley", "SalePrice")] == [1, "RL", "", 208500]


def test_names_and_splits():
    assert list_datasets() == [
        *("airfoil", "breast_cancer", "cifar10", "diabetes", "digits", "fashion_mnist", "fra_eng", "kaggle_house"),
        *("mnist", "pydoc", "time_machine", "tiny_shakespeare", "wine"),
    ]
    with pytest.raises(ValueError, match=r"name: expected one of airfoil, breast_cancer, .*, wine, got 'imagenet'"):
        load("imagenet")
    with pytest.raises(ValueError, match="split: expected one of train, test for 'mnist', got 'valid'"):
        load("mnist", "train+valid[:5]")
    with pytest.raises(ValueError, match="split: expected a form"):
        load("mnist", "train[5]")


def test_data_dir(tmp_path, monkeypatch):
    assert data_dir() == tmp_path
    assert data_dir("mine") == Path("mine")
    assert data_dir("~/mine") == Path.home() / "mine"
    monkeypatch.setenv("JAXDL_DATA", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert data_dir() == Path("/cache/jaxdl")
    monkeypatch.delenv("JAXDL_DATA")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_dir() == Path.home() / ".cache/jaxdl"
    assert not data_dir(tmp_path / "new").exists()
