"""Experiments as data: one module each, opening with its command and the result to expect."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field

from model_export.augment import Augmentation


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a training run. ``size``: side of the input in pixels.

    ``hard_share`` is how much of the target is the known label, the rest is what the teachers say;
    ``unlabelled`` films a batch have only the teachers' word (noisy student, Xie et al. 2020).
    ``opacity``: share of the films not known to have pneumonia that get drawn opacities.
    ``new_share``: share of the films with labels that are of contributions, in a continued run.
    """

    name: str
    size: int = 160
    epochs: int = 3
    batch: int = 32
    peak_learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    label_smoothing: float = 0.1
    dropout: float = 0.2
    drop_connect: float = 0.2
    patience: int = 3
    averaging: float = 0.0
    hard_share: float = 1.0
    unlabelled: int = 0
    opacity: float = 0.0
    new_share: float = 0.0
    seed: int = 1
    augmentation: Augmentation = field(default_factory=Augmentation)


def load(name: str) -> Experiment:
    """The experiment of ``model_export/configs/<name>.py``; raises ModuleNotFoundError."""
    experiment = importlib.import_module(f"model_export.configs.{name}").EXPERIMENT
    assert isinstance(experiment, Experiment)
    return experiment
