"""What an evaluation says in numbers: from films and their analyses to one JSON object.

Shares carry Wilson's 95 % interval, everything else a bootstrap that draws patients.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.cxr.analysis import CANNOT_SAY, LIKELY, REFUSED, UNLIKELY, UNREADABLE, Analysis
from app.cxr.metrics import (
    Interval,
    auc,
    by_patient,
    confusion,
    expected_calibration_error,
    roc_curve,
    wilson,
)
from app.cxr.radiograph import Radiograph
from app.cxr.release import AGE_BANDS, UNKNOWN_AGE, Release, age_band
from model_export.datasets import LabelledFilm

ANSWERS = (LIKELY, UNLIKELY, CANNOT_SAY, REFUSED, UNREADABLE)
BANDS = (*dict(AGE_BANDS), UNKNOWN_AGE)
UNKNOWN = "unknown"
BINS = 10

Pair = tuple[LabelledFilm, Analysis]
Figures = dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """The films that got a probability, as arrays of one length."""

    labels: np.ndarray
    probabilities: np.ndarray
    thresholds: np.ndarray
    answers: np.ndarray
    patients: np.ndarray

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> Scored:
        """Those of ``pairs`` that were scored, in their order."""
        known = [pair for pair in pairs if pair[1].probability is not None]
        return cls(
            labels=np.array([film.label for film, _ in known], int),
            probabilities=np.array([analysis.probability for _, analysis in known], float),
            thresholds=np.array([analysis.threshold for _, analysis in known], float),
            answers=np.array([analysis.answer for _, analysis in known], str),
            patients=np.array([patient_of(film) for film, _ in known], str),
        )

    @property
    def distances(self) -> np.ndarray:
        """Thresholds differ by age band, so films are called by the distance to their own."""
        return self.probabilities - self.thresholds

    @property
    def wrong(self) -> np.ndarray:
        """Whether the forced answer differs from the label."""
        return (self.distances >= 0) != (self.labels == 1)

    @property
    def given(self) -> np.ndarray:
        """Whether the film was answered rather than withheld."""
        return self.answers != CANNOT_SAY


def patient_of(film: LabelledFilm) -> str:
    """A patient's name among all sources."""
    return f"{film.source}/{film.patient}"


def band_of(pair: Pair) -> str:
    """The age band that the film was answered in; of an unreadable file, that of its label."""
    film, analysis = pair
    return age_band(analysis.age_years if analysis.age_years is not None else film.age_years)


def share(part: int, whole: int) -> Figures:
    """A proportion with Wilson's interval."""
    return asdict(wilson(part, whole))


def drawn(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    labels: np.ndarray,
    scores: np.ndarray,
    patients: np.ndarray,
) -> Figures:
    """A figure with its interval by patient; all NaN where there is no film."""
    if not labels.size:
        return asdict(Interval(math.nan, math.nan, math.nan))
    return asdict(by_patient(statistic, labels, scores, patients))


def median(values: Sequence[float], patients: np.ndarray) -> Figures:
    """A median with its interval by patient."""
    numbers = np.array(values, float)
    return drawn(lambda _, chosen: float(np.median(chosen)), numbers, numbers, patients)


def report(pairs: Sequence[Pair], release: Release) -> Figures:
    """Everything that films, labels and answers alone can tell."""
    answers = Counter(analysis.answer for _, analysis in pairs)
    everyone = np.array([patient_of(film) for film, _ in pairs], str)
    times = [analysis.milliseconds for _, analysis in pairs]
    figures: Figures = {
        "films": len(pairs),
        "patients": int(np.unique(everyone).size),
        "answers": {name: share(answers[name], len(pairs)) for name in ANSWERS},
        "reasons": {name: reasons(pairs, name) for name in (CANNOT_SAY, REFUSED, UNREADABLE)},
        "milliseconds_median": float(np.median(times)),
        "intervals": {"milliseconds_median": median(times, everyone)},
        "subgroups": subgroups(pairs),
        "operating_points": operating_points(pairs, release),
    }
    scored = Scored.of(pairs)
    if scored.labels.size:
        intervals = figures["intervals"] | intervals_of(scored)
        bands = {
            band: group["auc"]["value"]
            for band, group in figures["subgroups"]["age_band"].items()
            if group["scored"]
        }
        figures |= {**scored_figures(scored), "intervals": intervals, "auc_by_age_band": bands}
    return figures


def reasons(pairs: Sequence[Pair], answer: str) -> Figures:
    """How often each stable code stands behind an answer, as shares of all films."""
    counts = Counter(str(a.reason) for _, a in pairs if a.answer == answer)
    return {code: share(count, len(pairs)) for code, count in counts.most_common()}


