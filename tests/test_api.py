"""Other programs ask: who is let in, what they are told, and what they can never do.

The operations are read off the OpenAPI description, so that one added tomorrow is asked here too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import worker
from app.access import FROM_LAN
from app.api import limits
from app.api.limits import Bucket
from app.api.operations import api, description
from app.api.schemas import WITH_RESULT
from app.cxr.analysis import Analysis, analyse
from app.cxr.model import Model
from app.cxr.release import Release
from app.lan.tries import Tries
from app.management.commands.analyze import result as printed
from app.models import (
    UNFINISHED,
    AuditEvent,
    DeviceToken,
    Instance,
    Patient,
    Reading,
    Role,
    Scope,
    Site,
    State,
    Study,
    User,
)
from app.models.tokens import PREFIX
from tests.people import browser_of, enter
from tests.studies import answered, film_bytes, stored, take_in, turned_down
from tests.tiny_release import make_release

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir", "site")]

#: Operations that any token may use. One that is not here has a right of its own.
ANY_TOKEN = {"health"}
#: What may go over the wire without a token: how to ask.
DOCUMENT = "/api/v1/openapi.json"


@pytest.fixture(autouse=True)
def nobody_has_asked_yet(monkeypatch) -> None:
    limits.uploads.clear()
    limits.requests.clear()
    monkeypatch.setattr(limits, "wrong_tokens", Tries(most=10, seconds=60))


def secret(*scopes: str, name: str = "") -> str:
    return DeviceToken.issue(name or f"records {DeviceToken.objects.count()}", scopes, None)[1]


def machine(*scopes: str, name: str = "", **environ: Any) -> Client:
    """Another program with a token of these rights; without any it has all."""
    held = secret(*(scopes or Scope), name=name)
    return Client(headers={"Authorization": f"Bearer {held}"}, **environ)


def operations() -> list[tuple[str, str, str]]:
    """Name, method and path of every operation."""
    return [
        (operation["operationId"], method.upper(), path)
        for path, found in description()["paths"].items()
        for method, operation in found.items()
    ]


def rights(name: str) -> list[str]:
    (found,) = (
        operation["security"][0]["Token"]
        for paths in description()["paths"].values()
        for operation in paths.values()
        if operation["operationId"] == name
    )
    return list(found)


def call(client: Client, method: str, path: str, **more: Any):
    """Ask with an empty body, about things that may be there."""
    study = Study.objects.first()
    film = Instance.objects.first()
    path = path.replace("{number}", study.number if study else "1")
    path = path.replace("{film}", str(film.pk if film else 1))
    return client.generic(method, path, **more)


def put_in(client: Client, content: bytes | None = None, name: str = "film.png", **said: Any):
    film = SimpleUploadedFile(name, film_bytes() if content is None else content)
    return client.post("/api/v1/films", {"film": film, **said})


def record(client: Client, study: Study, body: Any = None, **said: Any):
    found = {"reader": "clinician", "conclusion": "pneumonia", **said} if body is None else body
    text = found if isinstance(found, str | bytes) else json.dumps(found)
    address = f"/api/v1/studies/{study.number}/readings"
    return client.post(address, text, content_type="application/json")


EVERY_OPERATION = pytest.mark.parametrize(("name", "method", "path"), operations())


class TestWhoIsLetIn:
    def test_the_description_names_the_operations(self):
        assert len({name for name, _, _ in operations()}) == len(operations()) >= 7

    @EVERY_OPERATION
    def test_nobody_without_a_token(self, name, method, path):
        answered()

        response = call(Client(), method, path)
        assert (response.status_code, response.json()["code"]) == (401, "token_missing")
        assert response["WWW-Authenticate"] == "Bearer"

    @EVERY_OPERATION
    @pytest.mark.parametrize("role", Role.values)
    def test_nobody_by_being_logged_in(self, name, method, path, role):
        answered()
        client = browser_of(enter(role))

        assert call(client, method, path).status_code == 401

    @EVERY_OPERATION
    def test_nobody_by_sitting_at_this_computer(self, name, method, path):
        answered()
        Site.objects.update(single_user=True)

        assert Client().get("/").status_code == 200
        assert call(Client(), method, path).status_code == 401

    @EVERY_OPERATION
    @pytest.mark.parametrize("wrong", [PREFIX + "x" * 43, "", "x", "ä" * 50, "x" * 5000])
    def test_nobody_with_a_wrong_token(self, name, method, path, wrong):
        client = Client(headers={"Authorization": f"Bearer {wrong}"})

        assert call(client, method, path).status_code == 401

    @EVERY_OPERATION
    def test_nobody_whose_token_was_ended(self, name, method, path):
        client = machine()
        DeviceToken.objects.get().revoke(by=None)

        response = call(client, method, path)
        assert (response.status_code, response.json()["code"]) == (401, "token_wrong")

    @EVERY_OPERATION
    def test_nobody_with_every_right_but_the_one_it_needs(self, name, method, path):
        answered()
        others = [scope for scope in Scope if scope not in rights(name)]

        response = call(machine(*others), method, path)
        if name in ANY_TOKEN:
            assert response.status_code == 200
        else:
            assert (response.status_code, response.json()["code"]) == (403, "scope_missing")

    @EVERY_OPERATION
    def test_whoever_has_just_the_right_it_needs(self, name, method, path):
        answered()

        response = call(machine(*rights(name) or [Scope.UPLOAD]), method, path)
        assert response.status_code not in (401, 403, 404, 405, 500)

    def test_every_operation_needs_a_right_unless_it_is_named_here(self):
        assert {name for name, _, _ in operations() if not rights(name)} == ANY_TOKEN
        assert {right for name, _, _ in operations() for right in rights(name)} == set(Scope)

    def test_an_operation_that_forgets_to_say_so_asks_for_a_token_all_the_same(self):
        (check,) = api.auth
        assert check.scope is None
        assert Client().get("/api/v1/health").status_code == 401

    def test_the_scheme_is_written_in_any_case_and_other_schemes_are_none(self):
        held = secret(Scope.RESULTS)

        for written, status in (("bearer", 200), ("BEARER", 200), ("Basic", 401), ("Token", 401)):
            client = Client(headers={"Authorization": f"{written} {held}"})
            assert client.get("/api/v1/health").status_code == status, written

    def test_a_token_in_the_address_is_none(self):
        assert Client().get(f"/api/v1/health?token={secret(*Scope)}").status_code == 401

    def test_a_token_holds_over_the_door_for_other_computers_too(self):
        assert machine(**{FROM_LAN: True}).get("/api/v1/health").status_code == 200
        assert Client(**{FROM_LAN: True}).get("/api/v1/health").status_code == 401

    def test_a_request_by_a_foreign_name_is_refused_whatever_its_token(self):
        assert machine().get("/api/v1/health", headers={"Host": "evil"}).status_code == 400

    def test_a_token_opens_no_page(self):
        for name in ("worklist", "people", "tokens"):
            assert machine().get(reverse(name)).status_code == 302


class TestForeignSites:
    """A browser sends cookies to whom it is told to, never a token."""

    def test_a_token_needs_no_form_token(self):
        held = f"Bearer {secret(*Scope)}"
        client = Client(enforce_csrf_checks=True, headers={"Authorization": held})

        assert put_in(client).status_code == 202

    @EVERY_OPERATION
    def test_without_a_token_nothing_is_done_for_a_browser_that_is_logged_in(
        self, administrator, name, method, path
    ):
        """What only reads is refused at the door already (see app.doors)."""
        client = Client(enforce_csrf_checks=True)
        client.force_login(administrator)
        answered()

        response = call(client, method, path, headers={"Origin": "http://elsewhere.example"})
        assert response.status_code == (403 if method == "GET" else 401)
        assert Study.objects.count() == 1

    def test_no_other_site_is_let_read_an_answer(self):
        response = machine().get("/api/v1/health", headers={"Origin": "http://elsewhere.example"})

        assert response.status_code == 403
        assert not [name for name in response.headers if name.startswith("Access-Control")]
        assert "no-store" in response["Cache-Control"]


class TestUpload:
    def test_it_is_stored_and_says_where_its_result_will_be(self):
        response = put_in(machine(Scope.UPLOAD, name="Records, reception"))

        film = Instance.objects.get()
        assert response.status_code == 202
        assert response.json() == {
            "film": film.pk,
            "study": film.study.number,
            "duplicate": False,
            "url": f"/api/v1/films/{film.pk}",
        }
        assert (film.source, film.sender) == ("api", "Records, reception")
        assert stored(film).read_bytes() == film_bytes()

    def test_the_same_film_again_adds_nothing(self):
        client = machine()
        first, again = put_in(client).json(), put_in(client, name="copy.png").json()

        assert again == first | {"duplicate": True}
        assert Instance.objects.count() == 1

    def test_it_joins_a_study(self):
        study = take_in()

        assert put_in(machine(), film_bytes(2), study=study.number).json()["study"] == study.number
        assert study.instances.count() == 2

    @pytest.mark.parametrize("said", [{"age_years": 3}, {"patient_name": "Okello"}])
    def test_a_film_that_joins_a_study_is_of_nobody_else(self, said):
        response = put_in(machine(), film_bytes(2), study=take_in().number, **said)

        assert response.status_code == 422
        assert next(iter(said)) in response.json()["message"]
        assert Instance.objects.count() == 1

    def test_it_does_not_join_a_study_that_is_not_there(self):
        response = put_in(machine(), study="20200101-0001")

        assert (response.status_code, response.json()["code"]) == (404, "study_not_found")
        assert not Instance.objects.exists()

    def test_whose_it_is_is_taken_over(self):
        said = {"patient_number": "P-77", "patient_name": " Okello \n Grace", "patient_sex": "F"}
        put_in(machine(), age_years="2.5", **said)

        study = Study.objects.get()
        assert study.age_years == 2.5
        assert (study.patient.number, study.patient.name) == ("P-77", "Okello Grace")
        assert study.patient.sex == "F"

    def test_a_patient_who_is_known_by_that_number_gets_it(self):
        known = Patient.enter({"number": "P-77", "name": "Grace Okello"}, by=None)
        put_in(machine(), patient_number="P-77", patient_name="Okello Grace")

        assert Study.objects.get().patient == known

    def test_another_name_at_the_same_number_is_another_patient(self):
        known = Patient.enter({"number": "P-77", "name": "Okello Grace"}, by=None)
        put_in(machine(), patient_number="P-77", patient_name="Mugisha Peter")

        assert Study.objects.get().patient != known
        assert Patient.objects.count() == 2

    def test_what_is_left_empty_says_nothing(self):
        put_in(machine(), age_years="", study="", patient_number="", patient_sex="")

        study = Study.objects.get()
        assert (study.age_years, study.patient) == (None, None)

    def test_a_film_that_was_turned_away_leaves_no_patient_behind(self, settings):
        settings.MAX_FILM_BYTES = 10
        response = put_in(machine(), patient_number="P-1")

        assert (response.status_code, response.json()["code"]) == (413, "too_large")
        assert response.json()["message"].startswith("The file is too large")
        assert not Patient.objects.exists()

    @pytest.mark.parametrize(
        ("said", "words"),
        [
            ({"age_years": "-1"}, "“age_years” must not be below 0."),
            ({"age_years": "131"}, "“age_years” must not be above 130."),
            ({"age_years": "nan"}, "“age_years” must be a number."),
            ({"age_years": "inf"}, "“age_years” must be a number."),
            ({"age_years": "three"}, "“age_years” must be a number."),
            ({"patient_sex": "female"}, "“patient_sex” must be one of: M, F, O."),
            ({"patient_name": "x" * 201}, "“patient_name” is too long: at most 200 characters."),
            ({"age": "3"}, "“age” is not known here."),
        ],
    )
    def test_what_cannot_be_is_refused_in_words(self, said, words):
        response = put_in(machine(), **said)

        assert response.status_code == 422
        assert response.json() == {"code": "invalid", "message": words}
        assert not Instance.objects.exists()

    def test_an_empty_file_is_turned_away(self):
        response = put_in(machine(), b"")

        assert (response.status_code, response.json()["code"]) == (400, "empty")

    def test_no_film_or_two_are_refused(self):
        client = machine()
        one, two = (SimpleUploadedFile(f"{seed}.png", film_bytes(seed)) for seed in (1, 2))

        assert client.post("/api/v1/films", {"age_years": 3}).json()["message"] == (
            "“film” is missing."
        )
        assert client.post("/api/v1/films", {"film": [one, two]}).json()["code"] == "one_film"
        one.seek(0), two.seek(0)
        both = {"film": one, "other": two}
        assert client.post("/api/v1/films", both).json()["code"] == "one_film"
        assert not Instance.objects.exists()

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            ("multipart/form-data", b"no boundary"),
            ("multipart/form-data; boundary=x", b"--x\r\nbroken"),
            ("application/json", b"{}"),
            ("image/png", film_bytes()),
            ("", b""),
        ],
    )
    def test_what_is_no_form_is_refused(self, kind, body):
        response = machine().post("/api/v1/films", body, content_type=kind)

        assert response.status_code in (400, 422)
        assert set(response.json()) == {"code", "message"}

    def test_a_full_disk_is_told_as_one(self, settings):
        settings.MIN_FREE_BYTES = 1 << 60
        response = put_in(machine())

        assert (response.status_code, response.json()["code"]) == (507, "disk_full")

    def test_it_is_in_the_record_without_a_person(self):
        put_in(machine())

        event = AuditEvent.objects.get(action="film_received")
        assert (event.user, event.details["source"]) == (None, "api")


class TestResult:
    def test_a_film_that_waits_has_none_yet(self):
        study = take_in()
        film = study.instances.get()

        told = machine().get(f"/api/v1/films/{film.pk}").json()
        assert told["state"] == "waiting"
        assert told["result"] is None
        assert told["message"].startswith("Waiting for its turn.")

    def test_it_has_the_keys_of_analyze_and_no_other(self, tmp_path):
        study = answered(view_position="PA", age_years=3.0)
        film = study.instances.get()
        told = machine().get(f"/api/v1/films/{film.pk}").json()

        assert set(told["result"]) == set(
            printed(tmp_path, Analysis(answer="likely", model="x", milliseconds=1.0), None)
        )
        assert told["state"] == "answered"
        assert told["message"] == told["result"]["message"]

    def test_a_refused_film_says_why(self):
        film = turned_down("lateral_view").instances.get()
        told = machine().get(f"/api/v1/films/{film.pk}").json()

        assert (told["state"], told["result"]["reason"]) == ("refused", "lateral_view")
        assert told["result"]["message"].startswith("This is a side view of the chest.")
        assert told["result"]["probability"] is None
        assert told["result"]["regions"] == []

    def test_an_unreadable_film_says_why_with_its_details(self):
        film = turned_down("format_not_supported", "unreadable", format="GIF").instances.get()
        told = machine().get(f"/api/v1/films/{film.pk}").json()

        assert told["result"]["answer"] == "unreadable"
        assert "GIF" in told["result"]["message"]

    def test_a_film_that_is_analysed_again_does_not_tell_its_old_answer(self):
        film = answered().instances.get()
        film.try_again()

        assert machine().get(f"/api/v1/films/{film.pk}").json()["result"] is None

    def test_words_come_in_the_language_that_was_asked_for(self):
        film = answered().instances.get()
        client, address = machine(), f"/api/v1/films/{film.pk}"

        english = client.get(address).json()["message"]
        french = client.get(address, headers={"Accept-Language": "fr"}).json()["message"]
        assert english != french

    @pytest.mark.parametrize("film", ["0", "999999", "9" * 30, "-1", "x", "1.5", "1/2"])
    def test_a_film_that_is_not_there_is_not_found(self, film):
        response = machine().get(f"/api/v1/films/{film}")

        assert response.status_code == 404
        assert response.json()["code"] in ("film_not_found", "not_found")

    @pytest.mark.usefixtures("blind")
    def test_a_machine_is_told_what_clinicians_have_to_read_first(self):
        study = answered()
        assert study.answer_hidden_from(enter("clinician"))

        assert machine().get(f"/api/v1/studies/{study.number}").json()["answer"] == "likely"

    def test_the_first_time_that_a_machine_fetches_an_answer_is_in_the_record(self):
        study = answered()
        clients = machine(name="records"), machine(name="archive")
        for client in clients * 3:
            client.get(f"/api/v1/films/{study.instances.get().pk}")
            client.get(f"/api/v1/studies/{study.number}")

        events = AuditEvent.objects.filter(action="answer_fetched", subject=study.number)
        assert sorted(event.details["machine"] for event in events) == ["archive", "records"]

    def test_a_film_without_an_answer_leaves_nothing_in_the_record(self):
        machine().get(f"/api/v1/studies/{take_in().number}")

        assert not AuditEvent.objects.filter(action="answer_fetched").exists()


class TestRoundTrip:
    """A film goes in and its answer comes out, by the program's own worker and a model."""

    @pytest.fixture
    def model(self, tmp_path, monkeypatch) -> Model:
        model = Model.load(Release.load(make_release(tmp_path / "release")))
        monkeypatch.setattr(worker, "analyse", lambda film, age: analyse(film, model, age))
        return model

    def test_the_result_is_that_of_analyze(self, model, tmp_path):
        client = machine()
        url = put_in(client, age_years=3).json()["url"]
        worker.analyse_instance.func(Instance.objects.get().pk)
        told = client.get(url).json()["result"]

        path = tmp_path / "film.png"
        path.write_bytes(film_bytes())
        wanted = printed(path, analyse(path, model, 3.0), None)
        for name in ("file", "milliseconds"):
            wanted.pop(name), told.pop(name)
        assert told == json.loads(json.dumps(wanted))

    def test_what_is_no_film_is_kept_and_answered(self, model):
        client = machine()
        url = put_in(client, b"notes", "notes.txt").json()["url"]
        worker.analyse_instance.func(Instance.objects.get().pk)

        told = client.get(url).json()
        assert told["state"] == "unreadable"
        assert told["result"]["reason"] == "not_an_image"


