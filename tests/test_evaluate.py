"""The report of an evaluation, on drawn films and a network of three means.

The tiny release scores by brightness: a film is made a likely one by making it brighter, and its
map is hottest where it is brightest.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.metrics import average_precision_score

from app.cxr.analysis import Analysis
from app.cxr.metrics import expected_calibration_error
from app.cxr.radiograph import Radiograph
from app.cxr.release import Release
from model_export import __main__ as command_line
from model_export import evaluate
from model_export.comparison import against_float
from model_export.contact_sheet import contact_sheet, worst_errors
from model_export.datasets import LabelledFilm
from model_export.figures import (
    BANDS,
    Pair,
    average_precision,
    calibration_bins,
    drawn,
    either_way,
    report,
    sharpness,
    thinned,
    trivial_features,
    without_nan,
)
from model_export.localisation import (
    alike,
    covered,
    is_inside,
    localisation,
    read_boxes,
    shuffled,
)
from model_export.phantom import chest_film
from model_export.report_page import page
from tests.tiny_release import SIZE, make_release

FILM = (120, 100)
SPOT = (60, 96, 20, 24)  # x, y, width, height of the bright place of every positive film


def stage(*arguments: object) -> int:
    return command_line.main([str(argument) for argument in arguments])


def figures_of(path: Path) -> dict[str, Any]:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found: dict[str, Any] = json.loads(path.read_text(), parse_constant=no_constant)
    return found


def film(seed: int, positive: bool) -> np.ndarray:
    """A drawn film; a positive one is brighter, and brightest at SPOT."""
    pixels = chest_film(seed, FILM).astype(float) * (1.1 if positive else 0.55)
    if positive:
        x, y, width, height = SPOT
        pixels[y : y + height, x : x + width] = 255
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


def draw_folder(root: Path, films: int = 6) -> Path:
    """``images/``, ``labels.csv`` and ``boxes.csv`` of as many films of each class."""
    (root / "images").mkdir(parents=True)
    rows, boxes = [], []
    for index, positive in itertools.product(range(films), (False, True)):
        name = f"{'sick' if positive else 'well'}{index}.png"
        Image.fromarray(film(index, positive)).save(root / "images" / name)
        rows.append({
            "file": name, "patient": f"p{index // 2}{positive}", "age": (3, 40, "")[index % 3],
            "sex": "FM"[index % 2], "view": "PA", "draw": ("first", "second")[index % 2],
            "finding": "opacity" if positive else "none",
        })  # fmt: skip
        if positive:
            boxes.append(dict(zip(("file", "x", "y", "w", "h"), (name, *SPOT), strict=True)))
    for name, table in (("labels.csv", rows), ("boxes.csv", boxes)):
        with (root / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    return root


def by_label(release: Path, data: Path) -> list[object]:
    """The arguments that name a drawn folder and its labels."""
    return [
        "evaluate", "--release", release, "--data", data, "--label-column", "finding",
        "--positive", "opacity", "--negative", "none",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("drawn") / "data")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("made") / "release")


@pytest.fixture(scope="module")
def written(folder: Path, release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one run with every option wrote."""
    target = tmp_path_factory.mktemp("written")
    code = stage(
        *by_label(release, folder), "--json", target / "report.json",
        "--html", target / "report.html", "--worst", target / "worst.png",
        "--boxes", folder / "boxes.csv", "--randomise",
        "--float-graph", release / "model.onnx", "--title", "Drawn <films>",
    )  # fmt: skip
    assert code == 0
    return target


@pytest.fixture(scope="module")
def figures(written: Path) -> dict[str, Any]:
    return figures_of(written / "report.json")


# --- the JSON ---------------------------------------------------------------------------------

OLDER_KEYS = (
    "release", "films", "patients", "answers", "milliseconds_median", "positives", "negatives",
    "auc", "confusion", "sensitivity", "specificity", "precision", "recall", "f1", "accuracy",
    "expected_calibration_error", "wrong_among_answered", "roc", "auc_by_age_band",
)  # fmt: skip


@pytest.mark.parametrize("key", OLDER_KEYS)
def test_what_older_scripts_read_is_still_there(figures, key):
    assert key in figures


@pytest.mark.parametrize("key", ["precision", "recall", "f1", "accuracy"])
def test_plain_numbers_stay_plain_and_have_their_interval_beside_them(figures, key):
    interval = figures["intervals"][key]
    assert interval["low"] <= figures[key] <= interval["high"]
    assert interval["value"] == figures[key]


