"""The shadow run, and the look for update files on sticks."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from app import checks
from app.active_model import ActiveModel
from app.cxr import release as release_module
from app.cxr.release import MANIFEST, Release
from app.models import AuditEvent, Finding, Reading, Study
from app.updates import clinic as clinic_updates
from app.updates import shadow, sticks
from app.updates.shadow import Given, Row, ShadowRun, Trial
from tests.people import enter
from tests.studies import answer, film_bytes, stored, take_in, turned_down
from tests.tiny_release import make_release

OLD, NEW = "tiny@1.0.0", "tiny@2.0.0"


def release_of(folder: Path, version: str, **changes: Any) -> Release:
    """A tiny release of that version; ``changes`` go into its manifest."""
    return Release.load(
        make_release(folder, lambda manifest: manifest.update(version=version, **changes))
    )


# --- the run ------------------------------------------------------------------------------------


@pytest.fixture
def clinic(db, data_dir, tmp_path, monkeypatch) -> Path:
    """A clinic that answers by the tiny release 1.0.0."""
    factory = release_of(tmp_path / "factory", "1.0.0").directory
    monkeypatch.setattr(release_module, "FACTORY_DIRECTORY", factory)
    monkeypatch.setattr(checks, "model", ActiveModel(data_dir))
    return data_dir


@pytest.fixture
def new(tmp_path: Path) -> Release:
    """A release that calls nothing likely."""
    return release_of(tmp_path / "new", "2.0.0", calibration={"slope": 1.0, "intercept": -40.0})


@pytest.fixture
def trying() -> Any:
    run = ShadowRun()
    yield run
    run.stop()


def given(film: Study, model: str = OLD, **fields: Any) -> Study:
    return answer(film, model=model, **fields)


def tried(trying: ShadowRun, release: Release, many: int = shadow.FILMS) -> Trial:
    assert trying.start(release, shadow.last_films(many))
    trying.wait()
    trial = trying.trial
    assert trial is not None
    return trial


def test_it_lays_the_new_answer_beside_the_one_that_was_given(clinic, new, trying):
    study = given(take_in(film_bytes(1)), probability=0.934, threshold=0.41, milliseconds=33.0)

    trial = tried(trying, new)

    assert (trial.state, trial.release, trial.before, trial.total) == ("done", NEW, OLD, 1)
    (row,) = trial.rows
    assert row.study == study.number
    assert row.old == Given("likely", 0.934, 0.41, 33.0)
    assert row.new.answer == "unlikely"
    assert 0 < row.new.probability < 0.001
    assert row.new.threshold == 0.5
    assert row.new.milliseconds > 0
    assert row.is_flip


def test_it_writes_no_finding_and_nothing_of_the_study(clinic, new, trying):
    given(take_in(film_bytes(1)))
    before = list(Finding.objects.values()), list(Study.objects.values())

    tried(trying, new)
    assert (list(Finding.objects.values()), list(Study.objects.values())) == before


def test_what_another_model_answered_is_asked_of_the_present_one(clinic, new, trying):
    given(take_in(film_bytes(1)), model="older@0.9.0", probability=0.02, answer="unlikely")

    (row,) = tried(trying, new).rows
    assert row.old.answer == "likely"
    assert row.old.probability > 0.5


def test_the_same_release_flips_nothing(clinic, trying):
    given(take_in(film_bytes(1)), model="older@0.9.0")
    given(take_in(film_bytes(2)), model="older@0.9.0")

    assert tried(trying, checks.model.release).flips == []


def test_the_age_at_which_it_was_answered_holds(clinic, new, trying):
    given(take_in(film_bytes(1)), age_years=3.0)

    (row,) = tried(trying, new).rows
    assert row.new.threshold == 0.3  # that of children under five


def test_it_takes_the_newest_answered_studies_one_film_of_each(clinic):
    studies = [given(take_in(film_bytes(seed))) for seed in range(1, 5)]
    turned_down("page_of_text", seed=5)
    take_in(film_bytes(6))

    films = shadow.last_films(3)
    assert [film.study for film in films] == [one.number for one in reversed(studies[1:])]


def test_only_readings_made_before_the_answer_are_held_against_it(clinic, site, new, trying):
    by = enter("clinician")
    blind, known = (given(take_in(film_bytes(seed))) for seed in (1, 2))
    for conclusion in ("unsure", "no_pneumonia"):
        Reading.objects.create(study=blind, by=by, conclusion=conclusion, before_answer=True)
    Reading.objects.create(study=known, by=by, conclusion="pneumonia")

    trial = tried(trying, new)
    assert {row.study: row.concluded for row in trial.rows} == {
        blind.number: "no_pneumonia",
        known.number: "",
    }
    assert (trial.old_accuracy.specificity.part, trial.old_accuracy.specificity.whole) == (0, 1)
    assert (trial.new_accuracy.specificity.part, trial.new_accuracy.specificity.whole) == (1, 1)
    assert trial.new_accuracy.sensitivity.whole == 0


def test_a_film_that_is_gone_does_not_stop_the_others(clinic, new, trying):
    gone, there = (given(take_in(film_bytes(seed))) for seed in (1, 2))
    stored(gone.instances.get()).unlink()

    trial = tried(trying, new)
    answers = {row.study: row.new.answer for row in trial.rows}
    assert answers == {gone.number: "unreadable", there.number: "unlikely"}


def test_it_stops_after_the_film_in_hand(clinic, new, trying, monkeypatch):
    for seed in range(1, 5):
        given(take_in(film_bytes(seed)))
    real = shadow._answer

    def cancelled_meanwhile(film, model):
        trying._cancel.set()
        return real(film, model)

    monkeypatch.setattr(shadow, "_answer", cancelled_meanwhile)
    trial = tried(trying, new)
    assert (trial.state, len(trial.rows), trial.total) == ("cancelled", 1, 4)


def test_only_one_goes_at_a_time(clinic, new, trying, monkeypatch):
    given(take_in(film_bytes(1)))
    let_go, real = threading.Event(), shadow._answer

    def slow(film, model):
        let_go.wait(30)
        return real(film, model)

    monkeypatch.setattr(shadow, "_answer", slow)
    films = shadow.last_films()
    assert trying.start(new, films)
    try:
        assert trying.trial.is_running
        assert not trying.start(new, films)
    finally:
        let_go.set()
    trying.wait()
    assert trying.trial.state == "done"


def test_a_graph_that_cannot_be_loaded_ends_it_and_says_so(clinic, new, trying, caplog):
    given(take_in(film_bytes(1)))
    new.graph.write_bytes(b"no graph")

    assert tried(trying, new).state == "failed"
    assert "the shadow run broke off" in caplog.text


def test_what_came_out_outlives_the_process(clinic, new, trying):
    given(take_in(film_bytes(1)))
    trial = tried(trying, new)

    assert ShadowRun().trial == trial


def test_a_run_that_the_end_of_the_program_broke_off_says_so(clinic):
    running = Trial(NEW, "0" * 64, OLD, "running", 50)
    (clinic / shadow.NOTE).write_text(running.to_json())

    assert ShadowRun().trial.state == "broken_off"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "7", '{"rows": 3}', '{"rows": []}', '{"rows": [{}]}']
)
def test_a_damaged_note_is_no_trial(clinic, text):
    (clinic / shadow.NOTE).write_text(text)
    assert ShadowRun().trial is None


def test_a_trial_belongs_to_the_very_content_that_was_tried(clinic, new, trying):
    trial = tried(trying, new)
    assert trial.was_of(new)
    assert not trial.was_of(checks.model.release)
    assert not trial.was_of(None)

    manifest = json.loads((new.directory / MANIFEST).read_text()) | {"note": "another"}
    (new.directory / MANIFEST).write_text(json.dumps(manifest))
    assert not trial.was_of(new)


def test_the_note_names_nobody(clinic, new, trying):
    study = given(take_in(film_bytes(1), name="okello-grace.png"))
    tried(trying, new)

    kept = (clinic / shadow.NOTE).read_text()
    assert study.number in kept
    assert "okello" not in kept


def test_flips_are_counted_by_kind_the_commonest_first():
    def row(old: str, new: str) -> Row:
        return Row("1", "", Given(old, None, None, 1.0), Given(new, None, None, 3.0))

    rows = [row("likely", "unlikely"), row("cannot_say", "likely"), row("likely", "likely")]
    trial = Trial(NEW, "", OLD, "done", 4, (*rows, row("cannot_say", "likely")))
    assert trial.kinds == [("cannot_say", "likely", 2), ("likely", "unlikely", 1)]
    assert (trial.old_milliseconds, trial.new_milliseconds) == (1.0, 3.0)
    assert Trial.from_json(trial.to_json()) == trial


# --- analysed again, one study at a time --------------------------------------------------------


def test_only_what_another_model_answered_can_be_asked_again_of_a_model(clinic, site):
    by = enter("clinician")
    older, present = given(take_in(film_bytes(1)), "older@0.9.0"), given(take_in(film_bytes(2)))

    assert present.ask_again(by, of=OLD) == []
    assert [film.study for film in older.ask_again(by, of=OLD)] == [older]
    assert older.ask_again(by, of=OLD) == []
    assert older.instances.get().state == "waiting"
    assert Finding.objects.filter(instance__study=older).count() == 1
    assert AuditEvent.objects.filter(action="analysis_asked_for").count() == 1


# --- sticks -------------------------------------------------------------------------------------


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()
    return folder


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"PK")
    return path


def test_updates_lie_in_the_sticks_own_folder_or_one_below(stick):
    wanted = {put(stick / "a.clinicupdate"), put(stick / "Updates" / "B.ClinicUpdate")}
    put(stick / "one" / "two" / "deep.clinicupdate")

    assert set(sticks.on_drive(stick)) == wanted


@pytest.mark.parametrize(
    "name", ["film.png", "a.clinicupdate.part", "._a.clinicupdate", "clinicupdate"]
)
def test_what_is_not_named_as_an_update_is_none(stick, name):
    put(stick / name)
    assert list(sticks.on_drive(stick)) == []


def test_a_folder_named_as_an_update_is_none(stick):
    (stick / "a.clinicupdate").mkdir()
    assert list(sticks.on_drive(stick)) == []


def test_no_link_is_followed(stick, tmp_path):
    elsewhere = put(tmp_path / "elsewhere" / "a.clinicupdate")
    (stick / "b.clinicupdate").symlink_to(elsewhere)
    (stick / "folder").symlink_to(elsewhere.parent)

    assert list(sticks.on_drive(stick)) == []


def test_a_stick_that_was_pulled_out_holds_nothing(stick):
    assert list(sticks.on_drive(stick / "gone")) == []


def test_of_a_stick_full_of_folders_few_are_looked_into(stick, monkeypatch):
    for number in range(sticks.MOST_FOLDERS + 20):
        put(stick / f"{number}" / "a.clinicupdate")

    assert len(list(sticks.on_drive(stick))) == sticks.MOST_FOLDERS


def test_of_a_folder_full_of_files_few_are_looked_at(stick, monkeypatch):
    monkeypatch.setattr(sticks, "MOST_ENTRIES", 5)
    for number in range(9):
        put(stick / f"{number}.clinicupdate")

    assert len(list(sticks.on_drive(stick))) == 5


@pytest.mark.skipif(os.name == "nt", reason="Windows has letters")
def test_on_linux_drives_are_mount_points_where_desktops_put_them(tmp_path, monkeypatch):
    monkeypatch.setattr(sticks.getpass, "getuser", lambda: "amina")
    where = ("media/amina/STICK", "run/media/amina/CARD", "media/usb0", "mnt/disk")
    mounted = {tmp_path / name for name in where}
    for folder in (*mounted, tmp_path / "media/okello/OTHER", tmp_path / "media/amina/left-over"):
        folder.mkdir(parents=True)
    monkeypatch.setattr(sticks.os.path, "ismount", lambda path: Path(path) in mounted)

    assert set(sticks._mount_points(tmp_path)) == mounted


def test_the_files_of_all_drives_are_found(stick, tmp_path, monkeypatch):
    other = tmp_path / "another"
    wanted = [put(other / "b.clinicupdate"), put(stick / "a.clinicupdate")]
    monkeypatch.setattr(sticks, "drives", lambda: [stick, other, tmp_path / "gone"])

    assert sticks.find() == wanted


def test_the_lookout_notices_a_stick_and_makes_nobody_wait_for_it():
    let_go, looks = threading.Event(), []

    def look() -> bool:
        looks.append(let_go.wait(30))
        return True

    lookout = sticks.Lookout(look)
    assert not lookout.has_seen()
    let_go.set()
    lookout.wait()
    assert lookout.has_seen()
    lookout.wait()
    assert looks == [True]  # and it did not look again so soon


def test_the_lookout_looks_again_after_a_while(monkeypatch):
    monkeypatch.setattr(sticks, "SECONDS_BETWEEN", -1.0)
    outcomes = [False, True]
    lookout = sticks.Lookout(lambda: outcomes.pop())

    for seen in (False, True):
        assert lookout.has_seen() is seen
        lookout.wait()
    assert outcomes == []
    assert not lookout._seen


@pytest.mark.parametrize("takes", [True, False])
def test_a_program_that_takes_no_updates_notices_none(stick, monkeypatch, tmp_path, takes):
    put(stick / "a.clinicupdate")
    root = tmp_path / "root.json"
    if takes:
        root.write_bytes(b"{}")
    monkeypatch.setattr(sticks, "drives", lambda: [stick])
    monkeypatch.setattr(clinic_updates, "PUBLISHER_ROOT", root)

    lookout = sticks.Lookout()
    lookout.has_seen()
    lookout.wait()
    assert lookout.has_seen() is takes
