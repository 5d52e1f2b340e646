"""A structured report by TID 1500, as IHE's AI Results profile asks (Comprehensive 3D SR).

One group (TID 1501) says what the model found of the film: answer, probability, threshold. One
group each (TID 1410) says where: the regions, and the hottest point. What a person concluded is a
group of its own with that person as its observer. docs/adr/0024 tells why these codes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID

from app.cxr.analysis import CANNOT_SAY, LIKELY, UNLIKELY
from app.cxr.dicom_out.identity import (
    UTF_8,
    add_equipment,
    add_series,
    da,
    dt,
    frames_of,
    header_of,
    local,
    offset_of,
    person_name,
    tm,
    uid_from,
    value,
)
from app.cxr.dicom_out.said import Equipment, NotAddressable, Reading, Result
from app.cxr.regions import Region

SERIES_NUMBER = 901
SCHEME = "99CLINIC"

PNEUMONIA = Code("233604007", "SCT", "Pneumonia")
CHEST_FILM = Code("399208008", "SCT", "Plain chest X-ray")
FINDING_CONTEXT = Code("408729009", "SCT", "Finding context")
PROBABILITY = Code("122157", "DCM", "Probability")
THRESHOLD = Code("threshold", SCHEME, "Threshold of the answer")
REASON = Code("reason", SCHEME, "Reason why there is no answer")
HOTTEST_POINT = Code("peak", SCHEME, "Hottest point of the activation map")
ASSESSMENT = Code("assessment", SCHEME, "Assessment of the computer's answer")
QUALITY = Code("111050", "DCM", "Quality Assessment")
DIAGNOSIS = Code("439401001", "SCT", "Diagnosis")
DEVICE, PERSON = (
    sr.CodedConcept("121007", "DCM", "Device"),
    sr.CodedConcept("121006", "DCM", "Person"),
)
NO_UNITS = Code("1", "UCUM", "no units")

ANSWERS = {
    LIKELY: Code("410592001", "SCT", "Probably present"),
    UNLIKELY: Code("410593006", "SCT", "Probably not present"),
    CANNOT_SAY: Code("82334004", "SCT", "Indeterminate"),
}
CONCLUSIONS = {
    "pneumonia": (FINDING_CONTEXT, Code("410515003", "SCT", "Known present")),
    "no_pneumonia": (FINDING_CONTEXT, Code("410516002", "SCT", "Known absent")),
    "unsure": (FINDING_CONTEXT, Code("82334004", "SCT", "Indeterminate")),
    "other": (DIAGNOSIS, Code("other_disease", SCHEME, "Another disease")),
    "not_usable": (QUALITY, Code("RID14", "RADLEX", "Non-diagnostic quality")),
}
ASSESSMENTS = {
    True: Code("accepted", SCHEME, "Accepted"),
    False: Code("rejected", SCHEME, "Rejected"),
}
ZONES = {
    "upper": Code("281392002", "SCT", "Upper zone of lung"),
    "middle": Code("281393007", "SCT", "Middle zone of lung"),
    "lower": Code("281394001", "SCT", "Lower zone of lung"),
}
SIDES = {"right": Code("24028007", "SCT", "Right"), "left": Code("7771000", "SCT", "Left")}

Group = (
    sr.MeasurementsAndQualitativeEvaluations
    | sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | sr.VolumetricROIMeasurementsAndQualitativeEvaluations
)


def structured_report(
    source: Dataset,
    result: Result,
    equipment: Equipment,
    description: str,
    reading: Reading | None = None,
    earlier: Sequence[Dataset] = (),
) -> Dataset:
    """The report on one film; the same values give the same object, to its last byte.

    ``source``: the film's header. ``description``: of the series, for people. ``earlier``: reports
    that this one takes the place of. It counts as verified only where a reader who can be named
    with an organization accepted the answer. Raises NotAddressable.
    """
    header = header_of(source)
    _check_class(header)
    said = [repr(dataclasses.astuple(one)) for one in (result, equipment, reading) if one]
    uid = _uid(header, description, *said, *(one.SOPInstanceUID for one in earlier))
    verified = reading is not None and reading.agrees is True and bool(reading.organization)
    made = sr.Comprehensive3DSR(
        evidence=[header],
        content=_content(source, header, uid, result, equipment, reading),
        series_instance_uid=uid_from("series", uid),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid,
        instance_number=1,
        is_complete=True,
        is_final=verified,
        is_verified=verified,
        verifying_observer_name=person_name(reading.reader) if reading and verified else None,
        verifying_organization=reading.organization if reading and verified else None,
        previous_versions=list(earlier) or None,
        specific_character_set=UTF_8,
        coding_schemes=[_scheme(equipment)],
    )
    _add_rest(made, source, result, equipment, description, reading)
    return made


def _check_class(header: Dataset) -> None:
    """Raises NotAddressable for a SOP class that highdicom knows as no image."""
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    image.Modality, image.Rows, image.Columns = "OT", 1, 1
    try:
        sr.ImageLibraryEntryDescriptors(image)
    except (KeyError, ValueError) as error:
        raise NotAddressable("no_image_class") from error


def _uid(header: Dataset, *said: str) -> UID:
    """All that is said decides the UID, so that what is sent twice is one object, and what is said
    anew another.
    """
    return uid_from("report", header.StudyInstanceUID, header.SOPInstanceUID, *said)


def _scheme(equipment: Equipment) -> CodingSchemeIdentificationItem:
    return CodingSchemeIdentificationItem(
        SCHEME,
        name=f"Private codes of {equipment.model_name}",
        responsible_organization=equipment.manufacturer,
    )


def _add_rest(
    made: Dataset,
    source: Dataset,
    result: Result,
    equipment: Equipment,
    description: str,
    reading: Reading | None,
) -> None:
    """What highdicom leaves out, or fills with the time of the call."""
    at = local(max(result.analysed_at, reading.read_at) if reading else result.analysed_at, source)
    add_series(made, SERIES_NUMBER, description, at)
    add_equipment(made, equipment)
    made.ContentDate, made.ContentTime = da(at), tm(at)
    made.InstanceCreationDate, made.InstanceCreationTime = da(at), tm(at)
    if offset_of(source) is not None:
        made.TimezoneOffsetFromUTC = value(source, "TimezoneOffsetFromUTC")
    for observer in made.get("VerifyingObserverSequence", ()):
        assert reading is not None
        observer.VerificationDateTime = dt(reading.read_at)
    # Names highdicom and the time of the call as equipment that took part
    del made.ContributingEquipmentSequence


# --- the content tree -----------------------------------------------------------------------------


def _content(
    source: Dataset,
    header: Dataset,
    uid: UID,
    result: Result,
    equipment: Equipment,
    reading: Reading | None,
) -> sr.MeasurementReport:
    groups: list[Group] = [_finding(header, uid, result), *_places(header, uid, result)]
    if reading is not None:
        groups.append(_reading(header, uid, reading))
    observer = sr.ObserverContext(
        observer_type=DEVICE,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=equipment.uid,
            name=equipment.station or equipment.model_name,
            manufacturer_name=equipment.manufacturer,
            model_name=equipment.model_name,
        ),
    )
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=CHEST_FILM,
        imaging_measurements=groups,
        referenced_images=[_for_library(source, header)] if "Rows" in header else None,
    )


def _for_library(source: Dataset, header: Dataset) -> Dataset:
    """The header as TID 1600 wants it: with orientation and spacing, or with neither."""
    image = Dataset()
    image.update(header)
    image.Modality = "OT"
    spacing, orientation = source.get("ImagerPixelSpacing"), source.get("PatientOrientation")
    if spacing and orientation and len(spacing) == len(orientation) == 2 and all(orientation):
        image.Modality = value(source, "Modality")
        image.ImagerPixelSpacing, image.PatientOrientation = spacing, orientation
    return image


def _algorithm(result: Result) -> sr.AlgorithmIdentification:
    return sr.AlgorithmIdentification(
        name=result.model_name,
        version=result.model_version,
        parameters=[f"age band: {result.age_band}"],
    )


def _tracking(uid: UID, name: str) -> sr.TrackingIdentifier:
    return sr.TrackingIdentifier(uid=uid_from("tracking", uid, name), identifier=name)


def _finding(header: Dataset, uid: UID, result: Result) -> sr.MeasurementsAndQualitativeEvaluations:
    """What the model says of the whole film."""
    said = [sr.QualitativeEvaluation(FINDING_CONTEXT, ANSWERS[result.answer])]
    if result.reason:
        why = Code(result.reason, SCHEME, result.reason.replace("_", " ").capitalize())
        said.append(sr.QualitativeEvaluation(REASON, why))
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(uid, "finding"),
        finding_type=PNEUMONIA,
        algorithm_id=_algorithm(result),
        measurements=[
            sr.Measurement(PROBABILITY, result.probability, NO_UNITS),
            sr.Measurement(THRESHOLD, result.threshold, NO_UNITS),
        ],
        qualitative_evaluations=said,
        source_images=[_source_of_group(header)],
    )


def _source_of_group(header: Dataset) -> sr.SourceImageForMeasurementGroup:
    return sr.SourceImageForMeasurementGroup(
        header.SOPClassUID, header.SOPInstanceUID, frames_of(header)
    )


def _places(
    header: Dataset, uid: UID, result: Result
) -> list[sr.PlanarROIMeasurementsAndQualitativeEvaluations]:
    """Where the answer rests on; an unlikely finding is nowhere."""
    if result.answer == UNLIKELY:
        return []
    places = [
        _place(
            header, uid, result, f"region {number}", PNEUMONIA, _outline(region), [_site(region)]
        )
        for number, region in enumerate(result.regions, 1)
    ]
    if result.peak is not None:
        # PS3.3 C.18.6.1.1: 0\0 is a pixel's corner, its middle is half a pixel away
        middle = np.array([result.peak], np.float64) + 0.5
        places.append(_place(header, uid, result, "peak", HOTTEST_POINT, middle, []))
    return places


def _place(
    header: Dataset,
    uid: UID,
    result: Result,
    name: str,
    finding: Code,
    points: np.ndarray,
    sites: list[sr.FindingSite],
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    image = sr.SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID, frames_of(header))
    kind = sr.GraphicTypeValues.POINT if len(points) == 1 else sr.GraphicTypeValues.POLYLINE
    answer = sr.QualitativeEvaluation(FINDING_CONTEXT, ANSWERS[result.answer])
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(uid, name),
        referenced_region=sr.ImageRegion(kind, points, image),
        finding_type=finding,
        algorithm_id=_algorithm(result),
        finding_sites=sites or None,
        qualitative_evaluations=[answer] if finding == PNEUMONIA else None,
    )


def _outline(region: Region) -> np.ndarray:
    """The box's corners as (column, row), closed; float64 ``(5, 2)``."""
    left, top = region.x, region.y
    right, bottom = left + region.width, top + region.height
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return np.array(corners, np.float64)


