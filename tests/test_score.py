"""Runs scored side by side, on drawn films and a network of three means."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model_export import __main__ as command_line
from model_export.combine import combine
from model_export.configs import Experiment
from model_export.datasets import LabelledFilm
from model_export.network import classifier
from model_export.pack import NORMAL, NOT_NORMAL, OPACITY
from model_export.runs import WEIGHTS
from model_export.score import (
    Answers,
    Question,
    answers_of,
    figures_of,
    normal_called,
    questions,
    write_table,
)
from tests.tiny_release import logit_of, make_release

LABELS = np.array([1] * 10 + [0] * 10)
RANKED = np.arange(20.0)[::-1]


def film(index: int, label: int, kind: str | None, source: str) -> LabelledFilm:
    return LabelledFilm(Path(f"{index}.png"), label, str(index), source, kind=kind)


def everybody() -> list[LabelledFilm]:
    """Six films of each kind: of children, of adults read by radiologists, and of elsewhere."""
    kinds = [
        (0, None, "kermany"),
        (1, "virus", "kermany"),
        (1, OPACITY, "adults"),
        (0, NORMAL, "adults"),
        (0, NOT_NORMAL, "adults"),
        (0, "normal", "stress"),
        (1, "tb", "stress"),
        (1, "covid", "stress"),
    ]
    return [film(i, *kinds[i // 6]) for i in range(6 * len(kinds))]


def answers(logits: np.ndarray) -> Answers:
    return Answers(logits, np.zeros((logits.size, 2, 2)))


# --- what is asked ----------------------------------------------------------------------------


def test_every_source_is_asked_about_by_itself():
    films = everybody()
    asked = {question.name: question for question in questions(films, {})}
    members = {
        "children": {None, "virus"},
        "adults_against_normal": {OPACITY, NORMAL},
        "adults_against_the_rest": {OPACITY, NORMAL, NOT_NORMAL},
        "tb_against_normal": {"tb", "normal"},
        "covid_against_normal": {"covid", "normal"},
        "normal_called": {OPACITY, "normal"},
    }
    found = {name: {films[i].kind for i in question.films} for name, question in asked.items()}
    assert found == members
    for question in asked.values():
        assert question.labels.tolist() == [films[i].label for i in question.films]


def test_a_source_that_is_not_there_is_not_asked_about():
    children = everybody()[:12]
    assert [question.name for question in questions(children, {})] == ["children"]


@pytest.mark.parametrize(
    ("scores", "called"),
    [
        (RANKED, 0.0),
        (-RANKED, 1.0),
        # nine of ten are called from 12 on: the lowest of them may be missed
        (np.array([11.0] + [20.0] * 9 + [12.0] * 3 + [5.0] * 7), 0.0),
        (np.array([11.0] * 2 + [20.0] * 8 + [12.0] * 3 + [5.0] * 7), 0.3),
    ],
)
def test_normal_films_are_counted_where_nine_of_ten_opacities_are_called(scores, called):
    assert normal_called(LABELS, scores) == pytest.approx(called)


def test_a_draw_of_one_class_alone_has_no_figure():
    assert np.isnan(normal_called(np.ones(3), np.arange(3.0)))


def test_the_peak_counts_where_it_lies_in_a_box_of_its_film(tmp_path):
    films = []
    for index in range(3):
        path = tmp_path / f"{index}.png"
        Image.fromarray(np.full((64, 64), 128, np.uint8)).save(path)
        films.append(LabelledFilm(path, 1, str(index), "adults", kind=OPACITY))
    films.append(dataclasses.replace(films[0], path=tmp_path / "3.png", patient="3"))
    boxes = {f"{index}.png": [(0.0, 0.0, 31.0, 31.0)] for index in range(3)}
    (asked,) = questions(films, boxes)
    maps = np.zeros((4, 4, 4), np.float32)
    maps[0, 1, 1] = maps[1, 1, 1] = maps[2, 3, 3] = maps[3, 1, 1] = 1.0
    found = figures_of([asked], films, Answers(np.zeros(4), maps))
    assert found["peak_in_box"]["value"] == pytest.approx(2 / 3)


# --- what is answered -------------------------------------------------------------------------


def children(count: int = 40) -> tuple[list[LabelledFilm], np.ndarray]:
    films = [film(index, index % 2, None, "kermany") for index in range(count)]
    noise = np.random.default_rng(1).normal(0, 1.5, count)
    return films, np.array([f.label for f in films]) + noise


def test_a_run_held_against_itself_gains_nothing_in_any_draw():
    films, scores = children()
    found = figures_of(questions(films, {}), films, answers(scores), answers(scores * 3 + 1))
    assert found["children_gain"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_a_gain_is_the_difference_of_the_two_and_is_known_better_than_either():
    films, scores = children()
    asked = questions(films, {})
    nudged = scores + np.array([f.label for f in films]) * 0.3
    before, after = (figures_of(asked, films, answers(s))["children"] for s in (scores, nudged))
    gain = figures_of(asked, films, answers(nudged), answers(scores))["children_gain"]
    assert gain["value"] == pytest.approx(after["value"] - before["value"])
    assert gain["value"] > 0
    assert gain["high"] - gain["low"] < (after["high"] - after["low"]) / 2


def test_films_of_one_patient_are_drawn_together():
    films, scores = children()
    few = [dataclasses.replace(f, patient=str(i % 8)) for i, f in enumerate(films)]
    widths = []
    for group in (films, few):
        found = figures_of(questions(group, {}), group, answers(scores))["children"]
        widths.append(found["high"] - found["low"])
    assert widths[0] != widths[1]


def test_a_question_of_films_asks_the_run_itself():
    question = Question(
        "mean", np.array([1]), np.ones(1), lambda _, v: float(v.mean()), lambda a: a.logits[1:] * 2
    )
    films = [film(index, 1, None, "kermany") for index in range(2)]
    found = figures_of([question], films, answers(np.array([5.0, 7.0])))
    assert found["mean"]["value"] == 14.0


def test_the_table_has_a_row_a_run_and_leaves_a_first_run_without_gains(tmp_path):
    figure = {"value": 0.5, "low": 0.25, "high": 0.75}
    write_table(tmp_path / "t.csv", {"a": {"x": figure}, "b": {"x": figure, "x_gain": figure}})
    with (tmp_path / "t.csv").open(newline="") as file:
        one, two = csv.DictReader(file)
    assert (one["run"], one["x"], one["x_low"], one["x_gain"]) == ("a", "0.5000", "0.2500", "")
    assert (two["run"], two["x_high"], two["x_gain"]) == ("b", "0.7500", "0.5000")


# --- which runs -------------------------------------------------------------------------------


def test_a_release_answers_with_what_its_graph_says(tmp_path):
    release = make_release(tmp_path / "release")
    found = answers_of(release, np.full((2, 40, 40, 1), 140, np.uint8))
    assert found.logits == pytest.approx([logit_of(140)] * 2)
    assert found.maps.shape == (2, 5, 5)


def make_run(folder: Path, seed: int) -> Path:
    folder.mkdir()
    experiment = Experiment(name="tiny", size=32, seed=seed)
    (folder / "experiment.json").write_text(json.dumps(dataclasses.asdict(experiment)))
    model = classifier(32)
    dice = np.random.default_rng(seed)
    model.set_weights([w + 0.01 * dice.normal(size=w.shape) for w in model.get_weights()])
    model.save_weights(folder / WEIGHTS)
    return folder


def test_a_run_answers_alike_for_a_film_and_its_mirror_image_and_turns_the_map_back(tmp_path):
    run = make_run(tmp_path / "one", 1)
    films = np.random.default_rng(2).integers(0, 255, (2, 32, 32, 1)).astype(np.uint8)
    one, mirrored = answers_of(run, films), answers_of(run, films[:, :, ::-1])
    assert one.logits == pytest.approx(mirrored.logits, abs=1e-4)
    assert one.maps == pytest.approx(mirrored.maps[:, :, ::-1], abs=1e-4)


def test_joined_runs_answer_with_the_mean_of_their_members(tmp_path):
    members = [make_run(tmp_path / str(seed), seed) for seed in (1, 2)]
    combine(members, tmp_path / "joined")
    films = np.random.default_rng(2).integers(0, 255, (2, 32, 32, 1)).astype(np.uint8)
    each = [answers_of(member, films) for member in members]
    joined = answers_of(tmp_path / "joined", films)
    assert joined.logits == pytest.approx(np.mean([a.logits for a in each], axis=0), abs=1e-4)
    assert joined.maps == pytest.approx(np.mean([a.maps for a in each], axis=0), abs=1e-4)


def test_the_stage_scores_releases_on_children_and_adults(tmp_path, capsys):
    greys = {"IM-{:04d}-0001.png": ("NORMAL", 60), "person{}_virus_1.png": ("PNEUMONIA", 160)}
    for pattern, (folder, grey) in greys.items():
        (tmp_path / "children" / folder).mkdir(parents=True)
        for number in range(1, 40):
            shown = np.full((48, 48), grey + number, np.uint8)
            name = pattern.format(number)
            Image.fromarray(shown).save(tmp_path / "children" / folder / name)
    (tmp_path / "adults" / "images").mkdir(parents=True)
    rows = ["file,patient,nih_findings,radiologist_label"]
    for number, label in enumerate([OPACITY, NORMAL] * 4):
        shown = np.full((48, 48), 150 if label == OPACITY else 90, np.uint8)
        Image.fromarray(shown).save(tmp_path / "adults" / "images" / f"{number}.png")
        rows.append(f"{number}.png,p{number},Pneumonia,{label}")
    (tmp_path / "adults" / "labels.csv").write_text("\n".join(rows))
    releases = [str(make_release(tmp_path / name)) for name in ("one", "two")]
    arguments = ["score", "--runs", *releases, "--data", str(tmp_path / "children")]
    arguments += ["--adults", str(tmp_path / "adults"), "--csv", str(tmp_path / "t.csv")]
    assert command_line.main(arguments) == 0
    with (tmp_path / "t.csv").open(newline="") as file:
        rows_found = list(csv.DictReader(file))
    assert [row["run"] for row in rows_found] == ["one", "two"]
    assert {row["children"] for row in rows_found} == {"1.0000"}
    assert {row["adults_against_normal"] for row in rows_found} == {"1.0000"}
    assert rows_found[1]["children_gain"] == "0.0000"
    assert "children 1.000 (1.000 to 1.000)" in capsys.readouterr().out