class TestStudies:
    def test_a_study_shows_its_films_and_whose_they_are(self):
        study = answered()
        patient = Patient.enter({"number": "P-77", "name": "Okello Grace", "sex": "F"}, by=None)
        study.change({"patient": patient, "age_years": 3.0}, by=None)

        told = machine().get(f"/api/v1/studies/{study.number}").json()
        assert told["patient"] == {"number": "P-77", "name": "Okello Grace", "sex": "F"}
        assert (told["answer"], told["age_years"], told["is_read"]) == ("likely", 3.0, False)
        assert [film["state"] for film in told["films"]] == ["answered"]

    def test_a_study_of_nobody_says_so(self):
        told = machine().get(f"/api/v1/studies/{take_in().number}").json()

        assert (told["patient"], told["answer"], told["age_years"]) == (None, None, None)

    @pytest.mark.parametrize("number", ["20200101-0001", "x", "%00", "x" * 500, "ä", ".."])
    def test_one_that_is_not_there_is_not_found(self, number):
        assert machine().get(f"/api/v1/studies/{number}").status_code == 404

    def test_a_thousand_are_listed_part_by_part_and_each_once(self):
        now = timezone.now()
        Study.objects.bulk_create(
            Study(number=f"20260101-{n:04}", created_at=now - timedelta(minutes=n))
            for n in range(1000)
        )
        client, seen, cursor, more = machine(), [], 0, True
        while more:
            told = client.get("/api/v1/studies", {"cursor": cursor, "limit": 100}).json()
            if cursor == 0:
                take_in()  # what comes in meanwhile moves nothing
            seen += [row["number"] for row in told["studies"]]
            cursor, more = told["next"], told["more"]

        assert len(seen) == len(set(seen)) == 1001

    def test_the_end_of_the_list_is_where_the_next_look_goes_on(self):
        client, first = machine(), take_in()
        told = client.get("/api/v1/studies").json()
        assert [row["number"] for row in told["studies"]] == [first.number]
        later = take_in(film_bytes(2))

        told = client.get("/api/v1/studies", {"cursor": told["next"]}).json()
        assert [row["number"] for row in told["studies"]] == [later.number]
        told = client.get("/api/v1/studies", {"cursor": told["next"]}).json()
        assert (told["studies"], told["more"], told["next"]) == ([], False, later.pk)

    def test_they_are_chosen_by_time_and_status(self):
        old, new = take_in(), answered(seed=2)
        day = timezone.now() - timedelta(days=2)
        Study.objects.filter(pk=old.pk).update(created_at=day)
        client = machine()

        def numbers(**asked: str) -> list[str]:
            rows = client.get("/api/v1/studies", asked).json()["studies"]
            return [row["number"] for row in rows]

        yesterday = (timezone.now() - timedelta(days=1)).isoformat()
        assert numbers() == [old.number, new.number]
        assert numbers(since=yesterday) == [new.number]
        assert numbers(status="waiting") == [old.number]
        assert numbers(status="waiting", since=yesterday) == []

    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            ({"since": "yesterday"}, "“since” must be a time with its zone"),
            ({"since": "2026-01-31T08:00:00"}, "“since” must be a time with its zone"),
            ({"since": "0001-01-01T00:00:00+14:00"}, "“since” is not as the description"),
            ({"status": "done"}, "“status” must be one of"),
            ({"limit": "101"}, "“limit” must not be above 100."),
            ({"limit": "0"}, "“limit” must not be below 1."),
            ({"cursor": "-1"}, "“cursor” must not be below 0."),
            ({"cursor": "x"}, "“cursor” must be a number."),
            ({"cursor": "9" * 40}, "“cursor” must not be above"),
            ({"sinse": "2026-01-31T08:00:00Z"}, "“sinse” is not known here."),
        ],
    )
    def test_a_slip_in_the_question_is_told(self, asked, words):
        response = machine().get("/api/v1/studies", asked)

        assert response.status_code == 422
        assert response.json()["message"].startswith(words)


