"""Score runs side by side, before one is packed: on patients and sources not trained on.

Every figure comes with a bootstrap interval that draws patients, and each run is held against the
first: both answer the same films, so their difference is known far better than either. What the
interval does not hold is the luck of a run; that is what repeats are for. Whoever chooses among
experiments by the adults' films has used them up, and says so.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.cxr.metrics import auc, threshold_for_sensitivity
from app.cxr.radiograph import read_radiograph
from app.cxr.regions import body_mask, peak
from app.cxr.release import MANIFEST, Release
from model_export.datasets import (
    LabelledFilm,
    load_class_folders,
    load_kermany,
    load_labels_csv,
    read_films,
    split_by_patient,
)
from model_export.evaluate import described
from model_export.figures import Figures, drawn, patient_of
from model_export.localisation import Box, is_inside, read_boxes
from model_export.network import LOGIT, MAP
from model_export.pack import ADULT_DRAW, ADULT_LABEL, NORMAL, NOT_NORMAL, OPACITY
from model_export.quantize import run_graph
from model_export.runs import input_size, load_members
from model_export.train import trainable

CALLED = 0.9  # share of the adults' opacities that are called where normal adults are counted
PLAIN = "normal"
Statistic = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Answers:
    """What a run says of films and their mirror images, averaged: ``logits`` float32 ``(films,)``,
    ``maps`` float32 ``(films, rows, columns)``.
    """

    logits: np.ndarray
    maps: np.ndarray


@dataclass(frozen=True)
class Question:
    """One figure: which films it is of (indices), their labels, and how it comes of their logits
    or of what ``of_film`` makes of a run's answers, one value a film.
    """

    name: str
    films: np.ndarray
    labels: np.ndarray
    statistic: Statistic
    of_film: Callable[[Answers], np.ndarray] | None = None


def answers_of(run: Path, images: np.ndarray) -> Answers:
    """What a run, joined runs or a packed release says of uint8 films ``(count, side, side, 1)``
    of its input size.
    """
    if (run / MANIFEST).exists():
        said = run_graph(Release.load(run).graph, images)
        return Answers(said["logit"].ravel(), said["activation_map"][..., 0])
    logits, maps = [], []
    for member in load_members(run):
        model = trainable(member)
        for turn in (1, -1):
            shown = images[:, :, ::turn].astype(np.float32)
            said = model.predict(shown, batch_size=64, verbose=0)
            logits.append(said[LOGIT].ravel())
            maps.append(said[MAP][:, :, ::turn, 0])
    return Answers(np.mean(logits, axis=0), np.mean(maps, axis=0))


# --- what is asked ----------------------------------------------------------------------------


def questions(films: Sequence[LabelledFilm], boxes: Mapping[str, list[Box]]) -> list[Question]:
    """Every figure that the films allow; those of a source that is not there are left out."""
    kinds = np.array([film.kind or "" for film in films])
    labels = np.array([film.label for film in films])
    adults = np.isin(kinds, (OPACITY, NORMAL, NOT_NORMAL))
    children = np.array([film.source == "kermany" for film in films], bool)
    plain = ~children & (kinds == PLAIN)
    asked = [
        ("children", children, auc),
        ("adults_against_normal", adults & (kinds != NOT_NORMAL), auc),
        ("adults_against_the_rest", adults, auc),
    ]
    others = sorted({str(kind) for kind in kinds[~children & ~adults & ~plain]})
    asked += [(f"{kind}_against_normal", plain | (kinds == kind), auc) for kind in others]
    asked.append(("normal_called", (kinds == OPACITY) | plain, normal_called))
    found = [
        Question(name, np.flatnonzero(chosen), labels[chosen], statistic)
        for name, chosen, statistic in asked
        if 0 < labels[chosen].sum() < chosen.sum()
    ]
    boxed = np.array([film.path.name in boxes for film in films], bool) & (kinds == OPACITY)
    if boxed.any():
        found.append(_pointing(films, np.flatnonzero(boxed), boxes))
    return found


def normal_called(labels: np.ndarray, scores: np.ndarray) -> float:
    """Share of the films of label 0 that are called where ``CALLED`` of those of label 1 are."""
    if not 0 < labels.sum() < labels.size:
        return math.nan
    threshold = threshold_for_sensitivity(labels, scores, CALLED)
    return float((scores[labels == 0] >= threshold).mean())


def _pointing(
    films: Sequence[LabelledFilm], boxed: np.ndarray, boxes: Mapping[str, list[Box]]
) -> Question:
    """Share of the films whose peak lies in a box, as the clinic finds it on the film."""
    chosen = [(int(index), films[index].path) for index in boxed]
    pixels = [read_radiograph(path).pixels for _, path in chosen]
    bodies = [(film.shape[1], film.shape[0], body_mask(film)) for film in pixels]

    def hits(answers: Answers) -> np.ndarray:
        return np.array(
            [
                is_inside(peak(answers.maps[index], *body), boxes[path.name])
                for (index, path), body in zip(chosen, bodies, strict=True)
            ],
            float,
        )

    def share_hit(_: np.ndarray, hit: np.ndarray) -> float:
        return float(hit.mean())

    return Question("peak_in_box", boxed, np.ones(boxed.size), share_hit, hits)


# --- what is answered -------------------------------------------------------------------------


def figures_of(
    asked: Sequence[Question],
    films: Sequence[LabelledFilm],
    answers: Answers,
    first: Answers | None = None,
) -> Figures:
    """Value and interval of every question and, of all runs but the ``first``, its difference from
    that run's, ``<name>_gain``: both by draws of patients.
    """
    patients = np.array([patient_of(film) for film in films], str)
    found: Figures = {}
    for question in asked:
        whose, labels = patients[question.films], question.labels
        mine = _values(question, answers)
        found[question.name] = drawn(question.statistic, labels, mine, whose)
        if first is not None:
            theirs = _values(question, first)
            found[f"{question.name}_gain"] = drawn(
                _difference(question.statistic, mine, theirs), labels, np.arange(mine.size), whose
            )
    return found


def _values(question: Question, answers: Answers) -> np.ndarray:
    return question.of_film(answers) if question.of_film else answers.logits[question.films]


def _difference(statistic: Statistic, mine: np.ndarray, theirs: np.ndarray) -> Statistic:
    """The bootstrap draws one array of scores: here these are places in two arrays."""
    return lambda labels, at: statistic(labels, mine[at]) - statistic(labels, theirs[at])


def load_films(options: argparse.Namespace) -> list[LabelledFilm]:
    """Children's validation and held-out patients, and of adults those that are named."""
    split = split_by_patient(load_kermany(options.data))
    films = split.validation + split.test
    if options.adults:
        films += load_labels_csv(
            options.adults, ADULT_LABEL, [OPACITY], [NORMAL, NOT_NORMAL], [ADULT_DRAW]
        )
    if options.elsewhere:
        films += [described(f, options.elsewhere) for f in load_class_folders(options.elsewhere)]
    return films


