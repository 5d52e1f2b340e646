"""Model updates on their page: taken, tried, decided on, taken back; all of it without a script."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from app import checks, review
from app.active_model import ActiveModel
from app.cxr import release as release_module
from app.cxr.release import OperatingPoint, read_active
from app.models import AuditEvent, Finding, LocalOperatingPoint, Reading
from app.updates import clinic as clinic_updates
from app.updates import shadow, sticks
from app.updates.install import waiting
from tests.people import enter
from tests.studies import answer, film_bytes, take_in
from tests.test_local_review import group, report
from tests.tiny_release import Manifest, make_release
from tests.tuf_publisher import Publisher, release_files

pytestmark = [pytest.mark.django_db]

OLD, NEW = "tiny@1.0.0", "tiny@2.0.0"
NEVER_LIKELY = {"slope": 1.0, "intercept": -40.0}


def with_report(folder: Path, **figures: Any) -> Path:
    """Give a release a report that measured children under five."""
    text = json.dumps({"reports": [report("held-out children", under_5=group(**figures))]})
    (folder / "report.json").write_text(text)
    manifest: Manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["report.json"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


class Clinic:
    """A clinic with the factory's release 1.0.0, a publisher, and an empty stick."""

    def __init__(self, folder: Path, data: Path, publisher: Publisher) -> None:
        self.folder, self.data, self.publisher = folder, data, publisher
        self.stick = folder / "stick"
        self.stick.mkdir()

    def update(self, version: str = "2.0.0", **changes: Any) -> Path:
        """An honest update on the stick; ``changes`` go into the manifest of its release."""
        release = self.folder / f"release-{version}-{len(changes)}"
        if not release.exists():
            make_release(release, lambda manifest: manifest.update(version=version, **changes))
            with_report(release)
        self.publisher.files = release_files(release)
        self.publisher.info["version"] = version
        return self.publisher.publish().write(self.stick / f"tiny-{version}.clinicupdate")

    @property
    def answering(self) -> str | None:
        return checks.model.label


@pytest.fixture(scope="module")
def keys() -> Publisher:
    return Publisher()


@pytest.fixture
def clinic(data_dir, tmp_path, monkeypatch, keys) -> Iterator[Clinic]:
    factory = make_release(tmp_path / "factory", lambda one: one.update(version="1.0.0"))
    monkeypatch.setattr(release_module, "FACTORY_DIRECTORY", with_report(factory))
    monkeypatch.setattr(checks, "model", ActiveModel(data_dir))
    root = tmp_path / "root.json"
    root.write_bytes(keys.first_root)
    monkeypatch.setattr(clinic_updates, "PUBLISHER_ROOT", root)
    found = Clinic(tmp_path, data_dir, keys)
    monkeypatch.setattr(sticks, "drives", lambda: [found.stick])
    monkeypatch.setattr(sticks, "lookout", sticks.Lookout())
    monkeypatch.setattr(shadow, "run", shadow.ShadowRun())
    review.forget()
    yield found
    shadow.run.stop()
    sticks.lookout.wait()
    review.forget()


def page(client: Client) -> str:
    response = client.get(reverse("updates"))
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    return response.content.decode()


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("&#x27;", "'").split())


def told(client: Client) -> str:
    return text_of(page(client))


def do(client: Client, name: str, *args: str, **sent: Any) -> str:
    """Send a form of the page; what the page says then."""
    response = client.post(reverse(name, args=args), sent, follow=True)
    assert response.status_code == 200
    return text_of(response.content.decode())


def take(client: Client, file: Path) -> str:
    return do(client, "update-take", stick=str(file))


def actions() -> list[str]:
    events = AuditEvent.objects.filter(action__startswith="update_").order_by("pk")
    return list(events.values_list("action", flat=True))


def answered(*seeds: int, **fields: Any) -> list[Any]:
    return [answer(take_in(film_bytes(seed)), model=OLD, **fields) for seed in seeds]


# --- found --------------------------------------------------------------------------------------


def test_it_says_which_model_answers_and_that_no_stick_is_there(clinic, client):
    text = told(client)
    assert f"The model {OLD} answers now." in text
    assert "No update was found on a stick." in text
    assert "Go back" not in text


def test_it_finds_the_update_on_the_stick(clinic, client):
    file = clinic.update()
    html = page(client)
    assert file.name in html
    assert f'value="{file}"' in html