class TestReadings:
    @pytest.fixture
    def clinician(self) -> User:
        return enter("clinician", full_name="Achieng Odhiambo")

    @pytest.fixture
    def study(self) -> Study:
        return answered()

    def test_one_is_written_in_the_name_of_who_made_it(self, clinician, study):
        response = record(machine(Scope.READINGS, name="PACS"), study, note=" At the base. ")

        reading = Reading.objects.get()
        assert response.status_code == 201
        assert response.json()["reader"] == "clinician"
        assert (reading.by, reading.note, reading.agrees) == (clinician, "At the base.", None)
        event = AuditEvent.objects.get(action="reading_recorded")
        assert (event.user, event.details["machine"]) == (clinician, "PACS")

    def test_what_was_written_is_listed(self, clinician, study):
        client = machine()
        kept = record(client, study, kind="conclusion").json()

        address = f"/api/v1/studies/{study.number}/readings"
        assert client.get(address).json() == {"readings": [kept]}

    @pytest.mark.parametrize("conclusion", Reading.Conclusion.values)
    @pytest.mark.parametrize("kind", Reading.Kind.values)
    def test_it_knows_the_words_of_the_pages(self, clinician, study, kind, conclusion):
        assert record(machine(), study, kind=kind, conclusion=conclusion).status_code == 201

    @pytest.mark.parametrize(
        "reader", ["nobody", "health_worker", "read_only", "left", User.THIS_COMPUTER, "", "\x00"]
    )
    def test_nobody_reads_here_who_may_not(self, study, reader):
        enter("health_worker"), enter("read_only")
        enter("clinician", "left", is_active=False)
        User.of_this_computer()

        response = record(machine(), study, reader=reader)
        assert (response.status_code, response.json()["code"]) == (422, "reader_unknown")
        assert not Reading.objects.exists()

    def test_a_name_typed_with_capitals_is_the_same_person(self, clinician, study):
        assert record(machine(), study, reader="Clinician").status_code == 201

    def test_the_same_entry_sent_twice_is_written_once(self, clinician, study):
        client = machine()
        first, again = (record(client, study, request_id="pacs-1").json() for _ in range(2))

        assert first == again
        assert Reading.objects.count() == 1
        record(client, study, request_id="pacs-2")
        assert Reading.objects.count() == 2

    @pytest.mark.usefixtures("blind")
    def test_it_is_never_counted_as_blind_once_there_is_an_answer(self, clinician, study):
        assert Reading.is_blind(study, clinician)

        assert record(machine(), study).json()["before_answer"] is False

    @pytest.mark.usefixtures("blind")
    def test_before_there_is_an_answer_it_was_made_before_it(self, clinician):
        assert record(machine(), take_in()).json()["before_answer"] is True

    @pytest.mark.usefixtures("blind")
    def test_a_diagnosis_waits_for_the_readers_own_reading(self, clinician, study):
        client = machine()
        response = record(client, study, kind="diagnosis")

        assert (response.status_code, response.json()["code"]) == (409, "read_first")
        assert record(client, study).status_code == 201
        assert record(client, study, kind="diagnosis").status_code == 201

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({}, "“reader” is missing."),
            ({"reader": "clinician"}, "“conclusion” is missing."),
            ("", "“reading” is missing."),
            ([], "“reading” is not as the description of the interface says."),
            ("null", None),
            ('"text"', None),
            ({"reader": 5, "conclusion": "other"}, "“reader” must be text."),
            ({"reader": "clinician", "conclusion": "tb"}, "“conclusion” must be one of"),
            (
                {"reader": "clinician", "conclusion": "other", "agrees": True},
                "“agrees” is not known",
            ),
            ({"reader": "x" * 65, "conclusion": "other"}, "“reader” is too long: at most 64"),
            (
                {"reader": "clinician", "conclusion": "other", "note": "x" * 2001},
                "“note” is too long: at most 2000",
            ),
            ({"reader": "clinician", "conclusion": "other", "note": "a\x00b"}, "“note” must be"),
        ],
    )
    def test_what_cannot_be_is_refused_in_words(self, clinician, study, body, words):
        response = record(machine(), study, body)

        assert response.status_code == 422
        assert response.json()["message"].startswith(words or "“")
        assert not Reading.objects.exists()

    @pytest.mark.parametrize("body", ["{", "[" * 100_000, b"\xff\xfe", "{'a': 1}"])
    def test_what_is_no_json_is_told(self, clinician, study, body):
        response = record(machine(), study, body)

        assert (response.status_code, response.json()["code"]) == (400, "not_json")

    def test_a_huge_body_is_refused_as_one(self, clinician, study, settings):
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
        response = record(machine(), study, note="x" * 2000)

        assert (response.status_code, response.json()["code"]) == (413, "request_too_large")


