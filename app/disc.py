"""Films on a disc or stick: what is on it, and taking in what somebody has chosen of it.

Discs are slow and sticks are pulled out, so both run beside the pages, in threads of their own.
What was taken in by then is safe; the rest is chosen again, and what is here already is known.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from django.db import connections

from app import folders, intake
from app.models import User
from app.models.words import one_line, searchable
from app.updates import sticks
from app.worker import traceback_of

if TYPE_CHECKING:
    from app.cxr.dicomdir_studies import ListedStudy

logger = logging.getLogger(__name__)

#: What a file is called that may be a film; one of another kind is looked into.
PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
DICOM_FILES = (".dcm", ".dicom", ".dic", ".ima")
_PREAMBLE, _PREFIX = 128, b"DICM"
#: Of a drive without a list of its own.
MOST_DEEP, MOST_FILES, MOST_FOLDERS, MOST_LOOKED_INTO = 6, 20_000, 100, 2000
#: How old a look at the drives may be; so long a page waits for a new one.
SECONDS_KEPT, SECONDS_TO_WAIT = 20.0, 2.5
#: May be X-ray films, on a disc that holds other things too (PS3.3, C.7.3.1.1.1).
FILM_MODALITIES = frozenset({"CR", "DX", "DR", "RG", "OT", "SC"})
MOST_FAULTS = 100
RUNNING, DONE, STOPPED, GONE, FULL, FAILED = (
    "running",
    "done",
    "stopped",
    "gone",
    "full",
    "failed",
)
#: Why the rest is not even tried.
_ENDS = {"disk_full": FULL, "cannot_store": FAILED}


@dataclass(frozen=True)
class Group:
    """Films that are chosen together: a study in the list of a disc, or a folder of files.

    ``patient`` and what follows is empty, or None, where only a folder is known.
    """

    key: str
    files: tuple[Path, ...]
    folder: str = ""
    patient: str = ""
    number: str = ""
    day: date | None = None
    description: str = ""
    modality: str = ""
    is_likely: bool = True


@dataclass(frozen=True)
class Drive:
    """What a disc or stick holds. ``problem``: its list cannot be read; ``missing``: how many
    films it lists that are not on it.
    """

    path: Path
    groups: tuple[Group, ...] = ()
    has_list: bool = False
    problem: bool = False
    missing: int = 0

    @property
    def films(self) -> int:
        """How many files there are to be had."""
        return sum(len(group.files) for group in self.groups)


# --- what is there ------------------------------------------------------------------------------


def look() -> tuple[Drive, ...]:
    """What there is on every disc and stick that has films, or a list that cannot be read."""
    found = [drive_of(path) for path in sticks.drives_and_discs()]
    return tuple(one for one in found if one.groups or one.missing)


def drive_of(path: Path) -> Drive:
    """What one disc or stick holds: by its list where it has one that can be read."""
    from app.cxr.dicomdir import read_medium  # pydicom comes with the first disc

    listed = list_of(path)
    if listed is None:
        return Drive(path, _in_folders(path))
    medium = read_medium(listed)
    if medium.is_damaged:
        return Drive(path, _in_folders(path), problem=True)
    groups = tuple(_groups(path, listed, medium.films))
    return Drive(path, groups, has_list=True, missing=len(medium.missing))


def _groups(path: Path, listed: Path, films: tuple[Path, ...]) -> Iterator[Group]:
    """A group for each study, by patient and the newest first; films of no study are one more."""
    from app.cxr.dicomdir_studies import studies_of

    try:
        studies = studies_of(listed, films)
    except Exception as error:  # noqa: BLE001 - pydicom raises anything; the films are there
        logger.warning("the list of a disc: %s", traceback_of(error))
        studies = ()
    told: set[Path] = set()
    for number, study in enumerate(sorted(studies, key=_by_patient)):
        told |= set(study.films)
        yield Group(
            f"{path}|{number}|{study.study_uid}",
            study.films,
            patient=one_line(study.patient_name),
            number=one_line(study.patient_id),
            day=study.day,
            description=one_line(study.description),
            modality=", ".join(study.modalities),
            is_likely=not study.modalities or bool(FILM_MODALITIES & set(study.modalities)),
        )
    if rest := tuple(film for film in films if film not in told):
        yield Group(f"{path}|rest", rest)


def _by_patient(study: ListedStudy) -> tuple[str, str, int]:
    newest_first = -study.day.toordinal() if study.day else 0
    return searchable(study.patient_name), study.patient_id, newest_first


def list_of(path: Path) -> Path | None:
    """The DICOMDIR of a drive (PS3.10, 8.6): at its top, or one level below where it was copied."""
    from app.cxr.dicomdir import is_dicomdir

    for folder in (path, *_folders_of(path)):
        with contextlib.suppress(OSError):
            for one in itertools.islice(folder.iterdir(), MOST_LOOKED_INTO):
                if is_dicomdir(one) and one.is_file() and not one.is_symlink():
                    return one
    return None


def has_films(path: Path) -> bool:
    """Whether a drive is surely one of films: pictures alone may be anybody's."""
    if list_of(path):
        return True
    for folder in (path, *_folders_of(path)):
        with contextlib.suppress(OSError):
            names = (one.name.lower() for one in itertools.islice(folder.iterdir(), 1000))
            if any(name.endswith(DICOM_FILES) and not name.startswith(".") for name in names):
                return True
    return False


