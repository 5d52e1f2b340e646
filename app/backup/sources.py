"""Where a clinic can be restored from: a store's backup, one file, or a copy of the database."""

from __future__ import annotations

import contextlib
import shutil
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Protocol

import pyrage

from app import database
from app.backup import DATABASE, SUFFIX, keys
from app.backup.archive import CONTENT, MANIFEST
from app.backup.faults import BackupFault
from app.backup.manifest import Entry, Manifest
from app.backup.store import KEY, SETS, Store, digest_of
from app.backup.write import Digested, counts_and_films
from app.vault import spool


class Source(Protocol):
    """A backup that is open."""

    @property
    def manifest(self) -> Manifest:
        """What it holds."""

    def extract(self, entry: Entry, file: IO[bytes], /) -> None:
        """Write what the clinic had into ``file``; raises BackupFault("damaged") or OSError."""


class StoreSource:
    """A backup of a store, with the key to it."""

    def __init__(self, store: Store, manifest: Manifest, identity: pyrage.x25519.Identity) -> None:
        self._store, self._identity = store, identity
        self.manifest = manifest

    def extract(self, entry: Entry, file: IO[bytes]) -> None:
        """Decrypt one file."""
        writing = Digested(file)
        try:
            with self._store.blob(entry.sha256).open("rb") as encrypted:
                pyrage.decrypt_io(encrypted, writing, [self._identity])
        except (pyrage.DecryptError, OSError) as error:
            if writing.fault:
                raise writing.fault from error
            raise BackupFault("damaged") from error
        if writing.sha256 != entry.sha256:
            raise BackupFault("damaged")


class FileSource:
    """One file, decrypted as a whole into a nameless one."""

    def __init__(self, packed: IO[bytes]) -> None:
        try:
            self._archive = zipfile.ZipFile(packed)
            self.manifest = Manifest.from_bytes(self._archive.read(MANIFEST))
        except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError) as error:
            raise BackupFault("damaged") from error

    def extract(self, entry: Entry, file: IO[bytes]) -> None:
        """Unpack one file."""
        writing = Digested(file)
        try:
            with self._archive.open(entry.path) as packed:
                shutil.copyfileobj(packed, writing)
        except (zipfile.BadZipFile, KeyError, EOFError) as error:
            raise BackupFault("damaged") from error
        if writing.sha256 != entry.sha256:
            raise BackupFault("damaged")


class CopySource:
    """A copy of the database alone, from ``backups/`` of the data directory."""

    def __init__(self, copy: Path) -> None:
        self._copy = copy
        if not copy.is_file() or not database.is_whole(copy):
            raise BackupFault("damaged")
        size, sha256 = digest_of(copy)
        counts, _films = counts_and_films(copy)
        at = datetime.fromtimestamp(copy.stat().st_mtime, UTC)
        entry = Entry(DATABASE, sha256, size, size, sha256)
        self.manifest = Manifest("", at, "", counts, (entry,))

    def extract(self, _entry: Entry, file: IO[bytes]) -> None:
        """Copy it: there is only one file."""
        with self._copy.open("rb") as source:
            shutil.copyfileobj(source, file)


def find(path: Path) -> tuple[Store, Manifest] | None:
    """The backup that a path names: a list, or the newest of a store; None where it is no store.

    Raises BackupFault.
    """
    if path.is_file() and path.parent.name == SETS:
        store = Store.at(path.parent.parent)
        return (store, store.read(path)) if store else None
    store = Store.at(path) if path.is_dir() else None
    if store is None:
        return None
    newest = store.newest()
    if newest is None:
        raise BackupFault("damaged" if store.sets() else "no_backup")
    return store, newest


@contextlib.contextmanager
def opened(path: Path, secret: str, temporary: Path) -> Iterator[Source]:
    """The backup that a path names, unlocked; raises BackupFault.

    ``temporary``: a folder for what passes. A copy of the database needs no secret.
    """
    if not path.exists():
        raise BackupFault("not_there")
    if found := find(path):
        store, manifest = found
        yield StoreSource(store, manifest, store.unlock(secret))
    elif path.is_file() and path.name.endswith(SUFFIX):
        temporary.mkdir(parents=True, exist_ok=True)
        with spool.temporary(temporary) as packed:
            _decrypt(path, secret, packed)
            yield FileSource(packed)
    elif path.is_file() and path.suffix == ".sqlite3":
        yield CopySource(path)
    else:
        raise BackupFault("not_a_backup")


def _decrypt(path: Path, secret: str, packed: IO[bytes]) -> None:
    writing = Digested(packed)
    try:
        with zipfile.ZipFile(path) as outer, outer.open(CONTENT) as content:
            pyrage.decrypt_io(Digested(content), writing, [keys.unlock(outer.read(KEY), secret)])
    except pyrage.DecryptError as error:
        wrong = "matching keys" in str(error)
        raise BackupFault("wrong_key" if wrong else "damaged") from error
    except (OSError, zipfile.BadZipFile, KeyError, EOFError) as error:
        raise BackupFault("no_room_here" if writing.fault else "damaged") from error
    packed.seek(0)
