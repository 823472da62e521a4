"""Tables as named columns, read from CSV files (D2L 2.2; RFC 4180)."""

import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from jaxdl.data.errors import DataError

MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)  # takes linear time, whatever it is given
_TEXT = np.dtypes.StringDType()


def read_csv_table(
    path: str | PathLike[str],
    *,
    delimiter: str = ",",
    missing: Collection[str] = MISSING,
    column_names: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    r"""Reads a CSV file in UTF-8 into columns.

    A column is of numbers if all that it holds, besides missing values, are decimal numbers within the range of float64
    ("12", "-.5", "1e3"; "1_000", "0x10" and "inf" are text); integers beyond 2^53 are rounded. Blanks around a number
    or a missing value do not count; text is kept as it is. Empty lines are skipped.

    Args:
      path: the file. Lines end in LF, CRLF or CR; quotes, quoted line ends and a byte order mark are understood.
      delimiter: the character between fields, such as "\t".
      missing: what stands for a value that is not there. "None" is not among the defaults: in the house prices of
        D2L 5.7 it says that a wall has no veneer (pandas 2 takes it for missing).
      column_names: of a file without a header.

    Returns:
      By column name, in the order of the file: `[rows]`, float64 with NaN where a value is missing, or text (NumPy's
      `StringDType`) with "" there. A column without any value is of numbers.

    Raises:
      DataError: if the file is empty or has no header, a row has more or fewer fields than there are names, a name
        comes twice, a quote is wrong or never closed, a field is longer than `csv.field_size_limit()`, or the file has
        a NUL byte or is not UTF-8.
      ValueError: if an argument is not of this form, or two of `column_names` are equal.
      OSError: if the file cannot be opened (`FileNotFoundError` if it is missing).
    """
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise ValueError(f"delimiter: expected one character, not a quote or a line end, got {delimiter!r}")
    for name, argument in (("missing", missing), ("column_names", column_names)):
        if isinstance(argument, str):
            raise ValueError(f"{name}: expected several texts, got the one text {argument!r}")
    records = _records(path, delimiter)
    if column_names is None:
        names = _header(path, *next(records, (1, [])))
    else:
        names = list(column_names)
        if not names or len(set(names)) < len(names):
            raise ValueError(f"column_names: expected one or more distinct names, got {names}")
    rows = []
    for line, record in records:
        if len(record) != len(names):
            raise DataError(path, f"line {line}", f"{len(names)} fields", f"{len(record)}")
        rows.append(record)
    if column_names is not None and not rows:
        raise DataError(path, "line 1", f"a row of {len(names)} fields", "an empty file")
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return {name: _column(values, frozenset(missing)) for name, values in zip(names, columns, strict=True)}


def _records(path: str | PathLike[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The records that are not empty, each with the number of its first line."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(path, f"line {line}", "a record of fields", str(error)) from error
        if record:
            yield line, record


def _text(path: str | PathLike[str]) -> str:
    content, text = Path(path).read_bytes(), ""
    wrong = content.find(b"\0")
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        wrong = error.start if wrong < 0 else min(wrong, error.start)
    if wrong >= 0:
        line = 1 + len(re.findall(rb"\r\n?|\n", content[:wrong]))
        raise DataError(path, f"line {line}", "text in UTF-8", f"the byte 0x{content[wrong]:02x} at offset {wrong}")
    return text


def _header(path: str | PathLike[str], line: int, names: list[str]) -> list[str]:
    if not names or all(_NUMBER.fullmatch(name.strip()) for name in names):
        found = f"numbers ({names[0]}, ...)" if names else "an empty file"
        raise DataError(path, f"line {line}", "a header with the names of the columns", found)
    if repeated := [name for i, name in enumerate(names) if name in names[:i]]:
        raise DataError(path, f"line {line}", "distinct column names", f"{repeated[0]!r} twice")
    return names


def _column(values: Sequence[str], missing: frozenset[str]) -> np.ndarray:
    stripped = [value.strip() for value in values]
    if all(value in missing or _NUMBER.fullmatch(value) for value in stripped):
        numbers = np.array([np.nan if value in missing else float(value) for value in stripped], np.float64)
        if not np.isinf(numbers).any():
            return numbers
    texts = ["" if short in missing else value for short, value in zip(stripped, values, strict=True)]
    return np.array(texts, _TEXT)