def _folders_of(path: Path) -> list[Path]:
    try:
        inside = itertools.islice(path.iterdir(), MOST_LOOKED_INTO)
        return sorted(one for one in inside if one.is_dir() and not one.is_symlink())[:50]
    except OSError:
        return []


def _in_folders(path: Path) -> tuple[Group, ...]:
    """A group for each folder that holds what may be films."""
    found: dict[str, list[Path]] = {}
    looks = itertools.count()
    with contextlib.suppress(OSError):  # the drive is gone, or cannot be read
        files = folders.files_in(path, deep=MOST_DEEP)
        for name, _told in itertools.islice(files, MOST_FILES):
            file = path / name
            if _may_be_film(file, looks):
                found.setdefault(name.rpartition("/")[0], []).append(file)
    some = itertools.islice(sorted(found.items()), MOST_FOLDERS)
    return tuple(Group(f"{path}|{name}", tuple(sorted(f)), folder=name) for name, f in some)


def _may_be_film(file: Path, looks: Iterator[int]) -> bool:
    if file.suffix.lower() in (*PICTURES, *DICOM_FILES):
        return True
    if (file.suffix and not file.suffix[1:].isdigit()) or next(looks) >= MOST_LOOKED_INTO:
        return False
    with contextlib.suppress(OSError), file.open("rb") as opened:
        return opened.read(_PREAMBLE + len(_PREFIX))[_PREAMBLE:] == _PREFIX
    return False


