"""The house rules: who imports whom, what is documented, what an import costs."""

import ast
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxdl

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jaxdl"
OPTIONAL = {
    *("tyro", "rich", "matplotlib", "sklearn", "grain", "tensorboardX", "gymnasium", "optuna", "jax2onnx"),
    *("onnxruntime", "fastapi", "uvicorn", "tokenizers", "pandas", "torch", "pytest", "hypothesis"),
}
# What a room may import besides itself; a room that is missing here may import no other.
MAY_IMPORT = {
    "nn": {"cpu", "kernels"},
    "training": {"plotting"},
    "parallel": {"training", "kernels"},
    **{room: {"nn", "training"} for room in ("vision", "nlp", "generative", "recsys", "rl", "gp", "deploy")},
    "hpo": {"training", "gp"},
    "experiment": {"cpu", "training", "parallel"},
}
ROOMS = sorted(module.name for module in pkgutil.iter_modules([str(PACKAGE)]))
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree):
    """The dotted names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_the_rooms_below_it(path):
    allowed = {room_of(path), *MAY_IMPORT.get(room_of(path), ())}
    used = {name.split(".")[1] for name in imports(ast.parse(path.read_text())) if name.startswith("jaxdl.")}
    assert used <= allowed, f"{path} imports {sorted(used - allowed)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_optional_dependencies_are_imported_inside_functions(path):
    top_level = ast.Module(
        [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)], []
    )
    used = {name.split(".")[0] for name in imports(top_level)}
    assert not used & OPTIONAL, f"{path} imports {sorted(used & OPTIONAL)} at the top"


def test_files_are_named_by_what_they_do_and_short():
    for path in [*MODULES, *(ROOT / "examples").rglob("*.py")]:
        assert path.stem not in {"utils", "util", "common", "helpers", "helper", "misc"}, path
        assert len(path.read_text().splitlines()) <= 500, f"{path}: split it by meaning"


def public_objects():
    for room in ROOMS:
        module = importlib.import_module(f"jaxdl.{room}")
        yield f"jaxdl.{room}", module
        names = getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")])
        for name in names:
            value = getattr(module, name)
            if getattr(value, "__module__", "").startswith("jaxdl"):
                yield f"jaxdl.{room}.{name}", value


@pytest.mark.parametrize(
    ("name", "value"), [*public_objects()], ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_public_name_is_documented(name, value):
    own = vars(value).get("__doc__") if inspect.isclass(value) else getattr(value, "__doc__", None)
    assert own, f"{name} has no docstring"
    assert not own.startswith(f"{name.rsplit('.', 1)[-1]}("), f"{name} has only the signature as docstring"
    if inspect.isclass(value):
        for method_name, method in vars(value).items():
            own_method = inspect.isfunction(method) and method.__qualname__ == f"{value.__qualname__}.{method_name}"
            if own_method and not method_name.startswith("_"):
                assert inspect.getdoc(method), f"{name}.{method_name} has no docstring"


def test_all_lists_what_a_room_exports():
    for room in ROOMS:
        path = PACKAGE / room / "__init__.py"
        if path.exists():
            exported = {name.rsplit(".", 1)[1] for name in imports(ast.parse(path.read_text()))}
            assert exported == set(importlib.import_module(f"jaxdl.{room}").__all__), room
    assert set(jaxdl.__all__) == {"__version__", *ROOMS}


def loaded_after(code):
    script = f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(output.stdout.splitlines()[-1]))


def test_import_jaxdl_loads_no_room_and_no_dependency():
    loaded = loaded_after("import jaxdl")
    assert not {name for name in loaded if name.startswith("jaxdl.")}
    assert not {name.split(".")[0] for name in loaded} & {*OPTIONAL, "jax", "flax", "optax", "orbax", "numpy"}


def test_importing_every_room_loads_no_optional_dependency():
    loaded = loaded_after(f"import jaxdl\nfor room in {ROOMS}: getattr(jaxdl, room)")
    assert {f"jaxdl.{room}" for room in ROOMS} <= loaded
    loaded -= loaded_after("import flax.linen, optax")  # Flax loads rich
    assert not {name.split(".")[0] for name in loaded} & OPTIONAL


def test_an_unknown_room_is_an_error_that_lists_the_rooms():
    with pytest.raises(AttributeError, match=r"no attribute 'audio'; its rooms are autodiff, cpu, data, "):
        _ = jaxdl.audio
    assert set(dir(jaxdl)) == set(jaxdl.__all__)


def test_the_readme_names_what_exists():
    """Paths and modules that the README mentions are there."""
    text = (ROOT / "README.md").read_text()
    for path in re.findall(r"(?:examples|benchmarks|jaxdl|tests)/[\w/.]+\.\w+", text):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`jaxdl\.([\w.]+)`", text):
        value = jaxdl
        for part in name.split("."):
            value = getattr(value, part)
