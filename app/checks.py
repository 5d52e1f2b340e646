"""Start-up checks. Each fault is a code and a sentence that a nurse can read out on the phone."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from app import machine
from app.active_model import ActiveModel
from app.backup import outcome
from app.cxr.release import UnusableRelease
from app.database import database_file, is_damaged, is_on_server, is_whole

SENTENCES: dict[str, Promise] = {
    "data_dir_not_writable": _(
        "Fault DATA: the program cannot write into its folder %(folder)s. "
        "Check that the disk is not write-protected and that this user may write there."
    ),
    "disk_nearly_full": _(
        "Fault DISK: only %(free)s MB are free on the disk. Below %(reserve)s MB new films are "
        "turned away. Delete what is not needed from the computer."
    ),
    "films_turned_away": _(
        "Fault DISK: only %(free)s MB are free on the disk, so new films are turned away. What is "
        "stored is safe. Empty the recycle bin, and move videos and other large files to a stick."
    ),
    "disk_full": _(
        "Fault DISK: the disk is full, nothing can be written into the folder %(folder)s. "
        "Delete what is not needed from the computer, then start the program again."
    ),
    "no_port": _(
        "Fault PORT: the program finds no free address on this computer to show its pages at. "
        "Restart the computer, then start the program again."
    ),
    "database_in_use": _(
        "Fault IN USE: another program holds the database and does not let go of it. "
        "Close other programs, or restart the computer, then start the program again."
    ),
    "database_unreachable": _(
        "Fault SERVER: the database server does not answer. Check the network and the server. "
        "What is stored is safe."
    ),
    "films_unreachable": _(
        "Fault FILMS: the place where the films are stored cannot be reached. Check the network. "
        "What is stored is safe; no film is taken in or answered until then."
    ),
    "locked": _(
        "Fault LOCKED: the data are encrypted, and the passphrase was not given. What is stored "
        "was not looked at."
    ),
    "database_damaged": _(
        "Fault DATABASE: the database %(file)s is damaged, and there is no whole copy of it in the "
        "folder “backups” beside it. Do not delete anything. Bring the stick with the backups, and "
        "ask for help."
    ),
    "damage_found": _(
        "Fault DATABASE: the database %(file)s is damaged. Quit the program and start it again: "
        "it then repairs itself. Do not delete anything."
    ),
    "database_reindexed": _(
        "Fault REPAIRED: the database was damaged and has been repaired. Nothing is lost. "
        "An administrator can close this note on the page “Backups”."
    ),
    "database_replaced": _(
        "Fault REPAIRED: the database was damaged. Its copy of %(day)s stands in its place now. "
        "What was written down since then is not in it: look for it on paper. Films that came in "
        "since then and are in the worklist again: %(films)s. "
        "An administrator can close this note on the page “Backups”."
    ),
    "model_not_usable": _(
        "Fault MODEL: no usable model (%(code)s). Films are kept and wait; "
        "no answers are given until the program or its model is installed again."
    ),
    "local_operating_point_refused": _(
        "Fault THRESHOLD: a threshold of this clinic's own (%(bands)s) cannot be used. "
        "The model's own threshold answers instead. An administrator can remove the unusable one "
        "on the page “Is it right here?”."
    ),
}
OLD_PROCESSOR = _(
    "Note PROCESSOR: this computer's processor has no AVX2, as those made since about 2015 do. "
    "The program works and its answers are the same, but each film may take some seconds longer."
)

NOT_WRITABLE = "data_dir_not_writable"
ROOM_OF_AN_EMPTY_DATABASE = 1024**2
#: Said at 2 GB where the reserve is the usual 500 MB: before films are turned away, not afterwards.
WARN_AT_RESERVES = 4
# sqlite.org/rescode.html, of which “disk I/O error” is all that is said
_NOT_WRITTEN = {
    f"SQLITE_IOERR_{kind}"
    for kind in ("WRITE", "FSYNC", "DIR_FSYNC", "TRUNCATE", "DELETE", "SHMOPEN", "SHMSIZE")
}
# Windows says it in numbers of its own, which Python turns into ENOSPC
FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@dataclass(frozen=True)
class Problem:
    """Something wrong with the installation: a stable code and what its sentence names."""

    code: str
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """The words for a person."""
        return str(SENTENCES[self.code]) % self.details


model = ActiveModel(settings.DATA_DIR)


def data_directory() -> Problem | None:
    """Can the program write where it keeps everything?"""
    return cannot_write(settings.DATA_DIR)


def free_disk() -> Problem | None:
    """Is there room for the next films?"""
    try:
        free = shutil.disk_usage(settings.DATA_DIR).free
    except OSError:  # no such folder: ``data_directory`` says so
        return None
    if free >= WARN_AT_RESERVES * settings.MIN_FREE_BYTES:
        return None
    code = "disk_nearly_full" if free >= settings.MIN_FREE_BYTES else "films_turned_away"
    reserve = str(settings.MIN_FREE_BYTES // 1024**2)
    return Problem(code, {"free": str(free // 1024**2), "reserve": reserve})


def database() -> Problem | None:
    """Is the database whole? Reads every page: a second for each few hundred MB."""
    if is_on_server():
        return None
    return None if is_whole(database_file()) else damaged_database()


def usable_model() -> Problem | None:
    """Is there a model to answer with? Loads no graph; the first film or ``check`` does."""
    return _model_problem(model.problem)


def local_operating_points() -> Problem | None:
    """Can the clinic's own operating points be used, where it has any?"""
    release = model.release
    if release is None or not release.local.refused:
        return None
    return Problem("local_operating_point_refused", {"bands": ", ".join(release.local.refused)})


