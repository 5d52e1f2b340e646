"""Patients: who is who, what a film's header may teach, merging, deleting."""

from __future__ import annotations

import io
import unicodedata
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from django.conf import settings
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from app import intake, worker
from app.cxr.radiograph import Radiograph
from app.models import AuditEvent, Finding, Instance, Patient, Reading, Study
from app.models.words import one_line, same_words, searchable
from tests.people import enter
from tests.studies import answer, answered, film_bytes, stored, take_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

TODAY = timezone.localdate()
PIXELS = np.zeros((8, 8), np.uint8)


def patient(**fields: Any) -> Patient:
    return Patient.objects.create(**fields)


def film(name: str = "", number: str = "", **more: Any) -> Radiograph:
    return Radiograph(PIXELS, patient_name=name or None, patient_id=number or None, **more)


def taught(study: Study, header: Radiograph) -> Study:
    study.learn_from(header)
    return Study.objects.get(pk=study.pk)


def years_ago(years: float) -> date:
    return TODAY - timedelta(days=round(years * 365.25))


class TestOneLine:
    @pytest.mark.parametrize(
        ("typed", "kept"),
        [
            ("  Amina \t Otieno\n", "Amina Otieno"),
            ("Am\u200eina", "Amina"),
            ("\u202eاسم\u202c", "اسم"),
            ("\u2066Amina\u2069", "Amina"),
            ("a\x00b\x07c", "a b c"),
            ("Zoe\u0308", "Zoë"),
            ("علی\u200cرضا", "علی\u200cرضا"),
            ("ශ්\u200dරී", "ශ්\u200dරී"),
            ("👩\u200d⚕️ 17", "👩\u200d⚕️ 17"),
            ("\u200c \u200d", ""),
            ("\ufeffAmina", "Amina"),
            ("🫨 Juma", "🫨 Juma"),
        ],
    )
    def test_a_name_keeps_its_script_and_loses_what_cannot_be_seen(self, typed, kept):
        assert one_line(typed) == kept

    @given(text=st.text())
    def test_it_is_one_line_nfc_and_stays_as_it_is(self, text):
        kept = one_line(text)

        assert one_line(kept) == kept
        assert unicodedata.is_normalized("NFC", kept)
        assert kept == kept.strip()
        assert not any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in kept)
        assert not any(unicodedata.bidirectional(c) in BIDI for c in kept)

    @given(text=st.text())
    def test_what_was_kept_is_found_by_what_was_typed(self, text):
        assert same_words(text, one_line(text)) or any(
            unicodedata.category(c) in {"Cc", "Cs", "Co", "Zl", "Zp"} for c in text
        )


BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


class TestSearch:
    @pytest.mark.parametrize(
        ("name", "number", "text"),
        [
            ("Amina Otieno", "17", "otieno"),
            ("Amina Otieno", "17", "OTIENO 17"),
            ("Zoë", "", "zoe"),
            ("أمينة", "", "أمينة"),
            ("أمينة", "", "امينة"),
            ("علی\u200cرضا", "", "علی\u200cرضا"),
            ("👩\u200d⚕️ Juma", "", "👩\u200d⚕️"),
            ("100% _", "", "100%"),
        ],
    )
    def test_a_patient_is_found_by_words_in_any_script(self, name, number, text):
        one = patient(name=name, number=number)
        patient(name="somebody", number="else")

        assert list(Patient.objects.search(text)) == [one]

    def test_a_wildcard_of_the_database_is_a_character_like_any_other(self):
        patient(name="Amina")

        assert not Patient.objects.search("%").exists()
        assert not Patient.objects.search("A_ina").exists()

    def test_a_changed_patient_is_found_by_the_new_name_on_the_worklist_too(self):
        study = take_in(patient=patient(name="Amina"))
        study.patient.change({"name": "Grace"}, by=None)

        assert list(Study.objects.search("grace")) == [study]
        assert not Study.objects.search("amina").exists()


