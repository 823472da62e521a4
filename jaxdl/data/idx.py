"""IDX files, the format of MNIST (LeCun, Cortes and Burges, "The MNIST database of handwritten digits").

A header of two zero bytes, a type code, the number of dimensions and each dimension as a big-endian 32-bit unsigned
integer; then the values, big-endian, in C order.
"""

import gzip
import math
import os
import zlib
from collections.abc import Callable
from os import PathLike

import numpy as np

from jaxdl.data.errors import DataError

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_RATIO = 1032  # deflate never expands by more (zlib's technical notes)
_MAX_DIMENSIONS = 64  # NumPy's
_CHUNK = 1 << 20


def read_idx(path: str | PathLike[str]) -> np.ndarray:
    """Reads an IDX file, gzipped or not: its content decides, not its name.

    The size that the header promises is compared with the size of the file before anything is allocated, and a gzipped
    file is inflated to at most one byte more than promised.

    Args:
      path: the file.

    Returns:
      The array in the byte order of this machine: uint8, int8, int16, int32, float32 or float64; writable.

    Raises:
      DataError: if the file is truncated, has trailing bytes, a wrong magic number, dimensions that cannot be, or is
        corrupt as gzip.
      OSError: if the file cannot be opened (`FileNotFoundError` if it is missing).
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        is_gzip = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        if not is_gzip:
            return _parse(path, file.read, size)
        try:
            with gzip.GzipFile(fileobj=file) as inflated:
                return _parse(path, inflated.read, _GZIP_RATIO * size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(path, "gzip stream", "a complete stream", str(error)) from error


def _parse(path: str | PathLike[str], read: Callable[[int], bytes], max_size: int) -> np.ndarray:
    """Parses what `read(n)` delivers, at most `max_size` bytes in all."""
    magic = read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or not 0 < magic[3] <= _MAX_DIMENSIONS:
        expected = f"00 00, a type code of {', '.join(f'{code:02x}' for code in _DTYPES)}, and 1 to 64 dimensions"
        raise DataError(path, "offset 0", expected, magic.hex(" ") or "an empty file")
    num_dimensions, dtype = magic[3], np.dtype(_DTYPES[magic[2]])
    header = read(4 * num_dimensions)
    if len(header) < 4 * num_dimensions:
        raise DataError(path, "offset 4", f"{num_dimensions} dimensions of 4 bytes", f"{len(header)} bytes")
    shape = [int(dimension) for dimension in np.frombuffer(header, ">u4")]
    offset = 4 + len(header)
    num_bytes = math.prod(shape) * dtype.itemsize
    if offset + num_bytes > max_size:
        raise DataError(
            path, f"offset {offset}", f"{num_bytes} bytes for shape {shape}", f"at most {max_size - offset}"
        )
    data = bytearray()
    while len(data) <= num_bytes and (chunk := read(min(_CHUNK, num_bytes + 1 - len(data)))):
        data += chunk
    if len(data) != num_bytes:
        found = f"{len(data)}" if len(data) < num_bytes else "more"
        raise DataError(path, f"offset {offset}", f"{num_bytes} bytes for shape {shape}", found)
    try:
        array = np.frombuffer(data, dtype).reshape(shape)
    except ValueError as error:  # no values, but the other dimensions multiply to more than an address
        raise DataError(path, "offset 4", "dimensions of an array", f"{shape}: {error}") from error
    return array.astype(dtype.newbyteorder("="), copy=False)
