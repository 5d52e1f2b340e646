"""What goes out by itself: queued once for each place, tried until it is there, never lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from app import outbox
from app.models import AuditEvent, Delivery, Peer, Reading, SendsResults, Site, Study, User
from app.outbox import fhir
from app.outbox.faults import CODES, NotSent
from app.outbox_words import PROBLEMS, problem_words
from tests.people import browser_of, enter
from tests.studies import answered, take_in, turned_down

pytestmark = pytest.mark.django_db

State = Delivery.State


@pytest.fixture
def archive(site: Site) -> Peer:
    return Peer.objects.create(name="Archive", ae_title="PACS", host="10.0.0.9", gets_results=True)


def due_again() -> None:
    """Let the pause of everything that waits be over."""
    Delivery.objects.update(next_try_at=timezone.now() - timedelta(seconds=1))


def sent_by(monkeypatch: pytest.MonkeyPatch, *outcomes: NotSent | Exception | None) -> list[Study]:
    """Put outcomes in the place of a peer; the studies that it was sent."""
    tried: list[Study] = []
    left = list(outcomes)

    def send(study: Study, _peer: Peer) -> None:
        tried.append(study)
        if left and (fault := left.pop(0)):
            raise fault

    monkeypatch.setattr("app.outbox.dicom.send", send)
    return tried


def send_next() -> Delivery:
    delivery = Delivery.claim("outbox-test")
    assert delivery is not None
    outbox.send(delivery)
    return delivery


class TestWhatIsQueued:
    def test_nothing_is_queued_where_nobody_gets_results(self, site: Site) -> None:
        Peer.objects.create(name="X-ray", ae_title="XRAY", host="x", sends_films=True)
        assert Delivery.ask(answered()) == []
        assert not AuditEvent.objects.filter(action="results_queued").exists()

    def test_a_study_is_queued_for_every_place(self, archive: Peer, site: Site) -> None:
        Site.objects.update(fhir_server="https://records.example/fhir")
        Peer.objects.create(name="Second", ae_title="TWO", host="y", gets_results=True)
        asked = Delivery.ask(answered())
        assert [(str(one.peer), one.kind) for one in asked] == [
            ("Archive", "dicom"),
            ("Second", "dicom"),
            ("None", "fhir"),
        ]

    def test_a_study_waits_once_for_each_place(self, archive: Peer) -> None:
        study = answered()
        Delivery.ask(study)
        Delivery.ask(study)
        assert Delivery.objects.count() == 1

    def test_it_waits_once_for_the_server(self, site: Site) -> None:
        Site.objects.update(fhir_server="https://records.example/fhir")
        study = answered()
        Delivery.ask(study)
        Delivery.ask(study)
        assert Delivery.objects.count() == 1

    def test_who_asked_is_recorded(self, archive: Peer, administrator: User) -> None:
        study = answered()
        Delivery.ask(study, administrator)
        event = AuditEvent.objects.get(action="results_queued")
        assert (event.user, event.subject, event.details) == (
            administrator,
            study.number,
            {"to": ["Archive"]},
        )

    def test_a_study_that_is_deleted_waits_no_longer(self, archive: Peer) -> None:
        study = answered()
        Delivery.ask(study)
        study.delete_for("wrong patient", None)
        assert not Delivery.objects.exists()


class TestWhenTheyGoByThemselves:
    @pytest.mark.parametrize(
        ("choice", "blind", "after_answer", "after_reading"),
        [
            (SendsResults.WHEN_ASKED, False, 0, 0),
            (SendsResults.AFTER_READING, False, 0, 1),
            (SendsResults.AFTER_ANSWER, False, 1, 1),
            (SendsResults.AFTER_ANSWER, True, 0, 1),
            (SendsResults.WHEN_ASKED, True, 0, 0),
        ],
    )
    def test_they_go_when_the_clinic_wants_it(
        self, archive: Peer, choice: str, blind: bool, after_answer: int, after_reading: int
    ) -> None:
        Site.objects.update(sends_results=choice, blind_first_read=blind)
        study = answered()
        assert Delivery.objects.count() == after_answer
        Reading.record(study, enter("clinician"), conclusion="pneumonia")
        assert Delivery.objects.count() == after_reading

    def test_a_reading_after_they_were_sent_sends_them_again(self, archive: Peer) -> None:
        Site.objects.update(sends_results=SendsResults.AFTER_ANSWER)
        study = answered()
        Delivery.objects.get().arrived()
        Reading.record(study, enter("clinician"), conclusion="pneumonia")
        assert sorted(Delivery.objects.values_list("state", flat=True)) == ["sent", "waiting"]

    def test_a_film_without_an_answer_goes_nowhere(self, archive: Peer) -> None:
        Site.objects.update(sends_results=SendsResults.AFTER_ANSWER)
        turned_down("page_of_text")
        take_in()
        assert not Delivery.objects.exists()


class TestTryingAgain:
    def test_what_arrived_is_sent_no_more(
        self, archive: Peer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        study = answered()
        Delivery.ask(study)
        tried = sent_by(monkeypatch)
        assert send_next().state == State.SENT
        assert tried == [study]
        assert Delivery.claim("outbox-test") is None
        assert AuditEvent.objects.filter(action="results_sent", subject=study.number).count() == 1

    def test_what_did_not_arrive_waits_longer_each_time(
        self, archive: Peer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Delivery.ask(answered())
        sent_by(monkeypatch, *[NotSent("no_answer", address="10.0.0.9")] * 4)
        pauses = []
        for _ in range(4):
            due_again()
            delivery = send_next()
            pauses.append((delivery.next_try_at - timezone.now()).total_seconds())
        assert pauses == pytest.approx([30, 60, 120, 240], abs=2)

    def test_a_pause_never_grows_beyond_the_longest(self, archive: Peer) -> None:
        Delivery.ask(answered())
        Delivery.objects.update(attempts=10_000)
        delivery = Delivery.claim("outbox-test")
        assert delivery is not None
        delivery.failed("no_answer", {})
        pause = delivery.next_try_at - timezone.now()
        assert timedelta(hours=5) < pause <= timedelta(hours=6)

    def test_nobody_there_is_found_out_once_for_all_that_waits(
        self, archive: Peer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for seed in range(3):
            Delivery.ask(answered(seed=seed))
        tried = sent_by(monkeypatch, NotSent("no_answer", nobody_there=True, address="10.0.0.9"))
        send_next()
        assert Delivery.claim("outbox-test") is None
        assert len(tried) == 1
        assert set(Delivery.objects.values_list("problem", flat=True)) == {"no_answer"}

    def test_one_bad_study_does_not_hold_up_the_others(
        self, archive: Peer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for seed in range(2):
            Delivery.ask(answered(seed=seed))
        sent_by(monkeypatch, ValueError("Amina Okello"))
        assert send_next().problem == "unforeseen"
        assert send_next().state == State.SENT

    def test_an_error_of_ours_is_logged_without_its_words(
        self, archive: Peer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        Delivery.ask(answered())
        sent_by(monkeypatch, ValueError("Amina Okello"))
        send_next()
        assert "ValueError" in caplog.text
        assert "Amina" not in caplog.text

    def test_what_is_turned_down_for_good_is_given_up(
        self, archive: Peer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Delivery.ask(answered())
        sent_by(monkeypatch, NotSent("kind_not_taken", for_good=True))
        assert send_next().state == State.GIVEN_UP

    def test_after_two_weeks_somebody_has_to_look(self, archive: Peer) -> None:
        Delivery.ask(answered())
        Delivery.objects.update(created_at=timezone.now() - timedelta(days=15))
        delivery = Delivery.claim("outbox-test")
        assert delivery is not None
        delivery.failed("no_answer", {"address": "10.0.0.9"})
        assert Delivery.objects.get().state == State.GIVEN_UP

    def test_what_was_given_up_can_be_tried_again(self, archive: Peer) -> None:
        Delivery.ask(answered())
        Delivery.objects.update(state=State.GIVEN_UP, attempts=50)
        Delivery.objects.get().try_now()
        again = Delivery.claim("outbox-test")
        assert again is not None
        assert again.attempts == 1

    def test_what_a_crash_interrupted_is_sent_again(self, archive: Peer) -> None:
        Delivery.ask(answered())
        Delivery.claim("outbox-gone-1")
        assert Delivery.claim("outbox-test") is None
        assert Delivery.put_back("outbox") == 1
        assert Delivery.claim("outbox-test") is not None

    def test_what_a_crash_interrupted_does_not_wait_twice(self, archive: Peer) -> None:
        study = answered()
        Delivery.ask(study)
        Delivery.claim("outbox-gone-1")
        Delivery.ask(study)
        Delivery.put_back("outbox")
        assert Delivery.objects.filter(state=State.WAITING).count() == 1
        assert Delivery.objects.count() == 1

    def test_what_is_sent_by_another_is_left_to_it(self, archive: Peer) -> None:
        Delivery.ask(answered())
        assert Delivery.claim("one") is not None
        assert Delivery.claim("two") is None

    def test_what_arrived_long_ago_is_forgotten_but_not_by_the_audit(self, archive: Peer) -> None:
        Delivery.ask(answered())
        Delivery.objects.get().arrived()
        Delivery.objects.update(sent_at=timezone.now() - timedelta(days=91))
        Delivery.forget_old()
        assert not Delivery.objects.exists()
        assert AuditEvent.objects.filter(action="results_sent").exists()


class FhirServer(ThreadingHTTPServer):
    """What a hospital's server says, and what it was told."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.told: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/fhir"


