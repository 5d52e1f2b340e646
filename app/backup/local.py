"""Copies of the database beside it, one for each day: what a start repairs it from.

Films are not copied here: they lie on the same disk, in files of their own that are never written
to again, so a second copy would go wherever the first one goes.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from app import database
from app.backup import rotation

logger = logging.getLogger(__name__)

_NAME = "daily-%Y%m%d-%H%M%S.sqlite3"
#: All that stays of the daily copies where the disk has little room left.
FEWEST = 3


def copies() -> list[Path]:
    """Daily copies, and those made before a newer version changed the database; newest first."""
    with contextlib.suppress(OSError):
        found = [*settings.BACKUP_DIR.glob("*.sqlite3")]
        return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
    return []


def last() -> datetime | None:
    """When the newest daily copy was made."""
    return max((at for at, _path in _daily()), default=None)


def is_due() -> bool:
    """Whether today has no copy yet."""
    made = last()
    return made is None or timezone.localdate(made) != timezone.localdate()


def make() -> Path | None:
    """Copy the database, whole or not at all; None where there is nothing to copy yet.

    Raises OSError, sqlite3.Error, or DamagedDatabase: the copies that are there stay then.
    """
    source = database.database_file()
    if not source.exists() or source.stat().st_size == 0:
        return None
    settings.BACKUP_DIR.mkdir(parents=True, exist_ok=True)
    target = settings.BACKUP_DIR / datetime.now(UTC).strftime(_NAME)
    unfinished = target.with_name(f"{target.name}.new")
    try:
        database.copy(source, unfinished)
        if not database.is_whole(unfinished):
            raise database.DamagedDatabase
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    _tidy()
    logger.info("database copied to %s", target.name)
    return target


def _tidy() -> None:
    made = dict(_daily())
    stays = rotation.kept(made)
    if shutil.disk_usage(settings.BACKUP_DIR).free < 4 * settings.MIN_FREE_BYTES:
        stays = set(sorted(made)[-FEWEST:])
    for at in made.keys() - stays:
        with contextlib.suppress(OSError):
            made[at].unlink()
    database.remove_unfinished()


def _daily() -> list[tuple[datetime, Path]]:
    found = []
    for path in copies():
        with contextlib.suppress(ValueError):
            found.append((datetime.strptime(path.name, _NAME).replace(tzinfo=UTC), path))
    return found
