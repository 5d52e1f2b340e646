"""This program's DICOM node in the process of a test: what it listens on, and whom it knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from app.dicom.acceptor import Acceptor
from app.models import Peer
from tests import films
from tests.peers import LOOPBACK
from tests.running import free_port, wait_for

UNIT = "XRAY1"


def unit(ae_title: str = UNIT, **values: Any) -> Peer:
    """An X-ray unit on this computer, which may send films."""
    values = {"name": ae_title, "host": LOOPBACK, "sends_films": True} | values
    return Peer.objects.create(ae_title=ae_title, **values)


@contextmanager
def listening(port: int | None = None) -> Iterator[int]:
    """The node, listening as CLINIC; its port."""
    found = Acceptor("CLINIC", port or free_port())
    try:
        yield found.port
    finally:
        found.close()


def film(seed: int = 1, size: tuple[int, int] = (64, 48), **elements: Any) -> Dataset:
    """A CR film of its own study, its pixels drawn by chance."""
    pixels = np.random.default_rng(seed).integers(0, 4000, size, dtype=np.uint16)
    return films.dataset(pixels, 12, **elements)


def written(folder: Path, found: Dataset, name: str = "film.dcm") -> Path:
    path = folder / name
    path.write_bytes(films.written(found))
    return path


@contextmanager
def associated(
    port: int,
    *contexts: tuple[str, str],
    calling: str = UNIT,
    called: str = "CLINIC",
    **options: Any,
) -> Iterator[Association]:
    """An association that somebody else asks for, with pairs of abstract and transfer syntax."""
    entity = AE(ae_title=calling)
    for abstract, transfer in contexts:
        entity.add_requested_context(abstract, transfer)
    association = entity.associate(LOOPBACK, port, ae_title=called, **options)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def send(port: int, found: Dataset, **options: Any) -> Dataset:
    """Send a film as its file says; the answer's command set."""
    syntax = str(found.file_meta.get("TransferSyntaxUID", ExplicitVRLittleEndian))
    with associated(port, (str(found.SOPClassUID), syntax), **options) as association:
        return association.send_c_store(found)


def settled(what: Any, seconds: float = 30) -> None:
    """Wait until it is so."""
    wait_for(what, seconds, pause=0.05)
