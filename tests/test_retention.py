"""What is old enough to be deleted, and what never is."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from datetime import time as time_of_day

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from app import films, retention
from app.models import AuditEvent, Instance, Patient, Reading, Study
from app.retention import Rule
from tests.people import browser, enter
from tests.studies import answered, film_bytes, take_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

TODAY = date(2026, 3, 1)
ALL = Rule(years=5, only_read=False, children_longer=False)


def study(day: date, **fields: object) -> Study:
    """A row without a film, of that day."""
    noon = timezone.make_aware(datetime.combine(day, time_of_day(12)))
    number = f"{day:%Y%m%d}-{Study.objects.count():04d}"
    values = {"age_years": 40.0, "is_read": True, "status": "answered", "answer": "likely"}
    return Study.objects.create(number=number, created_at=noon, **(values | fields))


class TestTheRule:
    @pytest.mark.parametrize(
        ("day", "goes"),
        [
            (date(2021, 2, 28), True),
            (date(2021, 3, 1), False),
            (date(2026, 2, 28), False),
            (date(1999, 12, 31), True),
        ],
    )
    def test_a_study_is_as_old_as_the_calendar_says(self, day, goes):
        one = study(day)

        assert list(ALL.studies(TODAY)) == ([one] if goes else [])

    @pytest.mark.parametrize(
        ("age", "day", "goes"),
        [
            (18.0, date(2021, 2, 28), True),
            (17.9, date(2021, 2, 28), False),  # 17 at the least: 18 a year later, 5 years on top
            (17.9, date(2020, 2, 28), True),
            (3.0, date(2006, 2, 28), True),  # 18 in 2021, kept until 2026
            (3.0, date(2006, 3, 2), False),
            (0.2, date(2003, 2, 28), True),
            (0.2, date(2003, 3, 2), False),
            (None, date(2003, 3, 2), False),
            (None, date(2003, 2, 28), True),
        ],
    )
    def test_children_are_kept_until_18_and_as_long_again(self, age, day, goes):
        study(day, age_years=age)

        assert Rule(5, only_read=False).studies(TODAY).exists() is goes

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        age=some.none() | some.floats(0, 17.99),
        day=some.dates(date(1990, 1, 1), TODAY),
        years=some.integers(1, 20),
    )
    def test_nobody_who_may_be_a_child_goes_before_23_where_5_years_are_kept(self, age, day, years):
        Study.objects.all().delete()
        study(day, age_years=age)

        if Rule(years, only_read=False).studies(TODAY).exists():
            lived = (TODAY - day).days / 365.2425
            assert (age or 0.0) + lived > 18 + years - 0.01

    def test_only_what_somebody_has_read(self):
        read, unread = study(date(2010, 1, 1)), study(date(2010, 1, 2), is_read=False)

        assert list(Rule(5).studies(TODAY)) == [read]
        assert list(ALL.studies(TODAY)) == [read, unread]

    def test_only_those_answered_unlikely(self):
        study(date(2010, 1, 1), answer="likely")
        unlikely = study(date(2010, 1, 2), answer="unlikely")

        assert list(Rule(5, retention.UNLIKELY).studies(TODAY)) == [unlikely]

    def test_a_film_that_waits_keeps_its_study(self):
        waiting = take_in()
        Study.objects.update(created_at=timezone.now() - timedelta(days=4000))

        assert not ALL.studies().exists()
        waiting.instances.update(state="answered")
        assert ALL.studies().exists()

    def test_studies_that_only_an_unknown_age_keeps_are_counted(self):
        study(date(2015, 1, 1), age_years=None)
        study(date(2015, 1, 1), age_years=4.0)
        study(date(1990, 1, 1), age_years=None)

        assert Rule(5).kept_for_unknown_age(TODAY) == 1
        assert ALL.kept_for_unknown_age(TODAY) == 0

    def test_the_29th_of_february_has_years_too(self):
        gone, kept = study(date(2019, 2, 27)), study(date(2019, 3, 1))

        assert list(ALL.studies(date(2024, 2, 29))) == [gone]
        assert kept.pk


@pytest.fixture
def old() -> list[Study]:
    """Three studies of long ago, read, with a film each."""
    made = [answered(f"{seed}.png", seed=seed, answer="unlikely") for seed in (1, 2, 3)]
    Study.objects.update(
        created_at=timezone.now() - timedelta(days=365 * 12), age_years=30.0, is_read=True
    )
    return made


ASKED = {"years": "10", "answer": "any", "only_read": "on", "children_longer": "on"}


class TestThePage:
    def test_it_shows_the_usual_rule_and_deletes_nothing(self, client, old):
        page = client.get("/settings/retention").content.decode()

        assert 'value="10"' in page
        assert "What would be deleted" not in page
        assert Study.objects.count() == 3

    def test_it_shows_every_study_that_would_go_and_how_much(self, client, old):
        page = client.get("/settings/retention", ASKED).content.decode()

        assert all(one.number in page for one in old)
        assert "3 studies" in page
        assert Study.objects.count() == 3

    def test_nothing_is_deleted_without_the_tick(self, client, old):
        shown = client.get("/settings/retention", ASKED)
        client.post("/settings/retention/delete", {"base": shown.context["base"]})

        assert Study.objects.count() == 3

    def test_nothing_is_deleted_that_no_page_has_shown(self, client, old):
        client.post("/settings/retention/delete", {"base": "made up", "sure": "on"})

        assert Study.objects.count() == 3

    def test_confirmed_they_go_with_their_films_on_record(
        self, client, administrator, old, data_dir, django_capture_on_commit_callbacks
    ):
        digests = list(Instance.objects.values_list("sha256", flat=True))
        shown = client.get("/settings/retention", ASKED)
        with django_capture_on_commit_callbacks(execute=True):
            client.post("/settings/retention/delete", {"base": shown.context["base"], "sure": "on"})

        assert not Study.objects.exists()
        assert not any((data_dir / films.name_of(digest)).exists() for digest in digests)
        events = AuditEvent.objects.filter(action="study_deleted")
        assert {event.subject for event in events} == {one.number for one in old}
        assert all(event.user == administrator for event in events)
        assert all("10 years" in event.details["reason"] for event in events)
        assert AuditEvent.objects.get(action=retention.ACTION).details["studies"] == 3

    def test_what_has_changed_meanwhile_stays(self, client, administrator, old):
        shown = client.get("/settings/retention", ASKED)
        Study.objects.filter(pk=old[0].pk).update(age_years=2.0)
        client.post("/settings/retention/delete", {"base": shown.context["base"], "sure": "on"})

        assert [one.pk for one in Study.objects.all()] == [old[0].pk]

    def test_what_came_to_be_old_since_the_page_was_shown_stays(self, client, old):
        shown = client.get("/settings/retention", ASKED)
        study(date(2001, 1, 1))
        client.post("/settings/retention/delete", {"base": shown.context["base"], "sure": "on"})

        assert Study.objects.count() == 1

    def test_the_rule_is_remembered(self, client, old):
        shown = client.get("/settings/retention", ASKED | {"years": "11"})
        client.post("/settings/retention/delete", {"base": shown.context["base"], "sure": "on"})

        assert Rule.last().years == 11
        assert 'value="11"' in client.get("/settings/retention").content.decode()

    def test_more_than_a_page_can_wait_for_go_in_turns(self, client, old, monkeypatch):
        monkeypatch.setattr(retention, "MOST_AT_ONCE", 2)
        shown = client.get("/settings/retention", ASKED)
        assert "The oldest 2 studies" in shown.content.decode()
        client.post("/settings/retention/delete", {"base": shown.context["base"], "sure": "on"})

        assert Study.objects.count() == 1

    @pytest.mark.parametrize("years", ["", "0", "-3", "1.5", "ten", "101", "9" * 400])
    def test_no_number_of_years_is_said_and_deletes_nothing(self, client, old, years):
        response = client.get("/settings/retention", ASKED | {"years": years})

        assert response.status_code == 400
        assert Study.objects.count() == 3

    def test_a_patient_of_another_study_stays(self, client, administrator, old):
        patient = Patient.objects.create(name="Okello Grace")
        young = take_in(film_bytes(50))
        Study.objects.filter(pk__in=[old[0].pk, young.pk]).update(patient=patient)
        Reading.objects.create(
            study=old[0], by=enter("clinician"), conclusion="pneumonia", before_answer=True
        )
        shown = client.get("/settings/retention", ASKED)
        client.post("/settings/retention/delete", {"base": shown.context["base"], "sure": "on"})

        assert [one.patient for one in Study.objects.all()] == [patient]

    @pytest.mark.parametrize("role", ["clinician", "health_worker", "read_only"])
    def test_nobody_else_may(self, site, old, role):
        other = browser(role)

        assert other.get("/settings/retention", ASKED).status_code == 403
        assert other.post("/settings/retention/delete", {"sure": "on"}).status_code == 403