def test_the_menu_of_every_page_says_that_one_is_there(clinic, client):
    clinic.update()
    client.get("/")
    sticks.lookout.wait()
    assert "one is on the stick" in client.get("/").content.decode()


def test_a_program_without_a_publisher_says_so_in_one_sentence(clinic, client, monkeypatch):
    file = clinic.update()
    monkeypatch.setattr(clinic_updates, "PUBLISHER_ROOT", clinic.folder / "none.json")

    html = page(client)
    assert "This program takes no updates" in html
    assert file.name not in html
    assert 'type="file"' not in html
    assert "This program takes no updates" in take(client, file)
    assert clinic.answering == OLD


# --- taken --------------------------------------------------------------------------------------


def test_what_is_taken_from_the_stick_is_shown_and_changes_nothing(clinic, client):
    text = take(client, clinic.update())
    assert f"The update: {NEW}" in text
    assert "Reads children's films better." in text
    assert clinic.answering == OLD
    assert actions() == ["update_verified"]


def test_the_stick_is_not_needed_any_more(clinic, client):
    file = clinic.update()
    take(client, file)
    file.unlink()
    assert NEW in told(client)


def test_the_browser_may_bring_the_file(clinic, client):
    sent = io.BytesIO(clinic.update().read_bytes())
    sent.name = "from-my-desktop.clinicupdate"

    assert f"The update: {NEW}" in do(client, "update-take", file=sent)
    assert list((clinic.data / "tmp").iterdir()) == []


def test_a_file_that_is_too_large_is_not_kept(clinic, client, monkeypatch):
    monkeypatch.setattr("app.views.updates.LARGEST_FILE", 1000)
    sent = io.BytesIO(clinic.update().read_bytes())
    sent.name = "large.clinicupdate"

    assert "far larger than an update ever is" in do(client, "update-take", file=sent)
    assert waiting(clinic.data) == []


def test_a_form_without_a_file_says_so(clinic, client):
    assert "Choose a file first." in do(client, "update-take")


def test_a_stick_that_was_pulled_out_is_said(clinic, client):
    file = clinic.update()
    file.unlink()
    assert "Is the stick still plugged in?" in take(client, file)


def test_no_file_is_read_that_lies_on_no_stick(clinic, client):
    hidden = clinic.update().rename(clinic.folder / "elsewhere.clinicupdate")

    assert "Is the stick still plugged in?" in take(client, hidden)
    assert waiting(clinic.data) == []


def test_a_strangers_update_is_refused_with_its_reason(clinic, client, keys):
    file = clinic.stick / "strange.clinicupdate"
    Publisher(keys.files).publish().write(file)

    assert "was not signed by the publisher of this program" in take(client, file)
    assert waiting(clinic.data) == []
    assert actions() == ["update_refused"]


def test_one_that_fails_its_self_test_does_not_wait_to_be_decided_on(clinic, client):
    case = {"file": "self_test/film.png", "logit": 9.0, "tolerance": 0.01}
    text = take(client, clinic.update(self_test=[case]))

    assert "does not give the right answers on this computer" in text
    assert waiting(clinic.data) == []
    assert "Decide" not in text


def test_the_figures_of_both_cards_stand_side_by_side(clinic, client):
    text = take(client, clinic.update())
    assert "What the two model cards say" in text
    assert re.search(r"under 5 years Now \d+ % New \d+ %", text)


def test_the_notes_are_text_and_no_page(clinic, client):
    clinic.publisher.info["notes"] = "<script>alert(1)</script>"
    try:
        take(client, clinic.update())
        html = page(client)
    finally:
        clinic.publisher.info["notes"] = "Reads children's films better."
    assert "<script>alert" not in html
    assert "&lt;script&gt;" in html


def test_what_waits_and_was_changed_on_the_disk_can_only_be_discarded(clinic, client):
    take(client, clinic.update())
    (folder,) = waiting(clinic.data)
    (folder / "model.onnx").write_bytes(b"another")

    text = told(client)
    assert "is not the one its publisher signed" in text
    assert "Install" not in text
    assert "is not the one its publisher signed" in do(client, "update-install")
    assert "Discarded" in do(client, "update-discard")
    assert waiting(clinic.data) == []
    assert clinic.answering == OLD


# --- tried --------------------------------------------------------------------------------------


def tried(client: Client, **sent: Any) -> str:
    do(client, "update-try", **sent)
    shadow.run.wait()
    return told(client)


