"""From the one file of a laptop to a server: all tables and films, verified, or nothing.

The tables are copied in one transaction, which also compares what arrived and takes down the sign
that a move goes on; where it breaks off, the sign stays, no program starts on the database, and the
next move begins anew. What is moved is not touched.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management.color import no_style
from django.db import connection, connections, models, transaction

from app import database, films
from app.database import MOVE_TABLE
from app.models import Instance, Worker

SOURCE = "source"
CHUNK = 1000

#: Called with the name of what is moved now, how much of it is, and of how much.
Watch = Callable[[str, int, int], None]


class CannotMove(Exception):
    """``code`` is stable; ``details`` fill its sentence."""

    def __init__(self, code: str, **details: str) -> None:
        super().__init__(code)
        self.code, self.details = code, details


def move(target: dict[str, Any], place: films.Place | None, watch: Watch) -> list[str]:
    """Move everything to an empty database, and the films to ``place``; the digests of films that
    are not there. Raises CannotMove, OSError, DatabaseError.

    From here on the process works on the new database. Call it under the lock of the data
    directory.
    """
    if Worker.alive():
        raise CannotMove("worker_runs")
    database.bring_up_to_date()
    point_to(target)
    _begin()
    missing = _move_films(place, watch) if place else []
    with transaction.atomic():
        _copy_tables(watch)
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE {MOVE_TABLE}")
    return missing


def point_to(target: dict[str, Any]) -> None:
    """Let Django's own database be the new one: a migration knows no other."""
    connections.close_all()
    connections.settings[SOURCE] = connections.settings["default"]
    connections.settings["default"] = connections.configure_settings({"default": target})["default"]
    del connections["default"]


def tables() -> list[type[models.Model]]:
    """All models that have rows, each after those that it points to."""
    found: list[type[models.Model]] = []
    left = [
        model
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and not model._meta.proxy
    ]
    while left:
        free = [model for model in left if not _points_to(model) & set(left) - {model}]
        # A ring would be broken anywhere: constraints are looked at when both ends are there
        taken = free or left[:1]
        found += taken
        left = [model for model in left if model not in taken]
    return found


def _points_to(model: type[models.Model]) -> set[Any]:
    return {field.related_model for field in model._meta.concrete_fields if field.remote_field}


def _begin() -> None:
    """Only into a database without tables, or one that a move has begun to fill."""
    there = set(connection.introspection.table_names())
    if there and MOVE_TABLE not in there:
        raise CannotMove("not_empty")
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE IF NOT EXISTS {MOVE_TABLE} (begun_at timestamptz)")
    database.migrate()


def _move_films(place: films.Place, watch: Watch) -> list[str]:
    """Bring each film over and read it back; the digests of those that are not here."""
    place.prepare(True)
    digests = list(Instance.objects.using(SOURCE).values_list("sha256", flat=True))
    missing = []
    for done, sha256 in enumerate(digests):
        watch("films", done, len(digests))
        with films.here().local(sha256) as stored, _file(stored) as film:
            if not film.is_file():
                missing.append(sha256)
            elif not _has_arrived(place, sha256):
                place.keep(film, sha256)
                if not _has_arrived(place, sha256):
                    raise CannotMove("film_differs", film=sha256)
    return missing


@contextlib.contextmanager
def _file(stored: Path | bytes) -> Iterator[Path]:
    """A film that is encrypted here, in the clear for as long as it is sent."""
    if isinstance(stored, Path):
        yield stored
        return
    with tempfile.TemporaryDirectory(dir=settings.TEMPORARY_DIR, prefix="film-") as folder:
        file = Path(folder) / "film"
        file.write_bytes(stored)
        yield file


def _has_arrived(place: films.Place, sha256: str) -> bool:
    if not place.is_kept(sha256):
        return False
    with place.local(sha256) as film, films.opened(film) as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _copy_tables(watch: Watch) -> None:
    chosen = tables()
    names = ", ".join(connection.ops.quote_name(model._meta.db_table) for model in chosen)
    with connection.cursor() as cursor:
        # What migrations have written there, and a move that broke off
        cursor.execute(f"TRUNCATE {names} RESTART IDENTITY")
    for model in chosen:
        _copy(model, watch)
        _compare(model)
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), chosen):
            cursor.execute(statement)


def _copy(model: type[models.Model], watch: Watch) -> None:
    name = model._meta.db_table
    # Past managers of our own, which would chain, count or hide what is only copied
    rows = model._base_manager.using(SOURCE).order_by("pk")
    count, done = rows.count(), 0
    chunk: list[models.Model] = []
    for row in rows.iterator(CHUNK):
        chunk.append(row)
        if len(chunk) == CHUNK:
            done += _write(model, chunk)
            watch(name, done, count)
    done += _write(model, chunk)
    watch(name, done, count)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def _write(model: type[models.Model], chunk: list[models.Model]) -> int:
    written = len(chunk)
    if chunk:
        # ``raw``, as fixtures are loaded: else “now” would be put where a field does that by itself
        fields = model._meta.concrete_fields
        model._base_manager.using("default")._insert(  # type: ignore[attr-defined]
            chunk, fields, using="default", raw=True
        )
    chunk.clear()
    return written


def _compare(model: type[models.Model]) -> None:
    """Raises CannotMove where what arrived is not what was there."""
    if _digest(model, SOURCE) != _digest(model, "default"):
        raise CannotMove("table_differs", table=model._meta.db_table)


def _digest(model: type[models.Model], using: str) -> tuple[int, str]:
    """How many rows a table has, and one digest of all their values."""
    digest, count = hashlib.sha256(), 0
    for row in _rows(model, using):
        digest.update(json.dumps(row, sort_keys=True).encode())
        count += 1
    return count, digest.hexdigest()


def _rows(model: type[models.Model], using: str) -> Iterator[list[Any]]:
    names = [field.attname for field in model._meta.concrete_fields]
    # By all values of the key: two databases may sort text in two ways
    rows = model._base_manager.using(using).order_by("pk").values_list(*names)
    if isinstance(model._meta.pk, models.CharField):
        yield from sorted([_plain(value) for value in row] for row in rows)
        return
    for row in rows.iterator(CHUNK):
        yield [_plain(value) for value in row]


def _plain(value: Any) -> Any:
    """A value that reads the same from every database."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
