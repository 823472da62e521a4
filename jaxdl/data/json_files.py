"""What vocabularies and tokenizers are saved as: JSON in UTF-8, judged before it is used."""

import json
import os
import uuid
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from jaxdl.data.errors import DataError

T = TypeVar("T")


def write_json(path: str | PathLike[str], value: Any) -> None:
    """Writes JSON that appears complete or not at all; characters beyond ASCII are escaped."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with open(partial, "x", encoding="ascii") as file:
            json.dump(value, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: str | PathLike[str], make: Callable[[dict[str, Any]], T], what: str) -> T:
    """Reads a JSON object and makes something of its fields.

    Args:
      path: the file.
      make: takes the fields; what it raises for wrong ones (KeyError, TypeError, ValueError) becomes a `DataError`.
      what: that is expected, for the error.

    Raises:
      DataError: if the file is not JSON in UTF-8, not an object, or `make` refuses it.
      OSError: if it cannot be opened.
    """
    content = Path(path).read_bytes()
    try:
        fields = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # of the encoding, the syntax, or a number of thousands of digits
        raise DataError(path, "content", f"{what} in JSON", str(error)) from error
    if not isinstance(fields, dict):
        raise DataError(path, "content", f"{what}, a JSON object", type(fields).__name__)
    try:
        return make(fields)
    except KeyError as error:
        raise DataError(path, "content", f"{what} with a field {error}", f"{sorted(fields)[:8]}") from error
    except (TypeError, ValueError) as error:
        raise DataError(path, "content", what, str(error)) from error


def texts(value: Any) -> list[str]:
    """A list of texts from JSON, checked.

    Raises:
      ValueError: if it is something else.
    """
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"expected a list of texts, got {str(value)[:60]!r}")
    return value
