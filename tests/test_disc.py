"""Films on a disc or stick: found, chosen and taken in, whatever becomes of it meanwhile."""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from app import disc, intake
from app.disc import DONE, FAILED, FULL, GONE, STOPPED, Finder, Run
from app.folder_words import TAKING
from app.models import AuditEvent, Instance, Study
from app.updates import sticks
from model_export.phantom import chest_film
from tests.films import dicom
from tests.people import browser
from tests.studies import film_bytes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("data_dir")]


class Stick:
    """What is plugged in, and the hands that pull it out."""

    def __init__(self, path: Path) -> None:
        self.path, self.whole = path, b""
        path.mkdir()

    def put(self, name: str, content: bytes | None = None) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(film_bytes(len(name)) if content is None else content)
        return path

    def pull(self) -> None:
        self.path.rename(self.path.with_name("pulled"))
        self.path.mkdir()


@pytest.fixture
def stick(tmp_path, monkeypatch, site) -> Iterator[Stick]:
    found = Stick(tmp_path / "stick")
    monkeypatch.setattr(sticks, "drives_and_discs", lambda: [found.path])
    monkeypatch.setattr(disc, "SECONDS_TO_WAIT", 60)
    monkeypatch.setattr(disc, "finder", Finder())
    monkeypatch.setattr(disc, "run", Run())
    monkeypatch.setattr(
        disc,
        "lookout",
        sticks.Lookout(lambda: any(disc.has_films(p) for p in sticks.drives_and_discs())),
    )
    yield found
    disc.run.stop()
    disc.finder.wait()
    disc.lookout.wait()


def folders_of(stick: Stick) -> dict[str, list[str]]:
    groups = disc.drive_of(stick.path).groups
    return {group.folder: [file.name for file in group.files] for group in groups}


# --- without a list -----------------------------------------------------------------------------


def test_each_folder_with_pictures_is_told(stick):
    for name in ("a.png", "okello/1.jpg", "okello/2.DCM", "okello/deep/IM3.tiff", "letters/x.pdf"):
        stick.put(name)
    assert folders_of(stick) == {
        "": ["a.png"],
        "okello": ["1.jpg", "2.DCM"],
        "okello/deep": ["IM3.tiff"],
    }


def test_a_file_without_an_ending_is_looked_into(stick):
    stick.put("IM000001", dicom(chest_film(1, (64, 64))))
    stick.put("1.2.840.113619.2", dicom(chest_film(2, (64, 64))))
    stick.put("README", b"words")
    stick.put("letter.doc", dicom(chest_film(3, (64, 64))))
    assert folders_of(stick) == {"": ["1.2.840.113619.2", "IM000001"]}


@pytest.mark.parametrize(
    "name", [".Trashes/a.png", "._a.png", "System Volume Information/a.png", "a.png.part"]
)
def test_what_systems_leave_on_sticks_is_no_film(stick, name):
    stick.put(name)
    assert disc.look() == ()


def test_a_link_leads_nowhere(stick, tmp_path):
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "a.png").write_bytes(film_bytes())
    (stick.path / "link").symlink_to(tmp_path / "private")
    assert disc.look() == ()


def test_no_more_is_looked_at_than_there_is_patience_for(stick, monkeypatch):
    monkeypatch.setattr(disc, "MOST_FILES", 10)
    monkeypatch.setattr(disc, "MOST_FOLDERS", 3)
    for number in range(30):
        stick.put(f"{number}/a.png")
    drive = disc.drive_of(stick.path)
    assert len(drive.groups) == 3


def test_a_drive_that_cannot_be_read_holds_nothing(stick):
    stick.path.rmdir()
    assert disc.look() == ()
    assert not disc.has_films(stick.path)


NOTICED = [
    ("DICOMDIR", True),
    ("dicomdir", True),
    ("export/DICOMDIR", True),
    ("chest.dcm", True),
    ("okello/chest.DCM", True),
    ("holiday/beach.jpg", False),
    ("letter.pdf", False),
    (".hidden.dcm", False),
]


@pytest.mark.parametrize(("name", "noticed"), NOTICED)
def test_a_disc_of_films_is_noticed_and_somebodys_photographs_are_not(stick, name, noticed):
    stick.put(name)
    assert disc.has_films(stick.path) is noticed


# --- taking in ----------------------------------------------------------------------------------


