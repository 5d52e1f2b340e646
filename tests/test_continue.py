"""The next release from the last one: its networks read back, old and new films mixed, patients
kept apart, nothing forgotten.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.cxr.metrics import auc
from app.cxr.release import Release
from model_export import __main__ as command_line
from model_export import combine, configs, train
from model_export.batches import Films, balanced_batches, gather_films
from model_export.configs import Experiment
from model_export.continuing import Continuation, NotContinued, kernels, set_kernels
from model_export.datasets import (
    CONTRIBUTIONS,
    load_contributions,
    load_kermany,
    read_films,
    split_by_patient,
)
from model_export.network import BatchNormalization, classifier
from model_export.quantize import run_graph
from model_export.runs import load_members, load_trained
from tests.opened import clear, opened, sick
from tests.workshop import EXPERIMENT, PARTS, draw_films, released, taught

CONTINUED = dataclasses.replace(
    EXPERIMENT, name="again", peak_learning_rate=2e-6, hard_share=0.7, new_share=0.5
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_films(tmp_path_factory.mktemp("films") / "data", PARTS)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught(tmp_path_factory.mktemp("runs") / "first", data)


@pytest.fixture(scope="module")
def release(run: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A packed release of two networks that have most of their kernels in common."""
    folder = tmp_path_factory.mktemp("packed")
    combine.combine([run, taught(folder / "second", data, seed=1)], folder / "joined")
    return released(folder / "joined", data, folder / "release", "1.0.0")


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """New films of twenty patients of each class."""
    films = [
        make(100 + n, grey=grey + n)
        for n in range(20)
        for make, grey in ((sick, 140.0), (clear, 70.0))
    ]
    return opened(tmp_path_factory.mktemp("new") / "merged", "amani", films)


@pytest.fixture(scope="module")
def images(data: Path) -> np.ndarray:
    return read_films(load_kermany(data), EXPERIMENT.size)


def scores(model: keras.Model, images: np.ndarray) -> np.ndarray:
    shown = (images, images[:, :, ::-1])
    said = [model.predict(one.astype(np.float32), verbose=0).ravel() for one in shown]
    return np.asarray(np.mean(said, axis=0))


def fresh() -> keras.Model:
    return classifier(EXPERIMENT.size, 0.0, 0.0)


# --- read back ----------------------------------------------------------------------------------


def test_networks_read_out_of_an_int8_graph_answer_as_the_graph_does(release, merged, images):
    said = []
    for member in (0, 1):
        model = fresh()
        Continuation(release.directory, member, merged).load_weights(model)
        said.append(scores(model, images))
    graph, again = run_graph(release.graph, images)["logit"].ravel(), np.mean(said, axis=0)
    assert np.abs(said[0] - said[1]).max() > 0.1
    assert np.corrcoef(graph, again)[0, 1] > 0.99
    assert np.abs(graph - again).mean() < 0.1 * graph.std()


def test_its_kernels_are_the_floats_but_for_the_rounding_to_seven_bits(release, run):
    found, trained = kernels(release.graph, 0), load_trained(run)
    kernel = found["block3_expand"][0]
    layer, normal = trained.get_layer("block3_expand"), trained.get_layer("block3_expand_bn")
    gamma, _, _, variance = (np.asarray(weight) for weight in normal.get_weights())
    folded = np.asarray(layer.kernel) * gamma / np.sqrt(variance + normal.epsilon)
    exact = folded.transpose(3, 2, 0, 1)
    step = np.abs(exact).max(axis=(1, 2, 3), keepdims=True) / 63
    assert (np.abs(kernel - exact) <= 0.51 * step + 1e-6).all()
    assert np.abs(kernel - exact).max() > 0  # exactly what was trained is lost


def test_every_network_of_a_release_is_found(release):
    one, other = (kernels(release.graph, member) for member in (0, 1))
    assert one.keys() == other.keys()
    assert (one["stem"][0] == other["stem"][0]).all()
    assert (one["smooth"][0] != other["smooth"][0]).any()
    convolutions = [
        layer.name
        for layer in fresh().layers
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
    ]
    assert set(convolutions) == set(one)


def test_the_factory_release_can_be_gone_on_with(root):
    found = kernels(root / "assets" / "release" / "model.onnx", 1)
    set_kernels(classifier(160), found)


def test_a_network_that_is_not_there_is_named(release, run, merged):
    with pytest.raises(NotContinued, match="no network 2"):
        kernels(release.graph, 2)
    with pytest.raises(NotContinued, match="has 1 networks"):
        Continuation(run, 1, merged).load_weights(fresh())


@pytest.mark.parametrize("spoil", ["missing", "shape"])
def test_a_graph_of_another_network_is_refused(release, spoil):
    found = kernels(release.graph, 0)
    kernel, bias = found.pop("stem")
    if spoil == "shape":
        found["stem"] = (kernel[:, :, :1], bias)
    with pytest.raises(NotContinued, match="stem"):
        set_kernels(fresh(), found)


def test_a_run_that_was_kept_gives_its_floats_exactly(run, merged):
    model = classifier(EXPERIMENT.size, EXPERIMENT.dropout, EXPERIMENT.drop_connect)
    Continuation(run, 0, merged).load_weights(model)
    for one, other in zip(model.get_weights(), load_members(run)[0].get_weights(), strict=True):
        assert (one == other).all()


def test_normalisation_stays_as_it_was_released_so_that_training_sees_the_same_network(
    release, merged, images
):
    model = fresh()
    Continuation(release.directory, 0, merged).load_weights(model)
    batch = tf.constant(images[:4], tf.float32)
    used, trained = (np.asarray(model(batch, training=mode)) for mode in (False, True))
    assert used == pytest.approx(trained, abs=1e-4)
    normal = [layer for layer in model.layers if isinstance(layer, BatchNormalization)]
    assert not any(layer.trainable_weights for layer in normal)


