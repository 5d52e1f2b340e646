"""Readings leave for the publisher on a page: prepared, looked at, then sent; without a script."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from PIL import Image, ImageDraw, ImageFont

from app import contribution_run, contributions
from app.contribution_run import ContributionRun
from app.contributions import NotExported
from app.models import AuditEvent, Patient, Reading, Study
from app.updates import sticks
from tests.films import encode
from tests.people import browser
from tests.studies import answered, stored
from tests.test_export_readings import (
    opened,
    publisher,
    read_study,
    reader,
    records,
    stick,
)

__all__ = ["publisher", "reader", "stick"]

# What prepares and writes has a connection of its own
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("data_dir")]

ACTIONS = [f"contribution-{one}" for one in ("prepare", "write", "save", "discard")]


@pytest.fixture(autouse=True)
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[ContributionRun]:
    made = ContributionRun()
    monkeypatch.setattr(contribution_run, "run", made)
    yield made
    made.wait()
    made.discard()


@pytest.fixture(autouse=True)
def drives(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is plugged in: nothing, until a test puts something here."""
    found: list[Path] = []
    monkeypatch.setattr(sticks, "drives", lambda: found)
    return found


def text_of(html: str) -> str:
    text = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    return text.replace("&#x27;", "'").replace("&quot;", '"')


def told(client: Client) -> str:
    response = client.get(reverse("contributions"))
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    return text_of(response.content.decode())


def do(client: Client, run: ContributionRun, name: str, **sent: Any) -> str:
    """Send a form of the page; what the page says once nothing goes on."""
    assert client.post(reverse(name), sent).status_code == 302
    run.wait()
    return told(client)


def prepare(client: Client, run: ContributionRun, **sent: Any) -> str:
    return do(client, run, "contribution-prepare", **({"limit": "100"} | sent))


def left() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(action="readings_exported").order_by("pk"))


def page_of_text() -> bytes:
    page = Image.new("L", (700, 700), 255)
    for top in range(0, 700, 24):
        ImageDraw.Draw(page).text((5, top), "SECRET " * 9, font=ImageFont.load_default(size=16))
    return encode(page, "PNG")


# --- who may ------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["clinician", "health_worker", "read_only"])
def test_nobody_but_administrators_sees_or_does_anything(site, publisher, reader, role, run):
    read_study(reader)
    other = browser(role)
    assert other.get(reverse("contributions")).status_code == 403
    assert [other.post(reverse(name)).status_code for name in ACTIONS] == [403] * 4
    assert run.prepared is None
    assert reverse("contributions") not in other.get("/").content.decode()


def test_administrators_find_it_among_the_settings(client):
    assert f'href="{reverse("contributions")}"' in client.get(reverse("site")).content.decode()


@pytest.mark.parametrize("name", ACTIONS)
def test_looking_does_nothing(client, name):
    assert client.get(reverse(name)).status_code == 405


# --- nothing to send ----------------------------------------------------------------------------


def test_where_no_patient_agreed_it_says_what_to_do(client, publisher):
    answered()
    text = told(client)
    assert "No patient has agreed yet." in text
    assert "“May the program learn from these films?”" in text
    assert "Prepare the file" not in text


def test_where_the_agreed_are_not_read_it_says_so(client, publisher):
    answered().change({"consent_for_learning": True}, None)
    text = told(client)
    assert "Studies whose patient agreed 1 Of these, not read by anybody yet 1" in text
    assert "A film leaves once somebody has written down a reading of it." in text
    assert "Prepare the file" not in text


@pytest.mark.parametrize(
    ("content", "words"), [(None, "has no publisher to send to"), ("age1nonsense", "is damaged")]
)
def test_a_program_without_a_usable_key_says_so(
    client, reader, tmp_path, monkeypatch, run, content, words
):
    key = tmp_path / "none.pub"
    if content:
        key.write_text(content, encoding="ascii")
    monkeypatch.setattr(contributions, "PUBLISHER_KEY", key)
    read_study(reader)
    text = told(client)
    assert words in text
    assert "Prepare the file" not in text
    assert words in prepare(client, run)
    assert run.prepared is None


