"""The study's page: the answer in words, what it rests on, and what it does not mean."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from app import checks, messages
from app.active_model import ActiveModel
from app.cxr.regions import Region
from app.models import Instance, State, Study
from tests.studies import MODEL, answer, answered, film_bytes, take_in, turned_down
from tests.tiny_release import make_release

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]


def html_of(client, study: Study, **query: object) -> str:
    return client.get(reverse("study", args=[study.number]), query).content.decode()


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def status_of(client, study: Study) -> dict[str, object]:
    return client.get(reverse("study-status", args=[study.number])).json()


class TestAnswer:
    @pytest.mark.parametrize(
        ("verdict", "words"),
        [
            ("likely", "Signs of pneumonia: likely"),
            ("unlikely", "Signs of pneumonia: unlikely"),
            ("cannot_say", "Signs of pneumonia: cannot say"),
        ],
    )
    def test_it_says_the_answer_in_words_and_with_an_icon(self, client, verdict, words):
        html = html_of(client, answered(answer=verdict))

        assert words in text_of(html)
        assert f"icons.svg#{verdict}" in html
        assert f'data-answer="{verdict}"' in html

    def test_it_says_why_it_cannot_say(self, client):
        html = html_of(client, answered(answer="cannot_say", reason="near_the_threshold"))

        assert str(messages.CANNOT_SAY["near_the_threshold"]) in html

    def test_it_shows_probability_and_threshold_beside_each_other(self, client):
        text = text_of(html_of(client, answered(probability=0.934, threshold=0.41)))

        assert "Probability 93 %" in text
        assert "Threshold 41 %" in text

    def test_it_shows_decimals_where_both_would_read_the_same(self, client):
        text = text_of(html_of(client, answered(probability=0.4142, threshold=0.41)))

        assert "Probability 41.4 %" in text
        assert "Threshold 41.0 %" in text

    @pytest.mark.parametrize(("p", "words"), [(0.9999, "over 99 %"), (0.0001, "under 1 %")])
    def test_it_never_claims_to_be_certain(self, client, p, words):
        assert f"Probability {words}" in text_of(html_of(client, answered(probability=p)))

    def test_it_draws_the_scale_in_numbers_that_every_language_shares(self, client):
        html = html_of(client, answered(probability=0.934, threshold=0.41))

        assert 'width="93.40%"' in html
        assert 'x1="41.00%"' in html

    def test_it_names_the_model_and_the_time_taken(self, client):
        text = text_of(html_of(client, answered(milliseconds=41.3)))

        assert f"Model {MODEL}" in text
        assert "Time taken 41 ms" in text

    def test_it_says_what_the_answer_does_not_mean(self, client):
        html = html_of(client, answered())

        assert all(str(limit) in html for limit in messages.LIMITS)

    @pytest.mark.parametrize("verdict", ["likely", "unlikely", "cannot_say"])
    def test_it_puts_danger_signs_before_any_answer(self, client, verdict):
        assert "Treat danger signs first" in html_of(client, answered(answer=verdict))

    def test_it_says_which_age_was_used(self, client):
        assert "Age used 3 years" in text_of(html_of(client, answered(age_years=3.0)))

    def test_it_says_how_many_pages_a_file_has(self, client):
        assert "4 pages, the first was read" in html_of(client, answered(frames=4))

    def test_it_shows_the_newest_finding_of_a_film(self, client):
        study = answered()
        Instance.objects.update(state=State.WAITING)

        html = html_of(client, answer(study, answer="unlikely", probability=0.02))
        assert "Signs of pneumonia: unlikely" in text_of(html)


class TestFilmAndMap:
    def test_it_shows_the_map_at_once_where_signs_are_likely(self, client):
        html = html_of(client, answered())

        assert 'opacity="0.45"' in html
        assert 'value="45"' in html

    def test_it_hides_map_and_marks_where_signs_are_unlikely(self, client):
        html = html_of(client, answered(answer="unlikely", regions=()))

        assert 'opacity="0.00"' in html
        assert '<g class="film__marks" visibility="hidden">' in html

    def test_it_draws_each_region_in_pixels_of_the_film_with_its_zone(self, client):
        html = html_of(client, answered())

        assert 'viewBox="0 0 224 256"' in html
        assert '<rect class="region" x="40" y="90" width="50" height="60"' in html
        assert ">right lower</text>" in html

    def test_it_marks_the_peak(self, client):
        assert '<circle class="peak" cx="60" cy="120"' in html_of(client, answered())

    def test_it_writes_coordinates_of_large_films_without_separators(self, client):
        region = Region(x=1200, y=1500, width=2000, height=1700, zone="left lower", score=0.8)

        html = html_of(client, answered(width=4000, height=3500, regions=(region,)))
        assert 'viewBox="0 0 4000 3500"' in html
        assert 'x="1200" y="1500" width="2000" height="1700"' in html

    @pytest.mark.parametrize(
        ("x", "anchor"), [(10, 'x="10" y="90" dy="-0.45em" text-anchor="start"'),
                          (150, 'x="200" y="90" dy="-0.45em" text-anchor="end"')]
    )  # fmt: skip
    def test_it_keeps_the_label_of_a_region_on_the_film(self, client, x, anchor):
        region = Region(x=x, y=90, width=50, height=60, zone="right lower", score=0.8)

        assert anchor in html_of(client, answered(regions=(region,)))

    def test_it_asks_for_pictures_under_the_name_of_their_content(self, client):
        study = answered()
        instance = study.instances.get()

        html = html_of(client, study)
        assert f"/films/{instance.pk}.png?v={instance.sha256[:16]}" in html
        assert f"/films/{instance.pk}/map.png?v={instance.sha256[:16]}-" in html


MEASURED = {
    "hits": 27, "films": 40, "value": 0.675, "low": 0.52, "high": 0.8, "source": "adults"
}  # fmt: skip
NOT_MEASURED = str(messages.HIT_RATE_NOT_MEASURED)


class TestHitRate:
    """How far the ring can be trusted stands beside it."""

    @pytest.fixture
    def switch_on(self, data_dir, monkeypatch):
        """Switch a model on that was measured so; its name."""

        def on(localisation: object) -> str:
            make_release(data_dir / "model", lambda m: m.update(localisation=localisation))
            (data_dir / "active.json").write_text('{"release": "model"}')
            monkeypatch.setattr(checks, "model", ActiveModel(data_dir))
            assert checks.model.label is not None
            return checks.model.label

        return on

    @pytest.mark.parametrize("verdict", ["likely", "cannot_say"])
    def test_it_says_how_often_the_strongest_point_is_right(self, client, switch_on, verdict):
        model = switch_on(MEASURED)

        text = text_of(html_of(client, answered(model=model, answer=verdict)))
        assert (
            "On 40 films called likely, on which radiologists had marked an opacity, the strongest "
            "point lay in it in about 2 of 3 (27 of 40). Allowing for chance, that is 52 to 80 %."
            in text
        )

    def test_it_stands_in_the_card_of_the_regions(self, client, switch_on):
        html = html_of(client, answered(model=switch_on(MEASURED)))

        card = html[html.index("Where the computer looked") :]
        assert "27 of 40" in card[: card.index("</section>")]

    def test_it_stands_by_a_ring_without_regions_too(self, client, switch_on):
        html = html_of(client, answered(model=switch_on(MEASURED), regions=()))

        assert "27 of 40" in html
        assert 'class="zones"' not in html

    def test_a_model_that_was_not_measured_says_so(self, client, switch_on):
        html = html_of(client, answered(model=switch_on(None)))

        assert NOT_MEASURED in html
        assert "radiologists" not in html

    def test_one_models_rate_is_never_shown_for_anothers_answer(self, client, switch_on):
        switch_on(MEASURED)

        html = text_of(html_of(client, answered(model="older@0.9")))
        assert "27 of 40" not in html
        assert "Another model than today" in html

    def test_without_a_usable_model_the_page_still_comes(self, client, data_dir, monkeypatch):
        (data_dir / "active.json").write_text("{")
        monkeypatch.setattr(checks, "model", ActiveModel(data_dir))

        assert "Another model than today" in text_of(html_of(client, answered()))

    def test_where_no_ring_is_shown_nothing_is_said_of_it(self, client, switch_on):
        model = switch_on(MEASURED)

        for study in (
            answered(model=model, answer="unlikely", regions=()),
            take_in(film_bytes(7)),
            turned_down("page_of_text", seed=8),
        ):
            html = html_of(client, study)
            assert "hit-rate" not in html
            assert "Where the computer looked" not in html

    @pytest.mark.parametrize(
        ("hits", "films", "words"),
        [
            (27, 40, "about 2 of 3 (27 of 40)"),
            (20, 41, "about 1 of 2 (20 of 41)"),
            (32, 40, "about 4 of 5 (32 of 40)"),
            (3, 40, "about 1 of 10 (3 of 40)"),
            (0, 40, "0 of 40"),
            (39, 40, "39 of 40"),
            (40, 40, "40 of 40"),
            (1, 2, "1 of 2"),
            (1, 1, "1 of 1"),
        ],
    )
    def test_a_share_is_said_as_simply_as_is_true(self, client, switch_on, hits, films, words):
        measured = MEASURED | {"hits": hits, "films": films, "value": hits / films}
        model = switch_on(measured | {"low": 0.0, "high": 1.0})

        text = text_of(html_of(client, answered(model=model)))
        assert f" lay in it in {words}. Allowing" in text


class TestNoAnswer:
    def test_it_says_why_a_film_was_refused_and_what_to_do(self, client):
        html = html_of(client, turned_down("page_of_text"))

        assert "This picture cannot be used" in html
        assert str(messages.REFUSALS["page_of_text"]) in html
        assert "decide by the clinical signs" in html

    def test_it_fills_the_sentence_with_what_was_found(self, client):
        html = html_of(client, turned_down("not_a_chest_film", body_part="HAND"))

        assert "(HAND)" in html

    def test_it_shows_the_picture_of_a_refused_film(self, client):
        assert 'class="film__picture"' in html_of(client, turned_down("page_of_text"))

    def test_it_shows_no_picture_where_there_is_none(self, client):
        html = html_of(client, turned_down("not_an_image", "unreadable"))

        assert "This file cannot be read" in html
        assert "film__picture" not in html

    @pytest.mark.parametrize("verdict", ["refused", "unreadable"])
    def test_it_shows_no_probability_map_or_limits_without_an_answer(self, client, verdict):
        html = html_of(client, turned_down("not_an_image", verdict))

        for absent in ("gauge", "film__map", "stage__controls", "does not mean"):
            assert absent not in html

    def test_it_says_that_the_program_failed_where_it_did(self, client):
        study = take_in()
        study.instances.get().give_up()

        html = html_of(client, study)
        assert "This film was not analysed" in html
        assert "data-unfinished" not in html

    def test_it_answers_404_for_a_study_that_is_not_there(self, client):
        response = client.get(reverse("study", args=["20010101-0001"]))

        assert response.status_code == 404
        assert "There is nothing at this address" in response.content.decode()


class TestWaiting:
    def test_it_shows_a_film_that_waits(self, client):
        html = html_of(client, take_in())

        assert "data-unfinished" in html
        assert "appears here by itself" in html
        assert '<image class="film__picture" data-later="/films/' in html

    def test_a_page_that_waits_comes_again_by_itself_without_scripts(self, client):
        again = '<noscript><meta http-equiv="refresh"'

        assert again in html_of(client, take_in(film_bytes(2)))
        assert again not in html_of(client, answered())

    def test_the_status_holds_the_page_back_until_there_is_an_answer(self, client):
        status = status_of(client, take_in())

        assert status["status"] == "waiting"
        assert status["finished"] is False
        assert status["html"] is None

    def test_the_status_brings_the_answer_with_it(self, client):
        status = status_of(client, answered())

        assert status["finished"] is True
        assert "Signs of pneumonia: likely" in text_of(str(status["html"]))

    @pytest.mark.parametrize("verdict", ["refused", "unreadable"])
    def test_the_status_of_a_film_without_an_answer_is_finished_too(self, client, verdict):
        assert status_of(client, turned_down("not_an_image", verdict))["finished"] is True

    def test_the_status_is_never_kept_by_the_browser(self, client):
        response = client.get(reverse("study-status", args=[take_in().number]))

        assert "no-store" in response["Cache-Control"]

    def test_the_status_of_a_study_that_is_not_there_is_404(self, client):
        assert client.get(reverse("study-status", args=["nothing"])).status_code == 404

    def test_it_says_that_a_film_was_here_before(self, client):
        assert "was put in before" in html_of(client, answered(), again="")
        assert "was put in before" not in html_of(client, take_in(film_bytes(9)))


class TestFromRightToLeft:
    def test_the_number_of_a_study_keeps_its_order_inside_a_sentence(self, client, administrator):
        administrator.language = "ar"
        administrator.save()
        study = answered()

        assert f"\u2066{study.number}\u2069</h1>" in html_of(client, study)

    def test_other_languages_get_it_as_it_is(self, client):
        study = answered()

        assert f"Study {study.number}</h1>" in html_of(client, study)