class TestKnownAs:
    def test_the_same_number_and_name_is_the_same_patient(self):
        one = patient(name="Amina Otieno", number="17")

        assert Patient.known_as("17", "OTIENO Amina") == one

    def test_a_number_alone_is_enough_while_one_patient_has_it(self):
        one = patient(name="Amina", number="17")

        assert Patient.known_as("17", "") == one

    def test_a_patient_without_a_name_gets_it_from_the_next_film_and_no_second_one(self):
        nameless = patient(number="17")
        first, second = take_in(film_bytes(1)), take_in(film_bytes(2))

        assert taught(first, film("Amina", "17")).patient == nameless
        assert taught(second, film("Juma", "17")).patient != nameless

    @pytest.mark.parametrize(
        ("here", "said"),
        [
            ({"number": "17", "name": "Amina"}, ("17", "Juma")),
            ({"number": "17", "name": "Amina", "sex": "F"}, ("17", "Amina", "M")),
            ({"number": "17", "sex": "F"}, ("17", "", "M")),
            ({"number": "17", "birth_date": years_ago(40)}, ("17", "", "", 4.0)),
            ({"number": "17", "name": "Amina"}, ("18", "Amina")),
            ({"number": "", "name": "Amina"}, ("", "Amina")),
            ({"number": "17", "name": "Amina"}, ("", "Amina")),
            ({"number": "", "name": ""}, ("", "")),
        ],
    )
    def test_nobody_is_taken_for_anybody_else(self, here, said):
        patient(**here)

        assert Patient.known_as(*said) is None

    def test_a_number_that_several_share_needs_the_name(self):
        amina, juma = patient(name="Amina", number="17"), patient(name="Juma", number="17")
        patient(number="17")

        assert Patient.known_as("17", "Juma") == juma
        assert Patient.known_as("17", "Amina") == amina
        assert Patient.known_as("17", "") is None
        assert Patient.known_as("17", "Grace") is None

    def test_an_age_within_two_years_speaks_of_the_same_person(self):
        one = patient(number="17", birth_date=years_ago(40))

        assert Patient.known_as("17", "", "", 41.5) == one


SAID = st.tuples(
    st.sampled_from(["", "Amina", "amína", "Juma"]),
    st.sampled_from(["", "1", "2"]),
    st.sampled_from(["", "F", "M"]),
)


class TestTheLawOfWhoIsWho(TestCase):
    @given(said=st.lists(SAID, min_size=2, max_size=8))
    def test_however_headers_come_in_no_patient_is_two_people(self, said):
        """Among films of one patient there are no two names, numbers or sexes."""
        studies = [Study.begin() for _ in said]
        for study, (name, number, sex) in zip(studies, said, strict=True):
            study.learn_from(film(name, number, sex=sex or None))

        films: dict[int, list[tuple[str, str, str]]] = {}
        for study, header in zip(studies, said, strict=True):
            if study.patient_id:
                films.setdefault(study.patient_id, []).append(header)
            assert bool(study.patient_id) is any(header)
        for headers in films.values():
            assert len({searchable(name) for name, _, _ in headers} - {""}) <= 1
            assert len({sex for _, _, sex in headers} - {""}) <= 1
            numbers = {number for _, number, _ in headers}
            assert len(numbers) == 1
            assert "" not in numbers or len(headers) == 1


