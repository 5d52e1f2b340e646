"""The database before and after the program's work: backups, migrations, a tidy end.

It is a file of this machine, or on a server that several machines share (``CLINIC_DATABASE_URL``).
What is said of a file here is only asked of one; who runs a server backs it up and looks after it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from app import vault
from app.vault import cipher

logger = logging.getLogger(__name__)

Error = sqlite3.Error
KEEP_BACKUPS = 5
#: Longer than any copy of the database takes.
SECONDS_TO_COPY = 24 * 3600
#: A table that is there while a move to this database goes on, or has broken off (app.move).
MOVE_TABLE = "clinic_move"
#: Keys of PostgreSQL's advisory locks, which are any two numbers that nobody else uses.
_TURNS, _MIGRATION = (8765, 1), (8765, 2)


class NewerDatabase(Exception):
    """The database was written by a later version of the program than this one."""


class UnfinishedMove(Exception):
    """What is to be moved to this database has not arrived yet."""


class DamagedDatabase(Exception):
    """SQLite's own check finds fault with the database."""


@contextlib.contextmanager
def opened(file: Path) -> Iterator[sqlite3.Connection]:
    """A database file outside of Django: the one place that opens any. Raises sqlite3.Error.

    One in the clear is opened as it is, any other with the key of the vault where there is one.
    """
    if vault.is_on() and not (file.exists() and cipher.is_plain(file)):
        with cipher.opened(file, vault.keys().database) as connected:
            yield connected
        return
    with contextlib.closing(sqlite3.connect(file, timeout=20)) as connected:
        yield connected


def is_on_server() -> bool:
    """Whether the tables are on a server, and not in a file of this machine."""
    return connection.vendor != "sqlite"


def take_turns() -> None:
    """Wait until nobody else enters or removes films, until the end of the running transaction.

    First of all in it, before rows are locked. SQLite's transactions are such turns by themselves.
    """
    if is_on_server():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", _TURNS)


def now() -> datetime:
    """The time that all processes agree on: a server's, where machines share one."""
    if not is_on_server():
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def size() -> int:
    """Bytes that the tables take up with all that belongs to them."""
    if is_on_server():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_database_size(current_database())")
            return int(cursor.fetchone()[0])
    files = (database_file(), database_file().with_name(f"{database_file().name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


def is_whole(file: Path) -> bool:
    """SQLite's own check of a database file; one that is not there yet is whole."""
    if not file.exists():
        return True
    try:
        with opened(file) as checked:
            return bool(checked.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.DatabaseError:
        return False


def is_damaged(file: Path) -> bool:
    """Whether what the file holds is at fault, and not that somebody else has it open, or its disk
    is full or cannot be read now: that passes without a repair.

    A second look must find the same: a repair may put an earlier day in place.
    """
    return _is_at_fault(file) and _is_at_fault(file)


def _is_at_fault(file: Path) -> bool:
    try:
        if not file.exists():
            return False
        with opened(file) as checked:
            return bool(checked.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
    except sqlite3.OperationalError as error:  # as the error codes of SQLite sort it
        return "malformed" in str(error)
    except sqlite3.DatabaseError:
        return True
    except OSError:
        return False


def is_from_later_version(file: Path) -> bool:
    """Whether a later version of the program wrote it, which alone can read it."""
    known = set(MigrationLoader(None).disk_migrations)
    with opened(file) as read:
        applied = set(read.execute("SELECT app, name FROM django_migrations").fetchall())
    return not applied <= known


def database_file() -> Path:
    """The file that holds the tables."""
    return settings.DATABASE_FILE


def bring_up_to_date() -> bool:
    """Apply what migrations are pending, after a backup; whether there were any.

    Raises NewerDatabase, DamagedDatabase or UnfinishedMove, before anything is touched.
    """
    if is_on_server() and MOVE_TABLE in connection.introspection.table_names():
        raise UnfinishedMove
    return migrate()


def migrate() -> bool:
    """``bring_up_to_date``, also where a move goes on."""
    with _alone():
        return _migrate()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Of machines that start at once only one migrates."""
    if not is_on_server():
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, %s)", _MIGRATION)
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", _MIGRATION)


def _migrate() -> bool:
    executor = MigrationExecutor(connection)
    known = executor.loader.disk_migrations
    if any(applied not in known for applied in executor.loader.applied_migrations):
        raise NewerDatabase
    targets = executor.loader.graph.leaf_nodes()
    if not executor.migration_plan(targets):
        return False
    if executor.loader.applied_migrations and not is_on_server():
        copy = back_up()
        if copy and not is_whole(copy):
            raise DamagedDatabase
    executor.migrate(targets)
    return True


def back_up() -> Path | None:
    """A whole copy of the database into ``backups/``, taken while it may be in use.

    None when there is nothing yet to copy. The oldest beyond the last few are removed.
    """
    source = database_file()
    if not source.exists() or source.stat().st_size == 0:
        return None
    settings.BACKUP_DIR.mkdir(parents=True, exist_ok=True)
    name = f"clinic-{timezone.now():%Y%m%d-%H%M%S-%f}.sqlite3"
    target, unfinished = settings.BACKUP_DIR / name, settings.BACKUP_DIR / f"{name}.new"
    try:
        copy(source, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    _remove_old_backups()
    remove_unfinished()
    logger.info("database backed up to %s", name)
    return target


def close_down() -> None:
    """Fold the write-ahead log back into the one file that people copy, and close it."""
    if not is_on_server():
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connections.close_all()


def copy(source: Path, target: Path) -> None:
    """A whole copy of a database that may be in use, on the disk. Raises sqlite3.Error, OSError."""
    target.unlink(missing_ok=True)
    with opened(source) as original, opened(target) as copied:
        original.backup(copied)
        # The copy is one file, complete without a write-ahead log beside it
        copied.execute("PRAGMA journal_mode=DELETE")
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _remove_old_backups() -> None:
    for old in sorted(settings.BACKUP_DIR.glob("clinic-*.sqlite3"))[:-KEEP_BACKUPS]:
        old.unlink(missing_ok=True)


def remove_unfinished() -> None:
    """Remove what a power cut left of a copy, as large as the database. Another process may just be
    writing one, but not for a whole day.
    """
    for left in settings.BACKUP_DIR.glob("*.sqlite3.new*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > SECONDS_TO_COPY:
                left.unlink()
