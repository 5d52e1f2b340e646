"""How training films are changed and put into batches, and what they are to be called."""

from __future__ import annotations

import dataclasses
import json
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
from model_export.network import LOGIT, MAP, classifier
from model_export.opacities import LEAST_CHANGE, draw_opacities
from model_export.phantom import chest_film
from model_export.runs import WEIGHTS, load_teacher
from model_export.train import places_loss
from tests.tiny_release import make_release

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
    "compression": 1.0,
}


@pytest.mark.parametrize("name", ONE_CHANGE)
def test_each_change_by_itself_alters_the_film_and_keeps_its_grey_range(drawn, name):
    setting = dataclasses.replace(NOTHING, **{name: ONE_CHANGE[name]})
    films = np.repeat(drawn, 10, axis=0)  # a marker may be faint, not all of them
    changed = augment(tf.constant(films), setting).numpy()
    assert changed.shape == films.shape
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert np.abs(changed - films).mean() > 0.5


@pytest.mark.parametrize("name", ["coarse", "border", "marker", "photo", "compression"])
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


def test_compression_loses_grain_and_keeps_what_the_film_shows(drawn):
    grain = np.random.default_rng(5).normal(0, 12, drawn.shape)
    films = tf.constant(np.clip(drawn + grain, 0, 255).astype(np.float32))
    kept = augment(films, dataclasses.replace(NOTHING, compression=1.0)).numpy()
    assert np.abs(kept - films.numpy()).mean((1, 2, 3)).max() < 16
    assert np.diff(kept, axis=1).std() < np.diff(films.numpy(), axis=1).std()
    assert (kept == np.rint(kept)).all()


def test_compression_leaves_masks_alone(drawn):
    masks = np.where(np.random.default_rng(6).random(drawn.shape) < 0.5, 255.0, 0.0)
    films = tf.constant(np.concatenate([drawn, masks], axis=-1), tf.float32)
    changed = augment(films, dataclasses.replace(NOTHING, compression=1.0)).numpy()
    np.testing.assert_allclose(changed[..., 1:], masks, atol=1e-3)


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


# --- drawn opacities ---------------------------------------------------------------------------


def test_opacities_brighten_their_places_on_the_chosen_films_and_darken_nothing(drawn):
    chosen = tf.constant([True, False, True, True, False, True])
    opaque, where = (part.numpy() for part in draw_opacities(tf.constant(drawn), chosen))
    change = opaque - drawn
    assert change.min() >= 0
    assert opaque.max() <= 255
    assert set(np.unique(where)) == {0, 255}
    assert change[where > 0].min() > LEAST_CHANGE
    assert [bool(film.any()) for film in change] == chosen.numpy().tolist()


def test_opacities_lie_on_either_side_of_the_spine_and_never_alike(drawn):
    many = tf.constant(np.repeat(drawn[:1], 60, axis=0))
    where = draw_opacities(many, tf.fill((60,), True))[1].numpy()[..., 0]
    columns = np.where(where > 0)[2]
    assert (columns < 20).any()
    assert (columns > 28).any()
    assert len({film.tobytes() for film in where}) > 50


def test_masks_move_with_the_film_and_keep_their_light():
    bright = np.zeros((8, 64, 64, 1), np.float32)
    bright[:, 20:40, 8:24] = 255
    with_masks = tf.concat([bright, bright], axis=-1)
    setting = Augmentation(gamma=0, contrast=0, brightness=0)
    changed = augment(with_masks, setting).numpy()
    for before, film, mask in zip(bright, changed[..., 0], changed[..., 1], strict=True):
        assert np.abs(mask - before[..., 0]).mean() > 1
        assert mask[film > 254].min() > 254
    darker = augment(with_masks, dataclasses.replace(NOTHING, shading=0.5, gamma=1.0)).numpy()
    assert (darker[..., 1:] == bright).all()
    assert (darker[..., :1] != bright).any()


def test_a_place_counts_where_it_is_known_what_is_there():
    drawn_places = np.zeros((4, 48, 48, 1), np.float32)
    drawn_places[:2, :16, :16] = 255
    drawn_places[:2, 16:20, :16] = 255  # a quarter of the next place: neither one nor the other
    said, labels = tf.constant([0.0, 0.75, 0.2, 1.0]), tf.constant([0.0, 0.5, 0.0, 1.0])
    target, weight = np.moveaxis(batches.places(tf.constant(drawn_places), said, labels), -1, 0)
    assert target[:2].sum(axis=(1, 2)).tolist() == [1, 1]
    assert (target[:2, 0, 0] == 1).all()
    assert weight[:2, 0, 0].tolist() == [1, 1]
    assert weight[:2, 1, 0].tolist() == [0, 0]
    assert weight.sum(axis=(1, 2)) == pytest.approx([2, 1.25, 0.8, 0])


def test_a_film_with_a_drawn_opacity_is_to_be_called_and_one_without_is_left_as_it_was(drawn):
    setting = Experiment(name="all", size=48, batch=4, opacity=1.0, augmentation=NOTHING)
    films = of_labels(np.repeat(drawn, 2, axis=0), [0, 1] * 6)
    for _, wanted in balanced_batches(films, setting).take(4):
        seen = (wanted[MAP].numpy()[..., 0] > 0).any(axis=(1, 2))
        called = wanted[LOGIT].numpy().ravel()
        assert not seen[2:].any()
        assert called == pytest.approx(np.where(seen, batches.OF_DRAWN_OPACITY, [0, 0, 1, 1]))


