"""What a network learns from films without labels, on a few drawn ones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from model_export import __main__ as command_line
from model_export import adapt, pretrain, train
from model_export.augment import Augmentation
from model_export.configs import Experiment
from model_export.network import FEATURES, BatchNormalization, classifier
from model_export.phantom import chest_film
from model_export.runs import WEIGHTS, load_trained

SIZE = 32
TINY = Experiment(name="tiny", size=SIZE, epochs=1, batch=4)


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    return np.stack([chest_film(seed, (SIZE, SIZE)) for seed in range(8)])[..., np.newaxis]


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "experiment.json").write_text(json.dumps(dataclasses.asdict(TINY)))
    classifier(SIZE).save_weights(folder / WEIGHTS)
    return folder


def normalisations(model: keras.Model) -> list[BatchNormalization]:
    return [layer for layer in model.layers if isinstance(layer, BatchNormalization)]


# --- adaptive batch normalisation -------------------------------------------------------------


def test_a_run_that_is_adapted_has_other_statistics_and_the_same_weights(run, films, tmp_path):
    adapt.adapt(run, films, 1.0, tmp_path / "adapted")
    before, after = load_trained(run), load_trained(tmp_path / "adapted")
    for one, other in zip(before.trainable_weights, after.trainable_weights, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(normalisations(before), normalisations(after), strict=True):
        assert np.abs(one.moving_mean.numpy() - other.moving_mean.numpy()).max() > 0


def test_the_first_layer_is_adapted_to_the_mean_of_the_films_and_their_mirror_images(
    run, films, tmp_path
):
    adapt.adapt(run, films, 1.0, tmp_path / "adapted")
    adapted = load_trained(tmp_path / "adapted")
    stem = keras.Model(adapted.input, adapted.get_layer("stem").output)
    both = np.concatenate([films, films[:, :, ::-1]]).astype(np.float32)
    seen = stem(both).numpy()
    layer = adapted.get_layer("stem_bn")
    np.testing.assert_allclose(layer.moving_mean, seen.mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, seen.var((0, 1, 2)), rtol=1e-2, atol=1e-5)


def test_a_share_goes_part_of_the_way(run, films, tmp_path):
    for share in (0.0, 0.25, 1.0):
        adapt.adapt(run, films, share, tmp_path / str(share))
    none, some, all_of_it = (
        load_trained(tmp_path / str(share)).get_layer("head_bn").moving_mean.numpy()
        for share in (0.0, 0.25, 1.0)
    )
    np.testing.assert_array_equal(none, load_trained(run).get_layer("head_bn").moving_mean)
    np.testing.assert_allclose(some, none + 0.25 * (all_of_it - none), rtol=1e-4, atol=1e-6)


def test_films_that_come_in_several_batches_count_alike(run, films, tmp_path, monkeypatch):
    found = []
    for batch in (16, 4):
        monkeypatch.setattr(adapt, "BATCH", batch)
        adapt.adapt(run, films, 1.0, tmp_path / str(batch))
        found.append(load_trained(tmp_path / str(batch)).get_layer("stem_bn").moving_mean.numpy())
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


def test_the_stage_adapts_to_a_folder_of_films(run, films, tmp_path, capsys):
    (tmp_path / "adults").mkdir()
    for index, film in enumerate(films):
        Image.fromarray(film[..., 0]).save(tmp_path / "adults" / f"{index}.png")
    options = {"run": run, "unlabelled": tmp_path / "adults", "adapted": tmp_path / "adapted"}
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    assert command_line.main(["adapt", *arguments]) == 0
    assert "has seen 8 films" in capsys.readouterr().out
    assert (tmp_path / "adapted" / WEIGHTS).exists()


# --- Barlow Twins -----------------------------------------------------------------------------


def loss(one: np.ndarray, other: np.ndarray) -> float:
    both = np.concatenate([one, other]).astype(np.float32)
    return float(pretrain.barlow_twins(tf.zeros(1), tf.constant(both)))


def test_views_that_agree_and_repeat_nothing_cost_nothing():
    one = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    assert loss(one, one) == pytest.approx(0, abs=1e-6)
    # a feature of any scale says the same
    assert loss(one * 9 + 4, one) == pytest.approx(0, abs=1e-4)


def test_a_feature_that_differs_between_the_views_costs_more_than_one_that_is_repeated():
    one = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    turned, repeated = one * [1, -1], one[:, [0, 0]]
    assert loss(one, turned) == pytest.approx(4, abs=1e-3)
    assert loss(repeated, repeated) == pytest.approx(2 * pretrain.REDUNDANCY, rel=1e-3)


def test_a_batch_shows_every_film_twice_and_a_quarter_of_them_are_the_others(films):
    dark, bright = np.zeros_like(films), np.full_like(films, 255)
    still = Augmentation(
        rotation=0, scale=0, shift=0, aspect=0, gamma=0, contrast=0, brightness=0, flip=False
    )
    shown, _ = next(iter(pretrain.views(dark, bright, still, batch=8)))
    means = shown.numpy().mean((1, 2, 3))
    assert means == pytest.approx([0] * 6 + [255] * 2 + [0] * 6 + [255] * 2, abs=1e-2)


def test_the_two_views_of_a_film_are_changed_differently(films):
    shown, _ = next(iter(pretrain.views(films, films, Augmentation(), batch=4)))
    one, other = np.split(shown.numpy(), 2)
    assert np.abs(one - other).mean((1, 2, 3)).min() > 0.5


def test_a_pre_trained_run_is_what_training_begins_from(films, tmp_path, monkeypatch):
    for label, folder in enumerate(("NORMAL", "PNEUMONIA")):
        (tmp_path / folder).mkdir()
        for number in range(1, 9):
            name = f"person{number}_virus_1.png" if label else f"IM-{number:04d}-0001.png"
            Image.fromarray(films[number - 1, :, :, 0]).save(tmp_path / folder / name)
    monkeypatch.setattr(pretrain, "BATCH", 8)
    tf.config.run_functions_eagerly(True)
    try:
        pretrain.pretrain(TINY, tmp_path, tmp_path / "NORMAL", tmp_path / "start", epochs=1)
    finally:
        tf.config.run_functions_eagerly(False)
    learnt = load_trained(tmp_path / "start").get_layer("head").get_weights()[0]
    fresh = classifier(SIZE)
    pretrain.load_imagenet(fresh)
    assert np.abs(learnt - fresh.get_layer("head").get_weights()[0]).max() > 0

    begun = []

    def compile_and_stop(model: keras.Model, *_: object) -> None:
        begun.append(model.get_layer("head").get_weights()[0])
        raise InterruptedError

    monkeypatch.setattr(train, "compile_model", compile_and_stop)
    with pytest.raises(InterruptedError):
        train.train(TINY, tmp_path, tmp_path / "run", start=tmp_path / "start")
    np.testing.assert_array_equal(begun[0], learnt)


def test_the_projector_sees_the_features_that_the_classifier_has():
    network = classifier(SIZE)
    projector = pretrain.projector(network)
    assert projector.get_layer(FEATURES) is network.get_layer(FEATURES)
    assert projector.output_shape == (None, pretrain.PROJECTED)
