"""From a film to an answer: the one path of the worker, ``analyze`` and ``evaluate``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from app.cxr import quality
from app.cxr.model import Model, Prediction
from app.cxr.radiograph import Radiograph, UnreadableFilm, read_radiograph, to_model_input
from app.cxr.regions import (
    Region,
    body_mask,
    box_turned_back,
    peak,
    point_turned_back,
    regions,
    strength,
)
from app.cxr.release import GATE_CODES, NOT_A_FILM

LIKELY, UNLIKELY, CANNOT_SAY = "likely", "unlikely", "cannot_say"
REFUSED, UNREADABLE = "refused", "unreadable"
CODES = GATE_CODES | {"near_the_threshold"}

# How far above the gate (a logit) a refused picture must score once it is put right, to be taken
# for the film.
MARGIN = 1.5


@dataclass(frozen=True)
class Analysis:
    """The whole answer for one file.

    ``probability`` and ``threshold`` are None unless the film was scored; ``reason`` is a stable
    code for a refusal, an unreadable file or an answer withheld, and ``details`` fills its
    sentence.
    ``regions`` and ``peak`` are in pixels of the displayed film. ``activation_map``: float32
    ``(rows, columns)``, 0..1, stretched over the whole film. ``film`` is kept for those who draw
    it.
    """

    answer: str
    model: str
    probability: float | None = None
    threshold: float | None = None
    reason: str | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()
    peak: tuple[int, int] | None = None
    view_position: str | None = None
    age_years: float | None = None
    sex: str | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    milliseconds: float = 0.0
    activation_map: np.ndarray | None = None
    film: Radiograph | None = None


def analyse(source: bytes | Path, model: Model, age_years: float | None = None) -> Analysis:
    """Read, check, score and explain one film; a bad film is an answer too, never an exception.

    ``age_years`` serves where the film carries no age of its own.
    """
    started = time.perf_counter()
    try:
        film = read_radiograph(source)
    except UnreadableFilm as error:
        analysis = Analysis(
            UNREADABLE, model.release.label, reason=error.code, details=error.details
        )
    else:
        analysis = _analyse_film(film, model, age_years)
    return replace(analysis, milliseconds=(time.perf_counter() - started) * 1000)


def _analyse_film(film: Radiograph, model: Model, age_years: float | None) -> Analysis:
    known = Analysis(
        answer=REFUSED,
        model=model.release.label,
        view_position=film.view_position,
        age_years=film.age_years if film.age_years is not None else age_years,
        sex=film.sex,
        width=film.width,
        height=film.height,
        frames=film.frames,
        film=film,
    )
    for refusal in quality.refusals(film):
        return replace(known, reason=refusal.code, details=refusal.details)
    found = put_right(film, model, known.age_years)
    if isinstance(found, str):
        return replace(known, reason=found)
    return _answer(known, found, model)


@dataclass(frozen=True)
class Upright:
    """A film as it should hang: ``turns`` quarters of a circle, counterclockwise, from as sent."""

    film: Radiograph
    turns: int
    prediction: Prediction


# Units that mislabel MONOCHROME1, and photographs of films on a reversed screen, send negatives;
# films are scanned and photographed lying on their side or on their head.
WRONGS = ((True, 0), (False, 1), (False, 2), (False, 3))


def put_right(film: Radiograph, model: Model, age_years: float | None) -> Upright | str:
    """The film scored, as it is or as the one negative or turn that is surely a film; else the
    code of a refusal.
    """
    as_sent = _scored(film, False, 0, model, age_years)
    code = model.release.refusal(as_sent.prediction.film_scores)
    if code is None:
        return as_sent
    if code != NOT_A_FILM:
        return code
    tried = [_scored(film, *wrong, model, age_years) for wrong in WRONGS]
    best = max(tried, key=lambda one: one.prediction.film_score)
    if best.prediction.film_score >= model.release.film_threshold + MARGIN:
        return best
    return "too_blurred" if quality.sharpness(film) < quality.DOUBTFUL_SHARPNESS else code


def _scored(
    film: Radiograph, negative: bool, turns: int, model: Model, age_years: float | None
) -> Upright:
    pixels = 255 - film.pixels if negative else film.pixels
    upright = replace(film, pixels=np.ascontiguousarray(np.rot90(pixels, turns)))
    model_input = to_model_input(upright, model.release.input_size)
    return Upright(upright, turns, model.predict(model_input, age_years))


def _answer(known: Analysis, found: Upright, model: Model) -> Analysis:
    """The answer, with all places on the film as it was sent."""
    prediction, film, turns = found.prediction, found.film, found.turns
    point = model.release.operating_point(known.age_years)
    answer = point.decide(prediction.probability)
    heat = strength(prediction.activation_map, *model.release.map_range)
    body = body_mask(film.pixels)
    marked = () if answer == UNLIKELY else regions(heat, film.width, film.height, body)
    hottest = peak(prediction.activation_map, film.width, film.height, body)
    return replace(
        known,
        answer=answer,
        probability=prediction.probability,
        threshold=point.threshold,
        reason="near_the_threshold" if answer == CANNOT_SAY else None,
        regions=tuple(box_turned_back(one, film.width, film.height, turns) for one in marked),
        peak=point_turned_back(hottest, film.width, film.height, turns),
        activation_map=np.rot90(heat, -turns),
    )
