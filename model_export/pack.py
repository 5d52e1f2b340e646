"""Make a model release: calibrate, choose operating points, add self-test films, write the
manifest.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from app.cxr.metrics import (
    auc,
    by_patient,
    confusion,
    expected_calibration_error,
    fit_platt,
    threshold_for_sensitivity,
    wilson,
)
from app.cxr.model import Model, open_graph
from app.cxr.radiograph import read_radiograph, to_model_input
from app.cxr.release import AGE_BANDS, FORMAT, MANIFEST, UNKNOWN_AGE, Calibration, Release
from model_export.augment import Augmentation, augment
from model_export.datasets import LabelledFilm, load_kermany, read_films, split_by_patient
from model_export.export import load_experiment
from model_export.phantom import ZONES, chest_film
from model_export.quantize import INT8_GRAPH, run_graph

GRAPH = "model.onnx"
CARD = "MODEL_CARD.md"
DRAWS = 3
SENSITIVITY = 0.97
ANSWERED_ERROR = 0.02
WIDEST_BAND = 0.15
SELF_TEST_TOLERANCE = 0.05

# Calibration and operating points are fitted on the validation patients both as they are and as
# they might look elsewhere: on their own films at home nearly every answer is right, and a
# calibration fitted there would promise the next hospital a certainty that nobody has.
ELSEWHERE = Augmentation(
    rotation=12, scale=0.2, aspect=0.2, shift=0.08, flip=False, gamma=0.6, contrast=0.5,
    brightness=0.15, noise=0.03, blur=0.8,
)  # fmt: skip


def elsewhere(images: np.ndarray, seed: int) -> np.ndarray:
    """Films as another hospital might have taken them: uint8 in, uint8 out."""
    tf.random.set_seed(seed)
    batches = [
        augment(tf.cast(images[i : i + 64], tf.float32), ELSEWHERE).numpy()
        for i in range(0, len(images), 64)
    ]
    return np.rint(np.concatenate(batches)).astype(np.uint8)


def choose_band(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float
) -> tuple[float, float]:
    """The narrowest band around ``threshold`` outside which at most ANSWERED_ERROR is wrong.

    Widened symmetrically in rank until the bound holds or WIDEST_BAND of the films are withheld.
    """
    order = np.argsort(np.abs(_logit(probabilities) - _logit(np.array([threshold]))))
    wrong = (probabilities >= threshold) != (labels == 1)
    widest = int(WIDEST_BAND * labels.size)
    for withheld in range(widest + 1):
        rest = order[withheld:]
        if wrong[rest].mean() <= ANSWERED_ERROR:
            break
    inside = probabilities[order[:withheld]]
    low = float(min(inside.min(initial=threshold), threshold))
    high = float(max(inside.max(initial=threshold), threshold))
    return low, float(np.nextafter(high, 1.0)) if high > threshold else threshold


def _logit(probability: np.ndarray) -> np.ndarray:
    return np.log(probability / (1 - probability))


def pack(run: Path, data: Path, release: Path, name: str, version: str) -> Release:
    """Write a release folder from a quantized run; replaces an older one at ``release``."""
    size = load_experiment(run).size
    split = split_by_patient(load_kermany(data))
    images = read_films(split.validation, size, "validation films")
    truth = np.array([film.label for film in split.validation])
    graph = run / INT8_GRAPH
    at_home = run_graph(graph, images)
    logits = np.concatenate(
        [at_home["logit"].ravel()]
        + [run_graph(graph, elsewhere(images, draw))["logit"].ravel() for draw in range(DRAWS)]
    )
    labels = np.tile(truth, DRAWS + 1)
    calibration = Calibration(*fit_platt(labels, logits))
    probabilities = _probabilities(calibration, logits)
    threshold = threshold_for_sensitivity(labels, probabilities, SENSITIVITY)
    lower, upper = choose_band(labels, probabilities, threshold)
    point = {"threshold": threshold, "lower": lower, "upper": upper}

    shutil.rmtree(release, ignore_errors=True)
    release.mkdir(parents=True)
    shutil.copyfile(graph, release / GRAPH)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "graph": GRAPH,
        "input": {"size": size, "channels": 1, "dtype": "float32", "range": [0, 255]},
        "calibration": asdict(calibration),
        "operating_points": dict.fromkeys((*dict(AGE_BANDS), UNKNOWN_AGE), point),
        "activation_map": map_range(at_home["activation_map"], truth),
        "gate": {"threshold": 0.0},
        "self_test": self_test(release, size),
    }
    figures = held_out_figures(release / GRAPH, split.test, size, calibration, point)
    (release / CARD).write_text(model_card(manifest, figures), encoding="utf-8")
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


def held_out_figures(
    graph: Path,
    films: list[LabelledFilm],
    size: int,
    calibration: Calibration,
    point: dict[str, float],
) -> dict[str, str]:
    """Figures of the held-out patients for the card, each with its 95 % interval."""
    labels = np.array([film.label for film in films])
    patients = np.array([film.patient for film in films])
    logits = run_graph(graph, read_films(films, size, "test films"))["logit"].ravel()
    probabilities = _probabilities(calibration, logits)
    counts = confusion(labels, probabilities, point["threshold"])
    withheld = (probabilities >= point["lower"]) & (probabilities < point["upper"])
    positives, negatives = int(labels.sum()), int((1 - labels).sum())
    return {
        "films": f"{labels.size} of {np.unique(patients).size} patients ({positives} pneumonia)",
        "AUC": str(by_patient(auc, labels, probabilities, patients)),
        "sensitivity": str(wilson(counts.true_positive, positives)),
        "specificity": str(wilson(counts.true_negative, negatives)),
        "precision": f"{counts.precision:.3f}",
        "F1": f"{counts.f1:.3f}",
        "expected calibration error": f"{expected_calibration_error(labels, probabilities):.3f}",
        "share of films where the answer is withheld": str(
            wilson(int(withheld.sum()), labels.size)
        ),
    }


def model_card(manifest: dict[str, Any], figures: dict[str, str]) -> str:
    """The model card in Markdown (Mitchell et al. 2019), its figures taken from ``figures``."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in figures.items())
    point = manifest["operating_points"][UNKNOWN_AGE]
    return CARD_TEXT.format(
        name=manifest["name"],
        version=manifest["version"],
        size=manifest["input"]["size"],
        rows=rows,
        error=ANSWERED_ERROR,
        widest=WIDEST_BAND,
        sensitivity=SENSITIVITY,
        **point,
    )