def write_table(path: Path, rows: Mapping[str, Figures]) -> None:
    """One row a run: value, low and high of every figure."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    columns = [f"{name}{part}" for name in names for part in ("", "_low", "_high")]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["run", *columns])
        table.writeheader()
        for run, row in rows.items():
            cells = {
                f"{name}{part}": f"{figure[key]:.4f}"
                for name, figure in row.items()
                for part, key in (("", "value"), ("_low", "low"), ("_high", "high"))
            }
            table.writerow({"run": run, **cells})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument(
        "--runs", type=Path, nargs="+", required=True,
        help="trained or joined runs or releases; the others are held against the first",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, required=True, help="folder with NORMAL and PNEUMONIA")
    parser.add_argument("--adults", type=Path, help="labels.csv of films read by radiologists")
    parser.add_argument("--elsewhere", type=Path, help="class folders of other sources")
    parser.add_argument("--csv", type=Path, help="where to write the figures as a table")


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    films = load_films(options)
    table = options.adults / "boxes.csv" if options.adults else None
    asked = questions(films, read_boxes(table) if table and table.exists() else {})
    images: dict[int, np.ndarray] = {}
    first: Answers | None = None
    rows: dict[str, Figures] = {}
    for run in options.runs:
        size = input_size(run)
        if size not in images:
            images[size] = read_films(films, size)
        answers = answers_of(run, images[size])
        rows[run.name] = figures_of(asked, films, answers, first)
        first = first or answers
        say(run.name, rows[run.name])
        if options.csv:
            write_table(options.csv, rows)
    return 0


def say(run: str, figures: Figures) -> None:
    """The figures of one run on the terminal."""
    print(run)
    for name, figure in figures.items():
        print(f"  {name} {figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})")
