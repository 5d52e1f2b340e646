"""Make a model release: calibrate, choose operating points, add self-test films, write the
manifest. Its figures and its card come afterwards, from ``evaluate`` and ``card``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from app.cxr.metrics import fit_platt, threshold_for_sensitivity
from app.cxr.model import Model, open_graph
from app.cxr.radiograph import read_radiograph, to_model_input
from app.cxr.release import FORMAT, MANIFEST, UNKNOWN_AGE, Calibration, Release
from model_export.augment import Augmentation, augment
from model_export.datasets import (
    LabelledFilm,
    load_kermany,
    load_labels_csv,
    read_films,
    split_by_patient,
)
from model_export.gate import QUESTIONS
from model_export.phantom import ZONES, chest_film
from model_export.quantize import INT8_GRAPH, run_graph
from model_export.runs import load_experiment, member_runs

GRAPH = "model.onnx"
DRAWS = 3
THRESHOLD_DRAWS = 1000
SELF_TEST_TOLERANCE = 0.05

# Calibration and operating points are fitted on the validation patients both as they are and as
# they might look elsewhere: on their own films at home nearly every answer is right, and a
# calibration fitted there would promise the next hospital a certainty that nobody has.
ELSEWHERE = Augmentation(
    rotation=12, scale=0.2, aspect=0.2, shift=0.08, flip=False, gamma=0.6, contrast=0.5,
    brightness=0.15, noise=0.03, blur=0.8,
)  # fmt: skip

# Adults' few numbers are fitted on films that radiologists read, inside the one draw where label
# and source are not the same thing.
ADULT_LABEL = "radiologist_label"
OPACITY, NORMAL, NOT_NORMAL = "Lung Opacity", "Normal", "No Lung Opacity / Not Normal"
ADULT_DRAW = ("nih_findings", "Pneumonia")


@dataclass(frozen=True)
class Aim:
    """What an operating point is chosen for.

    ``sensitivity``: wanted share of films with pneumonia that are called, at the forced answer.
    ``missed``: bound on the expected share of films with pneumonia that come back "unlikely".
    ``false_alarm``: bound on the expected share of clear films that come back "likely".
    """

    sensitivity: float
    missed: float
    false_alarm: float


# Other people's networks lost 10 to 50 points of specificity on the next children's films and
# hardly any sensitivity, so children's false alarms are held far lower at home than they may be
# elsewhere.
CHILDREN = Aim(sensitivity=0.97, missed=0.015, false_alarm=0.01)
ADULTS = Aim(sensitivity=0.90, missed=0.10, false_alarm=0.15)
UNKNOWN = Aim(sensitivity=0.93, missed=0.05, false_alarm=0.10)


@dataclass(frozen=True)
class Scores:
    """Labels ``(films,)`` 0 or 1, network scores ``(films,)``, and which films show nothing at all:
    ``clear`` bool ``(films,)``, all or some of those of label 0.
    """

    labels: np.ndarray
    logits: np.ndarray
    clear: np.ndarray

    def with_weight_of(self, other: Scores) -> Scores:
        """These scores repeated until they are as many as ``other``'s."""
        times = max(1, other.labels.size // self.labels.size)
        return Scores(*(np.tile(part, times) for part in (self.labels, self.logits, self.clear)))

    def __add__(self, other: Scores) -> Scores:
        return Scores(
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.logits, other.logits]),
            np.concatenate([self.clear, other.clear]),
        )


def elsewhere(images: np.ndarray, seed: int) -> np.ndarray:
    """Films as another hospital might have taken them: uint8 in, uint8 out."""
    tf.random.set_seed(seed)
    batches = [
        augment(tf.cast(images[i : i + 64], tf.float32), ELSEWHERE).numpy()
        for i in range(0, len(images), 64)
    ]
    return np.rint(np.concatenate(batches)).astype(np.uint8)


def choose_band(
    sick: np.ndarray, clear: np.ndarray, threshold: float, aim: Aim
) -> tuple[float, float]:
    """The narrowest band around ``threshold`` that keeps both kinds of wrong answer in bounds.

    ``sick`` and ``clear``: probabilities of films of either kind. Conformal risk control
    (Angelopoulos et al. 2024) within each kind: the share of a kind that is answered wrongly can
    only fall as the band widens, so (wrong + 1) / (films + 1) bounds its expectation for new films
    of that kind, however many there are of the other. Where a kind has too few films for its
    bound, the answer that could be wrong is never given.
    """
    may_miss = _allowed(aim.missed, sick.size)
    may_alarm = _allowed(aim.false_alarm, clear.size)
    lower = 0.0 if may_miss < 0 else float(np.sort(sick)[may_miss])
    upper = 1.0 if may_alarm < 0 else math.nextafter(np.sort(clear)[-1 - may_alarm], 1.0)
    return min(lower, threshold), max(upper, threshold)


