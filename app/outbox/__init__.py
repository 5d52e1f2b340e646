"""What goes out of the clinic by itself: results, to the archives and servers that get them.

A row waits for each study and place (``models.Delivery``) until the place has it; one thread of the
server sends, one after another. What is sent is made when it is sent.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from django.db import close_old_connections, connections

from app import worker
from app.models import Delivery, Study
from app.outbox.faults import NotSent

logger = logging.getLogger(__name__)

#: What was queued, or is due again, is seen so soon.
POLL_SECONDS = 2.0
PAUSE_SECONDS = 2.0
KIND = "outbox"


def send(delivery: Delivery) -> None:
    """Try to send one; what comes of it is written down."""
    try:
        if delivery.kind == Delivery.Kind.FHIR:
            from app.outbox import fhir

            fhir.send(delivery.study)
        else:
            from app.outbox import dicom

            assert delivery.peer is not None
            dicom.send(delivery.study, delivery.peer)
    except NotSent as fault:
        delivery.failed(fault.code, fault.details, fault.for_good)
        if fault.nobody_there and not fault.for_good:
            delivery.postpone_others()
        logger.warning("results were not sent: %s", fault.code)
    except Study.DoesNotExist:
        return  # deleted meanwhile, and the delivery with it
    except Exception as error:  # noqa: BLE001 - one that cannot be made must not stop the others
        logger.error("results could not be made: %s", worker.traceback_of(error))
        delivery.failed("unforeseen", {})
    else:
        delivery.arrived()


class Sender:
    """Sends what is due, in a thread of its own."""

    def __init__(self) -> None:
        self.id = worker.worker_name(KIND)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="outbox", daemon=True)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Send until the program stops; what a crash interrupted is sent again."""
        Delivery.put_back(KIND)
        Delivery.forget_old()
        self._thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._thread.join(worker.PAUSE_SECONDS + PAUSE_SECONDS)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self._send_what_is_due()
            except Exception as error:  # noqa: BLE001 - the queue must go on whatever happens
                logger.error("outbox: %s", worker.traceback_of(error))
                self._stopping.wait(PAUSE_SECONDS)
            close_old_connections()
            self._stopping.wait(POLL_SECONDS)
        connections.close_all()

    def _send_what_is_due(self) -> None:
        while not self._stopping.is_set() and (delivery := Delivery.claim(self.id)):
            send(delivery)
