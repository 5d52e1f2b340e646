"""What people found is only added to; the server alone says what was found before the answer."""

from __future__ import annotations

import pytest

from app.cxr.signs import InvalidSign, Signs
from app.forms import SiteForm, UserForm
from app.models import AuditEvent, ClinicalSigns, Reading, Role, Site, Study, User
from tests.people import enter
from tests.studies import answer, answered, film_bytes, take_in, turned_down

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]


@pytest.fixture
def reader(site: Site) -> User:
    return enter(Role.CLINICIAN)


def switch(site: Site, by: User, blind: bool) -> None:
    """As the settings page does it."""
    chosen = {"clinic_name": "", "language": "", "lock_after": "10"}
    values = chosen | ({"blind_first_read": "on"} if blind else {})
    enter(Role.ADMINISTRATOR, f"chief-{User.objects.count()}")
    form = SiteForm(values, instance=Site.current())
    assert form.is_valid(), form.errors
    form.keep(by)


def move(user: User, role: Role) -> None:
    """As the page of a person does it."""
    values = {"username": user.username, "full_name": "", "role": role, "is_active": "on"}
    form = UserForm(values, instance=User.objects.get(pk=user.pk))
    assert form.is_valid(), form.errors
    form.keep(user)


def read(study: Study, by: User, conclusion: str = "pneumonia", **more: object) -> Reading:
    return Reading.record(study, by, conclusion=conclusion, **more)


class TestBeforeTheAnswer:
    def test_while_it_is_hidden(self, blind, reader):
        assert read(answered(), reader).before_answer is True

    def test_while_there_is_none_yet_whoever_reads(self, site):
        assert read(take_in(), enter(Role.ADMINISTRATOR)).before_answer is True

    def test_not_in_a_clinic_that_shows_it(self, site, reader):
        assert read(answered(), reader).before_answer is False

    def test_not_by_somebody_it_is_never_hidden_from(self, blind):
        assert read(answered(), enter(Role.ADMINISTRATOR)).before_answer is False

    def test_only_the_first_time(self, blind, reader):
        study = answered()

        assert [read(study, reader).before_answer for _ in range(2)] == [True, False]

    def test_a_colleagues_reading_does_not_count_as_ones_own(self, blind, reader):
        study = answered()
        read(study, enter(Role.CLINICIAN, "other"))

        assert read(study, reader).before_answer is True

    def test_not_after_a_page_that_showed_it(self, blind, reader):
        study = answered()
        AuditEvent.record(reader, "study_viewed", study, answer_shown=True)

        assert read(study, reader).before_answer is False

    def test_not_after_a_page_that_does_not_say_what_it_showed(self, blind, reader):
        study = answered()
        AuditEvent.record(reader, "study_viewed", study)

        assert read(study, reader).before_answer is False

    def test_still_after_a_page_that_hid_it_or_that_others_saw(self, blind, reader):
        study, other = answered(), answered(seed=2)
        AuditEvent.record(reader, "study_viewed", study, answer_shown=False)
        AuditEvent.record(reader, "study_viewed", other, answer_shown=True)
        AuditEvent.record(enter(Role.ADMINISTRATOR), "study_viewed", study, answer_shown=True)

        assert read(study, reader).before_answer is True

    def test_not_where_blind_reads_were_off_for_a_while(self, blind, reader):
        study = answered()
        switch(blind, reader, blind=False)
        switch(blind, reader, blind=True)

        assert read(study, reader).before_answer is False

    def test_not_where_blind_reads_came_after_the_answer(self, site, reader):
        study = answered()
        switch(site, reader, blind=True)

        assert study.answer_hidden_from(reader)
        assert read(study, reader).before_answer is False

    def test_still_where_blind_reads_came_before_the_film(self, site, reader):
        switch(site, reader, blind=True)

        assert read(answered(), reader).before_answer is True

    def test_not_where_blind_reads_were_switched_off_meanwhile(self, blind, reader):
        study = answered()
        switch(blind, reader, blind=False)

        assert read(study, reader).before_answer is False

    def test_not_by_somebody_who_was_of_another_role_when_the_answer_came(self, blind):
        user = enter(Role.HEALTH_WORKER)
        study = answered()
        move(user, Role.CLINICIAN)

        user = User.objects.get(pk=user.pk)
        assert study.answer_hidden_from(user)
        assert read(study, user).before_answer is False

    def test_other_changes_of_settings_and_people_do_not_count(self, blind, reader):
        study = answered()
        AuditEvent.record(reader, "settings_changed", changed={"clinic_name": "Ndola"})
        AuditEvent.record(reader, "user_changed", reader, changed=["full_name"])

        assert read(study, reader).before_answer is True

    def test_a_diagnosis_never_is(self, site, reader):
        assert read(take_in(), reader, kind=Reading.Kind.DIAGNOSIS).before_answer is False


