"""The workshop from films to a release, on a few drawn films and a network that learns little.

One tiny run is trained, stopped, resumed, exported, quantized and packed once for the whole file.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.cxr.model import OUTPUTS, Model
from app.cxr.release import AGE_BANDS, UNKNOWN_AGE, Release
from model_export import __main__ as command_line
from model_export import (
    combine,
    configs,
    evaluate,
    gate,
    negatives,
    pack,
    quantize,
    resuming,
    train,
)
from model_export.configs import Experiment
from model_export.datasets import (
    LabelledFilm,
    fold_of,
    load_class_folders,
    load_kermany,
    load_labels_csv,
    patient_of_kermany,
    split_by_patient,
)
from model_export.export import FLOAT_GRAPH, ParityError, check_parity, export
from model_export.network import (
    FEATURES,
    MAP,
    BatchNormalization,
    Gate,
    LogMeanExp,
    classifier,
    with_explanation,
)
from model_export.phantom import ZONES, chest_film
from model_export.runs import load_experiment, load_members, load_trained
from tests.tiny_release import make_release
from tests.workshop import PARTS, names

SIZE = 64
EXPERIMENT = Experiment(
    name="tiny", size=SIZE, epochs=2, batch=8, patience=5, averaging=0.5, drop_connect=0.0
)
EXPERIMENTS = sorted(
    path.stem for path in Path(configs.__path__[0]).glob("*.py") if path.stem != "__init__"
)
PROVIDERS = ["CPUExecutionProvider"]


# --- films, patients, parts -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "patient", "kind"),
    [
        ("person7_bacteria_24.jpeg", "person7", "bacteria"),
        ("person7_virus_1.jpeg", "person7", "virus"),
        ("person1946_bacteria_4874.jpeg", "person1946", "bacteria"),
        ("IM-0115-0001.jpeg", "IM-0115", None),
        ("NORMAL2-IM-0115-0001.jpeg", "NORMAL2-IM-0115", None),
        ("NORMAL2-IM-1422-0001-0002.jpeg", "NORMAL2-IM-1422", None),
    ],
)
def test_the_patient_is_in_the_name_of_the_childrens_films(name, patient, kind):
    assert patient_of_kermany(name) == (patient, kind)


@pytest.mark.parametrize("name", ["film.jpeg", "person_bacteria_1.jpeg", "IM-.jpeg", ""])
def test_a_name_without_a_patient_stops_rather_than_mixes_patients(name):
    with pytest.raises(ValueError, match="no file name"):
        patient_of_kermany(name)


labelled = st.builds(
    LabelledFilm,
    path=st.just(Path("film.png")),
    label=st.integers(0, 1),
    patient=st.text(max_size=6),
    source=st.sampled_from(["kermany", "adults"]),
)


@given(st.lists(labelled, max_size=60))
def test_the_parts_of_a_split_share_no_patient_and_lose_no_film(films):
    split = split_by_patient(films)
    parts = (split.train, split.validation, split.test)
    patients = [{(film.source, film.patient) for film in part} for part in parts]
    assert not patients[0] & patients[1]
    assert not patients[0] & patients[2]
    assert not patients[1] & patients[2]
    assert sorted(map(id, films)) == sorted(id(film) for part in parts for film in part)


@given(st.lists(labelled, min_size=1, max_size=20), labelled)
def test_new_films_move_nobody_to_another_part(films, newcomer):
    before = [film in split_by_patient(films).test for film in films]
    assert [film in split_by_patient([newcomer, *films]).test for film in films] == before


@pytest.mark.parametrize(("patient", "fold"), [("person1", 1), ("person2", 9), ("IM-0115", 3)])
def test_folds_are_the_same_on_every_machine_and_for_ever(patient, fold):
    assert fold_of(LabelledFilm(Path(), 0, patient, "kermany")) == fold


def test_a_tenth_of_the_patients_is_held_out():
    films = [LabelledFilm(Path(), 0, f"person{n}", "kermany") for n in range(4000)]
    split = split_by_patient(films)
    assert len(split.test) / 4000 == pytest.approx(0.1, abs=0.02)
    assert len(split.validation) / 4000 == pytest.approx(0.1, abs=0.02)


def test_class_folders_are_labelled_by_their_name(tmp_path):
    for name in ("NORMAL", "Pneumonia", "notes"):
        (tmp_path / name).mkdir()
    for name in ("NORMAL/a.png", "Pneumonia/b.JPEG", "Pneumonia/deep.dcm", "notes/readme.txt"):
        (tmp_path / name).touch()
    found = {film.path.name: film.label for film in load_class_folders(tmp_path)}
    assert found == {"a.png": 0, "b.JPEG": 1, "deep.dcm": 1}


def test_a_folder_without_films_is_said_to_have_none(tmp_path):
    with pytest.raises(ValueError, match="no films"):
        load_class_folders(tmp_path)


def labels_csv(folder: Path, rows: list[dict[str, Any]]) -> Path:
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_labels_come_from_the_column_and_other_values_are_left_out(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").touch()
    row = {"file": "1.png", "patient": "p1", "finding": "tb", "age": "31", "sex": "F", "view": ""}
    other = {"file": "2.png", "patient": "", "finding": "none", "age": "", "sex": "", "view": "AP"}
    left = {**other, "file": "3.png", "finding": "unsure"}
    one, two = load_labels_csv(
        labels_csv(tmp_path, [row, other, left]), "finding", ["tb"], ["none"]
    )
    assert (one.label, one.patient, one.age_years, one.sex, one.view) == (1, "p1", 31.0, "F", None)
    assert (two.label, two.patient, two.age_years, two.sex, two.view) == (0, "2", None, None, "AP")
    assert one.path == tmp_path / "images" / "1.png"
    assert two.path == tmp_path / "2.png"


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    with pytest.raises(ValueError, match="no column 'findings'; it has file, finding"):
        load_labels_csv(labels_csv(tmp_path, [{"file": "1", "finding": "x"}]), "findings", [], [])


# --- training --------------------------------------------------------------------------------


def test_the_learning_rate_rises_for_a_fifth_and_falls_to_nothing():
    schedule = train.OneCycle(0.01, 100)
    rates = [float(schedule(step)) for step in range(101)]
    assert rates[0] == pytest.approx(0.0005)
    assert max(rates) == pytest.approx(0.01)
    assert rates.index(max(rates)) == 20
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[100] == pytest.approx(0, abs=1e-9)
    again = train.OneCycle(**schedule.get_config())
    assert float(again(37)) == float(schedule(37))


@pytest.mark.parametrize(
    ("past", "then", "stops"),
    [
        ([], [0.9, 0.8], False),
        ([0.9], [0.8, 0.7], True),
        ([0.9, 0.8], [0.7], True),
        ([0.9, 0.8], [0.95], False),
        ([0.7, 0.8], [0.75], False),
    ],
)
def test_early_stopping_counts_the_epochs_before_the_interruption(tmp_path, past, then, stops):
    history = tmp_path / "history.csv"
    if past:
        rows = "".join(f"{epoch},{value}\n" for epoch, value in enumerate(past))
        history.write_text(f"epoch,{resuming.MONITOR}\n{rows}")
    stopping = resuming.ResumableEarlyStopping(history, patience=2)
    stopping.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
    stopping.model.stop_training = False
    stopping.on_train_begin()
    for epoch, value in enumerate(then, start=len(past)):
        stopping.on_epoch_end(epoch, {resuming.MONITOR: value})
    assert bool(stopping.model.stop_training) is stops


@pytest.mark.parametrize(
    ("saved", "kept"), [(None, []), (1, ["0"]), (2, ["0", "1"]), (3, ["0", "1", "2"])]
)
def test_an_epoch_that_was_written_down_but_not_saved_is_taken_again(tmp_path, saved, kept):
    rows = [f"{epoch},0.{epoch}\n" for epoch in range(3)]
    (tmp_path / "history.csv").write_text(f"epoch,{resuming.MONITOR}\n{''.join(rows)}")
    if saved is not None:
        (tmp_path / "backup").mkdir()
        (tmp_path / "backup" / "training_metadata.json").write_text(f'{{"epoch": {saved}}}')
    resuming.forget_unsaved(tmp_path)
    with (tmp_path / "history.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == kept


def test_a_row_that_was_broken_off_is_taken_again(tmp_path):
    (tmp_path / "history.csv").write_text(f"epoch,{resuming.MONITOR}\n0,0.5\n1")
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "training_metadata.json").write_text('{"epoch": 1}')
    resuming.forget_unsaved(tmp_path)
    assert resuming.past_scores(tmp_path / "history.csv") == [0.5]


def test_a_new_run_has_nothing_to_forget(tmp_path):
    resuming.forget_unsaved(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_found_by_name_and_opens_with_its_command(name):
    assert configs.load(name).name == name
    module = __import__(f"model_export.configs.{name}", fromlist=["EXPERIMENT"])
    assert f"python -m model_export train --config {name}" in module.__doc__


# --- one tiny run -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn films in the children's set's layout, a few in every part of the split."""
    root = tmp_path_factory.mktemp("data")
    for label, folder in enumerate(("NORMAL", "PNEUMONIA")):
        (root / folder).mkdir()
        wanted, named = dict(PARTS), names(label)
        while any(wanted.values()):
            name, part = next(named)
            if wanted[part]:
                wanted[part] -= 1
                opacity = list(ZONES)[sum(wanted.values()) % 6] if label else None
                film = chest_film(sum(wanted.values()), (96, 96), opacity, strength=1.0)
                Image.fromarray(film).save(root / folder / name)
    return root


