import contextlib
import hashlib
import io
import os
import re
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxdl.data import (
    DataError,
    DatasetUnavailable,
    Vocab,
    clean_sentence,
    clean_text,
    datasets,
    encode_pairs,
    load,
    overlapping_windows,
    read_sentence_pairs,
    read_text,
    sentence_vocab,
    tokenize,
)
from jaxdl.data.text_files import characters

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
REAL = Path(os.environ.get("JAXDL_TEST_DATA") or Path(__file__).parents[2] / "../shared/data")


def needs(path):
    return pytest.mark.skipif(
        not (REAL / path).is_file(), reason=f"needs {path}: set JAXDL_TEST_DATA to a folder that has it"
    )


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """A data directory of our own, and no way out of the machine."""

    def refuse(url, path, checksum, alternative):
        raise DatasetUnavailable(f"{url}: no network in this test", url, path, alternative)

    monkeypatch.setattr(datasets, "download_file", refuse)
    monkeypatch.setenv("JAXDL_DATA", str(tmp_path))


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def text_of(name, split="train", **options):
    array = load(name, split, **options)["text"]
    assert array.dtype == "<U1"
    return "".join(array)


@pytest.mark.parametrize("content", [b"a\r\nb\rc\n\xc3\xa9", b"\xef\xbb\xbfa\nb\nc\n\xc3\xa9"])
def test_a_text_is_read(tmp_path, content):
    assert read_text(write(tmp_path / "text", content)) == "a\nb\nc\né"


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"caf\xe9", "offset 3: expected text in UTF-8, found the byte 0xe9"),
        (b"\xff\xfea\0", "offset 0: expected text in UTF-8, found the byte 0xff"),
        (b"a\0b\0", "offset 1: expected text in UTF-8, found the byte 0x00"),
        (b"\xef\xbb\xbfab\xff", "offset 5: expected text in UTF-8, found the byte 0xff"),
        (b"ab\xc3", "offset 2: expected text in UTF-8, found the byte 0xc3"),
        (b"\xed\xa0\x80", "offset 0: expected text in UTF-8, found the byte 0xed"),
    ],
)
def test_what_is_not_utf8_is_named_by_its_offset(tmp_path, content, where):
    path = write(tmp_path / "text", content)
    with pytest.raises(DataError, match=re.escape(f"{path}: {where}")):
        read_text(path)


@FUZZ
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff"), max_size=20))
def test_a_text_is_its_characters(tmp_path, text):
    path = write(tmp_path / "text", text.encode())
    assert read_text(path) == text
    assert characters(text).tolist() == list(text)


def test_sentence_pairs_of_two_and_three_fields(tmp_path):
    path = write(tmp_path / "fra.txt", "Go.\tVa !\n\nRun!\tCours\u202f!\tCC-BY 2.0 (France)\r\n".encode())
    assert read_sentence_pairs(path) == [("Go.", "Va !"), ("Run!", "Cours\u202f!")]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "line 1: expected a sentence, a tab and its translation, found an empty file"),
        (b"Go.\tVa !\nRun!\n", r"line 2: expected a sentence, a tab and its translation, found 1 field"),
        (b"\na\tb\tc\td\n", r"line 2: expected a sentence, a tab and its translation, found 4 field"),
        (b"Go.\t \n", "line 1: expected two sentences"),
        (b"Go.\tVa \xff\n", "offset 7: expected text in UTF-8"),
    ],
)
def test_malformed_sentence_pairs(tmp_path, content, match):
    with pytest.raises(DataError, match=match):
        read_sentence_pairs(write(tmp_path / "fra.txt", content))


@FUZZ
@given(content=st.binary(max_size=60), prefix=st.sampled_from([b"", b"Go.\tVa !\n", b"\xef\xbb\xbfa\tb\tc\n"]))
def test_random_bytes(tmp_path, content, prefix):
    with contextlib.suppress(DataError):
        assert all(len(pair) == 2 for pair in read_sentence_pairs(write(tmp_path / "fra.txt", prefix + content)))
    write(tmp_path / "timemachine/timemachine.txt", prefix + content)
    with contextlib.suppress(DataError):
        assert text_of("time_machine")


def archive(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return file.getvalue()


PAIRS = b"Go.\tVa !\nHi.\tSalut !\nRun!\tCours !\n"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("fra-eng/fra-eng.zip", archive({"fra-eng/fra.txt": PAIRS, "fra-eng/_about.txt": b"about"})),
        ("fra-eng/fra-eng.zip", archive({"_about.txt": b"about", "fra.txt": PAIRS})),  # as manythings.org packs it
        ("fra-eng/fra.txt", PAIRS),
    ],
)
def test_fra_eng_is_read_packed_or_not(tmp_path, path, content):
    write(tmp_path / path, content)
    arrays = load("fra_eng", "train[1:]+train[:1]", download=False)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "english": ["Hi.", "Run!", "Go."],
        "french": ["Salut !", "Cours !", "Va !"],
    }


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (archive({"about.txt": b"about"}), "members: expected one file fra.txt, found 0"),
        (archive({"a/fra.txt": PAIRS, "b/fra.txt": PAIRS}), "members: expected one file fra.txt, found 2"),
        (archive({"fra.txt": b"Go.\n"}), "fra.txt, line 1: expected a sentence, a tab and its translation"),
        (archive({"fra.txt": PAIRS})[:60], "archive: expected a complete tar"),
        (archive({"../fra.txt": PAIRS}), "expected a relative path inside the archive"),
        (b"", "line 1: expected a sentence, a tab and its translation, found an empty file"),
    ],
)
def test_malformed_fra_eng(tmp_path, content, match):
    path = write(tmp_path / "fra-eng/fra-eng.zip", content)
    with pytest.raises(DataError, match=match) as caught:
        load("fra_eng")
    assert caught.value.file == path


