"""Take opened contributions of many clinics together, and leave out what must not be learnt from.

    python -m model_export merge june july --release assets/release \
        --known "$CXR_DATA/kermany_train" --out merged

Writes ``images/`` and ``labels.csv`` as open-readings does, ``report.json`` and ``report.md``:
every film that was left out, its site, and why. The same input gives the same output, to the byte.
Older contributions are named first: of a film that was sent again the last reading counts.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from app.cxr.model import Model
from app.cxr.release import Release, UnusableRelease
from model_export import label_noise, likeness
from model_export.contributed import (
    IMAGES,
    TABLE,
    Contributed,
    NotMerged,
    Seen,
    edges_under,
    look_at,
    read_opened,
)
from model_export.datasets import NEGATIVE, POSITIVE
from model_export.figures import without_nan
from model_export.merge_page import page
from model_export.open_readings import COLUMNS

REPORT, PAGE = "report.json", "report.md"
#: With three sites or more none may bring more than half of all films: one clinic's machine, habits
#: or ill will would be what is learnt. Up to LARGEST_ALONE a site is never cut, however small the
#: others are.
MOST_SHARE, LARGEST_ALONE, FEWEST_SITES = 0.5, 300, 3


@dataclass(frozen=True)
class Dropped:
    """A film that is left out. ``reason``: a code of ``merge_page.REASONS``."""

    film: str
    site: str
    folder: str
    reason: str
    detail: str = ""


class Merging:
    """The films that are still in, and those that were left out; each step takes some away."""

    def __init__(self, rows: Sequence[Contributed]) -> None:
        self.rows = list(rows)
        self.read = Counter(row.site for row in rows)
        self.dropped: list[Dropped] = []
        self.seen: dict[str, Seen] = {}
        self.person: dict[str, str] = {}
        self.judgements: dict[str, dict[str, Any]] = {}

    def drop(self, reason_of: Callable[[Contributed], tuple[str, str] | None]) -> None:
        """Leave out every film that has a reason and its detail."""
        kept = []
        for row in self.rows:
            if found := reason_of(row):
                self.dropped.append(Dropped(row.film, row.site, row.folder.name, *found))
            else:
                kept.append(row)
        self.rows = kept

    @property
    def labels(self) -> np.ndarray:
        """0 or 1 of every film that is in, int ``(films,)``."""
        return np.array([row.label == POSITIVE for row in self.rows], int)

    @property
    def probabilities(self) -> np.ndarray:
        """What the release says of them, float ``(films,)``."""
        return np.array([self.seen[row.name].probability for row in self.rows], float)


def merge(
    folders: Sequence[Path], model: Model, known: Sequence[Path], reviewed: frozenset[str]
) -> Merging:
    """Judge all films of opened contributions; raises NotMerged or OSError.

    ``known``: folders of films in use already; ``reviewed``: names ``site-film`` of films whose
    label a second reader has confirmed.
    """
    merging = Merging([row for folder in folders for row in read_opened(folder)])
    _only_last_readings(merging)
    merging.drop(lambda row: None if row.label in {POSITIVE, NEGATIVE} else (row.label, ""))
    for row in tqdm(merging.rows, "merging", unit="film"):
        merging.seen[row.name] = look_at(row, model)
    merging.drop(lambda row: _not_usable(merging.seen[row.name]))
    _join_people(merging)
    if known:
        _drop_known(merging, edges_under(known))
    _drop_repeated(merging)
    _judge_sites(merging, reviewed)
    _even_out(merging)
    return merging


def _only_last_readings(merging: Merging) -> None:
    last = {row.name: row for row in merging.rows}
    merging.drop(lambda row: None if last[row.name] is row else ("superseded", ""))


def _not_usable(seen: Seen) -> tuple[str, str] | None:
    return None if seen.probability is not None else ("refused", seen.reason or "")


# --- the same film, the same person -------------------------------------------------------------


def _pictures(merging: Merging) -> list[list[Contributed]]:
    """The films that are in, grouped by picture."""
    if not merging.rows:
        return []
    seen = [merging.seen[row.name] for row in merging.rows]
    groups = likeness.same_films(
        np.stack([one.edges for one in seen]), [one.pixels for one in seen]
    )
    return [[merging.rows[index] for index in group] for group in groups]


def _join_people(merging: Merging) -> None:
    """Two patients with the same film are one person, who must not be on both sides of a split."""
    pictures = [[row.patient for row in group] for group in _pictures(merging)]
    merging.person = likeness.joined_patients(pictures, [row.patient for row in merging.rows])


def _drop_known(merging: Merging, known: np.ndarray) -> None:
    """A person whose film is in use already may be among those that are kept for testing."""
    if not merging.rows:
        return
    edges = np.stack([merging.seen[row.name].edges for row in merging.rows])
    films = {merging.rows[index].name for index in likeness.known_films(edges, known)}
    people = {merging.person[row.patient] for row in merging.rows if row.name in films}

    def reason(row: Contributed) -> tuple[str, str] | None:
        if merging.person[row.patient] not in people:
            return None
        return "known", "" if row.name in films else "another film of this person is"

    merging.drop(reason)


def _drop_repeated(merging: Merging) -> None:
    """Of films that are one picture the first by name stays, none where labels contradict."""
    reasons: dict[str, tuple[str, str]] = {}
    for group in _pictures(merging):
        first, *others = sorted(group, key=lambda row: row.name)
        if len({row.label for row in group}) > 1:
            for row in group:
                rest = " ".join(sorted(one.name for one in group if one is not row))
                reasons[row.name] = ("contradiction", rest)
            continue
        for row in others:
            exact = merging.seen[row.name].pixels == merging.seen[first.name].pixels
            reasons[row.name] = ("duplicate" if exact else "near_duplicate", first.name)
    merging.drop(lambda row: reasons.get(row.name))


# --- whose labels -------------------------------------------------------------------------------


def _judge_sites(merging: Merging, reviewed: frozenset[str]) -> None:
    """Hold back sites that cannot be believed, then films whose label is suspected."""
    sites = [row.site for row in merging.rows]
    labels, probabilities = merging.labels, merging.probabilities
    patients = np.array([merging.person[row.patient] for row in merging.rows], str)
    confident = label_noise.confident_classes(labels, probabilities)
    of_site = np.array(sites, str)
    for group in label_noise.judged_together(sites, labels):
        inside = np.isin(of_site, group)
        found = label_noise.judge(
            labels[inside], probabilities[inside], confident[inside], patients[inside]
        )
        for site in group:
            merging.judgements[site] = {"together_with": group, **asdict(found)}
    doubtful = label_noise.suspected(labels, probabilities, confident)
    suspected = {
        row.name: f"{probability:.4f}"
        for row, doubt, probability in zip(merging.rows, doubtful, probabilities, strict=True)
        if doubt
    }

    def reason(row: Contributed) -> tuple[str, str] | None:
        if row.name in reviewed:
            return None
        if held := merging.judgements[row.site]["reason"]:
            return str(held), ""
        return ("suspected", suspected[row.name]) if row.name in suspected else None

    merging.drop(reason)


def _even_out(merging: Merging) -> None:
    """Cut what a site brings beyond its share: films by the hash of their names, so by chance."""
    of_site: dict[str, list[str]] = defaultdict(list)
    for row in merging.rows:
        of_site[row.site].append(row.name)
    most = largest_share([len(names) for names in of_site.values()])
    kept = {
        name
        for names in of_site.values()
        for name in sorted(names, key=lambda one: hashlib.sha256(one.encode()).digest())[:most]
    }
    merging.drop(lambda row: None if row.name in kept else ("beyond_share", ""))


def largest_share(counts: Sequence[int]) -> int:
    """How many films one site may bring, of sites that bring ``counts``."""
    most = max(counts, default=0)
    if len(counts) < FEWEST_SITES:
        return most
    while most > LARGEST_ALONE and most > MOST_SHARE * sum(min(one, most) for one in counts):
        most -= 1
    return most


# --- what is written ----------------------------------------------------------------------------


def report_of(merging: Merging, folders: Sequence[Path], release: Release) -> dict[str, Any]:
    """What was taken and what was left out, ready for JSON."""
    out = sorted(merging.dropped, key=lambda one: (one.site, one.film, one.folder))
    people: dict[str, list[str]] = defaultdict(list)
    for patient, person in sorted(merging.person.items()):
        people[person].append(patient)
    report = {
        "format": 1,
        "folders": [folder.name for folder in folders],
        "release": release.label,
        "read": merging.read.total(),
        "kept": len(merging.rows),
        "reasons": dict(sorted(Counter(one.reason for one in out).items())),
        "sites": {
            site: {
                "read": merging.read[site],
                "kept": sum(row.site == site for row in merging.rows),
                "pneumonia": sum(
                    row.site == site and row.label == POSITIVE for row in merging.rows
                ),
                "reasons": dict(
                    sorted(Counter(one.reason for one in out if one.site == site).items())
                ),
                "judgement": merging.judgements.get(site),
            }
            for site in sorted(merging.read)
        },
        "joined_patients": [names for names in people.values() if len(names) > 1],
        "limits": {
            "same_film": likeness.SAME,
            "fewest_of_a_class": label_noise.FEWEST_OF_A_CLASS,
            "least_probability": label_noise.LEAST_PROBABILITY,
            "flood": label_noise.FLOOD,
            "rarer_share": label_noise.RARER_SHARE,
            "most_share": MOST_SHARE,
            "largest_alone": LARGEST_ALONE,
        },
        "dropped": [asdict(one) for one in out],
    }
    return dict(without_nan(report))


def write(merging: Merging, report: dict[str, Any], out: Path) -> None:
    """Write films, table and reports into a folder that is not there yet, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=out.name) as name:
        whole = Path(name) / "whole"
        (whole / IMAGES).mkdir(parents=True)
        with (whole / TABLE).open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            for row in sorted(merging.rows, key=lambda one: one.name):
                own = {"file": f"{row.name}.png", "patient": merging.person[row.patient]}
                table.writerow(row.values | own)
                shutil.copyfile(row.path, whole / IMAGES / f"{row.name}.png")
        (whole / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (whole / PAGE).write_text(page(report), encoding="utf-8")
        shutil.move(whole, out)


def reviewed_films(path: Path | None) -> frozenset[str]:
    """The names in a list of confirmed films, one a line."""
    return frozenset(path.read_text(encoding="utf-8").split() if path else ())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="FOLDER",
        help="folders made by open-readings, older ones first",
    )  # fmt: skip
    parser.add_argument(
        "--release", type=Path, required=True, help="release in use, which labels are held against"
    )
    parser.add_argument(
        "--known", type=Path, nargs="+", default=[], help="folders of films that are in use already"
    )
    parser.add_argument(
        "--reviewed", type=Path,
        help="list of films (site-film, one a line) whose label a second reader has confirmed",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder to make")


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    try:
        if options.out.exists():
            raise NotMerged(f"{options.out} is there already")
        model = Model.load(Release.load(options.release))
        reviewed = reviewed_films(options.reviewed)
        merging = merge(options.folders, model, options.known, reviewed)
        report = report_of(merging, options.folders, model.release)
        write(merging, report, options.out)
    except (NotMerged, UnusableRelease, OSError, ValueError, csv.Error) as error:
        print(f"{error}.\nNothing was merged.", file=sys.stderr)
        return 1
    for code, count in report["reasons"].items():
        print(f"left out, {code}: {count}")
    print(f"{report['kept']} of {report['read']} films in {options.out}")
    return 0