class Finder:
    """Looks at the drives beside the pages: a disc takes seconds to begin to turn."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._found: tuple[Drive, ...] | None = None
        self._at = 0.0

    def drives(self, patience: float | None = None) -> tuple[Drive, ...] | None:
        """What there is; None while that is still being looked at."""
        with self._lock:
            old = self._found is None or time.monotonic() - self._at > SECONDS_KEPT
            if old and not (self._thread and self._thread.is_alive()):
                self._found = None
                self._thread = threading.Thread(target=self._look, name="discs", daemon=True)
                self._thread.start()
            thread = self._thread
        if thread:
            thread.join(SECONDS_TO_WAIT if patience is None else patience)
        return self._found

    def chosen(self, keys: Iterable[str]) -> list[Path]:
        """The files of the groups so called, as the last look found them."""
        wanted = set(keys)
        groups = (group for drive in self._found or () for group in drive.groups)
        return [file for group in groups if group.key in wanted for file in group.files]

    def forget(self) -> None:
        """Look anew at the next time."""
        with self._lock:
            if not (self._thread and self._thread.is_alive()):
                self._found = None

    def wait(self) -> None:
        """Until nothing is being looked at."""
        if self._thread:
            self._thread.join()

    def _look(self) -> None:
        try:
            found = look()
        except Exception as error:  # noqa: BLE001 - the page says that there is nothing
            logger.error("the drives: %s", traceback_of(error))
            found = ()
        self._found, self._at = found, time.monotonic()


#: The one of this process, and what notices a disc for the worklist.
finder = Finder()
lookout = sticks.Lookout(lambda: any(has_films(path) for path in sticks.drives_and_discs()))


# --- taking it in -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """How far a taking-in is. ``faults``: names of files with code and details of what was wrong.

    ``known``: films that were here before.
    """

    total: int
    state: str = RUNNING
    taken: int = 0
    known: int = 0
    faults: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = ()
    more_faults: int = 0

    @property
    def is_running(self) -> bool:
        """Whether it goes on at this moment."""
        return self.state == RUNNING

    @property
    def done(self) -> int:
        """How many files were tried."""
        return self.taken + self.known + len(self.faults) + self.more_faults

    @property
    def left(self) -> int:
        """How many were not."""
        return self.total - self.done


@dataclass
class Run:
    """The one taking-in of this process."""

    progress: Progress | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self, files: Sequence[Path], by: User) -> bool:
        """Take files in; whether it was started, for only one goes at a time."""
        with self._lock:
            if self._thread and self._thread.is_alive():
                return False
            self._stop.clear()
            self.progress = Progress(len(files))
            self._thread = threading.Thread(
                target=self._run, args=[tuple(files), by], name="disc", daemon=True
            )
            self._thread.start()
        return True

    def stop(self) -> None:
        """End after the film in hand."""
        self._stop.set()
        self.wait()

    def wait(self) -> None:
        """Until the taking-in is over."""
        if self._thread:
            self._thread.join()

    def _run(self, files: tuple[Path, ...], by: User) -> None:
        assert self.progress is not None
        try:
            state = self._take(files, by)
        except Exception as error:  # noqa: BLE001 - the page says that it broke off
            logger.error("films of a disc: %s", traceback_of(error))
            state = FAILED
        finally:
            connections.close_all()
        self.progress = replace(self.progress, state=state)

    def _take(self, files: tuple[Path, ...], by: User) -> str:
        for file in files:
            if self._stop.is_set():
                return STOPPED
            try:
                receipt = intake.receive(file, file.name, "disc", intake.Belonging(by=by))
            except intake.Rejected as rejected:
                if end := _ENDS.get(rejected.code):
                    return end
                if rejected.code == "source_vanished" and _is_gone(file):
                    return GONE
                self._note(file, rejected)
            else:
                self._count("known" if receipt.duplicate else "taken")
        return DONE

    def _count(self, what: str) -> None:
        assert self.progress is not None
        self.progress = replace(self.progress, **{what: getattr(self.progress, what) + 1})

    def _note(self, file: Path, rejected: intake.Rejected) -> None:
        assert self.progress is not None
        if len(self.progress.faults) >= MOST_FAULTS:
            self._count("more_faults")
            return
        # The drive is there: it is this file that it does not give
        code = "read_failed" if rejected.code == "source_vanished" else rejected.code
        fault = (file.name, code, tuple(rejected.details.items()))
        self.progress = replace(self.progress, faults=(*self.progress.faults, fault))


def _is_gone(file: Path) -> bool:
    """Whether not the file alone is missing but all of its drive."""
    top = next((one for one in sticks.drives_and_discs() if file.is_relative_to(one)), None)
    try:
        return top is None or next(top.iterdir(), None) is None
    except OSError:
        return True


#: The one of this process.
run = Run()
