"""Which object a DICOM file is, read off its header alone: before it is stored, nothing decoded."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

_PREAMBLE = 128
_PREFIX = b"DICM"
_UID = re.compile(r"[0-9]+(\.[0-9]+)+", re.ASCII)
_LONGEST_UID = 64  # PS3.5, 9.1
_LONGEST_ACCESSION = 16  # PS3.5, 6.2: SH
_TAGS: list[str] = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "AccessionNumber",
]


@dataclass(frozen=True)
class Identity:
    """What an object calls itself and what it belongs to; empty where the header does not say.

    ``sop_class_uid`` (0008,0016), ``sop_instance_uid`` (0008,0018), ``study_uid`` (0020,000D),
    ``series_uid`` (0020,000E), ``accession_number`` (0008,0050).
    """

    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_uid: str = ""
    series_uid: str = ""
    accession_number: str = ""


def read_identity(source: Path | bytes) -> Identity:
    """The identity of a file; an empty one where it is no DICOM file or says nothing usable."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            if file.read(_PREAMBLE + len(_PREFIX))[_PREAMBLE:] != _PREFIX:
                return Identity()
            meta = read_dataset(file, False, True, stop_when=_is_past_meta_information)
            # To look into a deflated one is to inflate it, to whatever size it has
            if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                return Identity()
            file.seek(0)
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
        return identity_of(header)
    except Exception:  # noqa: BLE001 - whatever is wrong with the file, its analysis will say it
        return Identity()


def _is_past_meta_information(tag: int, _vr: str | None, _length: int) -> bool:
    return tag >> 16 != 2  # PS3.10, 7.1


def identity_of(header: Dataset) -> Identity:
    """The identity that a data set gives itself."""
    return Identity(
        sop_class_uid=_uid(header, "SOPClassUID"),
        sop_instance_uid=_uid(header, "SOPInstanceUID"),
        study_uid=_uid(header, "StudyInstanceUID"),
        series_uid=_uid(header, "SeriesInstanceUID"),
        accession_number=_text(header, "AccessionNumber"),
    )


def is_uid(value: str) -> bool:
    """Whether it is a UID (PS3.5, 9.1), and so nothing else: no path, no words."""
    return len(value) <= _LONGEST_UID and bool(_UID.fullmatch(value))


def _uid(header: Dataset, keyword: str) -> str:
    value = str(header.get(keyword) or "").strip("\0 ")
    return value if is_uid(value) else ""


def _text(header: Dataset, keyword: str) -> str:
    value = " ".join(str(header.get(keyword) or "").split())
    return value if len(value) <= _LONGEST_ACCESSION and value.isprintable() else ""