# --- old and new --------------------------------------------------------------------------------


def films(new_sick: int = 5) -> Films:
    """Grey says what a film is: 10 and 20 old, 110 and 120 new, clear and sick."""
    greys = [10] * 20 + [20] * 20 + [110] * 5 + [120] * new_sick
    labels = [0] * 20 + [1] * 20 + [0] * 5 + [1] * new_sick
    images = np.array(greys, np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 1), np.uint8)
    values = np.array(labels, np.float32)
    return Films(images, values, values, np.array(greys) > 100)


def mixed(of: Films, share: float) -> list[int]:
    still = configs.Augmentation(
        rotation=0, scale=0, aspect=0, shift=0, flip=False, gamma=0, contrast=0, brightness=0
    )
    experiment = Experiment(name="t", size=32, batch=16, new_share=share, augmentation=still)
    batch, _ = next(iter(balanced_batches(of, experiment)))
    return np.rint(np.asarray(batch).mean(axis=(1, 2, 3))).astype(int).tolist()


@pytest.mark.parametrize(
    ("share", "counts"),
    [(0.0, (8, 8, 0, 0)), (0.25, (6, 6, 2, 2)), (0.5, (4, 4, 4, 4)), (1.0, (0, 0, 8, 8))],
)
def test_a_batch_rehearses_old_films_in_the_share_that_the_experiment_says(share, counts):
    found = mixed(films(), share)
    assert tuple(found.count(grey) for grey in (10, 20, 110, 120)) == counts


def test_a_class_of_which_nothing_new_came_is_made_of_old_films():
    found = mixed(films(new_sick=0), 0.5)
    assert [found.count(grey) for grey in (10, 20, 110, 120)] == [4, 8, 4, 0]


def test_the_release_teaches_what_it_says_of_old_and_of_new_films(release, data, merged):
    split = split_by_patient(load_kermany(data) + load_contributions(merged))
    found = gather_films(CONTINUED, split, [release.directory], None)
    teacher = 1 / (1 + np.exp(-run_graph(release.graph, found.images)["logit"].ravel()))
    assert found.targets == pytest.approx(0.7 * found.labels + 0.3 * teacher, abs=1e-5)
    assert found.is_new is not None
    assert found.is_new.sum() == sum(film.source == CONTRIBUTIONS for film in split.train) > 0


def test_new_patients_are_split_by_their_name_whatever_the_folder_is_called(merged, tmp_path):
    (tmp_path / "other-name").symlink_to(merged)
    here, there = (
        split_by_patient(load_contributions(path)) for path in (merged, tmp_path / "other-name")
    )
    for part in ("train", "validation", "test"):
        names = [[film.patient for film in getattr(split, part)] for split in (here, there)]
        assert names[0] == names[1]
        assert names[0]


# --- the stage ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def continued(
    release: Release, data: Path, merged: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    run = tmp_path_factory.mktemp("next") / "run"
    tf.config.run_functions_eagerly(True)
    try:
        train.train(CONTINUED, data, run, continuation=Continuation(release.directory, 0, merged))
    finally:
        tf.config.run_functions_eagerly(False)
    return run


def test_a_continued_run_has_moved_and_still_knows_what_the_release_knew(
    continued, release, merged, images, data
):
    before = fresh()
    Continuation(release.directory, 0, merged).load_weights(before)
    after = load_trained(continued)
    old, new = scores(before, images), scores(after, images)
    assert np.abs(old - new).max() > 0
    labels = np.array([film.label for film in load_kermany(data)])
    assert auc(labels, new) >= auc(labels, old) - 0.02
    assert np.corrcoef(old, new)[0, 1] > 0.98


def test_what_it_learnt_from_holds_no_patient_of_the_other_parts(continued, data, merged):
    known = split_by_patient(load_kermany(data) + load_contributions(merged))
    asked = np.load(continued / train.TAUGHT)
    assert asked.size == len(known.train)
    apart = {film.patient for film in known.validation + known.test}
    assert not apart & {film.patient for film in known.train}


def test_another_size_is_refused_before_anything_is_read(release, data, merged, tmp_path):
    large = dataclasses.replace(CONTINUED, size=96)
    with pytest.raises(NotContinued, match="sees 64 pixels, not 96"):
        train.train(large, data, tmp_path, continuation=Continuation(release.directory, 0, merged))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_experiment_that_rehearses_nothing_is_refused(release, data, merged, tmp_path, share):
    forgetful = dataclasses.replace(CONTINUED, new_share=share)
    with pytest.raises(NotContinued, match="mixes no old films"):
        train.train(
            forgetful, data, tmp_path, continuation=Continuation(release.directory, 0, merged)
        )


def test_a_folder_without_a_usable_film_is_refused(release, tmp_path):
    empty = opened(tmp_path / "m", "amani", [])
    with pytest.raises(NotContinued, match="no film"):
        Continuation(release.directory, 0, empty).films()


@pytest.mark.parametrize("words", [["--continue-from", "r"], ["--new", "m"]])
def test_a_release_and_new_films_go_together(words, tmp_path, capsys):
    base = ["train", "--config", "continued", "--data", "d", "--run", str(tmp_path / "r")]
    assert command_line.main([*base, *words]) == 2
    assert "go together" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_the_shipped_recipe_is_slow_short_and_rehearses():
    recipe = configs.load("continued")
    others = configs.load("opacities")
    assert recipe.peak_learning_rate <= others.peak_learning_rate / 10
    assert recipe.epochs < others.epochs
    assert 0 < recipe.new_share <= 0.5
    assert recipe.hard_share < 1
    assert recipe.size == others.size