def test_the_title_is_kept_and_else_is_the_folder(figures, folder, release, tmp_path):
    assert figures["title"] == "Drawn <films>"
    stage(*by_label(release, folder), "--json", tmp_path / "r.json")
    assert figures_of(tmp_path / "r.json")["title"] == "data"


@pytest.mark.parametrize("name", ["age_band", "sex", "view", "kind", "source"])
def test_every_film_is_in_one_group_of_each_kind(figures, name):
    groups = figures["subgroups"][name].values()
    assert sum(group["films"] for group in groups) == figures["films"]


def test_ages_that_nobody_tested_are_listed_with_no_film(figures):
    bands = figures["subgroups"]["age_band"]
    assert tuple(bands) == BANDS
    assert bands["65_and_over"]["films"] == 0
    assert bands["65_and_over"]["auc"]["value"] is None


def test_a_kind_of_one_class_is_ranked_against_the_other_class_and_says_so(figures):
    kinds = figures["subgroups"]["kind"]
    assert kinds["opacity"]["auc_against"] == "all_negatives"
    assert kinds["none"]["auc_against"] == "all_positives"
    assert kinds["opacity"]["auc"]["value"] == figures["auc"]["value"]
    assert figures["subgroups"]["sex"]["F"]["auc_against"] is None


def test_confusions_of_the_operating_points_add_up_to_the_whole(figures):
    points = figures["operating_points"]
    assert {points["under_5"]["threshold"], points["15_64"]["threshold"]} == {0.3, 0.5}
    for count, whole in figures["confusion"].items():
        assert sum(point["confusion"][count] for point in points.values()) == whole


def test_a_film_brighter_than_the_others_is_known_by_its_brightness_alone(figures):
    assert figures["trivial_features"]["brightness"]["value"] == 1.0
    assert set(figures["trivial_features"]) == {
        "file_size", "sharpness", "brightness", "contrast", "shape", "view",
    }  # fmt: skip


def test_a_shape_that_all_films_share_tells_nothing(figures):
    assert figures["trivial_features"]["shape"] == {"value": 0.5, "low": 0.5, "high": 0.5}


def test_time_without_decoding_is_measured_beside_the_whole(figures):
    assert figures["milliseconds_without_decoding_median"] > 0
    assert figures["intervals"]["milliseconds_without_decoding_median"]["low"] > 0


# --- the page and the picture -----------------------------------------------------------------


def test_the_page_needs_nothing_from_anywhere(written):
    text = (written / "report.html").read_text(encoding="utf-8")
    for outside in ("http", "src=", "<script", "<link", "@import", "url(", "<img"):
        assert outside not in text


def test_the_page_shows_names_as_text_and_never_as_markup(written):
    text = (written / "report.html").read_text(encoding="utf-8")
    assert "Drawn &lt;films&gt;" in text
    assert "<films>" not in text


@pytest.mark.parametrize(
    "heading",
    [
        "Answers", "ROC curve", "Precision and recall", "Confusion at each operating point used",
        "Reliability", "Does the map point at the disease", "The same with the weights shuffled",
        "Subgroups", "What trivial features alone reach", "int8 against float", "Time and method",
    ],
)  # fmt: skip
def test_the_page_has_every_part(written, heading):
    assert heading in (written / "report.html").read_text(encoding="utf-8")


def test_no_figure_on_the_page_is_a_none_or_a_nan(written):
    text = re.sub(r"<style>.*?</style>", "", (written / "report.html").read_text(), flags=re.S)
    assert not re.search(r"\b(nan|inf)\b|None|null", text)