class TestTheHeader:
    def test_it_makes_the_patient_that_nobody_has_named(self):
        study = taught(take_in(), film("Otieno Amina", "17", sex="F", age_years=4.0))

        assert study.age_years == 4.0
        assert (study.patient.name, study.patient.number) == ("Otieno Amina", "17")
        assert list(Study.objects.search("otieno 17")) == [study]

    def test_a_picture_without_a_header_makes_nobody(self):
        assert taught(take_in(), film()).patient is None
        assert not Patient.objects.exists()

    def test_it_fills_in_what_nobody_has_said(self):
        study = take_in(patient=patient(name="Amina"))

        assert taught(study, film("Amina", "17", sex="F")).patient.number == "17"
        event = AuditEvent.objects.get(action="patient_learnt")
        assert event.user is None
        assert event.details["changed"] == {"number": ["", "17"], "sex": ["", "F"]}

    def test_it_never_writes_over_what_a_person_entered(self):
        study = take_in(patient=patient(name="Amina Otieno", number="17"), age_years=5)

        study = taught(study, film("OTIENO AMINA", "17", age_years=6.0))
        assert (study.patient.name, study.age_years) == ("Amina Otieno", 5)

    @pytest.mark.parametrize(
        "header",
        [film("Juma", "77"), film("Amina", "77"), film("Amina", sex="M"), film(age_years=70.0)],
    )
    def test_a_header_of_somebody_else_teaches_nothing_and_is_written_down(self, header):
        one = patient(name="Amina", number="17", sex="F", birth_date=years_ago(5))

        study = taught(take_in(patient=one), header)
        assert study.patient == one
        one.refresh_from_db()
        assert (one.name, one.number, one.sex) == ("Amina", "17", "F")
        assert AuditEvent.objects.filter(action="header_disagrees", subject=study.number).exists()

    def test_the_name_of_a_header_does_not_get_the_number_of_another(self):
        """A film in the wrong study must not lend its number to the patient there."""
        one = patient(name="Amina")

        taught(take_in(patient=one), film("Juma", "77"))
        one.refresh_from_db()
        assert one.number == ""

    def test_a_name_is_cleaned_and_cut_to_what_the_column_holds(self):
        study = taught(take_in(), film("\u202eAm\x07ina" + "n" * 300, "9" * 80))

        assert study.patient.name.startswith("Am ina")
        assert (len(study.patient.name), len(study.patient.number)) == (200, 64)

    def test_a_known_date_of_birth_gives_the_age(self):
        patient(name="Amina", number="17", birth_date=years_ago(5))

        assert taught(take_in(), film("Amina", "17")).age_years == pytest.approx(5, abs=0.01)

    def test_through_the_whole_analysis_it_is_learnt_once(self):
        study = take_in()
        header = film("Amina", "17")

        answer(study, film=header)
        answer(study, film=header)
        assert Patient.objects.count() == 1
        assert Finding.objects.count() == 1


class TestFollowing:
    def test_a_new_date_of_birth_gives_every_study_its_age_and_says_so(self):
        one = patient(name="Amina")
        study = take_in(patient=one, age_years=30)
        one.change({"birth_date": years_ago(5)}, by=None)

        study.refresh_from_db()
        assert study.age_years == pytest.approx(5, abs=0.01)
        event = AuditEvent.objects.get(action="study_changed")
        assert event.details["changed"]["age_years"] == [30, study.age_years]

    def test_an_age_that_was_stated_stays_where_no_date_is_known(self):
        one = patient(name="Amina")
        study = take_in(patient=one, age_years=30)
        one.change({"name": "Grace"}, by=None)

        study.refresh_from_db()
        assert study.age_years == 30
        assert not AuditEvent.objects.filter(action="study_changed").exists()

    def test_nobody_has_an_age_before_birth(self):
        assert patient(birth_date=TODAY).age_on(TODAY - timedelta(days=1)) is None
        assert patient(birth_date=TODAY).age_on(TODAY) == 0