CARD_TEXT = """# {name} {version}

**Intended use.** A second look at a frontal chest film for signs of pneumonia, where no radiologist
is at hand, beside the clinical examination and never instead of it.

**Not for.** Lateral films, CT, other body parts; ruling out tuberculosis, heart failure or any
other disease; sending home a patient with danger signs; adults and children over five are outside
the films it was trained on.

**Network.** EfficientNet-Lite0 (ImageNet weights, Apache-2.0), one dense unit, class activation
map; input {size} x {size} grey; int8.

**Training films.** Kermany, Zhang, Goldbaum 2018 (Mendeley Data rscbjbr9sj, CC BY 4.0): children of
1-5 years, one hospital in Guangzhou. Split by patient: 80 % trained on, 10 % to choose the epoch,
the calibration and the operating point, 10 % held out.

**Operating point.** Threshold {threshold:.3f}, for sensitivity {sensitivity} on the validation
patients after random changes of exposure, geometry and sharpness. Between {lower:.3f} and
{upper:.3f} the answer is "cannot say": outside that band at most {error:.0%} of those changed films
were answered wrong, or the band would have withheld more than {widest:.0%} of them.

**Held-out patients of the same hospital** (95 % intervals). They say little about another hospital:
published models of this kind lose 10-50 points of specificity there.

| figure | value |
|---|---|
{rows}

**A known shortcut.** In the full-size originals of these films the ones with pneumonia are wider
than the normal ones (median width to height 1.58 against 1.23), and every film is squashed to a
square. Stretching at random in training weakens that hint; it may not remove it.

**The map** shows what the score rests on, in cells of 32 input pixels. It is not the border of a
disease, and it can be wrong when the answer is right.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument("--run", type=Path, required=True, help="folder of a quantized run")
    parser.add_argument("--data", type=Path, required=True, help="folder with NORMAL and PNEUMONIA")
    parser.add_argument(
        "--release", type=Path, required=True, help="folder to write the release to"
    )
    parser.add_argument("--name", required=True, help="name of the release, such as chest-lite0")
    parser.add_argument("--version", required=True, help="version of the release, such as 1.0.0")


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    release = pack(options.run, options.data, options.release, options.name, options.version)
    print(f"{release.label} in {release.directory}")
    return 0
