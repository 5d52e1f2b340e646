"""The import arrows of the house, read off the syntax trees.

run_clinic -> app               app (all) -> app.cxr
model_export -> app.cxr only    app -x-> model_export, tensorflow
packaging -> app.settings       app.cxr -x-> django, the rest of app
                                nobody -> packaging, tests

Imports inside functions count, so do relative ones and those by name (`import_module`).
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

OURS = ("app", "model_export", "packaging", "run_clinic", "tests")
WORKSHOP_TOOLS = frozenset(
    {"tensorflow", "keras", "tf2onnx", "onnx", "sklearn", "scipy", "sympy", "torch", "tf_keras"}
)
CORE_LIBRARIES = frozenset({"numpy", "PIL", "pydicom", "onnxruntime"})
LOADERS = frozenset({"import_module", "__import__", "import_string", "run_module"})
UNKNOWN = "?"


@dataclass(frozen=True)
class Layer:
    """What the modules under one name may import."""

    ours: tuple[str, ...]
    """The only modules of this repository, each with what lies below it."""
    libraries: frozenset[str] | None = None
    """The only libraries beside Python's own; None allows every one that is not forbidden."""
    forbidden: frozenset[str] = frozenset()


LAYERS = {
    "run_clinic": Layer(ours=("app",), forbidden=WORKSHOP_TOOLS),
    "app": Layer(ours=("app",), forbidden=WORKSHOP_TOOLS),
    "app.cxr": Layer(ours=("app.cxr",), libraries=CORE_LIBRARIES),
    "app.cxr.dicom_codecs": Layer(ours=("app.cxr",), libraries=CORE_LIBRARIES | {"imagecodecs"}),
    "app.cxr.dicom_out": Layer(ours=("app.cxr",), libraries=CORE_LIBRARIES | {"highdicom"}),
    "model_export": Layer(ours=("model_export", "app.cxr"), forbidden=frozenset({"django"})),
    "packaging": Layer(ours=("packaging", "app.settings"), forbidden=WORKSHOP_TOOLS),
    "tests": Layer(ours=("app", "model_export", "run_clinic", "tests")),
}


def is_under(module: str, parent: str) -> bool:
    return module == parent or module.startswith(parent + ".")


def layer_of(module: str) -> Layer:
    return LAYERS[max((name for name in LAYERS if is_under(module, name)), key=len)]


def absolute(name: str | None, level: int, module: str, is_package: bool) -> str:
    """The full name of what a relative import of `level` dots in `module` asks for."""
    if level == 0:
        return name or ""
    parts = module.split(".")
    kept = parts[: len(parts) - level + (1 if is_package else 0)]
    return ".".join([*kept, *([name] if name else [])])


