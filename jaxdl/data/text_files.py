"""Text in files, and the texts that `load` knows.

A text is an array of its characters, so that a split slices it as it slices examples; `"".join(array)` is the `str`.
"""

import re
import tempfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from jaxdl.data.archives import extract_archive
from jaxdl.data.errors import DataError

_TEXT = np.dtypes.StringDType()
_ZIP_MAGIC = b"PK"
_QUOTES_AND_DASHES = {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-"}
_TO_ASCII = str.maketrans(_QUOTES_AND_DASHES | {"\u2026": "...", "\xa0": " "})
_TEST_EVERY = 10  # a tenth of the paragraphs


def read_text(path: str | PathLike[str]) -> str:
    r"""Reads a text in UTF-8; a byte order mark is dropped, and lines end in "\n" whatever they ended in.

    Raises:
      DataError: if the file is not UTF-8 or has a NUL byte (UTF-16 has), naming the offset.
      OSError: if it cannot be opened.
    """
    content = Path(path).read_bytes()
    wrong, text = content.find(b"\0"), ""
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        wrong = error.start if wrong < 0 else min(wrong, error.start)
    if wrong >= 0:
        raise DataError(path, f"offset {wrong}", "text in UTF-8", f"the byte 0x{content[wrong]:02x}")
    return re.sub(r"\r\n?", "\n", text)


def read_sentence_pairs(path: str | PathLike[str]) -> list[tuple[str, str]]:
    """Reads lines of a sentence, a tab and its translation, as published by manythings.org/anki (Tatoeba).

    Newer files have a third field, who wrote the sentences, which is dropped. Empty lines are skipped.

    Raises:
      DataError: as `read_text`, or if a line has another number of fields, a sentence is empty, or there is no line.
      OSError: if the file cannot be opened.
    """
    pairs = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line:
            continue
        fields = line.split("\t")
        if len(fields) not in (2, 3):
            raise DataError(path, f"line {number}", "a sentence, a tab and its translation", f"{len(fields)} field(s)")
        if not (fields[0].strip() and fields[1].strip()):
            raise DataError(path, f"line {number}", "two sentences", f"{line[:60]!r}")
        pairs.append((fields[0], fields[1]))
    if not pairs:
        raise DataError(path, "line 1", "a sentence, a tab and its translation", "an empty file")
    return pairs


def characters(text: str) -> np.ndarray:
    """`[characters]`, a text of length 1 each."""
    return np.frombuffer(text.encode("utf-32-le"), "<U1")


def read_text_file(split: str, files: Sequence[Path]) -> dict[str, np.ndarray]:
    """A text that is published as one file.

    Returns:
      `text`, `[characters]`.

    Raises:
      DataError: as `read_text`, or if the file is empty.
    """
    del split
    (file,) = files
    text = read_text(file)
    if not text:
        raise DataError(file, "offset 0", "text", "an empty file")
    return {"text": characters(text)}


def read_fra_eng(split: str, files: Sequence[Path]) -> dict[str, np.ndarray]:
    """English sentences and their French translations, short ones first (Tatoeba, from manythings.org/anki; D2L 10.5).

    Args:
      split: not used.
      files: the archive with one `fra.txt`, or that file itself.

    Returns:
      `english` and `french`, `[pairs]` of NumPy's `StringDType`, as they are written: `clean_sentence` prepares them.

    Raises:
      DataError: if the archive is malformed or has no `fra.txt`, or as `read_sentence_pairs`.
    """
    del split
    (file,) = files
    with open(file, "rb") as opened:
        is_zip = opened.read(2) == _ZIP_MAGIC
    if not is_zip:
        pairs = read_sentence_pairs(file)
    else:
        with tempfile.TemporaryDirectory() as folder:
            extracted = extract_archive(file, Path(folder) / "extracted")
            found = sorted(extracted.rglob("fra.txt"))
            if len(found) != 1:
                raise DataError(file, "members", "one file fra.txt", f"{len(found)}")
            try:
                pairs = read_sentence_pairs(found[0])
            except DataError as error:  # its path is gone by the time it is read
                raise DataError(file, f"fra.txt, {error.where}", error.expected, error.found) from error
    english, french = zip(*pairs, strict=True)
    return {"english": np.array(english, _TEXT), "french": np.array(french, _TEXT)}


def read_pydoc(split: str, files: Sequence[Path]) -> dict[str, np.ndarray]:
    """Python's language reference, as it ships with Python for `help()`: real English with examples of code.

    Its topics overlap: a fifth of the paragraphs repeat others. Each is kept where it comes first (paragraphs that
    differ in their line breaks count as the same), before every tenth is put into "test" and the others into "train":
    no paragraph of the one is in the other. Typographic quotes and dashes become ASCII, other characters beyond ASCII
    are dropped. The text differs between versions of Python.

    Returns:
      `text`, `[characters]`: paragraphs with a blank line between them.

    Raises:
      ImportError: if this Python comes without `pydoc_data`.
    """
    del files  # the text ships with Python
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ImportError("the data set 'pydoc' needs pydoc_data of the standard library, which is missing") from error
    paragraphs: dict[str, str] = {}
    for topic in topics.values():
        text = topic.translate(_TO_ASCII).encode("ascii", "ignore").decode("ascii")
        for paragraph in re.split(r"\n\s*?\n", text):
            paragraphs.setdefault(" ".join(paragraph.split()), paragraph.strip("\n"))
    paragraphs.pop("", None)
    wanted = [
        paragraph
        for number, paragraph in enumerate(paragraphs.values())
        if (number % _TEST_EVERY == _TEST_EVERY - 1) == (split == "test")
    ]
    return {"text": characters("\n\n".join(wanted) + "\n")}