# --- before -------------------------------------------------------------------------------------


def test_it_counts_what_would_leave_and_why(client, publisher, reader):
    read_study(reader, 1, probability=0.99)
    read_study(reader, 2, "no_pneumonia", probability=0.99)
    read_study(reader, 3, probability=0.45)
    read_study(reader, 4, consent=False)
    text = told(client)
    assert "Studies whose patient agreed 3" in text
    assert "Films that can leave now 3" in text
    assert "Reader and computer disagree 1 The computer could not say 0" in text
    assert "Close to the threshold 1 All others 1" in text


def test_it_is_honest_about_what_can_be_missed(client):
    text = told(client)
    assert "Missed can be: faint, blurred or written text" in text
    assert "like a fingerprint" in text


# --- prepared -----------------------------------------------------------------------------------


def test_prepared_it_shows_what_leaves_and_nothing_has_left(
    client, publisher, reader, run, drives, stick
):
    drives.append(stick)
    read_study(reader)
    text = prepare(client, run)
    assert "1 film, encrypted: only the publisher can open the file." in text
    assert "Nothing has left yet." in text
    assert "Films: 1, of 1 studies and 1 patients." in text
    assert f'"film": "{run.prepared.contribution.records[0]["film"]}"' in text
    assert left() == []
    assert contributions.sent() == {}
    assert list(stick.iterdir()) == []


def test_the_summary_shows_no_identity(client, publisher, reader, run):
    study = read_study(reader)
    patient = Patient.enter({"name": "Okello Grace", "number": "P-77"}, None)
    study.change({"patient": patient, "note": "lives by the lake"}, None)
    html = (prepare(client, run), client.get(reverse("contributions")).content.decode())[1]
    shown = html.partition("<pre")[2].partition("</pre>")[0]
    assert "Films: 1" in shown
    film = study.instances.get()
    for secret in ("Okello", "P-77", "lake", study.number, film.sha256, film.file_name):
        assert secret not in shown
    assert f"{study.created_at:%Y-%m-%d}" not in shown


def test_disagreement_comes_first_where_only_some_may_leave(client, publisher, reader, run):
    read_study(reader, 1, probability=0.99)
    opposed = read_study(reader, 2, "no_pneumonia", probability=0.99)
    prepare(client, run, limit="1")
    assert list(run.prepared.contribution.sent) == [str(opposed.instances.get().pk)]
    assert [one["why"] for one in run.prepared.contribution.records] == ["disagreement"]


@pytest.mark.parametrize(("limit", "films"), [("2", 2), ("0", 1), ("", 3), ("many", 3)])
def test_whatever_is_typed_as_a_limit_is_a_limit(client, publisher, reader, run, limit, films):
    for seed in (1, 2, 3):
        read_study(reader, seed)
    prepare(client, run, limit=limit)
    assert len(run.prepared.contribution.records) == films


def test_it_says_what_stays_and_why(client, publisher, reader, run):
    read_study(reader, 1)
    read_study(reader, content=page_of_text())
    stored(read_study(reader, 3).instances.get()).unlink()
    text = prepare(client, run)
    assert "1 film stays here: text may be left in it." in text
    assert "1 film stays here: it is damaged or not there any more." in text


def test_where_text_keeps_every_film_it_says_so(client, publisher, reader, run):
    read_study(reader, content=page_of_text())
    text = prepare(client, run)
    assert "There is nothing new to send" in text
    assert "1 film stays here: text may be left in it." in text
    assert run.prepared is None


def test_discarded_nothing_is_left_on_the_disk_or_on_record(
    client, publisher, reader, run, settings
):
    read_study(reader)
    prepare(client, run)
    assert len(list(settings.TEMPORARY_DIR.iterdir())) == 1
    text = do(client, run, "contribution-discard")
    assert "Films that can leave now 1" in text
    assert list(settings.TEMPORARY_DIR.iterdir()) == []
    assert left() == []


