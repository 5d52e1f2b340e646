"""Backups beside the pages: every day by itself, and what an administrator asks for.

One thing at a time, at low priority. A stick that is not there, or is pulled out, is no fault: what
is missed is made up when it is there again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import connection, connections
from django.utils import timezone

from app import database, films, worker
from app.backup import FOLDER, local, note, restore, sources
from app.backup.faults import BackupFault
from app.backup.manifest import Manifest
from app.backup.note import Note, Stick
from app.backup.store import Store
from app.backup.write import Clinic, back_up
from app.instance_lock import lock_file
from app.updates import sticks
from app.updates.shadow import yield_to_others

logger = logging.getLogger(__name__)

#: A laptop that has just been started has other things to do.
FIRST_PAUSE = 120.0
LOOK_AGAIN = 60.0
#: What came to nothing is tried again so much later: a full stick does not empty itself.
AFTER_FAULT = 900.0
LOCK = "backup.lock"


def clinic() -> Clinic:
    """What this process backs up."""
    return Clinic(settings.DATA_DIR, settings.TEMPORARY_DIR, settings.VERSION, films.local)


def plugged_in(known: Note) -> list[tuple[Path, Store]]:
    """The chosen sticks that are here now."""
    found = []
    for drive in sticks.drives():
        store = Store.at(drive)
        if store and store.folder == drive / FOLDER and store.name in known.sticks:
            found.append((drive, store))
    return found


def back_up_to(store: Store, watch: Callable[[int, int], None]) -> Manifest:
    """Back up into a store, whether it is a chosen stick or not; raises BackupFault. Noted."""
    known = note.read(settings.DATA_DIR)
    if is_on_server():
        raise BackupFault("on_server")
    if not known.is_set_up:
        raise BackupFault("not_set_up")
    try:
        with alone():
            made = back_up(store, known, clinic(), watch)
    except BackupFault as fault:
        if store.name in known.sticks and fault.code not in ("cancelled", "busy"):
            note.note_stick(settings.DATA_DIR, store.name, trouble=fault.code)
        raise
    if store.name in known.sticks:
        note.note_stick(settings.DATA_DIR, store.name, last=made.made_at, trouble="")
    logger.info("backed up %d films, %d missing", made.counts["films"], len(made.missing))
    return made


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """No other process backs up the same data meanwhile; raises BackupFault("busy")."""
    with (settings.DATA_DIR / LOCK).open("ab") as file:
        try:
            lock_file(file)
        except OSError as error:
            raise BackupFault("busy") from error
        yield


def is_on_server() -> bool:
    """Whether the tables are on a server, which whoever runs it backs up."""
    return connection.vendor != "sqlite"


def is_due(stick: Stick) -> bool:
    """Whether a stick has no backup of today yet."""
    return stick.last is None or timezone.localdate(stick.last) != timezone.localdate()


@dataclass
class Job:
    """What goes on, or went on last: a code of what it is, how far it is, and what came of it."""

    kind: str = ""
    done: int = 0
    total: int = 0
    fault: str = ""
    damaged: int = 0
    ended: datetime | None = None


class Keeper:
    """The one of this process."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._cancel = threading.Event()
        self._busy = threading.Lock()
        self._thread: threading.Thread | None = None
        self.job = Job()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Back up every day until the program stops."""
        self._stopping.clear()
        daily = threading.Thread(target=self._keep, name="backups", daemon=True)
        daily.start()
        try:
            yield
        finally:
            self._stopping.set()
            self.cancel()
            daily.join(worker.PAUSE_SECONDS)
            self.wait()

    @property
    def is_running(self) -> bool:
        """Whether anything goes on."""
        return self._busy.locked()

    def back_up_now(self) -> bool:
        """Start copying the database, and everything to the chosen sticks that are here; whether it
        was started.
        """
        return self._start("backup", lambda: self._back_up(lambda _stick: True))

    def check(self, store: Store) -> bool:
        """Start reading through a stick; whether it was started."""
        return self._start("check", lambda: self._check(store))

    def stage(self, path: Path, secret: str, by: str) -> bool:
        """Start bringing a backup over, to be looked at; whether it was started."""
        return self._start("restore", lambda: self._stage(path, secret, by))

    def cancel(self) -> None:
        """Break off what goes on at its next file."""
        self._cancel.set()

    def wait(self) -> None:
        """Until nothing goes on that a page has started."""
        if self._thread is not None:
            self._thread.join()

    # --- what is done ----------------------------------------------------------------------------

    def _keep(self) -> None:
        yield_to_others()
        pause = FIRST_PAUSE
        while not self._stopping.wait(pause):
            pause = LOOK_AGAIN
            if self._is_anything_due() and self._busy.acquire(blocking=False):
                self._run("backup", lambda: self._back_up(is_due))
                pause = AFTER_FAULT if self.job.fault else LOOK_AGAIN
        connections.close_all()

    def _is_anything_due(self) -> bool:
        if is_on_server():
            return False
        known = note.read(settings.DATA_DIR)
        here = plugged_in(known) if known.is_set_up else []
        return local.is_due() or any(is_due(known.sticks[store.name]) for _drive, store in here)

    def _back_up(self, wanted: Callable[[Stick], bool]) -> None:
        if is_on_server():
            raise BackupFault("on_server")
        if local.is_due() or wanted(Stick("")):
            self._copy_database()
        known = note.read(settings.DATA_DIR)
        for _drive, store in plugged_in(known) if known.is_set_up else ():
            if wanted(known.sticks[store.name]):
                back_up_to(store, self._watch)

    def _copy_database(self) -> None:
        try:
            local.make()
        except database.DamagedDatabase as error:
            from app import checks

            checks.found_damage()
            raise BackupFault("cannot_copy_database") from error
        except database.Error as error:
            raise BackupFault("cannot_copy_database") from error

    def _check(self, store: Store) -> None:
        manifest = store.newest()
        if manifest is None:
            raise BackupFault("no_backup")
        for done, entry in enumerate(manifest.entries):
            self._watch(done, len(manifest.entries))
            if not store.folder.is_dir():
                raise BackupFault("not_there")
            if not store.is_whole(entry):
                self.job.damaged += 1
                store.give_up(entry)

    def _stage(self, path: Path, secret: str, by: str) -> None:
        with sources.opened(path, secret, settings.TEMPORARY_DIR) as source:
            restore.stage(source, settings.DATA_DIR, self._watch, by)

    def _start(self, kind: str, work: Callable[[], None]) -> bool:
        if not self._busy.acquire(blocking=False):
            return False
        self._thread = threading.Thread(
            target=self._in_thread, args=[kind, work], name="backup", daemon=True
        )
        self._thread.start()
        return True

    def _in_thread(self, kind: str, work: Callable[[], None]) -> None:
        yield_to_others()
        self._run(kind, work)
        connections.close_all()

    def _run(self, kind: str, work: Callable[[], None]) -> None:
        """Do it and keep what came of it; the caller has taken the lock."""
        self.job = Job(kind)
        self._cancel.clear()
        try:
            work()
        except BackupFault as fault:
            self.job.fault = fault.code
            logger.warning("%s came to nothing: %s", kind, fault.code)
        except Exception as error:  # noqa: BLE001 - said on the page; the next day must come
            self.job.fault = "failed"
            logger.error("%s broke off: %s", kind, worker.traceback_of(error))
        finally:
            self.job.ended = timezone.now()
            self._busy.release()

    def _watch(self, done: int, total: int) -> None:
        if self._cancel.is_set():
            raise BackupFault("cancelled")
        self.job.done, self.job.total = done, total


keeper = Keeper()
