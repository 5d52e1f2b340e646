"""A clinic's own operating point: one release, one age band, and back with one click."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse
from hypothesis import assume, given
from hypothesis import strategies as st

from app import checks
from app.active_model import ActiveModel
from app.cxr import release as release_module
from app.cxr.release import (
    BANDS,
    LocalPoints,
    OperatingPoint,
    Release,
    UnusableRelease,
    load_active,
    read_active,
    write_active,
)
from app.models import AuditEvent, LocalOperatingPoint
from tests.studies import answered
from tests.tiny_release import make_release

LABEL = "tiny@1.2.3"
POINT = OperatingPoint(threshold=0.6, lower=0.5, upper=0.7)
ENTRY: dict[str, Any] = {"model": LABEL, "threshold": 0.6, "lower": 0.5, "upper": 0.7}


@pytest.fixture
def factory(tmp_path, monkeypatch) -> Path:
    folder = make_release(tmp_path / "factory")
    monkeypatch.setattr(release_module, "FACTORY_DIRECTORY", folder)
    return folder


@pytest.fixture
def home(tmp_path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


# --- the point itself ---------------------------------------------------------------------------

shares = st.floats(0, 1)
insides = st.floats(1e-6, 1 - 1e-6)


def log_odds(share: float) -> float:
    return math.log(share / (1 - share))


@given(st.lists(shares, min_size=3, max_size=3).map(sorted), insides)
def test_a_point_that_is_moved_is_sound_and_has_the_new_threshold(limits, threshold):
    moved = OperatingPoint(limits[1], limits[0], limits[2]).moved_to(threshold)
    assert moved.threshold == threshold
    assert moved.is_sound


@given(st.lists(st.floats(0.01, 0.99), min_size=3, max_size=3).map(sorted), st.floats(0.01, 0.99))
def test_the_range_of_withheld_answers_keeps_its_width_in_log_odds(limits, threshold):
    lower, middle, upper = limits
    moved = OperatingPoint(middle, lower, upper).moved_to(threshold)
    assume(moved.lower > 1e-9 and moved.upper < 1 - 1e-9)
    assert log_odds(moved.lower) - log_odds(threshold) == pytest.approx(
        log_odds(lower) - log_odds(middle), abs=1e-6
    )
    assert log_odds(moved.upper) - log_odds(threshold) == pytest.approx(
        log_odds(upper) - log_odds(middle), abs=1e-6
    )


@given(insides)
def test_an_answer_that_is_never_given_is_never_given_after_the_move_either(threshold):
    moved = OperatingPoint(0.5, 0.0, 1.0).moved_to(threshold)
    assert (moved.lower, moved.upper) == (0.0, 1.0)


@given(st.lists(st.floats(0.01, 0.99), min_size=3, max_size=3).map(sorted))
def test_a_point_that_is_moved_to_where_it_was_is_the_same(limits):
    point = OperatingPoint(limits[1], limits[0], limits[2])
    back = point.moved_to(point.threshold)
    assert (back.lower, back.upper) == (pytest.approx(point.lower), pytest.approx(point.upper))


# --- what active.json may say -------------------------------------------------------------------


def test_a_note_of_this_release_is_in_force_for_its_band_alone(factory):
    release = Release.load(factory, {"15_64": ENTRY})
    assert release.operating_point(40) == POINT
    assert release.operating_point(70) == release.own_operating_point("65_and_over")
    assert release.operating_point(2).threshold == 0.3


def test_a_point_for_unknown_age_does_not_reach_the_bands_that_borrow_the_releases(factory):
    release = Release.load(factory, {"unknown": ENTRY})
    assert release.operating_point(None) == POINT
    assert release.operating_point(40).threshold == 0.5


def test_a_note_of_another_release_has_lapsed(factory):
    release = Release.load(factory, {"15_64": ENTRY | {"model": "tiny@1.2.2"}})
    assert release.operating_point(40).threshold == 0.5
    assert release.local == LocalPoints(lapsed=("15_64",))


ATTACKS: dict[str, Any] = {
    "a number": 0.5,
    "a list": [],
    "nothing": None,
    "without a release": {"threshold": 0.6, "lower": 0.5, "upper": 0.7},
    "without an end": {"model": LABEL, "threshold": 0.6, "lower": 0.5},
    "with more": ENTRY | {"answer": "unlikely"},
    "release is a number": ENTRY | {"model": 3},
    "threshold in words": ENTRY | {"threshold": "0.6"},
    "threshold is true": ENTRY | {"threshold": True, "upper": 1},
    "threshold is NaN": ENTRY | {"threshold": math.nan},
    "upper is infinite": ENTRY | {"upper": math.inf},
    "everything likely": ENTRY | {"threshold": 0.0, "lower": 0.0},
    "nothing likely": ENTRY | {"threshold": 1.0, "upper": 1.0},
    "threshold below 0": ENTRY | {"threshold": -0.1, "lower": -0.2},
    "threshold above 1": ENTRY | {"threshold": 1.5, "upper": 1.6},
    "lower above the threshold": ENTRY | {"lower": 0.65},
    "upper below the threshold": ENTRY | {"upper": 0.55},
    "threshold is a list": ENTRY | {"threshold": [0.6]},
}


@pytest.mark.parametrize("entry", ATTACKS.values(), ids=ATTACKS)
def test_a_spoilt_note_is_set_aside_and_the_release_answers(factory, home, entry):
    text = json.dumps({"release": "factory", "operating_points": {"15_64": entry}})
    (home / "active.json").write_text(text)
    release = load_active(home)
    assert release.operating_point(40).threshold == 0.5
    assert release.local.refused == ("15_64",)


@pytest.mark.parametrize("note", [5, "0.5", [], ["15_64"], True])
def test_notes_that_are_no_table_are_set_aside(factory, note):
    release = Release.load(factory, note)
    assert release.local == LocalPoints(refused=("?",))


def test_a_band_that_nobody_knows_is_not_named_to_anybody(factory):
    release = Release.load(factory, {"<script>alert(1)</script>": ENTRY})
    assert release.local == LocalPoints(refused=("?",))


def test_one_spoilt_note_does_not_take_a_sound_one_along(factory):
    release = Release.load(factory, {"under_5": 0.5, "15_64": ENTRY})
    assert release.operating_point(40) == POINT
    assert release.operating_point(2).threshold == 0.3


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*BANDS, *ENTRY, "?"]), inner, max_size=4)
        ),
    )
)
def test_whatever_the_file_holds_only_sound_points_of_this_release_are_in_force(note):
    local = LocalPoints.of(note, LABEL)
    assert set(local.in_force) <= set(BANDS)
    assert all(p.is_sound and 0 < p.threshold < 1 for p in local.in_force.values())


def test_what_is_written_is_read(home):
    write_active(home, {"release": "models/next", "operating_points": {"5_14": ENTRY}, "more": 1})
    assert read_active(home)["operating_points"]["5_14"] == ENTRY
    assert read_active(home)["more"] == 1
    assert [path.name for path in home.iterdir()] == ["active.json"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(home):
    write_active(home, {"release": "factory"})
    with pytest.raises(ValueError):
        write_active(home, {"release": math.nan})
    assert read_active(home) == {"release": "factory"}
    assert [path.name for path in home.iterdir()] == ["active.json"]


# --- applied and withdrawn ----------------------------------------------------------------------


@pytest.fixture
def clinic(data_dir, factory, monkeypatch) -> Path:
    """A clinic with the tiny release as its factory's."""
    monkeypatch.setattr(checks, "model", ActiveModel(data_dir))
    return data_dir


