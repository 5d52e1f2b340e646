"""Contributions as ``open-readings`` leaves them, with drawn films that differ as people do."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from model_export.open_readings import AGE_IN_BAND, COLUMNS
from model_export.phantom import chest_film

SIZE = (256, 224)
#: Greys that the tiny release is sure of: bright is pneumonia.
BRIGHT, DARK = 185.0, 55.0


def person(seed: int, grey: float | None = None, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A drawn film, uint8, of somebody with a build of their own; ``grey``: its mean."""
    coarse = np.random.default_rng(seed).normal(0, 45, (16, 14)).astype(np.float32)
    build = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
    film = chest_film(seed, size).astype(np.float64) + np.asarray(build)
    if grey is not None:
        for _ in range(8):  # what is cut off at black and white moves the mean
            film = np.clip(film, 0, 255) + grey - np.clip(film, 0, 255).mean()
    return np.clip(film, 0, 255).astype(np.uint8)


def code(*words: object) -> str:
    """A pseudonym."""
    return hashlib.sha256(" ".join(map(str, words)).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Sent:
    """A film of a contribution. ``who``: the patient; ``picture``: bytes instead of a drawn one."""

    who: int
    label: str
    grey: float | None = None
    picture: bytes | None = None
    number: int = 0
    band: str = "under_5"
    sex: str = "F"


def sick(who: int, **more: object) -> Sent:
    return Sent(who, "pneumonia", **{"grey": BRIGHT, **more})  # type: ignore[arg-type]


def clear(who: int, **more: object) -> Sent:
    return Sent(who, "no_pneumonia", **{"grey": DARK, **more})  # type: ignore[arg-type]


def name_of(site: str, one: Sent) -> str:
    """What a film is called after merging, ``site-film``."""
    return f"{code(site)}-{code(site, one.who, one.number)}"


def opened(folder: Path, clinic: str, films: Iterable[Sent], **values: str) -> Path:
    """An opened contribution of a clinic; ``values`` go into every row."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for one in films:
        file = f"{code(clinic, one.who, one.number)}.png"
        path = folder / "images" / file
        if one.picture is None:
            Image.fromarray(person(one.who, one.grey)).save(path)
        else:
            path.write_bytes(one.picture)
        row = {
            "file": file,
            "patient": f"{code(clinic)}-{code(clinic, 'patient', one.who)}",
            "study": code(clinic, "study", one.who),
            "site": code(clinic),
            "month": "2025-03",
            "label": one.label,
            "age": AGE_IN_BAND[one.band],
            "age_band": one.band,
            "sex": one.sex,
            "view": "PA",
            "before_answer": False,
            "answer": "likely",
            "probability": 0.9,
            "threshold": 0.5,
            "model": "tiny@1.0.0",
            "signs": "",
            "why": "other",
        }
        rows.append(row | values)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as written:
        table = csv.DictWriter(written, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    return folder
