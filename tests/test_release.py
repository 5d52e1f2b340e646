"""A model release is used whole and unchanged, or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cxr import release as release_module
from app.cxr.model import Model
from app.cxr.release import (
    AGE_BANDS,
    CODES,
    CUT_OFF,
    FACTORY_DIRECTORY,
    NOT_A_FILM,
    UNKNOWN_AGE,
    Calibration,
    Localisation,
    OperatingPoint,
    Release,
    UnusableRelease,
    age_band,
    load_active,
)
from tests.tiny_release import Manifest, make_release


def refused(action: Callable[[], object]) -> UnusableRelease:
    with pytest.raises(UnusableRelease) as caught:
        action()
    assert caught.value.code in CODES
    return caught.value


def put(*path: str | int) -> Callable[[Any], Callable[[Manifest], None]]:
    """``put("gate", "threshold")(value)`` changes that place of a manifest."""

    def to(value: Any) -> Callable[[Manifest], None]:
        def change(manifest: Manifest) -> None:
            place: Any = manifest
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value

        return change

    return to


def without(*path: str | int) -> Callable[[Manifest], None]:
    def change(manifest: Manifest) -> None:
        place: Any = manifest
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return change


def test_a_whole_release_loads_and_says_its_name(tmp_path):
    release = Release.load(make_release(tmp_path / "release"))
    assert release.label == "tiny@1.2.3"
    assert release.input_size == 40
    assert release.graph.is_file()
    assert release.film_threshold == 0.0
    assert release.map_range == (0.0, 5.0)
    assert [case.file for case in release.self_test_cases] == ["self_test/film.png"]


def test_the_first_question_of_the_gate_that_fails_names_the_refusal(tmp_path):
    asked = [NOT_A_FILM, CUT_OFF]
    release = Release.load(make_release(tmp_path / "release", put("gate", "codes")(asked)))
    assert release.refusal([0.0, 0.0]) is None
    assert release.refusal([0.1, -0.1]) == CUT_OFF
    assert release.refusal([-0.1, -5.0]) == NOT_A_FILM
    with pytest.raises(ValueError, match="shorter"):
        release.refusal([0.0])


def test_a_release_that_names_no_questions_asks_one(tmp_path):
    release = Release.load(make_release(tmp_path / "release"))
    assert release.gate_codes == (NOT_A_FILM,)


def test_a_graph_that_answers_fewer_questions_than_its_release_asks_fails_its_self_test(tmp_path):
    asked = put("gate", "codes")([NOT_A_FILM, CUT_OFF])
    model = Model.load(Release.load(make_release(tmp_path / "release", asked)))
    assert model.self_test() == ["self_test/film.png"]


LOCATED: dict[str, Any] = {
    "hits": 27, "films": 40, "value": 0.675, "low": 0.52, "high": 0.8, "source": "adults"
}  # fmt: skip


def located(**change: Any) -> Callable[[Manifest], None]:
    return put("localisation")(LOCATED | change)


def test_how_often_the_peak_is_right_is_none_where_nobody_measured_it(tmp_path):
    assert Release.load(make_release(tmp_path / "silent")).localisation is None
    null = make_release(tmp_path / "null", put("localisation")(None))
    assert Release.load(null).localisation is None


def test_how_often_the_peak_is_right_comes_with_the_release(tmp_path):
    release = Release.load(make_release(tmp_path / "release", located()))
    assert release.localisation == Localisation(27, 40, 0.675, 0.52, 0.8, "adults")


@pytest.mark.parametrize(
    "change",
    [
        {"hits": 0, "value": 0.0, "low": 0.0},
        {"hits": 40, "value": 1.0, "high": 1.0},
        {"hits": 40, "value": 1, "high": 1, "low": 0},
        {"value": 0.67},
        {"value": 0.68},
    ],
)
def test_every_true_rate_is_taken(tmp_path, change):
    assert Release.load(make_release(tmp_path / "release", located(**change))).localisation


MISMEASURED = {
    "hits in words": located(hits="27"),
    "hits that are no whole number": located(hits=27.0),
    "hits that are true": located(hits=True, films=1, value=1.0, high=1.0),
    "more hits than films": located(hits=41, value=1.0, high=1.0),
    "hits below none": located(hits=-1, value=0.0, low=0.0),
    "no films": located(hits=0, films=0, value=0.0, low=0.0),
    "a share that is not that of the hits": located(value=0.7),
    "a share in percent": located(value=67.5, low=52, high=80),
    "a share that is no number": located(value=math.nan),
    "a share in words": located(value="0.675"),
    "a share that is true": located(hits=40, value=True, high=1.0),
    "a share below its interval": located(low=0.7),
    "a share above its interval": located(high=0.6),
    "an interval below nothing": located(low=-0.1),
    "an interval above all": located(high=1.1),
    "an interval that is null": located(low=None),
    "a nameless source": located(source=" "),
    "no source": located(source=None),
    "a key too many": located(seen=3),
    "a key too few": put("localisation")({"hits": 27}),
    "a list": put("localisation")([27, 40]),
    "a number": put("localisation")(0.675),
    "nothing in it": put("localisation")({}),
}


@pytest.mark.parametrize("change", MISMEASURED.values(), ids=MISMEASURED)
def test_a_rate_that_cannot_be_true_makes_the_release_unusable(tmp_path, change):
    folder = make_release(tmp_path / "release", change)
    assert refused(lambda: Release.load(folder)).code == "release_manifest_damaged"


def test_the_factory_release_loads():
    if not FACTORY_DIRECTORY.is_dir():
        pytest.skip("no factory release in assets/release")
    release = Release.load(FACTORY_DIRECTORY)
    assert set(release.manifest["operating_points"]) == {*dict(AGE_BANDS), UNKNOWN_AGE}


def test_every_file_of_the_factory_release_is_listed():
    if not FACTORY_DIRECTORY.is_dir():
        pytest.skip("no factory release in assets/release")
    there = {
        path.relative_to(FACTORY_DIRECTORY).as_posix()
        for path in FACTORY_DIRECTORY.rglob("*")
        if path.is_file()
    }
    assert there == {"manifest.json", *Release.load(FACTORY_DIRECTORY).manifest["files"]}


def test_no_release_is_said_to_be_missing(tmp_path):
    assert refused(lambda: Release.load(tmp_path / "nowhere")).code == "release_missing"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe\x00",
        b'{"format": 1}',
        b'{"format": 1, "files": []}',
        b'{"format": 1, "files": {}}',
        b"[" * 200_000,
        b'{"format": 1, "files": {"a": "b"}, "graph": ["a"]}',
    ],
    ids=lambda content: repr(content[:40]),
)
def test_a_manifest_that_is_no_manifest_is_damaged(tmp_path, content):
    folder = make_release(tmp_path / "release")
    (folder / "manifest.json").write_bytes(content)
    assert refused(lambda: Release.load(folder)).code == "release_manifest_damaged"


@pytest.mark.parametrize("length", [0.1, 0.5, 0.9, 0.99])
def test_a_manifest_cut_short_is_damaged(tmp_path, length):
    path = make_release(tmp_path / "release") / "manifest.json"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * length)])
    assert refused(lambda: Release.load(path.parent)).code == "release_manifest_damaged"


@pytest.mark.parametrize("number", [0, 2, None, "1"])
def test_a_manifest_of_another_format_is_named(tmp_path, number):
    error = refused(lambda: Release.load(make_release(tmp_path / "r", put("format")(number))))
    assert error.code == "release_format_unknown"
    assert error.details == {"format": str(number)}


NO_CODES: tuple[Any, ...] = ([], 5, None, ["sideways"], [CUT_OFF, CUT_OFF], [[]])
NOT_NUMBERS: tuple[Any, ...] = (None, "abc", [], {}, math.nan, math.inf)
DAMAGE: dict[str, Callable[[Manifest], None]] = {
    **{
        f"without {'.'.join(map(str, path))}": without(*path)
        for path in (
            ("name",),
            ("version",),
            ("graph",),
            ("input",),
            ("input", "size"),
            ("calibration",),
            ("calibration", "slope"),
            ("calibration", "intercept"),
            ("operating_points",),
            ("operating_points", "unknown"),
            ("operating_points", "unknown", "threshold"),
            ("operating_points", "under_5", "upper"),
            ("activation_map",),
            ("activation_map", "low"),
            ("gate",),
            ("gate", "threshold"),
            ("self_test",),
            ("self_test", 0, "file"),
            ("self_test", 0, "tolerance"),
        )
    },
    **{
        f"{'.'.join(map(str, path))} is {value!r}": put(*path)(value)
        for path in (
            ("input", "size"),
            ("calibration", "slope"),
            ("calibration", "intercept"),
            ("operating_points", "unknown", "lower"),
            ("operating_points", "under_5", "threshold"),
            ("activation_map", "high"),
            ("gate", "threshold"),
            ("self_test", 0, "logit"),
            ("self_test", 0, "tolerance"),
        )
        for value in NOT_NUMBERS
    },
    **{f"gate codes are {codes!r}": put("gate", "codes")(codes) for codes in NO_CODES},
    "no slope": put("calibration", "slope")(0.0),
    "falling slope": put("calibration", "slope")(-1.0),
    "unknown calibration": put("calibration", "curve")(1.0),
    "falling slope of a band": put("calibration_by_age")({"5_14": {"slope": -1, "intercept": 0}}),
    "calibration of a band without an intercept": put("calibration_by_age")({"5_14": {"slope": 1}}),
    "no input": put("input", "size")(0),
    "negative input": put("input", "size")(-40),
    "lower above threshold": put("operating_points", "unknown", "lower")(0.55),
    "upper below threshold": put("operating_points", "unknown", "upper")(0.45),
    "threshold above 1": put("operating_points", "unknown", "upper")(1.5),
    "threshold below 0": put("operating_points", "under_5", "lower")(-0.1),
    "operating points are a list": put("operating_points")([]),
    "an operating point is a number": put("operating_points", "under_5")(0.5),
    "flat map scale": put("activation_map", "low")(5.0),
    "no self-test": put("self_test")([]),
    "self-test of an unlisted film": put("self_test", 0, "file")("self_test/other.png"),
    "self-test of a film outside": put("self_test", 0, "file")("../film.png"),
    "self-test file is a list": put("self_test", 0, "file")([]),
    "graph not listed": put("graph")("other.onnx"),
    "graph is a list": put("graph")(["model.onnx"]),
    "empty name": put("name")(""),
    "name is null": put("name")(None),
    "blank version": put("version")("  "),
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_manifest_is_found_at_the_start_and_not_at_the_first_film(tmp_path, change):
    folder = make_release(tmp_path / "release", change)
    assert refused(lambda: Release.load(folder)).code == "release_manifest_damaged"


@pytest.mark.parametrize("name", ["model.onnx", "self_test/film.png"])
def test_a_missing_file_is_named(tmp_path, name):
    folder = make_release(tmp_path / "release")
    (folder / name).unlink()
    error = refused(lambda: Release.load(folder))
    assert (error.code, error.details) == ("release_file_missing", {"file": name})


@pytest.mark.parametrize("name", ["model.onnx", "self_test/film.png"])
@pytest.mark.parametrize("spoil", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b"x" + b[1:]])
def test_a_changed_file_is_named(tmp_path, name, spoil):
    folder = make_release(tmp_path / "release")
    (folder / name).write_bytes(spoil((folder / name).read_bytes()))
    error = refused(lambda: Release.load(folder))
    assert (error.code, error.details) == ("release_file_changed", {"file": name})


@pytest.mark.parametrize("digest", [None, "", 5, "0" * 64])
def test_a_wrong_digest_is_a_changed_file(tmp_path, digest):
    folder = make_release(tmp_path / "release", put("files", "model.onnx")(digest))
    assert refused(lambda: Release.load(folder)).code == "release_file_changed"


@pytest.mark.parametrize(
    "name", ["../outside", "self_test/../../outside", "/etc/hostname", "", "a\0"]
)
def test_a_manifest_cannot_name_files_outside_its_folder(tmp_path, name):
    (tmp_path / "outside").write_bytes(b"")
    folder = make_release(tmp_path / "release", put("files", name)("0" * 64))
    assert refused(lambda: Release.load(folder)).code == "release_manifest_damaged"


def test_an_error_reads_well_in_a_log():
    assert str(UnusableRelease("release_missing")) == "release_missing"
    assert "model.onnx" in str(UnusableRelease("release_file_missing", file="model.onnx"))


@pytest.mark.parametrize(
    ("age", "band"),
    [
        (None, "unknown"),
        (0, "under_5"),
        (4.999, "under_5"),
        (5, "5_14"),
        (14.99, "5_14"),
        (15, "15_64"),
        (64.9, "15_64"),
        (65, "65_and_over"),
        (120, "65_and_over"),
        (math.nan, "unknown"),
    ],
)
def test_an_age_falls_into_its_band(age, band):
    assert age_band(age) == band


@given(st.floats(0, 130), st.floats(0, 130))
def test_who_is_older_is_in_no_younger_band(one, other):
    order = [band for band, _ in AGE_BANDS]
    younger, older = sorted((one, other))
    assert order.index(age_band(younger)) <= order.index(age_band(older))


@pytest.mark.parametrize(("age", "threshold"), [(None, 0.5), (3, 0.3), (5, 0.5), (80, 0.5)])
def test_a_band_without_an_operating_point_takes_the_unknown_one(tmp_path, age, threshold):
    release = Release.load(make_release(tmp_path / "release"))
    assert release.operating_point(age).threshold == threshold


def test_a_clinics_own_operating_point_goes_before_the_release(tmp_path):
    own = {"15_64": {"model": "tiny@1.2.3", "threshold": 0.7, "lower": 0.7, "upper": 0.7}}
    release = Release.load(make_release(tmp_path / "release"), own)
    assert release.operating_point(40).threshold == 0.7
    assert release.operating_point(3).threshold == 0.3
    assert release.operating_point(None).threshold == 0.5


@pytest.mark.parametrize(
    ("probability", "answer"),
    [
        (0.0, "unlikely"),
        (0.3999, "unlikely"),
        (0.4, "cannot_say"),
        (0.5, "cannot_say"),
        (0.5999, "cannot_say"),
        (0.6, "likely"),
        (1.0, "likely"),
    ],
)
def test_an_answer_is_withheld_near_the_threshold(probability, answer):
    assert OperatingPoint(threshold=0.5, lower=0.4, upper=0.6).decide(probability) == answer


@given(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted))
def test_a_given_answer_is_the_forced_answer(probability, limits):
    lower, threshold, upper = limits
    answer = OperatingPoint(threshold, lower, upper).decide(probability)
    if answer != "cannot_say":
        assert answer == ("likely" if probability >= threshold else "unlikely")


@given(st.floats(0, 1), st.floats(0, 1))
def test_without_a_band_there_is_always_an_answer(probability, threshold):
    assert OperatingPoint(threshold, threshold, threshold).decide(probability) != "cannot_say"


@given(
    st.floats(-30, 30, width=32),
    st.floats(0.05, 4),
    st.floats(-5, 5),
)
def test_probability_rises_from_one_score_of_the_network_to_the_next(logit, slope, intercept):
    calibration = Calibration(slope, intercept)
    following = float(np.nextafter(np.float32(logit), np.float32(np.inf)))
    if abs(logit) < 1e-3:  # float32 is finer near 0 than any difference that reaches a probability
        following = logit + 1e-9
    assert 0 <= calibration.probability(logit) < calibration.probability(following) <= 1


@given(st.floats(-1e30, 1e30), st.floats(0.001, 100), st.floats(-100, 100))
def test_probability_is_a_share_whatever_the_score(logit, slope, intercept):
    assert 0 <= Calibration(slope, intercept).probability(logit) <= 1


@given(st.floats(-30, 30), st.floats(0.1, 3), st.floats(-3, 3))
def test_probability_is_the_logistic_curve_to_a_part_in_a_million(logit, slope, intercept):
    wanted = 1 / (1 + math.exp(-(slope * logit + intercept)))
    assert Calibration(slope, intercept).probability(logit) == pytest.approx(wanted, abs=1e-6)


# --- which release is switched on -------------------------------------------------------------


@pytest.fixture
def factory(tmp_path, monkeypatch) -> Path:
    folder = make_release(tmp_path / "factory")
    monkeypatch.setattr(release_module, "FACTORY_DIRECTORY", folder)
    return folder


@pytest.fixture
def home(tmp_path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def switch_on(home: Path, content: object) -> None:
    (home / "active.json").write_text(json.dumps(content), encoding="utf-8")


def test_without_a_data_directory_the_factory_release_is_used(factory):
    assert load_active(None).directory == factory


def test_a_new_data_directory_uses_the_factory_release(factory, home):
    assert load_active(home).directory == factory


def test_a_data_directory_that_is_not_there_uses_the_factory_release(factory, tmp_path):
    assert load_active(tmp_path / "nowhere").directory == factory
    assert not (tmp_path / "nowhere").exists()


def test_the_factory_release_may_be_named(factory, home):
    switch_on(home, {"release": "factory", "operating_points": None})
    assert load_active(home).directory == factory


def test_the_active_release_is_the_one_named(factory, home):
    make_release(home / "models" / "newer", put("version")("2.0.0"))
    switch_on(home, {"release": "models/newer"})
    assert load_active(home).label == "tiny@2.0.0"


def test_a_local_operating_point_goes_with_the_factory_release(factory, home):
    point = {"model": "tiny@1.2.3", "threshold": 0.2, "lower": 0.1, "upper": 0.3}
    switch_on(home, {"release": "factory", "operating_points": {"unknown": point}})
    assert load_active(home).operating_point(None) == OperatingPoint(0.2, 0.1, 0.3)
    assert load_active(home).operating_point(2).threshold == 0.3


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"factory"',
        b"{}",
        b'{"release": "../outside"}',
        b'{"release": ""}',
        b'{"release": "/"}',
        b'{"release": "a\\u0000"}',
        b'{"release": 5}',
        b"\xff\xff",
        b"[" * 200_000,
    ],
    ids=lambda content: repr(content[:90]),
)
def test_a_damaged_note_of_the_active_release_stops_rather_than_guesses(factory, home, content):
    (home / "active.json").write_bytes(content)
    assert refused(lambda: load_active(home)).code == "active_release_damaged"


def test_an_active_release_that_is_gone_is_not_replaced_in_silence(factory, home):
    switch_on(home, {"release": "models/gone"})
    assert refused(lambda: load_active(home)).code == "release_missing"


def test_an_active_release_that_was_changed_is_not_replaced_in_silence(factory, home):
    (make_release(home / "models" / "newer") / "model.onnx").write_bytes(b"other")
    switch_on(home, {"release": "models/newer"})
    assert refused(lambda: load_active(home)).code == "release_file_changed"