def called_name(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def text_of(node: ast.expr) -> str:
    """What an expression is known to spell: all of a literal, the fixed head of an f-string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr) and node.values:
        head = text_of(node.values[0])
        return head + UNKNOWN if "." in head else UNKNOWN
    return UNKNOWN


def loaded_by_name(call: ast.Call, module: str, is_package: bool) -> str | None:
    if called_name(call) not in LOADERS:
        return None
    asked = [*call.args[:1], *(word.value for word in call.keywords if word.arg != "package")]
    if not asked:
        return None
    name = text_of(asked[0])
    level = len(name) - len(name.lstrip("."))
    return absolute(name.lstrip(".") or None, level, module, is_package)


def imports(source: str, module: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Every module that this source asks for, wherever in the tree, with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = absolute(node.module, node.level, module, is_package)
            yield from ((node.lineno, f"{parent}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call):
            name = loaded_by_name(node, module, is_package)
            if name is not None:
                yield node.lineno, name


def may_import(module: str, wanted: str) -> bool:
    layer, top = layer_of(module), wanted.split(".")[0]
    if wanted.startswith(UNKNOWN):
        return is_under(module, "tests")
    if top in OURS:
        return any(is_under(wanted, allowed) for allowed in layer.ours)
    if layer.libraries is not None:
        return top in layer.libraries or top in sys.stdlib_module_names
    return top not in layer.forbidden


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    return [
        f"{module}:{line} imports {wanted}"
        for line, wanted in imports(source, module, is_package)
        if not may_import(module, wanted)
    ]


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(root: Path) -> list[Path]:
    found = [root / "run_clinic.py"]
    for folder in OURS:
        found += sorted((root / folder).rglob("*.py"))
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


def test_every_import_in_the_repository_follows_an_arrow(root: Path) -> None:
    broken = []
    for path in sources(root):
        text = path.read_text(encoding="utf-8")
        broken += violations(text, module_name(path, root), path.name == "__init__.py")
    assert not broken, "\n".join(broken)


def test_the_walk_sees_every_room_of_the_house(root: Path) -> None:
    names = {module_name(path, root) for path in sources(root)}
    rooms = {"app.settings", "app.models", "app.cxr.analysis", "model_export.train", "run_clinic"}
    assert rooms <= names


def test_every_python_file_at_the_top_belongs_to_a_layer(root: Path) -> None:
    assert {path.stem for path in root.glob("*.py")} <= set(OURS)


ALLOWED = [
    ("run_clinic", "from app import startup"),
    ("run_clinic", "def main():\n    from django.core.management import call_command"),
    ("app.views.studies", "from app.models import Study"),
    ("app.worker", "from app.cxr.analysis import analyse"),
    ("app.worker", "from .cxr import analysis"),
    ("app.settings", "import django"),
    ("app.cxr.model", "import json, numpy, onnxruntime"),
    ("app.cxr.model", "from .release import Release"),
    ("app.cxr.radiograph", "from PIL import Image\nimport pydicom.pixels"),
    ("app.cxr.dicom_out", "import highdicom"),
    (
        "model_export.train",
        "import tensorflow as tf\nfrom app.cxr.radiograph import to_model_input",
    ),
    ("model_export.train", "from app.cxr import radiograph"),
    ("model_export.__main__", "import_module(f'model_export.{stage}')"),
    ("packaging.build", "from app import settings"),
    ("tests.test_pages", "from app.models import Study\nfrom model_export import phantom"),
]

FORBIDDEN = [
    ("app.views.studies", "import model_export"),
    ("app.worker", "from model_export.network import build"),
    ("app.worker", "import tensorflow"),
    ("app.worker", "def analyse():\n    import tensorflow as tf"),
    (
        "app.worker",
        "if True:\n    try:\n        from keras import layers\n    except ImportError: ...",
    ),
    ("app.worker", "import_module('model_export.train')"),
    ("app.worker", "importlib.import_module(name='tensorflow')"),
    ("app.worker", "importlib.import_module(*['tensorflow'])"),
    ("app.worker", "__import__('tensorflow.keras')"),
    ("app.checks", "import_string('model_export.pack.pack')"),
    ("app.checks", "import_module(name)"),
    ("app.checks", "import_module(f'{stage}.train')"),
    ("app.intake", "from tests import conftest"),
    ("app.intake", "from packaging.version import Version"),
    ("app.intake", "import run_clinic"),
    ("app.intake", "from ..model_export import phantom"),
    ("app.cxr.analysis", "import django"),
    ("app.cxr.analysis", "from django.utils.translation import gettext_lazy"),
    ("app.cxr.analysis", "from app import messages"),
    ("app.cxr.analysis", "from app.models import Study"),
    ("app.cxr.analysis", "import app.settings"),
    ("app.cxr.analysis", "from .. import models"),
    ("app.cxr.analysis", "from ..models import Study"),
    ("app.cxr.analysis", "from . import model\ndef f():\n    from app.messages import sentence"),
    ("app.cxr.analysis", "import_module('..models', 'app.cxr')"),
    ("app.cxr.metrics", "import sklearn.metrics"),
    ("app.cxr.metrics", "import scipy"),
    ("app.cxr.radiograph", "import highdicom"),
    ("app.cxr.release", "import requests"),
    ("model_export.train", "import app"),
    ("model_export.train", "from app import messages"),
    ("model_export.train", "from app.models import Study"),
    ("model_export.train", "from app import *"),
    ("model_export.train", "import django"),
    ("model_export.pack", "import run_clinic"),
    ("model_export.pack", "from tests.conftest import ROOT"),
    ("packaging.build", "from app import models"),
    ("packaging.build", "import model_export"),
    ("run_clinic", "import model_export"),
    ("run_clinic", "import tensorflow"),
    ("tests.test_build", "import packaging.build"),
]


@pytest.mark.parametrize(("module", "source"), ALLOWED)
def test_it_lets_an_arrow_through(module: str, source: str) -> None:
    assert violations(source, module) == []


@pytest.mark.parametrize(("module", "source"), FORBIDDEN)
def test_it_catches_an_import_against_the_arrows(module: str, source: str) -> None:
    assert violations(source, module)


def test_it_names_the_module_the_line_and_what_was_asked_for() -> None:
    source = "import json\n\n\ndef build():\n    from tensorflow import keras\n"
    assert violations(source, "app.worker") == ["app.worker:5 imports tensorflow.keras"]


@pytest.mark.parametrize(
    ("source", "module", "is_package", "wanted"),
    [
        ("from . import model", "app.cxr.analysis", False, "app.cxr.model"),
        ("from . import model", "app.cxr", True, "app.cxr.model"),
        ("from .. import models", "app.cxr", True, "app.models"),
        ("from ..models import Study", "app.cxr.analysis", False, "app.models.Study"),
        ("from ... import packaging", "app.cxr.analysis", False, "packaging"),
    ],
)
def test_it_resolves_relative_imports(
    source: str, module: str, is_package: bool, wanted: str
) -> None:
    assert [name.lstrip(".") for _, name in imports(source, module, is_package)] == [wanted]


REFUSE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused!r}:
            raise ImportError(name + " must not be needed here")

sys.meta_path.insert(0, Refuse())
"""


def import_without(refused: set[str], modules: list[str], root: Path) -> str:
    """The error of importing modules in a fresh interpreter where some packages are missing."""
    lines = [REFUSE.replace("{refused!r}", repr(refused)), *(f"import {name}" for name in modules)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        cwd=root,
        env=environment,
        check=False,
    )
    return "" if run.returncode == 0 else run.stderr


def core_modules(root: Path) -> list[str]:
    return [module_name(path, root) for path in sorted((root / "app" / "cxr").glob("*.py"))]


def test_the_core_runs_where_django_is_not_installed(root: Path) -> None:
    assert not import_without({"django", "tensorflow", "keras"}, core_modules(root), root)


def test_the_refusing_interpreter_does_refuse(root: Path) -> None:
    assert "must not be needed here" in import_without({"numpy"}, core_modules(root), root)


def test_the_program_starts_where_the_workshop_is_not_installed(root: Path) -> None:
    modules = ["run_clinic", "app.wsgi", "app.worker", "app.urls"]
    assert not import_without({"model_export", *WORKSHOP_TOOLS}, modules, root)
