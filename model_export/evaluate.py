"""Score any release on any labelled folder, through the very pipeline the clinic uses."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from app.cxr.analysis import CANNOT_SAY, LIKELY, REFUSED, UNLIKELY, UNREADABLE, Analysis, analyse
from app.cxr.metrics import (
    auc,
    by_patient,
    confusion,
    expected_calibration_error,
    roc_curve,
    wilson,
)
from app.cxr.model import Model
from app.cxr.release import Release, age_band
from model_export.datasets import (
    LabelledFilm,
    load_class_folders,
    load_kermany,
    load_labels_csv,
    split_by_patient,
)

ANSWERS = (LIKELY, UNLIKELY, CANNOT_SAY, REFUSED, UNREADABLE)


def analyse_films(films: list[LabelledFilm], model: Model, age: float | None) -> list[Analysis]:
    """One analysis a film; the film's own age goes before ``age``."""
    return [
        analyse(film.path, model, film.age_years if film.age_years is not None else age)
        for film in tqdm(films, desc="evaluating", unit="film")
    ]


def report(films: list[LabelledFilm], analyses: list[Analysis]) -> dict[str, Any]:
    """Figures with 95 % intervals over the films that were scored, and the share of every
    answer.
    """
    scored = [pair for pair in zip(films, analyses, strict=True) if pair[1].probability is not None]
    counts = {name: sum(a.answer == name for a in analyses) for name in ANSWERS}
    figures: dict[str, Any] = {
        "films": len(films),
        "patients": len({film.patient for film in films}),
        "answers": {name: asdict(wilson(count, len(films))) for name, count in counts.items()},
        "milliseconds_median": float(np.median([a.milliseconds for a in analyses])),
    }
    if scored:
        figures |= scored_figures(*map(list, zip(*scored, strict=True)))
    return figures


def scored_figures(films: list[LabelledFilm], analyses: list[Analysis]) -> dict[str, Any]:
    """Ranking, forced answers, calibration, error of the given answers, and subgroups by age
    band.
    """
    labels = np.array([film.label for film in films])
    probabilities = np.array([analysis.probability for analysis in analyses], float)
    thresholds = np.array([analysis.threshold for analysis in analyses], float)
    patients = np.array([film.patient for film in films])
    # thresholds differ by age band, so films are called by their distance to their own threshold
    counts = confusion(labels, probabilities - thresholds, 0.0)
    given = np.array([analysis.answer in (LIKELY, UNLIKELY) for analysis in analyses])
    wrong = (
        np.array([analysis.answer == LIKELY for analysis in analyses]) != (labels == 1)
    ) & given
    false_rate, true_rate, _ = roc_curve(labels, probabilities)
    bands = np.array([age_band(analysis.age_years) for analysis in analyses])
    return {
        "positives": int(labels.sum()),
        "negatives": int((1 - labels).sum()),
        "auc": asdict(by_patient(auc, labels, probabilities, patients)),
        "confusion": asdict(counts),
        "sensitivity": asdict(wilson(counts.true_positive, int(labels.sum()))),
        "specificity": asdict(wilson(counts.true_negative, int((1 - labels).sum()))),
        "precision": counts.precision,
        "recall": counts.sensitivity,
        "f1": counts.f1,
        "accuracy": counts.accuracy,
        "expected_calibration_error": expected_calibration_error(labels, probabilities),
        "wrong_among_answered": asdict(wilson(int(wrong.sum()), int(given.sum()))),
        "roc": {"false_positive_rate": false_rate.tolist(), "sensitivity": true_rate.tolist()},
        "auc_by_age_band": {
            band: auc(labels[bands == band], probabilities[bands == band])
            for band in sorted(set(bands.tolist()))
        },
    }


def load_films(options: argparse.Namespace) -> list[LabelledFilm]:
    """The films that the command line names."""
    if options.held_out:
        return split_by_patient(load_kermany(options.data)).test
    if options.label_column:
        return load_labels_csv(
            options.data, options.label_column, options.positive, options.negative
        )
    return load_class_folders(options.data)


def without_nan(value: Any) -> Any:
    """The same figures with null for what cannot be computed: JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument("--release", type=Path, required=True, help="folder of a model release")
    parser.add_argument("--data", type=Path, required=True, help="class folders, or labels.csv")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--label-column", help="column of labels.csv that holds the label")
    parser.add_argument("--positive", nargs="+", default=[], help="its values that mean pneumonia")
    parser.add_argument("--negative", nargs="+", default=[], help="its values that mean none")
    parser.add_argument("--age", type=float, help="age in years for films that carry none")
    parser.add_argument(
        "--held-out", action="store_true", help="only the Kermany patients kept out of training"
    )


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    films = load_films(options)
    model = Model.load(Release.load(options.release))
    figures = without_nan(
        {"release": model.release.label, **report(films, analyse_films(films, model, options.age))}
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    for name in ("auc", "sensitivity", "specificity"):
        if name in figures:
            low, high = figures[name]["low"], figures[name]["high"]
            print(f"{name} {figures[name]['value']} (95 % {low} to {high})")
    print({name: round(share["value"], 4) for name, share in figures["answers"].items()})
    return 0
