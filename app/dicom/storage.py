"""C-STORE: films of X-ray units, in by the door by which every film comes (PS3.4, B)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from app import intake
from app.cxr.dicom_structure import Malformed, values_of
from app.dicom.callers import peer_of
from app.worker import traceback_of

if TYPE_CHECKING:
    from app.dicom.upper_layer import IncomingFilm

logger = logging.getLogger(__name__)

#: What X-ray units and digitizers send of a chest.
SOP_CLASSES = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)
#: In the order in which they are preferred: as the film was taken, then without loss, then the
#: rest. Deflated is left out: no unit needs it, and such a data set may be of any size.
TRANSFER_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    RLELossless,
    JPEGLSNearLossless,
    JPEG2000,
    JPEGExtended12Bit,
    JPEGBaseline8Bit,
    ExplicitVRBigEndian,
)

#: Statuses of PS3.4, B.2.3 and PS3.7, C, by what is wrong, with the comment that units show.
STATUSES: dict[str, tuple[int, str]] = {
    "sop_class": (0x0122, "no film of an X-ray unit"),
    "not_allowed": (0x0124, "this AE title may not send films"),
    "no_uid": (0x0117, "the SOP instance UID is no UID"),
    "disk_full": (0xA700, "the disk is full"),
    "cannot_store": (0xA701, "cannot be stored now, send it again"),
    "other_object": (0xA900, "the data set is another object than announced"),
    "malformed": (0xC000, "the data set cannot be read"),
    "empty": (0xC000, "the data set cannot be read"),
    "too_large": (0xC001, "the film is too large"),
    "failed": (0x0110, "the program failed"),
}
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018


def handle_store(event: Any) -> int | Dataset:
    """The status of a C-STORE request, as pynetdicom hands it over.

    Nothing is promised before it is on the disk and in the queue.
    """
    request, film = event.request, event.request._dataset_file
    requestor = event.assoc.requestor
    sop_class = str(request.AffectedSOPClassUID)
    try:
        if sop_class != event.context.abstract_syntax or sop_class not in SOP_CLASSES:
            return _refused("sop_class")
        peer = peer_of(requestor.ae_title, requestor.address)
        if peer is None or not peer.sends_films:
            return _refused("not_allowed")
        return store(film, sop_class, str(request.AffectedSOPInstanceUID), peer.ae_title)
    except Exception as error:  # noqa: BLE001 - the unit must hear that it keeps its film
        logger.error("a film of %s failed: %s", requestor.address, traceback_of(error))
        return _refused("failed")


def store(
    film: IncomingFilm | None, sop_class: str, sop_instance: str, sender: str
) -> int | Dataset:
    """Take a film in that was announced under these UIDs; the status to answer with."""
    if film is None:  # a request without a data set
        return _refused("malformed")
    if film.fault:
        return _refused(film.fault)
    try:
        said = _said(film)
    except Malformed as fault:
        logger.warning("a film of %s cannot be read: %s", sender, fault.code)
        return _refused("malformed")
    if said != (sop_class, sop_instance):
        return _refused("other_object")
    film.file.seek(0)
    try:
        intake.receive(film.file, f"{sop_instance}.dcm", "dicom", intake.Belonging(sender=sender))
    except intake.Rejected as rejected:
        return _refused(rejected.code)
    return 0x0000


def _said(film: IncomingFilm) -> tuple[str, str]:
    """SOP class and instance as the data set itself says; raises Malformed."""
    film.file.seek(film.data_set_at)
    syntax = film.transfer_syntax
    found = values_of(
        film.file,
        explicit=not syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        tags=(_SOP_CLASS, _SOP_INSTANCE),
    )
    said = (found.get(tag, b"").decode("ascii", "replace") for tag in (_SOP_CLASS, _SOP_INSTANCE))
    sop_class, sop_instance = (value.strip("\0 ") for value in said)
    return sop_class, sop_instance


def _refused(code: str) -> Dataset:
    status, comment = STATUSES.get(code, STATUSES["failed"])
    logger.info("a film was refused: %s", code)
    answer = Dataset()
    answer.Status, answer.ErrorComment = status, comment
    return answer