def scored_figures(scored: Scored) -> Figures:
    """Ranking, forced answers, calibration and the error of the answers given."""
    labels, probabilities = scored.labels, scored.probabilities
    counts = confusion(labels, scored.distances, 0.0)
    false_rate, true_rate, _ = roc_curve(labels, probabilities)
    recall, precision = precision_recall(labels, probabilities)
    return {
        "positives": int(labels.sum()),
        "negatives": int((1 - labels).sum()),
        "auc": drawn(auc, labels, probabilities, scored.patients),
        "average_precision": drawn(average_precision, labels, probabilities, scored.patients),
        "confusion": asdict(counts),
        "sensitivity": share(counts.true_positive, int(labels.sum())),
        "specificity": share(counts.true_negative, int((1 - labels).sum())),
        "precision": counts.precision,
        "recall": counts.sensitivity,
        "f1": counts.f1,
        "accuracy": counts.accuracy,
        "expected_calibration_error": expected_calibration_error(labels, probabilities),
        "calibration": calibration_bins(labels, probabilities),
        "wrong_among_answered": error_among(scored, scored.given),
        "wrong_by_answer": {
            answer: error_among(scored, scored.answers == answer) for answer in (LIKELY, UNLIKELY)
        },
        "wrong_if_forced": {CANNOT_SAY: error_among(scored, ~scored.given)},
        "roc": {"false_positive_rate": false_rate.tolist(), "sensitivity": true_rate.tolist()},
        "precision_recall": {"recall": recall.tolist(), "precision": precision.tolist()},
    }


def error_among(scored: Scored, chosen: np.ndarray) -> Figures:
    """Share of the chosen films whose forced answer is wrong."""
    return share(int((scored.wrong & chosen).sum()), int(chosen.sum()))


def intervals_of(scored: Scored) -> Figures:
    """The intervals of the figures that stand as plain numbers."""
    labels, patients = scored.labels, scored.patients
    counts = confusion(labels, scored.distances, 0.0)
    called = counts.true_positive + counts.false_positive
    right = counts.true_positive + counts.true_negative
    return {
        "precision": share(counts.true_positive, called),
        "recall": share(counts.true_positive, int(labels.sum())),
        "accuracy": share(right, labels.size),
        "f1": drawn(lambda y, s: confusion(y, s, 0.0).f1, labels, scored.distances, patients),
        "expected_calibration_error": drawn(
            expected_calibration_error, labels, scored.probabilities, patients
        ),
    }


# --- curves -----------------------------------------------------------------------------------


