"""Is the record of who did what as it was written? Looked at beside the work, which never stops.

Where it ended when it was last found whole is kept in a sealed file beside the database: a record
that was put back to an earlier state, or cut short together with its head, no longer fits to it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection, connections
from django.db.models import Max
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from app import checks, worker
from app.audit import chain, triggers
from app.audit.seal import fits, seal
from app.cxr.durable import write_durably
from app.models import AuditEvent, AuditHead

logger = logging.getLogger(__name__)

ANCHOR_FILE = "audit-head.json"
CHUNK = 1000
#: After each chunk others have their turn: pages come before looking back.
BREATH = 0.02
SECONDS_BETWEEN = 60.0
SECONDS_TO_END = 5.0
SENTENCES: dict[str, Promise] = {
    "changed": _(
        "Fault RECORD: in the record of who did what, event %(number)s is not as it was written. "
        "Work goes on. Keep the backups and ask for help."
    ),
    "missing": _(
        "Fault RECORD: in the record of who did what, event %(number)s is missing. "
        "Work goes on. Keep the backups and ask for help."
    ),
    "cut_short": _(
        "Fault RECORD: in the record of who did what, the events from %(number)s on are missing. "
        "Was a backup put back? If not, keep the backups and ask for help."
    ),
    "replaced": _(
        "Fault RECORD: in the record of who did what, other events stand up to event %(number)s "
        "than before. Was a backup put back? If not, keep the backups and ask for help."
    ),
    "not_sealed": _(
        "Fault RECORD: the record of who did what was not written by this program alone before "
        "event %(number)s. Did the data come from another computer, without the file “audit.key”? "
        "If not, keep the backups and ask for help."
    ),
}


class Break(checks.Problem):
    """Where the record is not whole: a code of SENTENCES, and the number of an event."""

    @classmethod
    def at(cls, number: int, code: str) -> Break:
        """The break of that code at that event."""
        return cls(code, {"number": str(number)})

    @property
    def sentence(self) -> str:
        """The words for a person."""
        return str(SENTENCES[self.code]) % self.details


@dataclass(frozen=True)
class Anchor:
    """Where the record ended when it was last found whole."""

    count: int = 0
    digest: str = chain.START

    @classmethod
    def read(cls) -> Anchor | None:
        """That of the data directory; None where there is none that this program wrote."""
        try:
            kept = json.loads((settings.DATA_DIR / ANCHOR_FILE).read_text(encoding="utf-8"))
            found = cls(int(kept["events"]), str(kept["digest"]))
            return found if fits(str(kept["seal"]), "anchor", found.count, found.digest) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self) -> None:
        """Keep it, on the disk; raises OSError."""
        kept = {
            "events": self.count,
            "digest": self.digest,
            "seal": seal("anchor", self.count, self.digest),
        }
        path = settings.DATA_DIR / ANCHOR_FILE
        write_durably(path, f"{json.dumps(kept)}\n".encode("ascii"), private=True)


def look(anchor: Anchor | None, whole: bool, breath: float = 0.0) -> tuple[Anchor, Break | None]:
    """How far the record is whole, and where it is not. ``whole``: from the first event on, else
    from the anchor on. ``breath``: seconds of rest after each chunk.
    """
    head = AuditHead.current()
    known = anchor or Anchor()
    if head.count < known.count:
        return known, Break.at(head.count + 1, "cut_short")
    begin = Anchor() if whole else known
    found, broken = _walk(begin, head, known, breath)
    if broken is None and head.doubted:
        broken = Break.at(head.doubted, "not_sealed")
    if broken is None and not head.is_sealed:
        broken = Break.at(head.count + 1, "not_sealed")
    return found, broken


def _walk(
    begin: Anchor, head: AuditHead, known: Anchor, breath: float
) -> tuple[Anchor, Break | None]:
    """Follow the chain to its head."""
    if begin.count and _digest_at(begin.count) != begin.digest:
        return begin, Break.at(begin.count, "replaced")
    at = begin
    pause = threading.Event()
    while at.count < head.count:
        chunk = _chunk(at.count, head.count)
        for values in chunk:
            at, broken = _step(at, values, known)
            if broken:
                return at, broken
        if not chunk:
            return at, Break.at(at.count + 1, "missing")
        pause.wait(breath)
    if at.digest != head.digest:
        return at, Break.at(head.count, "replaced")
    # In this order: an event that is written meanwhile is not beyond the head that is read then
    last = AuditEvent.objects.aggregate(last=Max("sequence"))["last"] or 0
    beyond = last > AuditHead.current().count
    return at, Break.at(at.count + 1, "changed") if beyond else None


def _step(at: Anchor, values: dict[str, Any], known: Anchor) -> tuple[Anchor, Break | None]:
    """One event further."""
    if values["sequence"] != at.count + 1:
        return at, Break.at(at.count + 1, "missing")
    if chain.digest(at.digest, chain.event(values)) != values["digest"]:
        return at, Break.at(values["sequence"], "changed")
    if values["sequence"] == known.count and values["digest"] != known.digest:
        return at, Break.at(known.count, "replaced")
    return Anchor(values["sequence"], values["digest"]), None


def _chunk(after: int, until: int) -> list[dict[str, Any]]:
    events = AuditEvent.objects.filter(sequence__gt=after, sequence__lte=until)
    return list(events.order_by("sequence").values(*chain.NAMES, "digest")[:CHUNK])


def _digest_at(number: int) -> str | None:
    return AuditEvent.objects.filter(sequence=number).values_list("digest", flat=True).first()


class Watch:
    """Looks at the start, and then at what was added since; keeps what it found for pages."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        #: Where the record is not whole, as far as was looked.
        self.broken: Break | None = None

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Look until the program stops."""
        self._stop.clear()
        thread = threading.Thread(target=self._work, name="record", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(SECONDS_TO_END)

    def look(self, breath: float = 0.0) -> None:
        """Look at what was added since the anchor, and move that on where all is whole."""
        anchor = Anchor.read()
        if anchor is None:
            _begin_anew()
        found, self.broken = look(anchor, whole=False, breath=breath)
        if self.broken is None and found != anchor:
            found.write()

    def _work(self) -> None:
        while True:
            ends = self._stop.is_set()
            try:
                triggers.put_up(connection)
                self.look(BREATH)
            except (DatabaseError, OSError) as error:
                logger.error("the record cannot be looked at: %s", worker.traceback_of(error))
            if self.broken:
                number = self.broken.details["number"]
                logger.error("the record is not whole: %s %s", self.broken.code, number)
            if ends:
                break
            self._stop.wait(SECONDS_BETWEEN)
        connections.close_all()


def of_installation() -> Break | None:
    """Where the record of the data directory is not whole, looked at from its first event on."""
    if connection.vendor == "sqlite" and not Path(connection.settings_dict["NAME"]).exists():
        return None  # and a look at it would make one
    try:
        return look(Anchor.read(), whole=True)[1]
    except DatabaseError:  # damaged, or of another version: other checks say so
        return None


def _begin_anew() -> None:
    """Nothing says where the record ended: from now on something does, and the record tells."""
    if AuditHead.current().count:
        AuditEvent.record(None, "record_anchored")


#: The one of this process.
watch = Watch()
