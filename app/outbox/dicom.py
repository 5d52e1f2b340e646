"""Results to an archive: DICOM objects of the film's own study, stored there (PS3.4, annex B)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context

from app.dicom.association import NoAssociation, associated
from app.models import Peer, Study
from app.outbox.faults import NotSent
from app.outbox.results import objects_of

if TYPE_CHECKING:
    from pynetdicom.association import Association

logger = logging.getLogger(__name__)

#: PS3.4, B.2.3: stored, whatever else there is to say about it.
_STORED = frozenset({0x0000, 0xB000, 0xB006, 0xB007})
_NOT_TAKEN = frozenset({0x0122})
_SYNTAXES: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


def send(study: Study, peer: Peer) -> None:
    """Store the results of a study at a peer; raises NotSent."""
    store(objects_of(study), peer)


def store(objects: Sequence[Dataset], peer: Peer) -> None:
    """Store objects at a peer, those of a kind that it takes; raises NotSent where it takes none or
    fails with one.
    """
    kinds = sorted({one.SOPClassUID for one in objects})
    try:
        with associated(peer, [build_context(kind, _SYNTAXES) for kind in kinds]) as association:
            taken = {context.abstract_syntax for context in association.accepted_contexts}
            wanted = [one for one in objects if one.SOPClassUID in taken]
            for one in wanted:
                _store(association, one, peer)
    except NoAssociation as fault:
        if fault.code == "not_supported":
            raise NotSent("kind_not_taken", for_good=True) from fault
        raise NotSent(fault.code, nobody_there=True) from fault
    if not wanted:
        raise NotSent("kind_not_taken", for_good=True)
    if len(wanted) < len(objects):
        logger.info("peer %s takes not every kind of object: %s", peer.pk, set(kinds) - taken)


def _store(association: Association, one: Dataset, peer: Peer) -> None:
    status = association.send_c_store(one).get("Status")
    if status is None:
        raise NotSent("broken_off", nobody_there=True, address=peer.host)
    if status in _STORED:
        return
    if status in _NOT_TAKEN:
        raise NotSent("kind_not_taken", for_good=True)
    if status >> 8 == 0xA7:
        raise NotSent("out_of_room", nobody_there=True)
    never = status >> 12 == 0xC or status >> 8 == 0xA9
    raise NotSent("turned_down", for_good=never, status=f"{status:04X}")
