"""The counts of a month: what is counted, when, and that nobody can be told from it."""

from __future__ import annotations

import csv
import io
import itertools
import re
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from app import messages, month
from app.models import Finding, Instance, Patient, Reading, State, Study
from app.templatetags.month import by_sex, waited
from tests.people import browser, enter
from tests.studies import MODEL

pytestmark = pytest.mark.django_db

JULY = date(2026, 7, 1)
_numbers = itertools.count(1)


def at(day: int, hour: int = 12, of: date = JULY) -> datetime:
    return timezone.make_aware(datetime(of.year, of.month, day, hour))  # noqa: DTZ001


def film(
    when: datetime,
    answer: str = "likely",
    age: float | None = 3.0,
    sex: str = "F",
    seconds: float = 10,
    reason: str = "",
    state: str = "",
    study: Study | None = None,
) -> Study:
    """A study with one film as it stands afterwards; of an answer that is none, without finding."""
    number = next(_numbers)
    scored = answer in month.ANSWERS
    state = state or (State.ANSWERED if scored else answer)
    if study is None:
        patient = Patient.objects.create(name="Okello Grace", number=f"P-{number}", sex=sex)
        study = Study.objects.create(
            number=f"{when:%Y%m%d}-{number:06d}", created_at=when, age_years=age, patient=patient,
            answer=answer, status=state,
        )  # fmt: skip
    instance = Instance.objects.create(
        study=study, file_name="a.png", source="upload", sha256=f"{number:064x}", size_bytes=1,
        film=f"films/{number}", state=state, received_at=when,
    )  # fmt: skip
    if scored or reason:
        Finding.objects.create(
            instance=instance, answer=answer, created_at=when + timedelta(seconds=seconds),
            probability=0.5 if scored else None, threshold=0.4 if scored else None,
            reason=reason or None, model=MODEL, milliseconds=40.0,
        )  # fmt: skip
    return study


def counts(found: month.MonthSheet, band: str) -> dict[str, list[int]]:
    (row,) = [row for row in found.bands if row.band == band]
    return {sex: row.of_sex(sex) for sex in row.counts}


class TestAnEmptyMonth:
    def test_is_all_noughts_and_no_median(self):
        found = month.sheet(JULY)

        assert (found.studies, found.films, found.answered, found.not_answered) == (0, 0, 0, 0)
        assert found.seconds_to_answer is None
        assert [row.band for row in found.bands] == [
            "under_5", "5_14", "15_64", "65_and_over", "unknown",
        ]  # fmt: skip

    def test_of_the_past_had_no_film_on_any_day(self):
        found = month.sheet(date(2024, 2, 1))

        assert (found.days_without_films, found.days_so_far) == (29, 29)

    def test_of_the_future_has_no_days_yet(self):
        found = month.sheet(month.next_month(month.this_month()))

        assert (found.days_without_films, found.days_so_far) == (0, 0)