def test_films_are_shown_only_where_asked_for(folder, release, tmp_path, written):
    stage(*by_label(release, folder), "--html", tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    with Image.open(written / "worst.png") as sheet:
        assert sheet.width > 1000


# --- films of one class, and films that cannot be used ----------------------------------------


def bright(folder: Path, name: str) -> None:
    Image.fromarray(film(1, positive=True)).save(folder / f"{name}.png")


def dark(folder: Path, name: str) -> None:
    Image.fromarray(film(1, positive=False)).save(folder / f"{name}.png")


def broken(folder: Path, name: str) -> None:
    (folder / f"{name}.png").write_bytes(b"broken")


def black(folder: Path, name: str) -> None:
    Image.fromarray(np.zeros(FILM, np.uint8)).save(folder / f"{name}.png")


@pytest.mark.parametrize(
    ("names", "put", "answer"),
    [
        (("PNEUMONIA",), bright, "likely"),
        (("Hand", "HeadCT"), dark, "unlikely"),
        (("Hand", "HeadCT"), black, "refused"),
        (("NORMAL", "PNEUMONIA"), broken, "unreadable"),
    ],
)
def test_a_folder_that_cannot_be_ranked_still_gives_the_share_of_answers(
    names: tuple[str, ...],
    put: Callable[[Path, str], None],
    answer: str,
    release: Path,
    tmp_path: Path,
) -> None:
    for name in names:
        (tmp_path / "data" / name).mkdir(parents=True)
        put(tmp_path / "data" / name, f"{name}1")
    target = tmp_path / "report.json"
    html = tmp_path / "report.html"
    arguments = ("--data", tmp_path / "data", "--json", target, "--html", html)
    assert stage("evaluate", "--release", release, *arguments) == 0
    found = figures_of(target)
    assert found["answers"][answer]["value"] == 1.0
    assert found.get("auc", {"value": None})["value"] is None
    assert found["patients"] == found["films"] == len(names)
    is_timed = found["milliseconds_without_decoding_median"] is not None
    assert is_timed == (answer in ("likely", "unlikely"))
    assert "ROC curve" not in html.read_text()


def test_a_refusal_is_counted_under_its_code(release, tmp_path):
    (tmp_path / "data" / "none").mkdir(parents=True)
    black(tmp_path / "data" / "none", "black")
    target = tmp_path / "report.json"
    stage("evaluate", "--release", release, "--data", tmp_path / "data", "--json", target)
    (share,) = figures_of(target)["reasons"]["refused"].values()
    assert share["value"] == 1.0


# --- which films ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "films"),
    [
        ([("draw", "first")], 6),
        ([("draw", "s")], 12),
        ([("draw", "first"), ("finding", "opa")], 3),
    ],
)
def test_only_rows_that_contain_the_text_are_kept(folder, release, tmp_path, where, films):
    picked = [word for pair in where for word in ("--where", *pair)]
    stage(*by_label(release, folder), *picked, "--json", tmp_path / "r.json")
    assert figures_of(tmp_path / "r.json")["films"] == films


@pytest.mark.parametrize(
    ("where", "words"),
    [(("drawn", "first"), "no column 'drawn'; it has file"), (("draw", "third"), "no film of")],
)
def test_a_choice_that_leaves_no_film_stops(folder, release, where, words):
    with pytest.raises(ValueError, match=words):
        stage(*by_label(release, folder), "--where", *where)


@pytest.mark.parametrize(
    ("option", "words"), [(("--where", "a", "b"), "--label-column"), (("--randomise",), "--boxes")]
)
def test_an_option_that_means_nothing_alone_is_a_wrong_call(folder, release, option, words, capsys):
    assert stage("evaluate", "--release", release, "--data", folder, *option) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "patient", "kind"),
    [
        ("PNEUMONIA/person7_virus_1.jpeg", "person7", "virus"),
        ("NORMAL/NORMAL2-IM-0115-0001.jpeg", "NORMAL2-IM-0115", "NORMAL"),
        ("tb/deep/one.png", "tb/deep/one", "tb"),
    ],
)
def test_a_film_of_a_class_folder_tells_patient_and_kind_by_its_name(name, patient, kind):
    root = Path("data")
    found = evaluate.described(LabelledFilm(root / name, 1, "one", "data"), root)
    assert (found.patient, found.kind) == (patient, kind)


# --- laws of the figures ----------------------------------------------------------------------

rows = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda n: n / 20)), min_size=2, max_size=40
)


