"""Encrypt what lies in the data directory in the clear: at the start, before anything opens it.

File by file: the encrypted one is written beside, read back and on the disk before the other goes.
So at any moment every film and every table is there, whole, in one of the two forms, and whatever
breaks it off, the next start goes on. Looked for at every start: a backup of the time before, put
in place, is encrypted as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from app.cxr.durable import sync_folder
from app.vault import cipher, seal
from app.vault.hierarchy import Keys

logger = logging.getLogger(__name__)

CHUNK = 1024 * 1024
PART = ".sealing"
#: Of these nothing is a patient's: models, certificates, logs, and what the start has swept.
LEFT_OUT = {"releases", "tuf", "lan", "logs", "tmp"}
RESERVE_BYTES = 64 * 1024**2
#: What SQLite writes beside a database.
BESIDE = ("-wal", "-shm", "-journal")

#: Called before each file with how many are done, and of how many.
Watch = Callable[[int, int], None]


class InUse(Exception):
    """Another program has the database open."""


class NoRoom(Exception):
    """The disk has no room for the encrypted database beside the other."""


def in_the_clear(folder: Path, keys: Keys) -> list[Path]:
    """Databases first, then films. Raises OSError."""
    found = list(_files(folder))
    databases = [path for path in found if _is_database(path) or _is_ruin(path, folder, keys)]
    return [*databases, *filter(_is_film, found)]


def encrypt(folder: Path, keys: Keys, watch: Watch = lambda _done, _of: None) -> int:
    """Encrypt all of it; how many files. Only while nobody has the database open.

    Raises InUse, NoRoom, OSError, or sqlite3.Error; then the next try goes on.
    """
    _tidy(folder)
    clear = in_the_clear(folder, keys)
    for done, path in enumerate(clear):
        watch(done, len(clear))
        if _is_film(path):
            _encrypt_film(path, keys)
        else:
            _encrypt_database(path, folder, keys)
    if clear:
        logger.warning("%d files were in the clear and are encrypted now", len(clear))
    return len(clear)


def _tidy(folder: Path) -> None:
    """Remove what an earlier try left behind. A second name of a database that is still in use is
    not written over.
    """
    for left in list(_files(folder)):
        if left.name.endswith((PART, f"{seal.SUFFIX}.part")):
            if left.stat().st_nlink == 1:
                _write_over(left)
            else:
                left.unlink()


# --- databases -----------------------------------------------------------------------------------


def _encrypt_database(file: Path, folder: Path, keys: Keys) -> None:
    if shutil.disk_usage(file.parent).free < 1.2 * file.stat().st_size + RESERVE_BYTES:
        raise NoRoom
    new = file.with_name(file.name + PART)
    try:
        _fold_log(file)
        cipher.export(file, None, new, keys.database)
    except sqlite3.DatabaseError:
        if file.parent == folder:
            raise
        # A damaged one that was set aside: nobody opens it, but somebody may mend it yet
        new.unlink(missing_ok=True)
        for path in (*(file.with_name(file.name + end) for end in BESIDE), file):
            if path.exists():
                _encrypt_as_it_is(path, keys)
        return
    _replace(file, new)


def _fold_log(file: Path) -> None:
    """Everything in the one file, and nothing beside it; raises InUse or sqlite3.Error."""
    with contextlib.closing(sqlite3.connect(file, timeout=2)) as opened:
        try:
            opened.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            mode = opened.execute("PRAGMA journal_mode=DELETE").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise InUse from error
            raise
    if mode != "delete":
        raise InUse


def _replace(old: Path, new: Path) -> None:
    """Put the encrypted one in place in one step, then write over the other."""
    gone = old.with_name(f"{old.name}.clear{PART}")
    with contextlib.suppress(OSError):  # a disk without second names: it is only removed
        os.link(old, gone)
    new.replace(old)
    sync_folder(old.parent)
    if gone.exists():
        _write_over(gone)


# --- films, and all else -------------------------------------------------------------------------


def _encrypt_film(file: Path, keys: Keys) -> None:
    sha256 = file.name
    name = seal.name_of(keys, sha256)
    target = file.parent.parent / name[:2] / name
    if _digest(file) != sha256:
        # Damaged before: kept, but never in place of a whole one
        if not target.exists():
            _encrypt_as_it_is(file, keys)
            return
    elif not target.exists():
        target.parent.mkdir(exist_ok=True)
        with file.open("rb") as source:
            seal.put(keys, source, target)
        seal.decrypt(keys, target, sha256)
        os.utime(target, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
        sync_folder(target.parent)
        sync_folder(target.parent.parent)
    seal.decrypt(keys, target, sha256)
    _write_over(file)
    with contextlib.suppress(OSError):
        file.parent.rmdir()  # the last of its folder


def _encrypt_as_it_is(file: Path, keys: Keys) -> None:
    target = file.with_name(file.name + seal.SUFFIX)
    content = file.read_bytes()
    with file.open("rb") as source:
        seal.put(keys, source, target)
    if seal.opened(keys, target.read_bytes()) != content:
        raise seal.Damaged
    sync_folder(file.parent)
    _write_over(file)


def _write_over(file: Path) -> None:
    """Remove a file for good, as far as a disk lets one: not where it keeps what it replaces."""
    with file.open("rb+") as opened:
        left = opened.seek(0, os.SEEK_END)
        opened.seek(0)
        while left > 0:
            left -= opened.write(bytes(min(left, CHUNK)))
        opened.flush()
        os.fsync(opened.fileno())
    file.unlink()


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


# --- what is in the clear ------------------------------------------------------------------------


def _files(folder: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in LEFT_OUT:
                yield from _files(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def _is_database(file: Path) -> bool:
    if file.suffix == seal.SUFFIX or not file.suffix:
        return False
    return cipher.is_plain(file)


def _is_ruin(file: Path, folder: Path, keys: Keys) -> bool:
    """A database that was set aside, and is neither whole in the clear nor opens with our key."""
    if file.suffix != ".sqlite3" or file.parent in (folder, folder / "backups"):
        return False
    try:
        with cipher.opened(file, keys.database) as opened:
            opened.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError:
        return True
    return False


def _is_film(file: Path) -> bool:
    return len(file.name) == 64 and not set(file.name) - set("0123456789abcdef")
