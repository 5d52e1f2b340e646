"""The values that go into the objects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.cxr.analysis import CANNOT_SAY, LIKELY, UNLIKELY
from app.cxr.regions import Region

ANSWERS = (LIKELY, UNLIKELY, CANNOT_SAY)
CONCLUSIONS = ("pneumonia", "no_pneumonia", "unsure", "other", "not_usable")


class NotAddressable(ValueError):
    """Nothing can point at this object: ``code`` is ``no_identity`` (it lacks the UID of its study,
    series or instance) or ``no_image_class`` (its SOP class is none of the standard's images).
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Equipment:
    """This program where it stands, as the General Equipment module has it (PS3.3 C.7.5.1).

    ``uid`` is this installation's own: ``identity.uid_from`` of what no other has.
    """

    manufacturer: str
    model_name: str
    version: str
    uid: str
    institution: str = ""
    station: str = ""


@dataclass(frozen=True)
class Result:
    """What the model said of one film; ``regions`` and ``peak`` in pixels of the film as displayed.

    ``probability`` and ``threshold``: 0..1. ``age_band``: whose operating point was used.
    ``reason``: why no answer was given. ``analysed_at`` knows its offset from UTC.
    Raises ValueError for anything but one of ANSWERS, and for a time without an offset.
    """

    answer: str
    probability: float
    threshold: float
    age_band: str
    model_name: str
    model_version: str
    analysed_at: datetime
    regions: tuple[Region, ...] = ()
    peak: tuple[int, int] | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.answer not in ANSWERS:
            raise ValueError(f"no answer to report: {self.answer}")
        _check_aware(self.analysed_at)


@dataclass(frozen=True)
class Reading:
    """What a person found on the film, and whether that person accepts the computer's answer.

    ``reader``: the name as it is read. ``role``: a stable code. ``agrees``: None where it was not
    said. Raises ValueError for an unknown conclusion, no name, or a time without an offset.
    """

    conclusion: str
    agrees: bool | None
    reader: str
    role: str
    read_at: datetime
    organization: str = ""

    def __post_init__(self) -> None:
        if self.conclusion not in CONCLUSIONS:
            raise ValueError(f"no conclusion: {self.conclusion}")
        if not self.reader.strip():
            raise ValueError("a reading is somebody's")
        _check_aware(self.read_at)


@dataclass(frozen=True)
class Subject:
    """Whose film it is, for films that came without a DICOM header.

    ``study_uid``, ``series_uid``, ``film_uid``, ``study_id``: given by this clinic. ``taken_at``:
    when the film was taken or came in. ``birth_date``: YYYYMMDD. ``sex``: M, F or O. Empty is
    unknown.
    """

    study_uid: str
    series_uid: str
    film_uid: str
    taken_at: datetime
    study_id: str = ""
    patient_name: str = ""
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    birth_date: str = ""
    sex: str = ""
    age_years: float | None = None
    study_description: str = ""

    def __post_init__(self) -> None:
        _check_aware(self.taken_at)


def _check_aware(moment: datetime) -> None:
    if moment.utcoffset() is None:
        raise ValueError("a time without its offset from UTC says nothing elsewhere")
