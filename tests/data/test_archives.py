import gzip
import io
import os
import struct
import tarfile
import time
import tracemalloc
import zipfile
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxdl.data import DataError, extract_archive
from jaxdl.data.archives import read_members

FILES = {"top.txt": b"top", "folder/a.bin": bytes(range(256)) * 300, "folder/deep/empty": b""}
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def to_tar(files=FILES, *, compress=gzip.compress, infos=()):
    """A tar file of a folder, `files`, and `infos`, whatever they claim, with as many zeros as they say."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo("./folder/")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in infos:
            archive.addfile(info, io.BytesIO(bytes(max(info.size, 0))))
    return compress(buffer.getvalue())


def to_zip(files=FILES, *, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.mkdir("folder")
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ARCHIVES = {
    "tar": to_tar(compress=bytes),
    "tar.gz": to_tar(),
    "zip": to_zip(),
    "stored zip": to_zip(method=zipfile.ZIP_STORED),
}


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def refuse(tmp_path, content, match):
    """Extraction raises DataError, and leaves nothing, inside or outside."""
    (tmp_path / "in").mkdir(exist_ok=True)
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(DataError, match=match):
        extract_archive(tmp_path / "archive", tmp_path / "in" / "out")
    assert sorted(f.name for f in tmp_path.rglob("*")) == ["archive", "in"]


@pytest.mark.parametrize("kind", ARCHIVES)
def test_extracts(tmp_path, kind):
    (tmp_path / "archive").write_bytes(ARCHIVES[kind])
    out = extract_archive(tmp_path / "archive", tmp_path / "new" / "out")
    assert out == tmp_path / "new" / "out"
    assert contents(out) == FILES
    assert os.listdir(tmp_path / "new") == ["out"]


@pytest.mark.parametrize("kind", ARCHIVES)
def test_extracts_and_reads_some(tmp_path, kind):
    (tmp_path / "archive").write_bytes(ARCHIVES[kind])
    wanted = {name: FILES[name] for name in ("folder/a.bin", "folder/deep/empty")}
    assert contents(extract_archive(tmp_path / "archive", tmp_path / "out", members=wanted)) == wanted
    assert read_members(tmp_path / "archive", {name: len(content) for name, content in wanted.items()}) == wanted
    with pytest.raises(DataError, match="'nowhere', found none"):
        extract_archive(tmp_path / "archive", tmp_path / "other", members=["top.txt", "nowhere"])
    assert not (tmp_path / "other").exists()
    with pytest.raises(DataError, match="'nowhere', found none"):
        read_members(tmp_path / "archive", {"nowhere": 1})
    with pytest.raises(DataError, match=r"top.txt: expected 4 bytes, found 3"):
        read_members(tmp_path / "archive", {"top.txt": 4})


def test_empty_archives(tmp_path):
    for content in (to_zip({}), to_tar({})):
        (tmp_path / "archive").write_bytes(content)
        assert contents(extract_archive(tmp_path / "archive", tmp_path / str(len(content)))) == {}


BAD_NAMES = [
    "../out.txt",
    "folder/../../out.txt",
    "/tmp/out.txt",
    "C:/out.txt",
    "..\\out.txt",
    "a/" + 300 * "n",
    600 * "a/" + "n",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_paths_that_lead_outside(tmp_path, name):
    refuse(tmp_path, to_tar(infos=[tarfile.TarInfo(name)]), "member .*: expected (a relative path|paths of)")
    refuse(tmp_path, to_zip({**FILES, name: b"x"}), "member .*: expected (a relative path|paths of)")


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE],
)
def test_special_members_of_tar(tmp_path, kind):
    info = tarfile.TarInfo("special")
    info.type, info.linkname = kind, "top.txt"
    refuse(tmp_path, to_tar(infos=[info]), "expected a file or a folder")


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o010666])
def test_special_members_of_zip(tmp_path, mode):
    info = zipfile.ZipInfo("special")
    info.external_attr = mode << 16
    refuse(tmp_path, to_zip({info: "top.txt"}), "expected a file or a folder")


def test_members_in_conflict(tmp_path):
    for name in ("top.txt", "top.txt/below", "folder"):
        refuse(tmp_path, to_tar(infos=[tarfile.TarInfo(name)]), "expected a path of its own")
    refuse(tmp_path, to_zip({**FILES, "./top.txt": b"again"}), "expected a path of its own")


def test_zip_methods_and_passwords(tmp_path):
    refuse(tmp_path, to_zip(method=zipfile.ZIP_BZIP2), "stored or deflated")
    content = bytearray(to_zip({"a": b"123"}, method=zipfile.ZIP_STORED))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.rindex(signature) + offset
        content[at] |= 1
    refuse(tmp_path, content, "a password")


@pytest.mark.parametrize("size", [1 << 33, 1 << 62, -1])
def test_absurd_sizes_in_tar(tmp_path, size):
    info = tarfile.TarInfo("huge")
    info.size = size
    for compress in (bytes, gzip.compress):
        block = info.tobuf(tarfile.GNU_FORMAT)
        refuse(tmp_path, compress(block + bytes(10240)), "member huge: expected at most")


def test_absurd_sizes_in_zip(tmp_path):
    content = bytearray(to_zip({"a": b"123"}))
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFF0)
    refuse(tmp_path, content, "sizes of the members")
    content[at + 24 : at + 28] = struct.pack("<I", 4)  # one more than there is
    refuse(tmp_path, content, "member a: expected 4 bytes, found 3|archive")


def test_headers_that_inflate_without_bound(tmp_path):
    """64 MB of a long name, and names that nest: neither fills the memory or the stack."""
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 64 << 20
    bomb = gzip.compress(long.tobuf() + bytes(64 << 20))
    long.size = 1
    nested = (long.tobuf() + b"n" + bytes(511)) * 900
    for content in (bomb, gzip.compress(nested + bytes(1024))):
        tracemalloc.start()
        refuse(tmp_path, content, "headers|archive")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 << 20


@pytest.mark.parametrize("kind", ARCHIVES)
def test_every_truncation_is_noticed(tmp_path, kind):
    content = ARCHIVES[kind]
    cuts = {0, 1, 2, 100, 511, 512, 513, 1024, 2048, len(content) - 1, *range(0, len(content), len(content) // 40)}
    if kind == "tar":  # the zeros at the end say no more after the first two blocks
        end = len(content.rstrip(b"\0")) // 512 * 512 + 512
        content = content[: end + 512]
    for cut in sorted(cut for cut in cuts if cut < len(content)):
        refuse(tmp_path, content[:cut], "archive|member|end of")


def test_damage_in_the_middle_is_not_the_end(tmp_path):
    """A damaged header after the first one ends `tarfile`'s own reading without a word."""
    content = bytearray(ARCHIVES["tar"])
    at = content.index(b"./folder/a.bin")
    content[at] ^= 1
    refuse(tmp_path, gzip.compress(content), "archive")
    refuse(tmp_path, gzip.compress(ARCHIVES["tar"] + b"more"), "end of the archive: expected zeros")
    flipped = bytearray(ARCHIVES["tar.gz"])
    flipped[-6] ^= 1  # the checksum
    refuse(tmp_path, flipped, "archive")
    flipped = bytearray(ARCHIVES["stored zip"])
    flipped[flipped.index(bytes(range(200))) + 5] ^= 1
    refuse(tmp_path, flipped, "archive.*CRC")


