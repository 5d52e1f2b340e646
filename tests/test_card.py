"""What was measured goes into the release: the card, the report, the manifest that names them."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cxr.release import Release, UnusableRelease
from model_export import card
from model_export.card import CARD, REPORT, add_card, compact, figure, model_card, table
from tests.test_evaluate import by_label, draw_folder, figures_of, stage
from tests.tiny_release import make_release

Figures = dict[str, Any]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """One report of evaluate with boxes and a float graph, as JSON has it."""
    folder = tmp_path_factory.mktemp("measured")
    data, release = draw_folder(folder / "data"), make_release(folder / "release")
    code = stage(
        *by_label(release, data), "--json", folder / "report.json", "--boxes",
        data / "boxes.csv", "--randomise", "--float-graph", release / "model.onnx",
        "--title", "Drawn films",
    )  # fmt: skip
    assert code == 0
    return figures_of(folder / "report.json")


@pytest.fixture
def report(measured: Figures) -> Figures:
    return copy.deepcopy(measured)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_release(tmp_path / "release")


def manifest_of(folder: Path) -> Figures:
    found: Figures = json.loads((folder / "manifest.json").read_text())
    return found


# --- into the release -------------------------------------------------------------------------


def test_the_stage_writes_card_and_report_and_the_release_still_verifies(folder, report, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(report))
    assert stage("card", "--release", folder, "--report", path) == 0
    files = manifest_of(folder)["files"]
    for name in (CARD, REPORT):
        assert files[name] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert Release.load(folder).label == "tiny@1.2.3"
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_reports_stand_in_the_order_given(folder, report):
    titles = ["second", "first", "third"]
    add_card(folder, [{**report, "title": title} for title in titles])
    written = figures_of(folder / REPORT)
    assert written["release"] == "tiny@1.2.3"
    assert [one["title"] for one in written["reports"]] == titles
    headings = re.findall(r"^### (.*)", (folder / CARD).read_text(), re.M)
    assert headings == titles


def test_running_it_again_changes_nothing(folder, report):
    add_card(folder, [report])
    before = {path.name: path.read_bytes() for path in folder.glob("*.*")}
    add_card(folder, [report])
    assert {path.name: path.read_bytes() for path in folder.glob("*.*")} == before


def test_figures_of_another_release_are_not_put_into_this_one(folder, report):
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match=r"of other@2, not of tiny@1.2.3"):
        add_card(folder, [report, {**report, "release": "other@2"}])
    assert (folder / "manifest.json").read_bytes() == before
    assert not (folder / CARD).exists()


def test_a_release_left_half_done_does_not_load_and_is_put_right_by_running_again(
    folder, report, monkeypatch
):
    add_card(folder, [report])
    changed = {**report, "title": "Measured anew"}
    write = card.write_durably

    def fail_at_the_manifest(path: Path, content: bytes) -> None:
        if path.name == "manifest.json":
            raise OSError
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(card, "write_durably", fail_at_the_manifest)
        with pytest.raises(OSError):
            add_card(folder, [changed])
    with pytest.raises(UnusableRelease):
        Release.load(folder)
    add_card(folder, [changed])
    assert "Measured anew" in (Release.load(folder).directory / CARD).read_text()


def test_the_manifest_says_where_the_map_points_and_on_whom(folder, report):
    elsewhere = {**report, "title": "Elsewhere"}
    without = {key: value for key, value in report.items() if key != "localisation"}
    add_card(folder, [without, elsewhere, report])
    likely = report["localisation"]["likely"]
    assert manifest_of(folder)["localisation"] == {**likely, "source": "Elsewhere"}
    assert set(likely) == {"hits", "films", "value", "low", "high"}


def test_what_no_report_says_of_the_map_the_manifest_does_not_say_either(folder, report):
    add_card(folder, [report])
    report["localisation"]["likely"]["films"] = 0
    add_card(folder, [report])
    assert "localisation" not in manifest_of(folder)


# --- the report that travels ------------------------------------------------------------------


def test_the_report_stays_small_however_many_films_there_were(folder, report):
    many = [n / 4999 * (1 + 1e-9) for n in range(5000)]
    report["roc"] = {"false_positive_rate": many, "sensitivity": many}
    report["precision_recall"] = {"recall": many, "precision": many[::-1]}
    add_card(folder, [report] * 6)
    assert (folder / REPORT).stat().st_size < 300_000
    for one in figures_of(folder / REPORT)["reports"]:
        assert len(one["roc"]["sensitivity"]) <= 101
        assert one["roc"]["sensitivity"][-1] == 1


@given(st.floats(-1e6, 1e6))
def test_a_shortened_number_is_the_same_to_four_digits(value):
    assert compact({"a": [value]})["a"][0] == pytest.approx(value, rel=1e-4)


def test_only_numbers_get_shorter(report):
    short = compact(report)
    assert set(short) == set(report)
    assert short["confusion"] == report["confusion"]
    assert short["title"] == report["title"]


# --- the card ---------------------------------------------------------------------------------


@pytest.fixture
def text(folder: Path, report: Figures) -> str:
    add_card(folder, [report])
    return (folder / CARD).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path",
    [
        "auc", "average_precision", "sensitivity", "specificity", "wrong_among_answered",
        "answers.cannot_say", "answers.refused", "wrong_by_answer.likely",
        "intervals.expected_calibration_error", "intervals.f1", "localisation.likely",
        "localisation.all", "localisation.randomised.hit_rate", "trivial_features.sharpness",
        "subgroups.sex.F.specificity", "subgroups.age_band.under_5.auc",
    ],
)  # fmt: skip
def test_a_figure_of_the_report_stands_in_the_card_with_its_interval(text, report, path):
    found: Any = report
    for name in path.split("."):
        found = found[name]
    assert found["value"] is not None
    assert f"| {figure(found)}" in text


@pytest.mark.parametrize(
    "words",
    [
        "**Intended use.**", "**Not for.**", "**Network.**", "**Training films.**",
        "## Operating points", "## Calibration", "### Drawn films", "A known shortcut",
        "Lateral films", "Other diseases", "under one year", "int8 against float", "not tested",
        "input 40 x 40", "| under 5 | 0.300 | 0.250 | 0.350 |", "| 15–64 | 0.500 | 0.400 | 0.600 |",
    ],
)  # fmt: skip
def test_the_card_has_what_a_model_card_must_say(text, words):
    assert words in text


def test_no_figure_is_typed_into_the_fixed_words():
    fixed = [value for name, value in vars(card).items() if name.isupper()]
    words = " ".join(value for value in fixed if isinstance(value, str))
    assert re.findall(r"\d+\.\d+", words) == ["2.0", "4.0"]  # two licences'


def test_no_hole_of_a_template_and_no_missing_figure_shows(text):
    assert not re.search(r"[{}]|None|\bnan\b", text)


def test_a_report_of_one_class_makes_a_card_with_dashes(folder, report):
    nothing = {"value": None, "low": None, "high": None}
    report["auc"] = report["specificity"] = nothing
    add_card(folder, [report])
    written = (folder / CARD).read_text()
    assert "| AUC | – |" in written
    assert "| specificity | – |" in written
    assert "None" not in written


def test_a_report_of_films_that_were_all_refused_makes_a_card(folder, report):
    scored = ("auc", "confusion", "roc", "calibration", "precision_recall", "localisation")
    for name in (*scored, "int8_against_float", "trivial_features"):
        del report[name]
    add_card(folder, [report])
    assert "| share refused |" in (folder / CARD).read_text()


def test_what_the_manifest_says_of_training_and_thresholds_is_printed(folder, report):
    manifest = manifest_of(folder)
    manifest["training"] = {"films": 4000, "epochs_run": [5, 5], "augmentation": {"aspect": 0.25}}
    manifest["operating_point_notes"] = {"under_5": "Chosen for few misses | at home."}
    manifest["calibration_by_age"] = {"15_64": {"slope": 0.7, "intercept": 0.1}}
    written = model_card(manifest, [report], 3_800_000)
    assert "- films: 4000" in written
    assert "- epochs run: 5, 5" in written
    assert "- augmentation: aspect 0.25" in written
    assert "| Chosen for few misses / at home. |" in written
    assert "| 15–64 | 0.700 | 0.100 | Drawn films |" in written
    assert "| under 5 | 1.000 | 0.000 | Drawn films |" in written
    assert "| 65 and over | 1.000 | 0.000 | not measured | 0 | – |" in written
    assert "a file of 3.8 MB" in written


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_a_cell_never_breaks_its_row(cells):
    assert all(line.count("|") == len(cells) + 1 for line in table(cells, [cells]).split("\n"))