def take_in(files: list[Path], by: Any) -> disc.Progress:
    assert disc.run.start(files, by)
    disc.run.wait()
    assert disc.run.progress
    return disc.run.progress


def test_films_come_in_by_whoever_took_them_in(stick, administrator):
    files = [stick.put(f"{n * 'x'}.png") for n in (1, 2, 3)]
    found = take_in(files, administrator)
    assert (found.state, found.taken, found.known, found.faults) == (DONE, 3, 0, ())
    assert {film.source for film in Instance.objects.all()} == {"disc"}
    received = AuditEvent.objects.filter(action="film_received")
    assert {event.user for event in received} == {administrator}
    assert all(path.is_file() for path in files), "the disc keeps its films"


def test_films_that_are_here_already_are_known(stick, administrator):
    file = stick.put("a.png")
    take_in([file], administrator)
    found = take_in([file], administrator)
    assert (found.taken, found.known) == (0, 1)
    assert Instance.objects.count() == 1


def test_a_sector_that_cannot_be_read_costs_one_film(stick, administrator, monkeypatch):
    files = [stick.put(f"{name}.png") for name in ("a", "bad", "ccc")]
    opened = Path.open

    def scratched(path: Path, *args: Any, **more: Any) -> Any:
        if path.name == "bad.png":
            raise OSError(errno.EIO, "a scratch")
        return opened(path, *args, **more)

    monkeypatch.setattr(Path, "open", scratched)
    found = take_in(files, administrator)
    assert found.state == DONE
    assert found.taken == 2
    assert found.faults == (("bad.png", "read_failed", ()),)


@pytest.mark.parametrize("how", ["empty", "away"])
def test_a_stick_that_is_pulled_ends_it_and_what_came_in_stays(
    stick, administrator, monkeypatch, how
):
    files = [stick.put(f"{n * 'x'}.png") for n in (1, 2, 3)]
    receive = intake.receive

    def then_pulled(*args: Any) -> Any:
        receipt = receive(*args)
        stick.pull()
        if how == "away":
            monkeypatch.setattr(sticks, "drives_and_discs", list)
        return receipt

    with monkeypatch.context() as hands:
        hands.setattr(intake, "receive", then_pulled)
        assert disc.run.start(files, administrator)
        disc.run.wait()
    found = disc.run.progress
    assert found
    assert (found.state, found.taken, found.left) == (GONE, 1, 2)
    assert Instance.objects.count() == 1


@pytest.mark.parametrize(("code", "state"), [("disk_full", FULL), ("cannot_store", FAILED)])
def test_a_computer_that_cannot_store_ends_it(stick, administrator, monkeypatch, code, state):
    def refuse(*_args: Any) -> Any:
        raise intake.Rejected(code)

    monkeypatch.setattr(intake, "receive", refuse)
    found = take_in([stick.put("a.png"), stick.put("b.png")], administrator)
    assert (found.state, found.left) == (state, 2)


def test_what_is_turned_away_is_told_file_by_file(stick, administrator, monkeypatch):
    monkeypatch.setattr(disc, "MOST_FAULTS", 2)
    files = [stick.put(f"{n}.png", b"") for n in range(5)]
    found = take_in([*files, stick.put("a.png")], administrator)
    assert [code for _name, code, _details in found.faults] == ["empty", "empty"]
    assert (found.more_faults, found.taken, found.left) == (3, 1, 0)


def test_something_unforeseen_ends_it_with_a_word(stick, administrator, monkeypatch, caplog):
    def broken(*_args: Any) -> Any:
        raise RuntimeError("Okello Grace")

    monkeypatch.setattr(intake, "receive", broken)
    assert take_in([stick.put("a.png")], administrator).state == FAILED
    assert "Okello" not in caplog.text


def test_it_can_be_stopped_and_only_one_goes_at_a_time(stick, administrator, monkeypatch):
    files = [stick.put(f"{n * 'x'}.png") for n in (1, 2, 3)]
    began, goes_on = threading.Event(), threading.Event()
    receive = intake.receive

    def slow(*args: Any) -> Any:
        began.set()
        goes_on.wait(60)
        return receive(*args)

    monkeypatch.setattr(intake, "receive", slow)
    assert disc.run.start(files, administrator)
    assert began.wait(60)
    assert not disc.run.start(files, administrator)
    disc.run._stop.set()
    goes_on.set()
    disc.run.wait()
    assert disc.run.progress
    assert (disc.run.progress.state, disc.run.progress.taken) == (STOPPED, 1)


