"""What a run learns from: films, what it is to say of each, and endless augmented batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from model_export.augment import Augmentation, augment
from model_export.configs import Experiment
from model_export.datasets import Split, films_under, read_films, read_paths
from model_export.runs import load_trained

UNKNOWN = 0.5


@dataclass(frozen=True)
class Films:
    """What a run learns from: ``images`` uint8 ``(count, side, side, 1)``, ``labels`` 0, 1 or 0.5
    for unknown, ``targets`` 0..1 that the network is to say; both float32 ``(count,)``.
    """

    images: np.ndarray
    labels: np.ndarray
    targets: np.ndarray


def balanced_batches(
    films: Films, batch: int, unlabelled: int, setting: Augmentation, seed: int
) -> tf.data.Dataset:
    """Endless augmented batches, half of each class, and ``unlabelled`` films more in the middle.

    Films float32 0..255, targets ``(batch + unlabelled, 1)``.
    """
    parts = []
    for label, count in ((0.0, batch // 2), (UNKNOWN, unlabelled), (1.0, batch // 2)):
        if not count:
            continue
        chosen = np.flatnonzero(films.labels == label)
        order = tf.data.Dataset.from_tensor_slices(chosen).shuffle(len(chosen), seed=seed).repeat()
        parts.append(order.batch(count))
    images, known, wanted = (
        tf.constant(values) for values in (films.images, films.labels, films.targets)
    )

    def build(*chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        index = tf.concat(chosen, axis=0)
        grey = tf.cast(tf.gather(images, index), tf.float32)
        changed = augment(grey, setting, tf.gather(known, index))
        films_out = tf.ensure_shape(changed, (None, *films.images.shape[1:]))
        return films_out, tf.gather(wanted, index)[:, tf.newaxis]

    return tf.data.Dataset.zip(tuple(parts)).map(build, num_parallel_calls=2).prefetch(4)


def teach(images: np.ndarray, teachers: Sequence[keras.Model]) -> np.ndarray:
    """What the teachers together say of films and their mirror images: float32 ``(count,)``, 0..1.

    Teachers see the films unchanged; the pupil does not, and so has to say the same of a worse
    picture.
    """
    logits = [
        teacher.predict(shown.astype(np.float32), batch_size=64, verbose=0).ravel()
        for teacher in teachers
        for shown in (images, images[:, :, ::-1])
    ]
    return np.asarray(1 / (1 + np.exp(-np.mean(logits, axis=0))), np.float32)


def gather_films(
    experiment: Experiment, known: Split, teachers: Sequence[Path], unlabelled: Path | None
) -> Films:
    """The training films and, where the experiment asks for them, unlabelled ones and teachers.

    Raises ValueError where it asks for what is not given.
    """
    if (experiment.hard_share < 1 or experiment.unlabelled) and not teachers:
        raise ValueError(f"{experiment.name} learns from teachers; name their runs")
    if experiment.unlabelled and unlabelled is None:
        raise ValueError(f"{experiment.name} learns from unlabelled films; name their folder")
    images = read_films(known.train, experiment.size, "training films")
    labels = np.array([film.label for film in known.train], np.float32)
    if unlabelled is not None and experiment.unlabelled:
        more = read_paths(films_under(unlabelled), experiment.size, "unlabelled films")
        images = np.concatenate([images, more])
        labels = np.concatenate([labels, np.full(len(more), UNKNOWN, np.float32)])
    if not teachers:
        return Films(images, labels, labels)
    said = teach(images, [load_trained(run) for run in teachers])
    hard = np.where(labels == UNKNOWN, 0.0, experiment.hard_share).astype(np.float32)
    return Films(images, labels, hard * labels + (1 - hard) * said)
