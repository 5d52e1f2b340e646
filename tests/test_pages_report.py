"""The report: one sheet that says what is known, in the patient's language, and nothing hidden."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse
from django.utils import translation

from app import clinical_words, messages
from app.cxr.signs import Signs, danger_signs_for_age
from app.models import AuditEvent, ClinicalSigns, Patient, Reading, Site, Study
from app.views.report import qr_code
from tests.people import browser, browser_of, enter
from tests.studies import MODEL, answered, film_bytes, take_in, turned_down

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]


def html_of(client, study: Study, **query: str) -> str:
    response = client.get(reverse("report", args=[study.number]), query)
    assert response.status_code == 200
    return response.content.decode()


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


@pytest.fixture
def study() -> Study:
    study = answered(answer="likely", probability=0.934, threshold=0.41)
    study.change({"patient": Patient.objects.create(name="Okello Grace", number="P-77")}, by=None)
    return study


def read(study: Study, conclusion: str, **more: object) -> Reading:
    by = enter("clinician", f"clinician-{Reading.objects.count()}", full_name="Dr Achieng")
    return Reading.objects.create(study=study, by=by, conclusion=conclusion, **more)


class TestWhatItSays:
    def test_who_and_when(self, client, study):
        text = text_of(html_of(client, study))

        assert "Okello Grace" in text
        assert "P-77" in text
        assert study.number in text
        assert "age unknown" in text

    def test_the_answer_with_its_figures_and_the_model(self, client, study):
        text = text_of(html_of(client, study))

        assert "Signs of pneumonia: likely" in text
        assert "Probability 93 % · Threshold 41 %" in text
        assert MODEL in text

    def test_the_film_with_its_region_in_words_and_drawn(self, client, study):
        html = html_of(client, study)

        assert "right lower" in html
        assert '<rect class="region" x="40" y="90" width="50" height="60"/>' in html
        assert f"/films/{study.instances.get().pk}.png" in html

    def test_no_region_where_the_answer_denies_one(self, client):
        html = html_of(client, answered(answer="unlikely"))

        assert 'class="region"' not in html
        assert 'class="peak"' not in html

    def test_the_clinics_name(self, client, study):
        Site.objects.update(clinic_name="Kisoro Health Centre IV")

        assert "Kisoro Health Centre IV" in html_of(client, study)

    def test_the_limits_in_plain_words(self, client, study):
        html = html_of(client, study)

        assert all(str(limit).split(".")[0] in html for limit in messages.LIMITS)

    def test_that_nobody_has_read_the_film_yet(self, client, study):
        assert "No clinician has read this film yet." in html_of(client, study)

    def test_both_conclusions_with_reader_and_order(self, client, study):
        read(study, "no_pneumonia", before_answer=True)

        text = text_of(html_of(client, study))

        assert "no pneumonia" in text
        assert "Dr Achieng" in text
        assert "read before the computer's answer was shown" in text.replace("&#x27;", "'")

    def test_the_last_conclusion_of_several(self, client, study):
        read(study, "unsure")
        read(study, "pneumonia")

        text = text_of(html_of(client, study))

        assert "not sure" not in text
        assert "conclusion pneumonia" in text

    def test_the_final_diagnosis_beside_the_first_conclusion(self, client, study):
        read(study, "pneumonia")
        read(study, "other", kind=Reading.Kind.DIAGNOSIS)

        text = text_of(html_of(client, study))

        assert "Final diagnosis another disease" in text
        assert "conclusion pneumonia" in text

    def test_the_last_clinical_signs_beside_the_picture_with_their_rule(self, client, study):
        study.change({"age_years": 3.0}, by=None)
        nurse = enter("health_worker", full_name="Nurse Atim")
        ClinicalSigns.record(study, nurse, Signs(breaths_per_minute=30, danger_signs=frozenset()))
        convulsing = frozenset({danger_signs_for_age(3.0)[0]})
        ClinicalSigns.record(study, nurse, Signs(danger_signs=convulsing), token="2")

        text = text_of(html_of(client, study))

        assert str(clinical_words.URGENCIES["refer_urgently"]) in text
        assert str(clinical_words.RULES["imci"]) in text
        assert "Nurse Atim" in text
        assert "Signs of pneumonia: likely" in text

    def test_why_a_film_was_refused_and_no_probability(self, client):
        text = text_of(html_of(client, turned_down("page_of_text")))

        assert "This picture cannot be used" in text
        assert "page of text" in text
        assert "Probability" not in text

    def test_an_unreadable_file_without_a_picture(self, client):
        html = html_of(client, turned_down("truncated", "unreadable"))

        assert "This file cannot be read" in html
        assert 'class="report__film"' in html
        assert "<image" not in html

    def test_a_name_that_looks_like_markup_stays_a_name(self, client, study):
        Patient.objects.update(name="<script>alert(1)</script>")

        assert "<script>alert" not in html_of(client, study)


class TestLanguage:
    def test_it_speaks_the_patients_language_while_the_page_speaks_the_readers(self, client, study):
        html = html_of(client, study, language="ar")

        assert '<article class="report" lang="ar" dir="rtl">' in html
        assert '<html lang="en" dir="ltr">' in html

    def test_dates_are_written_as_that_language_does(self, client, study):
        month = html_of(client, study, language="fr")
        with translation.override("fr"):
            from django.utils.formats import date_format

            assert date_format(study.created_at, "SHORT_DATETIME_FORMAT") in month

    @pytest.mark.parametrize("wrong", ["tlh", "", "../en"])
    def test_a_language_that_is_not_there_is_the_readers(self, client, study, wrong):
        assert 'lang="en" dir="ltr">' in html_of(client, study, language=wrong)


class TestWhoMayHaveIt:
    def test_everybody_who_may_see_the_study(self, site, study):
        for role in ("read_only", "health_worker", "clinician", "administrator"):
            assert "likely" in html_of(browser(role), study)

    def test_it_is_audited(self, client, study, administrator):
        html_of(client, study, language="fr")

        event = AuditEvent.objects.filter(action="report_made").get()
        assert (event.user, event.subject) == (administrator, study.number)
        assert event.details == {"language": "fr"}

    def test_not_before_there_is_an_answer(self, client):
        response = client.get(reverse("report", args=[take_in().number]))

        assert response.status_code == 302

    def test_not_before_a_blind_first_reading(self, site, study):
        Site.objects.update(blind_first_read=True)
        reader = enter("clinician")

        response = browser_of(reader).get(reverse("report", args=[study.number]))

        assert response.status_code == 302
        assert not AuditEvent.objects.filter(action="report_made").exists()
        Reading.objects.create(study=study, by=reader, conclusion="pneumonia")
        assert "likely" in html_of(browser_of(reader), study)

    def test_a_study_that_is_not_there(self, client):
        assert client.get(reverse("report", args=["20200101-0001"])).status_code == 404


def test_of_several_films_it_says_how_many(client, study):
    second = take_in(film_bytes(2))
    second.instances.update(study=study)
    study.instances.get(state="waiting").give_up()
    study.refresh_standing()

    assert "2 films in this study" in html_of(client, study)


def test_the_code_on_the_sheet_is_a_picture_that_asks_nobody():
    drawn = qr_code("20261124-0001")

    assert drawn.startswith("<svg")
    assert "http" not in drawn
    assert "style=" not in drawn