def test_the_last_films_are_tried_and_the_flips_are_shown_with_their_studies(clinic, client):
    take(client, clinic.update(calibration=NEVER_LIKELY))
    (study, _) = answered(1, 2, probability=0.93, milliseconds=33.0)
    answered(3, answer="unlikely", probability=0.02)

    text = tried(client)
    assert "Of 3 films, 2 would be answered otherwise." in text
    assert "2: “Likely” would be “Unlikely”" in text
    assert reverse("study", args=[study.number]) in page(client)
    assert f"{study.number} Likely (93 %) Unlikely (0 %) not read" in text
    assert f"{OLD} {NEW} With pneumonia: found" in text
    assert "Time for a film (median) 33 ms" in text
    assert actions() == ["update_verified", "update_tried"]
    assert clinic.answering == OLD


def test_both_are_held_against_the_clinics_own_blind_readings(clinic, client):
    take(client, clinic.update(calibration=NEVER_LIKELY))
    reader = enter("clinician")
    for study, conclusion in zip(answered(1, 2), ("pneumonia", "no_pneumonia"), strict=True):
        Reading.objects.create(study=study, by=reader, conclusion=conclusion, before_answer=True)

    text = tried(client)
    assert "With pneumonia: found 1 of 1 0 of 1" in text
    assert "Without: cleared 0 of 1 1 of 1" in text


@pytest.mark.parametrize(
    ("asked", "total"), [("2", 2), ("0", 1), ("", 3), ("many", 3), ("999999", 3), ("-1", 3)]
)
def test_as_many_films_are_tried_as_were_asked_for(clinic, client, asked, total):
    take(client, clinic.update())
    answered(1, 2, 3)
    tried(client, films=asked)
    assert shadow.run.trial.total == total


def test_without_any_film_there_is_nothing_to_try(clinic, client):
    take(client, clinic.update())
    assert "No film has been answered here yet." in do(client, "update-try")


def test_while_it_runs_the_page_renews_itself_and_can_stop_it(clinic, client, monkeypatch):
    import threading

    let_go, real = threading.Event(), shadow._answer
    monkeypatch.setattr(shadow, "_answer", lambda *film: (let_go.wait(30), real(*film))[1])
    take(client, clinic.update())
    answered(1, 2)
    do(client, "update-try")
    html = page(client)
    shadow.run._cancel.set()
    let_go.set()

    assert '<meta http-equiv="refresh" content="2">' in html
    assert "0 of 2 films are tried." in text_of(html)
    assert "Try on our last films" not in html
    text = do(client, "update-cancel")
    assert "The trial did not come to its end: 1 of 2 films were tried." in text
    assert "Try on our last films" in text


def test_a_study_that_was_deleted_since_is_not_shown(clinic, client, administrator):
    take(client, clinic.update(calibration=NEVER_LIKELY))
    gone, _ = answered(1, 2)
    tried(client)
    gone.delete_for("wrong patient", administrator)

    text = told(client)
    assert gone.number not in text
    assert "On 1 film, 1 would be answered otherwise." in text


def test_a_trial_of_another_update_is_not_shown(clinic, client):
    take(client, clinic.update())
    answered(1)
    tried(client)
    do(client, "update-discard")
    assert "would be answered otherwise" not in take(client, clinic.update("3.0.0"))


# --- decided ------------------------------------------------------------------------------------


def test_installed_it_answers_and_old_findings_keep_their_model(clinic, client, administrator):
    take(client, clinic.update())
    (study,) = answered(1)
    tried(client)

    text = do(client, "update-install")
    assert f"The model {NEW} answers from the next film on." in text
    assert clinic.answering == NEW
    assert list(Finding.objects.values_list("model", flat=True)) == [OLD]
    assert study.instances.get().state == "answered"
    assert actions() == ["update_verified", "update_tried", "update_decided", "update_installed"]
    decided = AuditEvent.objects.get(action="update_decided")
    assert decided.user == administrator
    assert decided.details == {"release": NEW, "tried": {"films": 1, "flips": 0}, "reason": ""}


def test_one_click_goes_back(clinic, client):
    take(client, clinic.update())
    assert f"Go back to {OLD}" in do(client, "update-install")

    text = do(client, "update-go-back")
    assert f"The model {OLD} answers now." in text
    assert clinic.answering == OLD
    assert actions()[-1] == "update_gone_back"


def test_there_may_be_nothing_to_go_back_to(clinic, client):
    assert "There is no model before this one" in do(client, "update-go-back")