class _Handler(BaseHTTPRequestHandler):
    server: FhirServer

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.told.append((self.command, self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()
        self.wfile.write(b'{"issue": [{"diagnostics": "Amina Okello is unknown"}]}')

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def fhir_server(status: int = 200) -> Iterator[FhirServer]:
    with FhirServer(status) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def fault_at(address: str) -> NotSent:
    with pytest.raises(NotSent) as caught:
        fhir.post(address, "", {"resourceType": "Bundle"})
    return caught.value


class TestTheFhirServer:
    def test_it_gets_the_study_as_one_bundle(self, site: Site) -> None:
        with fhir_server() as server:
            Site.objects.update(fhir_server=server.base, fhir_authorization="Bearer s3cret")
            Delivery.ask(answered())
            assert send_next().state == State.SENT
        [(method, path, headers, body)] = server.told
        assert (method, path) == ("POST", "/fhir")
        assert headers["Content-Type"] == "application/fhir+json"
        assert headers["Authorization"] == "Bearer s3cret"
        sent = json.loads(body)
        assert (sent["resourceType"], sent["type"]) == ("Bundle", "transaction")

    @pytest.mark.parametrize(
        ("status", "code", "for_good"),
        [
            (302, "not_found", False),
            (400, "turned_down", True),
            (401, "not_allowed", False),
            (403, "not_allowed", False),
            (404, "not_found", False),
            (422, "turned_down", True),
            (429, "server_fault", False),
            (500, "server_fault", False),
            (503, "server_fault", False),
        ],
    )
    def test_what_it_answers_is_understood(self, status: int, code: str, for_good: bool) -> None:
        with fhir_server(status) as server:
            fault = fault_at(server.base)
        assert (fault.code, fault.for_good) == (code, for_good)

    def test_its_words_about_a_patient_are_not_kept(self, site: Site) -> None:
        with fhir_server(422) as server:
            Site.objects.update(fhir_server=server.base)
            Delivery.ask(answered())
            send_next()
        kept = Delivery.objects.get()
        assert kept.state == State.GIVEN_UP
        assert "Amina" not in json.dumps(kept.details)

    def test_it_is_not_followed_to_another_place(self) -> None:
        with fhir_server(302) as server:
            fault_at(server.base)
            assert len(server.told) == 1

    @pytest.mark.parametrize(
        ("address", "code"),
        [
            ("http://127.0.0.1:1/fhir", "connection_refused"),
            ("http://no-such-host.invalid/fhir", "address_unknown"),
            ("ftp://127.0.0.1/fhir", "not_a_web_address"),
            ("records", "not_a_web_address"),
            ("", "no_server"),
        ],
    )
    def test_a_server_that_is_not_there_is_told_from_one_that_cannot_be(
        self, address: str, code: str
    ) -> None:
        assert fault_at(address).code == code

    def test_a_server_without_a_certificate_is_not_trusted(self) -> None:
        with fhir_server() as server:
            address = server.base.replace("http:", "https:")
            assert fault_at(address).code == "certificate_wrong"

    def test_looking_sends_nothing_of_a_patient(self) -> None:
        with fhir_server() as server:
            fhir.look(server.base, "Bearer s3cret")
        [(method, path, _, body)] = server.told
        assert (method, path, body) == ("GET", "/fhir/metadata", b"")


class TestThePage:
    def test_every_problem_has_its_words(self) -> None:
        assert set(PROBLEMS) == CODES

    def test_every_sentence_takes_its_details(self) -> None:
        details = {"address": "a", "ours": "b", "theirs": "c", "status": "d"}
        assert all(problem_words(code, details) for code in CODES)

    def test_it_says_what_waits_and_why(self, client: Client, archive: Peer) -> None:
        study = answered()
        Delivery.ask(study)
        Delivery.objects.get().failed("no_answer", {"address": "10.0.0.9"})
        page = client.get(reverse("outbox")).content.decode()
        assert study.number in page
        assert "nothing answers at 10.0.0.9" in page

    def test_no_page_says_that_nothing_leaves_where_results_do(
        self, client: Client, archive: Peer
    ) -> None:
        assert "Nothing leaves this computer" not in client.get("/").content.decode()
        archive.delete()
        assert "Nothing leaves this computer" in client.get("/").content.decode()

    def test_choices_are_kept_and_recorded(self, client: Client) -> None:
        sent = {
            "sends_results": "reading",
            "fhir_server": "https://records.example/fhir/",
            "fhir_authorization": "Bearer s3cret",
        }
        assert client.post(reverse("outbox"), sent).status_code == 302
        site = Site.current()
        assert site.fhir_server == "https://records.example/fhir"
        assert site.fhir_authorization == "Bearer s3cret"
        recorded = json.dumps(AuditEvent.objects.get(action="settings_changed").details)
        assert "records.example" in recorded
        assert "s3cret" not in recorded

    def test_the_authorization_is_never_shown_again(self, client: Client) -> None:
        Site.objects.update(fhir_authorization="Bearer s3cret")
        assert "s3cret" not in client.get(reverse("outbox")).content.decode()

    def test_an_empty_authorization_leaves_the_one_before(self, client: Client) -> None:
        Site.objects.update(fhir_authorization="Bearer s3cret")
        client.post(reverse("outbox"), {"sends_results": "asked"})
        assert Site.current().fhir_authorization == "Bearer s3cret"

    def test_the_authorization_can_be_forgotten(self, client: Client) -> None:
        Site.objects.update(fhir_authorization="Bearer s3cret")
        client.post(reverse("outbox"), {"sends_results": "asked", "forget": "on"})
        assert Site.current().fhir_authorization == ""

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("fhir_server", "records"),
            ("fhir_server", "file:///etc/passwd"),
            ("fhir_server", "https://me:pass@records.example/fhir"),
            ("fhir_server", "https://records.example/fhir?patient=1"),
            ("fhir_authorization", "Bearer a\r\nX-Evil: 1"),
            ("sends_results", "always"),
        ],
    )
    def test_it_refuses_what_cannot_be(self, client: Client, field: str, value: str) -> None:
        before = Site.current()
        sent = {"sends_results": "asked", field: value}
        assert client.post(reverse("outbox"), sent).status_code == 400
        after = Site.current()
        assert (after.fhir_server, after.fhir_authorization, after.sends_results) == (
            before.fhir_server,
            before.fhir_authorization,
            before.sends_results,
        )

    def test_one_can_be_dropped(self, client: Client, archive: Peer) -> None:
        Delivery.ask(answered())
        client.post(reverse("outbox-drop", args=[Delivery.objects.get().pk]))
        assert not Delivery.objects.exists()
        assert AuditEvent.objects.filter(action="results_dropped").exists()

    def test_all_can_be_tried_at_once(self, client: Client, archive: Peer) -> None:
        Delivery.ask(answered())
        Delivery.objects.get().failed("no_answer", {})
        client.post(reverse("outbox-now"))
        assert Delivery.claim("outbox-test") is not None

    def test_the_test_of_the_server_says_what_is_wrong(self, client: Client) -> None:
        with fhir_server(401) as server:
            Site.objects.update(fhir_server=server.base)
            page = client.post(reverse("outbox-test"), follow=True).content.decode()
        assert "does not let us in (401)" in page

    def test_a_clinician_sends_a_study_from_its_page(self, archive: Peer) -> None:
        study = answered()
        browser = browser_of(enter("clinician"))
        assert (
            "Send the results"
            in browser.get(reverse("study", args=[study.number])).content.decode()
        )
        browser.post(reverse("study-send", args=[study.number]))
        assert Delivery.objects.get().study == study

    def test_nothing_offers_to_send_where_no_place_is_named(self, client: Client) -> None:
        page = client.get(reverse("study", args=[answered().number])).content.decode()
        assert "Send the results" not in page

    def test_a_clinician_who_has_to_read_first_cannot_send_the_answer(
        self, blind: Site, archive: Peer
    ) -> None:
        study = answered()
        browser = browser_of(enter("clinician"))
        assert (
            "Send the results"
            not in browser.get(reverse("study", args=[study.number])).content.decode()
        )
        browser.post(reverse("study-send", args=[study.number]))
        assert not Delivery.objects.exists()
