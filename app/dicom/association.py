"""Associations that this program asks for, with a code for everything that can be in the way."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pynetdicom import AE, evt
from pynetdicom.pdu import A_ABORT_RQ

from app.dicom import upper_layer
from app.models import Peer, Site

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

CONNECTION_SECONDS = 5.0
#: For the answer to the request for an association, and for its end.
ACSE_SECONDS = 10.0
#: For the answer to a message. Archives may take their time over a film.
DIMSE_SECONDS = 60.0

#: PS3.8, 9.3.4: source and reason of a rejection, as far as people can do something about it.
_REJECTIONS = {
    (1, 3): "calling_unknown",
    (1, 7): "called_unknown",
    (3, 1): "busy",
    (3, 2): "busy",
}
_FAULTS = {
    errno.ECONNREFUSED: "refused",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.EACCES: "unreachable",
    errno.EPERM: "unreachable",
}
#: Every code of NoAssociation.
CODES = frozenset(
    {
        "no_name",
        "no_answer",
        "refused",
        "unreachable",
        "not_dicom",
        "calling_unknown",
        "called_unknown",
        "busy",
        "rejected",
        "aborted",
        "not_supported",
    }
)


class NoAssociation(Exception):
    """The peer could not be spoken with; ``code`` says why (``CODES``), and is stable."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@contextmanager
def associated(
    peer: Peer, contexts: Sequence[PresentationContext], roles: Sequence[Any] = ()
) -> Iterator[Association]:
    """An association with ``peer`` for ``contexts``, released at the end; raises NoAssociation.

    ``roles``: SCP/SCU role selection items, as pynetdicom's ``build_role`` makes them.
    """
    association = _request(peer, contexts, roles)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _request(
    peer: Peer, contexts: Sequence[PresentationContext], roles: Sequence[Any]
) -> Association:
    address = _address_of(peer.host)
    connected, aborted = threading.Event(), threading.Event()
    entity = AE(ae_title=Site.current().ae_title)
    entity.connection_timeout = CONNECTION_SECONDS
    entity.acse_timeout = ACSE_SECONDS
    entity.dimse_timeout = entity.network_timeout = DIMSE_SECONDS
    association = entity.associate(
        address,
        peer.port,
        contexts=list(contexts),
        ae_title=peer.ae_title,
        max_pdu=upper_layer.MAXIMUM_LENGTH,
        ext_neg=list(roles),
        evt_handlers=[
            (evt.EVT_CONN_OPEN, _note_connection, [connected]),
            (evt.EVT_PDU_RECV, _note_abort, [aborted]),
        ],
    )
    if association.is_established:
        return association
    if not connected.is_set():
        raise NoAssociation(_fault_of_connection(address, peer.port))
    raise NoAssociation(_fault_of_request(association, aborted.is_set()))


def _address_of(host: str) -> str:
    """The address of a host's name; raises NoAssociation."""
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NoAssociation("no_name") from error
    return str(found[0][4][0])


def _note_connection(event: Any, connected: threading.Event) -> None:
    connected.set()
    # Whoever sends half a PDU and no more would be waited for without end
    event.assoc.dul.socket.socket.settimeout(ACSE_SECONDS)


def _note_abort(event: Any, aborted: threading.Event) -> None:
    if isinstance(event.pdu, A_ABORT_RQ):
        aborted.set()


def _fault_of_connection(address: str, port: int) -> str:
    """Why there is no connection: tried once more, because pynetdicom does not tell."""
    try:
        socket.create_connection((address, port), CONNECTION_SECONDS).close()
    except TimeoutError:
        return "no_answer"
    except OSError as error:
        return _FAULTS.get(error.errno or 0, "no_answer")
    return "no_answer"


def _fault_of_request(association: Association, aborted: bool) -> str:
    if association.is_rejected:
        answer: Any = association.acceptor.primitive
        return _REJECTIONS.get((answer.result_source, answer.diagnostic), "rejected")
    if association.rejected_contexts:
        return "not_supported"
    return "aborted" if aborted else "not_dicom"
