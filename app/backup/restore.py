"""The way back: stage a backup beside the data, verify all of it, then put it in their place.

What was there is moved into ``before-restore-…`` of the data directory; nothing is deleted. Staged
data wait in ``restore.new`` with a note of how far it has come, ``restore.json``; they are put in
place when nobody has the database open: at the next start, or at once by the command. Every step of
that can be taken twice, so a power cut in the middle is made good by the next start.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app import database, vault
from app.backup import DATABASE, DATABASE_KEY, FILES, FILMS, RESTORATION, TREES, outcome
from app.backup.faults import BackupFault, over_here
from app.backup.manifest import Entry, film_path
from app.backup.outcome import COPY, REINDEX, RESTORE, Outcome
from app.backup.sources import Source
from app.backup.store import digest_of, flushed
from app.backup.write import RESERVE_BYTES, Watch, counts_and_films, unwatched
from app.cxr.durable import sync_folder, write_durably
from app.vault import cipher, seal, spool
from app.vault.hierarchy import Keys

NEW, NOTE = "restore.new", RESTORATION
#: Where what was there before goes, by what is done.
ASIDE = {RESTORE: "before-restore-{}", REINDEX: "damaged-{}", COPY: "damaged-{}"}
#: What SQLite keeps beside a database: never to be found beside another one.
BESIDE = tuple(DATABASE + ending for ending in ("-wal", "-shm", "-journal"))
STAGED, CONFIRMED = "staged", "confirmed"
MOST_NAMED = 200


@dataclass(frozen=True)
class Staged:
    """A backup that lies verified beside the data, to be put in place or discarded.

    ``names``: what is put in place; ``replaced``: what goes aside for it. ``damaged``: films that
    could be had nowhere whole.
    """

    state: str
    made_at: str
    counts: dict[str, int]
    names: list[str]
    replaced: list[str]
    damaged: list[str]
    kind: str = RESTORE
    by: str = ""
    aside: str = ""

    @property
    def moment(self) -> datetime:
        """When the backup was made."""
        return datetime.fromisoformat(self.made_at)

    @property
    def has_films(self) -> bool:
        """Whether films come with it; else those that are here stay."""
        return FILMS in self.names or not self.counts.get("films")


@dataclass(frozen=True)
class Lost:
    """What is here and not in a backup: the numbers of studies, and how many readings."""

    studies: list[str]
    study_count: int
    readings: int


def stage(
    source: Source, target: Path, watch: Watch = unwatched, by: str = "", kind: str = RESTORE
) -> Staged:
    """Bring a backup into a data directory, verified, without touching what is there.

    Raises BackupFault. Films that are there already, and whole, are not copied a second time.
    """
    manifest = source.manifest
    if DATABASE not in manifest.by_path:
        raise BackupFault("damaged")
    with over_here():
        discard(target)
        new = target / NEW
        new.mkdir(parents=True)
        _check_room(source, target)
        try:
            damaged = _bring(source, target, watch)
            _verify_database(new / DATABASE, manifest.counts)
            names = sorted({path.split("/")[0] for path in manifest.by_path} - {DATABASE_KEY})
            staged = Staged(
                STAGED,
                manifest.made_at.isoformat(),
                manifest.counts,
                names,
                _replaced(source),
                damaged,
                kind,
                by,
            )
            _sync_tree(new)
            _write(target, staged)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
    return staged


def waiting(target: Path) -> Staged | None:
    """What is staged in a data directory, whole."""
    try:
        return Staged(**json.loads((target / NOTE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def confirm(target: Path) -> None:
    """Let what is staged be put in place at the next start; raises BackupFault."""
    staged = waiting(target)
    if staged is None:
        raise BackupFault("no_backup")
    with over_here():
        aside = _free_name(target, staged.kind)
        _write(target, replace(staged, state=CONFIRMED, aside=aside))


def discard(target: Path) -> None:
    """Remove what is staged; raises BackupFault."""
    with over_here():
        (target / NOTE).unlink(missing_ok=True)
        if (target / NEW).exists():
            shutil.rmtree(target / NEW)


def apply(target: Path) -> Path | None:
    """Put what was confirmed in place; where what was there lies now, None where nothing was to do.

    Only while nobody has the database open. Raises BackupFault; then the next try goes on.
    """
    staged = waiting(target)
    if staged is None or staged.state != CONFIRMED:
        return None
    with over_here():
        aside = target / staged.aside
        aside.mkdir(exist_ok=True)
        for name in [*staged.replaced, *staged.names]:
            _put_in_place(target, aside, name, comes=name in staged.names)
        for folder in (target / NEW, aside, target):
            sync_folder(folder)
        outcome.write(target, _outcome_of(staged))
        discard(target)
        with contextlib.suppress(OSError):  # nothing was there before
            aside.rmdir()
    return aside


def _outcome_of(staged: Staged) -> Outcome:
    return Outcome(
        staged.kind,
        outcome.now(),
        staged.made_at,
        staged.aside,
        by=staged.by,
        damaged=len(staged.damaged),
    )


def _free_name(target: Path, kind: str) -> str:
    day = f"{datetime.now(UTC):%Y%m%d}"
    names = (ASIDE[kind].format(f"{day}-{count}") for count in range(1, 10_000))
    return next(name for name in names if not (target / name).exists())


def _put_in_place(target: Path, aside: Path, name: str, comes: bool) -> None:
    new, here = target / NEW / name, target / name
    if comes and not new.exists():
        return  # an earlier try has moved it
    if here.exists():
        here.rename(aside / name)
    if comes:
        new.rename(here)


def preview(target: Path) -> Lost:
    """What is newer here than in what is staged, and would not be seen any more.

    Raises BackupFault. Where there is no database here yet, nothing is lost.
    """
    here, there = target / DATABASE, target / NEW / DATABASE
    if not here.exists():
        return Lost([], 0, 0)
    try:
        ours, kept = _studies(here), _studies(there)
        readings = _readings(here) - _readings(there)
    except database.Error as error:
        raise BackupFault("damaged") from error
    only_here = sorted(ours - kept, reverse=True)
    return Lost(only_here[:MOST_NAMED], len(only_here), len(readings))


def _studies(file: Path) -> set[str]:
    with database.opened(file) as read:
        return {str(number) for (number,) in read.execute("SELECT number FROM clinic_study")}


def _readings(file: Path) -> set[tuple[Any, ...]]:
    with database.opened(file) as read:
        rows = read.execute("SELECT id, study_id, at FROM clinic_reading")
        return set(rows.fetchall())


def _replaced(source: Source) -> list[str]:
    """What goes aside: all that a backup of this kind brings, there or not, and what lies beside
    a database. A copy of the database alone replaces nothing else, a file without films no film.
    """
    if list(source.manifest.by_path) == [DATABASE] and not source.manifest.clinic:
        return [*BESIDE]
    rest = [*FILES, *TREES, *([FILMS] if source.manifest.has_films else [])]
    return [*BESIDE, *rest]


def _bring(source: Source, target: Path, watch: Watch) -> list[str]:
    """All of it; the digests of the films that could not be had whole."""
    new, damaged, shelf = target / NEW, [], _Shelf.of(target)
    entries = source.manifest.entries
    key = io.BytesIO()
    for done, entry in enumerate(entries):
        watch(done, len(entries))
        is_film = entry.path.startswith(f"{FILMS}/")
        if is_film and shelf.link(target, new, entry.sha256, entry.size):
            continue
        try:
            if is_film:
                shelf.put(source, entry, new)
            elif entry.path == DATABASE_KEY:
                source.extract(entry, key)
            else:
                _extract(source, entry, new / entry.path)
        except BackupFault as fault:
            if not is_film or fault.code != "damaged":
                raise
            damaged.append(entry.sha256)
    _rekey(new / DATABASE, key.getvalue() or None, shelf.keys)
    if not source.manifest.has_films:
        return damaged
    missing = source.manifest.missing
    return damaged + [sha for sha in missing if not shelf.link(target, new, sha)]


@dataclass(frozen=True)
class _Shelf:
    """How films lie in a data directory: encrypted (``keys``), or as they are."""

    keys: Keys | None

    @staticmethod
    def of(target: Path) -> _Shelf:
        """That of the data directory of this process is the one whose keys can be had. In any other
        films lie as they are until its own next start.
        """
        ours = vault.is_data_directory(target) and vault.is_on()
        return _Shelf(vault.keys() if ours else None)

    def path(self, folder: Path, sha256: str) -> Path:
        """Where a film lies below a folder."""
        if self.keys is None:
            return folder / film_path(sha256)
        name = seal.name_of(self.keys, sha256)
        return folder / FILMS / name[:2] / name

    def has(self, target: Path, entry: Entry) -> bool:
        """Whether a file is a film that is there already."""
        return entry.path.startswith(f"{FILMS}/") and self.path(target, entry.sha256).exists()

    def link(self, target: Path, new: Path, sha256: str, size: int | None = None) -> bool:
        """Give a film that is here and whole a second name; False where it is not, or cannot be."""
        here, there = self.path(target, sha256), self.path(new, sha256)
        try:
            if not self._is_whole(here, sha256, size):
                return False
            there.parent.mkdir(parents=True, exist_ok=True)
            os.link(here, there)
        except OSError:
            return False
        return True

    def put(self, source: Source, entry: Entry, new: Path) -> None:
        """Bring a film over; raises BackupFault, OSError."""
        path = self.path(new, entry.sha256)
        if self.keys is None:
            _extract(source, entry, path)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with spool.temporary() as passing:
            source.extract(entry, passing)
            if passing.seek(0, os.SEEK_END) != entry.size:
                raise BackupFault("damaged")
            passing.seek(0)
            seal.put(self.keys, passing, path)

    def _is_whole(self, here: Path, sha256: str, size: int | None) -> bool:
        if self.keys is not None:
            content = seal.decrypt(self.keys, here, sha256)
            return size in (None, len(content))
        found, digest = digest_of(here)
        return digest == sha256 and size in (None, found)


def _rekey(file: Path, key: bytes | None, keys: Keys | None) -> None:
    """Put a database that came under ``key`` under ours, or in the clear where we have none. One
    that came without is in the clear, or a copy of our own. Raises sqlite3.Error, OSError.
    """
    ours = keys.database if keys else None
    if key is None and not cipher.is_plain(file) and vault.is_on():
        key = vault.keys().database
    if key == ours:
        return
    changed = file.with_name(f"{file.name}.changed")
    try:
        cipher.export(file, key, changed, ours)
    except sqlite3.Error as error:
        changed.unlink(missing_ok=True)
        raise BackupFault("damaged") from error
    changed.replace(file)


def _extract(source: Source, entry: Entry, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            source.extract(entry, file)
            flushed(file)
        if digest_of(path) != (entry.size, entry.sha256):
            raise BackupFault("damaged")
    except BackupFault:
        path.unlink(missing_ok=True)
        raise


def _verify_database(file: Path, counts: dict[str, int]) -> None:
    try:
        with database.opened(file) as read:
            if read.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
                raise BackupFault("damaged")
        if database.is_from_later_version(file):
            raise BackupFault("newer")
        found, _films = counts_and_films(file)
    except sqlite3.Error as error:
        raise BackupFault("damaged") from error
    if found != counts:
        raise BackupFault("damaged")


def _check_room(source: Source, target: Path) -> None:
    shelf = _Shelf.of(target)
    need = sum(entry.size for entry in source.manifest.entries if not shelf.has(target, entry))
    if shutil.disk_usage(target).free < need + RESERVE_BYTES:
        raise BackupFault("no_room_here")


def _write(target: Path, staged: Staged) -> None:
    write_durably(target / NOTE, json.dumps(asdict(staged)).encode())


def _sync_tree(top: Path) -> None:
    for folder in _folders(top):
        sync_folder(folder)


def _folders(top: Path) -> Iterator[Path]:
    yield top
    for path in top.rglob("*"):
        if path.is_dir():
            yield path
