"""Score any release on any labelled folder, through the very pipeline the clinic uses."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from app.cxr import quality
from app.cxr.analysis import Analysis, Upright, analyse, put_right
from app.cxr.model import Model
from app.cxr.radiograph import Radiograph, to_model_input
from app.cxr.regions import peak, regions, strength
from app.cxr.release import Release
from model_export.comparison import against_float
from model_export.contact_sheet import contact_sheet, worst_errors
from model_export.datasets import (
    LabelledFilm,
    load_class_folders,
    load_kermany,
    load_labels_csv,
    patient_of_kermany,
    split_by_patient,
)
from model_export.figures import (
    Figures,
    Pair,
    median,
    patient_of,
    report,
    trivial_features,
    trivial_figures,
    without_nan,
)
from model_export.localisation import localisation, randomised, read_boxes
from model_export.report_page import page


@dataclass(frozen=True)
class Examined:
    """One film with its answer, and what of it the comparisons need once its pixels are gone."""

    film: LabelledFilm
    analysis: Analysis
    features: dict[str, float] | None = None
    milliseconds: float = math.nan
    """From the decoded film to its regions, one thread; NaN unless the film was scored."""
    model_input: np.ndarray | None = None
    """What the network saw, uint8 ``(size, size)``; None unless the film was scored."""

    @property
    def pair(self) -> Pair:
        """The film and its analysis."""
        return self.film, self.analysis


def examine(film: LabelledFilm, model: Model, age: float | None) -> Examined:
    """Analyse one film as the clinic does; the film's own age goes before ``age``."""
    analysis = analyse(film.path, model, film.age_years if film.age_years is not None else age)
    radiograph = analysis.film
    if radiograph is None:
        return Examined(film, analysis)
    read = Examined(
        film=film,
        analysis=replace(analysis, film=None),
        features=trivial_features(radiograph, film.path, film.view),
    )
    if analysis.probability is None:
        return read
    milliseconds, model_input = _again_without_decoding(radiograph, model)
    return replace(read, milliseconds=milliseconds, model_input=model_input)


def _again_without_decoding(film: Radiograph, model: Model) -> tuple[float, np.ndarray]:
    """Milliseconds from a decoded film to its regions, and the input that the network scored: of a
    film that is not refused, put right where it was sent wrong.
    """
    release = model.release
    started = time.perf_counter()
    quality.refusals(film)
    found = put_right(film, model, None)
    assert isinstance(found, Upright)
    heat = strength(found.prediction.activation_map, *release.map_range)
    regions(heat, found.film.width, found.film.height)
    peak(found.prediction.activation_map, found.film.width, found.film.height)
    milliseconds = (time.perf_counter() - started) * 1000
    model_input = to_model_input(found.film, release.input_size)
    return milliseconds, np.rint(model_input[0, :, :, 0]).astype(np.uint8)


def evaluate(found: Sequence[Examined], release: Release, options: argparse.Namespace) -> Figures:
    """The whole report of films already examined."""
    pairs = [one.pair for one in found]
    figures: Figures = {
        "title": options.title or options.data.resolve().name,
        "release": release.label,
        **report(pairs, release),
    }
    timed = [one for one in found if not math.isnan(one.milliseconds)]
    without_decoding = median([one.milliseconds for one in timed], _patients(timed))
    figures["milliseconds_without_decoding_median"] = without_decoding["value"]
    figures["intervals"]["milliseconds_without_decoding_median"] = without_decoding
    read = [one for one in found if one.features is not None]
    figures["trivial_features"] = trivial_figures(
        np.array([one.film.label for one in read], int),
        [one.features for one in read if one.features is not None],
        _patients(read),
    )
    return without_nan(figures | _comparisons(found, release, options))


def _patients(found: Sequence[Examined]) -> np.ndarray:
    return np.array([patient_of(one.film) for one in found], str)


def _comparisons(
    found: Sequence[Examined], release: Release, options: argparse.Namespace
) -> Figures:
    """What was asked for beyond the answers: boxes, the float graph, shuffled weights."""
    scored = [one for one in found if one.model_input is not None]
    pairs = [one.pair for one in scored]
    inputs = [as_input(one.model_input) for one in scored if one.model_input is not None]
    figures: Figures = {}
    if options.boxes:
        boxes = read_boxes(options.boxes)
        figures["localisation"] = localisation(pairs, boxes)
        if options.randomise:
            graph = options.float_graph or release.graph
            figures["localisation"]["randomised"] = randomised(graph, inputs, pairs, boxes)
    if options.float_graph and scored:
        figures["int8_against_float"] = against_float(options.float_graph, release, inputs, pairs)
    return figures


