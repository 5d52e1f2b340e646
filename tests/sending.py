"""An X-ray unit that does not give up: it sends its films until each is acknowledged."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from tests.peers import LOOPBACK
from tests.running import Visitor

#: What a unit waits before it tries again; a real one waits minutes.
PAUSE = 0.2
#: For an answer. pynetdicom notices nothing of a receiver that was killed.
PATIENCE = 10


class Unit:
    """Sends films over several associations at once. ``acknowledged``: SOP instance UIDs."""

    def __init__(
        self,
        port: int,
        films: Sequence[Dataset],
        associations: int = 4,
        patience: float = PATIENCE,
    ) -> None:
        self.acknowledged: set[str] = set()
        self.refused: list[int] = []
        self._port, self._patience = port, patience
        self._threads = [
            threading.Thread(target=self._send, args=[films[at::associations]], daemon=True)
            for at in range(associations)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait(self, seconds: float = 600) -> None:
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0))

    def _send(self, films: Sequence[Dataset]) -> None:
        waiting = list(films)
        while waiting:
            waiting = self._send_what_waits(waiting)
            if waiting:
                time.sleep(PAUSE)

    def _send_what_waits(self, waiting: list[Dataset]) -> list[Dataset]:
        """One association; what is not acknowledged on it."""
        entity = AE(ae_title="XRAY1")
        entity.dimse_timeout = entity.network_timeout = entity.acse_timeout = self._patience
        entity.add_requested_context(ComputedRadiographyImageStorage, ExplicitVRLittleEndian)
        association = entity.associate(LOOPBACK, self._port, ae_title="CLINIC", max_pdu=131072)
        with suppress(RuntimeError, ValueError):  # it broke off
            for film in waiting:
                if not association.is_established:
                    break
                status = association.send_c_store(film).get("Status")
                if status == 0:
                    self.acknowledged.add(str(film.SOPInstanceUID))
                elif status is not None:
                    self.refused.append(status)
        if association.is_established:
            association.release()
        return [one for one in waiting if str(one.SOPInstanceUID) not in self.acknowledged]


def open_node(visitor: Visitor, port: int) -> None:
    """Switch the node on in a program that runs, and enter the unit."""
    visitor.post(
        "/settings/dicom/new",
        name="Room 1",
        ae_title="XRAY1",
        host=LOOPBACK,
        port="104",
        sends_films="on",
    )
    visitor.post("/settings/dicom", dicom="on", ae_title="CLINIC", dicom_port=str(port))


def stored(home: Path) -> list[tuple[str, str, int]]:
    """SOP instance UID, state and number of findings of each stored film."""
    question = (
        "SELECT i.sop_instance_uid, i.state, COUNT(f.id) FROM clinic_instance i "
        "LEFT JOIN clinic_finding f ON f.instance_id = i.id GROUP BY i.id"
    )
    with closing(sqlite3.connect(home / "clinic.sqlite3", timeout=20)) as database:
        return list(database.execute(question))
