"""The worklist: what is there, newest first, found again by its words."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from django.db import connection
from django.template.loader import render_to_string
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from app import checks
from app.models import AuditEvent, Batch, Instance, Patient, Reading, State, Study, User
from app.worklist import TABS
from tests.people import browser, browser_of, enter
from tests.studies import answer, answered, film_bytes, take_in, turned_down

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]


def page(client, **query: object) -> str:
    return client.get(reverse("worklist"), query).content.decode()


def numbers(html: str) -> list[str]:
    return re.findall(r'<tr class="study" id="study-([\d-]+)"', html)


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def many(count: int) -> list[Study]:
    return [Study.begin() for _ in range(count)]


class TestList:
    def test_it_says_so_when_there_is_nothing_yet(self, client):
        assert "No films yet" in page(client)

    def test_it_shows_the_newest_study_first(self, client):
        first, second = answered(seed=1), answered(seed=2)

        assert numbers(page(client)) == [second.number, first.number]

    @pytest.mark.parametrize(
        ("answer", "word"),
        [("likely", "Likely"), ("unlikely", "Unlikely"), ("cannot_say", "Cannot say")],
    )
    def test_it_says_the_answer_in_a_word_with_an_icon(self, client, answer, word):
        answered(answer=answer)

        html = page(client)
        assert f"answer--{answer}" in html
        assert f"icons.svg#{answer}" in html
        assert f"<span>{word}</span>" in html

    def test_it_shows_the_probability(self, client):
        answered(probability=0.934)

        assert "93 %" in text_of(page(client))

    def test_it_shows_no_probability_where_there_is_none(self, client):
        turned_down("page_of_text")

        html = page(client)
        assert "Not usable" in html
        assert " %" not in text_of(html).split("Received")[1]

    def test_it_shows_a_film_that_waits_without_making_its_picture(self, client):
        take_in()

        html = page(client)
        assert "data-unfinished" in html
        assert "thumbnail.png" not in html

    def test_it_shows_the_file_where_no_name_is_known(self, client):
        answered(name="Amina PA.png")

        assert "Amina PA.png" in page(client)

    def test_it_shows_the_name_where_it_is_known(self, client):
        study = answered()
        study.change({"patient": Patient.objects.create(name="Okello Grace")}, by=None)

        assert "Okello Grace" in page(client)

    def test_it_says_that_the_age_is_unknown(self, client):
        answered()

        assert "age unknown" in page(client)

    def test_it_shows_a_small_childs_age_in_months(self, client):
        take_in(age_years=0.5)

        assert "6 months" in page(client)

    def test_it_shows_a_file_name_as_text_whatever_it_holds(self, client):
        answered(name="<img src=x onerror=alert(1)>.png")

        html = page(client)
        assert "<img src=x" not in html
        assert "&lt;img src=x" in html

    def test_it_needs_as_many_queries_for_many_studies_as_for_few(
        self, client, django_assert_max_num_queries
    ):
        for seed in range(6):
            answered(seed=seed)

        with django_assert_max_num_queries(18):
            page(client)

    def test_it_says_what_is_wrong_with_the_program(self, client, monkeypatch):
        problem = checks.Problem("disk_nearly_full", {"free": "12", "reserve": "500"})
        monkeypatch.setattr(checks, "current_problems", lambda: [problem])

        assert "only 12 MB are free" in page(client)


class TestSearch:
    def test_it_finds_a_study_by_a_part_of_its_number(self, client):
        wanted, _other = answered(seed=1), answered(seed=2)

        assert numbers(page(client, q=wanted.number[-3:])) == [wanted.number]

    def test_it_finds_a_study_by_a_part_of_its_file(self, client):
        wanted = answered(name="grace-okello.jpg", seed=1)
        answered(name="other.jpg", seed=2)

        assert numbers(page(client, q="OKELLO")) == [wanted.number]

    def test_it_says_that_nothing_was_found(self, client):
        answered()

        html = page(client, q="nobody")
        assert numbers(html) == []
        assert "No study holds the words “nobody”" in html

    def test_it_keeps_the_words_in_the_field(self, client):
        assert 'value="amina &quot;x&quot;"' in page(client, q='amina "x"')

    def test_it_does_not_push_new_films_into_the_result_of_a_search(self, client):
        answered(name="grace.png")

        assert "data-takes-new" in page(client)
        assert "data-takes-new" not in page(client, q="grace")

    @pytest.mark.parametrize(
        ("name", "typed"),
        [
            ("José Núñez", "jose nunez"),
            ("Åse Ødegård", "ASE"),
            ("Иван Петров", "ИВАН"),
            ("محمد علي", "علي"),
            ("आशा शर्मा", "शर्मा"),
            ("Nguyễn Ngọc", "ngoc nguyen"),
            ("Amina 👩🏾‍⚕️ Otieno", "👩🏾‍⚕️"),
            ("\u202eAmina\u202c Otieno", "amina"),
            ("Amina Otieno", "\u200famina\u200e"),
            ("100 % sure_thing", "% sure_"),
        ],
    )
    def test_it_finds_a_name_in_every_script_however_it_is_typed(self, client, name, typed):
        wanted, _other = answered(name="a.png"), answered(name="b.png", seed=2)
        wanted.change({"patient": Patient.objects.create(name=name)}, by=None)

        assert numbers(page(client, q=typed)) == [wanted.number]

    @pytest.mark.parametrize("text", ["%", "_", "a%b", "'", '"', "\\", "🫁", "x" * 200, "a " * 99])
    def test_words_that_mean_something_to_a_database_find_nothing_by_it(self, client, text):
        answered(name="film.png")

        assert numbers(page(client, q=text)) == []

    def test_it_takes_words_that_are_too_long_for_a_mistake(self, client):
        answered()

        html = page(client, q="x" * 300)
        assert "at most 200 characters" in html
        assert len(numbers(html)) == 1

    def test_it_wants_every_word(self, client):
        both = answered(name="amina otieno.png", seed=1)
        answered(name="amina okello.png", seed=2)

        assert numbers(page(client, q="otieno amina")) == [both.number]


class TestExactNumber:
    """As a barcode scanner types it, and Enter."""

    def target(self, client, text: str, **more: object) -> str | None:
        return client.get(reverse("worklist"), {"q": text, **more}).headers.get("Location")

    @pytest.fixture
    def patient(self, db) -> Patient:
        return Patient.objects.create(name="Amina Otieno", number="MRN-07/a")

    def test_that_of_a_study_leads_to_the_study(self, client):
        study = answered()

        assert self.target(client, f" {study.number} ") == reverse("study", args=[study.number])

    def test_it_leads_there_whatever_tab_and_filters_are_on(self, client):
        study = answered()

        more = {"tab": "waiting", "since": "1999-01-01", "answer": "likely"}
        assert self.target(client, study.number, **more) == reverse("study", args=[study.number])

    @pytest.mark.parametrize("typed", ["MRN-07/a", "MRN-07/A", "mrn-07/a"])
    def test_that_of_a_patient_leads_to_the_studies_of_the_patient(self, client, typed):
        patient = Patient.objects.create(number=typed.upper())

        assert self.target(client, typed) == f"/?patient={patient.pk}"

    def test_a_number_that_two_patients_share_is_searched_for(self, client, patient):
        Patient.objects.create(name="Another", number=patient.number)
        studies = [answered(seed=seed) for seed in range(2)]
        for study, whose in zip(studies, Patient.objects.all(), strict=True):
            study.change({"patient": whose}, by=None)

        assert self.target(client, patient.number) is None
        assert len(numbers(page(client, q=patient.number))) == 2

    @pytest.mark.parametrize("typed", ["MRN-07", "", "  ", "\0", "20991231-0001"])
    def test_anything_else_is_searched_for(self, client, patient, typed):
        Patient.objects.create(name="Without a number")

        assert self.target(client, typed) is None

    def test_a_search_that_is_leafed_through_leads_nowhere(self, client):
        study = answered()

        assert self.target(client, study.number, page=1) is None


class TestTabs:
    @pytest.fixture
    def clinic(self, administrator) -> dict[str, Study]:
        """One study in every state; the answered ones read and not read."""
        made = {state: take_in(film_bytes(seed)) for seed, state in enumerate(State)}
        for state, study in made.items():
            Study.objects.filter(pk=study.pk).update(status=state)
        made["read"] = answered(seed=90)
        Reading.objects.create(study=made["read"], by=administrator, conclusion="unsure")
        made["read"].refresh_standing()
        return {str(state): study for state, study in made.items()}

    @pytest.mark.parametrize(
        ("tab", "held"),
        [
            ("waiting", {"waiting", "analysing"}),
            ("answered", {"answered", "read"}),
            ("unusable", {"refused", "unreadable", "failed", "cancelled"}),
            ("unread", {str(state) for state in State}),
            ("read", {"read"}),
            ("all", {*map(str, State), "read"}),
            ("nonsense", {*map(str, State), "read"}),
            ("", {*map(str, State), "read"}),
        ],
    )
    def test_each_holds_its_studies_and_says_how_many(self, client, clinic, tab, held):
        html = page(client, tab=tab)

        assert set(numbers(html)) == {clinic[state].number for state in held}
        here = re.search(r'aria-current="page">[^<]*<span class="tab__count">(\d+)<', html)
        assert here
        assert int(here[1]) == len(held)

    def test_the_counts_follow_the_filters(self, client, clinic):
        html = page(client, q=clinic["read"].number[-2:], tab="waiting")

        counts = dict(re.findall(r'data-tab="(\w+)".*?tab__count">(\d+)<', html))
        assert counts["all"] == counts["read"] == "1"
        assert counts["waiting"] == "0"

    def test_large_counts_can_be_read(self, client, monkeypatch):
        from app.worklist import TABS, Worklist

        monkeypatch.setattr(Worklist, "counts", dict.fromkeys(TABS, 1234567))
        assert "1,234,567" in page(client)

    def test_a_tab_keeps_the_filters_and_begins_at_its_first_page(self, client):
        html = page(client, answer="likely", page=3)

        assert 'href="?answer=likely&amp;tab=waiting"' in html
        assert 'href="?answer=likely"' in html

    @pytest.mark.parametrize("tab", ["waiting", "answered", "unusable", "unread", "read"])
    def test_an_empty_tab_says_so_in_its_own_words(self, client, tab):
        assert str(TABS[tab].nothing) in page(client, tab=tab)

    def test_every_part_of_the_worklist_is_under_some_tab(self, client, clinic):
        parts = [set(numbers(page(client, tab=tab))) for tab in ("waiting", "answered", "unusable")]

        assert sum(map(len, parts)) == len(set.union(*parts)) == Study.objects.count()


class TestFilters:
    def at(self, *moments: str) -> list[str]:
        """Studies of these moments, on the clock of the clinic; their numbers."""
        made = []
        for seed, moment in enumerate(moments):
            study = answered(seed=seed)
            when = timezone.make_aware(datetime.fromisoformat(moment))
            Study.objects.filter(pk=study.pk).update(created_at=when)
            made.append(study.number)
        return made

    def test_the_first_and_the_last_day_belong_to_it(self, client):
        before, first, last, after = self.at(
            "2026-03-01 23:59:59", "2026-03-02 00:00", "2026-03-03 23:59:59", "2026-03-04 00:00"
        )

        found = numbers(page(client, since="2026-03-02", until="2026-03-03"))
        assert found == [last, first]
        assert numbers(page(client, since="2026-03-03")) == [after, last]
        assert numbers(page(client, until="2026-03-01")) == [before]

    @pytest.mark.parametrize(
        ("since", "words"),
        [
            ("2026-02-30", "“2026-02-30” is no date"),
            ("31/31/2026", "“31/31/2026” is no date"),
            ("tomorrow", "“tomorrow” is no date"),
            ("<b>", "“&lt;b&gt;” is no date"),
            ("0001-01-01", "There can be no film of this day."),
            ("9999-12-31", "There can be no film of this day."),
            ("\u202e2026", "is no date"),
        ],
    )
    def test_a_wrong_date_is_said_beside_its_field_and_filters_nothing(self, client, since, words):
        study = answered()

        html = page(client, since=since, until="2100-01-01")
        assert words in html
        assert html.index('id="id_since"') < html.index(words) < html.index('id="id_until"')
        assert numbers(html) == [study.number]

    def test_a_last_day_before_the_first_is_said_and_filters_nothing(self, client):
        study = answered()

        html = page(client, since="2026-01-02", until="2026-01-01")
        assert "This day is before the first one." in html
        assert numbers(html) == [study.number]

    @pytest.mark.parametrize("verdict", ["likely", "unlikely", "cannot_say"])
    def test_it_shows_the_studies_of_one_answer(self, client, verdict):
        made = {
            a: answered(seed=seed, answer=a)
            for seed, a in enumerate(["likely", "unlikely", "cannot_say"])
        }

        assert numbers(page(client, answer=verdict)) == [made[verdict].number]

    def test_it_shows_the_studies_that_one_person_read(self, client, administrator):
        theirs, mine, _nobodys = (answered(seed=seed) for seed in range(3))
        clinician = enter("clinician", full_name="Achieng Odhiambo")
        for study, by in ((theirs, clinician), (mine, administrator), (mine, administrator)):
            Reading.objects.create(study=study, by=by, conclusion="unsure")
        html = page(client, reader=clinician.pk)

        assert numbers(html) == [theirs.number]
        assert numbers(page(client, reader=administrator.pk)) == [mine.number]
        assert "Achieng Odhiambo</option>" in html

    def test_only_people_who_have_read_something_are_there_to_choose(self, client):
        enter("clinician", full_name="Achieng Odhiambo")

        assert "Achieng Odhiambo" not in page(client)

    def test_it_shows_the_studies_of_one_patient_and_says_whose(self, client):
        theirs, _other = answered(), answered(seed=2)
        patient = Patient.objects.create(name="Okello <Grace>")
        theirs.change({"patient": patient}, by=None)
        html = page(client, patient=patient.pk)

        assert numbers(html) == [theirs.number]
        assert "<bdi>Okello &lt;Grace&gt;</bdi>" in html
        assert f'<input type="hidden" name="patient" value="{patient.pk}">' in html

    @pytest.mark.parametrize("asked", ["999", "x", "1; drop table"])
    def test_a_patient_who_is_not_there_is_said(self, client, asked):
        study = answered()

        html = page(client, patient=asked)
        assert "This patient is not in the program any more." in html
        assert numbers(html) == [study.number]

    @pytest.mark.parametrize(
        "query",
        [
            {"answer": "tuberculosis"},
            {"reader": "77"},
            {"reader": "9" * 30},
            {"patient": "9" * 30},
            {"to_patient": "9" * 30},
            {"page": "9" * 30},
            {"since": "9" * 30},
            {"reader": "\0"},
        ],
    )
    def test_a_choice_that_is_not_there_filters_nothing(self, client, query):
        study = answered()

        assert numbers(page(client, **query)) == [study.number]

    def test_all_of_them_hold_at_once(self, client, administrator):
        wanted, *_others = (answered(seed=seed, name=f"otieno {seed}.png") for seed in range(3))
        Reading.objects.create(study=wanted, by=administrator, conclusion="unsure")
        wanted.refresh_standing()
        query = {
            "q": "otieno",
            "answer": "likely",
            "reader": administrator.pk,
            "since": "2000-01-01",
            "until": "2100-01-01",
            "tab": "read",
        }

        assert numbers(page(client, **query)) == [wanted.number]
        assert numbers(page(client, **query | {"tab": "unread"})) == []

    def test_they_are_kept_over_the_pages(self, client):
        for study in many(27):
            Study.objects.filter(pk=study.pk).update(answer="likely", status="answered")

        html = page(client, answer="likely", since="2000-01-01")
        assert 'href="?answer=likely&amp;since=2000-01-01&amp;page=2"' in html
        assert len(numbers(page(client, answer="likely", since="2000-01-01", page=2))) == 2

    def test_one_click_clears_them_and_stays_under_the_tab(self, client):
        assert 'href="?tab=read">Clear all' in page(client, tab="read", answer="likely")
        assert "Clear all" not in page(client, tab="read")

    def test_a_wrong_one_can_be_cleared_too(self, client):
        assert "Clear all" in page(client, since="nonsense")

    def test_they_need_no_script(self, client):
        html = page(client)

        form = html[html.index('<form class="ask"') : html.index('<nav class="tabs"')]
        for name in ("q", "since", "until", "answer", "reader"):
            assert f'name="{name}"' in form
        assert form.count('type="submit"') == 2

    def test_no_new_film_is_pushed_into_what_is_filtered(self, client):
        answered()

        assert "data-takes-new" in page(client, tab="waiting")
        for query in ({"answer": "likely"}, {"since": "2000-01-01"}, {"tab": "read"}, {"page": 2}):
            # Page 2 of one page is page 1
            assert ("data-takes-new" in page(client, **query)) is (query == {"page": 2})


class TestBlindFirstRead:
    """A clinician who has to read first learns the answer from no part of the worklist."""

    @pytest.fixture
    def reader(self, site) -> User:
        site.blind_first_read = True
        site.save()
        return enter("clinician")

    @pytest.fixture
    def blind(self, reader):
        return browser_of(reader)

    def test_a_row_asks_for_the_reading_and_gives_nothing_away(self, blind):
        answered(probability=0.934)

        html = page(blind)
        assert "<span>Read it first</span>" in html
        assert 'data-answer="hidden"' in html
        assert "93 %" not in html
        assert "answer--likely" not in html
        assert "icons.svg#likely" not in html

    def test_a_row_that_is_fetched_gives_nothing_away(self, blind):
        study = answered(probability=0.934)
        query = {"number": study.number, "finished": ""}

        [row] = blind.get(reverse("worklist-rows"), query).json()["rows"]
        assert "Read it first" in row["html"]
        assert "93 %" not in row["html"]
        assert "likely" not in row["html"]

    def test_pages_of_all_three_answers_are_the_same_but_for_names(self, blind):
        def told(**fields: object) -> str:
            Study.objects.all().delete()
            study = answered(**fields)
            html = page(blind, tab="answered")
            html = re.sub(r"v=[0-9a-f]{16}|/films/\d+/", "", html.replace(study.number, "N"))
            return re.sub(r'name="csrfmiddlewaretoken" value="\w+"|<time.*?</time>', "", html)

        likely = told(answer="likely", probability=0.93)
        assert likely == told(answer="unlikely", probability=0.03)
        assert likely == told(answer="cannot_say", probability=0.4)

    @pytest.mark.parametrize("asked", ["likely", "unlikely", "cannot_say"])
    def test_no_filter_finds_it_by_its_answer_or_counts_it(self, blind, asked):
        answered(answer="likely")

        html = page(blind, answer=asked)
        assert numbers(html) == []
        assert set(re.findall(r'tab__count">(\d+)<', html)) - {"1"} == {"0"}
        counts = blind.get(reverse("worklist-rows"), {"answer": asked, "counts": ""}).json()
        assert set(counts["counts"].values()) == {"0"}

    def test_after_the_own_reading_it_is_shown_and_found(self, blind, reader):
        study = answered(probability=0.934)
        Reading.objects.create(study=study, by=reader, conclusion="unsure")

        html = page(blind, answer="likely")
        assert numbers(html) == [study.number]
        assert "93 %" in html

    def test_somebody_elses_reading_opens_nothing(self, blind, administrator):
        study = answered()
        Reading.objects.create(study=study, by=administrator, conclusion="unsure")

        assert 'data-answer="hidden"' in page(blind)
        assert numbers(page(blind, answer="likely", reader=administrator.pk)) == []

    @pytest.mark.parametrize("role", ["read_only", "health_worker", "administrator"])
    def test_those_who_are_asked_for_no_reading_see_the_answer(self, reader, role):
        answered()
        visitor = browser_of(User.objects.filter(role=role).first() or enter(role))

        assert 'data-answer="likely"' in page(visitor)
        assert len(numbers(page(visitor, answer="likely"))) == 1

    def test_while_it_is_analysed_again_the_earlier_answer_is_shown_to_nobody(self, client, blind):
        answered(probability=0.934).instances.get().try_again()

        for visitor in (client, blind):
            html = page(visitor)
            assert 'data-answer="waiting"' in html
            assert "93 %" not in html

    def test_the_list_and_the_study_agree_for_everybody_in_every_state(self, reader):
        for seed, state in enumerate(State):
            for how in (take_in, lambda content, name: answer(take_in(content, name))):
                study = how(film_bytes(seed + 100 * (how is not take_in)), f"{seed}.png")
                Study.objects.filter(pk=study.pk).update(status=state)
        read = answered(seed=99)
        Reading.objects.create(study=read, by=reader, conclusion="unsure")

        for user in [*User.objects.all(), enter("read_only"), enter("health_worker")]:
            rows = Study.objects.all().as_rows_for(user)
            assert [row.answer_is_hidden for row in rows] == [
                study.answer_hidden_from(user) for study in rows
            ]

    def test_a_row_that_nobody_asked_about_shows_no_answer(self, rf, reader):
        html = render_to_string("worklist_row.html", {"study": answered()}, rf.get("/"))

        assert 'data-answer="hidden"' in html


class TestSpeed:
    """Measured by the bench; what makes it fast is pinned here."""

    def plans(self, client, **query: object) -> list[str]:
        """How SQLite goes about every question that a page asks of the studies."""
        with CaptureQueriesContext(connection) as asked:
            client.get(reverse("worklist"), query)
        plans = []
        with connection.cursor() as cursor:
            for one in asked.captured_queries:
                if 'FROM "clinic_study"' in one["sql"]:
                    cursor.execute(f"EXPLAIN QUERY PLAN {one['sql']}")
                    plans += [row[3] for row in cursor.fetchall()]
        return plans

    @pytest.mark.parametrize("tab", list(TABS))
    @pytest.mark.parametrize("query", [{}, {"q": "otieno"}, {"page": 9}, {"since": "2026-01-01"}])
    def test_the_studies_are_never_gone_through_one_by_one(self, client, tab, query):
        plans = self.plans(client, tab=tab, **query)

        scans = [plan for plan in plans if plan.startswith("SCAN clinic_study")]
        assert plans
        assert all("USING COVERING INDEX" in plan for plan in scans), plans

    @pytest.mark.parametrize("tab", ["all", "answered", "unread", "read"])
    def test_the_newest_first_are_not_sorted_for_it(self, client, tab):
        plans = self.plans(client, tab=tab)

        assert "SCAN clinic_study USING COVERING INDEX study_worklist" in plans
        assert not [plan for plan in plans if "ORDER BY" in plan]

    def test_a_patients_studies_come_by_the_patient(self, client):
        patient = Patient.objects.create(name="Amina")

        plans = self.plans(client, patient=patient.pk)
        assert not [plan for plan in plans if plan.startswith("SCAN clinic_study")]

    @pytest.mark.parametrize("query", [{}, {"tab": "read"}, {"q": "film"}, {"answer": "likely"}])
    def test_no_filter_costs_a_query_for_each_study(
        self, client, query, django_assert_max_num_queries
    ):
        for seed in range(6):
            answered(seed=seed)

        with django_assert_max_num_queries(18):
            page(client, **query)

    def test_no_row_fetches_an_activation_map(self, client):
        answered()
        with CaptureQueriesContext(connection) as asked:
            page(client)

        assert not [q for q in asked.captured_queries if "activation_map" in q["sql"]]


class TestPaging:
    def test_it_shows_twenty_five_studies_on_a_page(self, client):
        many(27)

        assert len(numbers(page(client))) == 25
        assert len(numbers(page(client, page=2))) == 2

    @pytest.mark.parametrize("asked", ["99", "-1", "x", ""])
    def test_it_shows_a_page_whatever_page_is_asked_for(self, client, asked):
        many(27)

        assert numbers(page(client, page=asked))

    def test_it_keeps_the_search_from_page_to_page(self, client):
        many(27)

        assert re.search(r'href="\?q=2&amp;page=2"', page(client, q="2"))

    def test_it_shows_no_pages_where_one_is_enough(self, client):
        many(3)

        assert 'class="pages"' not in page(client)


class TestRows:
    """What the page asks for while films wait."""

    def rows(self, client, *wanted: str, **more: str) -> list[dict[str, str]]:
        query = {"number": list(wanted), **more}
        return client.get(reverse("worklist-rows"), query).json()["rows"]

    def test_it_gives_the_row_of_a_study(self, client):
        study = take_in()

        [row] = self.rows(client, study.number)
        assert row["number"] == study.number
        assert numbers(row["html"]) == [study.number]

    def test_it_holds_back_those_that_still_wait_where_only_finished_ones_are_wanted(self, client):
        waiting, done = take_in(film_bytes(7)), answered()

        rows = self.rows(client, waiting.number, done.number, finished="")
        assert [row["number"] for row in rows] == [done.number]

    def test_it_gives_nothing_for_numbers_it_does_not_know(self, client):
        assert self.rows(client, "20010101-0001", "'; drop table") == []

    def test_it_gives_no_more_than_a_hundred_at_once(self, client):
        studies = many(103)

        assert len(self.rows(client, *(study.number for study in studies))) == 100

    def test_it_is_never_kept_by_the_browser(self, client):
        assert "no-store" in client.get(reverse("worklist-rows"))["Cache-Control"]

    def test_it_says_how_far_the_films_that_wait_are(self, client):
        assert client.get(reverse("worklist-rows")).json() == {"rows": [], "batch": None}
        answer(take_in())
        studies = [take_in(film_bytes(seed)) for seed in (7, 8, 9)]
        answer(studies[0])

        batch = client.get(reverse("worklist-rows")).json()["batch"]
        assert (batch["films"], batch["done"], batch["waiting"]) == (3, 1, 2)
        assert batch["words"] == "1 of 3 films analysed"
        assert batch["left"] == ""

    def test_it_counts_the_tabs_where_asked_to(self, client):
        answered()
        take_in(film_bytes(5))

        counts = client.get(reverse("worklist-rows"), {"counts": "", "q": "film"}).json()["counts"]
        assert counts == {
            "all": "2",
            "waiting": "1",
            "answered": "1",
            "unusable": "0",
            "unread": "2",
            "read": "0",
        }

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [
            (None, ""),
            (0, "less than a minute left"),
            (59, "less than a minute left"),
            (60, "about 1 minute left"),
            (61, "about 2 minutes left"),
            (89 * 60, "about 89 minutes left"),
            (2 * 3600, "about 2 hours left"),
            (30 * 3600 + 1, "about 31 hours left"),
        ],
    )
    def test_the_time_left_is_said_no_finer_than_it_is_known(
        self, client, monkeypatch, seconds, words
    ):
        monkeypatch.setattr(Batch, "current", lambda: Batch(3, 2, seconds))

        assert client.get(reverse("worklist-rows")).json()["batch"]["left"] == words

    def test_a_script_whose_user_is_logged_out_is_told_where_to_log_in(self, site):
        response = Client().get(reverse("worklist-rows"), headers={"Accept": "application/json"})

        assert response.status_code == 401
        assert response.json()["address"].startswith(reverse("log-in"))


class TestRunning:
    def test_the_page_shows_what_runs_from_the_start(self, client):
        take_in()

        html = page(client)
        assert "0 of 1 films analysed" in html
        assert "Cancel the analysis of 1 film that waits?" in html

    def test_it_shows_nothing_where_nothing_runs(self, client):
        answered()

        assert re.search(r'id="running"[^>]* hidden', page(client))

    def test_a_plain_form_cancels_and_says_so(self, client):
        take_in()
        response = client.post(reverse("cancel-batch"), follow=True)

        assert "1 film was cancelled. It stays stored" in response.content.decode()
        assert Instance.objects.get().state == State.CANCELLED

    def test_a_script_is_told_what_runs_on(self, client):
        first, _second = take_in(), take_in(film_bytes(2))
        first.instances.get().begin_analysis()
        address, headers = reverse("cancel-batch"), {"Accept": "application/json"}

        told = client.post(address, headers=headers).json()
        assert told["batch"]["waiting"] == 1
        assert told["words"].startswith("1 film was cancelled")

    def test_cancelling_twice_cancels_once(self, client):
        take_in()
        client.post(reverse("cancel-batch"))

        response = client.post(reverse("cancel-batch"), follow=True)
        assert "0 films were cancelled" in response.content.decode()

    @pytest.mark.parametrize("name", ["cancel-batch", "analyse-again"])
    def test_looking_at_an_address_changes_nothing(self, client, name):
        film = take_in().instances.get()
        address = reverse(name, args=[film.pk] if name == "analyse-again" else [])

        assert client.get(address).status_code == 405
        film.refresh_from_db()
        assert film.state == State.WAITING

    def test_who_may_only_look_sees_what_runs_and_no_button(self, site):
        take_in()
        html = page(browser("read_only"))

        assert "0 of 1 films analysed" in html
        assert reverse("cancel-batch") not in html
        assert "Put chest films here" not in html


class TestAnalyseAgain:
    @pytest.fixture
    def film(self, site) -> Instance:
        film = take_in().instances.get()
        film.cancel(None)
        return film

    def again(self, visitor, film: Instance):
        return visitor.post(reverse("analyse-again", args=[film.pk]))

    def queued(self) -> int:
        return DBTaskResult.objects.count()

    def test_it_is_offered_on_the_study(self, client, film):
        html = client.get(reverse("study", args=[film.study.number])).content.decode()

        assert reverse("analyse-again", args=[film.pk]) in html

    def test_it_is_offered_for_no_film_that_waits_or_has_an_answer(self, client):
        for study in (take_in(), answered(seed=2)):
            html = client.get(reverse("study", args=[study.number])).content.decode()
            assert "Analyse again" not in html

    def test_it_queues_the_film_and_leads_to_its_study(self, client, film):
        before = self.queued()
        response = self.again(client, film)

        assert response["Location"] == reverse("study", args=[film.study.number])
        assert self.queued() == before + 1

    def test_sent_twice_it_queues_once(self, client, film):
        before = self.queued()
        self.again(client, film)
        self.again(client, film)

        assert self.queued() == before + 1
        assert AuditEvent.objects.filter(action="analysis_asked_for").count() == 1

    def test_who_may_only_look_is_not_let(self, film):
        assert self.again(browser("read_only"), film).status_code == 403
        film.refresh_from_db()
        assert film.state == State.CANCELLED

    def test_a_film_that_is_not_there_is_404(self, client):
        assert client.post(reverse("analyse-again", args=[99])).status_code == 404


class TestDoor:
    def test_it_can_be_used_without_scripts(self, client):
        html = page(client)

        assert re.search(r'<form id="upload"[^>]*method="post"[^>]*multipart/form-data', html)
        assert "<noscript><button" in html

    def test_it_tells_the_script_the_largest_size(self, client, settings):
        settings.MAX_FILM_BYTES = 12345

        assert 'data-most-bytes="12345"' in page(client)

    def test_it_says_which_study_new_films_join(self, client):
        study = answered()
        html = page(client, to_study=study.number)

        assert f"Films that you put in now join study {study.number}." in html
        assert f'<input type="hidden" name="study" value="{study.number}">' in html
        assert 'name="age"' not in html

    def test_it_says_whose_new_films_are(self, client):
        patient = Patient.objects.create(name="Amina Otieno")
        html = page(client, to_patient=patient.pk)

        assert "Films that you put in now are those of: <bdi>Amina Otieno</bdi>" in html
        assert f'<input type="hidden" name="patient" value="{patient.pk}">' in html

    @pytest.mark.parametrize("query", [{"to_study": "20010101-0001"}, {"to_patient": "77"}])
    def test_it_says_so_where_that_is_not_there_any_more(self, client, query):
        html = page(client, **query)

        assert "not there any more" in html
        assert 'name="study"' not in html

    def test_a_filter_by_patient_makes_no_film_theirs(self, client):
        patient = Patient.objects.create(name="Amina Otieno")

        assert "are those of" not in page(client, patient=patient.pk)
