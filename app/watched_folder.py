"""The watched folder: films that other programs put into a folder come in by themselves.

It is looked through again and again, because no share of a network tells of a new file. What lies
in it is complete when it has stood still for a while. Then it leaves: to ``done`` once the film is
stored, to ``failed``, with the reason in a file beside it, where there is no film in it that could
be. Between the two steps the program may be killed: the file is then still there, is known by its
content at the next look, and goes to ``done``.
"""

from __future__ import annotations

import contextlib
import hmac
import itertools
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from django.conf import settings
from django.db import connections, transaction
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.utils import timezone, translation

from app import folders, intake, vault
from app.cxr.durable import write_durably
from app.folder_words import why_failed
from app.models import Site, User
from app.models.audit import AuditEvent
from app.worker import traceback_of

logger = logging.getLogger(__name__)

DONE, FAILED = "done", "failed"
REASON = ".txt"
#: Between two looks; after a fault; so long a file has to stand still, and one of no bytes.
SECONDS_BETWEEN, SECONDS_AFTER_FAULT = 3.0, 15.0
SECONDS_STILL, SECONDS_EMPTY = 6.0, 60.0
#: So many files are kept in mind, and taken in before the folder is looked through again.
MOST_FILES, MOST_AT_ONCE = 20_000, 100
MOST_TROUBLES = 20
LONGEST_SENDER = 100
#: A film that was being looked at so often when the program ended is taken to be the cause.
MOST_DEATHS = 4
DEATHS = "watched-folder.json"
SECONDS_TO_STOP = 10.0
# ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION (Windows SDK, winerror.h)
_HELD_OPEN = {32, 33}
#: Why a whole folder is not read now, and why one file in it is not; sentences in
#: ``app.folder_words``.
PROBLEMS = frozenset({"unavailable", "cannot_move", "disk_full", "cannot_store"})
TROUBLES = frozenset({"cannot_be_read", "cannot_be_moved", "folder_closed", "out_of_memory"})
#: What says of a file that it cannot be read now, where another says that it never can.
_READ_LATER = {
    "not_allowed": "cannot_be_read",
    "read_failed": "cannot_be_read",
    "out_of_memory": "out_of_memory",
}


@dataclass(frozen=True)
class Fate:
    """Where a file goes: to ``done``, or to ``failed`` for the reason of a code."""

    code: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Sight:
    """A file as it was last seen, and since when it is so. ``fate``: what was decided of it."""

    size: int
    mtime_ns: int
    since: float
    again_at: float = 0.0
    fate: Fate | None = None


@dataclass(frozen=True)
class Standing:
    """How it stands with the folder, for its page: counts since the program was started.

    ``problem``: why nothing of it is read now. ``troubles``: files that stay, and why.
    """

    folder: Path
    looked_at: float | None = None
    problem: str = ""
    waiting: int = 0
    taken: int = 0
    turned_away: int = 0
    troubles: tuple[tuple[str, str], ...] = ()
    more_troubles: int = 0