@pytest.mark.django_db
class TestApplied:
    def test_it_answers_from_the_next_film_on(self, clinic, administrator):
        before = checks.model.release.operating_point(40)
        LocalOperatingPoint.apply(LABEL, "15_64", POINT, {"n": 120}, administrator)

        assert before.threshold == 0.5
        assert checks.model.release.operating_point(40) == POINT
        assert load_active(clinic).operating_point(40) == POINT

    def test_who_applied_it_and_on_what_grounds_is_kept(self, clinic, administrator):
        LocalOperatingPoint.apply(LABEL, "15_64", POINT, {"n": 120}, administrator)

        kept = LocalOperatingPoint.objects.get()
        assert (kept.applied_by, kept.evidence, kept.threshold) == (administrator, {"n": 120}, 0.6)
        event = AuditEvent.objects.get(action="operating_point_applied")
        assert event.user == administrator
        assert event.details == {"model": LABEL, "age_band": "15_64", "threshold": 0.6}

    def test_the_next_one_takes_the_place_of_the_first(self, clinic, administrator):
        first = LocalOperatingPoint.apply(LABEL, "15_64", POINT, {}, administrator)
        LocalOperatingPoint.apply(LABEL, "15_64", POINT.moved_to(0.4), {}, administrator)

        first.refresh_from_db()
        assert first.withdrawn_by == administrator
        assert checks.model.release.operating_point(40).threshold == 0.4

    def test_bands_stand_side_by_side(self, clinic, administrator):
        LocalOperatingPoint.apply(LABEL, "15_64", POINT, {}, administrator)
        LocalOperatingPoint.apply(LABEL, "under_5", POINT.moved_to(0.4), {}, administrator)

        release = checks.model.release
        assert [release.operating_point(age).threshold for age in (40, 3)] == [0.6, 0.4]

    def test_it_is_undone(self, clinic, administrator):
        applied = LocalOperatingPoint.apply(LABEL, "15_64", POINT, {}, administrator)
        LocalOperatingPoint.withdraw(LABEL, "15_64", administrator)

        applied.refresh_from_db()
        assert applied.withdrawn_by == administrator
        assert checks.model.release.operating_point(40).threshold == 0.5
        assert AuditEvent.objects.filter(action="operating_point_withdrawn").count() == 1

    def test_what_else_the_file_says_stays(self, clinic, administrator):
        write_active(clinic, {"release": "factory", "noted": "by the update"})
        LocalOperatingPoint.apply(LABEL, "15_64", POINT, {}, administrator)
        LocalOperatingPoint.withdraw(LABEL, "15_64", administrator)

        assert read_active(clinic) == {
            "release": "factory", "noted": "by the update", "operating_points": {}
        }  # fmt: skip

    def test_a_file_that_cannot_be_written_changes_nothing(
        self, clinic, administrator, monkeypatch
    ):
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("app.models.operating_points.write_active", full)
        with pytest.raises(OSError):
            LocalOperatingPoint.apply(LABEL, "15_64", POINT, {}, administrator)

        assert not LocalOperatingPoint.objects.exists()
        assert not AuditEvent.objects.filter(action="operating_point_applied").exists()
        assert checks.model.release.operating_point(40).threshold == 0.5

    def test_a_damaged_file_is_not_written_over(self, clinic, administrator):
        (clinic / "active.json").write_text("{")
        with pytest.raises(UnusableRelease):
            LocalOperatingPoint.apply(LABEL, "15_64", POINT, {}, administrator)

        assert (clinic / "active.json").read_text() == "{"
        assert not LocalOperatingPoint.objects.exists()

    def test_it_lapses_when_the_release_changes(self, clinic, administrator):
        LocalOperatingPoint.apply(LABEL, "15_64", POINT, {}, administrator)
        make_release(clinic / "next", lambda manifest: manifest.update(version="2.0.0"))
        write_active(clinic, read_active(clinic) | {"release": "next"})

        release = checks.model.release
        assert release.label == "tiny@2.0.0"
        assert release.operating_point(40).threshold == 0.5
        assert release.local.lapsed == ("15_64",)


