"""Every sentence about results that did not arrive, by stable code: what is wrong, what to do."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from app.dicom import echo
from app.models import Peer

PROBLEMS: dict[str, Promise] = {
    "address_unknown": _(
        "No machine of the name %(address)s is known in the network. Is it spelt right?"
    ),
    "no_answer": _("%(address)s does not answer. Is it switched on, and in the same network?"),
    "connection_refused": _(
        "Nothing listens at %(address)s on this port. Is the port right, and the program there "
        "running?"
    ),
    "kind_not_taken": _(
        "The machine does not take this kind of object. Ask whoever looks after it to allow "
        "structured reports and secondary captures."
    ),
    "out_of_room": _("The machine has no room left."),
    "turned_down": _("The other side turned it down (%(status)s)."),
    "broken_off": _("The connection to %(address)s broke off."),
    "no_server": _("No FHIR server is named any more."),
    "not_a_web_address": _("%(address)s is no web address. One begins with https:// or http://."),
    "certificate_wrong": _(
        "%(address)s cannot prove who it is: its certificate is unknown, expired or made for "
        "another name."
    ),
    "not_allowed": _(
        "The server does not let us in (%(status)s). Is the authorization right and still valid?"
    ),
    "not_found": _("The server knows no such address (%(status)s). Is the base address right?"),
    "server_fault": _("The server has a fault of its own (%(status)s)."),
    "film_missing": _("The film is not in the store any more, so it cannot be sent."),
    "unforeseen": _(
        "The program could not put the results together. Copy the diagnostics for whoever helps "
        "you."
    ),
}


def problem_words(code: str, details: Mapping[str, str], peer: Peer | None = None) -> str:
    """The sentence for a code of ``outbox.faults``, or of ``dicom.association`` and its peer; empty
    for none.
    """
    if peer and code in echo.SENTENCES:
        return echo.sentence(code, peer)
    return str(PROBLEMS[code]) % details if code in PROBLEMS else ""
