import contextlib
import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxdl.data import DataError, read_idx

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def to_idx(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[str(array.dtype)], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["raw", "gzip"])
@pytest.mark.parametrize("dtype", CODES)
def test_every_type(tmp_path, dtype, compress):
    array = (np.arange(24).reshape(2, 3, 4) * 5 - 20).astype(dtype)
    (tmp_path / "a").write_bytes(compress(to_idx(array)))
    read = read_idx(tmp_path / "a")
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)
    read[0] = 0  # writable


@pytest.mark.parametrize("shape", [(0,), (0, 28, 28), (1,), (3, 0), (2,) * 12])
def test_shapes_at_the_edges(tmp_path, shape):
    (tmp_path / "a").write_bytes(to_idx(np.zeros(shape, np.uint8)))
    assert read_idx(tmp_path / "a").shape == shape


GOOD = to_idx(np.arange(6, dtype=np.int16).reshape(2, 3))
MALFORMED = {
    "empty": (b"", "offset 0"),
    "short magic": (GOOD[:3], "offset 0"),
    "wrong magic": (b"\1" + GOOD[1:], "offset 0"),
    "unknown type": (GOOD[:2] + b"\x0a" + GOOD[3:], "offset 0"),
    "no dimensions": (b"\0\0\x08\0" + b"1", "offset 0"),
    "65 dimensions": (b"\0\0\x08\x41" + struct.pack(">65I", *[1] * 65) + b"1", "offset 0"),
    "truncated dimensions": (GOOD[:9], "offset 4"),
    "truncated values": (GOOD[:-1], "offset 12"),
    "trailing byte": (GOOD + b"\0", "offset 12"),
    "absurd dimensions": (b"\0\0\x08\x03" + b"\xff" * 12 + b"1234", "offset 16"),
    "no values, but absurd dimensions": (b"\0\0\x08\x04" + b"\0" * 4 + b"\xff" * 12, "offset 4"),
}


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["raw", "gzip"])
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(tmp_path, name, compress):
    content, where = MALFORMED[name]
    (tmp_path / "bad").write_bytes(compress(content))
    with pytest.raises(DataError, match=f"bad: {where}: expected .*, found"):
        read_idx(tmp_path / "bad")


@pytest.mark.parametrize("damage", ["cut", "garbage after", "checksum"])
def test_corrupt_gzip(tmp_path, damage):
    content = gzip.compress(GOOD)
    damaged = {
        "cut": content[:-5],
        "garbage after": content + b"x",
        "checksum": content[:-8] + b"\0\0\0\0" + content[-4:],
    }
    (tmp_path / "a").write_bytes(damaged[damage])
    with pytest.raises(DataError, match="gzip stream"):
        read_idx(tmp_path / "a")


def test_neither_header_nor_bomb_allocates(tmp_path):
    """64 MB of zeros behind a header of 4 GB, and behind a header of 100 bytes."""
    promise = b"\0\0\x08\x01\xff\xff\xff\xff"
    bomb = b"\0\0\x08\x01" + struct.pack(">I", 100)
    zeros = bytes(64 << 20)
    contents = {
        "raw": promise + zeros,
        "gzip": gzip.compress(promise + zeros, 1),
        "bomb": gzip.compress(bomb + zeros, 1),
    }
    for name in contents:
        (tmp_path / name).write_bytes(contents[name])
    del zeros, contents
    for name in ("raw", "gzip", "bomb"):
        tracemalloc.start()
        with pytest.raises(DataError):
            read_idx(tmp_path / name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 << 20, name


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")


@FUZZ
@given(
    content=st.binary(max_size=80), prefix=st.sampled_from([b"", b"\0\0\x08\1", b"\0\0\x0d\2\0\0\0", b"\x1f\x8b\x08"])
)
def test_random_bytes(tmp_path, content, prefix):
    (tmp_path / "a").write_bytes(prefix + content)
    try:
        read = read_idx(tmp_path / "a")
    except DataError:
        return
    assert to_idx(read) == prefix + content  # not often, but then it is right


@FUZZ
@given(data=st.data(), compress=st.sampled_from([bytes, gzip.compress]))
def test_mutated_files(tmp_path, data, compress):
    content = bytearray(compress(to_idx(np.arange(60, dtype=np.int32).reshape(3, 4, 5))))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(DataError):
        assert read_idx(tmp_path / "a").nbytes < 1000