class TestLikelyDuplicates:
    @pytest.mark.parametrize(
        ("one", "other", "likely"),
        [
            ({"number": "17", "name": "Amina"}, {"number": "17", "name": "Juma"}, True),
            ({"name": "Amina Otieno"}, {"name": "OTIENO amína"}, True),
            ({"name": "أمينة"}, {"name": "امينة"}, True),
            ({"name": "Amina", "number": "17"}, {"name": "Amina"}, True),
            ({"name": "Amina", "number": "17"}, {"name": "Amina", "number": "18"}, False),
            ({"name": "Amina", "sex": "F"}, {"name": "Amina", "sex": "M"}, False),
            ({"name": "Amina"}, {"name": "Amina Otieno"}, False),
            ({"name": ""}, {"name": ""}, False),
            ({"name": "Amina", "birth_date": TODAY}, {"name": "Amina", "birth_date": TODAY}, True),
            (
                {"name": "Amina", "number": "1", "birth_date": TODAY},
                {"name": "Amina", "number": "2", "birth_date": TODAY},
                True,
            ),
            (
                {"name": "Amina", "birth_date": TODAY},
                {"name": "Amina", "birth_date": years_ago(9)},
                False,
            ),
        ],
    )
    def test_who_may_be_the_same_person(self, one, other, likely):
        one, other = patient(**one), patient(**other)

        assert (one.likely_duplicates() == [other]) is likely
        assert (other.likely_duplicates() == [one]) is likely


class TestMerging:
    def test_the_studies_move_and_the_other_row_goes(self):
        one, other = patient(name="Amina"), patient(name="Amina O.", number="17")
        study = take_in(patient=other)

        one.take_over(other, by=None)
        study.refresh_from_db()
        assert study.patient == one
        assert (one.name, one.number) == ("Amina", "17")
        assert not Patient.objects.filter(pk=other.pk).exists()
        assert list(Study.objects.search("17")) == [study]

    def test_the_record_keeps_who_was_merged_and_what_was_known_of_them(self):
        one, other = patient(name="Amina"), patient(name="Amína", birth_date=years_ago(5))
        study = take_in(patient=other)
        by = enter("clinician")
        pk = other.pk
        one.take_over(other, by=by)

        event = AuditEvent.objects.get(action="patients_merged")
        assert event.user == by
        assert (event.details["other"], event.details["moved"]) == (pk, [study.number])
        assert event.details["was"]["name"] == "Amína"
        moved = AuditEvent.objects.filter(action="study_changed", subject=study.number).last()
        assert moved.details["changed"]["patient"][0] == {"patient": pk, "name": "Amína"}

    def test_merged_twice_it_is_merged_once(self):
        one, other = patient(name="Amina"), patient(name="Amina")
        again = Patient.objects.get(pk=other.pk)
        one.take_over(other, by=None)

        with pytest.raises(Patient.DoesNotExist):
            one.take_over(again, by=None)
        assert AuditEvent.objects.filter(action="patients_merged").count() == 1

    def test_a_change_that_came_between_is_not_written_over(self):
        one, other = patient(name="Amina"), patient(name="Amina")
        Patient.objects.get(pk=one.pk).change({"number": "17"}, by=None)

        one.take_over(other, by=None)
        one.refresh_from_db()
        assert one.number == "17"

    def test_nobody_is_merged_with_themselves(self):
        one = patient(name="Amina")

        with pytest.raises(ValueError):
            one.take_over(Patient.objects.get(pk=one.pk), by=None)

    def test_the_way_from_a_merged_patient_leads_to_the_one_who_stayed(self):
        first, second, third = (patient(name="Amina") for _ in range(3))
        gone, also = first.pk, second.pk
        second.take_over(first, by=None)
        third.take_over(second, by=None)

        assert Patient.merged_into(gone) == Patient.merged_into(also) == third
        assert Patient.merged_into(9999) is None


