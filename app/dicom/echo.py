"""C-ECHO: whether a machine can be spoken with, and if not, what is wrong in words (PS3.4, A)."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from app.models import Peer, Site

logger = logging.getLogger(__name__)

#: What to tell people for each code of ``association.NoAssociation``, and for those of an echo.
SENTENCES: dict[str, Promise] = {
    "ok": _("%(name)s answers. Everything is in order (%(milliseconds)s ms)."),
    "no_name": _(
        "%(name)s: no machine is called %(host)s here. Check the address, or enter it in numbers, "
        "such as 192.168.1.20."
    ),
    "no_answer": _(
        "%(name)s: nothing answers at %(host)s. Is the machine switched on and in the same "
        "network? Is the address right?"
    ),
    "unreachable": _(
        "%(name)s: there is no way from this computer to %(host)s. It is in another network, or "
        "this computer is in none."
    ),
    "refused": _(
        "%(name)s: there is a machine at %(host)s, but nothing listens on its port %(port)s. "
        "Check the port, and whether DICOM is switched on there."
    ),
    "not_dicom": _(
        "%(name)s: something listens at %(host)s on port %(port)s, but it does not answer as a "
        "DICOM machine does. Check the port."
    ),
    "calling_unknown": _(
        "%(name)s: reached the machine, but it refused our name %(ours)s. Enter this program "
        "there, with this AE title and the address of this computer."
    ),
    "called_unknown": _(
        "%(name)s: reached the machine, but it is not called %(theirs)s. Enter here the AE title "
        "that its own settings show. If that is right, it may not know our name %(ours)s."
    ),
    "busy": _("%(name)s: reached the machine, but it is busy. Try again in a minute."),
    "rejected": _(
        "%(name)s: reached the machine, but it refused to talk and did not say why. It often must "
        "be told the AE title %(ours)s and the address of this computer first."
    ),
    # So Orthanc treats strangers
    "aborted": _(
        "%(name)s: reached the machine, but it broke off. It may not know our name %(ours)s and "
        "the address of this computer: look into its settings and its log."
    ),
    "not_supported": _(
        "%(name)s: reached the machine, and it knows us, but it does not offer this service."
    ),
    "failed": _("%(name)s: reached the machine, but it answered with the fault %(status)s."),
}


@dataclass(frozen=True)
class Outcome:
    """What came of an echo. ``code``: ``ok``, ``failed``, or one of ``association.CODES``."""

    code: str
    milliseconds: int = 0
    #: The DIMSE status of the answer (PS3.7, C); None where there was none.
    status: int | None = None

    @property
    def is_ok(self) -> bool:
        """Whether the machine answered as it should."""
        return self.code == "ok"


def echo(peer: Peer) -> Outcome:
    """Ask ``peer`` for an answer and nothing else. Takes as long as its patience does, or less."""
    # pynetdicom takes time and memory to load, which who speaks with nobody need not give
    from pynetdicom import build_context
    from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

    from app.dicom.association import NoAssociation, associated

    begin = time.perf_counter()
    try:
        with associated(peer, [build_context(Verification)]) as association:
            status = association.send_c_echo().get("Status")
    except NoAssociation as error:
        logger.info("echo of peer %s: %s", peer.pk, error.code)
        return Outcome(error.code)
    milliseconds = round((time.perf_counter() - begin) * 1000)
    if status is None:
        return Outcome("aborted")
    return Outcome("ok" if status == 0 else "failed", milliseconds, status)


def sentence(code: str, peer: Peer, outcome: Outcome | None = None) -> str:
    """What a code says of ``peer``, for a person: of an echo, or why no association came about."""
    status = outcome.status if outcome else None
    return str(SENTENCES[code]) % {
        "name": peer.name,
        "host": peer.host,
        "port": peer.port,
        "theirs": peer.ae_title,
        "ours": Site.current().ae_title,
        "milliseconds": outcome.milliseconds if outcome else 0,
        "status": f"{status or 0:04X}",
    }