class TestWhatCannotBeAsked:
    @pytest.mark.parametrize("path", ["", "x", "films/", "studies/1/x", "docs", "../worklist"])
    def test_an_address_of_nothing_is_not_found(self, path):
        assert machine().get(f"/api/v1/{path}").status_code == 404

    def test_nothing_can_be_deleted_or_written_over(self):
        study = answered()
        paths = {path.replace("{number}", study.number) for _, _, path in operations()}
        for path in paths:
            for method in ("DELETE", "PUT", "PATCH"):
                response = call(machine(), method, path)
                assert response.status_code == 405, (method, path)
                assert response.json()["message"] == f"This address does not take {method}."
                assert response["Allow"]

    def test_a_fault_of_the_program_is_told_as_one_without_what_it_was(self, monkeypatch, caplog):
        def fails(*_args: object, **_more: object) -> None:
            raise RuntimeError("Okello Grace")

        monkeypatch.setattr("app.intake.receive", fails)
        response = put_in(machine())

        assert (response.status_code, response.json()["code"]) == (500, "program_failed")
        assert "Okello" not in response.content.decode() + caplog.text
        assert "RuntimeError" in caplog.text


class TestHealth:
    def test_it_says_what_healthz_says(self):
        assert machine().get("/api/v1/health").json() == Client().get("/healthz").json()


