"""Folders that others fill, sticks, discs and shares: looked through within bounds, no link
followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

MOST_DEEP = 12
#: Names of no film: what systems, browsers and copying programs leave beside files.
UNFINISHED_ENDINGS = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".download", "~")
SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "dicomdir"})
SYSTEM_FOLDERS = frozenset(
    {"$recycle.bin", "system volume information", "lost+found", "@eadir", "__macosx"}
)
_HIDDEN = 2  # FILE_ATTRIBUTE_HIDDEN (Windows SDK, winnt.h)


def is_link(entry: os.DirEntry[str]) -> bool:
    """Whether an entry leads elsewhere; raises OSError."""
    # A junction of Windows is a folder to is_dir, whether links are followed or not
    attributes = getattr(entry.stat(follow_symlinks=False), "st_file_attributes", 0)
    return entry.is_symlink() or bool(attributes & stat.FILE_ATTRIBUTE_REPARSE_POINT)


def is_passed_over(name: str) -> bool:
    """Whether a file of that name is hidden, not complete yet, or none that a person put there."""
    low = name.lower()
    return low.startswith((".", "~$")) or low.endswith(UNFINISHED_ENDINGS) or low in SYSTEM_FILES


def files_in(
    top: Path,
    apart_from: Collection[str] = (),
    closed: Callable[[str], None] = lambda _folder: None,
    deep: int = MOST_DEEP,
) -> Iterator[tuple[str, os.stat_result]]:
    """The files that may be films, each by its path below ``top``, with what is known of it.

    Folders of ``top`` named in ``apart_from`` are left out; ``closed`` is told of every other one
    that cannot be read. Raises OSError where ``top`` itself cannot.
    """
    folders = [""]
    while folders:
        below = folders.pop()
        try:
            with os.scandir(top / below) as entries:
                for entry in entries:
                    name = f"{below}/{entry.name}" if below else entry.name
                    with contextlib.suppress(OSError):  # gone between one look and the next
                        if is_link(entry) or _is_hidden(entry):
                            continue
                        if not entry.is_dir(follow_symlinks=False):
                            if entry.is_file(follow_symlinks=False) and not is_passed_over(
                                entry.name
                            ):
                                yield name, entry.stat(follow_symlinks=False)
                        elif name not in apart_from and name.count("/") < deep - 1:
                            folders.append(name)
        except OSError:
            if not below:
                raise
            closed(below)


def _is_hidden(entry: os.DirEntry[str]) -> bool:
    attributes = getattr(entry.stat(follow_symlinks=False), "st_file_attributes", 0)
    hidden = entry.name.startswith(".") or bool(attributes & _HIDDEN)
    return hidden or entry.name.lower() in SYSTEM_FOLDERS