def precision_recall(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision, one point for each distinct score, recall rising."""
    order = np.argsort(-scores, kind="stable")
    labels, scores = labels[order], scores[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), labels.size - 1)
    found = np.cumsum(labels == 1)[ends]
    return found / max(found[-1], 1), found / (ends + 1)


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the precision-recall curve by steps, not by trapezoids, which flatter (Davis &
    Goadrich 2006); NaN for one class.
    """
    if not 0 < labels.sum() < labels.size:
        return math.nan
    recall, precision = precision_recall(labels, scores)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def calibration_bins(labels: np.ndarray, probabilities: np.ndarray) -> list[Figures]:
    """The reliability diagram: in ten equal bins, what was said and what was true."""
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    return [
        {
            "from": index / BINS,
            "to": (index + 1) / BINS,
            "films": int((place == index).sum()),
            "mean_probability": float(probabilities[place == index].mean()),
            "share_positive": share(int(labels[place == index].sum()), int((place == index).sum())),
        }
        for index in range(BINS)
        if (place == index).any()
    ]


# --- parts of the films -----------------------------------------------------------------------


def operating_points(pairs: Sequence[Pair], release: Release) -> Figures:
    """Confusion at each operating point that was used, one for each age band."""
    found: Figures = {}
    for band in BANDS:
        inside = [pair for pair in pairs if band_of(pair) == band]
        scored = Scored.of(inside)
        if not scored.labels.size:
            continue
        age = next(analysis.age_years for _, analysis in inside if analysis.probability is not None)
        counts = confusion(scored.labels, scored.distances, 0.0)
        found[band] = {
            **asdict(release.operating_point(age)),
            "films": int(scored.labels.size),
            "confusion": asdict(counts),
            "sensitivity": share(counts.true_positive, int(scored.labels.sum())),
            "specificity": share(counts.true_negative, int((1 - scored.labels).sum())),
            "withheld": share(int((~scored.given).sum()), scored.labels.size),
        }
    return found


def subgroups(pairs: Sequence[Pair]) -> Figures:
    """The same few figures by age band, sex, view, kind and source.

    All age bands are listed, so that an age nobody tested is seen to be untested.
    """
    named: dict[str, Callable[[Pair], str]] = {
        "age_band": band_of,
        "sex": lambda pair: pair[0].sex or pair[1].sex or UNKNOWN,
        "view": lambda pair: pair[0].view or pair[1].view_position or UNKNOWN,
        "kind": lambda pair: pair[0].kind or UNKNOWN,
        "source": lambda pair: pair[0].source,
    }
    found: Figures = {}
    for name, group_of in named.items():
        there = sorted({group_of(pair) for pair in pairs})
        found[name] = {
            group: subgroup([pair for pair in pairs if group_of(pair) == group], pairs)
            for group in (BANDS if name == "age_band" else there)
        }
    return found


def subgroup(inside: Sequence[Pair], everyone: Sequence[Pair]) -> Figures:
    """Figures of some films. Where they are of one class (bacteria, say), their AUC is against all
    films of the other class, and says so.
    """
    scored, answers = Scored.of(inside), Counter(analysis.answer for _, analysis in inside)
    labels = {film.label for film, _ in inside}
    against = None
    ranked = scored
    if len(labels) == 1:
        against = "all_positives" if labels == {0} else "all_negatives"
        others = [pair for pair in everyone if pair[0].label not in labels]
        ranked = Scored.of([*inside, *others])
    counts = confusion(scored.labels, scored.distances, 0.0)
    positives = int(scored.labels.sum())
    return {
        "films": len(inside),
        "patients": len({patient_of(film) for film, _ in inside}),
        "positives": sum(film.label for film, _ in inside),
        "scored": int(scored.labels.size),
        "auc": drawn(auc, ranked.labels, ranked.probabilities, ranked.patients),
        "auc_against": against,
        "sensitivity": share(counts.true_positive, positives),
        "specificity": share(counts.true_negative, int(scored.labels.size) - positives),
        "expected_calibration_error": drawn(
            expected_calibration_error, scored.labels, scored.probabilities, scored.patients
        ),
        CANNOT_SAY: share(answers[CANNOT_SAY], len(inside)),
        REFUSED: share(answers[REFUSED], len(inside)),
        "wrong_among_answered": error_among(scored, scored.given),
    }


# --- what needs no network --------------------------------------------------------------------


def trivial_features(film: Radiograph, path: Path, view: str | None = None) -> dict[str, float]:
    """What anybody could know without looking at a lung.

    The view is among them: the sick lie down and are taken AP, and a network may learn just that.
    """
    pixels = film.pixels.astype(np.float32)
    return {
        "file_size": float(path.stat().st_size),
        "sharpness": sharpness(pixels),
        "brightness": float(pixels.mean()),
        "contrast": float(pixels.std()),
        "shape": film.width / film.height,
        "view": float((view or film.view_position) == "AP"),
    }


def sharpness(pixels: np.ndarray) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000); 0 for a film without an inside."""
    if min(pixels.shape) < 3:
        return 0.0
    around = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:]
    return float((around - 4 * pixels[1:-1, 1:-1]).var())


def either_way(labels: np.ndarray, values: np.ndarray) -> float:
    """AUC of a feature whose direction nobody promised: the better of it and its reverse."""
    area = auc(labels, values)
    return max(area, 1 - area)


def trivial_figures(
    labels: np.ndarray, features: Sequence[dict[str, float]], patients: np.ndarray
) -> Figures:
    """How far each trivial feature alone tells the classes apart, its direction chosen to flatter
    it in every draw of the bootstrap: 0.5 is nothing, and small samples never reach it.
    """
    names = features[0] if features else ()
    return {
        name: drawn(either_way, labels, np.array([f[name] for f in features], float), patients)
        for name in names
    }


def without_nan(value: Any) -> Any:
    """The same figures with null for what cannot be computed: JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def thinned(points: Figures, most: int) -> Figures:
    """A curve of two columns with at most ``most`` points, evenly along its length, ends kept."""
    across, up = (np.array(column, float) for column in points.values())
    if across.size <= most:
        return points
    along = np.append(0.0, np.cumsum(np.abs(np.diff(across)) + np.abs(np.diff(up))))
    wanted = np.searchsorted(along, np.linspace(0, along[-1], most - 1))
    chosen = np.unique(np.append(np.minimum(wanted, across.size - 1), across.size - 1))
    return {name: [column[at] for at in chosen] for name, column in points.items()}
