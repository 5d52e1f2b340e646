"""Teach the gate: is this a frontal chest film at all? A linear unit on the trained backbone.

Its threshold is set on films of patients it has not seen, so that few real films are turned away;
the real pictures of other body parts are kept for testing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

from model_export.augment import Augmentation, augment
from model_export.datasets import LabelledFilm, load_kermany, read_films, split_by_patient
from model_export.negatives import negatives
from model_export.network import Gate, gate_features

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
        return Gate(file["weights"].astype(np.float32), float(file["bias"]))


def fit_gate(films: np.ndarray, others: np.ndarray) -> Gate:
    """Logistic regression on standardised features, the standardising folded into the weights."""
    features = np.concatenate([films, others]).astype(np.float64)
    labels = np.r_[np.ones(len(films)), np.zeros(len(others))]
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-3
    fitted = LogisticRegression(C=REGULARISATION, max_iter=2000, class_weight="balanced").fit(
        (features - mean) / deviation, labels
    )
    weights = fitted.coef_[0] / deviation
    return Gate(weights.astype(np.float32), float(fitted.intercept_[0] - weights @ mean))


def scores(gate: Gate, features: np.ndarray) -> np.ndarray:
    """Gate logits of ``(count, features)``."""
    return features @ gate.weights + gate.bias


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

    gate = fit_gate(
        features(varied_films(learn)), features(negatives(learn[..., 0], NEGATIVES, size))
    )
    film_scores = scores(gate, features(varied_films(check)))
    other_scores = scores(gate, features(negatives(check[..., 0], NEGATIVES // 4, size, seed=1)))
    # The bias carries the threshold: weights of one fit and a threshold of another cannot meet.
    threshold = float(np.quantile(film_scores, FALSE_REFUSALS))
    np.savez(run / GATE_FILE, weights=gate.weights, bias=gate.bias - threshold)
    refused = float((other_scores < threshold).mean())
    print(f"\n{refused:.1%} of unseen pictures that are no film are refused")


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