class TestLimits:
    def test_a_bucket_gives_its_burst_then_its_rate(self):
        now = [0.0]
        bucket = Bucket(rate=2, burst=3, clock=lambda: now[0])

        assert [bucket.take(1) for _ in range(4)] == [0, 0, 0, 0.5]
        assert bucket.take(2) == 0  # another machine has its own
        now[0] = 0.5
        assert [bucket.take(1), bucket.take(1)] == [0, 0.5]
        now[0] = 3600
        assert [bucket.take(1) > 0 for _ in range(4)] == [False, False, False, True]

    @given(st.lists(st.floats(0, 5), max_size=60))
    def test_no_pattern_of_asking_gets_more_than_burst_and_rate(self, pauses):
        now = [0.0]
        bucket = Bucket(rate=2, burst=3, clock=lambda: now[0])
        given_out = 0
        for pause in pauses:
            now[0] += pause
            given_out += bucket.take(1) == 0

        assert given_out <= 3 + 2 * now[0] + 1e-6

    def test_threads_do_not_get_more_between_them(self):
        bucket = Bucket(rate=0.0001, burst=50)
        with ThreadPoolExecutor(8) as pool:
            waits = list(pool.map(lambda _: bucket.take(1), range(400)))

        assert sum(wait == 0 for wait in waits) == 50

    def test_who_asks_too_often_is_told_how_long_to_wait(self, monkeypatch):
        monkeypatch.setattr(limits, "requests", Bucket(rate=0.25, burst=2))
        client, other = machine(), machine()

        statuses = [client.get("/api/v1/health").status_code for _ in range(3)]
        response = client.get("/api/v1/health")
        assert statuses == [200, 200, 429]
        assert response.json()["code"] == "too_many_requests"
        assert response["Retry-After"] == "4"
        assert other.get("/api/v1/health").status_code == 200

    def test_uploads_have_a_limit_of_their_own(self, monkeypatch):
        monkeypatch.setattr(limits, "uploads", Bucket(rate=0.01, burst=1))
        client = machine()

        assert put_in(client).status_code == 202
        assert put_in(client, film_bytes(2)).status_code == 429
        assert Instance.objects.count() == 1
        assert client.get("/api/v1/studies").status_code == 200

    def test_wrong_tokens_end_in_a_pause(self):
        wrong = Client(headers={"Authorization": "Bearer clinic_wrong"})
        statuses = [wrong.get("/api/v1/health").status_code for _ in range(12)]

        assert statuses == [401] * 10 + [429] * 2
        assert wrong.get("/api/v1/health")["Retry-After"] == "60"

    def test_they_do_not_shut_out_a_machine_with_a_token_on_the_same_device(self):
        wrong = Client(headers={"Authorization": "Bearer clinic_wrong"})
        for _ in range(12):
            wrong.get("/api/v1/health")

        assert machine().get("/api/v1/health").status_code == 200
        elsewhere = Client(headers=wrong.headers or {}, REMOTE_ADDR="10.0.0.7")
        elsewhere.defaults["HTTP_AUTHORIZATION"] = "Bearer clinic_wrong"
        assert elsewhere.get("/api/v1/health").status_code == 401


