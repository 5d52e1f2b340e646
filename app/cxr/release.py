"""The model release: what the workshop hands to the clinic, and the contract between the two.

A release is a folder with ``manifest.json``, one ONNX graph, a model card and self-test films. The
manifest names every file with its SHA-256; signatures are the business of ``app.updates``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 1
MANIFEST = "manifest.json"
ACTIVE = "active.json"
FACTORY = "factory"
FACTORY_DIRECTORY = Path(__file__).resolve().parents[2] / "assets" / "release"

TAIL_SHARE = 1e-6
# A share in a manifest may be rounded to two digits.
SHARE_ROUNDING = 0.0051

# What a gate may ask of a picture; a release names which of them its graph scores, in order.
NOT_A_FILM, CUT_OFF = "not_a_frontal_chest_film", "cut_off"
GATE_CODES = frozenset({NOT_A_FILM, CUT_OFF})

UNKNOWN_AGE = "unknown"
AGE_BANDS = (("under_5", 5.0), ("5_14", 15.0), ("15_64", 65.0), ("65_and_over", math.inf))


class UnusableRelease(Exception):
    """A release that must not be used. ``code`` is stable; ``details`` fills the sentence."""

    def __init__(self, code: str, **details: str) -> None:
        super().__init__(f"{code} {details}" if details else code)
        self.code = code
        self.details = details


CODES = frozenset(
    {
        "release_missing",
        "release_manifest_damaged",
        "release_format_unknown",
        "release_file_missing",
        "release_file_changed",
        "active_release_damaged",
    }
)


def age_band(age_years: float | None) -> str:
    """The band of an age in years: under_5, 5_14, 15_64, 65_and_over, or unknown for None."""
    if age_years is None:
        return UNKNOWN_AGE
    # A table may hold NaN for an age that nobody knows: it is under no limit.
    return next((band for band, upper in AGE_BANDS if age_years < upper), UNKNOWN_AGE)


def _logistic(score: float) -> float:
    if score >= 0:
        return 1.0 / (1.0 + math.exp(-score))
    return math.exp(score) / (1.0 + math.exp(score))


@dataclass(frozen=True)
class Calibration:
    """Logistic calibration (Platt 1999): probability = 1 / (1 + exp(-(slope * logit +
    intercept))), to within one part in a million.
    """

    slope: float
    intercept: float

    def probability(self, logit: float) -> float:
        """Strictly increasing in ``logit`` over the range of float32 network scores; 0..1."""
        score = self.slope * float(logit) + self.intercept
        # In floating point the logistic curve is flat from 37 on, and flat for neighbouring scores
        # long before: a millionth part of a curve with heavy tails keeps their order.
        tail = 0.5 + 0.5 * score / (1.0 + abs(score))
        return (1.0 - TAIL_SHARE) * _logistic(score) + TAIL_SHARE * tail


@dataclass(frozen=True)
class OperatingPoint:
    """``threshold`` is the forced answer; between ``lower`` and ``upper`` the answer is
    withheld.
    """

    threshold: float
    lower: float
    upper: float

    def decide(self, probability: float) -> str:
        """``likely``, ``unlikely`` or ``cannot_say`` for a calibrated probability."""
        if self.lower <= probability < self.upper:
            return "cannot_say"
        return "likely" if probability >= self.threshold else "unlikely"


@dataclass(frozen=True)
class SelfTestCase:
    """A synthetic film of the release and what the graph must say of it."""

    file: str
    logit: float
    tolerance: float


@dataclass(frozen=True)
class Localisation:
    """How often the peak lay in an opacity that radiologists had marked: ``hits`` of ``films``.

    ``value`` is their share, ``low`` to ``high`` its 95 % interval (0..1); ``source`` names films
    and readers.
    """

    hits: int
    films: int
    value: float
    low: float
    high: float
    source: str

    @property
    def is_sound(self) -> bool:
        """Whether the figures are of the right kind, and agree with each other."""
        counts, shares = (self.hits, self.films), (self.low, self.value, self.high)
        # True counts as 1 in Python, and must not count films
        if any(type(count) is not int for count in counts) or not isinstance(self.source, str):
            return False
        if any(type(share) not in (int, float) for share in shares) or not self.source.strip():
            return False
        ordered = 0 <= self.low <= self.value <= self.high <= 1
        counted = 0 <= self.hits <= self.films and self.films > 0
        return ordered and counted and abs(self.value - self.hits / self.films) < SHARE_ROUNDING


@dataclass(frozen=True)
class Release:
    """A verified release folder. Build it with ``load``."""

    directory: Path
    manifest: Mapping[str, Any]
    local_operating_points: Mapping[str, Mapping[str, float]]

    @classmethod
    def load(
        cls,
        directory: Path,
        local_operating_points: Mapping[str, Mapping[str, float]] | None = None,
    ) -> Release:
        """Read and verify a release; raises UnusableRelease where anything is missing or
        changed.
        """
        manifest = _read_manifest(directory)
        for name, digest in manifest["files"].items():
            _verify_file(directory, name, digest)
        if not cls(directory, manifest, {})._is_usable():
            raise UnusableRelease("release_manifest_damaged")
        release = cls(directory, manifest, local_operating_points or {})
        if not release._is_usable():
            raise UnusableRelease("active_release_damaged")
        return release

    def _is_usable(self) -> bool:
        """A manifest that lacks something must fail at the start, not at the first film."""
        try:
            points = [OperatingPoint(**point) for point in self._operating_points().values()]
            points.append(self.operating_point(None))
            ordered = all(0 <= p.lower <= p.threshold <= p.upper <= 1 for p in points)
            curves, cases = self._calibrations(), self.self_test_cases
            cold, hot = self.map_range
            rising = all(curve.slope > 0 for curve in curves)
            rising = rising and cold < hot and self.input_size > 0
            numbers = [number for c in curves for number in (c.slope, c.intercept)]
            numbers += [self.film_threshold, cold, hot]
            numbers += [number for case in cases for number in (case.logit, case.tolerance)]
            finite = all(map(math.isfinite, numbers))
            # an unlisted self-test film is not verified, and could lie outside the release
            listed = bool(cases) and all(case.file in self.manifest["files"] for case in cases)
            located = self.localisation is None or self.localisation.is_sound
            asked = self.gate_codes
            gated = bool(asked) and len(set(asked)) == len(asked) and GATE_CODES.issuperset(asked)
            named = gated and all(
                str(self.manifest[key] or "").strip() for key in ("name", "version")
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            return False
        return ordered and rising and finite and listed and located and named

    @property
    def label(self) -> str:
        """``name@version``, as written beside every finding."""
        return f"{self.manifest['name']}@{self.manifest['version']}"

    @property
    def graph(self) -> Path:
        """The ONNX file."""
        return self.directory / str(self.manifest["graph"])

    @property
    def input_size(self) -> int:
        """Side of the square input in pixels."""
        return int(self.manifest["input"]["size"])

    def calibration(self, age_years: float | None) -> Calibration:
        """From score to probability at an age in years; the general one where a band has none."""
        by_age = self.manifest.get("calibration_by_age", {})
        return Calibration(**by_age.get(age_band(age_years), self.manifest["calibration"]))

    def _calibrations(self) -> list[Calibration]:
        by_age = self.manifest.get("calibration_by_age", {})
        return [Calibration(**curve) for curve in (self.manifest["calibration"], *by_age.values())]

    @property
    def map_range(self) -> tuple[float, float]:
        """Values of the activation map that are shown as cold and as hottest."""
        scale = self.manifest["activation_map"]
        return float(scale["low"]), float(scale["high"])

    @property
    def localisation(self) -> Localisation | None:
        """How well the peak finds what radiologists marked; None where nobody measured it."""
        measured = self.manifest.get("localisation")
        return None if measured is None else Localisation(**measured)

    @property
    def film_threshold(self) -> float:
        """Score of the gate (a logit) below which a picture is not taken for a frontal chest
        film.
        """
        return float(self.manifest["gate"]["threshold"])

    @property
    def gate_codes(self) -> tuple[str, ...]:
        """What the gate asks of a picture, in the order of its scores: codes of a refusal."""
        return tuple(self.manifest["gate"].get("codes", [NOT_A_FILM]))

    def refusal(self, film_scores: Sequence[float]) -> str | None:
        """The code of the first of the gate's scores that is too low; None where all will do."""
        asked = zip(self.gate_codes, film_scores, strict=True)
        return next((code for code, score in asked if score < self.film_threshold), None)

    @property
    def self_test_cases(self) -> list[SelfTestCase]:
        """Synthetic films with the scores they must get."""
        return [SelfTestCase(**case) for case in self.manifest["self_test"]]

    def operating_point(self, age_years: float | None) -> OperatingPoint:
        """The operating point of an age in years; a clinic's own one goes before the release's."""
        band = age_band(age_years)
        points = self._operating_points()
        return OperatingPoint(**points.get(band, points[UNKNOWN_AGE]))

    def _operating_points(self) -> dict[str, Mapping[str, float]]:
        return {**self.manifest["operating_points"], **self.local_operating_points}


