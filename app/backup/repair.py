"""A damaged database is made whole again at the start, without asking anybody: in a clinic there
is nobody to ask.

First its indexes are made anew: where only these were damaged, nothing is lost. Else the newest
whole copy takes its place, and films that are stored and of which that copy knows nothing are
entered again. The damaged file is kept aside, and pages say what was done until an administrator
has read it.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from app import database, films
from app.backup import DATABASE, local, outcome, restore
from app.backup.faults import BackupFault
from app.backup.outcome import COPY, REINDEX, RESTORE
from app.backup.sources import CopySource
from app.cxr.durable import write_durably
from app.models import AuditEvent, Instance, Study

logger = logging.getLogger(__name__)

#: Written by whoever finds damage while the program runs: the next start looks closely.
SUSPICION = "database.suspect"
SENDER = "recovered"


def suspect() -> None:
    """Have the next start look closely at the database."""
    with contextlib.suppress(OSError):
        write_durably(settings.DATA_DIR / SUSPICION, b"")


def is_needed() -> bool:
    """Whether the database is damaged. Looks closely, which takes a second for each few hundred MB,
    only where there is cause: the program before this did not end tidily, or has found damage.
    """
    file = database.database_file()
    log = file.with_name(f"{file.name}-wal")
    with contextlib.suppress(OSError):
        suspected = (settings.DATA_DIR / SUSPICION).exists()
        if suspected or (log.exists() and log.stat().st_size):
            damaged = database.is_damaged(file)
            if suspected and not damaged:
                (settings.DATA_DIR / SUSPICION).unlink()
            return damaged
    return False


def repair() -> bool:
    """Make the database whole; False where there is nothing to do that with.

    Only under the lock of the data directory, with no connection open. Raises BackupFault.
    """
    for kind, source in _candidates():
        try:
            restore.stage(source, settings.DATA_DIR, kind=kind)
            restore.confirm(settings.DATA_DIR)
            restore.apply(settings.DATA_DIR)
        except BackupFault as fault:
            logger.warning("the database could not be repaired by %s: %s", kind, fault.code)
            if fault.code not in ("damaged", "newer"):
                raise
            continue
        (settings.DATA_DIR / SUSPICION).unlink(missing_ok=True)
        logger.warning("the database was damaged and has been repaired by %s", kind)
        return True
    return False


def _candidates() -> Iterator[tuple[str, CopySource]]:
    with contextlib.suppress(BackupFault), _reindexed() as mended:
        yield REINDEX, CopySource(mended)
    for copy in local.copies():
        with contextlib.suppress(BackupFault, database.Error):
            yield COPY, CopySource(copy)


@contextlib.contextmanager
def _reindexed() -> Iterator[Path]:
    """A copy of the damaged database with its indexes made anew; raises BackupFault."""
    file = database.database_file()
    settings.TEMPORARY_DIR.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.TEMPORARY_DIR, prefix="repair-") as folder:
        mended = Path(folder) / DATABASE
        try:
            for name in (file.name, *restore.BESIDE):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(file.with_name(name), mended.with_name(name))
            with database.opened(mended) as opened:
                opened.execute("REINDEX")
                opened.execute("PRAGMA journal_mode=DELETE")
        except (sqlite3.Error, OSError) as error:
            raise BackupFault("damaged") from error
        yield mended


# --- afterwards ----------------------------------------------------------------------------------


def note() -> None:
    """Put on record what was done, once, and how many films are to be entered again."""
    done = outcome.read(settings.DATA_DIR)
    if done is None or done.noted:
        return
    left = len(films_without_row())
    action = "data_restored" if done.kind == RESTORE else "database_repaired"
    details = {"kind": done.kind, "made": done.made_at, "aside": done.aside, "films": left}
    AuditEvent.record(None, action, None, **details, by=done.by)
    outcome.change(settings.DATA_DIR, noted=True, films=left)


def films_without_row() -> list[str]:
    """The digests of stored films that no row speaks of, and that nobody has deleted."""
    known = set(Instance.objects.values_list("sha256", flat=True))
    for event in AuditEvent.objects.filter(action="study_deleted"):
        known.update(event.details.get("films", ()))
    with contextlib.suppress(OSError):
        return sorted(sha256 for sha256 in films.digests() if sha256 not in known)
    return []


def enter_again(digests: list[str], words: str) -> int:
    """Take stored films in as if they came today, each with the day it was stored; how many.

    ``words``: a note for their studies. What fails is left for the next start.
    """
    from app import intake  # which knows of the models' whole family

    entered = 0
    for sha256 in digests:
        with (
            contextlib.suppress(intake.Rejected, OSError),
            films.local(sha256) as stored,
            films.opened(stored) as film,
        ):
            came = films.stored_at(sha256) or timezone.now()
            name = f"{timezone.localtime(came):%Y-%m-%d %H-%M}"
            belonging = intake.Belonging(sender=SENDER)
            receipt = intake.receive(film, name, Instance.Source.COMMAND, belonging)
            entered += 1
            study = receipt.instance.study
            if not receipt.duplicate and study.instances.count() == 1:
                Study.objects.filter(pk=study.pk).update(created_at=came)
                study.refresh_from_db()
                study.change({"note": words}, by=None)
    return entered