class FolderProblem(Exception):
    """Nothing of the folder can be taken in now; ``code`` is one of PROBLEMS."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _FileTrouble(Exception):
    """One file stays where it is for now; ``code`` is one of TROUBLES, empty: not worth a word."""

    def __init__(self, code: str = "") -> None:
        super().__init__(code)
        self.code = code


class Folder:
    """One folder, and what is remembered of its files from one look to the next."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._sights: dict[str, Sight] = {}
        self._troubles: dict[str, str] = {}
        self._deaths = _deaths_noted()
        self.standing = Standing(path)

    def sweep(self, stopping: Callable[[], bool] = lambda: False) -> bool:
        """Look through the folder and take in what is complete; whether more of it is.

        What goes wrong is in ``standing``; nothing is raised for it.
        """
        problem, more = "", False
        try:
            due = self._due()
            if due:
                self.try_to_write()
            for name in itertools.islice(due, MOST_AT_ONCE):
                if stopping():
                    break
                self._attend(name)
            more = len(due) > MOST_AT_ONCE
        except FolderProblem as found:
            problem = found.code
            if problem != self.standing.problem:
                logger.warning("the watched folder is not read now: %s", problem)
        self._stand(problem)
        return more

    def _stand(self, problem: str) -> None:
        shown = itertools.islice(self._troubles.items(), MOST_TROUBLES)
        self.standing = replace(
            self.standing,
            looked_at=self._clock(),
            problem=problem,
            waiting=len(self._sights),
            troubles=tuple(shown),
            more_troubles=max(0, len(self._troubles) - MOST_TROUBLES),
        )

    def _due(self) -> list[str]:
        """The files that are complete, and whose time has come."""
        self._look()
        now = self._clock()
        self._stand(self.standing.problem)
        return [name for name, sight in self._sights.items() if _is_due(sight, now)]

    def _look(self) -> None:
        """Bring what is remembered up to what is there."""
        now, seen = self._clock(), {}
        closed: list[str] = []
        try:
            found = folders.files_in(self._path, (DONE, FAILED), closed.append)
            for name, told in itertools.islice(found, MOST_FILES):
                before = self._sights.get(name)
                if before and (before.size, before.mtime_ns) == (told.st_size, told.st_mtime_ns):
                    seen[name] = before
                else:
                    seen[name] = Sight(told.st_size, told.st_mtime_ns, now)
        except OSError as error:
            raise FolderProblem("unavailable") from error
        self._sights = seen
        kept = {name: code for name, code in self._troubles.items() if name in seen}
        self._troubles = kept | dict.fromkeys(closed, "folder_closed")

    def try_to_write(self) -> None:
        """Before a film is read: where nothing can be moved, each would be read for ever.

        Raises FolderProblem.
        """
        probe = self._path / DONE / f".clinic-{os.getpid()}"
        try:
            for name in (DONE, FAILED):
                (self._path / name).mkdir(exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise FolderProblem("cannot_move") from error

    def _attend(self, name: str) -> None:
        """Take one file in or turn it away, and move it; or remember why it stays."""
        sight = self._sights[name]
        try:
            if sight.fate is None:
                sight.fate = self._fate_of(name, sight)
            self._move_away(name, sight.fate)
        except _FileTrouble as trouble:
            sight.again_at = self._clock() + SECONDS_AFTER_FAULT
            if trouble.code:
                self._troubles[name] = trouble.code
            return
        del self._sights[name]
        self._troubles.pop(name, None)
        counted = "turned_away" if sight.fate.code else "taken"
        self.standing = replace(
            self.standing,
            waiting=len(self._sights),
            **{counted: getattr(self.standing, counted) + 1},
        )

    def _fate_of(self, name: str, sight: Sight) -> Fate:
        """Store a film safely; or say why it is none."""
        path = self._path / name
        self._refuse_unless_complete(path, sight)
        if found := self._fault_of(path, name):
            return found
        belonging = intake.Belonging(sender=name[-LONGEST_SENDER:])
        try:
            intake.receive(path, path.name, "folder", belonging)
        except intake.Rejected as rejected:
            if rejected.code in PROBLEMS:
                raise FolderProblem(rejected.code) from rejected
            if rejected.code in {"still_being_written", "source_vanished"}:
                raise _FileTrouble from rejected
            return Fate(rejected.code, rejected.details)
        return Fate()

    def _refuse_unless_complete(self, path: Path, sight: Sight) -> None:
        """Raises _FileTrouble for a file that somebody is still at."""
        try:
            told = path.stat()
            with path.open("rb"):
                if os.name == "nt":  # it can be read while it is written, but not be renamed
                    path.rename(path)
        except FileNotFoundError as error:
            raise _FileTrouble from error
        except OSError as error:
            if getattr(error, "winerror", None) in _HELD_OPEN:
                raise _FileTrouble from error
            raise _FileTrouble("cannot_be_read") from error
        if (told.st_size, told.st_mtime_ns) != (sight.size, sight.mtime_ns):
            raise _FileTrouble

    def _fault_of(self, path: Path, name: str) -> Fate | None:
        """Why no picture can be had from a file: what is no film never enters the worklist."""
        from app.cxr.radiograph import UnreadableFilm, read_radiograph

        if self._deaths.get(_mark(name), 0) >= MOST_DEATHS:
            return Fate("ends_the_program")
        try:
            with self._survived(name):
                read_radiograph(path)
        except UnreadableFilm as error:
            if error.code == "missing":
                raise _FileTrouble from error
            if later := _READ_LATER.get(error.code):
                raise _FileTrouble(later) from error
            return Fate(error.code, error.details)
        return None

    @contextlib.contextmanager
    def _survived(self, name: str) -> Iterator[None]:
        """Note what is being looked at, in case that ends the whole program."""
        note = settings.DATA_DIR / DEATHS
        with contextlib.suppress(OSError):
            deaths = {_mark(name): self._deaths.get(_mark(name), 0) + 1}
            note.write_text(json.dumps(deaths), "utf-8")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                note.unlink()

    def _move_away(self, name: str, fate: Fate) -> None:
        path = self._path / name
        day = timezone.localdate().isoformat()
        try:
            if fate.code:
                move_with_reason(path, self._path / FAILED / name, sentence_of(fate))
            else:
                move(path, self._path / DONE / day / name)
        except FileNotFoundError:
            if path.exists():
                raise _FileTrouble("cannot_be_moved") from None
        except OSError as error:
            held = getattr(error, "winerror", None) in _HELD_OPEN
            raise _FileTrouble("" if held else "cannot_be_moved") from error


def _is_due(sight: Sight, now: float) -> bool:
    still = SECONDS_STILL if sight.size else SECONDS_EMPTY
    return now - sight.since >= still and now >= sight.again_at


def _mark(name: str) -> str:
    """What stands for a file's name in the note; with encryption on it does not tell the name,
    which may be a patient's.
    """
    if not vault.is_on():
        return name
    return hmac.digest(vault.keys().marks, name.encode("utf-8", "surrogatepass"), "sha256").hex()


def _deaths_noted() -> dict[str, int]:
    """How often the program ended while it looked at which file."""
    with contextlib.suppress(OSError, ValueError):
        noted = json.loads((settings.DATA_DIR / DEATHS).read_text("utf-8"))
        if isinstance(noted, dict):
            return {str(name): int(count) for name, count in noted.items()}
    return {}


def sentence_of(fate: Fate) -> str:
    """Why a file lies in ``failed``, in the language of the clinic."""
    with translation.override(Site.current().language or settings.LANGUAGE_CODE):
        return why_failed(fate.code, fate.details)


# --- moving, never over another file ------------------------------------------------------------


def move(path: Path, wanted: Path) -> Path:
    """Move a file to ``wanted``, or beside it as ``name.2`` and so on; where it is. Raises
    OSError.
    """
    for free in _names(wanted):
        with contextlib.suppress(FileExistsError):
            _rename(path, free)
            return free
    raise AssertionError  # names do not come to an end


def move_with_reason(path: Path, wanted: Path, reason: str) -> Path:
    """As ``move``, with a text file beside it. Killed in between, the text is there alone."""
    for free in _names(wanted):
        told = free.with_name(free.name + REASON)
        if free.exists():
            continue
        try:
            # With a mark of the byte order: Windows' editor takes it for another encoding without
            told.open("x", encoding="utf-8-sig").close()
        except FileExistsError:
            continue
        try:
            write_durably(told, f"{reason}\r\n".encode("utf-8-sig"))
            _rename(path, free)
        except FileExistsError:
            told.unlink(missing_ok=True)
            continue
        except BaseException:
            told.unlink(missing_ok=True)
            raise
        return free
    raise AssertionError  # names do not come to an end


def _names(wanted: Path) -> Iterator[Path]:
    """``a/film.dcm``, ``a/film.2.dcm`` … in a folder that is there; raises OSError."""
    folder = wanted.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        # A file has the name of the folder: what is moved needs another place
        folder = next(one for one in folder.parents if one.is_dir())
    yield folder / wanted.name
    for number in itertools.count(2):
        yield folder / f"{wanted.stem}.{number}{wanted.suffix}"


def _rename(path: Path, free: Path) -> None:
    """Give a file a new name; raises FileExistsError where it is taken, OSError."""
    if os.name == "nt":
        path.rename(free)
        return
    try:
        # The one step that puts nothing in the place of another file; rename(2) would
        os.link(path, free, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a disk whose files have one name only
        if os.path.lexists(free):
            raise FileExistsError from None
        path.rename(free)
        return
    try:
        path.unlink()
    except OSError:
        free.unlink()
        raise


# --- the thread ---------------------------------------------------------------------------------


class Watch:
    """Watches the folder that the clinic has named, as long as the program runs."""

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._folder: Folder | None = None

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Follow the clinic's choice until the program stops; the film in hand is finished."""
        self._stop.clear()
        thread = threading.Thread(target=self._run, name="watched-folder", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._wake.set()
            # A share that is gone may hold the thread for minutes
            thread.join(SECONDS_TO_STOP)
            self._folder = None

    @property
    def standing(self) -> Standing | None:
        """How it stands with the folder; None where none is watched."""
        folder = self._folder
        return folder.standing if folder else None

    def look_now(self) -> None:
        """The next look is due."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                pause = self._turn()
            except Exception as error:  # noqa: BLE001 - what stops a look must not stop the next
                logger.error("watched folder: %s", traceback_of(error))
                pause = SECONDS_AFTER_FAULT
            self._wake.wait(pause)
            self._wake.clear()
        connections.close_all()

    def _turn(self) -> float | None:
        """One look at the folder of the day; for how long there is nothing to do then."""
        chosen = Site.current().watched_folder
        if not chosen:
            self._folder = None
            return None
        folder = self._folder
        if folder is None or folder.standing.folder != Path(chosen):
            folder = self._folder = Folder(Path(chosen))
        if folder.sweep(self._stop.is_set):
            return 0.0
        return SECONDS_AFTER_FAULT if folder.standing.problem else SECONDS_BETWEEN


#: The one of this process.
watch = Watch()


def fault_of_choice(folder: Path) -> str:
    """Why a folder cannot be watched, a code of ``folder_words.CHOICE``; empty where it can."""
    if not folder.is_absolute():
        return "not_whole"
    try:
        real, own = folder.resolve(), settings.DATA_DIR.resolve()
        if not folder.is_dir():
            return "no_folder" if folder.exists() else "unavailable"
        if real.is_relative_to(own) or own.is_relative_to(real):
            return "own_folder"
        Folder(folder).try_to_write()
    except FolderProblem as problem:
        return problem.code
    except OSError:
        return "unavailable"
    return ""


def count_files(folder: Path, most: int) -> int:
    """How many files would come in, counted up to ``most``."""
    found = folders.files_in(folder, (DONE, FAILED))
    try:
        return sum(1 for _file in itertools.islice(found, most))
    except OSError:
        return 0


def choose(folder: str, by: User) -> None:
    """Watch ``folder`` from now on, none where it is empty; audited."""
    with transaction.atomic():
        site = Site.objects.select_for_update().get(pk=Site.THE_ONE)
        changed = {"watched_folder": [site.watched_folder, folder]}
        site.watched_folder = folder
        site.save(update_fields=["watched_folder"])
        AuditEvent.record(by, "settings_changed", changed=changed)


@receiver(post_save, sender=Site)
def _follow_choice(**_more: object) -> None:
    transaction.on_commit(watch.look_now)
