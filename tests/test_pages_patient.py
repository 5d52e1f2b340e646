"""Whose a study is: the block on its page, its form, the patient's page, merging, deleting."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from app.models import AuditEvent, Instance, Patient, Reading, Site, State, Study
from tests.people import browser, browser_of, enter
from tests.studies import answer, answered, film_bytes, stored, take_in
from tests.test_patients import film, years_ago

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

TODAY = timezone.localdate()


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def page(client: Client, name: str, *args: object, **query: object) -> str:
    return client.get(reverse(name, args=args), query).content.decode()


def block(client: Client, study: Study) -> str:
    """The patient's block on the study's page, in words."""
    html = page(client, "study", study.number)
    part = html[html.index('id="patient"') :]
    return text_of(part[: part.index("</section>")])


def fields(html: str) -> dict[str, str]:
    """What the form of a page would send as it stands."""
    sent: dict[str, str] = {}
    for tag in re.finditer(r"<input[^>]*>", html):
        words = tag[0]
        name = re.search(r' name="(\w+)"', words)
        value = re.search(r' value="([^"]*)"', words)
        kind = re.search(r'type="(\w+)"', words)
        if not name or (kind and kind[1] in ("radio", "checkbox") and " checked" not in words):
            continue
        sent[name[1]] = unescape(value[1]) if value else ""
    for name, inner in re.findall(r'<select name="(\w+)".*?>(.*?)</select>', html, re.DOTALL):
        chosen = re.search(r'value="([^"]*)" selected', inner)
        sent[name] = chosen[1] if chosen else ""
    for name, inner in re.findall(r'<textarea name="(\w+)".*?>(.*?)</textarea>', html, re.DOTALL):
        sent[name] = unescape(inner).removeprefix("\n")
    return sent


def unescape(text: str) -> str:
    from html import unescape as plain

    return plain(text)


def edit(client: Client, study: Study, **changed: str) -> Any:
    """Open the form, change fields, send it with the button that saves."""
    sent = fields(page(client, "study-edit", study.number))
    return send(client, study, sent | {"save": ""} | changed)


def send(client: Client, study: Study, sent: dict[str, str]) -> Any:
    return client.post(reverse("study-edit", args=[study.number]), sent)


def again(study: Study) -> Study:
    return Study.objects.get(pk=study.pk)


class TestTheBlock:
    def test_unknown_is_said(self, client):
        words = block(client, take_in())

        assert "Nobody has entered yet whose films these are" in words
        assert "age unknown" in words
        assert "May be learnt from not asked" in words

    def test_it_says_who_the_patient_is(self, client):
        amina = Patient.objects.create(name="Amina Otieno", number="C-17", sex="F")
        study = take_in(patient=amina, age_years=0.5)
        study.change({"consent_for_learning": False, "note": "Fever for 3 days"}, by=None)

        words = block(client, study)
        for said in ("Amina Otieno", "C-17", "female", "6 months", "Date of birth unknown"):
            assert said in words
        assert "May be learnt from no" in words
        assert "Fever for 3 days" in words

    def test_earlier_films_are_shown_with_their_answers(self, client):
        amina = Patient.objects.create(name="Amina")
        earlier = answer(take_in(film_bytes(1), patient=amina))
        study = take_in(film_bytes(2), patient=amina)

        html = page(client, "study", study.number)
        assert "Earlier films" in html
        assert f'href="{reverse("study", args=[earlier.number])}"' in html
        assert f"{reverse('viewer', args=[study.number])}?earlier={earlier.number}" in html
        assert "Likely" in block(client, study)

    def test_the_link_puts_the_earlier_film_beside_the_other(self, client):
        amina, juma = (Patient.objects.create(name=name) for name in ("Amina", "Juma"))
        earlier = answer(take_in(film_bytes(1), patient=amina))
        stranger = answer(take_in(film_bytes(2), patient=juma))
        study = answer(take_in(film_bytes(3), patient=amina))
        chosen = f'value="{earlier.instances.get().pk}" selected'

        assert chosen in page(client, "viewer", study.number, earlier=earlier.number)
        assert chosen not in page(client, "viewer", study.number, earlier=stranger.number)
        assert chosen not in page(client, "viewer", study.number)

    def test_an_earlier_answer_is_hidden_from_who_has_to_read_first(self, site):
        Site.objects.update(blind_first_read=True)
        amina = Patient.objects.create(name="Amina")
        answer(take_in(film_bytes(1), patient=amina))
        study = take_in(film_bytes(2), patient=amina)

        words = block(browser("clinician"), study)
        assert "read it first" in words
        assert "Likely" not in words
        assert "Likely" in block(browser("health_worker"), study)

    def test_films_of_nobody_are_no_earlier_films(self, client):
        take_in(film_bytes(1))

        assert "Earlier films" not in page(client, "study", take_in(film_bytes(2)).number)

    def test_a_header_that_speaks_of_somebody_else_is_told(self, client):
        study = take_in(patient=Patient.objects.create(name="Amina"))
        study.learn_from(film("Juma <b>", "77"))

        html = page(client, "study", study.number)
        assert "The file of a film in this study speaks of somebody else" in html
        assert "Juma &lt;b&gt;" in html
        again(study).change({"patient": Patient.objects.create(name="juma <B>")}, by=None)
        assert "The file of a film" not in page(client, "study", study.number)

    @pytest.mark.parametrize(
        ("role", "may"),
        [
            ("read_only", []),
            ("health_worker", ["Edit", "Add a film"]),
            ("clinician", ["Edit", "Add a film", "Delete this study"]),
        ],
    )
    def test_nobody_is_offered_what_they_may_not_do(self, site, role, may):
        words = block(browser(role), take_in())

        for offered in ("Edit", "Add a film", "Delete this study"):
            assert (offered in words) is (offered in may)

    def test_a_name_cannot_break_out_of_its_place(self, client):
        study = take_in(patient=Patient.objects.create(name="<script>alert(1)</script>"))

        html = page(client, "study", study.number)
        assert "<script>alert" not in html
        assert "<bdi>&lt;script&gt;" in html


class TestEntering:
    def test_a_new_patient_is_entered_and_written_down(self, client, administrator):
        study = take_in()
        response = edit(client, study, name="Amina", number="17", sex="F", age="4", note="cough")

        assert response.status_code == 302
        amina = again(study).patient
        assert (amina.name, amina.number, amina.sex) == ("Amina", "17", "F")
        assert (again(study).age_years, again(study).note) == (4.0, "cough")
        event = AuditEvent.objects.get(action="patient_entered")
        assert event.user == administrator

    @pytest.mark.parametrize(
        ("name", "kept"),
        [
            ("أمينة عثمان", "أمينة عثمان"),
            ("\u202eAmina\u200f \U0001f600", "Amina \U0001f600"),
            ("Zoe\u0308  Árnadóttir", "Zoë Árnadóttir"),
            ("阿米娜", "阿米娜"),
        ],
    )
    def test_a_name_in_any_script_is_kept_shown_and_found(self, client, name, kept):
        study = take_in()
        edit(client, study, name=name)

        assert again(study).patient.name == kept
        assert f"<bdi>{kept}</bdi>" in page(client, "study", study.number)
        assert list(Study.objects.search(kept)) == [study]

    @pytest.mark.parametrize(
        ("age", "unit", "years"),
        [
            ("4", "years", 4.0),
            ("6", "months", 0.5),
            ("1,5", "years", 1.5),
            ("٤", "years", 4.0),
            ("130", "years", 130.0),
            ("", "years", None),
        ],
    )
    def test_an_age_is_taken_in_years_or_months(self, client, age, unit, years):
        study = take_in(age_years=33)
        edit(client, study, age=age, age_unit=unit)

        assert again(study).age_years == years

    def test_a_date_of_birth_gives_the_age(self, client):
        study = take_in()
        edit(client, study, name="Amina", birth_date=years_ago(5).isoformat())

        assert again(study).age_years == pytest.approx(5, abs=0.01)

    def test_an_age_that_fits_the_date_is_no_contradiction(self, client):
        study = take_in()
        response = edit(client, study, birth_date=years_ago(5.4).isoformat(), age="5")

        assert response.status_code == 302
        assert again(study).age_years == pytest.approx(5.4, abs=0.01)

    @pytest.mark.parametrize(("typed", "kept"), [("yes", True), ("no", False), ("", None)])
    def test_consent_is_yes_no_or_not_asked(self, client, typed, kept):
        study = take_in()
        study.change({"consent_for_learning": not kept}, by=None)
        edit(client, study, consent=typed)

        assert again(study).consent_for_learning is kept

    def test_an_age_that_nobody_touched_stays_as_fine_as_it_was(self, client):
        study = take_in(age_years=4.37)
        edit(client, study, note="seen")

        assert again(study).age_years == 4.37

    def test_nothing_changed_is_nothing_written_down(self, client):
        study = take_in(patient=Patient.objects.create(name="Amina", birth_date=years_ago(3)))
        before = AuditEvent.objects.exclude(action__endswith="_viewed").count()
        assert edit(client, study).status_code == 302

        assert AuditEvent.objects.exclude(action__endswith="_viewed").count() == before

    def test_facts_hold_for_all_studies_of_the_patient(self, client):
        amina = Patient.objects.create(name="Amin")
        one, other = take_in(film_bytes(1), patient=amina), take_in(film_bytes(2), patient=amina)
        edit(client, one, name="Amina")

        assert again(other).patient.name == "Amina"
        assert list(Study.objects.search("amina")) == [one, other]


class TestBadInput:
    @pytest.mark.parametrize(
        ("field", "typed", "sentence"),
        [
            ("age", "200", "The age cannot be above 130 years."),
            ("age", "-1", "The age cannot be below 0."),
            ("age", "abc", "The age must be a number, such as 3."),
            ("age", "nan", "The age must be a number, such as 3."),
            ("age", "1e400", "The age must be a number, such as 3."),
            ("birth_date", (TODAY + timedelta(days=1)).isoformat(), "has not come yet"),
            ("birth_date", "1850-01-01", "The age cannot be above 130 years."),
            ("birth_date", "2019-02-30", "This is no date."),
            ("birth_date", "yesterday", "This is no date."),
            ("name", "n" * 201, "at most 200"),
            ("number", "9" * 65, "at most 64"),
            ("sex", "X", "Select a valid choice"),
            ("consent", "perhaps", "Select a valid choice"),
            ("note", "w" * 5001, "at most 5000"),
        ],
    )
    def test_it_is_told_beside_the_field_and_nothing_typed_is_lost(
        self, client, field, typed, sentence
    ):
        study = take_in()
        response = edit(client, study, **{"name": "Amina", "note": "cough", field: typed})

        html = response.content.decode()
        assert response.status_code == 400
        assert sentence in text_of(html)
        left = fields(html)
        if field not in ("sex", "consent"):
            assert left[field] == typed
        assert left["name"] == (typed if field == "name" else "Amina")
        assert again(study).patient is None

    def test_an_age_in_months_has_the_same_limit(self, client):
        response = edit(client, take_in(), age="1561", age_unit="months")

        assert "The age cannot be above 130 years." in response.content.decode()

    def test_an_age_that_contradicts_the_date_is_told(self, client):
        study = take_in()
        response = edit(client, study, birth_date=years_ago(5).isoformat(), age="40")

        html = response.content.decode()
        assert response.status_code == 400
        assert "By the date of birth the patient was" in html
        assert fields(html)["age"] == "40"

    def test_months_have_to_fit_more_closely(self, client):
        born = years_ago(0.5).isoformat()

        assert edit(client, take_in(), birth_date=born, age="6", age_unit="months").url
        contradiction = edit(client, take_in(), birth_date=born, age="11", age_unit="months")
        assert contradiction.status_code == 400

    def test_nobody_is_born_after_a_film_of_theirs(self, client):
        amina = Patient.objects.create(name="Amina")
        old = take_in(film_bytes(1), patient=amina)
        Study.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=900))
        study = take_in(film_bytes(2), patient=amina)

        response = edit(client, study, birth_date=years_ago(1).isoformat())
        assert response.status_code == 400
        assert old.number in response.content.decode()

    def test_a_patient_that_is_not_there_is_a_new_one(self, client):
        study = take_in()
        for made_up in ("999999", "9" * 40, "-1", "x", "١"):
            assert edit(client, study, patient=made_up).status_code == 302
        assert again(study).patient is None


class TestChoosing:
    def test_a_patient_is_found_without_losing_what_was_typed(self, client):
        Patient.objects.create(name="Amina Otieno", number="17")
        study = take_in()
        sent = fields(page(client, "study-edit", study.number)) | {"note": "cough", "age": "abc"}

        html = send(client, study, sent | {"q": "otieno", "find": ""}).content.decode()
        assert "Amina Otieno" in text_of(html)
        assert 'name="choose"' in html
        assert (fields(html)["note"], fields(html)["age"]) == ("cough", "abc")
        assert "must be a number" not in html

    def test_the_enter_key_in_the_search_searches(self, client):
        Patient.objects.create(name="Amina")
        study = take_in()
        sent = fields(page(client, "study-edit", study.number))

        assert 'name="choose"' in send(client, study, sent | {"q": "amina"}).content.decode()
        assert again(study).patient is None

    def test_choosing_shows_the_facts_and_saves_nothing_yet(self, client):
        amina = Patient.objects.create(name="Amina", number="17", birth_date=years_ago(5))
        study = take_in(age_years=30)
        sent = fields(page(client, "study-edit", study.number)) | {"note": "cough"}

        sent |= {"q": "ami", "choose": str(amina.pk)}
        html = send(client, study, sent).content.decode()
        left = fields(html)
        assert "No patient here" not in html
        assert left["q"] == ""
        assert (left["name"], left["number"], left["note"]) == ("Amina", "17", "cough")
        assert again(study).patient is None
        assert send(client, study, left | {"save": ""}).status_code == 302
        assert again(study).patient == amina
        assert again(study).age_years == pytest.approx(5, abs=0.01)
        assert Patient.objects.count() == 1

    def test_another_patient_does_not_get_the_facts_of_the_first(self, client):
        juma = Patient.objects.create(name="Juma", number="9")
        amina = Patient.objects.create(name="Amina", number="17")
        study = take_in(patient=juma)
        sent = fields(page(client, "study-edit", study.number)) | {"choose": str(amina.pk)}

        send(client, study, fields(send(client, study, sent).content.decode()) | {"save": ""})
        assert again(study).patient == amina
        juma.refresh_from_db()
        amina.refresh_from_db()
        assert (juma.name, amina.name) == ("Juma", "Amina")

    def test_a_new_patient_instead_leaves_the_first_as_it_was(self, client):
        juma = Patient.objects.create(name="Juma", number="9")
        study = take_in(patient=juma)
        sent = fields(page(client, "study-edit", study.number)) | {"choose": "new"}
        left = fields(send(client, study, sent).content.decode())

        assert left["name"] == ""
        send(client, study, left | {"name": "Amina", "save": ""})
        assert again(study).patient.name == "Amina"
        juma.refresh_from_db()
        assert juma.name == "Juma"

    def test_nobody_yet_can_be_said_again(self, client):
        study = take_in(patient=Patient.objects.create(name="Juma"))
        sent = fields(page(client, "study-edit", study.number)) | {"choose": ""}
        send(client, study, fields(send(client, study, sent).content.decode()) | {"save": ""})

        assert again(study).patient is None

    @pytest.mark.parametrize("typed", [{"name": "AMINA otieno"}, {"number": "17"}])
    def test_who_may_be_here_already_is_asked_about_before_a_second_one_is_made(
        self, client, typed
    ):
        amina = Patient.objects.create(name="Otieno Amina", number="17")
        study = take_in()
        response = edit(client, study, **typed)

        html = response.content.decode()
        assert "Is it somebody who is here already?" in html
        assert Patient.objects.count() == 1
        left = fields(html)
        chosen = fields(send(client, study, left | {"choose": str(amina.pk)}).content.decode())
        send(client, study, chosen | {"save": ""})
        assert again(study).patient == amina

        other = take_in(film_bytes(2))
        sent = fields(edit(client, other, **typed).content.decode())
        assert send(client, other, sent | {"surely": ""}).status_code == 302
        assert Patient.objects.count() == 2

    def test_the_search_while_typing_answers_with_buttons(self, client):
        amina = Patient.objects.create(name="Amina", number="17", sex="F")
        take_in(patient=amina)

        html = client.get(reverse("patients-find"), {"q": "17 ami"}).json()["html"]
        assert f'name="choose" value="{amina.pk}"' in html
        assert "1 study" in text_of(html)
        nothing = client.get(reverse("patients-find"), {"q": "grace"}).json()["html"]
        assert "No patient here" in nothing
        assert client.get(reverse("patients-find"), {"q": " "}).json()["html"].strip() == ""


class TestTwice:
    def test_a_form_sent_twice_enters_one_patient(self, client):
        study = take_in()
        sent = fields(page(client, "study-edit", study.number))
        sent |= {"name": "Amina", "number": "17", "age": "4", "save": ""}

        assert send(client, study, sent).status_code == 302
        events = AuditEvent.objects.count()
        assert send(client, study, sent).status_code == 302
        assert Patient.objects.count() == 1
        assert AuditEvent.objects.count() == events

    def test_a_page_from_the_back_button_writes_over_nothing(self, client):
        study = take_in()
        sent = fields(page(client, "study-edit", study.number))
        send(client, study, sent | {"name": "Amina", "note": "cough", "save": ""})

        response = send(client, study, sent | {"consent": "yes", "save": ""})
        assert response.status_code == 409
        assert (again(study).patient.name, again(study).note) == ("Amina", "cough")
        left = fields(response.content.decode())
        assert (left["name"], left["note"], left["consent"]) == ("Amina", "cough", "yes")
        assert send(client, study, left | {"save": ""}).status_code == 302
        assert again(study).consent_for_learning is True
        assert again(study).patient.name == "Amina"


class TestTwoAtOnce:
    @pytest.fixture
    def grace(self, client) -> Client:
        return browser_of(enter("clinician", "grace", full_name="Grace Okello"))

    @pytest.fixture
    def study(self) -> Study:
        return take_in(patient=Patient.objects.create(name="Amina", number="17"), age_years=4)

    def test_the_second_sees_both_values_and_loses_nothing(self, client, grace, study):
        sent = fields(page(client, "study-edit", study.number))
        edit(grace, study, name="Amina O.", note="from Grace")

        response = send(client, study, sent | {"name": "Amina Otieno", "save": ""})
        html = response.content.decode()
        words = text_of(html)
        assert response.status_code == 409
        assert "changed meanwhile by Grace Okello at" in words
        assert "“Amina O.”" in words
        left = fields(html)
        assert (left["name"], left["note"]) == ("Amina Otieno", "from Grace")
        assert again(study).patient.name == "Amina O."

        assert send(client, study, left | {"save": ""}).status_code == 302
        assert (again(study).patient.name, again(study).note) == ("Amina Otieno", "from Grace")

    @pytest.mark.parametrize(
        ("hers", "field", "shown"),
        [
            ({"age": "50"}, "age", "50"),
            ({"consent": "yes"}, "consent", "yes"),
            ({"sex": "F"}, "sex", "F"),
            ({"birth_date": years_ago(3).isoformat(), "age": ""}, "birth_date", None),
        ],
    )
    def test_what_only_the_other_changed_is_taken_over(
        self, client, grace, study, hers, field, shown
    ):
        sent = fields(page(client, "study-edit", study.number))
        edit(grace, study, **hers)
        response = send(client, study, sent | {"note": "mine", "save": ""})

        assert response.status_code == 409
        left = fields(response.content.decode())
        assert left[field] == (shown or hers[field])
        assert left["note"] == "mine"
        assert send(client, study, left | {"save": ""}).status_code == 302
        assert again(study).note == "mine"

    def test_the_same_change_of_both_is_no_quarrel(self, client, grace, study):
        sent = fields(page(client, "study-edit", study.number)) | {"note": "fever", "save": ""}
        edit(grace, study, note="fever")

        assert send(client, study, sent).status_code == 302

    def test_another_patient_chosen_meanwhile_keeps_its_own_facts(self, client, grace, study):
        juma = Patient.objects.create(name="Juma", number="9")
        sent = fields(page(client, "study-edit", study.number))
        choose = fields(page(grace, "study-edit", study.number)) | {"choose": str(juma.pk)}
        send(grace, study, fields(send(grace, study, choose).content.decode()) | {"save": ""})
        assert again(study).patient == juma

        left = fields(send(client, study, sent | {"note": "mine", "save": ""}).content.decode())
        assert (left["patient"], left["name"]) == (str(juma.pk), "Juma")
        send(client, study, left | {"save": ""})
        assert (again(study).patient, again(study).note) == (juma, "mine")
        assert sorted(Patient.objects.values_list("name", flat=True)) == ["Amina", "Juma"]

    def test_facts_typed_for_one_never_go_to_the_other(self, client, grace, study):
        juma = Patient.objects.create(name="Juma", number="9")
        sent = fields(page(client, "study-edit", study.number)) | {"name": "Amina Otieno"}
        again(study).change({"patient": juma}, by=enter("clinician", "paul"))

        response = send(client, study, sent | {"save": ""})
        assert response.status_code == 409
        assert "“Juma”" in text_of(response.content.decode())
        send(client, study, fields(response.content.decode()) | {"save": ""})
        juma.refresh_from_db()
        assert juma.name == "Juma"
        assert again(study).patient.name == "Amina Otieno"

    def test_a_version_that_somebody_made_up_overwrites_nothing_unseen(self, client, study):
        response = edit(client, study, base="made up", name="Somebody")

        assert response.status_code == 409
        assert again(study).patient.name == "Amina"

    def test_a_patient_merged_meanwhile_is_the_one_who_stayed(self, client, study):
        sent = fields(page(client, "study-edit", study.number)) | {"note": "mine", "save": ""}
        stays = Patient.objects.create(name="Amina", number="17", sex="F")
        stays.take_over(study.patient, by=None)

        left = fields(send(client, study, sent).content.decode())
        assert left["sex"] == "F"
        send(client, study, left | {"save": ""})
        assert (again(study).patient, again(study).note) == (stays, "mine")


class TestTheAgeOfAnAnswer:
    def test_it_is_told_where_the_age_has_changed_since(self, client):
        study = answer(take_in(age_years=4), age_years=4)
        assert "Analyse again" not in block(client, study)
        edit(client, study, age="40")

        words = block(client, study)
        assert "given for another age: 4 years. Now it is: 40 years." in words
        assert "Analyse again" in words
        assert again(study).status == State.ANSWERED

    def test_an_age_said_the_same_is_the_same(self, client):
        study = answer(take_in(age_years=4.2), age_years=4.0)

        assert "another age" not in block(client, study)

    def test_it_is_analysed_again_when_somebody_asks_and_once(self, client, administrator):
        study = answer(take_in(age_years=40), age_years=4)
        tasks = DBTaskResult.objects.count()
        for _ in range(2):
            response = client.post(reverse("analyse-study-again", args=[study.number]))
            assert response.status_code == 302

        assert again(study).status == State.WAITING
        assert DBTaskResult.objects.count() == tasks + 1
        assert AuditEvent.objects.get(action="analysis_asked_for").user == administrator
        assert study.instances.get().findings.count() == 1

    def test_who_only_looks_cannot_ask(self, site):
        study = answer(take_in(age_years=40), age_years=4)
        reader = browser("read_only")

        assert "Analyse again" not in block(reader, study)
        address = reverse("analyse-study-again", args=[study.number])
        assert reader.post(address).status_code == 403


class TestHistory:
    def test_it_says_who_changed_what_from_what_to_what(self, client):
        study = take_in(patient=Patient.objects.create(name="Amin"))
        edit(client, study, name="Amina", age="4", consent="yes")

        words = text_of(page(client, "study", study.number))
        assert "Name or code Amin became Amina" in words
        assert "Age at the study age unknown became 4 years" in words
        assert "May be learnt from not asked became yes" in words
        assert "administrator · changed a patient" in words

    def test_a_patient_is_named_in_it_even_after_a_merge(self, client):
        one, other = (Patient.objects.create(name=name) for name in ("Amina", "Amína O."))
        study = take_in(patient=other)
        one.take_over(other, by=None)

        words = text_of(page(client, "study", study.number))
        assert "Patient Amína O. became Amina" in words
        assert "1 study came along" in words
        assert "Name or code: Amína O." in words

    def test_the_patients_page_tells_what_was_done_to_who_was_merged_into_it(self, client):
        one, other = (Patient.objects.create(name="Amina") for _ in range(2))
        other.change({"number": "old-17"}, by=None)
        one.take_over(other, by=None)

        assert "Patient number unknown became old-17" in text_of(page(client, "patient", one.pk))

    def test_what_happened_to_others_is_not_in_it(self, client):
        study = take_in(patient=Patient.objects.create(name="Amina", number="1"))
        stranger = Patient.objects.create(name="Juma", number=study.number)
        stranger.change({"name": "Juma Otieno"}, by=None)

        assert "Otieno" not in page(client, "study", study.number)

    def test_looking_is_not_part_of_it(self, client):
        study = take_in()
        page(client, "study", study.number)

        assert "looked at a study" not in page(client, "study", study.number)


class TestThePatientsPage:
    def test_it_shows_facts_and_all_studies(self, client):
        amina = Patient.objects.create(name="Amina", number="17", birth_date=date(2019, 5, 31))
        one = answer(take_in(film_bytes(1), patient=amina))
        two = take_in(film_bytes(2), patient=amina)

        html = page(client, "patient", amina.pk)
        assert "31 May 2019" in text_of(html) or "May 31, 2019" in text_of(html)
        for study in (one, two):
            assert reverse("study", args=[study.number]) in html
        assert f"{reverse('viewer', args=[two.number])}?earlier={one.number}" in html
        assert AuditEvent.objects.filter(action="patient_viewed").count() == 1

    def test_likely_duplicates_are_offered_for_comparison(self, client):
        amina, again = (Patient.objects.create(name="Amina") for _ in range(2))
        Patient.objects.create(name="Juma")

        html = page(client, "patient", amina.pk)
        assert reverse("patient-merge", args=[amina.pk, again.pk]) in html
        assert "Juma" not in html

    def test_anybody_else_can_be_looked_for(self, client):
        amina, juma = (Patient.objects.create(name=name) for name in ("Amina", "Juma"))

        html = page(client, "patient", amina.pk, q="juma")
        assert reverse("patient-merge", args=[amina.pk, juma.pk]) in html

    def test_the_facts_are_changed_for_all_studies(self, client):
        amina = Patient.objects.create(name="Amin")
        study = take_in(patient=amina, age_years=40)
        sent = fields(page(client, "patient-edit", amina.pk))
        address = reverse("patient-edit", args=[amina.pk])
        sent |= {"name": "Amina", "birth_date": years_ago(5).isoformat()}

        assert client.post(address, sent).status_code == 302
        assert client.post(address, sent).status_code == 302
        assert again(study).age_years == pytest.approx(5, abs=0.01)
        assert AuditEvent.objects.filter(action="patient_changed").count() == 1

    def test_two_who_change_it_at_once_lose_nothing(self, client):
        amina = Patient.objects.create(name="Amin", number="1")
        sent = fields(page(client, "patient-edit", amina.pk))
        grace = enter("clinician", "grace", full_name="Grace Okello")
        amina.change({"number": "17", "sex": "F"}, by=grace)
        address = reverse("patient-edit", args=[amina.pk])

        response = client.post(address, sent | {"name": "Amina", "number": "18"})
        html = response.content.decode()
        assert response.status_code == 409
        assert "changed meanwhile by Grace Okello" in text_of(html)
        assert "“17”" in text_of(html)
        left = fields(html)
        assert (left["name"], left["number"], left["sex"]) == ("Amina", "18", "F")
        assert client.post(address, left).status_code == 302
        amina.refresh_from_db()
        assert (amina.name, amina.number, amina.sex) == ("Amina", "18", "F")

    @pytest.mark.parametrize("born", ["2999-01-01", "1700-01-01", "31/02/2020"])
    def test_a_wrong_date_is_told_and_stays(self, client, born):
        amina = Patient.objects.create(name="Amina")
        response = client.post(
            reverse("patient-edit", args=[amina.pk]), {"name": "Amina", "birth_date": born}
        )

        assert response.status_code == 400
        assert fields(response.content.decode())["birth_date"] == born

    def test_one_without_studies_can_be_deleted_and_only_then(self, client):
        lonely, seen = (Patient.objects.create(name=name) for name in ("Amina", "Juma"))
        take_in(patient=seen)
        for one in (lonely, seen):
            client.post(reverse("patient-delete", args=[one.pk]))

        assert Patient.objects.get() == seen
        assert AuditEvent.objects.filter(action="patient_deleted").count() == 1
        assert "who has no study" not in page(client, "patient", seen.pk)

    def test_one_who_never_was_is_404(self, client):
        for name in ("patient", "patient-edit"):
            assert client.get(reverse(name, args=[999])).status_code == 404


class TestMerging:
    @pytest.fixture
    def two(self) -> tuple[Patient, Patient]:
        one = Patient.objects.create(name="Amina", number="17")
        return one, Patient.objects.create(name="Amina O.", number="17", sex="F")

    def merge(self, client: Client, one: Patient, other: Patient, **changed: str) -> Any:
        sent = fields(page(client, "patient-merge", one.pk, other.pk))
        sent |= {"stays": str(one.pk)} | changed
        return client.post(reverse("patient-merge", args=[one.pk, other.pk]), sent)

    def test_both_are_shown_with_their_films(self, client, two):
        studies = [take_in(film_bytes(seed), patient=one) for seed, one in enumerate(two)]

        html = page(client, "patient-merge", two[0].pk, two[1].pk)
        for study in studies:
            assert reverse("study", args=[study.number]) in html
        assert "Amina O." in html
        assert " checked" not in html

    def test_the_chosen_one_stays_and_it_is_written_down(self, client, administrator, two):
        one, other = two
        study = take_in(patient=one)
        response = self.merge(client, one, other, stays=str(other.pk))

        assert response.url == reverse("patient", args=[other.pk])
        assert again(study).patient == Patient.objects.get() == other
        assert AuditEvent.objects.get(action="patients_merged").user == administrator

    def test_nobody_is_merged_without_a_choice(self, client, two):
        for stays in ("", "999", "x"):
            response = self.merge(client, *two, stays=stays)
            assert response.status_code == 400
            assert "Choose which of the two stays" in response.content.decode()
        assert Patient.objects.count() == 2

    def test_done_twice_the_second_leads_to_the_one_who_stayed(self, client, two):
        one, other = two
        sent = fields(page(client, "patient-merge", one.pk, other.pk)) | {"stays": str(one.pk)}
        address = reverse("patient-merge", args=[one.pk, other.pk])

        assert [client.post(address, sent).url for _ in range(2)] == [
            reverse("patient", args=[one.pk])
        ] * 2
        assert client.get(address).url == reverse("patient", args=[one.pk])
        assert client.get(reverse("patient", args=[other.pk])).url == (
            reverse("patient", args=[one.pk])
        )
        assert AuditEvent.objects.filter(action="patients_merged").count() == 1

    def test_what_has_changed_since_has_to_be_looked_at_again(self, client, two):
        one, other = two
        sent = fields(page(client, "patient-merge", one.pk, other.pk)) | {"stays": str(one.pk)}
        take_in(patient=other)

        response = client.post(reverse("patient-merge", args=[one.pk, other.pk]), sent)
        assert response.status_code == 409
        assert Patient.objects.count() == 2

    def test_nobody_is_merged_with_themselves(self, client, two):
        address = reverse("patient-merge", args=[two[0].pk, two[0].pk])

        assert client.get(address).status_code == 404

    def test_a_health_worker_may_not(self, site, two):
        worker = browser("health_worker")
        address = reverse("patient-merge", args=[two[0].pk, two[1].pk])

        assert worker.get(address).status_code == 403
        assert worker.post(address, {"stays": str(two[0].pk)}).status_code == 403
        assert "Compare and merge" not in page(worker, "patient", two[0].pk)


class TestDeleting:
    def delete(self, client: Client, study: Study, **changed: str) -> Any:
        sent = fields(page(client, "study-delete", study.number))
        sent |= {"reason": "Wrong person", "sure": "on"} | changed
        return client.post(reverse("study-delete", args=[study.number]), sent)

    def test_the_page_says_what_will_be_lost(self, client, administrator):
        study = answer(take_in(patient=Patient.objects.create(name="Amina")))
        Reading.objects.create(study=study, by=administrator, conclusion="pneumonia")

        words = text_of(page(client, "study-delete", study.number))
        for lost in ("1 film", "1 answer of the computer", "1 reading or diagnosis"):
            assert lost in words
        assert "The patient Amina , who has no other study" in words

    def test_it_is_gone_and_its_address_says_who_did_it(
        self, client, administrator, django_capture_on_commit_callbacks
    ):
        study = answered()
        path = stored(study.instances.get())
        with django_capture_on_commit_callbacks(execute=True):
            response = self.delete(client, study)

        assert response.url == reverse("worklist")
        assert not path.exists()
        assert not Instance.objects.exists()
        event = AuditEvent.objects.get(action="study_deleted")
        assert (event.user, event.details["reason"]) == (administrator, "Wrong person")
        for name in ("study", "study-edit", "study-delete"):
            gone = client.get(reverse(name, args=[study.number]))
            words = text_of(gone.content.decode())
            assert gone.status_code == 410
            assert f"administrator deleted study {study.number} on" in words
            assert "Wrong person" in words

    def test_only_who_may_view_hears_of_it(self, client, site):
        study = take_in()
        self.delete(client, study)

        response = Client().get(reverse("study", args=[study.number]))
        assert response.status_code == 302
        assert b"deleted" not in response.content

    @pytest.mark.parametrize(
        ("changed", "sentence"),
        [
            ({"reason": ""}, "Write down why."),
            ({"reason": " \n"}, "Write down why."),
            ({"sure": ""}, "Tick this if it is meant."),
        ],
    )
    def test_it_needs_a_reason_and_a_tick(self, client, changed, sentence):
        study = take_in()
        response = self.delete(client, study, **changed)

        assert response.status_code == 400
        assert sentence in response.content.decode()
        assert Study.objects.exists()

    def test_sent_twice_it_is_done_once(self, client):
        study = take_in()
        sent = fields(page(client, "study-delete", study.number)) | {"reason": "x", "sure": "on"}
        address = reverse("study-delete", args=[study.number])

        assert client.post(address, sent).status_code == 302
        assert client.post(address, sent).status_code == 410
        assert AuditEvent.objects.filter(action="study_deleted").count() == 1

    def test_what_was_added_meanwhile_is_not_lost_unseen(self, client, administrator):
        study = take_in()
        sent = fields(page(client, "study-delete", study.number)) | {"reason": "x", "sure": "on"}
        Reading.objects.create(study=study, by=administrator, conclusion="pneumonia")
        address = reverse("study-delete", args=[study.number])

        response = client.post(address, sent)
        html = response.content.decode()
        assert "Something was added to this study meanwhile" in html
        assert "1 reading or diagnosis" in html
        assert client.post(address, fields(html) | {"sure": "on"}).status_code == 302

    @pytest.mark.parametrize("role", ["health_worker", "read_only"])
    def test_not_everybody_may(self, site, role):
        study = take_in()
        somebody = browser(role)
        address = reverse("study-delete", args=[study.number])

        assert somebody.get(address).status_code == 403
        assert somebody.post(address, {"reason": "x", "sure": "on"}).status_code == 403
        assert Study.objects.exists()

    def test_a_study_that_never_was_is_404(self, client):
        for name in ("study-edit", "study-delete"):
            assert client.get(reverse(name, args=["20200101-0001"])).status_code == 404