def no_writes():
    """Whatever the database is asked for, it is not to write."""

    def only_read(execute, sql, params, many, context):
        assert sql.lstrip().upper().startswith(("SELECT", "SAVEPOINT", "RELEASE")), sql
        return execute(sql, params, many, context)

    return connection.execute_wrapper(only_read)


class TestLastUse:
    def test_it_is_kept_to_the_minute_and_not_written_at_every_request(self):
        client = machine(Scope.RESULTS)
        client.get("/api/v1/health")
        first = DeviceToken.objects.get().last_used_at
        with no_writes():
            client.get("/api/v1/health")
        assert DeviceToken.objects.get().last_used_at == first

        DeviceToken.objects.update(last_used_at=timezone.now() - timedelta(minutes=2))
        client.get("/api/v1/health")
        assert DeviceToken.objects.get().last_used_at > first

    def test_a_clock_that_was_set_back_does_not_stop_it(self):
        client, ahead = machine(), timezone.now() + timedelta(days=400)
        DeviceToken.objects.update(last_used_at=ahead)
        client.get("/api/v1/health")

        assert DeviceToken.objects.get().last_used_at < ahead

    def test_a_token_that_may_not_do_it_has_not_been_used(self):
        machine(Scope.UPLOAD).get("/api/v1/studies")

        assert DeviceToken.objects.get().last_used_at is None


