"""The code in the README and in docstrings runs."""

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import jaxdl

README = (Path(__file__).parent.parent / "README.md").read_text()
MODULES = [m.name for m in pkgutil.walk_packages(jaxdl.__path__, "jaxdl.")]
WITH_EXAMPLES = [name for name in MODULES if ">>> " in Path(importlib.util.find_spec(name).origin).read_text()]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_in_docstrings(name):
    results = doctest.testmod(importlib.import_module(name), verbose=False)
    assert results.attempted > 0
    assert results.failed == 0, "see the captured output"


def test_the_code_in_the_readme():
    """Training in ten lines, then the same step under every strategy; one epoch instead of thirty."""
    blocks = re.findall(r"```python\n(.*?)```", README.replace("\n   ", "\n"), re.DOTALL)
    training, devices = (block for block in blocks if "training." in block)
    namespace = {}
    exec(training.replace("epochs=30", "epochs=1, progress=False"), namespace)
    assert namespace["history"]["eval_accuracy"][0] > 0.3
    exec(devices, namespace)
    assert namespace["compiled"].steps_per_call == 1


@pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="the Pallas kernels need jax 0.11")
def test_the_readmes_kernel():
    """In a process of its own, as a reader would have it: the simulator's threads outlive an error."""
    (block,) = re.findall(r"```python\n([^`]*interpret[^`]*)```", README)
    dense = 'kernels.attention(query, key, value, is_causal=True, implementation="reference")'
    check = f"{block}\nprint('gap', float(abs(output - {dense}).astype(jnp.float32).max()))"
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=environment, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "the Pallas kernels need" in done.stdout
    assert float(done.stdout.rsplit(maxsplit=1)[1]) < 0.05  # outputs of up to 4, rounded to 8 bits


def test_the_readmes_two_commands_are_what_ci_runs():
    commands = re.findall(r"^    (python3 -m venv .*)$", README, re.MULTILINE)
    assert [command.rsplit(maxsplit=1)[-1] for command in commands] == ["examples/ch07_lenet.py", ".venv/bin/pytest"]
