"""Archives that are not trusted: tar, tar.gz and zip.

Every member is judged before a byte of it is used: only plain files and folders, only paths that stay inside, no more
bytes than the file could hold. What a reader has to keep in memory to find the next member is bounded too.
"""

import gzip
import io
import os
import re
import shutil
import stat
import struct
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from jaxdl.data.errors import DataError

_GZIP_MAGIC, _ZIP_MAGIC = b"\x1f\x8b", b"PK"
_DEFLATE_RATIO = 1032  # deflate never expands by more (zlib's technical notes)
_CHUNK = 1 << 16
_MAX_HEADERS = 1 << 20  # bytes of headers and padding between two members of a tar file
_MAX_PATH, _MAX_NAME = 1024, 255  # bytes of a member's path and of one name in it
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def extract_archive(
    path: str | PathLike[str], destination: str | PathLike[str], *, members: Collection[str] | None = None
) -> Path:
    """Extracts a tar, tar.gz or zip file into a new folder, which appears complete or not at all.

    The files are written to a hidden folder beside `destination`, which is renamed at the end. Permissions, owners and
    times of the archive are ignored.

    Args:
      path: the archive; its content decides what it is, not its name.
      destination: the folder to make.
      members: the files to extract, by their path in the archive; all by default.

    Returns:
      `destination`.

    Raises:
      DataError: if the archive is truncated or corrupt, or lacks one of `members`, or any member of it is a link, a
        device or another special file, has a path that is absolute, leads outside or collides with another, or is
        larger than the file could hold.
      FileExistsError: if `destination` is there already.
      OSError: if the archive cannot be opened or the folder cannot be written.
    """
    path, destination = Path(path), Path(destination)
    if os.path.lexists(destination):
        raise FileExistsError(f"{destination}: expected no such file or folder yet")
    partial = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}.partial")
    missing = set(members or ())
    try:
        partial.mkdir(parents=True)
        for member in _members(path):
            if members is None or member.name in members:
                _write(path, partial, member)
                missing.discard(member.name)
        if missing:
            raise DataError(path, "members", f"a file {min(missing)!r}", "none")
        partial.rename(destination)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return destination


def read_members(path: str | PathLike[str], sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Reads a few files of an archive without extracting it.

    Args:
      path: a tar, tar.gz or zip file.
      sizes: the expected size in bytes of each file to read, by its path in the archive.

    Returns:
      Their contents by the same paths.

    Raises:
      DataError: as `extract_archive`, or if a file is not of the expected size.
      OSError: if the archive cannot be opened.
    """
    contents = {}
    for member in _members(Path(path)):
        if member.name in sizes:
            if member.size != sizes[member.name]:
                raise DataError(path, f"member {member.name}", f"{sizes[member.name]} bytes", f"{member.size}")
            contents[member.name] = b"".join(member.chunks)
    if missing := sizes.keys() - contents.keys():
        raise DataError(path, "members", f"a file {min(missing)!r}", "none")
    return contents


class _Member(NamedTuple):
    name: str  # normalised: no empty parts, no "." and no ".."
    size: int
    is_folder: bool
    chunks: Iterator[bytes]


def _members(path: Path) -> Iterator[_Member]:
    """The members of an archive in order; each is to be read, if at all, before the next one is asked for."""
    with open(path, "rb") as file, _malformed_as_data_error(path):
        size = os.fstat(file.fileno()).st_size
        magic = file.read(2)
        file.seek(0)
        if magic == _ZIP_MAGIC:
            yield from _zip_members(path, file, size)
        elif magic == _GZIP_MAGIC:
            with gzip.GzipFile(fileobj=file) as inflated:
                yield from _tar_members(path, inflated, _DEFLATE_RATIO * size)
        else:
            yield from _tar_members(path, file, size)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@contextmanager
def _malformed_as_data_error(path: Path) -> Iterator[None]:
    """What Python's readers raise for malformed archives; they document only a part of it."""
    try:
        yield
    except DataError:
        raise
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError) as error:
        raise DataError(path, "archive", "a complete tar, tar.gz or zip file", str(error)) from error
    except (ValueError, OverflowError, IndexError, RuntimeError) as error:
        raise DataError(path, "archive", "headers of a tar, tar.gz or zip file", str(error)) from error


