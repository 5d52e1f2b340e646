"""Associations that others ask for: what is offered to whom, and how long anything may take."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import connections
from pynetdicom import AE, build_context, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    Verification,
)

from app.dicom import commitment, storage
from app.dicom.callers import WRONG_NAME, callers, peer_of, why_unknown
from app.dicom.upper_layer import MAXIMUM_LENGTH, Acceptance, Server, remote

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

EVERYWHERE = "0.0.0.0"  # nosec B104 - closed until somebody opens it; known machines alone
#: A hospital has a handful of units, each of which opens one association, few of them four; each
#: costs two threads and up to five megabytes while a film comes in. Who is one too many hears so
#: and tries again.
MOST_ASSOCIATIONS = 16
#: From the connection to the request for an association (ARTIM), and for its end. Whoever connects
#: and says nothing is gone after that.
ACSE_SECONDS = 10.0
#: For the next PDU. Units keep an association open from one film to the next, patients take time;
#: but a unit that was switched off must give its place free.
NETWORK_SECONDS = 120.0
DIMSE_SECONDS = 30.0
SECONDS_TO_CLOSE = 5.0
#: So often it is seen that the program ends.
POLL = 0.2

# PS3.8, 9.3.4: result, source and reason of a rejection
PERMANENT, TRANSIENT = 1, 2
CALLING_NOT_RECOGNISED = (PERMANENT, 1, 3)
CALLED_NOT_RECOGNISED = (PERMANENT, 1, 7)
LIMIT_EXCEEDED = (TRANSIENT, 3, 2)


class Acceptor:
    """Listens from the moment it is made until it is closed; raises PortTaken."""

    def __init__(self, ae_title: str, port: int) -> None:
        self.ae_title, self.port = ae_title, port
        entity = AE(ae_title=ae_title)
        entity.acse_timeout = ACSE_SECONDS
        entity.network_timeout = NETWORK_SECONDS
        entity.dimse_timeout = DIMSE_SECONDS
        entity.maximum_pdu_size = MAXIMUM_LENGTH
        # Its own limit would reject after ours has
        entity.maximum_associations = 2 * MOST_ASSOCIATIONS
        entity.supported_contexts = supported_contexts()
        self._server: Server = entity.make_server(  # type: ignore[assignment]
            (EVERYWHERE, port),
            evt_handlers=_handlers(),  # type: ignore[arg-type]
            server_class=Server,
            request_handler=Acceptance,
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=[POLL], name="dicom-acceptor", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and end what is open: a film that is not answered is sent again."""
        self._server.shutdown()
        open_ones = self._server.active_associations
        for association in open_ones:
            association.abort(block=False)
        for association in open_ones:
            association.join(SECONDS_TO_CLOSE)


def supported_contexts() -> list[PresentationContext]:
    """What is offered: echo, films, and storage commitment."""
    films = [build_context(uid, list(storage.TRANSFER_SYNTAXES)) for uid in storage.SOP_CLASSES]
    return [build_context(Verification), build_context(StorageCommitmentPushModel), *films]


def why_rejected(association: Any) -> tuple[int, int, int] | None:
    """Whether a request for an association is turned away, and with which words of PS3.8."""
    request, address = association.requestor.primitive, association.requestor.address
    calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
    if peer_of(calling, address) is None:
        callers.note(calling, address, called, why_unknown(calling))
        return CALLING_NOT_RECOGNISED
    if called != association.acceptor.ae_title.strip():
        callers.note(calling, address, called, WRONG_NAME)
        return CALLED_NOT_RECOGNISED
    established = [one for one in association._server.active_associations if one.is_established]
    if len(established) >= MOST_ASSOCIATIONS:
        logger.warning("association of %s rejected: too many are open", address)
        return LIMIT_EXCEEDED
    return None


def _handlers() -> list[tuple[Any, Callable[..., Any]]]:
    return [
        (evt.EVT_REQUESTED, _handle_requested),
        (evt.EVT_C_ECHO, _handle_echo),
        (evt.EVT_C_STORE, _with_database(storage.handle_store)),
        (evt.EVT_N_ACTION, _with_database(commitment.handle_action)),
    ]


def _handle_requested(event: Any) -> None:
    """Reject before anything is negotiated; what fails here lets nobody in."""
    association = event.assoc
    try:
        rejection = _with_database(why_rejected)(association)
    except Exception as error:  # noqa: BLE001 - whatever a peer sends, this program goes on
        logger.error("association of %s failed: %s", remote(association), type(error).__name__)
        rejection = LIMIT_EXCEEDED
    if rejection:
        association.acse.send_reject(*rejection)
        association.kill()


def _handle_echo(_event: Any) -> int:
    return 0x0000


def _with_database(function: Callable[[Any], Answer]) -> Callable[[Any], Answer]:
    """What asks the database from an association's thread, which may end at any time."""

    def asked(argument: Any) -> Answer:
        try:
            return function(argument)
        finally:
            connections.close_all()

    return asked
