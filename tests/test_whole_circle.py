"""The whole circle: films are read in the clinic and some answers corrected, what was learnt leaves
by stick, the workshop makes the next release of it, and that comes back, is tried, is switched to
and is taken back.

Everything is real but small: database, files on sticks, age, signatures, a network of ImageNet's
weights at 64 pixels, its int8 graph. Only the limits that a handful of films cannot keep are wider.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf
from PIL import Image

from app import checks, contributions, worker
from app.active_model import ActiveModel
from app.cxr import release as release_module
from app.cxr.release import load_active, read_active
from app.models import AuditEvent, Finding, Reading, Study, User
from app.updates import clinic as updates
from app.updates import shadow
from model_export import __main__ as workshop
from model_export import configs, open_readings, readings_key
from model_export.contributed import read_opened
from model_export.datasets import load_contributions, load_kermany, split_by_patient
from model_export.runs import load_trained
from tests import publishing
from tests.films import encode
from tests.opened import person
from tests.people import enter
from tests.publishing import PASSPHRASE
from tests.studies import take_in
from tests.workshop import CLEAR, EXPERIMENT, PARTS, SICK, draw_films, released, taught

OLD, NEW = "tiny@1.0.0", "tiny@1.1.0"
READ = 8
NEXT = dataclasses.replace(
    EXPERIMENT, name="next", peak_learning_rate=1e-6, hard_share=0.7, new_share=0.5
)


@pytest.fixture
def folder(tmp_path: Path, data_dir: Path, site: object, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clinic that was built with the publisher's two public keys and the first release."""
    films = draw_films(tmp_path / "films", PARTS)
    first = released(taught(tmp_path / "run-1", films), films, tmp_path / "release-1", "1.0.0")
    monkeypatch.setattr(release_module, "FACTORY_DIRECTORY", first.directory)
    monkeypatch.setattr(checks, "model", ActiveModel(data_dir))
    publishing.keys("create", folders=[tmp_path / "publisher"])
    monkeypatch.setattr(updates, "PUBLISHER_ROOT", tmp_path / "publisher" / "1.root.json")
    readings_key.make(tmp_path / "readings.key", tmp_path / "readings.pub", PASSPHRASE)
    monkeypatch.setattr(contributions, "PUBLISHER_KEY", tmp_path / "readings.pub")
    (tmp_path / "stick").mkdir()
    return tmp_path


@pytest.fixture(autouse=True)
def step_by_step() -> Iterator[None]:
    """Few steps are sooner done than traced."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def stage(*words: object) -> int:
    return workshop.main([str(word) for word in words])


def read_films(reader: User) -> list[Study]:
    """Films are taken in, answered by the worker's task, and read by a clinician."""
    studies = []
    for n in range(READ):
        sick = n % 2
        film = person(500 + n, (CLEAR, SICK)[sick] + n, (320, 288))
        study = take_in(encode(film, "PNG"), f"{n}.png", age_years=3.0)
        worker.analyse_instance.call(study.instances.get().pk)
        study.refresh_from_db()
        study.change({"consent_for_learning": True}, None)
        Reading.record(study, reader, conclusion="pneumonia" if sick else "no_pneumonia")
        studies.append(study)
    return studies


def exported(folder: Path, name: str) -> Path:
    """What was learnt on a stick, and opened again in the workshop."""
    path = folder / "stick" / f"{name}.clinicreadings"
    contributions.export(path, everything=True)
    identity = readings_key.unlock(folder / "readings.key", PASSPHRASE)
    open_readings.open_readings(path, identity, folder / name)
    return folder / name


def of_two_clinics(folder: Path, reader: User) -> tuple[Path, Path]:
    """What two clinics send: the second, under a key of its own, has the same films, and reads one
    of them otherwise.
    """
    studies = read_films(reader)
    corrected = studies[0]
    assert corrected.finding is not None
    first = exported(folder, "june")
    (contributions.settings.DATA_DIR / contributions.SITE_KEY).unlink()
    Reading.record(corrected, reader, conclusion="pneumonia", kind=Reading.Kind.DIAGNOSIS)
    return first, exported(folder, "july")


def merged(folder: Path, *opened: Path) -> Path:
    target = folder / "merged"
    assert stage("merge", *opened, "--release", folder / "release-1", "--out", target) == 0
    return target


