"""SQLCipher (zetetic.net/sqlcipher): each page of the database, and of its log, encrypted with
AES-256 and authenticated with HMAC-SHA-512. The key is the vault's own, so none is derived here.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import os
import sqlite3
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from django.utils.dateparse import parse_date, parse_datetime, parse_time
from django.utils.translation import gettext as _

from app.stop import CannotStart
from app.vault import UNFINISHED

#: What every SQLite file in the clear begins with (sqlite.org/fileformat.html).
MAGIC = b"SQLite format 3\0"


@cache
def dbapi() -> Any:
    """The library, which takes Django's values as sqlite3 does; 8 MB that few starts need."""
    from sqlcipher3 import dbapi2  # type: ignore[import-untyped]

    for name, parse in {
        "date": parse_date,
        "time": parse_time,
        "datetime": parse_datetime,
        "timestamp": parse_datetime,
    }.items():
        dbapi2.register_converter(name, lambda raw, parse=parse: parse(raw.decode()))
    dbapi2.register_converter("bool", b"1".__eq__)
    dbapi2.register_adapter(decimal.Decimal, str)
    dbapi2.register_adapter(datetime.date, datetime.date.isoformat)
    dbapi2.register_adapter(datetime.datetime, lambda moment: moment.isoformat(" "))
    return dbapi2


def is_plain(file: Path) -> bool:
    """Whether a file is a database in the clear. Raises OSError."""
    with file.open("rb") as opened:
        return opened.read(len(MAGIC)) == MAGIC


def refuse_plain(file: Path) -> None:
    """Write nothing into a database in the clear where there should be none; raises CannotStart."""
    with contextlib.suppress(FileNotFoundError):
        if is_plain(file):
            raise CannotStart(
                _("The data are not yet encrypted. Start the program itself first."),
                code=UNFINISHED,
            )


def connect(database: Path | str, key: bytes | None, **options: Any) -> Any:
    """A connection; ``key`` None: to a file in the clear. Raises SQLCipher's own errors."""
    connection = dbapi().connect(str(database), **options)
    # It would tell the screen about every page that it cannot read
    connection.execute("PRAGMA cipher_log_level = NONE")
    if key is not None:
        connection.execute(f'PRAGMA key = "{_literal(key)}"')
    # Sorted on the way: in memory, never in a file in the clear
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


@contextlib.contextmanager
def opened(file: Path, key: bytes | None) -> Iterator[Any]:
    """A connection for a while. Raises sqlite3.Error, whatever the library's own is called."""
    with translated(), contextlib.closing(connect(file, key, timeout=20)) as connection:
        yield connection


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """SQLCipher's errors as those of sqlite3 that have the same names."""
    try:
        yield
    except dbapi().Error as error:
        kind = getattr(sqlite3, type(error).__name__, sqlite3.DatabaseError)
        raise kind(*error.args) from error


def export(source: Path, source_key: bytes | None, target: Path, key: bytes | None) -> None:
    """Write a database under another key, whole, and on the disk; None: in the clear.

    ``source`` is not changed, and is in nobody else's hands. Raises sqlite3.Error, OSError.
    """
    target.unlink(missing_ok=True)
    with opened(source, source_key) as connection:
        connection.execute(
            "ATTACH DATABASE ? AS target KEY ?", (str(target), _literal(key) if key else "")
        )
        # It is thrown away where this does not come to its end
        connection.execute("PRAGMA target.journal_mode = OFF")
        connection.execute("PRAGMA target.synchronous = OFF")
        connection.execute("SELECT sqlcipher_export('target')").fetchone()
        for name in ("user_version", "application_id"):
            value = int(connection.execute(f"PRAGMA main.{name}").fetchone()[0])
            connection.execute(f"PRAGMA target.{name} = {value}")
        counts = [_counts(connection, name) for name in ("main", "target")]
        connection.execute("DETACH DATABASE target")
    with opened(target, key) as connection:
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if counts[0] != counts[1] or found != "ok":
        target.unlink(missing_ok=True)
        raise sqlite3.DatabaseError("database disk image is malformed")
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _counts(connection: Any, schema: str) -> dict[str, int]:
    # Names that are ours, and names that the database itself has just given
    asked = f"SELECT name FROM {schema}.sqlite_master WHERE type = 'table'"  # nosec B608
    tables = connection.execute(asked)
    names = [str(name) for (name,) in tables.fetchall()]
    counts = {}
    for name in names:
        asked = f'SELECT count(*) FROM {schema}."{name}"'  # nosec B608
        counts[name] = int(connection.execute(asked).fetchone()[0])
    return counts


def _literal(key: bytes) -> str:
    """A key as it is, of which none is derived (zetetic.net/sqlcipher/sqlcipher-api/#key)."""
    return f"x'{key.hex()}'"
