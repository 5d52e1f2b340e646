"""Encryption at rest: of the database, of the films, and of what passes through files on the way.

An administrator sets a passphrase. From it and from a recovery key, each by itself, a master key is
unwrapped that nobody ever sees (``hierarchy``); it lies wrapped in ``vault.json`` (``note``). From
then on a process has to be given one of the two before it opens anything (``unlock``). The start
then encrypts whatever lies in the data directory in the clear (``convert``). See docs/adr/0034.

The keys of this process are here, where whoever needs them asks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from app.stop import CannotStart
from app.vault import note
from app.vault.hierarchy import Keys
from app.vault.note import State

LOCKED, UNFINISHED = "locked", "encryption_unfinished"

_opened: Keys | None = None
_opening = threading.Lock()
#: How a command that is not the server asks for the passphrase; set by ``app.vault.unlock``.
_ask: Callable[[], Keys] | None = None


class Locked(CannotStart):
    """The data are encrypted, and nobody has given the passphrase to this process."""

    def __init__(self) -> None:
        super().__init__(
            _("The data are encrypted. Enter the passphrase to start the program."), code=LOCKED
        )


def is_on() -> bool:
    """Whether what is stored is encrypted: films and tables of this machine only."""
    if settings.DATABASE_SERVER:
        return False
    vault = note.read(settings.DATA_DIR)
    return vault is not None and vault.state is State.ON


def waits() -> bool:
    """Whether the next start is to encrypt everything."""
    vault = None if settings.DATABASE_SERVER else note.read(settings.DATA_DIR)
    return vault is not None and vault.state is State.PREPARED


def is_open() -> bool:
    """Whether this process has the keys."""
    return _current() is not None


def keys() -> Keys:
    """The keys, asked for where nobody has given them yet; raises Locked."""
    with _opening:
        if found := _current():
            return found
        if _ask is None:
            raise Locked
        return hold(_ask())


def hold(opened: Keys) -> Keys:
    """Keep keys for this process."""
    global _opened
    _opened = opened
    return opened


def forget() -> None:
    """Let go of the keys."""
    global _opened
    _opened = None


def ask_by(ask: Callable[[], Keys] | None) -> None:
    """How ``keys`` gets what nobody has given; None: it is refused."""
    global _ask
    _ask = ask


def is_data_directory(folder: Path) -> bool:
    """Whether a folder is the one that the vault of this process is about."""
    return folder.absolute() == Path(settings.DATA_DIR).absolute()


def _current() -> Keys | None:
    vault = note.read(settings.DATA_DIR)
    # A process may have to do with one data directory after the other
    return _opened if _opened and vault and _opened.vault == vault.name else None
