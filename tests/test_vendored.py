"""What is vendored for the browser is what npm recorded, with its terms beside it."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "app" / "static" / "vendor"
RECORDS = sorted(VENDOR.glob("*/vendored.json"))


def integrity(content: bytes) -> str:
    """Spelt as npm spells it."""
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def differing(folder: Path) -> set[str]:
    """The files of a vendored package that are missing, new or not as they were recorded."""
    recorded = json.loads((folder / "vendored.json").read_text(encoding="utf-8"))["files"]
    found = {
        path.name: integrity(path.read_bytes())
        for path in folder.iterdir()
        if path.name != "vendored.json"
    }
    return {name for name, _ in recorded.items() ^ found.items()}


def packages(record: dict[str, Any]) -> list[dict[str, str]]:
    return [record, *record["bundled"], record["built_with"]]


@pytest.fixture(params=RECORDS, ids=lambda path: path.parent.name)
def record(request) -> dict[str, Any]:
    return dict(json.loads(request.param.read_text(encoding="utf-8")))


def test_every_vendored_folder_has_its_record():
    assert RECORDS
    assert {path.parent for path in RECORDS} == set(VENDOR.iterdir())


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.parent.name)
def test_the_files_are_those_of_the_record(path):
    assert differing(path.parent) == set()


def test_a_changed_a_new_and_a_missing_file_are_noticed(tmp_path):
    for name in ("vendored.json", *json.loads(RECORDS[0].read_text(encoding="utf-8"))["files"]):
        (tmp_path / name).write_bytes((RECORDS[0].parent / name).read_bytes())
    assert differing(tmp_path) == set()

    script = next(tmp_path.glob("*.js"))
    script.write_bytes(script.read_bytes() + b" ")
    (tmp_path / "LICENSE").unlink()
    (tmp_path / "more.js").write_bytes(b"")
    assert differing(tmp_path) == {script.name, "LICENSE", "more.js"}


def test_each_package_is_the_one_that_npm_locked(record):
    lock = json.loads((ROOT / "packaging/viewer/package-lock.json").read_text(encoding="utf-8"))

    for package in packages(record):
        locked = lock["packages"]["node_modules/" + package["name"]]
        assert package["integrity"].startswith("sha512-")
        for key in ("version", "integrity", "license"):
            assert package[key] == locked[key]


def test_each_package_may_be_passed_on(record):
    assert {package["license"] for package in packages(record)} <= {"MIT", "ISC", "BSD-3-Clause"}


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.parent.name)
def test_the_terms_lie_beside_the_code(path):
    terms = (path.parent / "LICENSE").read_text(encoding="utf-8")

    assert "Copyright" in terms
    assert "permission" in terms.lower()


@pytest.mark.parametrize("script", sorted(VENDOR.glob("*/*.js")), ids=lambda path: path.name)
def test_the_code_runs_under_a_strict_policy(script):
    code = script.read_text(encoding="utf-8")

    for forbidden in ("eval(", "new Function", "WebAssembly", "import(", "innerHTML"):
        assert forbidden not in code
