"""What a finished run holds: its experiment, its network, or the runs that it joins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from app.cxr.model import open_graph
from app.cxr.release import MANIFEST, Release
from model_export.augment import Augmentation
from model_export.configs import Experiment
from model_export.network import classifier

# From uint8 films ``(count, side, side, 1)`` to their scores (logits), float32 ``(count,)``.
Teacher = Callable[[np.ndarray], np.ndarray]

WEIGHTS = "run.weights.h5"
MEMBERS = "members.json"


def load_experiment(run: Path) -> Experiment:
    """The experiment that a run was trained with."""
    values = json.loads((run / "experiment.json").read_text(encoding="utf-8"))
    augmentation = values["augmentation"]
    augmentation["aspect_of_class"] = tuple(augmentation["aspect_of_class"])
    return Experiment(**{**values, "augmentation": Augmentation(**augmentation)})


def load_trained(run: Path) -> keras.Model:
    """The classifier of a run with its weights."""
    experiment = load_experiment(run)
    model = classifier(experiment.size, experiment.dropout, experiment.drop_connect)
    model.load_weights(run / WEIGHTS)
    return model


def load_teacher(path: Path) -> Teacher:
    """What a finished run or a packed release says of films of its own input size and their mirror
    images together; a release looks at both by itself.
    """
    if (path / MANIFEST).exists():
        release = Release.load(path)
        session = open_graph(release.graph, threads=2)

        def by_release(films: np.ndarray) -> np.ndarray:
            each = films.astype(np.float32)[:, np.newaxis]
            said = [session.run(["logit"], {"image": one})[0] for one in each]
            return np.concatenate(said).ravel()

        return by_release
    model = load_trained(path)

    def by_run(films: np.ndarray) -> np.ndarray:
        views = (np.float32(shown) for shown in (films, films[:, :, ::-1]))
        said = [model.predict(view, batch_size=64, verbose=0).ravel() for view in views]
        return np.asarray(np.mean(said, axis=0))

    return by_run


def member_runs(run: Path) -> list[Path]:
    """The runs whose mean a run answers with: those it joins, or itself."""
    if not (run / MEMBERS).exists():
        return [run]
    return [Path(name) for name in json.loads((run / MEMBERS).read_text(encoding="utf-8"))]


def input_size(path: Path) -> int:
    """Side of the input of a finished run or a packed release, in pixels."""
    if (path / MANIFEST).exists():
        return Release.load(path).input_size
    return load_experiment(path).size


def load_members(run: Path) -> list[keras.Model]:
    """The classifiers of ``member_runs``."""
    return [load_trained(member) for member in member_runs(run)]