class TestWhatIsCounted:
    def test_studies_by_answer_age_and_sex(self):
        for answer, age, sex in (
            ("likely", 4.99, "F"), ("likely", 0.0, "F"), ("unlikely", 5.0, "M"),
            ("cannot_say", 14.9, "M"), ("likely", 15.0, "O"), ("unlikely", 64.9, ""),
            ("unlikely", 65.0, "M"), ("likely", None, "F"),
        ):  # fmt: skip
            film(at(3), answer, age, sex)

        found = month.sheet(JULY)
        assert counts(found, "under_5") == {"F": [2, 0, 0, 0]}
        assert counts(found, "5_14") == {"M": [0, 1, 1, 0]}
        assert counts(found, "15_64") == {"O": [1, 0, 0, 0], "": [0, 1, 0, 0]}
        assert counts(found, "65_and_over") == {"M": [0, 1, 0, 0]}
        assert counts(found, "unknown") == {"F": [1, 0, 0, 0]}
        assert (found.studies, found.of("likely"), found.of("unlikely")) == (8, 4, 3)

    def test_a_study_of_nobody_is_of_unknown_sex(self):
        study = film(at(3))
        Study.objects.filter(pk=study.pk).update(patient=None)

        assert counts(month.sheet(JULY), "under_5") == {"": [1, 0, 0, 0]}

    def test_a_study_without_an_answer_is_counted_as_such(self):
        film(at(3), "refused", reason="page_of_text")
        film(at(3), "waiting")

        assert month.sheet(JULY).of("no_answer") == 2

    def test_films_apart_from_studies(self):
        study = film(at(3))
        film(at(3), study=study)
        film(at(4), "waiting")

        found = month.sheet(JULY)
        assert (found.studies, found.films, found.answered, found.unfinished) == (2, 3, 2, 1)

    def test_films_without_an_answer_by_their_newest_reason(self):
        film(at(3), "refused", reason="page_of_text")
        twice = film(at(3), "refused", reason="too_dark")
        Finding.objects.create(
            instance=twice.instances.get(), answer="refused", reason="page_of_text",
            created_at=at(4), model=MODEL, milliseconds=1,
        )  # fmt: skip
        film(at(3), "unreadable", reason="empty")
        film(at(3), "unreadable", reason="truncated")
        film(at(3), "failed")
        film(at(3), "cancelled")
        film(at(3))

        found = month.sheet(JULY)
        assert found.turned_down == {
            "page_of_text": 2, "cancelled": 1, "empty": 1, "failed": 1, "truncated": 1,
        }  # fmt: skip
        assert found.reasons == {"page_of_text": 2, "unreadable": 2, "cancelled": 1, "failed": 1}
        assert found.not_answered == 6

    def test_a_reason_of_another_version_is_owned_up_to(self):
        film(at(3), "refused", reason="too_pink")

        assert month.sheet(JULY).reasons == {"unknown": 1}

    @pytest.mark.parametrize("code", messages.REFUSALS)
    def test_there_are_few_words_for_every_refusal(self, code):
        assert code in month.REASONS

    def test_readings_agreements_and_diagnoses_of_the_months_studies(self):
        by = enter("clinician")
        read, other = film(at(3)), film(at(1, of=date(2026, 6, 1)))
        Reading.record(read, by, conclusion="pneumonia", agrees=True)
        Reading.record(read, by, conclusion="no_pneumonia", agrees=False)
        Reading.record(read, by, conclusion="unsure")
        Reading.record(read, by, kind="diagnosis", conclusion="other", agrees=True)
        Reading.record(other, by, conclusion="pneumonia", agrees=True)

        found = month.sheet(JULY)
        assert (found.readings, found.studies_read, found.diagnoses) == (3, 1, 1)
        assert (found.agreed, found.disagreed) == (1, 1)

    def test_the_middle_time_to_the_first_answer(self):
        for seconds in (1, 4, 1000):
            study = film(at(3), seconds=seconds)
        Finding.objects.create(
            instance=study.instances.get(), answer="likely", probability=0.5, threshold=0.4,
            created_at=at(9), model=MODEL, milliseconds=1,
        )  # fmt: skip
        film(at(3), "refused", reason="too_dark", seconds=2)

        assert month.sheet(JULY).seconds_to_answer == pytest.approx(4, abs=0.01)

    def test_of_two_middle_times_their_mean(self):
        for seconds in (1, 3, 5, 1000):
            film(at(3), seconds=seconds)

        assert month.sheet(JULY).seconds_to_answer == pytest.approx(4, abs=0.01)

    def test_a_clock_that_was_set_back_makes_no_time_below_nothing(self):
        film(at(3), seconds=-600)

        assert month.sheet(JULY).seconds_to_answer == 0

    def test_days_without_a_film(self):
        film(at(3))
        film(at(3, 20))
        film(at(5))

        gone = date(2026, 6, 1)
        film(at(1, of=gone))
        found = month.sheet(gone)
        assert found.days_so_far - found.days_without_films == 1


class TestWhichMonth:
    def test_the_first_and_the_last_minute_belong_to_it_in_the_clinics_time(self, settings):
        settings.TIME_ZONE = "Africa/Kampala"
        timezone.get_default_timezone.cache_clear()
        try:
            film(at(1, 0))
            film(at(31, 23))
            film(at(1, 0, of=date(2026, 8, 1)))
            film(at(30, 23, of=date(2026, 6, 1)))
            assert month.sheet(JULY).studies == 2
        finally:
            settings.TIME_ZONE = "UTC"
            timezone.get_default_timezone.cache_clear()

    @given(st.dates(min_value=date(1900, 1, 1), max_value=date(2199, 12, 31)))
    def test_the_one_after_the_one_before_is_the_same(self, day):
        first = day.replace(day=1)

        assert month.month_before(month.next_month(first)) == first
        assert month.next_month(month.month_before(first)) == first
        assert month.first_day(f"{first:%Y-%m}") == first

    @pytest.mark.parametrize("text", ["", "2026", "2026-13", "July", "2026-07-01", "0000-01"])
    def test_what_is_no_month_is_none(self, text):
        assert month.first_day(text) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["likely", "unlikely", "cannot_say", "refused"]),
            st.none() | st.floats(0, 100),
            st.sampled_from(["", "M", "F", "O"]),
        ),
        max_size=6,
    )
)
def test_whatever_came_in_the_parts_make_the_whole(studies):
    Study.objects.all().delete()
    for answer, age, sex in studies:
        film(at(3), answer, age, sex, reason="too_dark" if answer == "refused" else "")

    found = month.sheet(JULY)
    assert found.studies == found.films == len(studies)
    assert sum(found.of(kind) for kind in month.KINDS) == len(studies)
    assert found.answered + found.not_answered == len(studies)
    assert all(sum(whole for _, _, whole in by_sex(band)) == band.studies for band in found.bands)