def _tar_members(path: Path, file: _Readable, max_size: int) -> Iterator[_Member]:
    source = _MeteredFile(path, file)
    # The forward-only mode reads in pieces, whatever a header promises.
    with tarfile.open(fileobj=source, mode="r|", bufsize=_CHUNK, tarinfo=_StrictTarInfo) as archive:
        while (info := archive.next()) is not None:
            archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue] (a list that only grows)
            if not (info.isreg() or info.isdir()) or info.issparse():
                raise DataError(path, f"member {info.name!r}", "a file or a folder", f"type {info.type!r}")
            name = _safe_name(path, info.name, is_folder=info.isdir())
            if not 0 <= info.size <= max_size:
                raise DataError(path, f"member {name}", f"at most {max_size} bytes", f"{info.size}")
            source.allow(info.size + _MAX_HEADERS)
            stream = None if info.isdir() else archive.extractfile(info)
            yield _Member(name, info.size, info.isdir(), _chunks(path, name, stream, info.size))
        source.allow(_MAX_HEADERS)
        while rest := archive.fileobj.read(_CHUNK):
            if rest.strip(b"\0"):
                raise DataError(path, "end of the archive", "zeros", "more data")


def _zip_members(path: Path, file: IO[bytes], size: int) -> Iterator[_Member]:
    with zipfile.ZipFile(file) as archive:
        if sum(info.file_size for info in archive.infolist()) > _DEFLATE_RATIO * size:
            raise DataError(path, "sizes of the members", f"at most {_DEFLATE_RATIO * size} bytes in all", "more")
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise DataError(path, f"member {info.filename!r}", "a file or a folder", f"mode {kind:o}")
            name = _safe_name(path, info.filename, is_folder=info.is_dir())
            if info.flag_bits & 1 or info.compress_type not in _ZIP_METHODS:
                raise DataError(path, f"member {name}", "stored or deflated bytes", "another method or a password")
            stream = None if info.is_dir() else archive.open(info)
            yield _Member(name, info.file_size, info.is_dir(), _chunks(path, name, stream, info.file_size))


def _chunks(path: Path, name: str, stream: IO[bytes] | None, size: int) -> Iterator[bytes]:
    """The content of a member, which must have exactly `size` bytes."""
    num_read = 0
    with _malformed_as_data_error(path):
        while stream is not None and (chunk := stream.read(_CHUNK)):
            num_read += len(chunk)
            if num_read > size:
                break
            yield chunk
    if stream is not None and num_read != size:
        raise DataError(path, f"member {name}", f"{size} bytes", f"{num_read} or more")


def _safe_name(path: Path, name: str, *, is_folder: bool) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    is_absolute = name.startswith("/") or re.match("[A-Za-z]:", name)
    if is_absolute or "\\" in name or "\0" in name or ".." in parts or not (parts or is_folder):
        raise DataError(path, f"member {name!r}", "a relative path inside the archive", "another")
    safe = "/".join(parts)
    if len(os.fsencode(safe)) > _MAX_PATH or any(len(os.fsencode(part)) > _MAX_NAME for part in parts):
        raise DataError(
            path, f"member {safe[:40]!r}...", f"paths of {_MAX_PATH} and names of {_MAX_NAME} bytes", "more"
        )
    return safe


def _write(path: Path, folder: Path, member: _Member) -> None:
    target = folder / member.name
    try:
        (target if member.is_folder else target.parent).mkdir(parents=True, exist_ok=True)
        if not member.is_folder:
            with open(target, "xb") as file:
                file.writelines(member.chunks)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(path, f"member {member.name}", "a path of its own", "a path used before") from error


class _StrictTarInfo(tarfile.TarInfo):
    """Tells a damaged header from the end of the archive, which `tarfile` takes for the same after the first member."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_StrictTarInfo":
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):  # a block of zeros: the end
                raise
            raise tarfile.ReadError(str(error)) from error


class _MeteredFile(io.BufferedIOBase):
    """Delivers as much of a file as is allowed so far, so that no header grows without bound."""

    def __init__(self, path: Path, file: _Readable):
        self._path, self._file, self._left = path, file, _MAX_HEADERS

    def allow(self, size: int) -> None:
        self._left = size

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._file.read(-1 if size is None else size)
        self._left -= len(data)
        if self._left < 0:
            raise DataError(self._path, "headers", f"at most {_MAX_HEADERS} bytes between two members", "more")
        return data