def test_discarded_it_is_gone_and_the_model_stays(clinic, client):
    take(client, clinic.update())

    assert "Discarded. The model in use stays." in do(client, "update-discard")
    assert waiting(clinic.data) == []
    assert clinic.answering == OLD
    assert AuditEvent.objects.get(action="update_discarded").details == {"release": "tiny-2.0.0"}


@pytest.mark.parametrize("name", ["update-install", "update-discard", "update-try"])
def test_without_an_update_there_is_nothing_to_do(clinic, client, name):
    assert f"The model {OLD} answers now." in do(client, name)
    assert actions() == []


def test_an_update_that_was_never_tried_here_is_tried_before_it_answers(
    clinic, client, monkeypatch
):
    case = {"file": "self_test/film.png", "logit": 9.0, "tolerance": 0.01}
    with monkeypatch.context() as power_cut:
        power_cut.setattr("app.updates.install._tried", lambda release: release)
        take(client, clinic.update(self_test=[case]))

    assert "does not give the right answers" in do(client, "update-install")
    assert clinic.answering == OLD


def test_a_threshold_of_the_clinics_own_is_said_to_lapse(clinic, client, administrator):
    point = OperatingPoint(threshold=0.6, lower=0.5, upper=0.7)
    LocalOperatingPoint.apply(OLD, "under_5", point, {}, administrator)

    text = take(client, clinic.update())
    assert "This clinic's own thresholds (under 5 years) belong to the present model" in text
    do(client, "update-install")
    assert checks.model.release.local.in_force == {}
    do(client, "update-go-back")
    assert list(checks.model.release.local.in_force) == ["under_5"]


def test_what_answers_already_is_not_offered_again(clinic, client):
    file = clinic.update()
    take(client, file)
    do(client, "update-install")

    text = take(client, file)
    assert "This model answers here already." in text
    assert "Discard" in text
    assert f"Install {NEW}" not in text


# --- a clock that is wrong ----------------------------------------------------------------------


@pytest.fixture
def expired(clinic, client, monkeypatch) -> Clinic:
    """An update that waits and was to be installed in another year."""
    long_ago = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    monkeypatch.setitem(clinic.publisher.expires, "timestamp", long_ago)
    take(client, clinic.update())
    return clinic


def test_an_expired_update_says_so_and_asks_for_a_reason(expired, client):
    html = page(client)
    assert "This update was meant to be installed before" in html
    assert 'name="despite" value="expired" required' in html
    assert 'name="reason" maxlength="500" required' in html


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({}, "was meant to be installed before"),
        ({"reason": "clock"}, "was meant to be installed before"),
        ({"despite": "expired"}, "Write down why"),
        ({"despite": "expired", "reason": "  "}, "Write down why"),
        ({"despite": "unknown_key", "reason": "clock"}, "was meant to be installed before"),
    ],
)
def test_it_is_not_installed_without_both(expired, client, sent, said):
    assert said in do(client, "update-install", **sent)
    assert expired.answering == OLD


def test_an_administrator_overrides_it_by_name_and_reason(expired, client, administrator):
    do(client, "update-install", despite="expired", reason="The battery of the clock is dead.")

    assert expired.answering == NEW
    override = AuditEvent.objects.get(action="update_override")
    assert (override.user, override.details["despite"]) == (administrator, ["expired"])
    decided = AuditEvent.objects.get(action="update_decided")
    assert decided.details["reason"] == "The battery of the clock is dead."


# --- asked again --------------------------------------------------------------------------------


def test_after_the_switch_a_study_can_be_analysed_again_one_by_one(clinic, client):
    take(client, clinic.update(calibration=NEVER_LIKELY))
    first, second = answered(1, 2)
    assert "Analyse again" not in tried(client)
    do(client, "update-install")
    again = reverse("update-again", args=[first.number])
    assert again in page(client)

    client.post(again)
    assert first.instances.get().state == "waiting"
    assert second.instances.get().state == "answered"
    assert Finding.objects.filter(instance__study=first).get().model == OLD


def test_a_study_that_the_model_in_use_answered_is_not_queued(clinic, client):
    (study,) = answered(1)
    client.post(reverse("update-again", args=[study.number]))
    assert study.instances.get().state == "answered"


def test_active_json_names_both(clinic, client):
    take(client, clinic.update())
    do(client, "update-install")
    active = read_active(clinic.data)
    assert (active["release"], active["previous"]) == ("releases/tiny-2.0.0", "factory")
