"""Whose films a DICOMDIR lists: its records of patients, studies and series (PS3.3, F.5).

Read off the directory alone: to look into each film of a CD takes minutes.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.valuerep import DA

from app.cxr.dicom_tags import code, patient_name, text, values
from app.cxr.dicomdir import MOST_BYTES, MOST_FILES, Folder

_LEVELS = ("PATIENT", "STUDY", "SERIES")
Above = dict[str, Dataset]


@dataclass(frozen=True)
class ListedStudy:
    """A study on a medium and its films; what it leaves unsaid is empty.

    ``patient_name`` as it is read, without carets. ``modalities``: of its series, sorted.
    """

    films: tuple[Path, ...]
    patient_name: str = ""
    patient_id: str = ""
    study_uid: str = ""
    day: date | None = None
    description: str = ""
    modalities: tuple[str, ...] = ()


@dataclass
class _Found:
    above: Above
    films: dict[Path, None] = field(default_factory=dict)
    modalities: set[str] = field(default_factory=set)


def studies_of(dicomdir: Path, films: Collection[Path]) -> tuple[ListedStudy, ...]:
    """The studies that ``films``, as ``dicomdir.read_medium`` found them, belong to, in the order
    of the directory; raises whatever a damaged file makes pydicom raise.
    """
    with dicomdir.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    dataset = pydicom.dcmread(io.BytesIO(content), force=True)
    folder, wanted = Folder(dicomdir.parent), set(films)
    found: dict[tuple[str, ...], _Found] = {}
    for record, above in _with_those_above(values(dataset, "DirectoryRecordSequence")[:MOST_FILES]):
        parts = tuple(str(part).strip() for part in values(record, "ReferencedFileID"))
        path = folder.find(parts) if parts else None
        if path not in wanted or path is None:
            continue
        study = found.setdefault(_key(above), _Found(above))
        study.films[path] = None
        if modality := code(above.get("SERIES", Dataset()), "Modality"):
            study.modalities.add(modality)
    return tuple(_study(one) for one in found.values())


def _with_those_above(records: Sequence[Dataset]) -> Iterator[tuple[Dataset, Above]]:
    """Each record with the patient, study and series that it belongs to.

    By the offsets that link them; where these lead nowhere, by the order in the file.
    """
    parents = _parents(records)
    last: Above = {}
    for record in records:
        level = code(record, "DirectoryRecordType") or ""
        if level in _LEVELS:
            last = {name: last[name] for name in _LEVELS[: _LEVELS.index(level)] if name in last}
            last[level] = record
        yield record, _chain(record, parents) or dict(last)


def _chain(record: Dataset, parents: dict[int, Dataset]) -> Above:
    above: Above = {}
    for _ in _LEVELS:
        parent = parents.get(_at(record))
        if parent is None:
            break
        above[code(parent, "DirectoryRecordType") or ""] = record = parent
    return above if "PATIENT" in above else {}


def _parents(records: Sequence[Dataset]) -> dict[int, Dataset]:
    """The record above each, by the offset of the lower one; each is reached once."""
    by_offset = {_at(record): record for record in records}
    parents: dict[int, Dataset] = {}
    for record in records:
        below = _offset(record, "OffsetOfReferencedLowerLevelDirectoryEntity")
        while below in by_offset and below not in parents:
            parents[below] = record
            below = _offset(by_offset[below], "OffsetOfTheNextDirectoryRecord")
    return parents


def _at(record: Dataset) -> int:
    return int(getattr(record, "seq_item_tell", None) or 0)


def _offset(record: Dataset, keyword: str) -> int:
    found = record.get(keyword)
    return found if isinstance(found, int) else 0


def _key(above: Above) -> tuple[str, ...]:
    patient, study = above.get("PATIENT", Dataset()), above.get("STUDY", Dataset())
    told = (text(patient, "PatientID"), text(patient, "PatientName"))
    when = (text(study, "StudyInstanceUID"), text(study, "StudyDate"), text(study, "StudyID"))
    return tuple(word or "" for word in (*told, *when))


def _study(found: _Found) -> ListedStudy:
    patient = found.above.get("PATIENT", Dataset())
    study = found.above.get("STUDY", Dataset())
    return ListedStudy(
        films=tuple(found.films),
        patient_name=patient_name(patient) or "",
        patient_id=text(patient, "PatientID") or "",
        study_uid=text(study, "StudyInstanceUID") or "",
        day=_day(study),
        description=text(study, "StudyDescription") or "",
        modalities=tuple(sorted(found.modalities)),
    )


def _day(study: Dataset) -> date | None:
    try:
        found = DA(text(study, "StudyDate") or "")
    except ValueError:
        return None
    return date(found.year, found.month, found.day) if found else None
