"""What leaves as a file: a study as FHIR, and the table of films."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given
from hypothesis import strategies as st

from app import exports, uids
from app.models import AuditEvent, Instance, Patient, Reading, Site, State, Study
from tests.people import browser, browser_of, enter
from tests.readings import read_studies
from tests.studies import MODEL, answered, film_bytes, take_in, turned_down

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]


@pytest.fixture
def study(site) -> Study:
    study = answered(answer="likely", probability=0.934, threshold=0.41)
    patient = Patient.objects.create(name="Okello Grace", number="P-77", sex="F")
    study.change({"patient": patient, "age_years": 3.0}, by=None)
    return study


class TestFhir:
    def ask(self, client, study: Study):
        return client.get(reverse("study-fhir", args=[study.number]))

    def bundle(self, client, study: Study) -> dict:
        response = self.ask(client, study)
        assert response.status_code == 200
        made = json.loads(response.content)
        Bundle.model_validate(made)
        return made

    def resource(self, made: dict, kind: str) -> dict:
        return next(e["resource"] for e in made["entry"] if e["resource"]["resourceType"] == kind)

    def test_it_is_a_file_of_that_kind_that_names_nobody(self, client, study):
        response = self.ask(client, study)

        assert response["Content-Type"] == "application/fhir+json; charset=utf-8"
        name = f'attachment; filename="study-{study.number}.fhir.json"'
        assert response["Content-Disposition"] == name
        assert "no-store" in response["Cache-Control"]

    def test_it_says_what_the_study_says(self, client, study):
        made = self.bundle(client, study)

        assert self.resource(made, "Patient")["name"] == [{"text": "Okello Grace"}]
        found = self.resource(made, "Observation")
        assert found["valueCodeableConcept"]["text"] == "Likely"
        assert {
            "value": 0.934,
            "unit": "1",
            "system": "http://unitsofmeasure.org",
            "code": "1",
        } in [part.get("valueQuantity") for part in found["component"]]
        assert self.resource(made, "Device")["version"] == [{"value": MODEL.partition("@")[2]}]

    def test_a_reading_is_in_it_with_its_reader(self, client, study):
        by = enter("clinician", full_name="Dr Achieng")
        Reading.record(study, by, conclusion="pneumonia", agrees=True)

        made = self.bundle(client, study)
        assert self.resource(made, "Practitioner")["name"] == [{"text": "Dr Achieng"}]
        assert self.resource(made, "DiagnosticReport")["status"] == "final"

    def test_twice_it_is_the_same(self, client, study):
        assert self.ask(client, study).content == self.ask(client, study).content

    @pytest.mark.parametrize("reason", ["page_of_text", "too_small"])
    def test_a_refused_film_has_its_reason_and_no_probability(self, client, reason):
        made = self.bundle(client, turned_down(reason))
        found = self.resource(made, "Observation")

        assert found["dataAbsentReason"]["coding"][0]["code"] == reason
        assert "probability" not in json.dumps(found["component"])

    def test_it_speaks_the_language_of_whoever_asks(self, site, study):
        made = self.bundle(browser_of(enter("clinician", language="fr")), study)

        assert self.resource(made, "Observation")["language"] == "fr"

    def test_the_uids_of_a_dicom_header_are_kept(self, client, study):
        Study.objects.filter(pk=study.pk).update(study_uid="1.2.3", accession_number="A 1")
        study.instances.update(sop_class_uid="1.2.840.10008.5.1.4.1.1.1", series_uid="1.2.3.4")

        imaging = self.resource(self.bundle(client, study), "ImagingStudy")
        assert {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"} in imaging["identifier"]
        assert imaging["series"][0]["uid"] == "1.2.3.4"

    def test_it_is_written_down_who_took_it_out(self, client, study, administrator):
        self.ask(client, study)

        event = AuditEvent.objects.get(action="fhir_exported")
        assert (event.user, event.subject) == (administrator, study.number)

    def test_a_film_that_waits_has_none(self, client):
        study = take_in()
        response = self.ask(client, study)

        assert response.status_code == 302
        assert not AuditEvent.objects.filter(action="fhir_exported").exists()

    def test_who_has_to_read_first_gets_none(self, blind, study):
        reader = enter("clinician")
        response = self.ask(browser_of(reader), study)

        assert response["Location"] == reverse("study", args=[study.number])
        assert not AuditEvent.objects.filter(action="fhir_exported").exists()

        Reading.record(study, reader, conclusion="pneumonia")
        assert self.ask(browser_of(reader), study).status_code == 200

    def test_the_page_of_the_study_offers_it_where_there_is_one(self, client, study):
        address = reverse("study-fhir", args=[study.number])
        waiting = take_in(film_bytes(2))

        page = client.get(reverse("study", args=[study.number])).content.decode()
        assert page.count(address) == 1
        other = client.get(reverse("study", args=[waiting.number])).content.decode()
        assert reverse("study-fhir", args=[waiting.number]) not in other

    def test_who_has_to_read_first_is_offered_none(self, blind, study):
        page = browser("clinician").get(reverse("study", args=[study.number])).content.decode()

        assert reverse("study-fhir", args=[study.number]) not in page

    def test_there_is_none_of_a_study_that_is_not_there(self, client):
        assert client.get(reverse("study-fhir", args=["nothing"])).status_code == 404

    def test_two_clinics_call_nothing_by_the_same_name(self, site):
        here = uids.clinic_root(site)
        site.set_up_at += timedelta(microseconds=1)

        assert uids.clinic_root(site) != here

    def test_a_clinic_that_is_not_set_up_has_no_name(self):
        with pytest.raises(ValueError, match="not set up"):
            uids.clinic_root(Site())


def rows_of(client, **query: str) -> list[dict[str, str]]:
    response = client.get(reverse("films-table"), query)
    assert response.status_code == 200
    content = response.getvalue()
    assert content.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))


class TestTheTableOfFilms:
    def test_has_a_row_a_film_in_the_programs_own_words(self, client, study):
        (row,) = rows_of(client)

        assert row == {
            "study": study.number,
            "day": timezone.localdate().isoformat(),
            "patient_number": "",
            "patient_name": "",
            "age_years": "3.0",
            "sex": "F",
            "film": "1",
            "view_position": "",
            "status": "answered",
            "answer": "likely",
            "reason": "",
            "probability": "0.934",
            "threshold": "0.41",
            "regions": "right lower",
            "model": MODEL,
            "conclusion": "",
            "agrees": "",
            "before_answer": "",
            "diagnosis": "",
        }

    def test_names_a_patient_where_it_is_asked_for(self, client, study):
        (row,) = rows_of(client, names="1")

        assert (row["patient_name"], row["patient_number"]) == ("Okello Grace", "P-77")

    def test_leaves_empty_what_nobody_knows(self, client):
        turned_down("page_of_text")
        (row,) = rows_of(client)

        assert (row["status"], row["reason"]) == ("refused", "page_of_text")
        assert (row["probability"], row["age_years"], row["sex"]) == ("", "", "")

    def test_has_the_last_conclusion_and_the_diagnosis(self, client, study):
        by = enter("clinician")
        Reading.record(study, by, conclusion="unsure", agrees=True)
        Reading.record(study, by, conclusion="pneumonia", agrees=False)
        Reading.record(study, by, kind="diagnosis", conclusion="other")

        (row,) = rows_of(client)
        assert (row["conclusion"], row["agrees"], row["diagnosis"]) == ("pneumonia", "0", "other")

    def test_a_film_that_is_analysed_again_has_no_answer_yet(self, client, study):
        study.instances.update(state=State.WAITING)

        (row,) = rows_of(client)
        assert (row["status"], row["answer"], row["probability"]) == ("waiting", "", "")

    def test_holds_the_days_asked_for_and_no_others(self, client, study):
        day = timezone.localdate()
        before = (day - timedelta(days=1)).isoformat()

        assert len(rows_of(client, since=day.isoformat(), until=day.isoformat())) == 1
        assert rows_of(client, until=before) == []

    def test_of_a_day_that_is_none_it_says_so_and_gives_nothing_out(self, client, study):
        response = client.get(reverse("films-table"), {"since": "2026-02-31"})

        assert response.status_code == 400
        assert "is no date of the calendar" in response.content.decode()
        assert not AuditEvent.objects.filter(action="films_exported").exists()

    def test_keeps_from_a_reader_what_they_must_not_know_yet(self, blind, study):
        reader, other = enter("clinician"), enter("clinician", "other")
        Reading.record(study, other, conclusion="pneumonia")

        (row,) = rows_of(browser_of(reader))
        hidden = ("answer", "probability", "regions", "model", "conclusion", "agrees")
        assert {row[name] for name in hidden} == {""}
        assert row["study"] == study.number
        assert rows_of(browser_of(other))[0]["answer"] == "likely"

    def test_still_says_a_reader_why_a_film_was_refused(self, blind):
        turned_down("page_of_text")

        assert rows_of(browser("clinician"))[0]["reason"] == "page_of_text"

    def test_is_written_down_with_how_many_films_and_whether_with_names(
        self, client, study, administrator
    ):
        rows_of(client, names="1", since="2020-01-01")

        event = AuditEvent.objects.get(action="films_exported")
        assert event.user == administrator
        assert event.details == {"films": 1, "names": True, "since": "2020-01-01"}

    @pytest.mark.parametrize(
        ("role", "status"), [("read_only", 403), ("health_worker", 403), ("clinician", 200)]
    )
    def test_is_for_those_who_review(self, site, role, status):
        assert browser(role).get(reverse("films-table")).status_code == status

    def test_is_sent_as_it_is_read(self, client, study, monkeypatch):
        read = []
        row = exports._row
        monkeypatch.setattr(exports, "_row", lambda *given: read.append(1) or row(*given))

        response = client.get(reverse("films-table"))
        assert response.streaming
        lines = iter(response.streaming_content)
        next(lines)
        assert read == []
        next(lines)
        assert read == [1]

    def test_asks_no_more_of_the_database_for_more_films(
        self, client, administrator, django_assert_num_queries
    ):
        read_studies(administrator, "pneumonia", [0.9] * 40, model=MODEL)
        everything = Study.objects.all()

        with django_assert_num_queries(4):
            assert len(list(exports.table(everything, administrator, True))) == 40

    def test_two_films_of_a_study_are_two_rows_with_numbers(self, client, study):
        Instance.objects.create(
            study=study, file_name="b.png", source="upload", sha256="b" * 64,
            size_bytes=1, film="films/b", state=State.FAILED,
        )  # fmt: skip

        rows = rows_of(client)
        assert [(row["film"], row["status"]) for row in rows] == [
            ("1", "answered"),
            ("2", "failed"),
        ]


class TestACell:
    @pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\nx"])
    def test_that_would_begin_a_formula_begins_with_an_apostrophe(self, text):
        assert exports.cell(text) == "'" + text

    @pytest.mark.parametrize(
        ("value", "written"),
        [(True, 1), (False, 0), (None, None), (-1, -1), ("a=b", "a=b"), ("", ""), (0.5, 0.5)],
    )
    def test_is_otherwise_what_it_was(self, value, written):
        assert exports.cell(value) == written

    def test_a_patient_whose_name_is_a_formula_harms_nobody(self, client, study):
        Patient.objects.update(name='=HYPERLINK("http://x","y")')

        assert rows_of(client, names="1")[0]["patient_name"].startswith("'=")

    @given(st.lists(st.lists(st.text(), min_size=2, max_size=2), max_size=5))
    def test_comes_back_as_it_was_written(self, rows):
        rows = [[text.replace("\x00", "").encode("utf-8", "ignore").decode() for text in row]
                for row in rows]  # fmt: skip
        written = "".join(exports.as_csv(("a", "b"), rows))
        read = list(csv.reader(io.StringIO(written.removeprefix("\ufeff"), newline="")))

        assert read[0] == ["a", "b"]
        assert read[1:] == [[exports.cell(text) for text in row] for row in rows]


def test_the_record_has_words_for_every_export(client, study):
    client.get(reverse("study-fhir", args=[study.number]))
    client.get(reverse("films-table")).getvalue()
    client.get(reverse("month-table")).getvalue()

    page = client.get(reverse("audit")).content.decode()
    assert "downloaded a study as FHIR" in page
    assert "downloaded the table of films" in page
    assert "downloaded the counts of a month" in page