def _allowed(bound: float, films: int) -> int:
    """How many of ``films`` may be wrong; -1 where even none is too many to promise ``bound``."""
    return math.floor(bound * (films + 1)) - 1


@dataclass(frozen=True)
class Decision:
    """How scores become answers for an age band, and in words how that was chosen."""

    calibration: Calibration
    threshold: float
    lower: float
    upper: float
    note: str


def steady_threshold(scores: Scores, sensitivity: float) -> float:
    """The score at which ``sensitivity`` of the films with pneumonia are called, as it comes out on
    the average of films drawn anew from these: of 31 films a single one would decide.

    Never above the score at which that many of these very films are called.
    """
    sick = scores.logits[scores.labels == 1]
    ones = np.ones(sick.size, int)
    dice = np.random.default_rng(0)
    found = [
        threshold_for_sensitivity(ones, dice.choice(sick, sick.size), sensitivity)
        for _ in range(THRESHOLD_DRAWS)
    ]
    return min(float(np.mean(found)), threshold_for_sensitivity(ones, sick, sensitivity))


def decide(scores: Scores, aim: Aim, films: str) -> Decision:
    """Calibrate on ``scores`` and choose threshold and band for ``aim``; ``films`` says whose."""
    calibration = Calibration(*fit_platt(scores.labels, scores.logits))
    probabilities = _probabilities(calibration, scores.logits)
    threshold = calibration.probability(steady_threshold(scores, aim.sensitivity))
    sick, clear = probabilities[scores.labels == 1], probabilities[scores.clear]
    lower, upper = choose_band(sick, clear, threshold, aim)
    withheld = ((probabilities >= lower) & (probabilities < upper)).mean()
    note = (
        f"Fitted on {films}. Threshold for a sensitivity of {aim.sensitivity:.2f} there, at a "
        f"specificity of {(clear < threshold).mean():.2f} against clear films. The answer is "
        f"withheld on {withheld:.1%} of them. By conformal risk control at most {aim.missed:.1%} "
        'of films with pneumonia of this kind are expected to come back "unlikely" '
        f"({(sick < lower).mean():.1%} there), and at most {aim.false_alarm:.1%} of clear ones "
        f'"likely" ({(clear >= upper).mean():.1%} there).'
    )
    return Decision(calibration, threshold, lower, upper, note)


def child_scores(graph: Path, films: list[LabelledFilm], size: int) -> tuple[Scores, np.ndarray]:
    """Scores of children's films as they are and as they might look elsewhere, and the maps of the
    former.
    """
    images = read_films(films, size, "validation films")
    labels = np.array([film.label for film in films])
    at_home = run_graph(graph, images)
    logits = [at_home["logit"].ravel()] + [
        run_graph(graph, elsewhere(images, draw))["logit"].ravel() for draw in range(DRAWS)
    ]
    repeated = np.tile(labels, DRAWS + 1)
    return Scores(repeated, np.concatenate(logits), repeated == 0), at_home["activation_map"]


def adult_scores(graph: Path, root: Path, size: int) -> Scores:
    """Scores of adults' films read by radiologists; ``root`` holds ``labels.csv``."""
    films = load_labels_csv(root, ADULT_LABEL, [OPACITY], [NORMAL, NOT_NORMAL], [ADULT_DRAW])
    # the same rows in the same order, asked which are normal
    again = load_labels_csv(root, ADULT_LABEL, [NORMAL], [OPACITY, NOT_NORMAL], [ADULT_DRAW])
    return Scores(
        np.array([film.label for film in films]),
        run_graph(graph, read_films(films, size, "adult films"))["logit"].ravel(),
        np.array([film.label == 1 for film in again]),
    )


def decisions(children: Scores, adults: Scores | None) -> dict[str, Decision]:
    """One decision for every age band; without films of adults the children's serve for all."""
    child = decide(children, CHILDREN, "validation patients of 1-5 years, as they are and changed")
    if adults is None:
        return dict.fromkeys(("under_5", "5_14", "15_64", "65_and_over", UNKNOWN_AGE), child)
    adult = decide(adults, ADULTS, "adults' films read by radiologists")
    mixed = decide(
        children + adults.with_weight_of(children), UNKNOWN, "both, of equal weight, for no age"
    )
    return {
        "under_5": child,
        "5_14": child,
        "15_64": adult,
        "65_and_over": adult,
        UNKNOWN_AGE: mixed,
    }


