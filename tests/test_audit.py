"""The record of who did what: complete, in people's words, and not to be changed."""

from __future__ import annotations

import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.db.models import ProtectedError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from app import messages
from app.models import AuditEvent, Patient, Role, Site, User
from tests.people import PASSWORD, browser_of, enter
from tests.studies import answered, film_bytes, take_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]
ANOTHER = "left-upper-zone-38"


def events() -> list[tuple[str, str, str]]:
    """Who did what to what, oldest first."""
    return [
        (event.user.username if event.user else "nobody", event.action, event.subject)
        for event in AuditEvent.objects.select_related("user").order_by("id")
    ]


def words_of(response) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


@pytest.fixture
def amina(site) -> User:
    return enter(Role.CLINICIAN, "amina", PASSWORD)


class TestWhatIsRecorded:
    def test_who_looked_at_a_study(self, amina):
        number = answered().number
        before = len(events())
        browser_of(amina).get(reverse("study", args=[number]))

        assert events()[before:] == [("amina", "study_viewed", number)]

    def test_who_looked_at_it_in_the_viewer(self, amina):
        number = answered().number
        before = len(events())
        browser_of(amina).get(reverse("viewer", args=[number]))

        assert events()[before:] == [("amina", "study_viewed", number)]

    @pytest.mark.parametrize("page", ["film", "pixels"])
    def test_who_had_a_film_shown(self, amina, page):
        study = answered()
        before = len(events())
        film = study.instances.get()
        browser_of(amina).get(reverse(page, args=[film.pk]))

        assert events()[before:] == [("amina", "film_viewed", study.number)]
        assert AuditEvent.objects.first().details == {"film": film.pk}

    def test_who_put_a_film_in(self, amina):
        film = SimpleUploadedFile("film.png", film_bytes())
        browser_of(amina).post(reverse("upload"), {"films": [film]})

        assert [(who, what) for who, what, _ in events()] == [("amina", "film_received")]

    def test_who_took_the_diagnostics_out(self, client, administrator):
        client.get(reverse("diagnostics"))

        assert events() == [("administrator", "diagnostics_exported", "")]

    def test_who_changed_a_patient_and_from_what_to_what(self, amina):
        patient = Patient.objects.create(name="Otieno", number="P-7")
        patient.change({"name": "Okello"}, by=amina)

        assert events()[-1] == ("amina", "patient_changed", "P-7")
        assert AuditEvent.objects.first().details["changed"] == {"name": ["Otieno", "Okello"]}

    def test_who_deleted_a_study_and_why(self, amina):
        study = answered()
        number = study.number
        study.delete_for("taken twice", by=amina)

        assert events()[-1] == ("amina", "study_deleted", number)
        assert AuditEvent.objects.first().details["reason"] == "taken twice"

    def test_a_change_that_fails_is_not_recorded(self, amina):
        before = events()
        with pytest.raises(ValueError):
            take_in().delete_for(" ", by=amina)

        assert [event for event in events() if event[1] == "study_deleted"] == []
        assert events()[: len(before)] == before

    def test_what_is_refused_is_not_recorded_as_done(self, site):
        number = answered().number
        before = events()
        Client().get(reverse("study", args=[number]))
        browser_of(enter(Role.READ_ONLY)).get(reverse("diagnostics") + "/nothing")

        assert events() == before


class TestAccounts:
    def test_the_way_in_and_out(self, amina):
        client = Client()
        client.post("/log-in", {"username": "AMINA", "password": "wrong"})
        client.post("/log-in", {"username": "AMINA", "password": PASSWORD})
        client.post("/log-out")

        assert events() == [
            ("nobody", "log_in_failed", "amina"),
            ("amina", "logged_in", ""),
            ("amina", "logged_out", ""),
        ]

    def test_what_was_typed_instead_of_a_name_is_not_kept(self, amina):
        Client().post("/log-in", {"username": PASSWORD, "password": "oops"})

        assert events() == [("nobody", "log_in_failed", "")]
        assert PASSWORD not in str(AuditEvent.objects.values())

    def test_nobody_who_leaves_is_not_recorded(self, site):
        Client().post("/log-out")

        assert events() == []

    def test_a_new_person_and_a_changed_one(self, client):
        form = {"username": "brian", "role": Role.HEALTH_WORKER, "is_active": "on"}
        passwords = {"password1": PASSWORD, "password2": PASSWORD}
        client.post(reverse("new-person"), form | passwords)
        brian = User.objects.get(username="brian")
        changed = form | {"role": Role.READ_ONLY, "password1": ANOTHER, "password2": ANOTHER}
        client.post(reverse("person", args=[brian.pk]), changed)

        assert events() == [
            ("administrator", "user_entered", "brian"),
            ("administrator", "user_changed", "brian"),
        ]
        assert AuditEvent.objects.first().details == {
            "changed": {"role": ["health_worker", "read_only"]},
            "new_password": True,
        }

    def test_ones_own_password(self, amina):
        new = {"old_password": PASSWORD, "new_password1": ANOTHER, "new_password2": ANOTHER}
        browser_of(amina).post("/password", new)

        assert events() == [("amina", "password_changed", "amina")]

    def test_the_settings(self, client):
        changed = {"clinic_name": "Kisoro clinic", "blind_first_read": "on", "lock_after": "10"}
        client.post(reverse("site"), changed)

        assert events() == [("administrator", "settings_changed", "")]
        assert AuditEvent.objects.first().details["changed"] == {
            "clinic_name": "Kisoro clinic",
            "blind_first_read": True,
        }

    def test_the_set_up(self, db):
        Client().post("/set-up", {"understood": "on", "mode": "single_user"})

        assert events() == [("nobody", "set_up", "")]
        assert AuditEvent.objects.get().details == {"single_user": True}

    def test_in_single_user_mode_it_is_this_computer(self, site):
        Site.objects.update(single_user=True)
        Client().get(reverse("diagnostics"))

        assert events() == [(User.THIS_COMPUTER, "diagnostics_exported", "")]

    def test_no_password_is_ever_in_it(self, client, amina):
        for password in (PASSWORD, "wrong-right-lower"):
            Client().post("/log-in", {"username": "amina", "password": password})
        change = {"username": "amina", "role": Role.CLINICIAN, "is_active": "on"}
        passwords = {"password1": ANOTHER, "password2": ANOTHER}
        client.post(reverse("person", args=[amina.pk]), change | passwords)

        kept = str(list(AuditEvent.objects.values()))
        for secret in (PASSWORD, ANOTHER, "wrong-right-lower", "argon2"):
            assert secret not in kept


