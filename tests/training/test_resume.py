"""Real processes, really killed: what a resumed run ends with equals the uninterrupted run, bit for bit."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest


def run(directory, moment="never"):
    script = Path(__file__).with_name("resume_script.py")
    command = [sys.executable, script, str(directory), moment]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def checkpoints(directory):
    return sorted(path.name for path in directory.iterdir())


def result(directory):
    return json.loads(Path(f"{directory}.result").read_text())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("uninterrupted")
    ended = run(directory)
    assert ended.returncode == 0, ended.stderr
    assert checkpoints(directory) == ["20", "24"]
    assert len(result(directory)["rows"]) == 8
    return result(directory)


def test_killed_five_times(tmp_path, uninterrupted):
    """Each run resumes what the one before left: before the first save, in a save, between saves, after a save."""
    for moment, left_behind in [
        ("step-3", []),
        ("writing", ["5.tmp"]),
        ("step-13", ["10", "5"]),
        ("kept", ["10", "15", "5"]),
        ("step-23", ["15", "20"]),
    ]:
        killed = run(tmp_path, moment)
        assert killed.returncode == -signal.SIGKILL, (moment, killed.stderr)
        assert checkpoints(tmp_path) == left_behind, moment
    ended = run(tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert result(tmp_path) == uninterrupted
    assert checkpoints(tmp_path) == ["20", "24"]


def test_sigterm_saves_and_exits_143(tmp_path, uninterrupted):
    ended = run(tmp_path, "sigterm-13")
    assert ended.returncode == 143, ended.stderr
    assert "previous handler restored: True" in ended.stdout
    assert checkpoints(tmp_path) == ["10", "13"]
    ended = run(tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert result(tmp_path) == uninterrupted