class TestHidden:
    def test_an_earlier_answer_stays_hidden_while_the_film_is_analysed_again(self, blind, reader):
        study = answered()
        study.instances.get().try_again()

        assert Study.objects.get(pk=study.pk).answer_hidden_from(reader)
        assert read(Study.objects.get(pk=study.pk), reader).before_answer is True

    def test_there_is_nothing_to_hide_before_the_first_answer(self, blind, reader):
        assert not take_in().answer_hidden_from(reader)

    def test_there_is_nothing_to_hide_where_the_analysis_failed(self, blind, reader):
        study = take_in()
        study.instances.get().give_up()

        assert not Study.objects.get(pk=study.pk).answer_hidden_from(reader)

    def test_that_a_film_was_refused_is_said_at_once(self, blind, reader):
        assert not turned_down("lateral_view").answer_hidden_from(reader)

    def test_the_answer_of_one_film_is_hidden_although_another_was_refused(self, blind, reader):
        study = answered()
        refused = turned_down("lateral_view", seed=2)
        refused.instances.update(study=study)
        study.refresh_standing()

        assert study.answer_hidden_from(reader)

    def test_the_worklist_knows_the_same(self, blind, reader):
        answered(), turned_down("lateral_view", seed=2), take_in(film_bytes(3))
        read(answered(seed=4), reader)

        listed = Study.objects.as_rows_for(reader)
        assert [study.answer_is_hidden for study in listed] == [False, False, False, True]
        assert [s.answer_is_hidden for s in listed] == [
            s.answer_hidden_from(reader) for s in listed
        ]


class TestOnlyAddedTo:
    def test_a_reading_is_never_written_over(self, reader):
        reading = read(answered(), reader)
        reading.conclusion = "unsure"

        with pytest.raises(TypeError):
            reading.save()
        assert Reading.objects.get().conclusion == "pneumonia"

    def test_a_form_sent_twice_is_one_reading(self, reader):
        study = answered()

        assert read(study, reader, token="one") == read(study, reader, token="one")
        assert Reading.objects.count() == 1
        assert AuditEvent.objects.filter(action="reading_recorded").count() == 1

    def test_a_form_that_was_changed_and_sent_again_is_a_second_reading(self, reader):
        study = answered()
        read(study, reader, token="one")
        read(study, reader, "unsure", token="one")
        read(study, reader, token="one")

        kept = Reading.objects.values_list("conclusion", flat=True)
        assert list(kept) == ["pneumonia", "unsure", "pneumonia"]

    def test_two_forms_are_two_readings(self, reader):
        study = answered()
        read(study, reader, token="one")
        read(study, reader, token="two")

        assert Reading.objects.count() == 2

    def test_forms_without_a_name_are_never_taken_for_one(self, reader):
        study = answered()
        read(study, reader)
        read(study, reader)

        assert Reading.objects.count() == 2

    def test_the_same_form_of_two_people_is_two_readings(self, reader):
        study = answered()
        read(study, reader, token="one")
        read(study, enter(Role.CLINICIAN, "other"), token="one")

        assert Reading.objects.count() == 2

    def test_the_study_knows_that_it_was_read(self, reader):
        study = answered()
        read(study, reader)

        assert study.is_read
        assert Study.objects.get(pk=study.pk).is_read

    def test_it_is_audited_with_what_the_server_knew(self, blind, reader):
        study = answered()
        reading = read(study, reader)

        event = AuditEvent.objects.get(action="reading_recorded")
        assert (event.user, event.subject) == (reader, study.number)
        assert event.details == {
            "reading": reading.pk, "kind": "conclusion", "before_answer": True
        }  # fmt: skip


def enter_signs(study: Study, by: User, token: str = "", **signs: object) -> ClinicalSigns:
    return ClinicalSigns.record(study, by, Signs(**signs), token)


NONE = frozenset[str]()
CONVULSIONS = frozenset({"convulsions"})