def test_the_loss_of_places_leaves_out_what_has_no_weight():
    scores = tf.constant(np.float32([[[[5.0], [-5.0]]]]))
    right = tf.constant(np.float32([[[[1, 0.5], [0, 0.5]]]]))
    wrong = tf.constant(np.float32([[[[0, 0.5], [1, 0.5]]]]))
    unknown = tf.constant(np.float32([[[[0, 0.0], [1, 0.0]]]]))
    losses = [float(places_loss(wanted, scores)[0]) for wanted in (right, wrong, unknown)]
    assert losses == pytest.approx([0.0067, 5.0067, 0], abs=1e-3)


def test_a_packed_release_teaches_as_a_run_does(tmp_path, drawn):
    release = make_release(tmp_path / "release")
    said = load_teacher(release)(np.zeros((3, 40, 40, 1), np.uint8))
    assert said.shape == (3,)


# --- batches ----------------------------------------------------------------------------------


def of_labels(images: np.ndarray, labels: list[float]) -> Films:
    values = np.float32(labels)
    return Films(images.astype(np.uint8), values, values)


def test_batches_hold_as_many_of_each_class_however_rare_one_is(drawn):
    films = of_labels(drawn, [0, 1, 1, 1, 1, 1])
    seen = set()
    plain = Experiment(name="plain", size=48, batch=4, augmentation=NOTHING)
    for shown, truth in balanced_batches(films, plain).take(12):
        assert truth[LOGIT].numpy().ravel().tolist() == [0, 0, 1, 1]
        assert not truth[MAP].numpy().any()
        for film in shown.numpy():
            seen.add(int(np.abs(drawn - film).mean((1, 2, 3)).argmin()))
    assert seen == set(range(6))


def test_unlabelled_films_stand_between_the_classes_with_what_the_teachers_said(drawn):
    films = dataclasses.replace(
        of_labels(drawn, [0, 0.5, 0.5, 1, 1, 0]), targets=np.float32([0.1, 0.7, 0.7, 0.9, 0.9, 0.1])
    )
    plain = Experiment(name="plain", size=48, batch=4, unlabelled=3, augmentation=NOTHING)
    for shown, wanted in balanced_batches(films, plain).take(4):
        assert len(shown) == 7
        assert wanted[LOGIT].numpy().ravel() == pytest.approx([0.1, 0.1, 0.7, 0.7, 0.7, 0.9, 0.9])


# --- teachers ---------------------------------------------------------------------------------


def teacher(films: np.ndarray) -> np.ndarray:
    """A network that answers with a film's brightness on its left, as a logit."""
    return films[:, :, : films.shape[2] // 2].mean((1, 2, 3)) / 100


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


def test_teachers_answer_with_the_mean_of_their_logits(drawn):
    films = drawn.astype(np.uint8)
    said = teach([(teacher, films), (lambda shown: 3 * teacher(shown), films)])
    assert said == pytest.approx(1 / (1 + np.exp(-2 * teacher(films))))


def test_a_run_speaks_of_a_film_and_its_mirror_image_alike(tmp_path):
    experiment = Experiment(name="tiny", size=32)
    (tmp_path / "experiment.json").write_text(json.dumps(dataclasses.asdict(experiment)))
    classifier(32).save_weights(tmp_path / WEIGHTS)
    films = np.random.default_rng(4).integers(0, 255, (3, 32, 32, 1)).astype(np.uint8)
    said = load_teacher(tmp_path)
    assert said(films) == pytest.approx(said(films[:, :, ::-1]), abs=1e-4)


def test_a_target_is_part_label_and_part_teacher_and_all_teacher_without_a_label(
    known, adults, monkeypatch
):
    monkeypatch.setattr(batches, "load_teacher", lambda run: teacher)
    monkeypatch.setattr(batches, "input_size", lambda run: 48)
    films = gather_films(PUPIL, known, [Path("run")], adults)
    said = teach([(teacher, films.images)])
    assert films.labels.tolist() == [0, 1, 0, 1, 0.5, 0.5]
    assert films.targets[:4] == pytest.approx(said[:4] / 2 + np.float32([0, 0.5, 0, 0.5]))
    assert films.targets[4:] == pytest.approx(said[4:])


def test_a_teacher_sees_the_films_at_its_own_size(known, adults, monkeypatch):
    shown = []
    monkeypatch.setattr(batches, "load_teacher", lambda run: lambda films: shown.append(films))
    monkeypatch.setattr(batches, "input_size", lambda run: 32)
    monkeypatch.setattr(batches, "teach", lambda lessons: lessons[0][0](lessons[0][1]) or 0.5)
    films = gather_films(PUPIL, known, [Path("run")], adults)
    assert films.images.shape == (6, 48, 48, 1)
    assert [films.shape for films in shown] == [(6, 32, 32, 1)]


def test_what_teachers_said_is_kept_for_a_resumed_run(known, adults, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "load_teacher", lambda run: teacher)
    monkeypatch.setattr(batches, "input_size", lambda run: 48)
    taught = tmp_path / "taught.npy"
    first = gather_films(PUPIL, known, [Path("run")], adults, taught)
    monkeypatch.setattr(batches, "teach", lambda lessons: pytest.fail("asked again"))
    again = gather_films(PUPIL, known, [Path("run")], adults, taught)
    assert again.targets.tolist() == first.targets.tolist()


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
