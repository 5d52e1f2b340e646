"""Teach the gate: is this a frontal chest film at all, and is all of the chest on it?

Each question is a linear unit on the trained backbone.

Its threshold is set on films of patients it has not seen, so that few real films are turned away;
the real pictures of other body parts are kept for testing.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

from app.cxr.release import CUT_OFF, NOT_A_FILM
from model_export.augment import Augmentation, augment
from model_export.datasets import LabelledFilm, load_kermany, read_films, split_by_patient
from model_export.negatives import cut_films, negatives
from model_export.network import Gate, gate_features

QUESTIONS = (NOT_A_FILM, CUT_OFF)
GATE_FILE = "gate.npz"
NEGATIVES = 3000
FALSE_REFUSALS = 0.001
# Films of other hospitals, phones and exposures must pass as well as those of the training set:
# cut closer, on white or grey, pale, harsh, unevenly lit, with something lying on them.
FILM_VARIETY = Augmentation(
    rotation=10, scale=0.3, aspect=0.35, shift=0.1, gamma=0.8, contrast=0.8, brightness=0.2,
    shading=0.3, noise=0.04, blur=0.7, erase=0.2,
)  # fmt: skip
VARIETIES = 2
REGULARISATION = 0.001


def load_gate(run: Path) -> Gate:
    """The gate of a run, 0 or more for a film; FileNotFoundError before its stage has run."""
    with np.load(run / GATE_FILE) as file:
        return Gate(file["weights"].astype(np.float32), file["bias"].astype(np.float32))


def fit_unit(films: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights ``(features,)`` and bias of a logistic regression on standardised features, the
    standardising folded in.
    """
    features = np.concatenate([films, others]).astype(np.float64)
    labels = np.r_[np.ones(len(films)), np.zeros(len(others))]
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-3
    fitted = LogisticRegression(C=REGULARISATION, max_iter=2000, class_weight="balanced").fit(
        (features - mean) / deviation, labels
    )
    weights = fitted.coef_[0] / deviation
    return weights, float(fitted.intercept_[0] - weights @ mean)


def fit_gate(films: np.ndarray, others: Mapping[str, np.ndarray], unseen: np.ndarray) -> Gate:
    """One unit for each question, against the ``others`` of that question.

    The bias carries the threshold, set on ``unseen`` films: weights of one fit and a threshold of
    another cannot meet. All arrays are features, ``(count, features)``.
    """
    units = [fit_unit(films, others[code]) for code in QUESTIONS]
    weights = np.stack([unit for unit, _ in units], axis=1).astype(np.float32)
    lowest = np.quantile(unseen @ weights, FALSE_REFUSALS, axis=0)
    return Gate(weights, -lowest.astype(np.float32))


def scores(gate: Gate, features: np.ndarray) -> np.ndarray:
    """Gate logits ``(count, gates)`` of ``(count, features)``."""
    return np.asarray(features @ gate.weights + gate.bias)


def varied_films(images: np.ndarray) -> np.ndarray:
    """Every film as it is and VARIETIES times more as other clinics might have sent it."""
    batches = [
        augment(tf.cast(images[i : i + 64], tf.float32), FILM_VARIETY).numpy()
        for _ in range(VARIETIES)
        for i in range(0, len(images), 64)
    ]
    return np.concatenate([images.astype(np.float32), *batches])


def adult_films(folder: Path | None) -> list[LabelledFilm]:
    """Unlabelled adult films of ``folder/images``: other bodies, other machines; none if None."""
    if folder is None:
        return []
    paths = sorted((folder / "images").iterdir())
    return [LabelledFilm(path, 0, path.stem.split("_")[0], "adults") for path in paths]


def train_gate(run: Path, data: Path, adults: Path | None) -> None:
    """Fit the gate of a trained run and write ``gate.npz``."""
    from model_export.runs import load_members

    trained = load_members(run)[0]
    size = trained.input_shape[1]
    split = split_by_patient([*load_kermany(data), *adult_films(adults)])
    learn = read_films(split.train[:: max(1, len(split.train) // 2500)], size)
    check = read_films(split.validation, size)
    network = gate_features(trained)

    def features(images: np.ndarray) -> np.ndarray:
        return np.asarray(network.predict(images.astype(np.float32), batch_size=64, verbose=0))

    def others(of: np.ndarray, count: int, seed: int) -> dict[str, np.ndarray]:
        made = negatives(of[..., 0], count, size, seed), cut_films(of[..., 0], count, seed)
        return {code: features(pictures) for code, pictures in zip(QUESTIONS, made, strict=True)}

    unseen = features(varied_films(check))
    gate = fit_gate(features(varied_films(learn)), others(learn, NEGATIVES, 0), unseen)
    np.savez(run / GATE_FILE, weights=gate.weights, bias=gate.bias)
    for code, unseen_others in others(check, NEGATIVES // 4, 1).items():
        refused = (scores(gate, unseen_others)[:, QUESTIONS.index(code)] < 0).mean()
        print(f"\n{code}: {refused:.1%} of such unseen pictures are refused")
    print(f"{(scores(gate, unseen).min(axis=1) < 0).mean():.2%} of unseen, varied films are")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument("--run", type=Path, required=True, help="folder of a trained run")
    parser.add_argument("--data", type=Path, required=True, help="folder with NORMAL and PNEUMONIA")
    parser.add_argument(
        "--adults", type=Path, help="folder whose images/ holds unlabelled adult films"
    )


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    train_gate(options.run, options.data, options.adults)
    return 0
