"""Secondary Captures (PS3.3 A.8.1): the film with regions drawn, and films that were no DICOM."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from app.cxr.dicom_out.identity import (
    UTF_8,
    add_equipment,
    add_series,
    da,
    frames_of,
    header_of,
    local,
    person_name,
    tm,
    uid_from,
    value,
)
from app.cxr.dicom_out.picture import drawn
from app.cxr.dicom_out.said import Equipment, Result, Subject

FILM_SERIES_NUMBER = 900
SERIES_NUMBER = 902

# The General Study, Patient and Patient Study attributes that `header_of` takes over.
_REFERENCE_ONLY = frozenset(
    {"SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Rows", "Columns", "NumberOfFrames"}
)


def secondary_capture(
    source: Dataset,
    pixels: np.ndarray,
    result: Result,
    equipment: Equipment,
    caption: Sequence[str],
    description: str,
) -> Dataset:
    """A picture of the film with the regions drawn and the caption below it.

    ``source``: the film's header. ``pixels``: the film as displayed, uint8 ``(height, width)``.
    ``description``: of the series and of what was done, for people. The same values give the same
    object. Raises NotAddressable, and ValueError for a line that cannot be drawn (`can_draw`).
    """
    header = header_of(source)
    picture = drawn(pixels, result.regions, caption)
    uid = uid_from("capture", header.StudyInstanceUID, header.SOPInstanceUID, _digest(picture))
    made = _object(uid)
    for element in header:
        if element.keyword not in _REFERENCE_ONLY:
            made.add(element)
    at = local(result.analysed_at, source)
    _add_capture(made, equipment, SERIES_NUMBER, description, at)
    made.Modality = "OT"
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.ConversionType = "WSD"
    made.DerivationDescription = description
    made.PatientOrientation = _orientation(source)
    # Who the words name, and what the film itself has burnt in, is not known here
    made.BurnedInAnnotation = "YES"
    if value(source, "LossyImageCompression") == "01":
        made.LossyImageCompression = "01"  # PS3.3 C.7.6.1.1.5: once lossy, always lossy
    _add_source(made, header)
    _add_pixels(made, picture)
    return made


def film_as_secondary_capture(
    pixels: np.ndarray, subject: Subject, equipment: Equipment, description: str, lossy: bool
) -> Dataset:
    """A film that came as a picture, as the object that reports on it refer to.

    ``pixels``: the film as displayed, uint8 ``(height, width)``; places in it are places in this
    object. ``lossy``: it was a JPEG once.
    """
    made = _object(UID(subject.film_uid))
    made.StudyInstanceUID = subject.study_uid
    made.StudyID = subject.study_id
    made.StudyDate, made.StudyTime = da(subject.taken_at), tm(subject.taken_at)
    made.PatientName = person_name(subject.patient_name)
    made.PatientID = subject.patient_id
    made.PatientBirthDate, made.PatientSex = subject.birth_date, subject.sex
    made.ReferringPhysicianName = made.AccessionNumber = ""
    if subject.issuer_of_patient_id:
        made.IssuerOfPatientID = subject.issuer_of_patient_id
    if subject.study_description:
        made.StudyDescription = subject.study_description
    if subject.age_years is not None:
        made.PatientAge = age_string(subject.age_years)
    _add_capture(made, equipment, FILM_SERIES_NUMBER, description, subject.taken_at)
    made.SeriesInstanceUID = subject.series_uid
    made.Modality = "RG"
    made.ImageType = ["ORIGINAL", "SECONDARY"]
    # From a phone, a scanner or another program, which the file does not tell: from a workstation
    made.ConversionType = "WSD"
    made.PatientOrientation = None
    made.BurnedInAnnotation = "YES"
    made.LossyImageCompression = "01" if lossy else "00"
    _add_pixels(made, pixels)
    return made


def age_string(years: float) -> str:
    """An age as a value of VR AS (PS3.5 6.2), in the largest unit that tells it."""
    for unit, in_a_year, up_to in (("D", 365.25, 14), ("W", 52.18, 13), ("M", 12.0, 24)):
        if years * in_a_year < up_to:
            return f"{int(years * in_a_year):03d}{unit}"
    return f"{int(min(years, 999)):03d}Y"


# --- parts of both --------------------------------------------------------------------------------


def _object(uid: UID) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = uid
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SpecificCharacterSet = UTF_8
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, uid
    return made


def _add_capture(
    made: Dataset, equipment: Equipment, number: int, description: str, at: datetime
) -> None:
    add_series(made, number, description, at)
    add_equipment(made, equipment)
    made.BodyPartExamined = "CHEST"
    made.SecondaryCaptureDeviceManufacturer = equipment.manufacturer
    made.SecondaryCaptureDeviceManufacturerModelName = equipment.model_name
    made.SecondaryCaptureDeviceSoftwareVersions = equipment.version
    made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = da(at), tm(at)
    made.ContentDate, made.ContentTime = da(at), tm(at)
    made.InstanceCreationDate, made.InstanceCreationTime = da(at), tm(at)


def _orientation(source: Dataset) -> list[str] | None:
    """Which way rows and columns run in the patient; the picture is neither turned nor mirrored."""
    given = source.get("PatientOrientation")
    return list(given) if given and len(given) == 2 and all(given) else None


def _add_source(made: Dataset, header: Dataset) -> None:
    """Where the picture comes from: PS3.3 C.12.4, and C.12.2 so that it is found."""
    image = Dataset()
    image.ReferencedSOPClassUID = header.SOPClassUID
    image.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if frames := frames_of(header):
        image.ReferencedFrameNumber = frames[0]
    series = Dataset()
    series.SeriesInstanceUID = header.SeriesInstanceUID
    series.ReferencedInstanceSequence = [_reference(header)]
    made.ReferencedSeriesSequence = [series]
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    image.PurposeOfReferenceCodeSequence = [purpose]
    made.SourceImageSequence = [image]


def _reference(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return item


def _add_pixels(made: Dataset, pixels: np.ndarray) -> None:
    """Grey or RGB, uncompressed: what every archive and every viewer takes."""
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    made.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    content = np.ascontiguousarray(pixels, np.uint8).tobytes()
    made.PixelData = content + b"\0" * (len(content) % 2)
    made["PixelData"].VR = "OB"


def _digest(pixels: np.ndarray) -> str:
    shape = ",".join(str(side) for side in pixels.shape)
    return hashlib.sha256(shape.encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()
