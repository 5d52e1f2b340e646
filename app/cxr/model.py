"""The network at work: one ONNX graph on the CPU, its outputs asked for by name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.cxr.radiograph import read_radiograph, to_model_input
from app.cxr.release import Release, SelfTestCase, UnusableRelease

# onnxruntime reads this at import; later wheels of it report to their maker unless told otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

OUTPUTS = ("logit", "activation_map", "film_score")
CODES = frozenset({"model_not_loadable", "self_test_failed"})


@dataclass(frozen=True)
class Prediction:
    """What the graph says of one film.

    ``logit``: the network's score. ``probability``: calibrated, 0..1. ``activation_map``: float32
    ``(rows, columns)``, the score of each place of the film, from which the logit is pooled.
    ``film_scores``: what the gate says, a logit for each of the release's ``gate_codes``.
    """

    logit: float
    probability: float
    activation_map: np.ndarray
    film_scores: tuple[float, ...]

    @property
    def film_score(self) -> float:
        """How much this looks like a usable frontal chest film: the lowest of the gate's."""
        return min(self.film_scores)


class Model:
    """A release with its graph loaded. Safe to share between threads (onnxruntime sessions are)."""

    def __init__(self, release: Release, session: onnxruntime.InferenceSession) -> None:
        self.release = release
        self._session = session

    @classmethod
    def load(cls, release: Release, threads: int = 1) -> Model:
        """Open the graph of a verified release; raises UnusableRelease where it cannot be
        loaded.
        """
        try:
            session = open_graph(release.graph, threads)
        except Exception as error:  # onnxruntime raises many kinds, none of them public
            raise UnusableRelease("model_not_loadable") from error
        names = {output.name for output in session.get_outputs()}
        if not names.issuperset(OUTPUTS):
            raise UnusableRelease("model_not_loadable")
        return cls(release, session)

    def predict(self, model_input: np.ndarray, age_years: float | None = None) -> Prediction:
        """Score one film: float32 ``(1, size, size, 1)``, grey 0..255, from ``to_model_input``.

        The age chooses the calibration alone; the network does not know it.
        """
        outputs = self._session.run(OUTPUTS, {self._session.get_inputs()[0].name: model_input})
        logit, activation_map, film_scores = (np.asarray(output) for output in outputs)
        score = float(logit.item())
        return Prediction(
            logit=score,
            probability=self.release.calibration(age_years).probability(score),
            activation_map=activation_map[0, :, :, 0],
            film_scores=tuple(map(float, film_scores.ravel())),
        )

    def self_test(self) -> list[str]:
        """Names of the self-test films whose score is not the one the release promises."""
        return [case.file for case in self.release.self_test_cases if not self._passes(case)]

    def _passes(self, case: SelfTestCase) -> bool:
        try:
            film = read_radiograph(self.release.directory / case.file)
            seen = self.predict(to_model_input(film, self.release.input_size))
        except Exception:  # noqa: BLE001  a self-test that breaks off has failed, however it broke
            return False
        whole_gate = len(seen.film_scores) == len(self.release.gate_codes)
        return whole_gate and abs(seen.logit - case.logit) <= case.tolerance


def open_graph(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """An onnxruntime session on the CPU with a fixed number of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Without the arena a session keeps no peak allocation: films come one at a time on small
    # laptops.
    options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
