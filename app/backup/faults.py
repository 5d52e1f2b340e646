"""Why a backup, or the way back from one, came to nothing."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

CODES = frozenset(
    {
        "not_set_up",
        "on_server",
        "busy",
        "no_room_here",
        "no_room_there",
        "not_there",
        "cannot_write",
        "cannot_copy_database",
        "no_backup",
        "not_a_backup",
        "newer",
        "wrong_key",
        "damaged",
        "not_empty",
        "running",
        "cancelled",
        "failed",
    }
)
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


class BackupFault(Exception):
    """Nothing was changed that was there before; ``code`` is one of CODES."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@contextlib.contextmanager
def over_there() -> Iterator[None]:
    """Turn what goes wrong on a stick into a fault with a name: it may be full, or pulled out."""
    try:
        yield
    except OSError as error:
        raise BackupFault("no_room_there" if error.errno in _FULL else "cannot_write") from error


@contextlib.contextmanager
def over_here() -> Iterator[None]:
    """The same for the disk of this computer."""
    try:
        yield
    except OSError as error:
        raise BackupFault("no_room_here" if error.errno in _FULL else "failed") from error