def test_it_looks_at_the_months_rows_and_at_no_others():
    film(at(3))
    with CaptureQueriesContext(connection) as asked:
        month.sheet(JULY)

    plans = []
    with connection.cursor() as cursor:
        for query in asked.captured_queries:
            cursor.execute("EXPLAIN QUERY PLAN " + query["sql"])
            plans += [str(row[-1]) for row in cursor.fetchall()]
    assert any(plan.startswith("SEARCH clinic_study USING") for plan in plans)
    whole = [plan for plan in plans if re.match(r"SCAN (clinic_|U)", plan)]
    assert whole == []


def test_it_asks_the_database_no_more_for_more_films(django_assert_num_queries):
    for _ in range(12):
        film(at(3))

    with django_assert_num_queries(8):
        month.sheet(JULY)


@pytest.mark.usefixtures("data_dir")
class TestThePage:
    def text(self, client, **query: str) -> str:
        response = client.get(reverse("month"), query)
        assert response.status_code == 200
        return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())

    def test_says_the_month_and_its_counts(self, client):
        film(at(3))
        film(at(3), "refused", reason="page_of_text")

        text = self.text(client, month="2026-07")
        assert "Counts of July 2026" in text
        assert "Films taken in 2" in text
        assert "A page of text 1" in text
        assert "10 seconds" in text

    def test_names_nobody(self, client):
        study = film(at(3))

        html = client.get(reverse("month"), {"month": "2026-07"}).content.decode()
        assert study.number not in html
        assert "Okello" not in html
        assert study.patient.number not in html

    def test_is_of_this_month_where_none_is_asked_for(self, client):
        assert f"{month.this_month():%B %Y}" in self.text(client)

    def test_of_an_empty_month_is_a_page_too(self, client):
        text = self.text(client, month="2001-01")

        assert "Days without a film 31 of 31" in text
        assert "Why films got no answer" not in text

    @pytest.mark.parametrize("wrong", ["2026-13", "x", "2026-07'"])
    def test_of_no_month_there_is_none(self, client, wrong):
        assert client.get(reverse("month"), {"month": wrong}).status_code == 404
        assert client.get(reverse("month-table"), {"month": wrong}).status_code == 404

    @pytest.mark.parametrize("edge", ["0001-01", "9999-12"])
    def test_of_a_month_at_the_end_of_time_there_is_none(self, client, edge):
        assert client.get(reverse("month"), {"month": edge}).status_code == 404

    def test_leads_to_the_months_beside_it_and_never_into_the_future(self, client):
        html = client.get(reverse("month"), {"month": "2026-07"}).content.decode()
        assert "?month=2026-06" in html

        now = client.get(reverse("month")).content.decode()
        assert 'rel="next"' not in now

    @pytest.mark.parametrize(
        ("role", "status"), [("read_only", 403), ("health_worker", 403), ("clinician", 200)]
    )
    def test_is_for_those_who_review(self, site, role, status):
        assert browser(role).get(reverse("month")).status_code == status

    def test_the_menu_leads_there(self, client):
        assert reverse("month") in client.get("/").content.decode()


@pytest.mark.usefixtures("data_dir")
class TestTheTable:
    def rows(self, client, chosen: str = "2026-07") -> list[dict[str, str]]:
        response = client.get(reverse("month-table"), {"month": chosen})
        assert response["Content-Disposition"] == f'attachment; filename="month-{chosen}.csv"'
        return list(csv.DictReader(io.StringIO(response.getvalue().decode("utf-8-sig"))))

    def value(self, rows: list[dict[str, str]], **wanted: Any) -> str:
        (row,) = [row for row in rows if wanted.items() <= row.items()]
        return row["value"]

    def test_has_a_line_a_count_with_codes(self, client):
        film(at(3))
        film(at(3), "unlikely", None, "")
        film(at(3), "refused", reason="page_of_text")

        rows = self.rows(client)
        assert self.value(rows, count="films") == "3"
        assert self.value(rows, count="likely", age_band="under_5", sex="F") == "1"
        assert self.value(rows, count="unlikely", age_band="unknown", sex="unknown") == "1"
        assert self.value(rows, count="not_answered", reason="page_of_text") == "1"
        assert self.value(rows, count="seconds_to_answer") == "10.0"
        assert {row["month"] for row in rows} == {"2026-07"}

    def test_says_a_nought_and_leaves_an_unknown_empty(self, client):
        rows = self.rows(client, "2001-01")

        assert self.value(rows, count="films") == "0"
        assert self.value(rows, count="likely", age_band="5_14", sex="M") == "0"
        assert self.value(rows, count="seconds_to_answer") == ""

    def test_its_shape_is_the_same_every_month_but_for_the_reasons(self, client):
        empty = [row["count"] for row in self.rows(client, "2001-01")]
        film(at(3))

        assert [row["count"] for row in self.rows(client)] == empty


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (0.0, "1 second"), (1.2, "1 second"), (99.4, "99 seconds"), (120, "2 minutes"),
     (5900, "98 minutes"), (7200, "2 hours")],
)  # fmt: skip
def test_a_time_is_said_in_a_unit_that_fits(seconds, words):
    assert waited(seconds) == words
