"""Opened contributions, read strictly: the rows of ``open_readings`` and what their films are.

``labels.csv`` was written by this workshop, but of what a clinic's file said; whoever has the
public key can write one. A value of another form ends the reading.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from app.cxr.analysis import REFUSED, UNREADABLE, analyse
from app.cxr.contribution_format import CONCLUSIONS, SEXES, VIEWS, WHY, is_pseudonym
from app.cxr.model import Model
from app.cxr.radiograph import Radiograph, UnreadableFilm, read_radiograph, to_model_input
from model_export.datasets import films_under
from model_export.open_readings import AGE_IN_BAND, COLUMNS, plain

IMAGES, TABLE = "images", "labels.csv"
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
_ANSWERS = frozenset({"likely", "unlikely", "cannot_say"})

# Two films are held against each other by their edges at this size: what compression, another size
# and another exposure leave as it is, and what differs from chest to chest.
SMALL = 32


class NotMerged(Exception):
    """A folder that is no opened contribution; the text says why."""


@dataclass(frozen=True)
class Contributed:
    """A row of an opened contribution. ``values``: as ``open_readings`` wrote them."""

    folder: Path
    values: dict[str, str]

    @property
    def film(self) -> str:
        """The film's pseudonym, unique in its site."""
        return Path(self.values["file"]).stem

    @property
    def name(self) -> str:
        """A name among all sites."""
        return f"{self.site}-{self.film}"

    @property
    def site(self) -> str:
        """The clinic's pseudonym."""
        return self.values["site"]

    @property
    def patient(self) -> str:
        """The patient's pseudonym, the site before it."""
        return self.values["patient"]

    @property
    def label(self) -> str:
        """One of ``CONCLUSIONS``."""
        return self.values["label"]

    @property
    def age_years(self) -> float | None:
        """An age inside the band, None where nobody knows it."""
        return float(self.values["age"]) if self.values["age"] else None

    @property
    def path(self) -> Path:
        """Where the film lies."""
        return self.folder / IMAGES / self.values["file"]


@dataclass(frozen=True)
class Seen:
    """What the release in use says of a film, and what tells the film from others.

    ``reason``: why it cannot be learnt from, a code of the clinic's pipeline; else None and
    ``probability`` is known. ``pixels``: SHA-256 of shape and grey values. ``edges``: as
    ``edges_of``, all zero for a film that was not read.
    """

    probability: float | None
    reason: str | None
    pixels: str
    edges: np.ndarray


def read_opened(folder: Path) -> list[Contributed]:
    """The rows of a folder that ``open_readings`` made; raises NotMerged or OSError."""
    with (folder / TABLE).open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file, strict=True)
        if tuple(table.fieldnames or ()) != COLUMNS:
            raise NotMerged(f"{folder / TABLE} is no table of open-readings")
        rows = []
        for values in table:
            if odd := odd_values(values):
                raise NotMerged(f"{folder / TABLE}, line {table.line_num}: {', '.join(odd)}")
            rows.append(Contributed(folder, values))
    lacking = [row.path.name for row in rows if row.path.is_symlink() or not row.path.is_file()]
    if lacking:
        raise NotMerged(f"{folder / IMAGES} lacks {', '.join(lacking[:5])}")
    return rows


def odd_values(values: dict[str, str]) -> list[str]:
    """Columns of a row that hold what ``open_readings`` does not write."""
    if None in values or None in values.values():
        return ["a row of another length"]
    site, patient = values["site"], values["patient"]
    age = AGE_IN_BAND.get(values["age_band"])
    fits = {
        "file": values["file"].endswith(".png") and is_pseudonym(values["file"][:-4]),
        "site": is_pseudonym(site),
        "patient": patient.startswith(f"{site}-") and is_pseudonym(patient[len(site) + 1 :]),
        "study": is_pseudonym(values["study"]),
        "month": bool(_MONTH.fullmatch(values["month"])),
        "label": values["label"] in CONCLUSIONS,
        "age_band": values["age_band"] in AGE_IN_BAND,
        "age": values["age"] == ("" if age is None else str(age)),
        "sex": values["sex"] in SEXES | {""},
        "view": values["view"] in VIEWS | {""},
        "before_answer": values["before_answer"] in {"True", "False"},
        "answer": values["answer"] in _ANSWERS,
        "probability": _is_share(values["probability"]),
        "threshold": _is_share(values["threshold"]),
        "model": _is_plain(values["model"]),
        "signs": _is_plain(values["signs"]),
        "why": values["why"] in WHY,
    }
    return [name for name, fit in fits.items() if not fit]


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def _is_plain(text: str) -> bool:
    try:
        return plain(text) == text
    except ValueError:
        return False


def look_at(row: Contributed, model: Model) -> Seen:
    """Read, check and score a film as the clinic does, by the release in use."""
    found = analyse(row.path, model, row.age_years)
    if found.film is None or found.answer in {REFUSED, UNREADABLE}:
        return Seen(None, found.reason, "", np.zeros(SMALL * SMALL, np.float32))
    return Seen(found.probability, None, pixels_of(found.film), edges_of(found.film))


def pixels_of(film: Radiograph) -> str:
    """What only the very same picture shares, whatever file it is in."""
    shape = f"{film.pixels.shape}".encode()
    return hashlib.sha256(shape + film.pixels.tobytes()).hexdigest()


def edges_of(film: Radiograph) -> np.ndarray:
    """The Laplacian of the network's own input at SMALL pixels, float32 ``(SMALL * SMALL,)`` of
    length 1; 0 for a film without an edge.
    """
    grey = np.pad(to_model_input(film, SMALL)[0, :, :, 0], 1, mode="edge")
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    edges = (4 * grey[1:-1, 1:-1] - around).ravel()
    length = float(np.linalg.norm(edges))
    return np.asarray(edges / length if length else edges, np.float32)


def edges_under(folders: Sequence[Path]) -> np.ndarray:
    """``edges_of`` every film in folders that are used already: ``(films, SMALL * SMALL)``."""
    found = []
    paths = [path for folder in folders for path in films_under(folder)]
    for path in tqdm(paths, desc="reading known films", unit="film"):
        try:
            found.append(edges_of(read_radiograph(path)))
        except UnreadableFilm:
            continue
    return np.stack(found) if found else np.zeros((0, SMALL * SMALL), np.float32)
