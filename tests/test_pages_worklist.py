"""The worklist: what is there, newest first, found again by its words."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from app import checks
from app.models import Patient, Study
from tests.studies import answered, film_bytes, take_in, turned_down

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

        with django_assert_max_num_queries(10):
            page(client)

    def test_it_says_what_is_wrong_with_the_program(self, client, monkeypatch):
        problem = checks.Problem("disk_nearly_full", {"free": "12"})
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


class TestDoor:
    def test_it_can_be_used_without_scripts(self, client):
        html = page(client)

        assert re.search(r'<form id="upload"[^>]*method="post"[^>]*multipart/form-data', html)
        assert "<noscript><button" in html

    def test_it_tells_the_script_the_largest_size(self, client, settings):
        settings.MAX_FILM_BYTES = 12345

        assert 'data-most-bytes="12345"' in page(client)
