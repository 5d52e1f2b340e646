"""Three judges of a DICOM object that are not the code which made it.

dciodvfy (dicom3tools) and dsrdump (dcmtk) are programs; dicom-validator is a Python package that
reads its rules from the docbook files of the standard, which it fetches. Here it gets the tables
of the standard that highdicom carries instead: the same attributes and types, without enumerated
values, and without the conditions, so that what is conditional counts as optional.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from dicom_validator.validator.dicom_info import DicomInfo
from dicom_validator.validator.error_handler import NullValidationResultHandler
from dicom_validator.validator.iod_validator import IODValidator
from highdicom._standard_utils import (
    get_iod_module_map,
    get_module_attribute_map,
    get_sop_class_iod_map,
)
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import Tag

CONTENT = "(0040,A730)"


def dciodvfy(made: Dataset) -> list[str]:
    """The errors that dicom3tools find; its warnings are about codes of our own and DICOMDIR."""
    said = run("dciodvfy", "-new", made).splitlines()
    assert not any(line.startswith("Error - Dicom dataset read failed") for line in said)
    return [line for line in said if line.startswith("Error")]


def dsrdump(made: Dataset) -> str:
    """The report as dcmtk reads it, with all coordinates and codes."""
    return run("dsrdump", "+Pl", made)


def run(tool: str, option: str, made: Dataset) -> str:
    """What a program prints of the object as a file; skips the test where there is no such tool."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.dcm"
        made.save_as(path, enforce_file_format=True)
        done = subprocess.run(
            [tool, option, str(path)], capture_output=True, encoding="utf-8", timeout=60
        )
    return done.stdout + done.stderr


def dicom_validator(made: Dataset) -> list[str]:
    """What dicom-validator finds wrong, as words."""
    validator = IODValidator(made, standard(), error_handler=NullValidationResultHandler())
    result = validator.validate()
    return [
        f"{module}: {tag} {error.code.name}"
        for module, errors in result.module_errors.items()
        for tag, error in errors.items()
    ] + ([] if result.module_errors or not result.errors else [result.status.name])


@cache
def standard() -> DicomInfo:
    """The tables of the standard that highdicom carries, in the form of dicom-validator's own."""
    modules = {name: _module(rows) for name, rows in get_module_attribute_map().items()}
    iods = {
        uid: {
            "title": iod,
            "modules": {
                one["key"]: {"ref": one["key"], "use": _use(one["usage"])}
                for one in get_iod_module_map()[iod]
            },
            "group_macros": {},
        }
        for uid, iod in get_sop_class_iod_map().items()
    }
    return DicomInfo({}, iods, modules)


def _use(usage: str) -> str:
    return "M" if usage == "M" else "U"


def _module(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A module's flat rows as the tree of its sequences."""
    module: dict[str, Any] = {}
    for row in sorted(rows, key=lambda row: len(row["path"])):
        if tag_for_keyword(row["keyword"]) is None:
            continue  # an overlay's or a curve's, whose group repeats
        place = module
        for keyword in row["path"]:
            place = place[_tag(keyword)].setdefault("items", {})
        # A macro that is included twice: what either lets pass, passes
        kind = row["type"] if row["type"] in ("1", "2") else "3"
        known = place.get(_tag(row["keyword"]))
        if known is None:
            place[_tag(row["keyword"])] = {"name": row["keyword"], "type": kind}
        elif kind > known["type"]:
            known["type"] = kind
    return _as_tree_of_content(module) if CONTENT in module else module


def _as_tree_of_content(module: dict[str, Any]) -> dict[str, Any]:
    """Which of its attributes a node must have depends on its value type, which the table does not
    tell: only those stay required that all have. And all nodes are of one kind, at any depth.
    """
    node = module[CONTENT].get("items", {}) | module
    for attributes in (module, node):
        for tag, attribute in attributes.items():
            if attribute["name"] not in ("ValueType", "RelationshipType"):
                attributes[tag] = attribute | {"type": "3"}
        attributes[CONTENT] = {"name": "ContentSequence", "type": "3", "items": node}
    return module


def _tag(keyword: str) -> str:
    number = tag_for_keyword(keyword)
    assert number is not None, keyword
    tag = Tag(number)
    return f"({tag.group:04X},{tag.element:04X})"