def next_release(folder: Path, new: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few steps on old and new films, and the whole way to a packed release."""
    monkeypatch.setattr(configs, "load", lambda name: NEXT)
    words = ["--continue-from", folder / "release-1", "--new", new, "--data", folder / "films"]
    assert stage("train", "--config", "next", "--run", folder / "run-2", *words) == 0
    target = folder / "release-2"
    return released(folder / "run-2", folder / "films", target, "1.1.0").directory


def fixed_films(folder: Path) -> Path:
    """Films that nobody has learnt from, and that lie far from the threshold: what is rounded
    otherwise in another graph must not decide.
    """
    for name, grey in (("NORMAL", CLEAR - 15), ("PNEUMONIA", SICK + 35)):
        (folder / "fixed" / name).mkdir(parents=True)
        for n in range(22):
            path = folder / "fixed" / name / f"{n}.png"
            Image.fromarray(person(9000 + n, grey + n % 7, (160, 144))).save(path)
    return folder / "fixed"


@pytest.mark.django_db(transaction=True)
def test_what_a_clinic_learns_comes_back_as_the_next_release(folder, data_dir, monkeypatch):
    reader, administrator = enter("clinician"), enter("administrator")

    # The first release comes by stick as well: it is what the next one is held against
    first = folder / "stick" / "first.clinicupdate"
    assert publishing.publish(folder / "release-1", first, folder / "publisher")[0] == 0
    updates.switch(updates.prepare(first, administrator), administrator)

    june, july = of_two_clinics(folder, reader)
    assert Finding.objects.filter(model=OLD, probability__isnull=False).count() == READ
    assert len(read_opened(june)) == len(read_opened(july)) == READ

    new = merged(folder, june, july)
    report = json.loads((new / "report.json").read_text())
    assert report["reasons"] == {"contradiction": 2, "duplicate": READ - 1}
    with (new / "labels.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == READ - 1

    next_release(folder, new, monkeypatch)
    moved = load_trained(folder / "run-2").get_layer("activation_map").get_weights()[0]
    before = load_trained(folder / "run-1").get_layer("activation_map").get_weights()[0]
    assert 0 < abs(moved - before).max() < 0.01
    known = split_by_patient(load_kermany(folder / "films") + load_contributions(new))
    held_out = {film.patient for film in known.validation + known.test}
    assert not held_out & {film.patient for film in known.train}

    comparison = folder / "comparison.json"
    words = ["--old", folder / "release-1", "--new", folder / "release-2", "--margin", "0.05"]
    words += ["--data", fixed_films(folder), "--contributions", new, "--age", "3"]
    assert stage("compare", *words, "--json", comparison) == 0
    assert json.loads(comparison.read_text())["groups"][0]["figures"]["auc"]["old"] > 0.9

    second = folder / "stick" / "second.clinicupdate"
    refused = publishing.publish(folder / "release-2", second, folder / "publisher")
    assert refused[0] == 1
    assert not second.exists()
    signed = publishing.publish(
        folder / "release-2", second, folder / "publisher", compared=["--comparison", comparison]
    )
    assert signed[0] == 0, signed[1]

    staged = updates.prepare(second, administrator)
    trying = shadow.ShadowRun()
    assert trying.start(staged.release, shadow.last_films())
    trying.wait()
    assert trying.trial is not None
    assert (trying.trial.state, trying.trial.before, trying.trial.release) == ("done", OLD, NEW)
    assert len(trying.trial.rows) == READ
    assert all(row.new.probability is not None for row in trying.trial.rows)
    assert load_active(data_dir).label == OLD

    updates.switch(staged, administrator)
    assert load_active(data_dir).label == NEW
    later = take_in(encode(person(700, SICK, (320, 288)), "PNG"), "later.png", age_years=3.0)
    worker.analyse_instance.call(later.instances.get().pk)
    assert Finding.objects.get(instance__study=later).model == NEW

    assert updates.go_back(administrator).label == OLD
    assert load_active(data_dir).label == OLD
    assert read_active(data_dir)["release"] == "releases/tiny-1.0.0"
    assert Finding.objects.filter(model=OLD).count() == READ
    done = list(AuditEvent.objects.order_by("id").values_list("action", flat=True))
    steps = ["readings_exported", "update_verified", "update_installed", "update_gone_back"]
    assert [step for step in steps if step in done] == steps
