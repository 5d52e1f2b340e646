"""Whose films a DICOMDIR lists, as its records and their links say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from app.cxr.dicomdir import read_medium
from app.cxr.dicomdir_studies import ListedStudy, studies_of

PATIENT = {"PatientName": "Okello^Grace", "PatientID": "P-77"}
STUDY = {"StudyInstanceUID": "1.2.3", "StudyDate": "20261101", "StudyDescription": "Thorax"}


def record(kind: str, **values: Any) -> Dataset:
    found = Dataset()
    found.OffsetOfTheNextDirectoryRecord = 0
    found.RecordInUseFlag = 0xFFFF
    found.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    found.DirectoryRecordType = kind
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def image(name: str) -> Dataset:
    return record("IMAGE", ReferencedFileID=name)


def written(folder: Path, *records: Dataset) -> Path:
    """A directory without links, and the films that it names."""
    whole = Dataset()
    whole.DirectoryRecordSequence = list(records)
    whole.file_meta = FileMetaDataset()
    whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    whole.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    whole.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    for one in records:
        if "ReferencedFileID" in one:
            (folder / str(one.ReferencedFileID)).touch()
    path = folder / "DICOMDIR"
    whole.save_as(path, enforce_file_format=True)
    return path


def listed(path: Path) -> tuple[ListedStudy, ...]:
    return studies_of(path, read_medium(path).films)


def test_without_links_the_order_of_the_records_tells(tmp_path):
    path = written(
        tmp_path,
        record("PATIENT", **PATIENT),
        record("STUDY", **STUDY),
        record("SERIES", Modality="DX"),
        image("A"),
        record("SERIES", Modality="CR"),
        image("B"),
        record("PATIENT", PatientName="Nakato^Mary", PatientID="P-9"),
        record("STUDY", StudyInstanceUID="1.2.4"),
        record("SERIES", Modality="CR"),
        image("C"),
    )
    first, second = listed(path)
    assert (first.patient_name, first.patient_id) == ("Okello Grace", "P-77")
    assert first.films == (tmp_path / "A", tmp_path / "B")
    assert first.modalities == ("CR", "DX")
    assert (second.patient_name, second.films) == ("Nakato Mary", (tmp_path / "C",))


@pytest.mark.parametrize("missing", ["PATIENT", "STUDY", "SERIES"])
def test_a_level_that_is_left_out_loses_no_film(tmp_path, missing):
    above = [
        record("PATIENT", **PATIENT),
        record("STUDY", **STUDY),
        record("SERIES", Modality="CR"),
    ]
    kept = [one for one in above if one.DirectoryRecordType != missing]
    [study] = listed(written(tmp_path, *kept, image("A")))
    assert study.films == (tmp_path / "A",)
    assert bool(study.patient_id) is (missing != "PATIENT")


def test_films_alone_are_of_a_study_that_nobody_knows(tmp_path):
    path = written(tmp_path, image("A"), image("B"))
    assert listed(path) == (ListedStudy((tmp_path / "A", tmp_path / "B")),)


@pytest.mark.parametrize("day", ["", "2026", "20261340", "nonsense"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_day_that_is_none_is_unknown(tmp_path, day):
    study = record("STUDY", **(STUDY | {"StudyDate": day}))
    [found] = listed(written(tmp_path, record("PATIENT", **PATIENT), study, image("A")))
    assert found.day is None
    assert found.study_uid == "1.2.3"


def test_links_that_lead_in_a_circle_end(tmp_path):
    patient, study = record("PATIENT", **PATIENT), record("STUDY", **STUDY)
    path = written(tmp_path, patient, study, image("A"))
    whole = dcmread(path)
    places = [one.seq_item_tell for one in whole.DirectoryRecordSequence]
    for one in whole.DirectoryRecordSequence:
        one.OffsetOfTheNextDirectoryRecord = places[0]
        one.OffsetOfReferencedLowerLevelDirectoryEntity = places[1]
    whole.save_as(path)
    [found] = listed(path)
    assert found.films == (tmp_path / "A",)


def test_a_film_that_was_not_asked_for_is_left_out(tmp_path):
    path = written(tmp_path, record("PATIENT", **PATIENT), image("A"), image("B"))
    [study] = studies_of(path, [tmp_path / "B"])
    assert study.films == (tmp_path / "B",)