def working_model() -> Problem | None:
    """Does the model load, and give its self-test films the scores its release promises?"""
    try:
        model.load()
    except UnusableRelease as error:
        return _model_problem(error)
    return None


def repaired() -> Problem | None:
    """Was the database repaired, and has no administrator read of it yet?"""
    done = outcome.read(settings.DATA_DIR)
    if done is None or done.seen or done.kind == outcome.RESTORE:
        return None
    code = "database_reindexed" if done.kind == outcome.REINDEX else "database_replaced"
    day = date_format(timezone.localtime(done.day), "DATETIME_FORMAT")
    return Problem(code, {"day": day, "films": number_format(done.films)})


#: What a running program looks at again and again, and what ``check`` does besides.
QUICK: tuple[Callable[[], Problem | None], ...] = (
    data_directory,
    free_disk,
    usable_model,
    local_operating_points,
    repaired,
)
THOROUGH: tuple[Callable[[], Problem | None], ...] = (
    data_directory,
    free_disk,
    database,
    working_model,
    local_operating_points,
)

_damage: list[Problem] = []


def look_at_database() -> None:
    """Check the database in full and remember the outcome for ``current_problems``."""
    if not is_on_server() and is_damaged(database_file()):
        found_damage()
    else:
        _damage.clear()


def found_damage() -> None:
    """Say on all pages that the database is damaged, and have the next start repair it."""
    from app.backup import repair  # which knows of the models

    _damage[:] = [Problem("damage_found", {"file": database_file().name})]
    repair.suspect()


def current_problems() -> list[Problem]:
    """What is wrong right now, cheaply enough to be asked every few seconds."""
    return [*_damage, *(problem for check in QUICK if (problem := check()))]


def damaged_database() -> Problem:
    """The problem of a database that SQLite finds fault with."""
    return Problem("database_damaged", {"file": database_file().name})


def cannot_write(folder: Path) -> Problem | None:
    """Try it: rights, read-only disks and network folders are too many to reason about."""
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(b"x")
    except OSError as error:
        code = "disk_full" if error.errno in FULL else NOT_WRITABLE
        return Problem(code, {"folder": str(folder)})
    return None


def problem_of(error: BaseException) -> Problem | None:
    """The problem behind an error of the disk or of SQLite, None behind any other."""
    folder = {"folder": str(settings.DATA_DIR)}
    if isinstance(error, OSError):
        return Problem("disk_full" if error.errno in FULL else NOT_WRITABLE, folder)
    if not isinstance(error, DatabaseError | sqlite3.DatabaseError):
        return None
    if is_on_server():
        return Problem("database_unreachable") if _is_operational(error) else None
    # SQLite has one class for all of these; the words are those of sqlite3_errstr()
    said = str(error)
    # On a full disk the write-ahead log has no room either: SQLite then says “disk I/O error”
    if "full" in said or ("disk I/O" in said and _is_full()):
        return Problem("disk_full", folder)
    if "readonly" in said or "unable to open" in said or _failed_to_write(error):
        return Problem(NOT_WRITABLE, folder)
    return Problem("database_in_use") if "locked" in said else damaged_database()


def _failed_to_write(error: BaseException) -> bool:
    """Whether SQLite, or what Django makes of it, says that the disk took no write: what is there
    is whole then. A disk that cannot be read is another matter.
    """
    name = getattr(error.__cause__ or error, "sqlite_errorname", "")
    return name in _NOT_WRITTEN


def _is_operational(error: Exception) -> bool:
    """Whether the server, and not what was asked of it, is at fault."""
    return isinstance(error, OperationalError | InterfaceError)


def _is_full() -> bool:
    try:
        return shutil.disk_usage(settings.DATA_DIR).free < ROOM_OF_AN_EMPTY_DATABASE
    except OSError:
        return False


def notes() -> list[str]:
    """What is worth telling, and no fault: sentences."""
    return [str(OLD_PROCESSOR)] if machine.is_old_processor() else []


def _model_problem(error: UnusableRelease | None) -> Problem | None:
    return Problem("model_not_usable", {"code": error.code}) if error else None