class Killed(Exception):
    pass


class KillAtEpoch(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == self.epoch:
            raise Killed


@dataclasses.dataclass
class Trained:
    run: Path
    history_when_killed: str


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run that was killed after its first epoch and resumed.

    Its few steps run eagerly: tracing the network twice would take longer than all the rest.
    """
    run = tmp_path_factory.mktemp("runs") / "tiny"
    callbacks = train._callbacks
    tf.config.run_functions_eagerly(True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "_callbacks", lambda *a: [*callbacks(*a), KillAtEpoch(1)])
            with pytest.raises(Killed):
                train.train(EXPERIMENT, data, run)
        killed = (run / "history.csv").read_text()
        train.train(EXPERIMENT, data, run)
    finally:
        tf.config.run_functions_eagerly(False)
    return Trained(run, killed)


@pytest.fixture(scope="module")
def quantized(trained: Trained, data: Path) -> Path:
    """The run with gate, float graph and int8 graph; limits as wide as its few films need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "NEGATIVES", 24)
        patch.setattr(negatives, "PICTURE_FOLDERS", (("sklearn", "datasets/images"),))
        patch.setattr(quantize, "CALIBRATION_FILMS", 8)
        patch.setattr(quantize, "AUC_LOSS", 1.0)
        patch.setattr(quantize, "AGREEMENT", 0.0)
        patch.setattr(quantize, "MAP_CORRELATION", -1.0)
        gate.train_gate(trained.run, data, None)
        export(trained.run)
        quantize.quantize(trained.run, data)
    return trained.run