class TestDeleting:
    @pytest.fixture(autouse=True)
    def commits(self, django_capture_on_commit_callbacks):
        """What waits for a commit happens at once: each test is one transaction."""
        self.committing = django_capture_on_commit_callbacks

    def delete(self, study: Study, reason: str = "twice") -> None:
        with self.committing(execute=True):
            study.delete_for(reason, by=None)

    def test_rows_and_files_are_gone(self, data_dir):
        study = answered()
        path = stored(study.instances.get())
        assert path.exists()

        self.delete(study)
        assert not path.exists()
        counts = [model.objects.count() for model in (Study, Instance, Finding)]
        assert counts == [0, 0, 0]

    def test_readings_go_with_it(self):
        study = answered()
        Reading.objects.create(study=study, by=enter("clinician"), conclusion="pneumonia")

        self.delete(study)
        assert not Reading.objects.exists()

    @pytest.mark.parametrize("reason", ["", "   ", "\n"])
    def test_it_is_not_done_without_a_reason(self, reason):
        study = take_in()

        with pytest.raises(ValueError):
            study.delete_for(reason, by=None)
        assert Study.objects.exists()
        assert not AuditEvent.objects.filter(action="study_deleted").exists()

    def test_done_twice_it_is_done_once(self):
        study = take_in()
        again = Study.objects.get(pk=study.pk)
        self.delete(study)

        with pytest.raises(Study.DoesNotExist):
            again.delete_for("twice", by=None)
        assert AuditEvent.objects.filter(action="study_deleted").count() == 1

    def test_a_patient_of_another_study_stays(self):
        one = patient(name="Amina")
        gone, stays = take_in(film_bytes(1), patient=one), take_in(film_bytes(2), patient=one)

        self.delete(gone)
        assert Patient.objects.get() == one
        assert stored(stays.instances.get()).exists()
        self.delete(stays)
        assert not Patient.objects.exists()
        assert AuditEvent.objects.get(action="patient_deleted").details["was"]["name"] == "Amina"

    def test_the_number_of_a_deleted_study_is_never_given_again(self):
        study = take_in()
        self.delete(study)

        assert take_in().number != study.number

    def test_the_same_film_may_come_in_again(self):
        self.delete(take_in())

        assert stored(take_in().instances.get()).exists()

    def test_a_film_that_comes_in_again_while_it_is_deleted_keeps_its_file(self):
        study = take_in()
        with self.committing() as waiting:
            study.delete_for("twice", by=None)
        again = take_in()

        for callback in waiting:
            callback()
        assert stored(again.instances.get()).exists()

    def test_what_a_power_cut_left_behind_goes_at_the_next_start(self):
        study = take_in(film_bytes(1))
        stays = stored(take_in(film_bytes(2)).instances.get())
        left = stored(study.instances.get())
        stranger = left.parent / ("f" * 64)
        stranger.write_bytes(b"of a database that is being restored")
        study.delete_for("twice", by=None)
        assert left.exists()

        Study.sweep_deleted()
        assert not left.exists()
        assert stays.exists()
        assert stranger.exists()

    def test_a_file_that_another_program_holds_stops_nothing(self, monkeypatch):
        study = take_in()
        path = stored(study.instances.get())

        def held(*_args: object, **_kwargs: object) -> None:
            raise PermissionError

        with monkeypatch.context() as patched:
            patched.setattr("pathlib.Path.unlink", held)
            self.delete(study)
        assert path.exists()
        assert not Study.objects.exists()
        Study.sweep_deleted()
        assert not path.exists()

    def test_a_study_deleted_while_its_film_is_analysed_ends_the_analysis_quietly(
        self, monkeypatch, caplog
    ):
        study = take_in()
        pk = study.instances.get().pk
        found = answered(seed=9).instances.get()

        def analyse(*_args: object) -> Any:
            study.delete_for("twice", by=None)
            return object()

        monkeypatch.setattr(worker, "analyse", analyse)
        worker.analyse_instance.call(pk)
        assert caplog.records == []
        assert list(Instance.objects.all()) == [found]

    def test_a_film_for_a_study_deleted_meanwhile_gets_one_of_its_own(self):
        study = take_in(film_bytes(1))
        self.delete(Study.objects.get(pk=study.pk))

        received = intake.receive(
            io.BytesIO(film_bytes(2)), "two.png", "upload", intake.Belonging(study=study)
        )
        assert received.instance.study.number != study.number
        assert (settings.DATA_DIR / received.instance.film.name).exists()

    def test_a_film_that_joins_a_study_writes_over_nothing_entered_meanwhile(self):
        study = take_in(film_bytes(1))
        Study.objects.get(pk=study.pk).change({"note": "fever"}, by=None)

        take_in(film_bytes(2), study=study)
        assert Study.objects.get().note == "fever"
