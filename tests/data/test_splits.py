import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl.data.splits import SplitSlice, parse_split

BOUNDARY = st.none() | st.integers(-300, 300)


@given(start=BOUNDARY, stop=BOUNDARY, n=st.integers(0, 200))
def test_numbers_slice_as_python_does(start, stop, n):
    text = f"train[{'' if start is None else start}:{'' if stop is None else stop}]"
    (term,) = parse_split(text)
    assert list(range(n))[term.resolve(n)] == list(range(n))[start:stop]


@given(percent=st.integers(0, 100), n=st.integers(0, 10_000))
def test_percentages_cut_without_gap_or_overlap(percent, n):
    first, second = (parse_split(text)[0].resolve(n) for text in (f"a[:{percent}%]", f"a[{percent}%:]"))
    assert [*range(n)[first], *range(n)[second]] == list(range(n))
    assert abs(len(range(n)[first]) - n * percent / 100) <= 0.5


@pytest.mark.parametrize(
    ("text", "n", "expected"),
    [
        ("a[:80%]", 1437, (None, 1150)),  # 1149.6
        ("a[20%:80%]", 1437, (287, 1150)),  # 287.4
        ("a[-10%:]", 1437, (-144, None)),  # -143.7
        ("a[:100%]", 7, (None, 7)),
        ("a[:50%]", 5, (None, 2)),  # a half rounds to even, as in TFDS
        ("a[10:50%]", 30, (10, 15)),
        ("a[0:]", 5, (0, None)),
        ("a", 5, (None, None)),
        ("a[:]", 5, (None, None)),
    ],
)
def test_values(text, n, expected):
    assert parse_split(text)[0].resolve(n) == slice(*expected)


def test_sums():
    terms = [SplitSlice("train", None, "10%"), SplitSlice("test"), SplitSlice("train", "-5", None)]
    assert parse_split("train[:10%] + test+train[-5:]") == terms


MALFORMED = ["", "+", "train+", "train[", "train[]", "train[5]", "train[::2]", "train[a:]", "train[:1.5%]", "train[:%]"]
MALFORMED += ["train[:5]x", "[:5]", "train[:5]]", "train[: 5]", "train[:--5]", "train[1_0:]", "train-test", "3train"]


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed(text):
    with pytest.raises(ValueError, match="split: expected a form such as"):
        parse_split(text)


@pytest.mark.parametrize("text", ["train[:101%]", "train[-101%:]", "train+test[:500%]"])
def test_percentages_beyond_the_whole(text):
    with pytest.raises(ValueError, match="percentages from -100% to 100%"):
        parse_split(text)