def pack(
    run: Path, data: Path, adults: Path | None, release: Path, name: str, version: str
) -> Release:
    """Write a release folder from a quantized run; replaces an older one at ``release``."""
    experiment = load_experiment(run)
    size = experiment.size
    films = split_by_patient(load_kermany(data)).validation
    graph = run / INT8_GRAPH
    children, maps = child_scores(graph, films, size)
    chosen = decisions(children, adult_scores(graph, adults, size) if adults else None)

    shutil.rmtree(release, ignore_errors=True)
    release.mkdir(parents=True)
    shutil.copyfile(graph, release / GRAPH)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "graph": GRAPH,
        "input": {"size": size, "channels": 1, "dtype": "float32", "range": [0, 255]},
        "calibration": asdict(chosen[UNKNOWN_AGE].calibration),
        "calibration_by_age": {band: asdict(one.calibration) for band, one in chosen.items()},
        "operating_points": {
            band: {"threshold": one.threshold, "lower": one.lower, "upper": one.upper}
            for band, one in chosen.items()
        },
        "operating_point_notes": {band: one.note for band, one in chosen.items()},
        "activation_map": map_range(maps, np.array([film.label for film in films])),
        "gate": {"threshold": 0.0, "codes": list(QUESTIONS)},
        "training": training_of(run),
        "self_test": self_test(release, size),
    }
    manifest["files"] = {
        path.relative_to(release).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(release.rglob("*"))
        if path.is_file()
    }
    (release / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    loaded = Release.load(release)
    failed = Model.load(loaded).self_test()
    if failed:
        raise RuntimeError(f"the release fails its own self-test: {failed}")
    return loaded


def training_of(run: Path) -> dict[str, Any]:
    """For the card: which experiments the members of a run are."""
    members = [load_experiment(member) for member in member_runs(run)]
    more = {
        "adults": "adults' films of NIH ChestX-ray14, by their pixels and what an older "
        "release and other members said of them, never by their labels"
        if any(member.unlabelled for member in members)
        else None,
        "opacities": "some members also learnt from opacities drawn into films without a known "
        "pneumonia, and where these lie"
        if any(member.opacity for member in members)
        else None,
    }
    return {
        "network": "EfficientNet-Lite0 (ImageNet weights, Apache-2.0), two-level feature pyramid, "
        "one scored place for every 16 input pixels, log-mean-exp pooling; int8",
        "members": ", ".join(f"{member.name} (seed {member.seed})" for member in members),
        "epochs": members[0].epochs,
        "films": "Kermany, Zhang, Goldbaum 2018 (Mendeley Data rscbjbr9sj, CC BY 4.0), children of "
        "1-5 years, one hospital in Guangzhou; by patient 80 % trained on, 10 % for calibration "
        "and operating points, 10 % held out",
        **{name: words for name, words in more.items() if words},
    }


def map_range(maps: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Cold is what nearly all places of clear films stay under, hottest what few films exceed.

    The hottest of clear films counts too, so that the range rises even for a network that sees
    less in films with pneumonia than in clear ones.
    """
    peaks = maps.max(axis=(1, 2, 3))
    return {
        "low": float(np.quantile(maps[labels == 0], 0.95)),
        "high": max(float(np.quantile(peaks[labels == label], 0.95)) for label in (0, 1)),
    }


def _probabilities(calibration: Calibration, logits: np.ndarray) -> np.ndarray:
    return np.array([calibration.probability(logit) for logit in logits])


def self_test(release: Path, size: int) -> list[dict[str, Any]]:
    """Draw the synthetic films of the release and record what the graph says of them."""
    (release / "self_test").mkdir()
    session = open_graph(release / GRAPH)
    cases = []
    for index, opacity in enumerate((None, *list(ZONES)[:3])):
        file = f"self_test/phantom-{index}.png"
        Image.fromarray(chest_film(index + 1, (320, 320), opacity)).save(release / file)
        film = to_model_input(read_radiograph(release / file), size)
        (logit,) = session.run(["logit"], {"image": film})
        cases.append({"file": file, "logit": float(logit.item()), "tolerance": SELF_TEST_TOLERANCE})
    return cases


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument("--run", type=Path, required=True, help="folder of a quantized run")
    parser.add_argument("--data", type=Path, required=True, help="folder with NORMAL and PNEUMONIA")
    parser.add_argument(
        "--adults",
        type=Path,
        help="folder with labels.csv of films read by radiologists, for the adults' few numbers",
    )
    parser.add_argument(
        "--release", type=Path, required=True, help="folder to write the release to"
    )
    parser.add_argument("--name", required=True, help="name of the release, such as chest-lite0")
    parser.add_argument("--version", required=True, help="version of the release, such as 1.0.0")


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    release = pack(
        options.run,
        options.data,
        options.adults,
        options.release,
        options.name,
        options.version,
    )
    print(f"{release.label} in {release.directory}")
    return 0