def columns(found: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = zip(*found, strict=True)
    return np.array(labels), np.array(scores)


@given(rows)
def test_average_precision_is_that_of_scikit_learn(found):
    labels, scores = columns(found)
    if 0 < labels.sum() < labels.size:
        expected = average_precision_score(labels, scores)
        assert average_precision(labels, scores) == pytest.approx(expected)
    else:
        assert math.isnan(average_precision(labels, scores))


@given(rows)
def test_a_trivial_feature_lies_between_chance_and_certainty_whatever_its_direction(found):
    labels, values = columns(found)
    area = either_way(labels, values)
    assert math.isnan(area) or 0.5 <= area <= 1
    assert area == pytest.approx(either_way(labels, -values), nan_ok=True)


@settings(max_examples=5, deadline=None)
@given(rows)
def test_so_does_its_interval(found):
    labels, values = columns(found)
    interval = drawn(either_way, labels, values, np.arange(labels.size).astype(str))
    known = [bound for bound in interval.values() if not math.isnan(bound)]
    assert all(0.5 <= bound <= 1 for bound in known)


@given(rows)
def test_the_reliability_bins_hold_every_film_once_and_the_whole_error(found):
    labels, probabilities = columns(found)
    bins = calibration_bins(labels, probabilities)
    assert sum(one["films"] for one in bins) == labels.size
    gaps = (abs(b["share_positive"]["value"] - b["mean_probability"]) * b["films"] for b in bins)
    error = expected_calibration_error(labels, probabilities)
    assert sum(gaps) / labels.size == pytest.approx(error)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.integers(2, 50))
def test_a_thinned_curve_is_made_of_its_own_points_and_keeps_its_ends(heights, most):
    curve = {"x": list(range(len(heights))), "y": heights}
    thin = thinned(curve, most)
    assert len(thin["x"]) <= max(most, 2)
    assert (thin["x"][0], thin["x"][-1]) == (0, len(heights) - 1)
    assert thin["x"] == sorted(set(thin["x"]))
    assert thin["y"] == [heights[x] for x in thin["x"]]


def test_sharpness_falls_with_blur_and_is_nothing_on_a_flat_or_tiny_film():
    sharp = chest_film(1, FILM).astype(np.float32)
    blurred = (sharp[1:] + sharp[:-1])[:, 1:] / 4 + (sharp[1:] + sharp[:-1])[:, :-1] / 4
    assert sharpness(sharp) > 2 * sharpness(blurred) > 0
    assert sharpness(np.full(FILM, 90, np.float32)) == 0
    assert sharpness(np.ones((2, 50), np.float32)) == 0


def test_the_features_are_those_of_the_film(tmp_path):
    (tmp_path / "film").write_bytes(bytes(123))
    found = trivial_features(Radiograph(np.full((10, 20), 7, np.uint8)), tmp_path / "film")
    assert found == {
        "file_size": 123, "sharpness": 0, "brightness": 7, "contrast": 0, "shape": 2, "view": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("labelled", "tagged", "ap"),
    [("AP", None, 1), (None, "AP", 1), ("PA", "AP", 0), (None, None, 0)],
)
def test_the_label_tells_the_view_and_else_the_file(tmp_path, labelled, tagged, ap):
    (tmp_path / "film").touch()
    radiograph = Radiograph(np.zeros((9, 9), np.uint8), view_position=tagged)
    assert trivial_features(radiograph, tmp_path / "film", labelled)["view"] == ap


def test_what_cannot_be_computed_is_null_at_any_depth():
    assert without_nan({"a": [math.nan, {"b": math.inf}], "c": 1}) == {
        "a": [None, {"b": None}],
        "c": 1,
    }


# --- where the map points ---------------------------------------------------------------------


def pair(
    label: int, probability: float, answer: str = "likely", name: str = "a.png", **known: Any
) -> Pair:
    known = {"threshold": 0.5, "peak": (5, 5), "width": 10, "height": 10, **known}
    return (
        LabelledFilm(Path(name), label, name, "drawn"),
        Analysis(answer, "tiny@1.2.3", probability=probability, **known),
    )


INSIDE, BESIDE = (4.0, 4.0, 3.0, 3.0), (0.0, 0.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("boxes", "hit"),
    [
        ([INSIDE], True),
        ([BESIDE], False),
        ([BESIDE, INSIDE], True),
        ([INSIDE, INSIDE], True),
        ([(5.0, 5.0, 0.0, 0.0)], True),
        ([], False),
    ],
)
def test_a_peak_lies_in_a_box_or_it_does_not(boxes, hit):
    assert is_inside((5, 5), boxes) is hit


@given(st.lists(st.sampled_from([INSIDE, BESIDE]), min_size=1, max_size=4), st.integers(1, 5))
def test_a_film_counts_once_however_many_boxes_its_peak_lies_in(boxes, films):
    pairs = [pair(1, 0.9, name=f"{n}.png") for n in range(films)]
    found = localisation(pairs, {f"{n}.png": boxes for n in range(films)})
    assert found["all"]["hits"] == films * (INSIDE in boxes)
    assert found["all"]["films"] == films


