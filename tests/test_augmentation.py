"""How training films are changed and put into batches, and what they are to be called."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from model_export import artefacts, batches, gate, pack
from model_export.augment import Augmentation, augment
from model_export.batches import Films, balanced_batches, gather_films, teach
from model_export.configs import Experiment, load
from model_export.datasets import LabelledFilm, Split
from model_export.phantom import chest_film

NOTHING = Augmentation(
    rotation=0, scale=0, aspect=0, shift=0, flip=False, gamma=0, contrast=0, brightness=0
)
STRONG = Augmentation(noise=0.2, blur=1.0, erase=1.0)


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    films = [chest_film(seed, (48, 48)) for seed in range(6)]
    return np.stack(films)[..., np.newaxis].astype(np.float32)


@pytest.mark.parametrize("setting", [Augmentation(), STRONG, gate.FILM_VARIETY, pack.ELSEWHERE])
def test_augmented_films_keep_shape_and_grey_range(drawn, setting):
    changed = augment(tf.constant(drawn), setting).numpy()
    assert changed.shape == drawn.shape
    assert changed.dtype == np.float32
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert np.isfinite(changed).all()
    assert np.abs(changed - drawn).mean() > 1


def test_without_ranges_augmentation_changes_nothing(drawn):
    assert np.abs(augment(tf.constant(drawn), NOTHING).numpy() - drawn).max() < 1e-2


def test_flip_gives_the_film_or_its_mirror_image(drawn):
    many = np.repeat(drawn[:1], 40, axis=0)
    changed = augment(tf.constant(many), dataclasses.replace(NOTHING, flip=True)).numpy()
    same = [np.abs(film - drawn[0]).max() < 0.1 for film in changed]
    mirrored = [np.abs(film - drawn[0][:, ::-1]).max() < 0.1 for film in changed]
    assert all(one or other for one, other in zip(same, mirrored, strict=True))
    assert any(same)
    assert any(mirrored)


def test_every_film_of_a_batch_is_changed_differently(drawn):
    changed = augment(tf.constant(np.repeat(drawn[:1], 4, axis=0)), Augmentation()).numpy()
    assert all(np.abs(changed[0] - other).mean() > 0.5 for other in changed[1:])


ONE_CHANGE = {
    "perspective": 0.3,
    "tone": 0.8,
    "spectrum": 1.0,
    "coarse": 1.0,
    "border": 1.0,
    "marker": 1.0,
    "photo": 1.0,
}


@pytest.mark.parametrize("name", ONE_CHANGE)
def test_each_change_by_itself_alters_the_film_and_keeps_its_grey_range(drawn, name):
    setting = dataclasses.replace(NOTHING, **{name: ONE_CHANGE[name]})
    changed = augment(tf.constant(drawn), setting).numpy()
    assert changed.shape == drawn.shape
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert np.abs(changed - drawn).mean() > 0.5


@pytest.mark.parametrize("name", ["coarse", "border", "marker", "photo"])
def test_a_share_of_none_leaves_every_film_alone(drawn, name):
    setting = dataclasses.replace(NOTHING, tone=1e-9, **{name: 1e-9})
    assert np.abs(augment(tf.constant(drawn), setting).numpy() - drawn).max() < 1e-2


def test_a_bent_grey_scale_keeps_the_order_of_greys_and_its_ends():
    ramp = np.linspace(0, 255, 64 * 64, dtype=np.float32).reshape(1, 64, 64, 1)
    changed = augment(tf.constant(ramp), dataclasses.replace(NOTHING, tone=1.0)).numpy().ravel()
    assert (np.diff(changed) >= -1e-3).all()
    assert changed[0] == pytest.approx(0, abs=1e-2)
    assert changed[-1] == pytest.approx(255, abs=1e-2)


def test_mixing_spectra_takes_the_light_of_the_other_film_and_keeps_the_fine_structure():
    generator = np.random.default_rng(3)
    fine = generator.normal(0, 4, (2, 64, 64, 1)).astype(np.float32)
    films = np.float32([90, 160])[:, None, None, None] + fine
    setting = dataclasses.replace(NOTHING, spectrum=1.0)
    mixed = np.mean([augment(tf.constant(films), setting).numpy() for _ in range(20)], axis=0)
    assert 95 < mixed[0].mean() < 155
    assert 95 < mixed[1].mean() < 155
    for before, after in zip(films, mixed, strict=True):
        assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.9


def test_a_slanted_picture_keeps_its_middle():
    dot = np.zeros((1, 65, 65, 1), np.float32)
    dot[0, 31:34, 31:34] = 255
    setting = dataclasses.replace(NOTHING, perspective=0.4)
    changed = augment(tf.constant(dot), setting).numpy()[0, 8:-8, 8:-8, 0]
    row, column = (changed * (changed > 200)).sum(1), (changed * (changed > 200)).sum(0)
    assert abs(row.argmax() - 24) <= 1
    assert abs(column.argmax() - 24) <= 1


def test_a_border_leaves_the_middle_of_the_film_alone(drawn):
    framed = artefacts.borders(tf.constant(drawn), 1.0).numpy()
    middle = slice(int(48 * artefacts.WIDEST_BORDER) + 1, int(48 * (1 - artefacts.WIDEST_BORDER)))
    assert np.array_equal(framed[:, middle, middle], drawn[:, middle, middle])


def test_markers_are_bright_and_small():
    black = np.zeros((64, 64, 64, 1), np.float32)
    marked = artefacts.markers(tf.constant(black), 1.0).numpy()
    ink = marked[marked > 0]
    assert ink.size
    assert ink.min() >= 150
    assert (marked > 0).mean((1, 2, 3)).max() < artefacts.MARKERS * 0.2**2


# --- batches ----------------------------------------------------------------------------------


def of_labels(images: np.ndarray, labels: list[float]) -> Films:
    values = np.float32(labels)
    return Films(images.astype(np.uint8), values, values)


def test_batches_hold_as_many_of_each_class_however_rare_one_is(drawn):
    films = of_labels(drawn, [0, 1, 1, 1, 1, 1])
    seen = set()
    for shown, truth in balanced_batches(films, 4, 0, NOTHING, seed=1).take(12):
        assert truth.numpy().ravel().tolist() == [0, 0, 1, 1]
        for film in shown.numpy():
            seen.add(int(np.abs(drawn - film).mean((1, 2, 3)).argmin()))
    assert seen == set(range(6))


def test_unlabelled_films_stand_between_the_classes_with_what_the_teachers_said(drawn):
    films = dataclasses.replace(
        of_labels(drawn, [0, 0.5, 0.5, 1, 1, 0]), targets=np.float32([0.1, 0.7, 0.7, 0.9, 0.9, 0.1])
    )
    for shown, wanted in balanced_batches(films, 4, 3, NOTHING, seed=1).take(4):
        assert len(shown) == 7
        assert wanted.numpy().ravel() == pytest.approx([0.1, 0.1, 0.7, 0.7, 0.7, 0.9, 0.9])


# --- teachers ---------------------------------------------------------------------------------


class Teacher:
    """A network that answers with a film's brightness on its left, as a logit."""

    def predict(self, films: np.ndarray, **_: object) -> np.ndarray:
        return films[:, :, : films.shape[2] // 2].mean((1, 2, 3))[:, None] / 100


PUPIL = Experiment(name="pupil", size=48, hard_share=0.5, unlabelled=2)


@pytest.fixture
def known(tmp_path, drawn) -> Split:
    films = []
    for index, film in enumerate(drawn[:4, :, :, 0]):
        path = tmp_path / f"{index}.png"
        Image.fromarray(film.astype(np.uint8)).save(path)
        films.append(LabelledFilm(path, index % 2, str(index), "drawn"))
    return Split(films, [], [])


@pytest.fixture
def adults(tmp_path, drawn) -> Path:
    folder = tmp_path / "adults"
    folder.mkdir()
    for index, film in enumerate(drawn[4:, :, :, 0]):
        Image.fromarray(film.astype(np.uint8)).save(folder / f"{index}.png")
    return folder


def test_teachers_speak_of_the_film_and_its_mirror_image_alike(drawn):
    films = drawn.astype(np.uint8)
    said = teach(films, [Teacher(), Teacher()])
    assert said == pytest.approx(teach(films[:, :, ::-1], [Teacher()]))
    assert said == pytest.approx(1 / (1 + np.exp(-films.mean((1, 2, 3)) / 100)))


def test_a_target_is_part_label_and_part_teacher_and_all_teacher_without_a_label(
    known, adults, monkeypatch
):
    monkeypatch.setattr(batches, "load_trained", lambda run: Teacher())
    films = gather_films(PUPIL, known, [Path("run")], adults)
    said = teach(films.images, [Teacher()])
    assert films.labels.tolist() == [0, 1, 0, 1, 0.5, 0.5]
    assert films.targets[:4] == pytest.approx(said[:4] / 2 + np.float32([0, 0.5, 0, 0.5]))
    assert films.targets[4:] == pytest.approx(said[4:])


def test_without_teachers_the_target_is_the_label(known):
    films = gather_films(Experiment(name="alone", size=48), known, [], None)
    assert films.targets.tolist() == films.labels.tolist() == [0, 1, 0, 1]


def test_a_pupil_without_teachers_or_unlabelled_films_is_told_what_is_missing(known, adults):
    with pytest.raises(ValueError, match="pupil learns from teachers"):
        gather_films(PUPIL, known, [], adults)
    with pytest.raises(ValueError, match="pupil learns from unlabelled films"):
        gather_films(PUPIL, known, [Path("run")], None)


@pytest.mark.parametrize("name", ["style", "pupil"])
def test_what_builds_on_travel_keeps_its_shape_and_light(name):
    changed, base = load(name).augmentation, load("travel").augmentation
    assert (changed.aspect_of_class, changed.shading) == (base.aspect_of_class, base.shading)