@FUZZ
@given(data=st.data())
def test_mutated_fra_eng(tmp_path, data):
    content = bytearray(archive({"fra-eng/fra.txt": PAIRS}))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    write(tmp_path / "fra-eng/fra-eng.zip", content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(DataError):
        assert len(load("fra_eng")["english"])


@pytest.mark.parametrize(
    ("name", "instead"),
    [("time_machine", "load('pydoc')"), ("tiny_shakespeare", "load('pydoc')"), ("fra_eng", "number_words(10_000)")],
)
def test_missing_texts_suggest_what_needs_no_network(tmp_path, name, instead):
    with pytest.raises(DatasetUnavailable, match=re.escape(instead)) as caught:
        load(name)
    assert caught.value.path.is_relative_to(tmp_path)
    with pytest.raises(ValueError, match=f"split: expected one of train for '{name}', got 'test'"):
        load(name, "test")


def test_an_empty_text_is_an_error(tmp_path):
    write(tmp_path / "tinyshakespeare/input.txt", b"")
    with pytest.raises(DataError, match="offset 0: expected text, found an empty file"):
        load("tiny_shakespeare")


def test_a_text_is_sliced_by_characters(tmp_path):
    write(tmp_path / "timemachine/timemachine.txt", b"0123456789")
    assert text_of("time_machine", "train[:80%]") == "01234567"
    assert text_of("time_machine", "train[-3:]+train[:2]") == "78901"


def paragraphs(text):
    """As a reader sees them: what stands between blank lines, whatever its line breaks."""
    return [" ".join(paragraph.split()) for paragraph in text.strip("\n").split("\n\n")]


def test_pydoc():
    """English in ASCII, of a size that differs by the version of Python; no paragraph twice, none in both splits."""
    train, test = text_of("pydoc"), text_of("pydoc", "test")
    assert train.isascii()
    assert test.isascii()
    assert 250_000 < len(train) < 800_000
    assert 0.07 < len(test) / len(train) < 0.15
    both = paragraphs(train) + paragraphs(test)
    assert max(Counter(both).values()) == 1
    assert "" not in both
    assert 5 < len(train.split("\n\n")) / len(test.split("\n\n")) < 10
    common = Counter(clean_text(train).split()).most_common(3)
    assert common[0][0] == "the"
    assert text_of("pydoc", "train[:100]") == train[:100]


def test_pydoc_drops_what_repeats_before_it_splits(monkeypatch):
    from pydoc_data import topics

    made = {f"topic {i}": f"Paragraph {i} —\nis “new”.\n\n\n   It  repeats.\n \nIt repeats.\n" for i in range(19)}
    monkeypatch.setattr(topics, "topics", made)
    whole = text_of("pydoc") + "\n" + text_of("pydoc", "test")
    assert whole.count("repeats") == 1
    assert whole.count('is "new".') == 19
    assert text_of("pydoc", "test") == 'Paragraph 8 -\nis "new".\n\nParagraph 18 -\nis "new".\n'
    assert text_of("pydoc").startswith('Paragraph 0 -\nis "new".\n\n   It  repeats.\n\nParagraph 1 -')


def test_pydoc_needs_the_standard_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ImportError, match="'pydoc' needs pydoc_data of the standard library"):
        load("pydoc")


def checksum_is_that_of_the_table(name, algorithm):
    (file,) = datasets._DATASETS[name].files["train"]
    assert hashlib.new(algorithm, (REAL / file.path).read_bytes()).hexdigest() == file.checksum


@needs("timemachine/timemachine.txt")
def test_the_real_time_machine():
    """D2L 9.2 and 9.3: 173,428 characters; 28 symbols with `<unk>`, one more with our `<pad>`; about 30,000 words."""
    checksum_is_that_of_the_table("time_machine", "sha1")
    raw = text_of("time_machine", directory=REAL, download=False)
    assert len(raw) == 178_979
    text = clean_text(raw)
    vocab = Vocab.from_corpus(tokenize(text))
    assert (len(text), len(vocab)) == (173_428, 28 + 1)
    assert vocab.tokens[:6] == ("<pad>", "<unk>", " ", "e", "t", "a")
    assert len(tokenize(text, "word")) == 32_775
    corpus = vocab.encode(text)
    assert overlapping_windows(corpus, 32).shape == (173_428 - 32, 33)
    assert "".join(vocab.decode(corpus[:16])) == "the time machine"


@needs("tinyshakespeare/input.txt")
def test_the_real_shakespeare():
    checksum_is_that_of_the_table("tiny_shakespeare", "sha256")
    text = text_of("tiny_shakespeare", directory=REAL, download=False)
    assert (len(text), len(set(text))) == (1_115_394, 65)
    assert text.startswith("First Citizen:\nBefore we proceed")


@needs("fra-eng/fra-eng.zip")
def test_the_real_sentence_pairs():
    checksum_is_that_of_the_table("fra_eng", "sha1")
    arrays = load("fra_eng", directory=REAL, download=False)
    assert len(arrays["english"]) == len(arrays["french"]) == 167_130
    assert (arrays["english"][0], arrays["french"][0]) == ("Go.", "Va !")
    first = load("fra_eng", "train[:640]", directory=REAL, download=False)
    sides = [[clean_sentence(sentence).split() for sentence in first[name].tolist()] for name in ("english", "french")]
    vocabs = [sentence_vocab(side, min_frequency=2) for side in sides]
    batch = encode_pairs(*sides, *vocabs, num_steps=9, truncate=True)
    assert batch["source"].shape == (640, 9)
    assert batch["target"][:, :-1].shape == (640, 9)
    assert (np.mean([len(sentence) for side in sides for sentence in side]) < 20).all()