class TestUnchangeable:
    @pytest.fixture
    def event(self, amina) -> AuditEvent:
        return AuditEvent.record(amina, "study_viewed")

    def test_an_event_is_not_written_over(self, event):
        event.action = "logged_in"

        for deed in (event.save, event.delete, lambda: event.save(update_fields=["action"])):
            with pytest.raises(TypeError):
                deed()
        assert AuditEvent.objects.get().action == "study_viewed"

    @pytest.mark.parametrize(
        "deed",
        [
            lambda: AuditEvent.objects.all().delete(),
            lambda: AuditEvent.objects.filter(action="study_viewed").delete(),
            lambda: AuditEvent.objects.update(action="logged_in"),
            lambda: AuditEvent.objects.bulk_update(AuditEvent.objects.all(), ["action"]),
            lambda: AuditEvent.objects.update_or_create(
                action="study_viewed", defaults={"action": "logged_in"}
            ),
        ],
    )
    def test_nor_are_many(self, event, deed):
        with pytest.raises(TypeError), transaction.atomic():
            deed()
        assert AuditEvent.objects.get().action == "study_viewed"

    def test_who_is_in_the_record_is_not_deleted(self, event, amina):
        with pytest.raises(ProtectedError):
            amina.delete()

    def test_it_stays_when_the_study_goes(self, amina):
        study = answered()
        number = study.number
        AuditEvent.record(amina, "study_viewed", study)
        study.delete_for("taken twice", by=amina)

        assert ("amina", "study_viewed", number) in events()

    def test_no_page_changes_it(self, client):
        assert client.post(reverse("audit")).status_code == 405


class TestPage:
    @pytest.fixture
    def filled(self, client, amina) -> Client:
        study = take_in()
        AuditEvent.record(amina, "study_viewed", study)
        AuditEvent.record(
            amina, "user_changed", amina, changed={"role": ["clinician", "read_only"]}
        )
        AuditEvent.record(None, "log_in_failed", enter(Role.READ_ONLY, "brian"))
        return client

    def test_it_tells_in_words_who_did_what_to_what(self, filled):
        page = words_of(filled.get(reverse("audit")))

        assert "amina looked at a study" in page
        assert "nobody a log-in failed brian" in page
        assert "role: clinician → read_only" in page

    def test_a_patient_in_a_change_is_shown_by_name(self, client, administrator):
        patient = Patient.objects.create(name="Okello Grace")
        study = answered()
        study.change({"patient": patient}, by=administrator)

        page = client.get(reverse("audit")).content.decode()

        assert "patient: – → Okello Grace" in page
        assert "&#x27;" not in page

    @pytest.mark.parametrize(
        ("query", "shown", "hidden"),
        [
            ({"subject": "AMINA"}, "looked at a study", "a log-in failed"),
            ({"subject": "brian"}, "a log-in failed", "looked at a study"),
            ({"subject": "20010101-0001"}, "Nothing was recorded", "looked at a study"),
            ({"until": "2001-01-01"}, "Nothing was recorded", "looked at a study"),
            ({"since": "2001-01-01"}, "looked at a study", "Nothing was recorded"),
            ({"since": "yesterday"}, "looked at a study", "Nothing was recorded"),
        ],
    )
    def test_it_is_searched_by_study_or_person_and_day(self, filled, query, shown, hidden):
        page = words_of(filled.get(reverse("audit"), query))

        assert shown in page
        assert hidden not in page

    def test_it_shows_what_was_done_to_a_person_and_by_that_person(self, filled):
        page = words_of(filled.get(reverse("audit"), {"subject": "amina"}))

        assert "amina changed a person amina" in page
        assert "amina looked at a study" in page

    def test_it_comes_in_pages(self, client, administrator):
        event = {"user": administrator, "action": "film_viewed", "at": timezone.now()}
        AuditEvent.objects.bulk_create(AuditEvent(**event) for _ in range(150))

        first, second = (client.get(reverse("audit"), {"page": page}) for page in (1, 2))
        assert first.content.count(b"<tr>") == 101
        assert second.content.count(b"<tr>") == 51
        assert b'rel="next"' in first.content

    def test_what_people_typed_is_only_text(self, client, administrator):
        AuditEvent.record(administrator, "study_deleted", reason="<script>alert(1)</script>")

        page = client.get(reverse("audit")).content.decode()
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page


def recorded_in(root) -> set[str]:
    """Every action that the program's source writes down."""
    text = "".join(path.read_text(encoding="utf-8") for path in (root / "app").rglob("*.py"))
    return set(re.findall(r'AuditEvent\.record\(\s*[^"]*?,\s*"(\w+)"', text))


def test_every_action_has_its_words(root):
    found = recorded_in(root)

    assert {"study_viewed", "logged_in", "diagnostics_exported"} <= found
    assert found <= set(messages.ACTIONS)