def test_only_films_with_boxes_count_and_withheld_ones_only_among_all():
    pairs = [
        pair(1, 0.9, name="likely"),
        pair(1, 0.5, "cannot_say", name="withheld"),
        pair(1, 0.9, name="no box"),
    ]
    found = localisation(pairs, {"likely": [INSIDE], "withheld": [BESIDE], "other": [INSIDE]})
    assert (found["likely"]["hits"], found["likely"]["films"]) == (1, 1)
    assert (found["all"]["hits"], found["all"]["films"]) == (1, 2)
    assert found["chance"] == pytest.approx((9 + 4) / 200)


def test_without_a_box_there_is_no_rate_to_speak_of():
    found = without_nan(localisation([pair(1, 0.9)], {}))
    assert found["all"] == {"hits": 0, "films": 0, "value": None, "low": None, "high": None}
    assert found["chance"] is None


sides = st.floats(-20, 40)


@given(st.lists(st.tuples(sides, sides, st.floats(0, 30), st.floats(0, 30)), max_size=4))
def test_chance_is_a_share_and_a_box_given_twice_covers_no_more(boxes):
    area = covered(boxes, 20, 10)
    assert 0 <= area <= 1
    assert covered(boxes * 2, 20, 10) == area


def test_the_map_of_the_brightest_place_points_into_its_box(figures):
    found = figures["localisation"]
    assert found["likely"]["hits"] == found["likely"]["films"] > 0
    assert found["all"]["films"] == 6
    assert found["chance"] == pytest.approx(SPOT[2] * SPOT[3] / (FILM[0] * FILM[1]))
    # a network without weights has nothing to shuffle: the check sees that its map is the film's
    assert found["randomised"]["map_correlation"]["value"] == pytest.approx(1)
    assert found["randomised"]["hit_rate"]["value"] == 1


def test_boxes_are_read_by_film(folder):
    boxes = read_boxes(folder / "boxes.csv")
    assert len(boxes) == 6
    assert boxes["sick0.png"] == [tuple(map(float, SPOT))]


WEIGHTS = {
    "weights": np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3),
    "coded": np.arange(12, dtype=np.int8).reshape(4, 3),
    "scales": np.array([1, 2, 3, 4], np.float32),
    "zeros": np.array([0, 1, 2, 3], np.int8),
    "axes": np.array([1, 2, 3], np.int64),
    "factor": np.float32(3),
}


def coded_graph() -> onnx.ModelProto:
    nodes = [
        helper.make_node("DequantizeLinear", ["coded", "scales", "zeros"], ["decoded"], axis=0),
        helper.make_node("Identity", ["decoded"], ["activation_map"]),
    ]
    output = helper.make_tensor_value_info("activation_map", TensorProto.FLOAT, (4, 3))
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in WEIGHTS.items()]
    return helper.make_model(helper.make_graph(nodes, "coded", [], [output], tensors))


def test_shuffling_changes_the_order_of_weights_and_nothing_else():
    before = coded_graph()
    after = {t.name: numpy_helper.to_array(t) for t in shuffled(before, 0).graph.initializer}
    for name, values in WEIGHTS.items():
        assert (after[name] == values).all() == (name not in ("weights", "coded"))
        assert sorted(after[name].ravel()) == sorted(np.asarray(values).ravel())
        assert after[name].shape == np.asarray(values).shape
    assert before == coded_graph()


def test_the_same_seed_shuffles_alike_and_another_otherwise():
    graph = coded_graph()
    assert shuffled(graph, 1) == shuffled(graph, 1) != shuffled(graph, 2)


@pytest.mark.parametrize(
    ("other", "value"), [([[1, 2], [3, 9]], 1), ([[4, 3], [2, 1]], -1), ([[5, 5], [5, 5]], 0)]
)
def test_maps_are_alike_by_the_order_of_their_places(other, value):
    assert alike(np.array([[1, 2], [3, 4]]), np.array(other)) == pytest.approx(value)


# --- int8 against float -----------------------------------------------------------------------


def test_a_graph_loses_nothing_against_itself(figures):
    found = figures["int8_against_float"]
    assert found["films"] == 12
    assert found["auc_loss"] == {"value": 0, "low": 0, "high": 0}
    assert found["same_answer"]["value"] == 1
    assert found["map_correlation"]["value"] == pytest.approx(1)
    assert found["times_faster"]["low"] > 0