def test_every_end_has_its_sentence():
    assert set(TAKING) == {DONE, STOPPED, GONE, FULL, FAILED}


# --- the page -----------------------------------------------------------------------------------


def text_of(response: Any) -> str:
    words = re.sub(r"<[^>]+>", " ", response.content.decode())
    return " ".join(words.replace("&#x27;", "'").split())


def look(client: Any) -> str:
    disc.finder.forget()
    return text_of(client.get(reverse("disc")))


def keys(client: Any) -> list[str]:
    html = client.get(reverse("disc")).content.decode()
    return [key.replace("&amp;", "&") for key in re.findall(r'name="group" value="([^"]+)"', html)]


def test_without_a_disc_the_page_says_what_to_do(stick, client):
    assert "No disc or stick with films is in this computer now." in look(client)


def test_the_page_shows_folders_and_takes_in_what_is_ticked(stick, client):
    stick.put("okello/a.png")
    stick.put("nakato/b.png")
    shown = look(client)
    assert "okello" in shown
    assert "2 pictures" in shown
    okello = next(key for key in keys(client) if key.endswith("okello"))
    client.post(reverse("disc-take"), {"group": [okello]})
    disc.run.wait()
    assert Instance.objects.get().file_name == "a.png"
    shown = look(client)
    assert str(TAKING["done"]) in shown
    assert "New films 1" in shown


def test_a_path_that_the_page_did_not_show_is_not_taken(stick, client, tmp_path):
    (tmp_path / "private.png").write_bytes(film_bytes())
    stick.put("a.png")
    look(client)
    for key in (str(tmp_path), str(tmp_path / "private.png"), f"{stick.path}|.."):
        response = client.post(reverse("disc-take"), {"group": [key]}, follow=True)
        assert "Choose once more." in text_of(response)
    assert not Instance.objects.exists()


def test_nothing_ticked_is_said(stick, client):
    stick.put("a.png")
    look(client)
    response = client.post(reverse("disc-take"), follow=True)
    assert "Choose what is to be taken in first." in text_of(response)


def test_while_films_come_in_the_page_says_how_far_that_is(stick, client, monkeypatch):
    stick.put("a.png")
    look(client)
    goes_on = threading.Event()
    receive = intake.receive
    monkeypatch.setattr(
        intake, "receive", lambda *args: receive(*args) if goes_on.wait(60) else None
    )
    client.post(reverse("disc-take"), {"group": keys(client)})
    response = client.get(reverse("disc"))
    assert "0 of 1 files." in text_of(response)
    assert b'http-equiv="refresh"' in response.content
    assert 'name="group"' not in response.content.decode()
    goes_on.set()
    client.post(reverse("disc-stop"))
    assert disc.run.progress
    assert not disc.run.progress.is_running


def test_the_page_says_which_films_were_not_taken_in(stick, client):
    stick.put("<b>empty.png", b"")
    look(client)
    client.post(reverse("disc-take"), {"group": keys(client)})
    disc.run.wait()
    response = client.get(reverse("disc"))
    assert "The file is empty." in text_of(response)
    assert b"<b>empty" not in response.content


def test_a_disc_that_begins_to_turn_is_not_waited_for(stick, client, monkeypatch):
    stick.put("a.png")
    turns = threading.Event()
    look_at = disc.look
    monkeypatch.setattr(disc, "look", lambda: look_at() if turns.wait(60) else ())
    monkeypatch.setattr(disc, "SECONDS_TO_WAIT", 0.01)
    response = client.get(reverse("disc"))
    assert "are being looked at" in text_of(response)
    assert b'http-equiv="refresh"' in response.content
    turns.set()
    disc.finder.wait()
    assert "1 picture" in text_of(client.get(reverse("disc")))


def test_a_look_that_breaks_finds_nothing(stick, client, monkeypatch):
    def broken() -> Any:
        raise RuntimeError

    monkeypatch.setattr(disc, "look", broken)
    assert "No disc or stick with films" in look(client)


def test_look_again_looks_again(stick, client):
    assert "No disc or stick" in look(client)
    stick.put("a.png")
    assert "No disc or stick" in text_of(client.get(reverse("disc")))
    response = client.get(reverse("disc"), {"again": "1"}, follow=True)
    assert "1 picture" in text_of(response)


