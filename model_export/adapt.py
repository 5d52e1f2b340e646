"""Let a finished run see films of another kind, without labels: adaptive batch normalisation.

What differs between scanners and ages sits largely in the mean and spread of a network's features;
they are measured anew on the other films, and no weight is trained (Li et al. 2016, "Revisiting
batch normalization for practical domain adaptation").

Result on ``opacities`` (seed 3) with the 516 adults' films of adult_nih, which it had seen in
training already: it does not help, not even adults. All the way (30 % of the way): children 0.968
(0.982) instead of 0.986, adults against normal 0.91 (0.92) instead of 0.93, against the rest 0.78
(0.78) instead of 0.79, peak in a box on 58 % (71 %) instead of 81 %. By draws of patients children
lose 0.011-0.026 (0.001-0.006); the adults' AUC may have moved either way; only tuberculosis gains,
by 0.002-0.017, and only at 30 %. Its films were adults' and children's in every batch, so its
statistics are of both.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import keras
import numpy as np

from model_export.datasets import films_under, read_paths
from model_export.network import BatchNormalization, classifier
from model_export.runs import WEIGHTS, load_experiment, load_trained

BATCH = 64


def adapt(run: Path, films: np.ndarray, share: float, adapted: Path) -> None:
    """Write ``adapted``, the run with its statistics moved by ``share`` (0..1) of the way to those
    of uint8 films ``(count, side, side, 1)`` and their mirror images.
    """
    trained, experiment = load_trained(run), load_experiment(run)
    # the same network without chance in it: statistics are of films, not of dropped places
    model = classifier(experiment.size, dropout=0.0, drop_connect=0.0)
    model.set_weights(trained.get_weights())
    _measure(model, films)
    for layer in _normalisations(model):
        before = trained.get_layer(layer.name)
        for kind in ("moving_mean", "moving_variance"):
            old, new = getattr(before, kind), getattr(layer, kind)
            old.assign(old + share * (new - old))
    adapted.mkdir(parents=True, exist_ok=True)
    (adapted / "experiment.json").write_text(
        json.dumps(dataclasses.asdict(experiment), indent=2) + "\n", encoding="utf-8"
    )
    trained.save_weights(adapted / WEIGHTS)


def _normalisations(model: keras.Model) -> list[BatchNormalization]:
    return [layer for layer in model.layers if isinstance(layer, BatchNormalization)]


def _measure(model: keras.Model, films: np.ndarray) -> None:
    """Replace what every layer has seen by its mean over batches of the films."""
    both = np.concatenate([films, films[:, :, ::-1]])
    order = np.random.default_rng(0).permutation(len(both))
    for index, chosen in enumerate(np.array_split(order, -(-len(both) // BATCH))):
        for layer in _normalisations(model):
            layer.momentum = index / (index + 1)
        model(both[chosen].astype(np.float32), training=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument("--run", type=Path, required=True, help="folder of a trained run")
    parser.add_argument("--unlabelled", type=Path, required=True, help="folder of the other films")
    parser.add_argument(
        "--share", type=float, default=1.0, help="how far to go, 0 to 1; all the way if left out"
    )
    parser.add_argument("--adapted", type=Path, required=True, help="folder of the run it becomes")


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    size = load_experiment(options.run).size
    films = read_paths(films_under(options.unlabelled), size, "unlabelled films")
    adapt(options.run, films, options.share, options.adapted)
    print(f"{options.run.name} has seen {len(films)} films: {options.adapted}")
    return 0
