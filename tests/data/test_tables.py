"""CSV files against csv.writer and NumPy, and whatever else a file may hold."""

import contextlib
import csv
import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxdl.data import DataError, read_csv_table
from jaxdl.data.tables import MISSING

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HOUSE_TINY = b"NumRooms,RoofType,Price\nNA,NA,127500\n2,NA,106000\n4,Slate,178100\nNA,NA,140000\n"


def read(tmp_path, content, **options):
    (tmp_path / "table.csv").write_bytes(content)
    return read_csv_table(tmp_path / "table.csv", **options)


def lists(table):
    """The columns as lists, NaN as None."""
    return {name: [None if value != value else value for value in values.tolist()] for name, values in table.items()}


def test_the_books_table(tmp_path):
    table = read(tmp_path, HOUSE_TINY)
    assert lists(table) == {
        "NumRooms": [None, 2, 4, None],
        "RoofType": ["", "", "Slate", ""],
        "Price": [127500, 106000, 178100, 140000],
    }
    assert [values.dtype for values in table.values()] == [np.float64, np.dtypes.StringDType(), np.float64]


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        (b"\xef\xbb\xbfa,b\r\n1,x\r\n2,y", {}, {"a": [1, 2], "b": ["x", "y"]}),  # a byte order mark, no last line end
        (b"a,b\r1,x\r2,y\r", {}, {"a": [1, 2], "b": ["x", "y"]}),
        (b"\n\na\tb\n\n1\tx,y\n\n", {"delimiter": "\t"}, {"a": [1], "b": ["x,y"]}),
        (b'"a","b"\n"1","x, ""y""\r\nz"\n', {}, {"a": [1], "b": ['x, "y"\r\nz']}),
        (b'a\n""\n1\n', {}, {"a": [None, 1]}),  # an empty line is skipped, an empty field is missing
        (b"a, b\n 1 ,  x \n NA , NA \n", {}, {"a": [1, None], " b": ["  x ", ""]}),
        (b"a,b\n,\nNaN,null\n", {}, {"a": [None, None], "b": [None, None]}),  # no value: numbers
        (b"a,b\n", {}, {"a": [], "b": []}),
        (b"a,b,\n1,2,\n", {}, {"a": [1], "b": [2], "": [None]}),  # an index without a name, or a comma too many
        (b"a,b\nNone,?\n1,2\n", {}, {"a": ["None", "1"], "b": ["?", "2"]}),
        (b"a,b\nNone,?\n1,2\n", {"missing": ["None", "?"]}, {"a": [None, 1], "b": [None, 2]}),
        (b"1,x\n2,y\n", {"column_names": ["a", "b"]}, {"a": [1, 2], "b": ["x", "y"]}),
        ("größe\n3\n".encode(), {}, {"größe": [3]}),
    ],
)
def test_forms(tmp_path, content, options, expected):
    table = read(tmp_path, content, **options)
    assert list(table) == list(expected)
    assert lists(table) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [("-.5", -0.5), ("+7.", 7), ("1e3", 1000), ("1E-2", 0.01), ("007", 7), ("9007199254740993", 2.0**53)]
    + [(text, None) for text in ("1_000", "0x10", "inf", "1e999", "1,5", "٣", "1 2", "-", ".", "e5", "1e")],
)
def test_what_a_number_is(tmp_path, text, number):
    (values,) = read(tmp_path, f'a\n"{text}"\n'.encode()).values()
    assert values.tolist() == [text if number is None else number]


def test_numbers_are_numpys(tmp_path):
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(20, 3)) * 10.0 ** rng.integers(-300, 300, (20, 3))
    numbers[rng.random((20, 3)) < 0.2] = np.nan
    content = "a,b,c\n" + "\n".join(",".join(map(repr, row)) for row in numbers.tolist())
    expected = np.genfromtxt(io.StringIO(content), delimiter=",", names=True)
    for name, values in read(tmp_path, content.encode()).items():
        np.testing.assert_array_equal(values, expected[name])


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)


@FUZZ
@given(data=st.data(), width=st.integers(1, 3), delimiter=st.sampled_from(",;\t|"), end=st.sampled_from(["\n", "\r\n"]))
def test_what_csv_writes_is_read_back(tmp_path, data, width, delimiter, end):
    """Every text that is no number and not missing comes back as it was."""
    rows = data.draw(st.lists(st.lists(TEXT, min_size=width, max_size=width), max_size=4))
    names = [f"column {i}" for i in range(width)]
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([names, *rows])
    table = read(tmp_path, file.getvalue().encode(), delimiter=delimiter)
    assert list(table) == names
    for values, texts in zip(table.values(), zip(*rows, strict=True), strict=False):
        if values.dtype.kind == "f":
            assert all(text.strip() in MISSING or np.isfinite(float(text)) for text in texts)
        else:
            assert values.tolist() == ["" if text.strip() in MISSING else text for text in texts]