def test_destination_is_new(tmp_path):
    (tmp_path / "archive").write_bytes(ARCHIVES["zip"])
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match="expected no such"):
        extract_archive(tmp_path / "archive", tmp_path / "out")
    with pytest.raises(NotADirectoryError):
        extract_archive(tmp_path / "archive", tmp_path / "archive" / "out")
    with pytest.raises(FileNotFoundError):
        extract_archive(tmp_path / "none", tmp_path / "other")
    assert sorted(os.listdir(tmp_path)) == ["archive", "out"]


def test_interrupted_extraction_leaves_nothing(tmp_path):
    (tmp_path / "archive").write_bytes(ARCHIVES["tar.gz"])
    with mock.patch("pathlib.Path.rename", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        extract_archive(tmp_path / "archive", tmp_path / "out")
    assert os.listdir(tmp_path) == ["archive"]


@FUZZ
@given(content=st.binary(max_size=600), prefix=st.sampled_from([b"", b"PK\3\4", b"PK\5\6", b"\x1f\x8b\x08\0"]))
def test_random_bytes(tmp_path, content, prefix):
    (tmp_path / "archive").write_bytes(prefix + content)
    with pytest.raises(DataError):
        extract_archive(tmp_path / "archive", tmp_path / "out")


@FUZZ
@given(data=st.data(), kind=st.sampled_from([*ARCHIVES, "headers in gzip"]))
def test_mutated_archives(tmp_path, data, kind):
    """Damage beneath the compression too, which its checksum does not catch. What comes out stays inside."""
    small = {"a": b"1", "folder/b": b"22"}
    make = {"tar": lambda: to_tar(small, compress=bytes), "tar.gz": lambda: to_tar(small), "zip": lambda: to_zip(small)}
    content = bytearray(make.get(kind, make["tar"] if "gzip" in kind else lambda: to_zip(small, method=0))())
    interesting = (
        [i for i, byte in enumerate(content) if byte] if "tar" in kind or "gzip" in kind else range(len(content))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.sampled_from(interesting))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))]
    (tmp_path / "archive").write_bytes(gzip.compress(content) if "headers" in kind else content)
    out = tmp_path / f"out{time.monotonic_ns()}"
    try:
        extract_archive(tmp_path / "archive", out)
    except DataError:
        assert not out.exists()
    assert all(f.name == "archive" or f.name.startswith("out") for f in tmp_path.iterdir())
