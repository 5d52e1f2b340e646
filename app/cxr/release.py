"""The model release: what the workshop hands to the clinic, and the contract between the two.

A release is a folder with ``manifest.json``, one ONNX graph, a model card and self-test films. The
manifest names every file with its SHA-256; signatures are the business of ``app.updates``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 1
MANIFEST = "manifest.json"
ACTIVE = "active.json"
FACTORY = "factory"
FACTORY_DIRECTORY = Path(__file__).resolve().parents[2] / "assets" / "release"

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
    return next(band for band, upper in AGE_BANDS if age_years < upper)


@dataclass(frozen=True)
class Calibration:
    """Logistic calibration (Platt 1999): probability = 1 / (1 + exp(-(slope * logit +
    intercept))).
    """

    slope: float
    intercept: float

    def probability(self, logit: float) -> float:
        """Strictly increasing in ``logit`` over the range of float32 network scores; 0..1."""
        score = self.slope * float(logit) + self.intercept
        if score >= 0:
            return 1.0 / (1.0 + math.exp(-score))
        return math.exp(score) / (1.0 + math.exp(score))


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
        release = cls(directory, manifest, local_operating_points or {})
        release._read_everything_once()
        return release

    def _read_everything_once(self) -> None:
        """A manifest that lacks something must fail at the start, not at the first film."""
        try:
            points = [OperatingPoint(**point) for point in self._operating_points().values()]
            points.append(self.operating_point(None))
            ordered = all(0 <= p.lower <= p.threshold <= p.upper <= 1 for p in points)
            numbers = (self.calibration.slope, self.film_threshold, float(self.input_size))
            usable = ordered and self.calibration.slope > 0 and all(map(math.isfinite, numbers))
            complete = bool(self.self_test_cases and self.label)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UnusableRelease("release_manifest_damaged") from error
        if not (usable and complete):
            raise UnusableRelease("release_manifest_damaged")

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

    @property
    def calibration(self) -> Calibration:
        """From score to probability."""
        return Calibration(**self.manifest["calibration"])

    @property
    def film_threshold(self) -> float:
        """Score of the gate (a logit) below which a picture is not taken for a frontal chest
        film.
        """
        return float(self.manifest["gate"]["threshold"])

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
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnusableRelease("active_release_damaged") from error
    if name == FACTORY:
        return Release.load(FACTORY_DIRECTORY, points)
    return Release.load(path.parent / name, points)


def _read_manifest(directory: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UnusableRelease("release_missing") from error
    except (OSError, ValueError) as error:
        raise UnusableRelease("release_manifest_damaged") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise UnusableRelease("release_manifest_damaged")
    if manifest.get("format") != FORMAT:
        raise UnusableRelease("release_format_unknown", format=str(manifest.get("format")))
    if manifest.get("graph") not in manifest["files"]:
        raise UnusableRelease("release_manifest_damaged")
    return manifest


def _verify_file(directory: Path, name: str, digest: str) -> None:
    path = directory / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UnusableRelease("release_manifest_damaged")
    try:
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UnusableRelease("release_file_missing", file=name) from error
    if actual != digest:
        raise UnusableRelease("release_file_changed", file=name)
