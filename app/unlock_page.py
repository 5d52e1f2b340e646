"""The page of a start that waits: for the passphrase, or until everything is encrypted."""

from __future__ import annotations

import math
import time
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from app.encryption_forms import weakness
from app.failed_start import Page, render
from app.stop import CannotStart
from app.vault import UNFINISHED, note
from app.vault.hierarchy import WrongKey
from app.vault.note import State
from app.vault.unlock import TooEarly, door

UNLOCK, RECOVER = "/unlock", "/recover"


class UnlockPage(Page):
    """Asks for the passphrase, or for the recovery key and a new one."""

    forms = (UNLOCK, RECOVER)

    def html(self) -> bytes:
        """Asked for the first time."""
        return self._html()

    def take(self, path: str, fields: dict[str, str]) -> bytes | None:
        """Try what was typed; the page again, or None where the vault is open."""
        try:
            if path == UNLOCK:
                door.by_passphrase(fields.get("passphrase", ""))
                return None
            new = fields.get("new", "")
            if said := weakness(new, fields.get("again", "")):
                return self._html(recovering=True, said=said)
            door.by_recovery(fields.get("recovery", ""), new)
        except TooEarly as early:
            said = _("Wait %(seconds)d seconds, then try again.") % {
                "seconds": math.ceil(early.seconds)
            }
        except WrongKey:
            said = (
                _("This passphrase is not the right one.")
                if path == UNLOCK
                else _("This recovery key is not the right one.")
            )
        except OSError:
            said = _("The new passphrase could not be kept: the disk is full or write-protected.")
        else:
            return None
        return self._html(recovering=path == RECOVER, said=said)

    def _html(self, recovering: bool = False, said: str = "") -> bytes:
        kept = note.read(settings.DATA_DIR)
        context: dict[str, Any] = {
            "folder": settings.DATA_DIR,
            "first": kept is not None and kept.state is State.PREPARED,
            "recovering": recovering,
            "said": said,
        }
        return render("unlock.html", context)


class EncryptingPage(Page):
    """How far the start has come with encrypting everything."""

    def __init__(self) -> None:
        super().__init__(CannotStart("", code=UNFINISHED))
        self.done, self.total = 0, 0

    def watch(self, done: int, total: int) -> None:
        """Note it."""
        self.done, self.total = done, total
        self.last_seen = time.monotonic()

    def html(self) -> bytes:
        """The page, which asks again by itself."""
        return render("encrypting.html", {"done": self.done, "total": self.total})