def test_the_page_does_not_wait_and_shows_how_far_it_is(
    client, publisher, reader, run, monkeypatch
):
    """The second film waits for this test, and the page answers meanwhile."""
    for seed in (1, 2, 3):
        read_study(reader, seed)
    reached, go_on = threading.Event(), threading.Event()
    without_text, count = contributions.without_text, iter(range(9))

    def slow(pixels):
        if next(count) == 1:
            reached.set()
            assert go_on.wait(60)
        return without_text(pixels)

    monkeypatch.setattr(contributions, "without_text", slow)
    assert client.post(reverse("contribution-prepare"), {"limit": "9"}).status_code == 302
    assert reached.wait(60)
    html = client.get(reverse("contributions")).content.decode()
    assert '<meta http-equiv="refresh" content="2">' in html
    assert "1 of 3 films are prepared." in text_of(html)
    # Neither a second one nor a download comes in between
    assert not run.prepare(5, everything=True)
    assert client.post(reverse("contribution-save")).status_code == 302

    stopping = threading.Timer(0.2, go_on.set)
    stopping.start()
    text = do(client, run, "contribution-discard")
    stopping.join()
    assert run.prepared is None
    assert "Films that can leave now 3" in text


def test_a_fault_of_the_program_is_said_and_holds_up_nothing(
    client, publisher, reader, run, monkeypatch, caplog
):
    read_study(reader)

    def fail(*_args: object) -> None:
        raise RuntimeError("SECRET")

    with monkeypatch.context() as patch:
        patch.setattr(contributions, "without_text", fail)
        assert "The program itself failed at this." in prepare(client, run)
    assert "the contribution broke off" in caplog.text
    assert "SECRET" not in caplog.text
    assert "The file is ready" in prepare(client, run)


# --- to a stick ---------------------------------------------------------------------------------


def write(client: Client, run: ContributionRun, drive: Path) -> str:
    return do(client, run, "contribution-write", stick=str(drive))


def test_it_leaves_to_a_stick_whole_and_on_record(
    client, administrator, publisher, reader, run, drives, stick
):
    drives.append(stick)
    read_study(reader)
    assert str(stick) in prepare(client, run)
    text = write(client, run, stick)
    [file] = stick.iterdir()
    assert re.fullmatch(r"readings-\d{4}-\d\d-\d\d\.clinicreadings", file.name)
    assert f"It left as {file} ." in text
    assert records(opened(file, publisher)) == run.prepared.contribution.records
    [event] = left()
    assert event.user == administrator
    assert event.details["file"] == file.name
    assert event.details["films"] == 1
    assert "What left before When Who File Films Stayed here" in text
    assert file.name in text


def test_a_second_export_has_nothing_new(client, publisher, reader, run, drives, stick):
    drives.append(stick)
    read_study(reader)
    prepare(client, run)
    write(client, run, stick)
    text = do(client, run, "contribution-discard")
    assert "Films that left before 1 Films that can leave now 0" in text
    assert "There is nothing new to send" in prepare(client, run)
    assert "1 film, encrypted" in prepare(client, run, everything="on")


def test_a_name_that_is_taken_gets_a_number(client, publisher, reader, run, drives, stick):
    drives.append(stick)
    read_study(reader)
    prepare(client, run)
    write(client, run, stick)
    write(client, run, stick)
    names = sorted(file.name for file in stick.iterdir())
    assert names == [names[1].replace(".", "-2."), names[1]]
    assert len(left()) == 2