def load_active(data_directory: Path | None) -> Release:
    """The release a data directory has switched on: ``active.json``, else the factory release.

    ``active.json`` holds ``release`` (``factory`` or a folder inside the data directory) and may
    hold ``operating_points`` (band to threshold, lower, upper). It alone decides, so that the
    command line and the server give the same answer without a database. Raises UnusableRelease.
    """
    path = data_directory / ACTIVE if data_directory else None
    if path is None or not path.exists():
        return Release.load(FACTORY_DIRECTORY)
    try:
        active = json.loads(path.read_text(encoding="utf-8"))
        name, points = str(active["release"]), dict(active.get("operating_points") or {})
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnusableRelease("active_release_damaged") from error
    if name == FACTORY:
        return Release.load(FACTORY_DIRECTORY, points)
    if not _is_inside(name):
        raise UnusableRelease("active_release_damaged")
    return Release.load(path.parent / name, points)


def _is_inside(name: str) -> bool:
    """Whether a relative path written in a file stays in the folder it is relative to."""
    path = Path(name)
    return bool(path.parts) and not path.anchor and ".." not in path.parts and "\0" not in name


def _read_manifest(directory: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UnusableRelease("release_missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UnusableRelease("release_manifest_damaged") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise UnusableRelease("release_manifest_damaged")
    if manifest.get("format") != FORMAT:
        raise UnusableRelease("release_format_unknown", format=str(manifest.get("format")))
    if manifest.get("graph") not in list(manifest["files"]):
        raise UnusableRelease("release_manifest_damaged")
    return manifest


def _verify_file(directory: Path, name: str, digest: str) -> None:
    if not _is_inside(name):
        raise UnusableRelease("release_manifest_damaged")
    try:
        actual = hashlib.sha256((directory / name).read_bytes()).hexdigest()
    except OSError as error:
        raise UnusableRelease("release_file_missing", file=name) from error
    if actual != digest:
        raise UnusableRelease("release_file_changed", file=name)