MALFORMED = {
    "empty": (b"", "line 1: expected a header .*, found an empty file"),
    "only empty lines": (b"\n\n", "line 1: expected a header .*, found an empty file"),
    "only a byte order mark": (b"\xef\xbb\xbf", "line 1: expected a header"),
    "no header": (b"1,2\n3,4\n", r"line 1: expected a header .*, found numbers \(1, ...\)"),
    "a name twice": (b"\na,b,a\n1,2,3\n", "line 2: expected distinct column names, found 'a' twice"),
    "a field less": (b'a,b\n1,"2\n3"\n\n4\n', "line 5: expected 2 fields, found 1"),
    "a field more": (b"a,b\n1,2\n4,5,6\n", "line 3: expected 2 fields, found 3"),
    "an open quote": (b'a,b\n1,2\n3,"4\n5,6\n7,8\n', "line 3: expected a record of fields, found unexpected end"),
    "text after a quote": (b'a,b\n1,"2"3\n', "line 2: expected a record of fields, found ',' expected after '\"'"),
    "a long field": (b"a\n1\n" + b"x" * 131073, "line 3: expected a record of fields, found field larger"),
    "NUL": (b"a,b\r\n1,2\r\n\0,3\n", "line 3: expected text in UTF-8, found the byte 0x00 at offset 10"),
    "Latin-1": (b"a\r1\rgr\xfc\xdf\n", "line 3: expected text in UTF-8, found the byte 0xfc at offset 6"),
    "Latin-1 after NUL": (b"a\n\0\xfc\n", "line 2: expected .*, found the byte 0x00"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), "line 1: expected text in UTF-8"),
    "zip": (b"PK\x03\x04\x14\0\0\0", "line 1: expected text in UTF-8"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(tmp_path, name):
    content, match = MALFORMED[name]
    with pytest.raises(DataError, match=f"table.csv: {match}"):
        read(tmp_path, content)


def test_an_empty_file_has_no_rows_for_the_names_either(tmp_path):
    with pytest.raises(DataError, match="line 1: expected a row of 2 fields, found an empty file"):
        read(tmp_path, b"\n", column_names=["a", "b"])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"delimiter": ""}, "delimiter: expected one character"),
        ({"delimiter": "::"}, "delimiter: expected one character"),
        ({"delimiter": '"'}, "delimiter: expected one character"),
        ({"missing": "NA"}, "missing: expected several texts, got the one text 'NA'"),
        ({"column_names": "abc"}, "column_names: expected several texts"),
        ({"column_names": []}, "column_names: expected one or more distinct names"),
        ({"column_names": ["a", "b", "a"]}, "column_names: expected one or more distinct names"),
    ],
)
def test_arguments_that_cannot_be(tmp_path, options, match):
    with pytest.raises(ValueError, match=match):
        read(tmp_path, HOUSE_TINY, **options)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_csv_table(tmp_path / "none")


def test_one_long_field_does_not_widen_the_others(tmp_path):
    """A file of 150 KB whose texts would fill 5 GB at equal width, and whose digits would take hours to backtrack."""
    tracemalloc.start()
    (values,) = read(tmp_path, b"a\n" + b"1" * 131_000 + b"x\n" + b"y\n" * 10_000).values()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert values.shape == (10_001,)
    assert peak < 20 << 20


@FUZZ
@given(
    content=st.binary(max_size=80),
    prefix=st.sampled_from([b"", b"a,b\n", b'a,"b\n', b"\xef\xbb\xbfa\n", b"a,b\n1,2\n"]),
)
def test_random_bytes(tmp_path, content, prefix):
    with contextlib.suppress(DataError):
        table = read(tmp_path, prefix + content)
        assert len({values.shape for values in table.values()}) == 1


@FUZZ
@given(data=st.data())
def test_mutated_files(tmp_path, data):
    content = bytearray(HOUSE_TINY.replace(b"Slate", b'"Slate, ""old"""') * 2)
    for _ in range(data.draw(st.integers(1, 3))):
        position, byte = data.draw(st.integers(0, len(content) - 1)), data.draw(st.sampled_from(b'",\r\n\0\xff1e. a'))
        content[position] = byte
    with contextlib.suppress(DataError):
        table = read(tmp_path, content[: data.draw(st.integers(0, len(content)))])
        assert sum(values.nbytes for values in table.values()) < 10_000
