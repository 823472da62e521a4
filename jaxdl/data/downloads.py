"""Downloads that appear complete and verified, or not at all."""

import hashlib
import http.client
import importlib.util
import os
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from jaxdl.data.errors import DatasetUnavailable

_CHUNK = 1 << 16
_ALGORITHMS = {32: "md5", 40: "sha1", 64: "sha256"}  # by the length of the checksum


def download(
    url: str, path: str | PathLike[str], checksum: str, *, alternative: str = "load('digits')", timeout: float = 30.0
) -> Path:
    """Downloads `url` to `path`, verified by its published checksum.

    The file is written under a name of its own in the same folder and renamed when it is complete, verified and on the
    disk: an interrupted or damaged download leaves nothing at `path`, and processes that download the same file at the
    same time do not disturb each other. The proxy variables of the environment (`http_proxy`, `https_proxy`,
    `no_proxy`) are honoured.

    Args:
      url: http or https.
      path: where the file goes; its folder is made if needed.
      checksum: as published, in hexadecimal; its length tells md5, sha1 or sha256.
      alternative: what needs no network, as code, for the error to suggest.
      timeout: seconds without a byte after which to give up.

    Returns:
      `path`.

    Raises:
      DatasetUnavailable: if the network, the server or the disk fails, or the checksum is another one.
      ValueError: if the checksum is of no such length.
    """
    if len(checksum) not in _ALGORITHMS:
        raise ValueError(f"checksum: expected 32, 40 or 64 hexadecimal digits (md5, sha1, sha256), got {checksum!r}")
    algorithm = _ALGORITHMS[len(checksum)]
    path = Path(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, "xb") as file:
                found = _fetch(url, file.write, algorithm, timeout)
                file.flush()
                os.fsync(file.fileno())
            if found != checksum:
                reason = f"{url} has the wrong checksum: expected {algorithm} {checksum}, found {found}"
                raise DatasetUnavailable(reason, url, path, alternative)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise DatasetUnavailable(f"{url} could not be downloaded: {error}", url, path, alternative) from error
    return path


def _fetch(url: str, write: Callable[[bytes], object], algorithm: str, timeout: float) -> str:
    """Passes what `url` serves to `write`, and returns its checksum."""
    digest, num_read = hashlib.new(algorithm, usedforsecurity=False), 0
    opener = urllib.request.build_opener()  # a new one each time: it reads the proxy variables when it is built
    request = urllib.request.Request(url, headers={"User-Agent": "jaxdl"})
    with opener.open(request, timeout=timeout) as response:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        with _progress(url, total) as advance:
            while chunk := response.read(_CHUNK):
                write(chunk)
                digest.update(chunk)
                num_read += len(chunk)
                advance(len(chunk))
    if total is not None and num_read != total:
        raise ConnectionError(f"the connection closed after {num_read} of {total} bytes")
    return digest.hexdigest()


@contextmanager
def _progress(url: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal if `rich` is there; otherwise one line."""
    if not (sys.stderr.isatty() and importlib.util.find_spec("rich")):
        print(f"Downloading {url}", file=sys.stderr)
        yield lambda num_bytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(url.rsplit("/", 1)[-1], total=total)
        yield lambda num_bytes: progress.advance(task, num_bytes)