def test_only_a_stick_that_the_program_sees_is_written_to(client, publisher, reader, run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    read_study(reader)
    text = prepare(client, run)
    assert "No stick with room for it was found." in text
    response = client.post(
        reverse("contribution-write"), {"stick": str(elsewhere)}, follow=True
    ).content.decode()
    run.wait()
    assert "The stick is not there any more." in text_of(response)
    assert list(elsewhere.iterdir()) == []
    assert left() == []


def test_a_stick_without_room_or_write_protected_is_not_offered(
    client, publisher, reader, run, drives, stick, monkeypatch
):
    drives.append(stick)
    read_study(reader)
    assert str(stick) in prepare(client, run)
    with monkeypatch.context() as patch:
        patch.setattr(sticks.os, "access", lambda _path, _how: False)
        assert str(stick) not in told(client)
    with monkeypatch.context() as patch:
        full = type("Usage", (), {"free": 10})
        patch.setattr(sticks.shutil, "disk_usage", lambda _path: full)
        assert str(stick) not in told(client)
    drives.append(stick / "gone")
    assert str(stick / "gone") not in told(client)


def test_a_stick_that_gives_up_has_its_words_and_the_file_stays_here(
    client, publisher, reader, run, drives, stick, monkeypatch
):
    drives.append(stick)
    read_study(reader)
    prepare(client, run)

    def gone(*_args: object) -> None:
        raise OSError(5, "gone")

    with monkeypatch.context() as patch:
        patch.setattr(contributions.os, "fsync", gone)
        text = write(client, run, stick)
    assert "the stick is full, gone or write-protected" in text
    assert "Nothing has left yet." in text
    assert list(stick.iterdir()) == []
    assert left() == []
    assert "It left as" in write(client, run, stick)


@pytest.mark.parametrize("how", ["withdrawn", "deleted"])
def test_consent_that_is_taken_back_meanwhile_keeps_the_file_here(
    client, publisher, reader, run, drives, stick, how, administrator
):
    drives.append(stick)
    study = read_study(reader)
    prepare(client, run)
    if how == "withdrawn":
        study.change({"consent_for_learning": False}, None)
    else:
        Study.objects.get(pk=study.pk).delete_for("asked for it", administrator)
    text = write(client, run, stick)
    assert "A patient in this file does not agree any more" in text
    assert list(stick.iterdir()) == []
    response = client.post(reverse("contribution-save"), follow=True)
    assert "does not agree any more" in text_of(response.content.decode())
    assert left() == []


# --- by the browser -----------------------------------------------------------------------------


def test_the_browser_saves_it_and_that_is_on_record(
    client, administrator, publisher, reader, run, tmp_path
):
    read_study(reader)
    prepare(client, run)
    response = client.post(reverse("contribution-save"))
    assert response["Content-Type"] == "application/octet-stream"
    assert re.search(
        r'attachment; filename="readings-[\d-]+\.clinicreadings"', str(response.headers)
    )
    file = tmp_path / "saved"
    file.write_bytes(b"".join(response.streaming_content))
    assert records(opened(file, publisher)) == run.prepared.contribution.records
    [event] = left()
    assert (event.user, event.details["films"]) == (administrator, 1)
    assert "It left as" in told(client)
    assert list(contributions.sent()) == list(run.prepared.contribution.sent)


@pytest.mark.parametrize("name", ["contribution-save", "contribution-write"])
def test_without_a_prepared_file_nothing_leaves(client, publisher, reader, run, name):
    read_study(reader)
    assert "Films that can leave now 1" in do(client, run, name)
    assert left() == []


def test_a_prepared_file_that_is_gone_is_said(client, publisher, reader, run):
    read_study(reader)
    prepare(client, run)
    run.prepared.file.unlink()
    response = client.post(reverse("contribution-save"), follow=True)
    assert "The file could not be made" in text_of(response.content.decode())
    assert left() == []


def test_a_new_reading_makes_a_film_leave_again(client, publisher, reader, run):
    study = read_study(reader)
    prepare(client, run)
    client.post(reverse("contribution-save"))
    do(client, run, "contribution-discard")
    Reading.record(study, reader, conclusion="no_pneumonia", kind="diagnosis")
    assert "Films that can leave now 1 Reader and computer disagree 1" in told(client)


def test_every_reason_has_words():
    from app.templatetags.contributions import WHYS

    assert set(WHYS) == set(contributions.WHY)


def test_a_cancelled_preparation_leaves_no_file(publisher, reader, settings):
    read_study(reader)

    def stop(_done: int, _total: int) -> None:
        raise NotExported("cancelled")

    with pytest.raises(NotExported, match="cancelled"):
        contributions.prepare(watch=stop)
    assert list(settings.TEMPORARY_DIR.iterdir()) == []