def as_input(kept: np.ndarray) -> np.ndarray:
    """A kept input as the graph wants it: float32 ``(1, size, size, 1)``."""
    return kept[np.newaxis, :, :, np.newaxis].astype(np.float32)


# --- which films ------------------------------------------------------------------------------


def load_films(options: argparse.Namespace) -> list[LabelledFilm]:
    """The films that the command line names."""
    if options.held_out:
        return split_by_patient(load_kermany(options.data)).test
    if not options.label_column:
        return [described(film, options.data) for film in load_class_folders(options.data)]
    films = load_labels_csv(
        options.data, options.label_column, options.positive, options.negative, options.where
    )
    if not films:
        raise ValueError(f"no film of {options.data} has such a label")
    return films


def described(film: LabelledFilm, root: Path) -> LabelledFilm:
    """A film of a class folder with what its name tells: patient and kind.

    Where the name tells nothing, each film is a patient of its own (many collections number their
    classes alike), and the kind is the folder.
    """
    inside = film.path.relative_to(root)
    folder = inside.parts[0]
    try:
        patient, kind = patient_of_kermany(film.path.name)
    except ValueError:
        return replace(film, patient=inside.with_suffix("").as_posix(), kind=folder)
    return replace(film, patient=patient, kind=kind or folder)


# --- the stage --------------------------------------------------------------------------------


def add_film_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that name films; for ``load_films``."""
    parser.add_argument("--data", type=Path, required=True, help="class folders, or labels.csv")
    parser.add_argument("--label-column", help="column of labels.csv that holds the label")
    parser.add_argument("--positive", nargs="+", default=[], help="its values that mean pneumonia")
    parser.add_argument("--negative", nargs="+", default=[], help="its values that mean none")
    parser.add_argument(
        "--where", nargs=2, action="append", default=[], metavar=("COLUMN", "TEXT"),
        help="only rows of labels.csv whose COLUMN contains TEXT; may be given again",
    )  # fmt: skip
    parser.add_argument("--age", type=float, help="age in years for films that carry none")
    parser.add_argument(
        "--held-out", action="store_true", help="only the Kermany patients kept out of training"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument("--release", type=Path, required=True, help="folder of a model release")
    add_film_arguments(parser)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--html", type=Path, help="where to write the report as one page")
    parser.add_argument(
        "--worst", type=Path, help="where to write the worst errors as a picture; it shows films"
    )
    parser.add_argument("--title", help="what the report is of; else the name of the data folder")
    parser.add_argument(
        "--boxes", type=Path, help="table file,x,y,w,h of boxes around disease, in pixels"
    )
    parser.add_argument(
        "--randomise", action="store_true",
        help="with --boxes: also the maps of the network with its weights shuffled",
    )  # fmt: skip
    parser.add_argument("--float-graph", type=Path, help="float graph to hold the release against")


def wrong_films(options: argparse.Namespace) -> str | None:
    """What the naming of films lacks to mean anything, as a sentence."""
    if options.where and not options.label_column:
        return "--where picks rows of labels.csv: it needs --label-column"
    return None


def wrong_call(options: argparse.Namespace) -> str | None:
    """What an option lacks to mean anything, as a sentence."""
    if options.randomise and not options.boxes:
        return "--randomise asks where the maps point: it needs --boxes"
    return wrong_films(options)


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    lacking = wrong_call(options)
    if lacking:
        print(lacking, file=sys.stderr)
        return 2
    model = Model.load(Release.load(options.release))
    films = load_films(options)
    found = [examine(film, model, options.age) for film in tqdm(films, "evaluating", unit="film")]
    figures = evaluate(found, model.release, options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.html:
        options.html.write_text(page(figures), encoding="utf-8")
    if options.worst:
        contact_sheet(worst_errors([one.pair for one in found])).save(options.worst)
    say(figures)
    return 0


def say(figures: Figures) -> None:
    """The first figures on the terminal."""
    for name in ("auc", "sensitivity", "specificity"):
        if name in figures:
            low, high = figures[name]["low"], figures[name]["high"]
            print(f"{name} {figures[name]['value']} (95 % {low} to {high})")
    print({name: round(share["value"], 4) for name, share in figures["answers"].items()})
