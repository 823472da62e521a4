"""The code in the README and in docstrings runs."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

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


def test_the_readmes_two_commands_are_what_ci_runs():
    commands = re.findall(r"^    (python3 -m venv .*)$", README, re.MULTILINE)
    assert [command.rsplit(maxsplit=1)[-1] for command in commands] == ["examples/ch07_lenet.py", ".venv/bin/pytest"]
