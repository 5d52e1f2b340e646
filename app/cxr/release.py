"""The model release: what the workshop hands to the clinic, and the contract between the two.

A release is a folder with ``manifest.json``, one ONNX graph, a model card and self-test films. The
manifest names every file with its SHA-256; signatures are the business of ``app.updates``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from app.cxr.durable import write_durably

FORMAT = 1
MANIFEST = "manifest.json"
REPORT = "report.json"
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
BANDS = (*(band for band, _ in AGE_BANDS), UNKNOWN_AGE)


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


def _log_odds(probability: float) -> float:
    return math.log(probability / (1.0 - probability))


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

    @property
    def is_sound(self) -> bool:
        """Whether the three are probabilities in their order."""
        return 0 <= self.lower <= self.threshold <= self.upper <= 1

    def moved_to(self, threshold: float) -> OperatingPoint:
        """The same point at another threshold, 0 < ``threshold`` < 1.

        Both ends of the range of withheld answers keep their distance from the threshold in log
        odds, which is how the network scores films; an end at 0 or 1 stays there.
        """
        lower, upper = (self._moved(end, threshold) for end in (self.lower, self.upper))
        return OperatingPoint(threshold, min(lower, threshold), max(upper, threshold))

    def _moved(self, end: float, threshold: float) -> float:
        if end in (0.0, 1.0) or not 0 < self.threshold < 1:
            return end
        return _logistic(_log_odds(threshold) + _log_odds(end) - _log_odds(self.threshold))


@dataclass(frozen=True)
class LocalPoints:
    """A clinic's own operating points as ``active.json`` notes them, told apart by their use.

    ``in_force``: band to point, of the release that is active. ``lapsed``: bands of another
    release. ``refused``: bands whose note cannot be used, ``?`` for a band that nobody knows.
    """

    in_force: Mapping[str, OperatingPoint] = field(default_factory=dict)
    lapsed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @classmethod
    def of(cls, note: object, label: str) -> LocalPoints:
        """From what the file holds, whatever that is; ``label``: ``name@version`` in use."""
        if note is None:
            return cls()
        if not isinstance(note, dict):
            return cls(refused=("?",))
        in_force: dict[str, OperatingPoint] = {}
        lapsed, refused = [], []
        for band, entry in note.items():
            model, point = _local_point(entry)
            if band not in BANDS or point is None:
                refused.append(band if band in BANDS else "?")
            elif model == label:
                in_force[band] = point
            else:
                lapsed.append(band)
        return cls(in_force, tuple(lapsed), tuple(refused))


def _local_point(entry: object) -> tuple[str, OperatingPoint | None]:
    """The release that a note belongs to and its point, None where either makes no sense."""
    if not isinstance(entry, dict) or set(entry) != {"model", "threshold", "lower", "upper"}:
        return "", None
    model, *numbers = (entry[name] for name in ("model", "threshold", "lower", "upper"))
    # True counts as 1 in Python, and is no threshold
    if not isinstance(model, str) or any(type(number) not in (int, float) for number in numbers):
        return "", None
    point = OperatingPoint(*numbers)
    # At 0 every film would be likely, at 1 none
    return model, point if point.is_sound and 0 < point.threshold < 1 else None


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
    local: LocalPoints = field(default_factory=LocalPoints)

    @classmethod
    def load(cls, directory: Path, local_note: object = None) -> Release:
        """Read and verify a release; raises UnusableRelease where anything is missing or
        changed.

        ``local_note``: what ``active.json`` says of the clinic's own operating points. What of it
        cannot be used is set aside, and the release's own points answer.
        """
        manifest = _read_manifest(directory)
        for name, digest in manifest["files"].items():
            _verify_file(directory, name, digest)
        release = cls(directory, manifest)
        if not release._is_usable():
            raise UnusableRelease("release_manifest_damaged")
        return replace(release, local=LocalPoints.of(local_note, release.label))

    def _is_usable(self) -> bool:
        """A manifest that lacks something must fail at the start, not at the first film."""
        try:
            noted = self.manifest["operating_points"].values()
            points = [OperatingPoint(**point) for point in noted]
            points.append(self.operating_point(None))
            ordered = all(point.is_sound for point in points)
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
        return self.local.in_force.get(band) or self.own_operating_point(band)

    def own_operating_point(self, band: str) -> OperatingPoint:
        """The operating point that the release brings for an age band."""
        points = self.manifest["operating_points"]
        return OperatingPoint(**points.get(band, points[UNKNOWN_AGE]))

    def report(self) -> Mapping[str, Any]:
        """What the workshop measured (``model_export card``); empty where nothing was."""
        if REPORT not in self.manifest["files"]:
            return {}
        try:
            report = json.loads((self.directory / REPORT).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return report if isinstance(report, dict) else {}


def load_active(data_directory: Path | None) -> Release:
    """The release a data directory has switched on: ``active.json``, else the factory release.

    The file alone decides, so that the command line and the server give the same answer without a
    database. Raises UnusableRelease.
    """
    active = read_active(data_directory) if data_directory else {"release": FACTORY}
    name, local_note = active["release"], active.get("operating_points")
    if name == FACTORY:
        return Release.load(FACTORY_DIRECTORY, local_note)
    assert data_directory is not None
    return Release.load(data_directory / name, local_note)


def read_active(data_directory: Path) -> dict[str, Any]:
    """What ``active.json`` holds, that of the factory release where there is none.

    ``release``: ``factory`` or a folder inside the data directory. ``operating_points``, if any:
    band to ``model``, ``threshold``, ``lower`` and ``upper``, not checked here. Raises
    UnusableRelease.
    """
    path = data_directory / ACTIVE
    if not path.exists():
        return {"release": FACTORY}
    try:
        active = json.loads(path.read_text(encoding="utf-8"))
        name = active["release"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnusableRelease("active_release_damaged") from error
    if not isinstance(name, str) or (name != FACTORY and not _is_inside(name)):
        raise UnusableRelease("active_release_damaged")
    return dict(active)


def write_active(data_directory: Path, active: Mapping[str, Any]) -> None:
    """Put ``active.json`` in place of the old one, whole or not at all; raises OSError."""
    text = json.dumps(active, indent=1, allow_nan=False)
    write_durably(data_directory / ACTIVE, text.encode())


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