def test_a_graph_that_answers_the_other_way_round_is_seen_to(release, tmp_path):
    graph = onnx.load(release / "model.onnx")
    for tensor in graph.graph.initializer:
        if tensor.name == "spread":
            tensor.CopyFrom(numpy_helper.from_array(np.float32(-20), "spread"))
    onnx.save(graph, tmp_path / "reversed.onnx")
    greys = [40, 60, 140, 160]
    inputs = [np.full((1, SIZE, SIZE, 1), grey, np.float32) for grey in greys]
    for step, model_input in enumerate(inputs):
        model_input[:, : SIZE // 2] += step + 1
    pairs = [pair(int(grey > 100), 0.5, name=str(grey)) for grey in greys]
    found = against_float(tmp_path / "reversed.onnx", Release.load(release), inputs, pairs)
    assert found["auc_loss"]["value"] == -1
    assert found["same_answer"]["value"] == 0
    assert found["map_correlation"]["value"] == pytest.approx(-1)


# --- answers right and wrong ------------------------------------------------------------------

MIXED = [
    *[pair(1, 0.9, name=f"found{n}") for n in range(3)],
    pair(0, 0.9, name="alarm"),
    *[pair(0, 0.1, "unlikely", name=f"clear{n}") for n in range(4)],
    pair(1, 0.1, "unlikely", name="missed"),
    pair(1, 0.5, "cannot_say", name="withheld", reason="near_the_threshold"),
    pair(0, None, "refused", name="refused", reason="too_small", threshold=None, peak=None),
]


@pytest.fixture(scope="module")
def mixed(release: Path) -> dict[str, Any]:
    return report(MIXED, Release.load(release))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("answers.likely", 4 / 11),
        ("answers.refused", 1 / 11),
        ("reasons.refused.too_small", 1 / 11),
        ("reasons.cannot_say.near_the_threshold", 1 / 11),
        ("wrong_by_answer.likely", 1 / 4),
        ("wrong_by_answer.unlikely", 1 / 5),
        ("wrong_if_forced.cannot_say", 0),
        ("wrong_among_answered", 2 / 9),
        ("sensitivity", 4 / 5),
        ("specificity", 4 / 5),
        ("intervals.precision", 4 / 5),
        ("intervals.accuracy", 8 / 10),
        ("operating_points.unknown.withheld", 1 / 10),
        ("subgroups.age_band.unknown.wrong_among_answered", 2 / 9),
        ("subgroups.age_band.unknown.refused", 1 / 11),
        ("subgroups.source.drawn.cannot_say", 1 / 11),
    ],
)
def test_a_share_is_of_the_films_it_names(mixed, path, value):
    found: Any = mixed
    for name in path.split("."):
        found = found[name]
    assert found["value"] == pytest.approx(value)
    assert found["low"] <= value <= found["high"]


# --- the worst errors -------------------------------------------------------------------------


def test_the_worst_error_is_the_surest_one_and_right_answers_are_left_out():
    wrong = [pair(0, 0.999, name="sure"), pair(1, 0.2, name="less"), pair(0, 0.5, name="at it")]
    right = [pair(1, 0.999, name="right"), pair(0, 0.1, name="clear"), pair(1, 0.5, name="hit")]
    unscored = pair(1, 0.5, "refused", name="refused", threshold=None)
    found = worst_errors([wrong[2], right[0], unscored, wrong[1], *right[1:], wrong[0]])
    assert [film.path.name for film, _ in found] == ["sure", "less", "at it"]
    assert [film.path.name for film, _ in worst_errors(wrong, most=1)] == ["sure"]


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), max_size=20))
def test_worst_errors_are_just_the_wrong_forced_answers(found):
    pairs = [pair(label, probability) for label, probability in found]
    wrong = sum((probability >= 0.5) != bool(label) for label, probability in found)
    assert len(worst_errors(pairs, most=99)) == wrong


def test_a_sheet_without_errors_says_so():
    assert contact_sheet([]).getextrema() != contact_sheet([]).convert("L").getextrema()
    assert len(contact_sheet([]).convert("L").getcolors()) > 2


# --- the page of figures that nobody can compute -----------------------------------------------


def test_a_report_of_one_film_makes_a_page(release):
    one = pair(1, 0.9)
    found = report([one], Release.load(release))
    found["intervals"]["milliseconds_without_decoding_median"] = {
        "value": math.nan, "low": math.nan, "high": math.nan,
    }  # fmt: skip
    text = page(without_nan({"title": "one", "release": "tiny@1.2.3", **found}))
    assert "1 film of 1 patient;" in text