class TestSigns:
    def test_it_keeps_what_was_found_and_the_guidelines_word_by_name(self, reader):
        study = take_in(age_years=3.0)
        enter_signs(study, reader, danger_signs=CONVULSIONS, breaths_per_minute=52.0)

        row = ClinicalSigns.objects.get()
        assert row.signs["danger_signs"] == ["convulsions"]
        assert row.signs["breaths_per_minute"] == 52.0
        assert row.signs["wheeze"] is None
        assert row.assessment["rule"] == "imci"
        assert row.assessment["classification"] == "severe_pneumonia"
        assert row.assessment["because"] == ["convulsions"]
        assert row.assessment["age_years"] == 3.0

    def test_it_goes_by_the_age_that_the_study_has_now(self, reader):
        study = take_in(age_years=3.0)
        Study.objects.update(age_years=30.0)
        enter_signs(study, reader, breaths_per_minute=31.0)

        assert ClinicalSigns.objects.get().assessment["rule"] == "imai"

    def test_an_age_that_cannot_be_is_refused_and_nothing_is_kept(self, reader):
        study = take_in(age_years=3.0)
        Study.objects.update(age_years=-1.0)

        with pytest.raises(InvalidSign):
            enter_signs(study, reader, breaths_per_minute=31.0)
        assert not ClinicalSigns.objects.exists()
        assert not AuditEvent.objects.filter(action="signs_recorded").exists()

    def test_a_form_sent_twice_is_one_row(self, reader):
        study = take_in(age_years=3.0)
        for _ in range(2):
            enter_signs(study, reader, "one", danger_signs=CONVULSIONS, breaths_per_minute=52.0)

        assert ClinicalSigns.objects.count() == 1
        assert AuditEvent.objects.filter(action="signs_recorded").count() == 1

    def test_a_form_that_was_put_right_and_sent_again_is_a_second_row(self, reader):
        study = take_in(age_years=3.0)
        enter_signs(study, reader, "one", breaths_per_minute=25.0)
        enter_signs(study, reader, "one", breaths_per_minute=52.0)

        assert ClinicalSigns.objects.count() == 2

    def test_a_row_is_never_written_over(self, reader):
        row = enter_signs(take_in(age_years=3.0), reader, breaths_per_minute=25.0)
        row.signs = {}

        with pytest.raises(TypeError):
            row.save()


class TestStandingDangers:
    @pytest.fixture
    def dangers(self, reader):
        """The danger signs that stand after these entries, one after the other."""
        study = take_in(film_bytes(3), age_years=3.0)

        def after(*entries: dict[str, object]) -> tuple[str, ...]:
            rows = [enter_signs(study, reader, **signs) for signs in entries]
            return ClinicalSigns.standing_dangers(rows)

        return after

    @pytest.mark.parametrize(
        ("entries", "standing"),
        [
            ([], ()),
            ([{"danger_signs": NONE}], ()),
            ([{"danger_signs": CONVULSIONS}], ("convulsions",)),
            ([{"danger_signs": CONVULSIONS}, {"breaths_per_minute": 30}], ("convulsions",)),
            ([{"danger_signs": CONVULSIONS}, {"danger_signs": NONE}], ()),
            ([{"danger_signs": NONE}, {"danger_signs": CONVULSIONS}], ("convulsions",)),
            ([{"stridor_in_calm_child": True}, {"wheeze": True}], ("stridor_in_calm_child",)),
            ([{"stridor_in_calm_child": True}, {"stridor_in_calm_child": False}], ()),
            ([{"oxygen_saturation": 85}, {"without_oximeter": True}], ("low_oxygen",)),
            ([{"oxygen_saturation": 85}, {"oxygen_saturation": 96}], ()),
            ([{"oxygen_saturation": 85}, {"danger_signs": NONE}], ("low_oxygen",)),
            (
                [{"oxygen_saturation": 85}, {"danger_signs": CONVULSIONS}],
                ("convulsions", "low_oxygen"),
            ),
            # Fast breathing is grave, but no danger sign: the class says it
            ([{"breaths_per_minute": 70}], ()),
        ],
    )
    def test_each_stands_until_it_was_looked_for_again(self, dangers, entries, standing):
        assert dangers(*entries) == standing

    def test_one_that_is_not_asked_at_the_new_age_stands(self, reader):
        study = take_in(age_years=30.0)
        grown = enter_signs(study, reader, danger_signs=frozenset({"central_cyanosis"}))
        Study.objects.update(age_years=3.0)
        little = enter_signs(study, reader, danger_signs=NONE)

        assert ClinicalSigns.standing_dangers([grown, little]) == ("central_cyanosis",)


def test_a_later_answer_does_not_change_what_was_read_before(reader):
    study = take_in()
    before = read(study, reader)
    answer(study)

    assert Reading.objects.get(pk=before.pk).before_answer is True
    assert read(study, reader).before_answer is False
