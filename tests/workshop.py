"""What the workshop learns from in tests: drawn films in the children's set's layout, and releases
that are made stage by stage with limits as wide as so few films need.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from app.cxr.release import Release
from model_export import gate, negatives, pack, quantize
from model_export.configs import Experiment
from model_export.datasets import (
    LabelledFilm,
    load_kermany,
    patient_of_kermany,
    read_films,
    split_by_patient,
)
from model_export.export import export
from model_export.network import MAP, classifier
from model_export.pretrained import load_imagenet
from model_export.runs import WEIGHTS
from tests.opened import person

PARTS = {"train": 8, "validation": 5, "test": 3}
CLEAR, SICK = 75.0, 150.0
EXPERIMENT = Experiment(name="tiny", size=64, epochs=1, batch=8, patience=5, drop_connect=0.0)


def names(label: int) -> Iterator[tuple[str, str]]:
    """File names in the children's set's way, each with the part that its patient falls into."""
    number = 0
    while True:
        number += 1
        name = f"person{number}_virus_{number}.png" if label else f"IM-{number:04d}-0001.png"
        film = LabelledFilm(Path(name), label, patient_of_kermany(name)[0], "kermany")
        split = split_by_patient([film])
        yield name, next(part for part in PARTS if getattr(split, part))


def draw_films(root: Path, parts: Mapping[str, int]) -> Path:
    """So many films of each class in every part of the split; sick ones are bright."""
    for label, (folder, grey) in enumerate((("NORMAL", CLEAR), ("PNEUMONIA", SICK))):
        (root / folder).mkdir(parents=True)
        wanted = dict(parts)
        for name, part in names(label):
            if not any(wanted.values()):
                break
            if wanted[part]:
                wanted[part] -= 1
                seed = 1000 * (label + 1) + sum(wanted.values())
                film = person(seed, grey + seed % 9, (128, 112))
                Image.fromarray(film).save(root / folder / name)
    return root


def taught(run: Path, data: Path, seed: int = 0) -> Path:
    """A run of a network that tells bright films from dark ones, without a step of training: the
    features are ImageNet's, the unit of the map is fitted by ridge regression.
    """
    films = split_by_patient(load_kermany(data))
    known = films.train + films.validation
    labels = np.array([film.label for film in known])
    keras.utils.set_random_seed(seed)
    model = classifier(EXPERIMENT.size, EXPERIMENT.dropout, EXPERIMENT.drop_connect)
    load_imagenet(model)
    features = keras.Model(model.input, model.get_layer("smooth_relu").output)
    images = read_films(known, EXPERIMENT.size).astype(np.float32)
    seen = np.asarray(features(images, training=False)).mean(axis=(1, 2))
    middle = seen.mean(axis=0)
    design = seen - middle
    ridge = design.T @ design + 10 * design.var() * np.eye(design.shape[1])
    weights = np.linalg.solve(ridge, design.T @ (8.0 * (labels - 0.5)))
    model.get_layer(MAP).set_weights([weights.reshape(1, 1, -1, 1), np.array([-middle @ weights])])
    run.mkdir(parents=True)
    (run / "experiment.json").write_text(json.dumps(dataclasses.asdict(EXPERIMENT)))
    model.save_weights(run / WEIGHTS)
    return run


def open_wide(run: Path) -> None:
    """What a gate has learnt from so few films would refuse some of them: move its threshold."""
    learnt = gate.load_gate(run)
    np.savez(run / gate.GATE_FILE, weights=learnt.weights, bias=learnt.bias + 50)


def released(run: Path, data: Path, target: Path, version: str) -> Release:
    """Gate, export, quantize and pack a trained run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "NEGATIVES", 24)
        patch.setattr(negatives, "PICTURE_FOLDERS", (("sklearn", "datasets/images"),))
        patch.setattr(quantize, "CALIBRATION_FILMS", 8)
        patch.setattr(quantize, "AUC_LOSS", 1.0)
        patch.setattr(quantize, "AGREEMENT", 0.0)
        patch.setattr(quantize, "MAP_CORRELATION", -1.0)
        patch.setattr(pack, "DRAWS", 1)
        patch.setattr(pack, "CHILDREN", pack.Aim(sensitivity=0.97, missed=0.2, false_alarm=0.2))
        gate.train_gate(run, data, None)
        open_wide(run)
        export(run)
        quantize.quantize(run, data)
        return pack.pack(run, data, None, target, "tiny", version)
