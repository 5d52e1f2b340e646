"""A whole clinic in a folder of its own, its database a real file: for backups and the way back."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, connections

from app import database
from app.backup import keys, note
from app.backup.manifest import film_path
from app.backup.store import Store
from app.backup.write import Clinic

PASSPHRASE = "maize road lantern seven"


@contextmanager
def of_its_own(folder: Path, template: Path) -> Iterator[Path]:
    """A clinic whose database is a copy of ``template``: for tests that damage or replace it."""
    before = (settings.DATABASE_FILE, connection.settings_dict["NAME"])
    folder.mkdir(parents=True, exist_ok=True)
    database.copy(template, folder / "clinic.sqlite3")
    connections.close_all()
    settings.DATABASE_FILE = folder / "clinic.sqlite3"
    connection.settings_dict["NAME"] = folder / "clinic.sqlite3"
    try:
        yield folder
    finally:
        connections.close_all()
        settings.DATABASE_FILE, connection.settings_dict["NAME"] = before


@functools.cache
def pair() -> tuple[str, bytes, str]:
    """Keys under PASSPHRASE, made once: to seal them takes a second by design."""
    return keys.make(PASSPHRASE)


def clinic(data_directory: Path) -> Clinic:
    def film(sha256: str) -> AbstractContextManager[Path]:
        return nullcontext(data_directory / film_path(sha256))

    return Clinic(data_directory, data_directory / "tmp", "0.1.0", film)


def set_up(data_directory: Path, place: Path) -> tuple[Store, note.Note, str]:
    """Backups set up, and an empty store: the store, what is noted, the recovery line."""
    public, sealed, line = pair()
    note.change(data_directory, lambda n: replace(n, clinic="a1b2", public=public, sealed=sealed))
    place.mkdir(parents=True, exist_ok=True)
    known = note.read(data_directory)
    return Store.begin(place, known, "for whoever finds it"), known, line


def as_it_is(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def flip_a_bit(file: Path, at: int = -40) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def rows(file: Path, table: str) -> list[Any]:
    with database.opened(file) as read:
        return read.execute(f'SELECT * FROM "{table}" ORDER BY 1').fetchall()