@pytest.mark.django_db
class TestRefused:
    def test_every_page_says_so(self, client, clinic):
        write_active(clinic, {"release": "factory", "operating_points": {"15_64": 0.1}})

        html = client.get("/").content.decode()
        assert "Fault THRESHOLD" in html
        assert "15_64" in html

    def test_it_can_be_cleared_away_and_sound_points_stay(self, clinic, administrator):
        points = {"15_64": 0.1, "under_5": ENTRY, "5_14": ENTRY | {"model": "old@1"}, "x": 1}
        write_active(clinic, {"release": "factory", "operating_points": points})
        LocalOperatingPoint.clear_unusable(LABEL, administrator)

        assert set(read_active(clinic)["operating_points"]) == {"under_5", "5_14"}
        assert checks.local_operating_points() is None
        assert AuditEvent.objects.filter(action="operating_points_cleared").exists()

    def test_a_sound_point_is_no_fault(self, clinic, administrator):
        LocalOperatingPoint.apply(LABEL, "15_64", POINT, {}, administrator)
        assert checks.local_operating_points() is None


@pytest.mark.django_db
class TestAnswer:
    def page(self, client, study) -> str:
        return client.get(reverse("study", args=[study.number])).content.decode()

    def test_the_page_of_a_study_says_whose_threshold_it_was(self, client, clinic, administrator):
        LocalOperatingPoint.apply(LABEL, "15_64", POINT, {}, administrator)
        study = answered(model=LABEL, age_years=40.0, threshold=0.6)

        assert "this clinic's own threshold" in self.page(client, study)

    @pytest.mark.parametrize(
        "found",
        [
            {"threshold": 0.5},
            {"model": "tiny@2.0.0"},
            {"age_years": 3.0},
            {"age_years": None},
        ],
        ids=str,
    )
    def test_it_says_nothing_of_a_finding_of_another_threshold(
        self, client, clinic, administrator, found
    ):
        LocalOperatingPoint.apply(LABEL, "15_64", POINT, {}, administrator)
        study = answered(**({"model": LABEL, "age_years": 40.0, "threshold": 0.6} | found))

        assert "this clinic's own threshold" not in self.page(client, study)

    def test_a_finding_keeps_its_threshold_when_the_point_is_withdrawn(
        self, client, clinic, administrator
    ):
        LocalOperatingPoint.apply(LABEL, "15_64", POINT, {}, administrator)
        study = answered(model=LABEL, age_years=40.0, threshold=0.6)
        LocalOperatingPoint.withdraw(LABEL, "15_64", administrator)

        html = self.page(client, study)
        assert "this clinic's own threshold" in html
        assert study.finding.threshold == 0.6
