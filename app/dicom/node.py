"""The node of this process: listening while the clinic wants it and the program runs."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.db import connections, transaction
from django.db.models.signals import post_save
from django.dispatch import receiver

from app import server
from app.models import Site
from app.worker import traceback_of

if TYPE_CHECKING:
    from app.dicom.acceptor import Acceptor

logger = logging.getLogger(__name__)

#: So often a port that was taken is tried again, and what waits to be sent is looked at.
LOOK_AROUND = 5.0
#: A peer that closes its association at once wants an answer on one of ours: wait and see.
SECONDS_TO_SEE = 1.0
#: Ports below are kept for the system on Linux and macOS.
FIRST_FREE_PORT = 1024


class Node:
    """Takes part in DICOM while an administrator wants it to; no fault of it stops a start."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._runs = False
        self._acceptor: Acceptor | None = None
        #: Set where there may be something to send before the next look.
        self.wake = threading.Event()
        #: Why nothing listens although it should, a code; empty where nothing is wrong.
        self.problem = ""

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Follow the clinic's choice until the program stops."""
        stop = threading.Event()
        self._runs = True
        watch = threading.Thread(target=self._watch, args=[stop], name="dicom", daemon=True)
        watch.start()
        try:
            yield
        finally:
            self._runs = False
            stop.set()
            self.wake.set()
            watch.join(LOOK_AROUND)
            self._close()

    def follow(self, site: Site) -> None:
        """Listen, listen elsewhere, or stop listening, as the clinic has chosen."""
        with self._lock:
            wanted = (site.ae_title, site.dicom_port) if self._runs and site.dicom else None
            now = self._acceptor
            if now and wanted != (now.ae_title, now.port):
                self._close()
            if wanted and not self._acceptor:
                self._open(*wanted)

    @property
    def listens(self) -> bool:
        """Whether X-ray units can reach this program now."""
        return self._acceptor is not None

    def _open(self, ae_title: str, port: int) -> None:
        from app.dicom.acceptor import Acceptor

        before, self.problem = self.problem, ""
        try:
            self._acceptor = Acceptor(ae_title, port)
        except server.PortTaken as error:
            self.problem = _why(error, port)
        except Exception as error:  # noqa: BLE001 - work at this computer goes on
            self.problem = "cannot_open"
            logger.error("the DICOM node cannot be started: %s", traceback_of(error))
        else:
            logger.info("the DICOM node listens on port %d", port)
        if self.problem and self.problem != before:
            logger.warning("the DICOM node does not listen on port %d: %s", port, self.problem)

    def _close(self) -> None:
        with self._lock:
            acceptor, self._acceptor, self.problem = self._acceptor, None, ""
        if acceptor:
            acceptor.close()
            logger.info("the DICOM node is closed")

    def _watch(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                site = Site.current()
                self.follow(site)
                if site.dicom:
                    _answer_questions()
            except Exception as error:  # noqa: BLE001 - the next look may find it better
                logger.error("the DICOM node: %s", traceback_of(error))
            if self.wake.wait(LOOK_AROUND):
                self.wake.clear()
                stop.wait(SECONDS_TO_SEE)
        connections.close_all()


#: The one of this process.
node = Node()


def _answer_questions() -> None:
    from app.dicom import commitment  # pynetdicom is here by now

    commitment.answer_due()


def _why(error: server.PortTaken, port: int) -> str:
    cause = error.__cause__
    if isinstance(cause, PermissionError) and port < FIRST_FREE_PORT:
        return "port_not_allowed"
    return "port_taken"


@receiver(post_save, sender=Site)
def _follow_choice(**_more: Any) -> None:
    transaction.on_commit(lambda: node.follow(Site.current()))
