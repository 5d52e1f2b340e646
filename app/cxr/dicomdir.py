"""DICOM media, as on the CD or stick that a hospital hands out: the films that a DICOMDIR lists.

PS3.3 annex F and PS3.10 chapter 8. Media are met whose names do not have the case that the
DICOMDIR writes, or carry the version of ISO 9660 (";1"), and whose DICOMDIR is damaged or lists
what was never burnt: what can be found is found, and the rest is told.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import MediaStorageDirectoryStorage

from app.cxr.dicom_tags import code, text, values

# Clinics' media break rules of their VRs; they are read as far as they make sense.
config.settings.reading_validation_mode = config.IGNORE

NAME = "DICOMDIR"
# Records that stand for a picture (PS3.3 F.4); media list reports and presentations beside them.
_PICTURES = ("IMAGE",)
# A CD holds some thousands of files; a stick pulled into this by mistake may hold millions.
MOST_FILES = 100_000
MOST_BYTES = 64 << 20
_UNDEFINED_LENGTH = 0xFFFFFFFF


@dataclass(frozen=True)
class Medium:
    """What there is on a medium.

    ``films``: files that exist, in the order of the directory, each once. ``missing``: files that
    it lists and that are not there, as it names them. ``is_damaged``: the directory could not be
    read, so ``films`` are all files of its folder in sorted order, hidden ones left out.
    """

    films: tuple[Path, ...]
    missing: tuple[str, ...] = ()
    is_damaged: bool = False


def is_dicomdir(path: Path) -> bool:
    """Whether a file is called DICOMDIR, in any case, with or without ";1"."""
    return _plain(path.name) == NAME.lower()


def films_of(dicomdir: Path) -> list[Path]:
    """The pictures that a DICOMDIR lists and that exist, else all files beside and below it."""
    return list(read_medium(dicomdir).films)


def read_medium(dicomdir: Path) -> Medium:
    """What the DICOMDIR at a path lists; raises nothing, whatever is in the file."""
    try:
        listed = _listed(dicomdir)
    except Exception:  # noqa: BLE001  pydicom raises anything on a damaged file
        listed = []
    if not listed:
        return Medium(tuple(_all_files(dicomdir)), is_damaged=True)
    folder = Folder(dicomdir.parent)
    films: dict[Path, None] = {}
    missing = []
    for parts in listed:
        found = folder.find(parts)
        if found is None:
            missing.append("/".join(parts))
        else:
            films[found] = None
    return Medium(tuple(films), tuple(missing))


def _listed(dicomdir: Path) -> list[tuple[str, ...]]:
    """The file IDs of the pictures, as parts of a path."""
    with dicomdir.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        return []
    dataset = pydicom.dcmread(io.BytesIO(content), force=True)
    stated = text(dataset.file_meta, "MediaStorageSOPClassUID")
    if stated not in (None, MediaStorageDirectoryStorage):
        return []
    raw: object = dataset.get_item("DirectoryRecordSequence")
    if isinstance(raw, RawDataElement) and len(raw.value or b"") < raw.length < _UNDEFINED_LENGTH:
        return []  # cut short
    records = values(dataset, "DirectoryRecordSequence")[:MOST_FILES]
    return [parts for record in records if (parts := _file_id(record))]


def _file_id(record: Dataset) -> tuple[str, ...]:
    """A record's file as parts of a path; none where it is no picture or leaves the medium."""
    if code(record, "DirectoryRecordType") not in _PICTURES:
        return ()
    parts = tuple(str(part).strip() for part in values(record, "ReferencedFileID"))
    # PS3.10 8.5: letters, digits and underscores, so nothing that climbs out of the folder
    outside = any(part in ("", ".", "..") or set(part) & set("/\\:\0") for part in parts)
    return () if outside else parts


class Folder:
    """A medium's folder, in which files are found whatever the case of their names."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listings: dict[Path, dict[str, Path]] = {}

    def find(self, parts: tuple[str, ...]) -> Path | None:
        """The file under these names, None where there is none or it lies outside the medium."""
        place = self._root
        for part in parts:
            found = self._listing(place).get(_plain(part))
            if found is None or found.is_symlink():
                return None
            place = found
        return place if place.is_file() else None

    def _listing(self, folder: Path) -> dict[str, Path]:
        if folder not in self._listings:
            try:
                entries = sorted(folder.iterdir())
            except OSError:
                entries = []
            self._listings[folder] = {_plain(entry.name): entry for entry in entries}
        return self._listings[folder]


def _plain(name: str) -> str:
    """A name as it is compared: without case, ISO 9660's version, and the dot it leaves behind."""
    return name.lower().partition(";")[0].rstrip(".")


def _all_files(dicomdir: Path) -> list[Path]:
    """Every file of the folder but the directory itself, hidden ones and links left out."""
    found: list[Path] = []
    waiting = [dicomdir.parent]
    while waiting and len(found) < MOST_FILES:
        try:
            entries = sorted(waiting.pop().iterdir(), reverse=True)
        except OSError:
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.is_symlink():
                continue
            if entry.is_dir():
                waiting.append(entry)
            elif entry.is_file() and not is_dicomdir(entry):
                found.append(entry)
    return sorted(found)
