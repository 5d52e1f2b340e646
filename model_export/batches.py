"""What a run learns from: films, what it is to say of each, and endless augmented batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from model_export.augment import augment
from model_export.configs import Experiment
from model_export.datasets import CONTRIBUTIONS, Split, films_under, read_paths
from model_export.network import LOGIT, MAP, PLACE
from model_export.opacities import draw_opacities
from model_export.runs import Teacher, input_size, load_teacher
from model_export.workers import Workers

UNKNOWN = 0.5
# What the network is to say of a film with a drawn opacity: some are faint, and none is a disease.
OF_DRAWN_OPACITY = 0.9
Targets = dict[str, tf.Tensor]


@dataclass(frozen=True)
class Films:
    """What a run learns from: ``images`` uint8 ``(count, side, side, 1)``, ``labels`` 0, 1 or 0.5
    for unknown, ``targets`` 0..1 that the network is to say; both float32 ``(count,)``. ``is_new``:
    bool ``(count,)``, which are of contributions; None where there are none.
    """

    images: np.ndarray
    labels: np.ndarray
    targets: np.ndarray
    is_new: np.ndarray | None = None

    def with_label(self, label: float, is_new: bool) -> np.ndarray:
        """Which films have that label and are new or not: their indices."""
        new = self.is_new if self.is_new is not None else np.zeros(self.labels.shape, bool)
        return np.flatnonzero((self.labels == label) & (new == is_new))


def balanced_batches(
    films: Films, experiment: Experiment, workers: Workers | None = None
) -> tf.data.Dataset:
    """Endless augmented batches, half of each class, and ``unlabelled`` films more in the middle;
    of each of them only the share of this one of ``workers``, if there are any.

    Films float32 0..255 and, by the names of the network's outputs, what it is to say of each:
    ``LOGIT`` ``(films, 1)`` and ``MAP`` as of ``places``.
    """
    parts = []
    for chosen, count in _mixture(films, experiment):
        order = tf.data.Dataset.from_tensor_slices(chosen)
        parts.append(order.shuffle(len(chosen), seed=experiment.seed).repeat().batch(count))
    images, known, wanted = (
        tf.constant(values) for values in (films.images, films.labels, films.targets)
    )

    if workers:  # which draw the same films in the same order, and change each their own
        workers.draw_apart()

    def build(*chosen: tf.Tensor) -> tuple[tf.Tensor, Targets]:
        index = tf.concat(chosen, axis=0)
        if workers:
            index = workers.share(index)
        grey = tf.cast(tf.gather(images, index), tf.float32)
        labels, said = tf.gather(known, index), tf.gather(wanted, index)
        changed, drawn = _change(grey, labels, experiment)
        shape = (None, *films.images.shape[1:])
        return tf.ensure_shape(changed, shape), _targets(labels, said, drawn, experiment)

    return tf.data.Dataset.zip(tuple(parts)).map(build, num_parallel_calls=2).prefetch(4)


def _mixture(films: Films, experiment: Experiment) -> list[tuple[np.ndarray, int]]:
    """The parts of a batch: films to draw from, and how many of them. Of each class ``new_share``
    is new, where there are such films, and the rest is rehearsed (Robins 1995).
    """
    half = experiment.batch // 2
    parts = []
    for label, count in ((0.0, half), (UNKNOWN, experiment.unlabelled), (1.0, half)):
        old, new = (films.with_label(label, is_new) for is_new in (False, True))
        newer = round(count * experiment.new_share) if new.size else 0
        parts += [(old, count - newer), (new, newer)]
    return [(chosen, count) for chosen, count in parts if count]


def _change(
    grey: tf.Tensor, labels: tf.Tensor, experiment: Experiment
) -> tuple[tf.Tensor, tf.Tensor]:
    """The films augmented, some with opacities drawn first, and where those came to lie, 0..255."""
    if not experiment.opacity:
        return augment(grey, experiment.augmentation, labels), tf.zeros_like(grey)
    by_chance = tf.random.uniform(tf.shape(labels)) < experiment.opacity
    opaque, where = draw_opacities(grey, by_chance & (labels < 1.0))
    changed = augment(tf.concat([opaque, where], axis=-1), experiment.augmentation, labels)
    return changed[..., :1], changed[..., 1:]


def _targets(
    labels: tf.Tensor, said: tf.Tensor, drawn: tf.Tensor, experiment: Experiment
) -> Targets:
    of_place = places(drawn, said, labels) if experiment.opacity else no_places(said, experiment)
    opaque = tf.reduce_any(of_place[..., 0] > 0, axis=(1, 2))
    film = tf.where(opaque, tf.maximum(said, OF_DRAWN_OPACITY), said)
    return {LOGIT: film[:, tf.newaxis], MAP: of_place}


def places(drawn: tf.Tensor, said: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """What every place of the map is to say and how much that counts: ``(films, rows, columns,
    2)``.

    1 where half of a place or more is drawn opacity (``drawn``, 0..255), 0 where none is, each side
    of equal weight. Where films may hold a disease of their own nothing is known of the rest: it
    counts the less, the likelier the film was ``said`` to have one; with pneumonia not at all.
    """
    covered = tf.nn.avg_pool2d(drawn / 255.0, PLACE, PLACE, "VALID")
    inside = tf.cast(covered >= 0.5, tf.float32)
    outside = tf.cast(covered <= 0.0, tf.float32)

    def evenly(chosen: tf.Tensor) -> tf.Tensor:
        return chosen / tf.maximum(tf.reduce_sum(chosen, axis=(1, 2, 3), keepdims=True), 1.0)

    clear = tf.where(labels < 1.0, 1.0 - said, 0.0)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return tf.concat([inside, evenly(inside) + clear * evenly(outside)], axis=-1)


def no_places(said: tf.Tensor, experiment: Experiment) -> tf.Tensor:
    """As ``places`` where nothing is known of any place."""
    side = experiment.size // PLACE
    return tf.zeros((tf.shape(said)[0], side, side, 2))


def teach(lessons: Sequence[tuple[Teacher, np.ndarray]]) -> np.ndarray:
    """What teachers together say of films: float32 ``(count,)``, 0..1.

    Each is shown the same films at its own size, uint8 ``(count, side, side, 1)``, and unchanged;
    the pupil is not, and so has to say the same of a worse picture.
    """
    logits = [teacher(films) for teacher, films in lessons]
    return np.asarray(1 / (1 + np.exp(-np.mean(logits, axis=0))), np.float32)


def gather_films(
    experiment: Experiment,
    known: Split,
    teachers: Sequence[Path],
    unlabelled: Path | None,
    taught: Path | None = None,
) -> Films:
    """The training films and, where the experiment asks for them, unlabelled ones and teachers.

    ``teachers``: finished runs or packed releases. ``taught``: the file that keeps what they said,
    so that a resumed run need not ask again. Raises ValueError where the experiment asks for what
    is not given.
    """
    if (experiment.hard_share < 1 or experiment.unlabelled) and not teachers:
        raise ValueError(f"{experiment.name} learns from teachers; name their runs")
    if experiment.unlabelled and unlabelled is None:
        raise ValueError(f"{experiment.name} learns from unlabelled films; name their folder")
    paths = [film.path for film in known.train]
    labels = [float(film.label) for film in known.train]
    if unlabelled is not None and experiment.unlabelled:
        more = films_under(unlabelled)
        paths, labels = paths + more, labels + [UNKNOWN] * len(more)
    images, truth = (
        read_paths(paths, experiment.size, "training films"),
        np.array(labels, np.float32),
    )
    is_new = np.zeros(truth.shape, bool)
    is_new[: len(known.train)] = [film.source == CONTRIBUTIONS for film in known.train]
    if not teachers:
        return Films(images, truth, truth, is_new)
    if taught is not None and taught.exists():
        said = np.load(taught)
    else:
        said = teach([(load_teacher(t), _films_for(t, images, paths)) for t in teachers])
        if taught is not None:
            np.save(taught, said)
    hard = np.where(truth == UNKNOWN, 0.0, experiment.hard_share).astype(np.float32)
    return Films(images, truth, hard * truth + (1 - hard) * said, is_new)


def _films_for(teacher: Path, images: np.ndarray, paths: Sequence[Path]) -> np.ndarray:
    """The films of ``images`` at the size that a teacher sees them."""
    size = input_size(teacher)
    return images if size == images.shape[1] else read_paths(paths, size, "films for a teacher")
