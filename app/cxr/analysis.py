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
from app.cxr.regions import Region, body_mask, peak, regions, strength

LIKELY, UNLIKELY, CANNOT_SAY = "likely", "unlikely", "cannot_say"
REFUSED, UNREADABLE = "refused", "unreadable"
CODES = frozenset({"not_a_frontal_chest_film", "near_the_threshold"})

# How far above the gate (a logit) the negative of a refused picture must score to be taken for
# the film.
INVERSION_MARGIN = 1.5


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
    prediction = _predict_upright(film, model, known.age_years)
    if prediction is None:
        return replace(known, reason="not_a_frontal_chest_film")
    return _answer(known, prediction, model, film)


def _predict_upright(film: Radiograph, model: Model, age_years: float | None) -> Prediction | None:
    """Score the film, or its negative where only that is surely a film; None where neither is.

    Units that mislabel MONOCHROME1, and photographs of films on a reversed screen, send negatives.
    """
    as_sent = model.predict(to_model_input(film, model.release.input_size), age_years)
    if as_sent.film_score >= model.release.film_threshold:
        return as_sent
    negative = replace(film, pixels=255 - film.pixels)
    inverted = model.predict(to_model_input(negative, model.release.input_size), age_years)
    sure = inverted.film_score >= model.release.film_threshold + INVERSION_MARGIN
    return inverted if sure else None


def _answer(known: Analysis, prediction: Prediction, model: Model, film: Radiograph) -> Analysis:
    point = model.release.operating_point(known.age_years)
    answer = point.decide(prediction.probability)
    heat = strength(prediction.activation_map, *model.release.map_range)
    body = body_mask(film.pixels)
    return replace(
        known,
        answer=answer,
        probability=prediction.probability,
        threshold=point.threshold,
        reason="near_the_threshold" if answer == CANNOT_SAY else None,
        regions=() if answer == UNLIKELY else regions(heat, film.width, film.height, body),
        peak=peak(prediction.activation_map, film.width, film.height, body),
        activation_map=heat,
    )
