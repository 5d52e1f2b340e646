"""Films put in through the browser: by its script, one a request, or by a plain form."""

from __future__ import annotations

from datetime import date

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from app.models import Instance, Patient, Study
from tests.people import browser
from tests.studies import film_bytes, stored

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]


def film(seed: int = 1, name: str = "film.png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, film_bytes(seed), content_type="image/png")


def send(client, *files: SimpleUploadedFile, **fields: str):
    """As the script of the page sends."""
    data = {"films": list(files), **fields}
    return client.post(reverse("upload"), data, headers={"Accept": "application/json"})


def post(client, *files: SimpleUploadedFile, **fields: str):
    """As a browser without scripts sends."""
    return client.post(reverse("upload"), {"films": list(files), **fields})


class TestScript:
    def test_it_answers_with_the_study_of_each_film(self, client):
        [told] = send(client, film(name="a.png")).json()["films"]

        study = Study.objects.get()
        assert told == {
            "file": "a.png",
            "study": study.number,
            "url": reverse("study", args=[study.number]),
            "error": None,
            "duplicate": False,
        }

    def test_it_takes_in_the_good_ones_of_a_batch_with_a_bad_one(self, client):
        empty = SimpleUploadedFile("empty.png", b"")

        told = send(client, film(1), empty, film(2)).json()["films"]
        assert [bool(one["error"]) for one in told] == [False, True, False]
        assert Study.objects.count() == 2

    def test_it_says_in_a_sentence_why_a_file_was_turned_away(self, client, settings):
        settings.MAX_FILM_BYTES = 10

        [told] = send(client, film()).json()["films"]
        assert told["error"].startswith("The file is too large")
        assert told["study"] is None

    def test_it_keeps_a_file_that_is_no_picture(self, client):
        [told] = send(client, SimpleUploadedFile("notes.txt", b"notes")).json()["films"]

        assert told["error"] is None
        assert stored(Instance.objects.get()).read_bytes() == b"notes"

    def test_it_leads_to_the_first_study_where_the_same_film_comes_again(self, client):
        [first] = send(client, film()).json()["films"]
        [again] = send(client, film(name="copy.png")).json()["films"]

        assert again["study"] == first["study"]
        assert again["url"] == first["url"] + "?again"
        assert again["duplicate"] is True
        assert Instance.objects.count() == 1

    def test_it_says_so_when_no_file_came(self, client):
        response = send(client)

        assert response.status_code == 400
        assert response.json()["error"].startswith("No file arrived")

    def test_it_takes_nothing_in_by_get(self, client):
        response = client.get(reverse("upload"))

        assert response["Location"] == reverse("worklist")
        assert client.put(reverse("upload")).status_code == 405


class TestAge:
    @pytest.mark.parametrize(
        ("age", "unit", "years"),
        [("3", "years", 3.0), ("18", "months", 1.5), ("0", "months", 0.0), ("", "years", None)],
    )
    def test_it_writes_down_the_age(self, client, age, unit, years):
        send(client, film(), age=age, age_unit=unit)

        assert Study.objects.get().age_years == years

    @pytest.mark.parametrize("age", ["-1", "200", "three", "nan", "inf", "1e9"])
    def test_it_takes_no_film_in_under_an_age_that_cannot_be(self, client, age):
        response = send(client, film(), age=age, age_unit="years")

        assert response.status_code == 400
        assert response.json()["error"].startswith("The age")
        assert not Study.objects.exists()

    def test_it_takes_an_age_in_years_where_no_unit_came(self, client):
        send(client, film(), age="7")

        assert Study.objects.get().age_years == 7.0


class TestBelonging:
    """Films that a page has said whose they are."""

    def test_a_film_joins_the_study_that_is_named(self, client):
        first = Study.objects.get(number=send(client, film()).json()["films"][0]["study"])
        [told] = send(client, film(2), study=first.number).json()["films"]

        assert told["study"] == first.number
        assert first.instances.count() == 2

    def test_a_film_begins_a_study_of_the_patient_who_is_named(self, client):
        patient = Patient.objects.create(name="Amina", birth_date=date(2020, 1, 1))
        send(client, film(), patient=patient.pk)

        study = Study.objects.get()
        assert study.patient == patient
        assert study.age_years == pytest.approx(patient.age_on(timezone.localdate()))

    @pytest.mark.parametrize(
        "fields", [{"study": "20010101-0001"}, {"patient": "77"}, {"patient": "x"}]
    )
    def test_nothing_is_taken_in_for_what_is_not_there_any_more(self, client, fields):
        response = send(client, film(), **fields)

        assert response.status_code == 400
        assert "not there any more" in response.json()["error"]
        assert not Study.objects.exists()

    def test_the_same_film_stays_in_the_study_it_is_in(self, client):
        [first] = send(client, film(1)).json()["films"]
        [other] = send(client, film(2)).json()["films"]
        [told] = send(client, film(1), study=other["study"]).json()["films"]

        assert told["study"] == first["study"]
        assert told["duplicate"] is True


class TestToken:
    """A log-in in another tab makes the token of a page that is open too old."""

    def test_a_script_gets_a_fresh_one_that_works(self, administrator):
        visitor = Client(enforce_csrf_checks=True)
        visitor.force_login(administrator)
        address, accept = reverse("upload"), {"Accept": "application/json"}
        token = visitor.get(address, headers=accept).json()["token"]

        refused = visitor.post(address, {"films": [film()]}, headers=accept)
        assert refused.status_code == 403
        fields = {"films": [film()], "csrfmiddlewaretoken": token}
        assert visitor.post(address, fields, headers=accept).status_code == 200

    def test_it_is_never_kept_by_the_browser(self, client):
        response = client.get(reverse("upload"), headers={"Accept": "application/json"})

        assert "no-store" in response["Cache-Control"]

    def test_nobody_gets_one_who_may_not_put_films_in(self, site):
        response = browser("read_only").get(
            reverse("upload"), headers={"Accept": "application/json"}
        )

        assert response.status_code == 403


class TestPlainForm:
    def test_it_says_which_of_several_films_were_here_before(self, client):
        post(client, film(1))
        html = post(client, film(1, "again.png"), film(2, "new.png")).content.decode()

        assert html.count("was here before") == 1
        assert Instance.objects.count() == 2

    def test_a_double_click_stores_every_film_once(self, client):
        for _ in range(2):
            post(client, film(1), film(2))

        assert Instance.objects.count() == Study.objects.count() == 2

    def test_it_goes_to_the_study_of_a_single_film(self, client):
        response = post(client, film())

        assert response["Location"] == reverse("study", args=[Study.objects.get().number])

    def test_it_goes_to_the_worklist_after_several(self, client):
        assert post(client, film(1), film(2))["Location"] == reverse("worklist")

    def test_it_shows_what_was_turned_away_and_what_was_not(self, client):
        html = post(client, film(name="good.png"), SimpleUploadedFile("bad.png", b""))

        text = html.content.decode()
        assert "good.png" in text
        assert Study.objects.get().number in text
        assert "The file is empty" in text

    def test_it_says_so_when_no_file_was_chosen(self, client):
        response = post(client)

        assert response.status_code == 400
        assert "No file arrived" in response.content.decode()

    def test_it_says_what_is_wrong_with_the_age(self, client):
        response = post(client, film(), age="200", age_unit="years")

        assert "The age cannot be above 130 years" in response.content.decode()


class TestErrorPages:
    def test_it_turns_away_a_form_that_came_from_elsewhere(self):
        response = Client(enforce_csrf_checks=True).post(reverse("upload"), {"films": [film()]})

        assert response.status_code == 403
        assert "This page was too old" in response.content.decode()
        assert not Study.objects.exists()

    def test_it_says_that_it_is_too_much_at_once(self, client, settings):
        settings.DATA_UPLOAD_MAX_NUMBER_FILES = 1

        response = post(client, film(1), film(2))
        assert response.status_code == 413
        assert "too much at once" in response.content.decode()

    def test_it_has_words_for_an_address_that_leads_nowhere(self, client):
        response = client.get("/nothing/here")

        assert response.status_code == 404
        assert "There is nothing at this address" in response.content.decode()

    def test_it_has_words_for_a_fault_of_its_own(self, client, monkeypatch):
        from app.models.studies import StudyQuerySet

        def fail(*_: object) -> None:
            raise RuntimeError

        monkeypatch.setattr(StudyQuerySet, "as_rows_for", fail)
        client.raise_request_exception = False
        response = client.get(reverse("worklist"))
        assert response.status_code == 500
        assert "Something went wrong in the program" in response.content.decode()

    def test_it_has_words_for_a_request_that_makes_no_sense(self, client):
        response = client.get("/", headers={"Host": "elsewhere.example"})

        assert response.status_code == 400
        assert "not part of the program" in response.content.decode()

    def test_it_has_words_for_a_page_that_is_closed(self, rf):
        from django.views.defaults import permission_denied

        response = permission_denied(rf.get("/"), PermissionError())
        assert "not open to you" in response.content.decode()