def test_the_worklist_tells_of_a_disc(stick, client):
    stick.put("DICOMDIR", b"a list")
    client.get(reverse("worklist"))
    disc.lookout.wait()
    assert "A disc or stick with films was found." in text_of(client.get(reverse("worklist")))


def test_who_may_not_take_in_films_is_told_of_none(stick):
    stick.put("DICOMDIR", b"a list")
    reader = browser("read_only")
    reader.get(reverse("worklist"))
    disc.lookout.wait()
    assert "disc or stick" not in text_of(reader.get(reverse("worklist")))
    assert reader.get(reverse("disc")).status_code == 403


def test_a_health_worker_takes_films_in(stick):
    stick.put("a.png")
    worker = browser("health_worker")
    look(worker)
    worker.post(reverse("disc-take"), {"group": keys(worker)})
    disc.run.wait()
    assert Instance.objects.count() == 1


# --- with a list --------------------------------------------------------------------------------


def burn(stick: Stick, *options: str) -> None:
    """Let DCMTK make the list of what lies on the stick."""
    assert shutil.which("dcmmkdir"), "not on this machine (Debian: apt-get install dcmtk)"
    words = ["dcmmkdir", "-q", "--recurse", "--input-directory", str(stick.path), *options]
    subprocess.run([*words, "--output-file", str(stick.path / "DICOMDIR")], check=True)


def film_of(seed: int, **header: Any) -> bytes:
    usual = {
        "PatientID": "P-77",
        "PatientName": "Okello^Grace",
        "StudyDate": "20261101",
        "StudyTime": "0930",
        "StudyID": "1",
        "StudyInstanceUID": "1.2.3.1",
        "SeriesInstanceUID": "1.2.3.1.1",
        "SeriesNumber": "1",
        "InstanceNumber": str(seed),
        "SOPInstanceUID": f"1.2.3.1.1.{seed}",
        "StudyDescription": "Thorax p.a.",
        "Modality": "CR",
    }
    return dicom(chest_film(seed, (64, 64)), **(usual | header))


def of_nakato(seed: int, **more: Any) -> bytes:
    header = {
        "PatientID": "P-9",
        "PatientName": "Müller^Zoë",
        "SpecificCharacterSet": "ISO_IR 100",
        "StudyInstanceUID": "1.2.3.2",
        "SeriesInstanceUID": "1.2.3.2.1",
        "StudyDate": "20251231",
    }
    return film_of(seed, **(header | more))


def test_the_list_tells_patients_and_studies(stick):
    stick.put("FILMS/A1", film_of(1))
    stick.put("FILMS/A2", film_of(2))
    stick.put("FILMS/B1", of_nakato(3))
    burn(stick)
    drive = disc.drive_of(stick.path)
    assert drive.has_list
    assert not drive.problem
    told = [(g.patient, g.number, g.day, g.modality, len(g.files)) for g in drive.groups]
    assert told == [
        ("Müller Zoë", "P-9", date(2025, 12, 31), "CR", 1),
        ("Okello Grace", "P-77", date(2026, 11, 1), "CR", 2),
    ]
    assert drive.groups[0].description == "Thorax p.a."


def test_two_studies_of_one_patient_are_two(stick):
    stick.put("A1", film_of(1))
    later = {"StudyInstanceUID": "1.2.3.9", "SeriesInstanceUID": "1.2.3.9.1", "StudyID": "2"}
    stick.put("A2", film_of(2, **later))
    burn(stick)
    assert [len(group.files) for group in disc.drive_of(stick.path).groups] == [1, 1]


def test_a_film_that_lies_there_but_is_not_listed_is_not_offered(stick):
    stick.put("A1", film_of(1))
    burn(stick)
    stick.put("viewer/logo.png")
    assert [len(group.files) for group in disc.drive_of(stick.path).groups] == [1]


def test_other_pictures_than_films_are_not_ticked(stick):
    stick.put("A1", film_of(1))
    stick.put("C1", of_nakato(2, Modality="MG"))
    burn(stick)
    assert [group.is_likely for group in disc.drive_of(stick.path).groups] == [False, True]


