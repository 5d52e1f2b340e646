"""How a process gets the keys: on a page of this computer, from a file, or typed at a console.

Never from an environment variable, which other programs of the same user may read. A file is what
services have for this (systemd's LoadCredential=, a mounted secret): CLINIC_PASSPHRASE_FILE.
"""

from __future__ import annotations

import getpass
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from app import vault
from app.stop import CannotStart
from app.vault import hierarchy, note
from app.vault.hierarchy import Keys, WrongKey
from app.vault.note import Vault

FILE = "CLINIC_PASSPHRASE_FILE"
MOST_BYTES = 4096
#: After each wrong try nothing is tried for so long, twice as long each time, at most the last.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
USAGE = 2


class TooEarly(Exception):
    """It was tried too often; ``seconds`` until the next try is looked at."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Door:
    """Where guesses come in: one at a time, and after each wrong one a longer pause."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong, self._open_at = 0, 0.0

    def by_passphrase(self, passphrase: str) -> Keys:
        """Open with it; raises WrongKey or TooEarly."""
        return self._try(lambda kept: kept.opened(passphrase))

    def by_recovery(self, line: str, passphrase: str) -> Keys:
        """Open with the recovery key, and let ``passphrase`` be the new one; raises WrongKey or
        TooEarly, and OSError where the new one cannot be kept.
        """
        opened = self._try(lambda kept: kept.recovered(line))
        change(opened, passphrase)
        return opened

    def _try(self, attempt: Callable[[Vault], Keys]) -> Keys:
        with self._lock:
            if (wait := self._open_at - self._clock()) > 0:
                raise TooEarly(wait)
            kept = note.read(settings.DATA_DIR)
            if kept is None:
                raise WrongKey
            try:
                opened = attempt(kept)
            except WrongKey:
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**self._wrong)
                self._wrong = min(self._wrong + 1, 30)
                self._open_at = self._clock() + pause
                raise
            self._wrong = 0
        return vault.hold(opened)


#: The one of this process.
door = Door()


def change(opened: Keys, passphrase: str) -> None:
    """Let another passphrase open the vault from now on; raises OSError."""
    kept = note.read(settings.DATA_DIR)
    if kept is None or kept.name != opened.vault:
        raise WrongKey
    note.write(settings.DATA_DIR, kept.with_passphrase(opened, passphrase))


def new_recovery(opened: Keys) -> str:
    """Another recovery key instead of the old one, which opens nothing any more; raises OSError."""
    kept = note.read(settings.DATA_DIR)
    if kept is None or kept.name != opened.vault:
        raise WrongKey
    line = hierarchy.new_recovery()
    note.write(settings.DATA_DIR, replace(kept, by_recovery=opened.wrapped_by_recovery(line)))
    return line


def from_file() -> Keys | None:
    """Open with the first line of the file that CLINIC_PASSPHRASE_FILE names; None: it names none.

    Raises CannotStart.
    """
    given = os.environ.get(FILE, "").strip()
    if not given:
        return None
    try:
        with Path(given).open("rb") as file:
            line = file.read(MOST_BYTES).decode("utf-8", "replace").partition("\n")[0]
    except OSError as error:
        raise CannotStart(
            _("The file of the passphrase (%(name)s) cannot be read.") % {"name": FILE}, USAGE
        ) from error
    try:
        return door.by_passphrase(line)
    except (WrongKey, TooEarly) as error:
        raise CannotStart(
            _("What the file of the passphrase (%(name)s) holds does not open the data.")
            % {"name": FILE},
            USAGE,
        ) from error


def ask() -> Keys:
    """For commands: from the file, else typed where there is a console; raises CannotStart."""
    if opened := from_file():
        return opened
    if sys.stdin is None or not sys.stdin.isatty():
        raise vault.Locked
    try:
        return door.by_passphrase(getpass.getpass(_("Passphrase") + ": "))
    except WrongKey as error:
        raise CannotStart(_("This passphrase does not open the data.")) from error
