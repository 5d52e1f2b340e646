"""Films with labels and patients, split by patient, decoded by the clinic's own reader."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from app.cxr.radiograph import read_radiograph, to_model_input

FILM_SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".dcm"})
POSITIVE_FOLDER = re.compile(r"pneumonia|opacity|positive|tb|tuberculosis|covid", re.IGNORECASE)
KERMANY_PNEUMONIA = re.compile(r"(person\d+)_(bacteria|virus)_\d+")
KERMANY_NORMAL = re.compile(r"((?:NORMAL2-)?IM-\d+)-")

# What contributions of clinics are as a source, and their two labels that can be learnt from.
CONTRIBUTIONS = "contributions"
POSITIVE, NEGATIVE = "pneumonia", "no_pneumonia"


@dataclass(frozen=True)
class LabelledFilm:
    """One film of a data set. ``label``: 1 pneumonia, 0 none. ``patient`` is unique in
    ``source``; ``site``: the clinic that sent it, of contributions.
    """

    path: Path
    label: int
    patient: str
    source: str
    age_years: float | None = None
    sex: str | None = None
    view: str | None = None
    kind: str | None = None
    site: str | None = None


def patient_of_kermany(name: str) -> tuple[str, str | None]:
    """Patient and kind (bacteria, virus, None) from a file name of Kermany et al. 2018.

    ``person7_virus_1`` and ``person7_bacteria_2`` count as one child: grouping too much costs a
    few films, grouping too little puts a child on both sides of a split.
    """
    if match := KERMANY_PNEUMONIA.match(name):
        return match[1], match[2]
    if match := KERMANY_NORMAL.match(name):
        return match[1], None
    raise ValueError(f"{name!r} is no file name of the Kermany set")


def load_kermany(root: Path) -> list[LabelledFilm]:
    """The children's set from ``root/{NORMAL,PNEUMONIA}``; ages are 1-5 years, not told by film."""
    films = []
    for label, folder in enumerate(("NORMAL", "PNEUMONIA")):
        for path in sorted((root / folder).iterdir()):
            patient, kind = patient_of_kermany(path.name)
            films.append(LabelledFilm(path, label, patient, "kermany", age_years=3.0, kind=kind))
    return films


def load_class_folders(root: Path) -> list[LabelledFilm]:
    """Any folder of two or more class folders; a name that speaks of disease is the positive class.

    Raises ValueError where no class or no film is found.
    """
    films = [
        LabelledFilm(path, int(bool(POSITIVE_FOLDER.search(folder.name))), path.stem, root.name)
        for folder in sorted(path for path in root.iterdir() if path.is_dir())
        for path in films_under(folder)
    ]
    if not films:
        raise ValueError(f"no films in class folders under {root}")
    return films


def load_labels_csv(
    root: Path,
    column: str,
    positive: Sequence[str],
    negative: Sequence[str],
    where: Sequence[tuple[str, str]] = (),
) -> list[LabelledFilm]:
    """``root/labels.csv`` with ``file``, ``patient`` and ``column``; other values are left out.

    ``where``: columns and texts that they must contain, to stay inside one draw. Raises ValueError
    for a column that is not there.
    """
    with (root / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in (column, *(name for name, _ in where)):
        if rows and name not in rows[0]:
            raise ValueError(f"labels.csv has no column {name!r}; it has {', '.join(rows[0])}")
    return [
        LabelledFilm(
            path=_image_path(root, row["file"]),
            label=int(row[column] in positive),
            patient=row.get("patient") or Path(row["file"]).stem,
            source=root.name,
            age_years=float(row["age"]) if row.get("age") else None,
            sex=row.get("sex") or None,
            view=row.get("view") or None,
            kind=row[column],
            site=row.get("site") or None,
        )
        for row in rows
        if (row[column] in positive or row[column] in negative)
        and all(text in (row[name] or "") for name, text in where)
    ]


def load_contributions(merged: Path) -> list[LabelledFilm]:
    """The films of ``model_export merge``. All are of one source, whatever the folder is called, so
    that no later merging moves a patient to another part of the split.
    """
    films = load_labels_csv(merged, "label", [POSITIVE], [NEGATIVE])
    return [replace(film, source=CONTRIBUTIONS) for film in films]


def _image_path(root: Path, name: str) -> Path:
    inside = root / "images" / name
    return inside if inside.exists() else root / name


def films_under(folder: Path) -> list[Path]:
    """Every film in a folder and the folders inside it, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in FILM_SUFFIXES)


def fold_of(film: LabelledFilm, folds: int = 10) -> int:
    """Which of ``folds`` parts a patient belongs to: a hash, so that new films move nobody."""
    digest = hashlib.sha256(f"{film.source}/{film.patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % folds


@dataclass(frozen=True)
class Split:
    """Films in three parts that share no patient."""

    train: list[LabelledFilm]
    validation: list[LabelledFilm]
    test: list[LabelledFilm]


def split_by_patient(films: Iterable[LabelledFilm]) -> Split:
    """80 % of the patients to train, 10 % to validate (early stopping, calibration), 10 % to
    test.
    """
    parts: tuple[list[LabelledFilm], list[LabelledFilm], list[LabelledFilm]] = ([], [], [])
    for film in films:
        parts[{8: 1, 9: 2}.get(fold_of(film), 0)].append(film)
    return Split(*parts)


def read_films(films: Sequence[LabelledFilm], size: int, what: str = "films") -> np.ndarray:
    """Decode through the clinic's reader: uint8 ``(count, size, size, 1)``."""
    return read_paths([film.path for film in films], size, what)


def read_paths(paths: Sequence[Path], size: int, what: str) -> np.ndarray:
    """As ``read_films``, of films without labels."""
    images = np.empty((len(paths), size, size, 1), np.uint8)
    for index, path in enumerate(tqdm(paths, desc=f"reading {what}", unit="film", leave=False)):
        images[index] = np.rint(to_model_input(read_radiograph(path), size)[0])
    return images