def test_a_killed_run_goes_on_at_the_next_epoch_with_its_history(trained):
    with (trained.run / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert (trained.run / "history.csv").read_text().startswith(trained.history_when_killed)
    assert len(resuming.past_scores(trained.run / "history.csv")) == 2


def test_a_finished_run_has_what_the_next_stages_need(trained):
    assert load_experiment(trained.run) == EXPERIMENT
    assert load_trained(trained.run).input_shape == (None, SIZE, SIZE, 1)


def test_the_gate_is_one_linear_unit_a_question_that_carries_its_threshold(quantized):
    loaded = gate.load_gate(quantized)
    assert loaded.weights.shape == (40 + 112 + 1280, len(gate.QUESTIONS))
    assert loaded.weights.dtype == loaded.bias.dtype == np.float32
    assert np.isfinite(loaded.bias).all()
    with np.load(quantized / gate.GATE_FILE) as file:
        assert set(file) == {"weights", "bias"}


def test_a_film_that_is_cut_off_lacks_a_good_part_and_fills_the_picture():
    film = np.tile(np.arange(48, dtype=np.uint8), (48, 1)) + 50
    cut = negatives.cut_films(film[np.newaxis], 40)
    assert cut.shape == (40, 48, 48, 1)
    spans = np.ptp(cut[..., 0].mean(axis=1), axis=1)
    assert spans.max() <= 47
    assert (spans < 0.6 * 47).mean() > 0.5
    assert cut.min() >= 50


def test_the_gate_tells_what_it_learnt_from():
    dice = np.random.default_rng(0)
    films, unseen = dice.normal(0, 1, (60, 8)), dice.normal(0, 1, (400, 8))
    middles = (np.eye(8)[index] * 9 for index in range(len(gate.QUESTIONS)))
    others = {
        code: dice.normal(m, 1, (40, 8)) for code, m in zip(gate.QUESTIONS, middles, strict=True)
    }
    learnt = gate.fit_gate(films, others, unseen)
    assert (gate.scores(learnt, unseen) > 0).all(axis=1).mean() > 0.98
    for index, code in enumerate(gate.QUESTIONS):
        refused = (gate.scores(learnt, others[code]) < 0).mean(axis=0)
        assert refused[index] > 0.9
        assert (np.delete(refused, index) < 0.1).all()


def test_pictures_that_are_no_film_come_in_the_number_asked_for(monkeypatch):
    monkeypatch.setattr(negatives, "PICTURE_FOLDERS", (("sklearn", "datasets/images"),))
    films = np.stack([chest_film(seed, (48, 48)) for seed in range(6)])
    pictures = negatives.negatives(films, 12, 48)
    assert pictures.shape == (12, 48, 48, 1)
    assert pictures.dtype == np.uint8
    assert (pictures == negatives.negatives(films, 12, 48)).all()
    assert (pictures != negatives.negatives(films, 12, 48, seed=1)).any()


def _explained(run: Path) -> keras.Model:
    return with_explanation(load_members(run), gate.load_gate(run))


def test_the_float_graph_says_what_keras_says(quantized):
    check_parity(_explained(quantized), quantized / FLOAT_GRAPH, SIZE)


def test_outputs_of_both_graphs_go_by_their_names(quantized):
    for name in (FLOAT_GRAPH, quantize.INT8_GRAPH):
        graph = onnx.load(quantized / name)
        assert {output.name for output in graph.graph.output} == set(OUTPUTS)
        assert [
            (i.domain, i.version) for i in graph.opset_import if i.domain in ("", "ai.onnx")
        ] == [("", 18)]


@pytest.mark.parametrize(("tampered", "differs"), [("film_score", "film_score"), ("map", "logit")])
def test_a_tampered_float_graph_fails_the_stage(quantized, tampered, differs):
    model = _explained(quantized)
    unit = _map_unit(model) if tampered == "map" else model.get_layer("film_score")
    weights, bias = unit.get_weights()
    unit.set_weights([weights, bias + 0.01])
    with pytest.raises(ParityError, match=differs):
        check_parity(model, quantized / FLOAT_GRAPH, SIZE)


def _map_unit(model: keras.Model) -> keras.layers.Layer:
    return model.get_layer("member0").get_layer(MAP)


NO_GATE = Gate(np.zeros((40 + 112 + 1280, 1), np.float32), np.zeros(1, np.float32))


def _noise(count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (count, SIZE, SIZE, 1)).astype(np.float32)


def test_the_logit_is_the_mean_over_the_film_and_its_mirror_image(trained):
    base, film = load_trained(trained.run), _noise()
    found = with_explanation([base], NO_GATE)(film, training=False)
    both = [np.asarray(base(view, training=False)) for view in (film, film[:, :, ::-1])]
    assert np.asarray(found["logit"]) == pytest.approx(sum(both) / 2, abs=1e-4)


def test_a_mirrored_film_gets_the_same_answer_and_the_mirrored_map(trained):
    shipped, film = with_explanation([load_trained(trained.run)], NO_GATE), _noise()
    found, mirrored = (shipped(view, training=False) for view in (film, film[:, :, ::-1]))
    for name in ("logit", "film_score"):
        assert np.asarray(found[name]) == pytest.approx(np.asarray(mirrored[name]), abs=1e-4)
    there = np.asarray(mirrored["activation_map"])[:, :, ::-1]
    assert np.asarray(found["activation_map"]) == pytest.approx(there, abs=1e-4)


def test_the_map_has_a_cell_for_every_sixteen_pixels(trained):
    found = with_explanation([load_trained(trained.run)], NO_GATE)(_noise(), training=False)
    assert found["activation_map"].shape == (2, SIZE // 16, SIZE // 16, 1)


@given(st.lists(st.floats(-20, 20), min_size=4, max_size=4))
def test_the_score_of_a_film_lies_between_the_mean_and_the_highest_of_its_places(places):
    pooled = float(LogMeanExp()(np.array(places, np.float32).reshape(1, 2, 2, 1))[0, 0])
    assert np.mean(places) - 1e-4 <= pooled <= max(places) + 1e-4


def test_the_fused_batch_normalisation_trains_as_that_of_keras_does():
    films = tf.constant(np.random.default_rng(3).normal(2, 5, (4, 6, 6, 3)), tf.float32)
    fused, plain = BatchNormalization(epsilon=1e-3), keras.layers.BatchNormalization()
    found = []
    for layer in (fused, plain):
        layer.build(films.shape)
        with tf.GradientTape() as tape:
            tape.watch(films)
            normalised = layer(films, training=True)
            loss = tf.reduce_sum(normalised**3)
        weights = [weight.value for weight in layer.trainable_weights]
        found.append([normalised, *tape.gradient(loss, [films, *weights])])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(fused.moving_mean, plain.moving_mean, rtol=1e-5)
    # the fused one takes the unbiased variance of the batch: n / (n - 1) of the other's
    seen = (np.asarray(layer.moving_variance) - 0.99 for layer in (fused, plain))
    np.testing.assert_allclose(next(seen), next(seen) * 144 / 143, rtol=1e-3)


def test_weights_of_keras_own_batch_normalisation_are_found_in_their_file(tmp_path):
    def network(layer):
        return keras.Sequential([keras.Input((2, 2, 1)), layer])

    learnt = network(keras.layers.BatchNormalization())
    learnt.layers[0].moving_mean.assign([7.0])
    learnt.save_weights(tmp_path / "run.weights.h5")
    fused = network(BatchNormalization())
    fused.load_weights(tmp_path / "run.weights.h5")
    assert float(fused.layers[0].moving_mean[0]) == 7.0


def test_without_training_the_fused_batch_normalisation_keeps_what_it_has_seen():
    layer = BatchNormalization()
    films = tf.fill((1, 2, 2, 1), 3.0)
    np.testing.assert_allclose(layer(films, training=False), films, rtol=1e-3)
    assert float(layer.moving_mean[0]) == 0.0


def test_members_answer_with_their_mean(trained):
    one = load_trained(trained.run)
    other = load_trained(trained.run)
    kernel, bias = other.get_layer(MAP).get_weights()
    other.get_layer(MAP).set_weights([kernel, bias + 2.0])
    film = _noise()
    alone = with_explanation([one], NO_GATE)(film, training=False)
    joined = with_explanation([one, other], NO_GATE)(film, training=False)
    for name in ("logit", "activation_map"):
        assert np.asarray(joined[name]) == pytest.approx(np.asarray(alone[name]) + 1.0, abs=1e-3)


def test_runs_that_are_joined_are_exported_as_one(trained, tmp_path):
    combine.combine([trained.run, trained.run], tmp_path / "joined")
    assert load_experiment(tmp_path / "joined") == load_experiment(trained.run)
    assert len(load_members(tmp_path / "joined")) == 2


def test_runs_that_see_different_sizes_cannot_be_joined(trained, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    values = json.loads((trained.run / "experiment.json").read_text())
    (other / "experiment.json").write_text(json.dumps({**values, "size": 96}))
    with pytest.raises(ValueError, match=r"different sizes: \[64, 96\]"):
        combine.combine([trained.run, other], tmp_path / "joined")


def test_no_batch_normalisation_is_left_for_the_clinic_to_compute(quantized):
    graph = onnx.load(quantized / quantize.INT8_GRAPH).graph
    float_steps = [node.name for node in graph.node if "batchnorm" in node.name]
    assert [name for name in float_steps if name.endswith(("mul_1", "add_1"))] == []


def _scaled_convolution() -> onnx.ModelProto:
    make = onnx.helper
    values = np.random.default_rng(1)
    constants = {
        "kernel": values.normal(size=(2, 1, 3, 3)),
        "factor": values.normal(size=(2, 1, 1)),
        "offset": values.normal(size=(1, 2, 1, 1)),
    }
    return make.make_model(
        make.make_graph(
            [
                make.make_node("Conv", ["image", "kernel"], ["a"], name="conv"),
                make.make_node("Mul", ["a", "factor"], ["b"]),
                make.make_node("Add", ["b", "offset"], ["out"]),
            ],
            "scaled",
            [make.make_tensor_value_info("image", onnx.TensorProto.FLOAT, (1, 1, 5, 5))],
            [make.make_tensor_value_info("out", onnx.TensorProto.FLOAT, (1, 2, 3, 3))],
            [
                onnx.numpy_helper.from_array(value.astype(np.float32), name)
                for name, value in constants.items()
            ],
        ),
        opset_imports=[make.make_opsetid("", 18)],
        ir_version=8,
    )


def _run(model: onnx.ModelProto) -> np.ndarray:
    image = np.random.default_rng(2).normal(size=(1, 1, 5, 5)).astype(np.float32)
    (found,) = onnx.reference.ReferenceEvaluator(model).run(None, {"image": image})
    return np.asarray(found)


def test_batch_normalisation_folded_into_its_convolution_changes_no_value():
    model = _scaled_convolution()
    before = _run(model)
    assert quantize.fold_batch_norm(model.graph) == 1
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    assert _run(model) == pytest.approx(before, abs=1e-5)


def test_a_convolution_whose_result_is_used_twice_is_left_as_it_is():
    model = _scaled_convolution()
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, (1, 2, 3, 3))
    )
    assert quantize.fold_batch_norm(model.graph) == 0


def _front_of_a_release(scale: float, zero: int) -> onnx.ModelProto:
    """A film and its mirror image, scaled as the backbone wants them, rounded and read back."""
    make = onnx.helper.make_node
    constants = {
        "last_to_first": np.arange(7, -1, -1),
        "factor": np.float32(1 / 128),
        "offset": np.float32(-127 / 128),
        "shape": np.array([-1, 1, 8, 8]),
        "scale": np.float32(scale),
        "zero": np.uint8(zero),
    }
    nodes = [
        make("Gather", ["image", "last_to_first"], ["mirrored"], axis=2),
        make("Concat", ["image", "mirrored"], ["both"], axis=0),
        make("Mul", ["both", "factor"], ["scaled"]),
        make("Add", ["scaled", "offset"], ["centred"]),
        make("Reshape", ["centred", "shape"], ["planes"]),
        make("QuantizeLinear", ["planes", "scale", "zero"], ["codes"]),
        make("DequantizeLinear", ["codes", "scale", "zero"], ["seen"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "front",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, (None, 8, 8, 1))],
        [onnx.helper.make_tensor_value_info("seen", onnx.TensorProto.FLOAT, (None, 1, 8, 8))],
        [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)


def _seen(model: onnx.ModelProto, film: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=PROVIDERS)
    return np.asarray(session.run(None, {"image": film})[0])


def test_a_film_that_is_mirrored_as_bytes_is_seen_as_it_was_before():
    model = _front_of_a_release(1 / 128, 127)
    film = np.random.default_rng(1).integers(0, 256, (1, 8, 8, 1)).astype(np.float32)
    before = _seen(model, film)
    assert quantize.film_as_bytes(model, 8)
    onnx.checker.check_model(model)
    np.testing.assert_array_equal(before, _seen(model, film))
    assert not {"Mul", "Add", "Gather"} & {node.op_type for node in model.graph.node}
    named = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= named


@pytest.mark.parametrize(("scale", "zero"), [(1 / 100, 127), (1 / 128, 126), (1 / 64, 64)])
def test_a_film_whose_codes_are_not_its_greys_is_left_as_it_is(scale, zero):
    model = _front_of_a_release(scale, zero)
    before = model.SerializeToString(deterministic=True)
    assert not quantize.film_as_bytes(model, 8)
    assert model.SerializeToString(deterministic=True) == before


def test_a_float_graph_has_no_bytes_to_mirror(quantized):
    assert not quantize.film_as_bytes(onnx.load(quantized / FLOAT_GRAPH), SIZE)


def test_the_backbone_is_int8_and_the_head_is_float(quantized):
    graph = onnx.load(quantized / quantize.INT8_GRAPH).graph
    makers = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    int8 = [c for c in convolutions if makers.get(c.input[1], c).op_type == "DequantizeLinear"]
    assert len(convolutions) - len(int8) == 1  # the map's
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            values = onnx.numpy_helper.to_array(weights[node.input[0]])
            if values.dtype == np.int8:  # reduce_range: one bit is left free
                assert values.min() >= -64
                assert values.max() <= 64
    means = {"ReduceMean", "GlobalAveragePool"}
    for output, ends in zip(OUTPUTS, ({"Conv"}, {"Conv"}, means), strict=True):
        kinds = _kinds_behind(makers, output, ends)
        assert not kinds & {"QuantizeLinear", "DequantizeLinear"}, output


def _kinds_behind(makers: dict[str, Any], output: str, ends: set[str]) -> set[str]:
    kinds, open_names = set(), [output]
    while open_names:
        node = makers.get(open_names.pop())
        if node is not None and node.op_type not in ends:
            kinds.add(node.op_type)
            open_names += node.input
    return kinds


LABELS = np.array([0] * 100 + [1] * 100)
EXACT = {
    "logit": np.concatenate([np.linspace(-3, -0.5, 100), np.linspace(0.5, 3, 100)])[:, np.newaxis],
    "activation_map": np.random.default_rng(0).normal(size=(200, 2, 2, 1)),
}


def _spoilt(name: str, films: slice, factor: float) -> dict[str, np.ndarray]:
    small = {key: value.copy() for key, value in EXACT.items()}
    small[name][films] *= factor
    return small


def test_equal_graphs_pass_the_comparison():
    report = quantize.compare(EXACT, EXACT, LABELS)
    assert report == pytest.approx({"auc_loss": 0, "agreement": 1, "map_correlation": 1})


@pytest.mark.parametrize(
    "small",
    [
        _spoilt("logit", slice(0, 10), -1),
        _spoilt("logit", slice(0, 3), -0.001),
        _spoilt("activation_map", slice(0, 60), -1),
        _spoilt("logit", slice(0, 1), math.nan),
        _spoilt("activation_map", slice(0, 1), math.nan),
    ],
    ids=["order lost", "answers changed", "map changed", "no score", "no map"],
)
def test_an_int8_graph_that_answers_differently_fails_the_stage(small):
    with pytest.raises(ParityError):
        quantize.compare(EXACT, small, LABELS)


def test_answers_are_compared_where_the_classes_part_and_not_at_zero():
    moved = {**EXACT, "logit": EXACT["logit"] - 1}
    flipped = {**moved, "logit": moved["logit"].copy()}
    flipped["logit"][100:] = np.where(moved["logit"][100:] < 0, 0.1, moved["logit"][100:])
    assert quantize.compare(moved, flipped, LABELS)["agreement"] == 1


@pytest.fixture(scope="module")
def packed(quantized: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Release:
    target = tmp_path_factory.mktemp("packed") / "release"
    target.mkdir()
    (target / "of-an-older-release").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "DRAWS", 1)
        return pack.pack(quantized, data, None, target, "tiny", "0.0.1")


@given(
    seen=st.floats(-5, 5),
    spread=st.floats(0.1, 3),
    seed=st.integers(0, 2**16),
)
def test_the_map_range_rises_even_where_a_network_sees_less_in_sick_films(seen, spread, seed):
    generator = np.random.default_rng(seed)
    labels = np.array([0, 1] * 4)
    maps = generator.normal(0, spread, (8, 3, 3, 1)) + (labels * seen)[:, None, None, None]
    scale = pack.map_range(maps, labels)
    assert scale["low"] < scale["high"]


def test_a_packed_release_loads_and_passes_its_own_self_test(packed):
    release = Release.load(packed.directory)
    assert release.label == "tiny@0.0.1"
    assert Model.load(release).self_test() == []


def test_a_packed_release_replaces_the_older_one_and_lists_every_file(packed):
    there = {
        path.relative_to(packed.directory).as_posix()
        for path in packed.directory.rglob("*")
        if path.is_file()
    }
    assert there == {"manifest.json", *packed.manifest["files"]}
    assert "of-an-older-release" not in there


def test_a_packed_release_says_how_every_band_was_fitted(packed):
    bands = {*dict(AGE_BANDS), UNKNOWN_AGE}
    for key in ("operating_points", "operating_point_notes", "calibration_by_age"):
        assert set(packed.manifest[key]) == bands
    assert all(note.startswith("Fitted on") for note in _notes(packed).values())


def _notes(release: Release) -> dict[str, str]:
    return dict(release.manifest["operating_point_notes"])


def test_adults_get_a_calibration_and_an_operating_point_of_their_own():
    generator = np.random.default_rng(3)
    labels = np.array([0, 1] * 100)
    children = pack.Scores(labels, labels * 6 - 3 + generator.normal(size=200), labels == 0)
    adults = pack.Scores(labels[:80], labels[:80] * 2 + generator.normal(size=80), labels[:80] == 0)
    chosen = pack.decisions(children, adults)
    assert chosen["under_5"] == chosen["5_14"] != chosen["15_64"] == chosen["65_and_over"]
    sens = [
        (chosen["15_64"].calibration.probability(logit) >= chosen["15_64"].threshold)
        for logit in adults.logits[adults.labels == 1]
    ]
    assert np.mean(sens) >= pack.ADULTS.sensitivity


def test_a_threshold_on_few_films_does_not_hang_on_one_of_them():
    sick = np.r_[np.arange(-3.0, 0.0), np.full(28, 2.0)]  # three faint ones among 31
    few = pack.Scores(np.ones(31, int), sick, np.zeros(31, bool))
    threshold = pack.steady_threshold(few, 0.9)
    assert -1.0 < threshold < 2.0
    assert (sick >= threshold).mean() >= 0.9
    assert pack.steady_threshold(few, 0.9) == threshold


def test_a_threshold_on_many_films_is_where_their_share_is_called():
    logits = np.random.default_rng(5).normal(2, 1, 20_000)
    many = pack.Scores(np.ones(20_000, int), logits, np.zeros(20_000, bool))
    assert pack.steady_threshold(many, 0.9) == pytest.approx(2 - 1.2816, abs=0.03)


BAND = pack.Aim(sensitivity=0.97, missed=0.03, false_alarm=0.05)


def test_films_that_part_cleanly_need_no_band():
    sick, clear = np.linspace(0.6, 0.99, 100), np.linspace(0.01, 0.4, 100)
    assert pack.choose_band(sick, clear, 0.5, BAND) == (0.5, 0.5)


def test_the_band_withholds_the_least_that_keeps_both_promises():
    sick = np.concatenate([np.linspace(0.3, 0.48, 10), np.linspace(0.6, 0.99, 90)])
    clear = np.concatenate([np.linspace(0.01, 0.4, 90), np.linspace(0.52, 0.7, 10)])
    low, high = pack.choose_band(sick, clear, 0.5, BAND)
    assert (sick < low).sum() == 2  # (2 + 1) / 101 is the most that stays under 0.03
    assert (clear >= high).sum() == 4
    assert 0 < low < 0.5 < high < 1


@pytest.mark.parametrize("films", [0, 1, 10])
def test_an_answer_too_few_films_can_vouch_for_is_never_given(films):
    low, high = pack.choose_band(np.full(films, 0.9), np.full(films, 0.1), 0.5, BAND)
    assert (low, high) == (0, 1)


probabilities = st.lists(st.floats(0.01, 0.99), max_size=120).map(np.array)


@given(sick=probabilities, clear=probabilities, threshold=st.floats(0.05, 0.95))
def test_both_kinds_of_wrong_answer_stay_in_bounds(sick, clear, threshold):
    low, high = pack.choose_band(sick, clear, threshold, BAND)
    assert low <= threshold <= high
    assert low == 0 or ((sick < low).sum() + 1) / (sick.size + 1) <= BAND.missed
    assert high == 1 or ((clear >= high).sum() + 1) / (clear.size + 1) <= BAND.false_alarm


def test_the_network_has_a_grid_of_a_thirty_second():
    assert classifier(96).get_layer(FEATURES).output.shape == (None, 3, 3, 1280)


# --- evaluation -------------------------------------------------------------------------------


def figures_of(text: str) -> dict[str, Any]:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found: dict[str, Any] = json.loads(text, parse_constant=no_constant)
    return found


def stage(*arguments: object) -> int:
    return command_line.main([str(argument) for argument in arguments])


def test_any_release_is_scored_on_any_class_folders(data, tmp_path):
    release, target = make_release(tmp_path / "release"), tmp_path / "figures.json"
    code = stage("evaluate", "--release", release, "--data", data, "--json", target)
    assert code == 0
    figures = figures_of(target.read_text())
    assert figures["release"] == "tiny@1.2.3"
    assert figures["films"] == 2 * sum(PARTS.values())
    assert sum(share["value"] for share in figures["answers"].values()) == pytest.approx(1)
    assert 0 <= figures["auc"]["low"] <= figures["auc"]["value"] <= figures["auc"]["high"] <= 1
    assert figures["positives"] + figures["negatives"] <= figures["films"]


def test_one_class_gives_figures_without_nan(data, tmp_path):
    rows = [
        {"file": path.name, "patient": path.stem, "finding": "none", "age": "3"}
        for path in sorted((data / "NORMAL").iterdir())[:4]
    ]
    (tmp_path / "images").mkdir()
    for row in rows:
        (tmp_path / "images" / row["file"]).write_bytes(
            (data / "NORMAL" / row["file"]).read_bytes()
        )
    release, target = make_release(tmp_path / "release"), tmp_path / "figures.json"
    code = stage(
        "evaluate", "--release", release, "--data", labels_csv(tmp_path, rows), "--json", target,
        "--label-column", "finding", "--positive", "tb", "--negative", "none",
    )  # fmt: skip
    assert code == 0
    figures = figures_of(target.read_text())
    assert figures["films"] == 4
    assert figures["auc"]["value"] is None
    assert figures["sensitivity"]["value"] is None
    assert set(figures["auc_by_age_band"]) == {"under_5"}


def test_films_that_cannot_be_read_are_counted_and_do_not_stop(tmp_path):
    for name in ("NORMAL", "PNEUMONIA"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "broken.png").write_bytes(b"broken")
    release, target = make_release(tmp_path / "release"), tmp_path / "figures.json"
    assert (
        stage("evaluate", "--release", release, "--data", tmp_path / "data", "--json", target) == 0
    )
    assert figures_of(target.read_text())["answers"]["unreadable"]["value"] == 1.0


def test_the_held_out_patients_are_those_of_the_split(data):
    options = evaluate.argparse.Namespace(held_out=True, data=data)
    assert evaluate.load_films(options) == split_by_patient(load_kermany(data)).test


@pytest.mark.parametrize("name", command_line.STAGES)
def test_every_stage_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        stage(name, "--help")
    assert stopped.value.code == 0
    assert f"model_export {name}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["train"]])
def test_a_wrong_call_ends_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        stage(*arguments)
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err
