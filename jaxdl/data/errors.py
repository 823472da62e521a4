"""The two ways data can fail: it cannot be had, or it is not what it says it is."""

from os import PathLike
from pathlib import Path


class DataError(ValueError):
    """A file is truncated, malformed or hostile.

    Attributes:
      file: the file at fault.
      where: the offset, record or member in it.
      expected: what should be there.
      found: what is there.
    """

    def __init__(self, file: str | PathLike[str], where: str, expected: str, found: str):
        super().__init__(file, where, expected, found)  # all of them, so that the error survives pickling
        self.file, self.where, self.expected, self.found = Path(file), where, expected, found

    def __str__(self) -> str:
        return f"{self.file}: {self.where}: expected {self.expected}, found {self.found}"


class DatasetUnavailable(RuntimeError):
    """A file of a data set is not there and could not be downloaded.

    Attributes:
      reason: what went wrong.
      url: where the file is published.
      path: where the file is expected, if you fetch it yourself.
      alternative: what needs no network, as code.
    """

    def __init__(self, reason: str, url: str, path: str | PathLike[str], alternative: str = "load('digits')"):
        super().__init__(reason, url, path, alternative)
        self.reason, self.url, self.path, self.alternative = reason, url, Path(path), alternative

    def __str__(self) -> str:
        return (
            f"{self.reason}. Put the file from {self.url} into the folder {self.path.parent} as {self.path.name}, "
            f"or use what needs no network: {self.alternative}."
        )
