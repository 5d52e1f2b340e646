"""What the tags of a DICOM object tell of a film; None where they leave it unsaid."""

from __future__ import annotations

import math
import re
from datetime import date
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import ConstrainedList


def value(dataset: Dataset, keyword: str) -> object:
    """A tag's first value, None where it is absent, empty, or nonsense."""
    found = values(dataset, keyword)
    return found[0] if found else None


def values(dataset: Dataset, keyword: str) -> list[Any]:
    """All values of a tag, or the items of a sequence; none where it is absent or nonsense."""
    try:
        found = dataset.get(keyword)
    except Exception:  # noqa: BLE001  pydicom converts on access, and raises anything
        return []
    if found is None:
        return []
    return list(found) if isinstance(found, (list, tuple, ConstrainedList)) else [found]


def text(dataset: Dataset, keyword: str) -> str | None:
    """A tag's first value as text without its padding, None where it is empty."""
    found = value(dataset, keyword)
    return str(found).replace("\0", "").strip() or None if found is not None else None


def code(dataset: Dataset, keyword: str) -> str | None:
    """A tag's first value in capitals, as coded strings are compared."""
    found = text(dataset, keyword)
    return found.upper() if found else None


def one_of(dataset: Dataset, keyword: str, allowed: tuple[str, ...]) -> str | None:
    """A coded string, None where it is none of those allowed."""
    found = code(dataset, keyword)
    return found if found in allowed else None


def real(dataset: Dataset, keyword: str) -> float | None:
    """A tag's first value as a finite number, None where it is no such."""
    try:
        found = float(str(value(dataset, keyword)))
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def number(dataset: Dataset, keyword: str) -> int | None:
    """`real`, cut to a whole number."""
    found = real(dataset, keyword)
    return None if found is None else int(found)


def patient_name(dataset: Dataset) -> str | None:
    """The patient's name as it is read: family, given and other names, without the carets."""
    stated = text(dataset, "PatientName") or ""
    groups = [" ".join(group.replace("^", " ").split()) for group in stated.split("=")]
    return next((group for group in groups if group), None)


def view_position(dataset: Dataset) -> str | None:
    """View position; where it is empty, what the view code or the patient orientation tells of it.

    Free text (series description, protocol name) is never asked: units leave it at any setting.
    """
    stated = code(dataset, "ViewPosition")
    if stated:
        return stated
    items = values(dataset, "ViewCodeSequence")
    coded = _VIEWS.get(text(items[0], "CodeValue") or "") if items else None
    return coded or _view_by_orientation(dataset)


def _view_by_orientation(dataset: Dataset) -> str | None:
    """PS3.3 C.7.6.1.1.1: rows that run front to back, head and feet below each other, are seen from
    the side. Rows that run from side to side do not tell PA from AP.
    """
    along, down = [*map(str, values(dataset, "PatientOrientation")), "", ""][:2]
    return "LATERAL" if along[:1] in ("A", "P") and down[:1] in ("F", "H") else None


# PS3.16 CID 4010: SNOMED CT and the SNOMED RT codes it replaced
_VIEWS = {
    "399348003": "AP",
    "R-10206": "AP",
    "272479007": "PA",
    "R-40888": "PA",
    "R-10214": "PA",
    "399198007": "RL",
    "R-10232": "RL",
    "399173006": "LL",
    "R-10236": "LL",
    "399067008": "LATERAL",
    "R-102CD": "LATERAL",
}

_DAYS = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}
_OLDEST = 120


def age_years(dataset: Dataset) -> float | None:
    """Age at the study: what is stated, else from the date of birth; None rather than a guess.

    An age of zero is what anonymisers leave behind, and a film read with the wrong age band is
    worse than one read with none.
    """
    return _stated_age(code(dataset, "PatientAge")) or _age_from_dates(dataset)


def _stated_age(stated: str | None) -> float | None:
    """PS3.5 6.2, AS: 018M. A bare number means years, as many archives write it."""
    match = re.fullmatch(r"(\d{1,3})\s*([DWMY]?)", stated or "", re.ASCII)
    if match is None:
        return None
    years = round(int(match[1]) * _DAYS[match[2] or "Y"] / 365.25, 3)
    return years if 0 < years <= _OLDEST else None


def _age_from_dates(dataset: Dataset) -> float | None:
    born = _date(dataset, "PatientBirthDate")
    seen = next(filter(None, (_date(dataset, name) for name in _STUDY_DATES)), None)
    if born is None or seen is None:
        return None
    years = round((seen - born).days / 365.25, 3)
    return years if 0 < years <= _OLDEST else None


_STUDY_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")


def _date(dataset: Dataset, keyword: str) -> date | None:
    stated = (text(dataset, keyword) or "").replace(".", "").replace("-", "")
    try:
        return date(int(stated[:4]), int(stated[4:6]), int(stated[6:8]))
    except ValueError:
        return None


# PS3.3 C.8.11.1.1.1: "for processing" is what the unit has measured, not what people are shown.
_RAW = "1.2.840.10008.5.1.4.1.1.1.1.1"  # Digital X-Ray Image Storage - For Processing


def is_raw(dataset: Dataset) -> bool:
    """Whether these are values for processing that nobody has said how to show.

    Units are met that label films ready to be read so; those come with a window or a VOI LUT.
    """
    intent = code(dataset, "PresentationIntentType")
    if intent != "FOR PROCESSING" and (intent or text(dataset, "SOPClassUID") != _RAW):
        return False
    window = real(dataset, "WindowCenter"), real(dataset, "WindowWidth")
    return None in window and not values(dataset, "VOILUTSequence")
