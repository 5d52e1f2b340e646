"""What is plugged in: update files on removable drives, never opened here, and room on them.

Only in a drive's own folder and one level below, by name, in few entries, and without following a
link: a stick may hold a hundred thousand photographs, or be made to lead elsewhere.
"""

from __future__ import annotations

import contextlib
import getpass
import itertools
import os
import shutil
import string
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from app.cxr.update_format import SUFFIX
from app.folders import is_link

MOST_ENTRIES = 1000
MOST_FOLDERS = 50
#: How old the last look may be before the next one is taken.
SECONDS_BETWEEN = 20.0
# DRIVE_REMOVABLE, DRIVE_CDROM (Windows SDK, fileapi.h, GetDriveType)
_REMOVABLE, _OPTICAL = 2, 5
_NO_DIALOG = 1  # SEM_FAILCRITICALERRORS: an empty card reader is no reason to ask the user


def find() -> list[Path]:
    """The update files on all removable drives, in the order of their paths."""
    return sorted(file for drive in drives() for file in on_drive(drive))


def with_room(size: int) -> list[tuple[Path, int]]:
    """Removable drives that a file of ``size`` bytes can be written to, with their free bytes."""
    found = []
    for drive in drives():
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(drive).free
            if free > size and os.access(drive, os.W_OK):
                found.append((drive, free))
    return found


def drives() -> list[Path]:
    """Where removable drives are plugged in: Windows' letters, Linux' mount points."""
    return _letters(_REMOVABLE) if sys.platform == "win32" else _mount_points(Path("/"))


def drives_and_discs() -> list[Path]:
    """The same, and where optical discs are. Linux mounts these where it mounts sticks."""
    return _letters(_REMOVABLE, _OPTICAL) if sys.platform == "win32" else drives()


def on_drive(root: Path) -> Iterator[Path]:
    """The update files in a folder and one level below."""
    files, folders = _entries(root)
    yield from files
    for folder in folders[:MOST_FOLDERS]:
        yield from _entries(folder)[0]


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Update files and folders of a folder; nothing where it cannot be read (any more)."""
    files, folders = [], []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in itertools.islice(entries, MOST_ENTRIES):
            if is_link(entry):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(folder / entry.name)
            elif _is_update(entry.name) and entry.is_file(follow_symlinks=False):
                files.append(folder / entry.name)
    return files, folders


def _is_update(name: str) -> bool:
    # macOS puts a "._" file beside each file that it copies to a stick
    return name.lower().endswith(SUFFIX) and not name.startswith(".")


def _mount_points(top: Path) -> list[Path]:
    """Drives mounted where desktops put them for this user, and where people mount by hand."""
    user = ""
    with contextlib.suppress(OSError, KeyError, ImportError):
        user = getpass.getuser()
    places = [top / "media", top / "mnt"]
    if user:
        places += [top / "media" / user, top / "run" / "media" / user]
    inside = [folder for place in places for folder in _entries(place)[1]]
    return [folder for folder in (top / "mnt", *inside) if os.path.ismount(folder)]


if sys.platform == "win32":
    import ctypes

    def _letters(*kinds: int) -> list[Path]:
        kernel32 = ctypes.windll.kernel32
        kernel32.SetThreadErrorMode(_NO_DIALOG, None)
        there = kernel32.GetLogicalDrives()
        roots = [f"{letter}:\\" for bit, letter in _numbered_letters() if there >> bit & 1]
        return [Path(root) for root in roots if kernel32.GetDriveTypeW(root) in kinds]

    def _numbered_letters() -> Iterator[tuple[int, str]]:
        return enumerate(string.ascii_uppercase)

else:

    def _letters(*_kinds: int) -> list[Path]:
        return []


def _is_offered() -> bool:
    """Whether there is an update to be found, and a program that takes any."""
    if not find():
        return False
    from app.updates import clinic

    return clinic.takes_updates()


class Lookout:
    """Notices update files without making a page wait for a drive that sleeps."""

    def __init__(self, look: Callable[[], bool] = _is_offered) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._looked_at: float | None = None
        self._looking: threading.Thread | None = None
        self._seen = False

    def has_seen(self) -> bool:
        """Whether the last look found an update; starts the next look where it is time."""
        with self._lock:
            seen = self._seen
            is_looking = self._looking is not None and self._looking.is_alive()
            now = time.monotonic()
            due = self._looked_at is None or now - self._looked_at > SECONDS_BETWEEN
            if due and not is_looking:
                self._looked_at = now
                self._looking = threading.Thread(
                    target=self._take_look, name="lookout", daemon=True
                )
                self._looking.start()
        return seen

    def wait(self) -> None:
        """Until the look that is being taken is over."""
        if self._looking is not None:
            self._looking.join()

    def _take_look(self) -> None:
        self._seen = self._look()


lookout = Lookout()