def _site(region: Region) -> sr.FindingSite:
    side, third = region.zone.split()
    return sr.FindingSite(ZONES[third], laterality=SIDES[side])


# --- the person -----------------------------------------------------------------------------------


def _reading(
    header: Dataset, uid: UID, reading: Reading
) -> sr.MeasurementsAndQualitativeEvaluations:
    """What a person concluded, and made of the computer's answer."""
    asked, found = CONCLUSIONS[reading.conclusion]
    said = [sr.QualitativeEvaluation(asked, found)]
    if reading.agrees is not None:
        said.append(sr.QualitativeEvaluation(ASSESSMENT, ASSESSMENTS[reading.agrees]))
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(uid, "reading"),
        finding_type=PNEUMONIA
        if reading.conclusion in ("pneumonia", "no_pneumonia", "unsure")
        else None,
        qualitative_evaluations=said,
        source_images=[_source_of_group(header)],
    )
    group[0].ObservationDateTime = dt(reading.read_at)
    # TID 1501 is extensible; context given within a container holds there and below, instead of
    # the report's (PS3.3 C.17.5.1)
    for place, item in enumerate(_observer(reading)):
        group[0].ContentSequence.insert(place, item)
    return group


def _observer(reading: Reading) -> sr.ObserverContext:
    role = Code(reading.role, SCHEME, reading.role.replace("_", " ").capitalize())
    return sr.ObserverContext(
        observer_type=PERSON,
        observer_identifying_attributes=sr.PersonObserverIdentifyingAttributes(
            name=person_name(reading.reader),
            organization_name=reading.organization or None,
            role_in_organization=role,
        ),
    )
