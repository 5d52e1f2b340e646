"""The manual inside the program: every refusal says what to do now, and every page is light."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.urls import reverse

from app import checks, messages, model_card, what_now
from app.active_model import ActiveModel
from app.cxr.release import load_active
from app.models import Role
from app.views.help import MAY, ON_THE_SHEET, TOPICS
from model_export import help_pictures
from tests.people import browser
from tests.studies import answered, turned_down
from tests.test_pages_strict import Elements

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

PAGES = ["", *(topic.slug for topic in TOPICS)]
FOR_A_FILM = messages.CANNOT_SAY | messages.REFUSALS | messages.UNREADABLE
LIGHT = 300_000


def html_of(client, page: str) -> str:
    address = reverse("help-page", args=[page]) if page else reverse("help")
    response = client.get(address)
    assert response.status_code == 200
    return response.content.decode()


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


class TestWhatNow:
    def test_there_are_steps_for_every_code_and_for_no_other(self):
        assert set(what_now.STEPS) == set(FOR_A_FILM)

    @pytest.mark.parametrize("code", sorted(FOR_A_FILM))
    def test_they_are_few_and_each_is_a_sentence(self, code):
        steps = [str(step) for step in what_now.steps(code)]

        assert 2 <= len(steps) <= 4
        assert len(steps) == len(set(steps))
        assert all(step[0].isupper() and step[-1] in ".?" and len(step) < 140 for step in steps)

    def test_a_code_that_nobody_foresaw_has_steps_too(self):
        assert what_now.steps("made_up_tomorrow") == what_now.FOR_ANYTHING_ELSE

    @pytest.mark.parametrize("code", sorted(messages.REFUSALS))
    def test_a_film_that_cannot_be_used_does_not_hold_up_the_patient(self, code):
        assert "clinical signs" in str(what_now.steps(code)[-1])

    @pytest.mark.parametrize("code", sorted(messages.REFUSALS | messages.UNREADABLE))
    def test_the_manual_has_it_under_its_code(self, client, code):
        html = html_of(client, "refusals")

        section = html.partition(f'id="{code}"')[2].partition("</section>")[0]
        assert all(str(step).replace("'", "&#x27;") in section for step in what_now.steps(code))
        assert "%(" not in section

    @pytest.mark.parametrize("code", sorted(messages.REFUSALS))
    def test_every_refusal_has_its_picture(self, root, client, code):
        assert f"clinic/help/{code}.webp" in html_of(client, "refusals")
        assert (root / "app/static/clinic/help" / f"{code}.webp").is_file()

    def test_every_file_that_cannot_be_read_has_its_pictogram(self):
        assert set(ON_THE_SHEET) == set(messages.UNREADABLE)

    @pytest.mark.parametrize(
        ("code", "verdict"), [("page_of_text", "refused"), ("heic_not_supported", "unreadable")]
    )
    def test_the_study_says_it_beside_the_refusal(self, client, code, verdict):
        study = turned_down(code, verdict)

        html = client.get(reverse("study", args=[study.number])).content.decode()
        assert "What should I do now?" in html
        assert str(what_now.steps(code)[0]) in html
        assert f'href="/help/refusals#{code}"' in html

    def test_the_study_says_it_where_the_computer_cannot_say(self, client):
        study = answered(answer="cannot_say", reason="near_the_threshold")

        html = client.get(reverse("study", args=[study.number])).content.decode()
        assert str(what_now.steps("near_the_threshold")[0]) in html
        assert 'href="/help/cannot-say#near_the_threshold"' in html

    @pytest.mark.parametrize("verdict", ["likely", "unlikely"])
    def test_an_answer_needs_no_such_steps(self, client, verdict):
        study = answered(answer=verdict)

        html = client.get(reverse("study", args=[study.number])).content.decode()
        assert "What should I do now?" not in html


class TestPages:
    def test_the_contents_name_every_page(self, client):
        html = html_of(client, "")

        for topic in TOPICS:
            assert f'href="{reverse("help-page", args=[topic.slug])}"' in html
            assert str(topic.title) in html

    @pytest.mark.parametrize("page", PAGES)
    def test_it_holds_under_a_strict_policy_and_reads_aloud_well(self, client, root, page):
        found = Elements(html_of(client, page))
        sprite = (root / "app/static/clinic/icons.svg").read_text(encoding="utf-8")

        assert found.wrong == found.open == []
        assert [tag for tag, _ in found.found].count("h1") == 1
        ids = [attributes["id"] for _, attributes in found.found if "id" in attributes]
        assert len(ids) == len(set(ids))
        for tag, attributes in found.found:
            assert tag != "style"
            assert "style" not in attributes
            assert tag != "script" or attributes.get("src")
            assert tag != "img" or "alt" in attributes
            if tag == "use":
                assert f'id="{attributes["href"].partition("#")[2]}"' in sprite
            for name in ("src", "href", "action"):
                assert re.match(r"[/?#](?!/)", attributes.get(name) or "#")

    @pytest.mark.parametrize("page", PAGES)
    def test_it_weighs_less_than_three_hundred_kilobytes_with_all_it_names(
        self, client, root, page
    ):
        html = html_of(client, page)
        named = set(re.findall(r'"/static/([^"#]+)', html))

        assert named
        files = [root / "app/static" / name for name in named]
        assert sum(file.stat().st_size for file in files) + len(html.encode()) < LIGHT

    @pytest.mark.parametrize("page", PAGES)
    def test_its_links_lead_somewhere(self, client, page):
        html = html_of(client, page)

        for address in set(re.findall(r'href="(/help/[^"#]*)"', html)):
            assert client.get(address).status_code == 200

    @pytest.mark.parametrize("slug", ["nothing", "page", "contents", "steps"])
    def test_what_is_no_page_of_it_is_404(self, client, slug):
        assert client.get(f"/help/{slug}").status_code == 404

    def test_it_is_in_the_menu(self, client):
        assert 'href="/help/">Help</a>' in client.get("/").content.decode()

    def test_whoever_may_see_films_may_read_it(self, site):
        assert browser(Role.READ_ONLY).get(reverse("help")).status_code == 200


class TestContext:
    """A “?” beside the thing leads to its page."""

    @pytest.mark.parametrize(
        ("page", "topic"), [("worklist", "films"), ("study", "answer"), ("viewer", "viewer")]
    )
    def test_it_leads_to_the_fitting_page(self, client, page, topic):
        study = answered()
        address = reverse(page) if page == "worklist" else reverse(page, args=[study.number])

        assert f'href="/help/{topic}"' in client.get(address).content.decode()


class TestRoles:
    def test_the_table_is_that_of_the_program(self, client):
        html = html_of(client, "roles")
        lines = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", html, re.S)

        told = {words: re.findall(r'aria-label="(yes|no)"', cells) for words, cells in lines}
        assert told == {
            "See the worklist, studies, films and reports": ["yes", "yes", "yes", "yes"],
            "Put films in, and have them analysed again": ["yes", "yes", "yes", "no"],
            "Enter patients, consent and clinical signs": ["yes", "yes", "yes", "no"],
            "Record readings and diagnoses": ["yes", "yes", "no", "no"],
            "Delete studies, and merge patients": ["yes", "yes", "no", "no"],
            "See whether the answers are right here": ["yes", "yes", "no", "no"],
            "Enter people, change settings, see who did what": ["yes", "no", "no", "no"],
        }
        assert len(MAY) == len(told)


class TestModelCard:
    def test_the_card_of_the_model_in_use_is_shown_in_english(self, client, monkeypatch, data_dir):
        monkeypatch.setattr(checks, "model", ActiveModel(data_dir))
        html = html_of(client, "model")

        card = html.partition('<div class="model-card" lang="en" dir="ltr">')[2]
        release = load_active(None)
        assert f"<h2>{release.label.replace('@', ' ')}</h2>" in card
        assert "<h3>Operating points</h3>" in card
        assert "<td>under 5</td>" in card
        assert "The card is in English" in html

    def test_without_a_usable_model_the_page_says_so(self, client, monkeypatch, data_dir):
        (data_dir / "active.json").write_text("{")
        monkeypatch.setattr(checks, "model", ActiveModel(data_dir))

        assert "There is no usable model on this computer" in html_of(client, "model")

    def test_a_card_that_is_missing_or_no_text_is_none(self, tmp_path):
        class Bare:
            directory = tmp_path

        assert model_card.card_of(None) is None
        assert model_card.card_of(Bare()) is None
        (tmp_path / model_card.CARD).write_bytes(b"\xff\xfe\x00")
        assert model_card.card_of(Bare()) is None

    @pytest.mark.parametrize(
        "attack",
        [
            "<script>alert(1)</script>",
            "x <img src=x onerror=alert(1)>",
            "[x](javascript:alert(1))",
            "[x](http://elsewhere.example)",
            "![x](http://elsewhere.example/x.png)",
            "<http://elsewhere.example>",
            "[x]\n\n[x]: http://elsewhere.example",
            "<div style='position:fixed'>x</div>",
            "| a |\n|:-:|\n| <b onclick=alert(1)>x</b> |",
            '# <svg onload="alert(1)">',
        ],
    )
    def test_a_card_can_neither_run_nor_fetch_anything(self, attack):
        found = Elements(f"<main>{model_card.as_html(attack)}</main>")

        assert {tag for tag, _ in found.found} <= {
            *("main", "p", "h2", "table", "thead", "tbody", "tr", "th", "td")
        }
        assert {name for _, attributes in found.found for name in attributes} <= {"tabindex"}


class TestPictures:
    def test_there_is_one_for_every_refusal(self):
        assert set(help_pictures.PICTURES) == {"usable", *messages.REFUSALS}

    def test_those_of_the_program_are_the_ones_that_the_code_draws(self, root, tmp_path):
        shipped = root / "app/static/clinic/help"
        drawn = help_pictures.write(tmp_path)

        assert {path.name for path in shipped.iterdir()} == {path.name for path in drawn}
        for path in drawn:
            assert alike(path, shipped / path.name), path.name


def alike(one: Path, other: Path) -> bool:
    """The same picture, to the rounding of another machine."""
    import numpy as np
    from PIL import Image

    first, second = (np.asarray(Image.open(path).convert("L"), float) for path in (one, other))
    return first.shape == second.shape and float(np.abs(first - second).mean()) < 3
