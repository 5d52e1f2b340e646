"""Backups that a person can choose from: on what is plugged in, and beside the database."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.backup import SUFFIX, local
from app.backup.store import Store, moment_of
from app.updates import sticks

MOST_FILES = 1000
ON_STICK, IN_FILE, BESIDE = "stick", "file", "beside"


@dataclass(frozen=True)
class Found:
    """A backup: where it is, when it was made, and whether films are in it."""

    path: Path
    made_at: datetime
    kind: str
    place: str

    @property
    def needs_secret(self) -> bool:
        """Whether it is encrypted."""
        return self.kind != BESIDE


def everywhere() -> list[Found]:
    """All that is here now, those with films first, then the newest first."""
    drives = sticks.drives()
    found = [one for drive in drives for one in (*_in_store(drive), *_files(drive))]
    found += [Found(path, _changed(path), BESIDE, path.name) for path in local.copies()]
    order = {ON_STICK: 0, IN_FILE: 1, BESIDE: 2}
    return sorted(found, key=lambda one: (order[one.kind], -one.made_at.timestamp()))


def _in_store(drive: Path) -> list[Found]:
    store = Store.at(drive)
    listed = store.sets() if store else []
    moments = ((path, moment_of(path)) for path in listed)
    return [Found(path, at, ON_STICK, drive.name or str(drive)) for path, at in moments if at]


def _files(drive: Path) -> list[Found]:
    """Files without films, by name: nothing is opened here."""
    with contextlib.suppress(OSError):
        paths = list(itertools.islice(drive.iterdir(), MOST_FILES))
        ours = [p for p in paths if p.name.endswith(SUFFIX) and not p.name.startswith(".")]
        return [Found(path, _changed(path), IN_FILE, path.name) for path in ours]
    return []


def _changed(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return datetime.fromtimestamp(0, UTC)
