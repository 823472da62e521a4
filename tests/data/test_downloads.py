"""Downloads from a server of our own on 127.0.0.1; nothing here leaves the machine."""

import hashlib
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock

import pytest

from jaxdl.data import DatasetUnavailable
from jaxdl.data.downloads import download

CONTENT = bytes(range(256)) * 1000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """What is served depends on the path."""

    def do_GET(self):
        assert isinstance(self.server, Server)
        self.server.requests.append((self.path, dict(self.headers)))
        name = self.path.rsplit("/", 1)[-1]
        self.send_response({"missing": 404, "broken": 500}.get(name, 200))
        if name != "no_length":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if name in ("good", "no_length"):
            self.wfile.write(CONTENT)
        elif name == "damaged":
            self.wfile.write(b"x" + CONTENT[1:])
        elif name == "dropped":
            self.wfile.write(CONTENT[:1000])
        elif name in ("stalled", "slow"):
            self.wfile.write(CONTENT[:100_000])
            self.wfile.flush()
            self.server.released.wait(20)

    def log_message(self, format, *args):
        pass


class Server(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url, self.requests, self.released = f"http://127.0.0.1:{self.server_port}", [], threading.Event()


@pytest.fixture
def server(monkeypatch):
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["good", "no_length"])
def test_good(server, tmp_path, name, capsys):
    path = tmp_path / "new" / "folder" / "file"
    assert download(f"{server.url}/{name}", path, MD5) == path
    assert path.read_bytes() == CONTENT
    assert os.listdir(path.parent) == ["file"]
    assert capsys.readouterr() == ("", f"Downloading {server.url}/{name}\n")  # stderr is no terminal


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "404"),
        ("broken", "500"),
        ("dropped", "closed after 1000 of 256000 bytes"),
        ("stalled", "timed out"),
        ("damaged", f"wrong checksum: expected md5 {MD5}, found {hashlib.md5(b'x' + CONTENT[1:]).hexdigest()}"),
    ],
)
def test_bad(server, tmp_path, name, reason):
    path = tmp_path / "folder" / "file"
    url = f"{server.url}/{name}"
    with pytest.raises(DatasetUnavailable, match=reason) as caught:
        download(url, path, MD5, timeout=0.3)
    assert os.listdir(path.parent) == []
    for part in (f"from {url}", f"folder {path.parent} as file", "load('digits')"):
        assert part in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
def test_the_length_of_the_checksum_tells_its_algorithm(server, tmp_path, algorithm):
    checksum = hashlib.new(algorithm, CONTENT).hexdigest()
    download(f"{server.url}/good", tmp_path / "file", checksum)
    with pytest.raises(DatasetUnavailable, match=f"expected {algorithm} {checksum}, found .*wine"):
        download(f"{server.url}/damaged", tmp_path / "other", checksum, alternative="wine")
    with pytest.raises(ValueError, match="checksum: expected 32, 40 or 64 hexadecimal digits"):
        download(f"{server.url}/good", tmp_path / "other", checksum[:-1])
    assert os.listdir(tmp_path) == ["file"]


def test_a_failure_keeps_the_file_that_is_there(server, tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(DatasetUnavailable):
        download(f"{server.url}/damaged", tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == b"old"


def test_no_server(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(DatasetUnavailable, match="refused"):
        download(f"{server.url}/good", tmp_path / "file", MD5)
    assert os.listdir(tmp_path) == []


def test_unwritable_folder(server, tmp_path):
    (tmp_path / "occupied").write_bytes(b"a file, not a folder")
    with pytest.raises(DatasetUnavailable, match="could not be downloaded"):
        download(f"{server.url}/good", tmp_path / "occupied" / "file", MD5)
    assert server.requests == []


def test_full_disk(server, tmp_path):
    with (
        mock.patch("os.fsync", side_effect=OSError(28, "No space left on device")),
        pytest.raises(DatasetUnavailable, match="No space left"),
    ):
        download(f"{server.url}/good", tmp_path / "file", MD5)
    assert os.listdir(tmp_path) == []


def test_proxy_variable(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    download("http://data.invalid/good", tmp_path / "file", MD5)
    assert [path for path, _ in server.requests] == ["http://data.invalid/good"]
    monkeypatch.setenv("no_proxy", "data.invalid")
    with pytest.raises(DatasetUnavailable):
        download("http://data.invalid/good", tmp_path / "other", MD5)


def test_two_at_once(server, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: download(f"{server.url}/good", tmp_path / "file", MD5), range(8)))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["file"]


def test_killed_in_the_middle(server, tmp_path):
    code = "import sys; from jaxdl.data.downloads import download; download(*sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", code, f"{server.url}/slow", tmp_path / "file", MD5], stderr=-3)
    deadline = time.monotonic() + 60
    while not any(f.stat().st_size for f in tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".partial")
    assert left.stat().st_size >= 1
    download(f"{server.url}/good", tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("has_rich", [True, False])
def test_progress_on_a_terminal(server, tmp_path, monkeypatch, has_rich):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    if not has_rich:
        monkeypatch.setitem(sys.modules, "rich", None)
    download(f"{server.url}/good", tmp_path / "file", MD5)
    if has_rich:
        assert "256.0/256.0 kB" in terminal.getvalue()
    else:
        assert terminal.getvalue() == f"Downloading {server.url}/good\n"