class TestColdStart:
    """The library comes with the first request of another program, not with the start."""

    PROGRAM = """
import sys
import django
django.setup()
import app.wsgi, app.views, app.urls
from django.urls import reverse
reverse("worklist"), reverse("api", args=["health"])
print(sorted({m.split(".")[0] for m in sys.modules} & {"ninja", "pydantic", "pydantic_core"}))
from app.api.operations import api
print("ninja" in sys.modules)
"""

    def test_neither_it_nor_pydantic_is_imported_by_a_program_that_nobody_asks(
        self, root, data_dir
    ):
        done = subprocess.run(
            [sys.executable, "-c", self.PROGRAM],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )

        assert done.stdout.split("\n")[:2] == ["[]", "True"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["reader", "kind", "conclusion", "note", "request_id", "x"])
VALUES = JSON | st.sampled_from(["clinician", "pneumonia", "diagnosis", "\ud800", "\x00", "1e999"])


ANYTHING = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
FIELDS = ["age_years", "study", "patient_number", "patient_name", "patient_sex", "x"]
ASKED = ["since", "status", "cursor", "limit", "x"]


class TestWhateverIsSent:
    """No body and no question of a machine makes the program fail."""

    @pytest.fixture
    def client(self, monkeypatch) -> Client:
        for name in ("requests", "uploads"):
            monkeypatch.setattr(limits, name, Bucket(rate=1e9, burst=10**9))
        enter("clinician")
        return machine()

    @pytest.fixture
    def study(self) -> Study:
        return answered()

    def check(self, response) -> None:
        assert response.status_code < 500, response.content
        if response.status_code >= 400:
            assert set(response.json()) == {"code", "message"}
            assert "%(" not in response.json()["message"]

    @ANYTHING
    @given(st.dictionaries(NAMES, VALUES) | JSON)
    def test_any_json_as_a_reading(self, client, study, body):
        self.check(record(client, study, json.dumps(body)))

    @ANYTHING
    @given(st.binary(max_size=200))
    def test_any_bytes_as_a_reading(self, client, study, body):
        self.check(record(client, study, body))

    @ANYTHING
    @given(st.dictionaries(st.sampled_from(ASKED), st.text()))
    def test_any_question_for_studies(self, client, asked):
        self.check(client.get("/api/v1/studies", asked))

    @ANYTHING
    @given(st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=80)))
    def test_anything_said_of_a_film(self, client, said):
        self.check(put_in(client, **said))

    @ANYTHING
    @given(st.text(alphabet=st.characters(exclude_characters="?#", codec="utf-8"), max_size=40))
    def test_any_address(self, client, path):
        self.check(client.get("/api/v1/x" + path))


def test_states_with_a_result_are_those_in_which_a_finding_is_written_down():
    assert {*WITH_RESULT} == {*State} - {*UNFINISHED, State.FAILED, State.CANCELLED}
