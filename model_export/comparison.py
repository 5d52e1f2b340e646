"""The int8 graph of a release against the float graph it was made of, on the films evaluated."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from app.cxr.metrics import auc
from app.cxr.model import open_graph
from app.cxr.release import Calibration, Release, age_band
from model_export.figures import Figures, Pair, drawn, patient_of, share

OUTPUTS = ("logit", "activation_map")


def against_float(
    float_graph: Path, release: Release, inputs: Sequence[np.ndarray], pairs: Sequence[Pair]
) -> Figures:
    """AUC lost, share of equal forced answers, likeness of the maps, and milliseconds a film of
    each graph alone, one thread.

    ``pairs`` and ``inputs`` are of the films that were scored, in one order.
    """
    small, exact = _run([release.graph, float_graph], inputs)
    patients = np.array([patient_of(film) for film, _ in pairs], str)
    labels = np.array([film.label for film, _ in pairs], int)
    before, after = (np.array([logit for logit, _, _ in rows]) for rows in (exact, small))
    same = sum(
        _forced(release, pair, one) == _forced(release, pair, other)
        for pair, one, other in zip(pairs, before, after, strict=True)
    )
    maps = [np.stack([found for _, found, _ in rows]) for rows in (exact, small)]
    times = [np.array([milliseconds for _, _, milliseconds in rows]) for rows in (exact, small)]
    # The bootstrap draws one array of scores: here these are places in two arrays.
    places = np.arange(labels.size)
    return {
        "films": len(pairs),
        "auc_loss": drawn(
            lambda y, at: auc(y, before[at]) - auc(y, after[at]), labels, places, patients
        ),
        "same_answer": share(same, len(pairs)),
        "map_correlation": drawn(
            lambda _, at: _correlation(maps[0][at], maps[1][at]), labels, places, patients
        ),
        "milliseconds_float": drawn(
            lambda _, at: float(np.median(times[0][at])), labels, places, patients
        ),
        "milliseconds_int8": drawn(
            lambda _, at: float(np.median(times[1][at])), labels, places, patients
        ),
        "times_faster": drawn(
            lambda _, at: float(np.median(times[0][at]) / np.median(times[1][at])),
            labels,
            places,
            patients,
        ),
    }


def _run(
    graphs: Sequence[Path], inputs: Sequence[np.ndarray]
) -> list[list[tuple[float, np.ndarray, float]]]:
    """Logit, map and milliseconds of every film; the graphs take turns, so that whatever else the
    machine does slows both.
    """
    sessions = [open_graph(graph) for graph in graphs]
    rows: list[list[tuple[float, np.ndarray, float]]] = [[] for _ in graphs]
    for model_input in tqdm(inputs, desc="int8 against float", unit="film", leave=False):
        for session, found in zip(sessions, rows, strict=True):
            started = time.perf_counter()
            logit, places = session.run(OUTPUTS, {"image": model_input})
            took = (time.perf_counter() - started) * 1000
            found.append((float(np.asarray(logit).item()), np.asarray(places).ravel(), took))
    return rows


def _forced(release: Release, pair: Pair, logit: float) -> bool:
    """The forced answer of a score at the film's own threshold."""
    analysis = pair[1]
    by_age = release.manifest.get("calibration_by_age", {})
    band = age_band(analysis.age_years)
    calibration = Calibration(**by_age.get(band, release.manifest["calibration"]))
    return calibration.probability(logit) >= float(analysis.threshold or 0.0)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation over all cells of all maps; NaN where either is flat."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
