"""Who and what an object is about: UIDs, times, and what is taken over from the source."""

from __future__ import annotations

import re
import uuid
from datetime import date, datetime, timedelta, timezone

from pydicom.dataset import Dataset
from pydicom.uid import UID

from app.cxr.dicom_out.said import Equipment, NotAddressable

UTF_8 = "ISO_IR 192"
# PS3.5 B.2: a UID under 2.25 is a UUID, and needs no root that somebody would have to look after.
# A UUID of version 5 is the digest of a name in a namespace; this is the namespace of this program.
_NAMESPACE = uuid.UUID("7e67a40a-8e47-4468-9064-2efa65cdb0c0")

# PS3.3 C.7.1.1, C.7.2.1 and C.7.2.2. Neither comments nor addresses nor other names: what the
# archive does not need to find the patient and the study stays where it is.
_TEXTS = (
    "PatientName",
    "PatientID",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
_OPTIONAL_TEXTS = ("IssuerOfPatientID", "StudyDescription")
_OFFSET = re.compile(r"([+-])(0\d|1[0-4])([0-5]\d)", re.ASCII)
_TIME = re.compile(r"([01]\d|2[0-3])(([0-5]\d)(([0-5]\d|60)(\.\d{1,6})?)?)?", re.ASCII)
_AGE = re.compile(r"\d{3}[DWMY]", re.ASCII)
_NOT_IN_TEXT = re.compile(r"[\x00-\x1f\x7f\\]")


def uid_from(*parts: str) -> UID:
    """The UID that belongs to these words: the same words give the same UID, everywhere.

    Two clinics must not get one UID for two things, so the parts name what is this clinic's alone,
    or hold a UID that does.
    """
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(parts)).int}")


def header_of(source: Dataset) -> Dataset:
    """What other objects of the study need to know of an image, in UTF-8; raises NotAddressable.

    Values that break their own rules are left out; names and numbers by which people are found are
    kept as they are. ``Rows``, ``Columns``, ``NumberOfFrames`` only where they are given.
    """
    header = Dataset()
    header.SpecificCharacterSet = UTF_8
    for keyword in (*_TEXTS, *_OPTIONAL_TEXTS):
        text = value(source, keyword)
        if text or keyword in _TEXTS:
            setattr(header, keyword, text)
    header.PatientBirthDate = _date(value(source, "PatientBirthDate"))
    sex = value(source, "PatientSex")
    header.PatientSex = sex if sex in ("M", "F", "O") else ""
    age = value(source, "PatientAge")
    if _AGE.fullmatch(age):
        header.PatientAge = age
    header.StudyDate = _date(value(source, "StudyDate"))
    header.StudyTime = _time(value(source, "StudyTime"))
    if offset_of(source) is not None:
        header.TimezoneOffsetFromUTC = value(source, "TimezoneOffsetFromUTC")
    _add_reference(header, source)
    return header


def _add_reference(header: Dataset, source: Dataset) -> None:
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        uid = value(source, keyword)
        if not uid:
            raise NotAddressable("no_identity")
        setattr(header, keyword, uid)
    for keyword in ("Rows", "Columns", "NumberOfFrames"):
        number = value(source, keyword)
        if number.isdecimal() and int(number):
            setattr(header, keyword, int(number))


def value(source: Dataset, keyword: str) -> str:
    """A source's first value as text without control characters; empty where there is none."""
    try:
        found = source.get(keyword)
    except Exception:  # noqa: BLE001  pydicom converts on access, and raises anything
        return ""
    if isinstance(found, (list, tuple)) or type(found).__name__ == "MultiValue":
        found = found[0] if len(found) else None
    return "" if found is None else _NOT_IN_TEXT.sub("", str(found)).strip()


def _date(text: str) -> str:
    digits = text.replace(".", "")
    try:
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return ""
    return digits if len(digits) == 8 and digits.isdecimal() else ""


def _time(text: str) -> str:
    return text if _TIME.fullmatch(text) else ""


# --- the new object -------------------------------------------------------------------------------


def frames_of(header: Dataset) -> list[int] | None:
    """The frame that was read, for references; None where there is but one."""
    return [1] if header.get("NumberOfFrames", 1) > 1 else None


def offset_of(source: Dataset) -> timezone | None:
    """In which time zone an object's dates and times are; None where it does not say."""
    match = _OFFSET.fullmatch(value(source, "TimezoneOffsetFromUTC"))
    if match is None:
        return None
    span = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-span if match[1] == "-" else span)


def local(moment: datetime, source: Dataset) -> datetime:
    """A moment on the clock of the study: all dates and times of an object are of one time zone.

    Where the source does not name it, the moment's own is taken and none is named.
    """
    return moment.astimezone(offset_of(source)) if offset_of(source) else moment


def add_series(made: Dataset, number: int, description: str, at: datetime) -> None:
    """The General Series module of a series that holds this one object (PS3.3 C.7.3.1)."""
    made.SeriesInstanceUID = uid_from("series", made.SOPInstanceUID)
    made.SeriesNumber = number
    made.SeriesDescription = description
    made.SeriesDate, made.SeriesTime = da(at), tm(at)
    made.InstanceNumber = 1


def add_equipment(made: Dataset, equipment: Equipment) -> None:
    """The General Equipment module (PS3.3 C.7.5.1)."""
    made.Manufacturer = equipment.manufacturer
    made.ManufacturerModelName = equipment.model_name
    made.SoftwareVersions = equipment.version
    if equipment.institution:
        made.InstitutionName = equipment.institution
    if equipment.station:
        made.StationName = equipment.station


def da(at: datetime) -> str:
    """The date as a value of VR DA."""
    return at.strftime("%Y%m%d")


def tm(at: datetime) -> str:
    """The time as a value of VR TM."""
    return at.strftime("%H%M%S")


def person_name(name: str) -> str:
    """A name as it is read as a value of VR PN: which part of it is which, nobody entered, so it
    stands as the family name complex. The caret tells it from the names of before 1993.
    """
    plain = " ".join(re.sub(r"[\^=\\\x00-\x1f]", " ", name).split())
    return f"{plain}^" if plain else ""


def dt(at: datetime) -> str:
    """Both, with the offset from UTC, as a value of VR DT."""
    return at.strftime("%Y%m%d%H%M%S%z")
