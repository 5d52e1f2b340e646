"""Decrypt a clinic's contribution into films and ``labels.csv``; docs/contributions.md.

    python -m model_export open-readings FILE --key readings.key --out DIR
    python -m model_export evaluate --release assets/release --data DIR --label-column label \
        --positive pneumonia --negative no_pneumonia --json out.json

Whoever has the public key can write such a file: nothing in it is believed, and no name of it is
used for a path that is not of the form of a pseudonym.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyrage

from app.cxr.contribution_format import (
    ABOUT,
    CONCLUSIONS,
    FORMAT,
    LARGEST_FILM,
    LARGEST_TEXT,
    RECORDS,
    SEXES,
    VIEWS,
    film_member,
    is_pseudonym,
)
from app.cxr.deidentify import LONGEST_SIDE
from app.cxr.radiograph import UnreadableFilm, read_radiograph
from model_export.publisher import CannotSign, ask
from model_export.readings_key import unlock

#: An age inside each band, for ``evaluate`` to find the operating point by; nobody's own.
AGE_IN_BAND = {"under_5": 2.5, "5_14": 10.0, "15_64": 40.0, "65_and_over": 70.0, "unknown": None}
COLUMNS = (
    "file", "patient", "study", "site", "month", "label", "age", "age_band", "sex", "view",
    "before_answer", "answer", "probability", "threshold", "model", "signs", "why",
)  # fmt: skip


class NotOpened(Exception):
    """The file is no contribution that can be used; the text says why."""


def open_readings(path: Path, identity: pyrage.x25519.Identity, out: Path) -> int:
    """Write films and ``labels.csv`` into a folder that is not there yet; how many films.

    Raises NotOpened or OSError; the folder is whole then or not there.
    """
    if out.exists():
        raise NotOpened(f"{out} is there already")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=out.name) as folder:
        with tempfile.TemporaryFile(dir=out.parent) as plain:
            try:
                with path.open("rb") as sealed:
                    pyrage.decrypt_io(sealed, plain, [identity])
            except (pyrage.DecryptError, OSError) as error:
                # pyrage tells a changed byte as an OSError
                raise NotOpened(f"it is damaged or encrypted to another key ({error})") from error
            rows = _unpack(plain, Path(folder) / "whole")
        shutil.move(Path(folder) / "whole", out)
    return rows


def _unpack(plain: IO[bytes], folder: Path) -> int:
    (folder / "images").mkdir(parents=True)
    try:
        with zipfile.ZipFile(plain) as archive:
            about = json.loads(_member(archive, ABOUT, LARGEST_TEXT))
            if about["format"] != FORMAT or not is_pseudonym(about["site"]):
                raise NotOpened("its format is not known here")
            rows = list(_rows(archive, str(about["site"]), folder))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise NotOpened("what is encrypted in it is damaged") from error
    except (ValueError, KeyError, TypeError, IndexError, UnreadableFilm) as error:
        raise NotOpened("what is encrypted in it is no contribution") from error
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    return len(rows)


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    if archive.getinfo(name).file_size > limit:
        raise NotOpened(f"{name} is too large")
    try:
        return archive.read(name)
    except OSError as error:  # an offset before the beginning of the file
        raise NotOpened("what is encrypted in it is damaged") from error


def _rows(archive: zipfile.ZipFile, site: str, folder: Path) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for line in _member(archive, RECORDS, LARGEST_TEXT).decode("ascii").splitlines():
        record = json.loads(line)
        names = [record[one] for one in ("film", "study", "patient")]
        if not all(map(is_pseudonym, names)) or names[0] in seen:
            raise NotOpened("a film has no name of its own")
        seen.add(names[0])
        film = _member(archive, film_member(names[0]), LARGEST_FILM)
        pixels = read_radiograph(film).pixels
        if max(pixels.shape) > LONGEST_SIDE:
            raise NotOpened("a film is too large")
        (folder / "images" / f"{names[0]}.png").write_bytes(film)
        yield _row(record, site)


def _row(record: dict[str, Any], site: str) -> dict[str, Any]:
    label = label_of(record["readings"])
    finding = record["finding"]
    return {
        "file": f"{record['film']}.png",
        # The same number in two clinics is two people
        "patient": f"{site}-{record['patient']}",
        "study": record["study"],
        "site": site,
        "month": plain(record["month"]),
        "label": label,
        "age": AGE_IN_BAND[record["age_band"]],
        "age_band": record["age_band"],
        "sex": record["sex"] if record["sex"] in SEXES else "",
        "view": record["view"] if record["view"] in VIEWS else "",
        "before_answer": any(one["before_answer"] is True for one in record["readings"]),
        "answer": plain(finding["answer"]),
        "probability": float(finding["probability"]),
        "threshold": float(finding["threshold"]),
        "model": plain(finding["model"]),
        "signs": plain(record["signs"] or ""),
        "why": plain(record["why"]),
    }


def label_of(readings: list[dict[str, Any]]) -> str:
    """The last diagnosis, else the conclusion of all readers; ``unsure`` where they differ."""
    diagnoses = [one["conclusion"] for one in readings if one["kind"] == "diagnosis"]
    concluded = {one["conclusion"] for one in readings}
    label = diagnoses[-1] if diagnoses else (concluded.pop() if len(concluded) == 1 else "unsure")
    if label not in CONCLUSIONS:
        raise ValueError(f"{label!r} is no conclusion")
    return str(label)


def plain(value: object) -> str:
    """A code as the table may hold it: a spreadsheet takes what begins with = for a formula.

    Raises ValueError.
    """
    text = str(value)
    if len(text) > 100 or not text.isprintable() or text[:1] in {"=", "+", "-", "@"}:
        raise ValueError("no code")
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument("file", type=Path, help="the contribution, ….clinicreadings")
    parser.add_argument("--key", type=Path, required=True, help="secret key of readings-key")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    try:
        identity = unlock(options.key, ask("Passphrase"))
        films = open_readings(options.file, identity, options.out)
    except (NotOpened, CannotSign, OSError, ValueError) as error:
        print(f"{options.file}: {error}.\nNothing was opened.", file=sys.stderr)
        return 1
    print(f"{films} films in {options.out}")
    return 0
