"""The subjects by name, each loaded when it is asked for: none pays for what another needs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.fuzz.exploring import Subject

MODULES = {
    "films": "subjects",
    "updates": "subjects",
    "contributions": "subjects",
    "pages": "pages",
    "interface": "interface",
    "program": "running",
    "sockets": "running",
}


def prepared(name: str, folder: Path) -> Subject:
    """The subject, with whatever it needs in this folder."""
    found: Subject = getattr(import_module(f"tests.fuzz.{MODULES[name]}"), name)(folder)
    return found