def test_what_is_listed_and_not_there_is_told(stick, client):
    stick.put("A1", film_of(1))
    stick.put("A2", film_of(2))
    burn(stick)
    (stick.path / "A2").unlink()
    assert "1 picture is on the list but not on the disc or stick." in look(client)


@pytest.mark.parametrize("content", [b"", b"no list", bytes(128) + b"DICM" + b"\xff" * 500])
def test_a_list_that_is_damaged_is_told_and_the_folders_are_shown(stick, client, content):
    stick.put("FILMS/A1", film_of(1))
    stick.put("DICOMDIR", content)
    shown = look(client)
    assert "The list on this disc or stick is damaged." in shown
    assert "FILMS" in shown


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_list_with_wrong_bytes_never_breaks_the_look(stick, data):
    if not (stick.path / "DICOMDIR").exists():
        stick.put("A1", film_of(1))
        stick.put("A2", of_nakato(2))
        burn(stick)
        stick.whole = (stick.path / "DICOMDIR").read_bytes()
    spoilt = bytearray(stick.whole)
    for _ in range(data.draw(st.integers(1, 8))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    (stick.path / "DICOMDIR").write_bytes(spoilt)
    for group in disc.drive_of(stick.path).groups:
        assert all(file.is_relative_to(stick.path) for file in group.files)


def test_the_order_of_the_records_does_not_matter(stick):
    """Patients, studies, series and films each together: only the offsets tell who is whose."""
    stick.put("A1", film_of(1))
    stick.put("B1", of_nakato(2))
    burn(stick)
    path = stick.path / "DICOMDIR"
    whole = dcmread(path)
    records = list(whole.DirectoryRecordSequence)
    assert [record.DirectoryRecordType for record in records[:2]] != ["PATIENT", "PATIENT"]
    flat = sorted(
        records,
        key=lambda r: ["PATIENT", "STUDY", "SERIES", "IMAGE"].index(r.DirectoryRecordType),
    )
    _relinked(whole, records, flat, path)
    told = [(g.patient, g.files[0].name) for g in disc.drive_of(stick.path).groups]
    assert told == [("Müller Zoë", "B1"), ("Okello Grace", "A1")]


def _relinked(whole: Any, records: list[Any], flat: list[Any], path: Path) -> None:
    """Write the records in another order, with offsets that are right again."""
    links = ("OffsetOfTheNextDirectoryRecord", "OffsetOfReferencedLowerLevelDirectoryEntity")
    at = {record.seq_item_tell: record for record in records}
    targets = [[at.get(record[link].value) for link in links] for record in flat]
    whole.DirectoryRecordSequence = flat
    whole.save_as(path)
    now = [item.seq_item_tell for item in dcmread(path).DirectoryRecordSequence]
    places = {id(record): place for record, place in zip(flat, now, strict=True)}
    for record, wanted in zip(flat, targets, strict=True):
        for link, target in zip(links, wanted, strict=True):
            record[link].value = places[id(target)] if target is not None else 0
    whole.save_as(path)


def test_a_patient_of_the_list_is_taken_in_and_the_others_are_not(stick, client):
    stick.put("A1", film_of(1))
    stick.put("B1", of_nakato(2))
    burn(stick)
    shown = look(client)
    assert "Müller Zoë" in shown
    assert "1 Nov 2026" in shown
    client.post(reverse("disc-take"), {"group": keys(client)[:1]})
    disc.run.wait()
    film = Instance.objects.get()
    assert (film.file_name, film.study.study_uid) == ("B1", "1.2.3.2")


def test_the_studies_of_a_patient_are_shown_newest_first(stick):
    for number, day in enumerate(["20240101", "20260101", "20250101"], 1):
        uids = {"StudyInstanceUID": f"1.2.{number}", "SeriesInstanceUID": f"1.2.{number}.1"}
        stick.put(f"A{number}", film_of(number, StudyDate=day, StudyID=str(number), **uids))
    burn(stick)
    days = [group.day.year for group in disc.drive_of(stick.path).groups if group.day]
    assert days == [2026, 2025, 2024]


def test_films_of_one_study_on_the_disc_join_one_study(stick, administrator):
    stick.put("A1", film_of(1))
    stick.put("A2", film_of(2))
    burn(stick)
    [group] = disc.drive_of(stick.path).groups
    found = take_in(list(group.files), administrator)
    assert found.taken == 2
    assert Study.objects.count() == 1
