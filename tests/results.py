"""Films of every make, and what was said of them, for the objects that tell it on."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from app.cxr.dicom_out.identity import uid_from
from app.cxr.dicom_out.said import Equipment, Reading, Result, Subject
from app.cxr.regions import Region
from tests.films import dataset

HERE = timezone(timedelta(hours=5, minutes=30))
EQUIPMENT = Equipment(
    manufacturer="Chest film reader",
    model_name="Chest film reader",
    version="0.1.0",
    uid=uid_from("a clinic of the tests"),
    institution="Clinic at the river",
    station="LAPTOP",
)
DESCRIPTION = "Pneumonia: suggestion of the computer"
LOWER = Region(60, 150, 90, 80, "right lower", 0.8)
MIDDLE = Region(180, 120, 40, 50, "left middle", 0.6)
FILM = np.arange(300 * 256, dtype=np.uint32).reshape(300, 256).astype(np.uint8)

SOP_CLASSES = {
    "CR": ComputedRadiographyImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
    "OT": SecondaryCaptureImageStorage,
    "XC": MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
}


def source(modality: str = "CR", **elements: Any) -> Dataset:
    """A film as a unit sends it; None removes an element."""
    usual: dict[str, Any] = {
        "SOPClassUID": SOP_CLASSES[modality],
        "Modality": modality,
        "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.7",
        "StudyDate": "20261101",
        "StudyTime": "101500",
        "StudyID": "S-4",
        "AccessionNumber": "A-9",
        "ReferringPhysicianName": "Okello^Jane",
        "StudyDescription": "Chest PA",
        "PatientBirthDate": "19800105",
        "PatientSex": "F",
        "PatientAge": "046Y",
        "IssuerOfPatientID": "RIVER",
    }
    if modality == "XC":
        usual["NumberOfFrames"] = 3
    made = dataset(FILM)
    for keyword, value in (usual | elements).items():
        if value is not None:
            setattr(made, keyword, value)
        elif keyword in made:
            delattr(made, keyword)
    return made


def result(**changes: Any) -> Result:
    """A likely pneumonia in two places, as far as it is not changed."""
    usual: dict[str, Any] = {
        "answer": "likely",
        "probability": 0.9312,
        "threshold": 0.41,
        "age_band": "15_64",
        "model_name": "pneumonia-lite",
        "model_version": "1.2.0",
        "analysed_at": datetime(2026, 11, 1, 10, 20, 3, tzinfo=HERE),
        "regions": (LOWER, MIDDLE),
        "peak": (100, 190),
    }
    return Result(**usual | changes)


UNLIKELY = result(answer="unlikely", probability=0.04, regions=())
CANNOT_SAY = result(
    answer="cannot_say", probability=0.42, regions=(LOWER,), reason="near_the_threshold"
)


def reading(**changes: Any) -> Reading:
    """A clinician who sees pneumonia too, as far as it is not changed."""
    usual: dict[str, Any] = {
        "conclusion": "pneumonia",
        "agrees": True,
        "reader": "Dr Asha Rao",
        "role": "clinician",
        "read_at": datetime(2026, 11, 1, 11, 0, tzinfo=HERE),
        "organization": "Clinic at the river",
    }
    return Reading(**usual | changes)


def subject(**changes: Any) -> Subject:
    """Whose film a photograph shows."""
    usual: dict[str, Any] = {
        "study_uid": uid_from("a clinic of the tests", "study", "17"),
        "series_uid": uid_from("a clinic of the tests", "series", "17"),
        "film_uid": uid_from("a clinic of the tests", "film", "17"),
        "taken_at": datetime(2026, 11, 1, 9, 0, tzinfo=HERE),
        "study_id": "17",
        "patient_name": "Amina Diallo",
        "patient_id": "P-3",
        "birth_date": "20240501",
        "sex": "F",
        "age_years": 2.5,
    }
    return Subject(**usual | changes)


#: What a film's header may be, each under the words that a failed test shows.
SOURCES: dict[str, Dataset] = {
    "CR": source(),
    "DX with spacing": source("DX", ImagerPixelSpacing=[0.14, 0.14], PatientOrientation=["L", "F"]),
    "secondary capture": source("OT"),
    "several frames": source("XC"),
    "Hindi": source(PatientName="शर्मा^राम", SpecificCharacterSet="ISO_IR 192"),
    "Arabic": source(PatientName="ديالو^أمينة=...", SpecificCharacterSet="ISO_IR 192"),
    "Latin 1": source(PatientName="Gonçalves^José", SpecificCharacterSet="ISO_IR 100"),
    "bare": source(
        **dict.fromkeys(
            [
                "StudyDate",
                "StudyTime",
                "StudyID",
                "AccessionNumber",
                "ReferringPhysicianName",
                "StudyDescription",
                "PatientBirthDate",
                "PatientSex",
                "PatientAge",
                "IssuerOfPatientID",
                "PatientName",
                "PatientID",
            ]
        )
    ),
    "time zone": source(TimezoneOffsetFromUTC="+0300"),
    "rules broken": source(
        PatientBirthDate="unknown",
        PatientSex="X",
        PatientAge="46",
        StudyDate="2026.11.01",
        StudyTime="10:15",
        TimezoneOffsetFromUTC="EAT",
        PatientOrientation=["L"],
        ImagerPixelSpacing="",
    ),
    "lossy": source(LossyImageCompression="01"),
}
