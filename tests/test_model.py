"""The graph at work: what it says of a film, and when it is not used at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from app.cxr.model import OUTPUTS, Model
from app.cxr.release import FACTORY_DIRECTORY, Release, UnusableRelease
from tests.tiny_release import GRID, SIZE, Manifest, logit_of, make_release, write_graph


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(Release.load(make_release(tmp_path_factory.mktemp("model") / "release")))


def grey(value: float) -> np.ndarray:
    return np.full((1, SIZE, SIZE, 1), value, np.float32)


def replace_graph(folder: Path, write: Callable[[Path], object]) -> Release:
    """A release whose graph is another file, the manifest agreeing with it."""
    write(folder / "model.onnx")
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    manifest["files"]["model.onnx"] = digest
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Release.load(folder)


@pytest.mark.parametrize("value", [20.0, 100.0, 140.0, 255.0])
def test_a_prediction_holds_every_output_of_the_graph(model, value):
    prediction = model.predict(grey(value))
    assert prediction.logit == pytest.approx(logit_of(value))
    assert prediction.probability == pytest.approx(1 / (1 + math.exp(-logit_of(value))), abs=2e-6)
    assert prediction.film_scores == pytest.approx((value - 5,))
    assert prediction.film_score == min(prediction.film_scores)
    assert prediction.activation_map.shape == (GRID, GRID)
    assert prediction.activation_map.dtype == np.float32


def test_the_mean_of_the_map_is_the_score(model):
    film = np.random.default_rng(0).uniform(0, 255, (1, SIZE, SIZE, 1)).astype(np.float32)
    prediction = model.predict(film)
    assert prediction.activation_map.mean() == pytest.approx(prediction.logit, abs=1e-5)


def test_figures_of_a_prediction_are_plain_numbers(model):
    prediction = model.predict(grey(90))
    kinds = {type(getattr(prediction, name)) for name in ("logit", "probability", "film_score")}
    assert kinds == {float}


def test_threads_share_a_model(model):
    values = [float(value) for value in range(0, 255, 5)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda value: model.predict(grey(value)).logit, values))
    assert found == pytest.approx([logit_of(value) for value in values])


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a graph"),
        lambda path: path.write_bytes(path.read_bytes()[:200]),
        lambda path: write_graph(path, ("logit", "activation_map")),
        lambda path: write_graph(path, ("logit",)),
    ],
    ids=["empty", "text", "cut short", "without a gate", "without a map"],
)
def test_a_graph_that_cannot_answer_is_not_used(tmp_path, write):
    release = replace_graph(make_release(tmp_path / "release"), write)
    with pytest.raises(UnusableRelease) as caught:
        Model.load(release)
    assert caught.value.code == "model_not_loadable"


def test_outputs_are_asked_for_by_name_and_not_by_place(tmp_path):
    release = replace_graph(
        make_release(tmp_path / "release"),
        lambda path: write_graph(path, ("film_score", "activation_map", "logit")),
    )
    assert Model.load(release).predict(grey(140)).logit == pytest.approx(2.0)


def test_a_right_release_passes_its_self_test(model):
    assert model.self_test() == []


@pytest.mark.parametrize(("shift", "passes"), [(0.005, True), (0.02, False), (-3.0, False)])
def test_the_self_test_holds_the_score_to_its_tolerance(tmp_path, shift, passes):
    def change(manifest: Manifest) -> None:
        manifest["self_test"][0]["logit"] += shift

    loaded = Model.load(Release.load(make_release(tmp_path / "release", change)))
    assert loaded.self_test() == ([] if passes else ["self_test/film.png"])


def test_a_graph_that_says_no_number_fails_the_self_test(tmp_path):
    def divide_by_nought(path: Path) -> None:
        graph = onnx.load(path)
        for constant in graph.graph.initializer:
            if constant.name in ("spread", "middle"):
                value = np.array(0.0 if constant.name == "spread" else math.nan, np.float32)
                constant.CopyFrom(onnx.numpy_helper.from_array(value, constant.name))
        onnx.save(graph, path)

    release = replace_graph(make_release(tmp_path / "release"), divide_by_nought)
    assert Model.load(release).self_test() == ["self_test/film.png"]


def test_a_self_test_film_that_is_no_picture_fails_the_self_test(tmp_path):
    folder = make_release(tmp_path / "release")
    (folder / "self_test" / "film.png").write_bytes(b"no picture")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["self_test/film.png"] = hashlib.sha256(b"no picture").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert Model.load(Release.load(folder)).self_test() == ["self_test/film.png"]


@pytest.mark.parametrize("size", [32, 80])
def test_a_graph_of_another_input_size_fails_the_self_test(tmp_path, size):
    def change(manifest: Manifest) -> None:
        manifest["input"]["size"] = size

    loaded = Model.load(Release.load(make_release(tmp_path / "release", change)))
    assert loaded.self_test() == ["self_test/film.png"]


def test_the_factory_release_passes_its_own_self_test():
    if not FACTORY_DIRECTORY.is_dir():
        pytest.skip("no factory release in assets/release")
    loaded = Model.load(Release.load(FACTORY_DIRECTORY))
    assert len(loaded.release.self_test_cases) >= 3
    assert loaded.self_test() == []


def test_the_score_of_the_factory_release_is_pooled_from_its_map():
    if not FACTORY_DIRECTORY.is_dir():
        pytest.skip("no factory release in assets/release")
    loaded = Model.load(Release.load(FACTORY_DIRECTORY))
    size = loaded.release.input_size
    film = np.random.default_rng(2).uniform(0, 255, (1, size, size, 1)).astype(np.float32)
    prediction = loaded.predict(film)
    # the pooling of every member gives at least the mean of its places
    assert prediction.logit >= prediction.activation_map.mean() - 1e-3


def test_the_age_chooses_the_calibration(tmp_path):
    def give_children_another(manifest: Manifest) -> None:
        manifest["calibration_by_age"] = {"under_5": {"slope": 1.0, "intercept": 2.0}}

    loaded = Model.load(Release.load(make_release(tmp_path / "r", give_children_another)))
    film = np.full((1, 40, 40, 1), 100.0, np.float32)
    child, adult, unknown = (loaded.predict(film, age).probability for age in (3.0, 40.0, None))
    assert child > adult == unknown


def test_onnxruntime_is_told_to_report_to_nobody():
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_outputs_have_one_spelling():
    assert OUTPUTS == ("logit", "activation_map", "film_score")
